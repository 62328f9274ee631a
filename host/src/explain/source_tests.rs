use super::*;

fn counted(files: &[(&str, &str)], features: &[&str]) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let features = features.iter().map(|feature| (*feature).to_owned()).collect();
    let Count { lines, unsafe_lines } = count(&folder.path().join("lib.rs"), &Setting { features, system: "none" });
    (lines, unsafe_lines)
}

fn one(text: &str) -> (usize, usize) {
    counted(&[("lib.rs", text)], &[])
}

#[test]
fn comments_and_empty_lines_do_not_count() {
    let text = "//! What it is.\n\nfn a() {}\n/* one\n /* two */\n*/\n// unsafe\nfn b() {\n    // more\n    c() // unsafe\n}\n";
    assert_eq!(one(text), (4, 0));
}

#[test]
fn texts_are_not_code() {
    let text = "const A: &str = \"// unsafe { }\";\nconst B: &str = r#\"mod x;\n\"unsafe\" \"#;\nconst C: char = '\"';\nfn f<'a>(x: &'a u8) {}\n";
    assert_eq!(one(text), (5, 0));
    assert_eq!(one("const A: char = '\\'';\nconst B: u8 = b'{';\n#[cfg(test)]\nmod t {}\n"), (3, 0));
}

#[test]
fn each_line_with_unsafe_counts_once() {
    assert_eq!(
        one("unsafe fn a() { unsafe { b() } }\nfn c() {\n    unsafe { d() }\n}\n#[unsafe(no_mangle)]\nfn e() {}\n"),
        (6, 3)
    );
}

#[test]
fn what_is_not_compiled_does_not_count() {
    assert_eq!(one("fn a() {}\n#[cfg(test)]\nmod tests {\n    unsafe fn b() {}\n}\nfn c() {}\n"), (3, 0));
    assert_eq!(
        one(
            "#[cfg(not(target_os = \"none\"))]\nfn a<A, B>(x: [u8; 2]) {\n    b();\n}\n#[cfg(target_os = \"none\")]\nfn c() {}\n"
        ),
        (3, 0)
    );
    assert_eq!(
        one(
            "#[cfg(any(unix, windows))]\nuse a::{b, c};\n#[cfg(all(target_arch = \"x86_64\", not(test)))]\nfn d() {}\n"
        ),
        (3, 0)
    );
    assert_eq!(one("struct A {\n    #[cfg(test)]\n    b: Vec<(u8, u8)>,\n    c: u8,\n}\n"), (4, 0));
    assert_eq!(one("#[test]\nfn a() {\n    unsafe { b() }\n}\nfn c() {}\n"), (2, 0));
}

#[test]
fn modules_are_followed_to_their_files() {
    let files = [
        (
            "lib.rs",
            "mod a;\nmod b;\n#[cfg(test)]\nmod tests;\n#[cfg_attr(target_os = \"none\", path = \"other/d.rs\")]\nmod d;\nmod e {\n    mod f;\n}\n",
        ),
        ("a.rs", "mod inner;\nfn a() {}\n"),
        ("a/inner.rs", "unsafe fn a() {}\n"),
        ("b/mod.rs", "mod c;\n"),
        ("b/c.rs", "fn c() {}\n"),
        ("tests.rs", "unsafe fn never() {}\n"),
        ("d.rs", "unsafe fn never() {}\n"),
        ("other/d.rs", "fn d() {}\n"),
        ("e/f.rs", "fn f() {}\n"),
    ];
    assert_eq!(counted(&files, &[]), (8 + 2 + 1 + 1 + 1 + 1 + 1, 1));
}

#[test]
fn features_decide() {
    let files = [("lib.rs", "#[cfg(feature = \"std\")]\nmod big;\nfn a() {}\n"), ("big.rs", "fn b() {}\nfn c() {}\n")];
    assert_eq!(counted(&files, &[]), (2, 0));
    assert_eq!(counted(&files, &["std"]), (5, 0));
}

#[test]
fn a_crate_of_the_checkout_is_counted_as_its_page_says() {
    // The soundness page counts the lines of a file that say `unsafe`, comments included; code has no more of them.
    let root = crate::workspace::root().join("kernel/core/src/lib.rs");
    let core = count(&root, &Setting { system: "none", ..Setting::default() });
    assert_eq!(core.unsafe_lines, 0);
    assert!(core.lines > 3000, "{core:?}");
}
