//! Holds the book to the source: the tables between markers in `docs/src/` are made from what they describe.
//!
//! A test fails when a table differs. After a change that is meant:
//!
//!     BLESS=1 cargo test -p tessera-abi --test book
//!
//! writes the tables anew. What the tables cannot say (why a file's `unsafe` code holds) is checked to be there, and must
//! be written by hand.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tessera_abi::{Error, Kind, Rights, Syscall};

/// All that runs in the machine. (The host command is an ordinary program.)
const ROOMS: &[&str] = &["abi/src", "kernel", "runtime", "interfaces", "components", "bench/guest", "tests/guest"];

/// Crates in which the compiler refuses unsafe code, each by its root file.
const FORBIDDING: &[&str] = &[
    "abi/src/lib.rs",
    "kernel/core/src/lib.rs",
    "kernel/core/testing/src/lib.rs",
    "components/drivers/rings/src/lib.rs",
    "components/drivers/virtio/src/lib.rs",
    "components/hello/src/main.rs",
    "bench/guest/src/main.rs",
    "interfaces/src/lib.rs",
    "runtime/interface/src/lib.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn source(file: &str) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page between `<!-- NAME -->` and `<!-- end of NAME -->`, as a range of bytes.
fn between(page: &str, name: &str) -> std::ops::Range<usize> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let start = page.find(&begin).unwrap_or_else(|| panic!("no {begin:?} in the page")) + begin.len();
    start..start + page[start..].find(&end).unwrap_or_else(|| panic!("no {end:?} in the page"))
}

/// Compares a page's table with what it should be, or writes it.
fn check(page_name: &str, table_name: &str, table: &str) {
    // Two tests may write one page, in threads of one process.
    static PAGES: Mutex<()> = Mutex::new(());
    let _guard = PAGES.lock();
    let file = format!("docs/src/{page_name}");
    let mut page = source(&file);
    let range = between(&page, table_name);
    let wanted = format!("\n{table}\n");
    if page[range.clone()] == wanted {
        return;
    }
    if std::env::var_os("BLESS").is_some() {
        page.replace_range(range, &wanted);
        fs::write(root().join(&file), page).unwrap();
        return;
    }
    let old = &page[range];
    let line = wanted.lines().find(|line| !old.lines().any(|old| old == *line)).unwrap_or("(a line too many)");
    panic!(
        "{file}: the table `{table_name}` is not what the source says, first here:\n  {line}\nBLESS=1 writes it anew"
    );
}

/// The doc comment before each `NAME = NUMBER` of a list of an abi file, without the links.
fn documentation(file: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut text = String::new();
    for line in source(file).lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("/// ") {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(more);
        } else {
            if let Some((name, _)) = line.split_once(" = ").filter(|_| !text.is_empty()) {
                let text = text.replace("[`", "`").replace("`]", "`").replace("crate::", "");
                all.entry(name.to_string()).or_insert(text);
            }
            text.clear();
        }
    }
    all
}

fn documented<'a>(all: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    all.get(name).unwrap_or_else(|| panic!("{name} has no doc comment"))
}

#[test]
fn the_table_of_system_calls_is_the_source_s() {
    let texts = documentation("abi/src/syscall.rs");
    let mut table =
        String::from("| number | call | arguments | results | what it does |\n| ---: | --- | --- | --- | --- |\n");
    for call in Syscall::ALL {
        let (name, arguments, results) = call.signature();
        let text = documented(&texts, &format!("{call:?}"));
        let (arguments, results) = (arguments.join(", "), results.join(", "));
        writeln!(table, "| {} | `{name}` | {arguments} | {results} | {text} |", *call as u64).unwrap();
    }
    check("calls.md", "calls", &table);
}

#[test]
fn the_table_of_errors_is_the_source_s() {
    let mut table = String::from("| code | error | what it says |\n| ---: | --- | --- |\n");
    for error in Error::ALL {
        writeln!(table, "| {} | `{error:?}` | {} |", *error as u32, error.text()).unwrap();
    }
    check("calls.md", "errors", &table);
}

#[test]
fn the_table_of_kinds_is_the_source_s() {
    let texts = documentation("abi/src/object.rs");
    let mut table = String::from("| code | kind | what it is |\n| ---: | --- | --- |\n");
    for kind in Kind::ALL {
        writeln!(table, "| {} | `{kind:?}` | {} |", *kind as u8, documented(&texts, &format!("{kind:?}"))).unwrap();
    }
    check("objects.md", "kinds", &table);
}

#[test]
fn the_table_of_rights_is_the_source_s() {
    let texts = documentation("abi/src/rights.rs");
    let mut table = String::from("| bit | right | what it allows |\n| ---: | --- | --- |\n");
    for bit in 0..Rights::ALL.bits().count_ones() {
        let right = Rights::from_bits(1 << bit).expect("the bits are dense");
        let name = format!("{right:?}");
        let name = name.trim_start_matches("Rights(").trim_end_matches(')');
        writeln!(table, "| {bit} | `{name}` | {} |", documented(&texts, name)).unwrap();
    }
    check("objects.md", "rights", &table);
}

/// All Rust files under a folder, as paths from the root, without what was built.
fn rust_files(folder: &str, files: &mut Vec<String>) {
    let path = root().join(folder);
    for entry in fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let inner = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" {
                rust_files(&inner, files);
            }
        } else if name.ends_with(".rs") {
            files.push(inner);
        }
    }
}

/// Lines with the word `unsafe` outside of comments.
fn unsafe_lines(text: &str) -> usize {
    let code = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    let is_part_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.filter(|line| line.split(|letter| !is_part_of_word(letter)).any(|word| word == "unsafe")).count()
}

#[test]
fn lines_are_counted_as_the_page_says() {
    // Text to count, not code.
    let word = "unsafe";
    let text = format!("{word} {{ a() }};\n// {word}\nb(); // {word}\n#![forbid({word}_code)]\n#[{word}(no_mangle)]");
    assert_eq!(unsafe_lines(&text), 2);
}

#[test]
fn the_table_of_unsafe_lines_is_the_source_s() {
    let mut files = Vec::new();
    for room in ROOMS {
        rust_files(room, &mut files);
    }
    files.sort();
    let page = source("docs/src/soundness.md");
    let table_range = between(&page, "unsafe");
    let reasons = format!("{}{}", &page[..table_range.start], &page[table_range.end..]);
    let mut table = String::from("| file | lines with `unsafe` |\n| --- | ---: |\n");
    let mut sums: BTreeMap<&str, usize> = ROOMS.iter().map(|room| (*room, 0)).collect();
    for file in &files {
        let count = unsafe_lines(&source(file));
        assert!(count == 0 || !file.starts_with("kernel/core/"), "{file}: core is safe Rust");
        if count > 0 {
            assert!(reasons.contains(&format!("`{file}`")), "docs/src/soundness.md does not say why `{file}` holds");
            writeln!(table, "| `{file}` | {count} |").unwrap();
        }
        for (room, sum) in &mut sums {
            *sum += if file.starts_with(&format!("{room}/")) { count } else { 0 };
        }
    }
    for (room, sum) in sums {
        writeln!(table, "| **all of `{room}/`** | **{sum}** |").unwrap();
    }
    check("soundness.md", "unsafe", &table);
}

#[test]
fn the_crates_without_unsafe_code_forbid_it() {
    for file in FORBIDDING {
        assert!(source(file).contains("#![forbid(unsafe_code)]"), "{file} no longer forbids unsafe code");
    }
}
