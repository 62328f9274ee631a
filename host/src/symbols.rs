//! Gives the addresses in crash reports their function, file and line.
//!
//! A report's frame is a line `  at NAME 0xADDRESS`, where NAME is `kernel` or the name of a process's program. The
//! addresses are looked up in the ELF files that the build left, which keep the line tables; an image does not carry
//! them. Whatever is not such a line, or is not found, passes unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use miette::{IntoDiagnostic, Result, WrapErr};

use crate::bare::ROOT_IN_OUTPUT;
use crate::workspace;

/// The kernel's name in reports.
pub const KERNEL: &str = "kernel";

/// What begins the line of a frame.
const FRAME: &str = "  at ";

/// The ELF files of an image's kernel and programs, by name.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    files: BTreeMap<String, PathBuf>,
}

impl Symbols {
    pub fn new(files: BTreeMap<String, PathBuf>) -> Self {
        Self { files }
    }

    /// Keeps the symbols of an image for a later `run` of its file: copies, as the next build replaces the originals.
    pub fn remember(&self, image: &[u8]) -> Result<()> {
        let folder = remembered(image);
        let cannot = || format!("cannot keep the image's symbols in {}", folder.display());
        fs::create_dir_all(&folder).into_diagnostic().wrap_err_with(cannot)?;
        for (name, path) in &self.files {
            fs::copy(path, folder.join(name)).into_diagnostic().wrap_err_with(cannot)?;
        }
        Ok(())
    }

    /// The file of the process `name`. A program may start copies of itself under other names: where all programs of
    /// the image are one, an unknown name is that one's.
    fn file(&self, name: &str) -> Option<&PathBuf> {
        let mut programs = self.files.iter().filter(|(name, _)| *name != KERNEL).map(|(_, path)| path);
        self.files.get(name).or_else(|| programs.next().filter(|first| programs.all(|other| other == *first)))
    }

    /// The symbols of an image that was built in this checkout; none if it was not.
    pub fn recall(image: &[u8]) -> Option<Self> {
        let entries = fs::read_dir(remembered(image)).ok()?;
        let files = entries.flatten().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
        Some(Self { files: files.collect() })
    }
}

fn remembered(image: &[u8]) -> PathBuf {
    workspace::target().join("tessera/symbols").join(blake3::hash(image).to_hex().as_str())
}

/// A frame in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame<'a> {
    name: &'a str,
    address: u64,
}

impl<'a> Frame<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.strip_prefix(FRAME)?.split_whitespace();
        let name = words.next()?;
        let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        words.next().is_none().then_some(Self { name, address })
    }
}

/// Rewrites the frames in a guest's output as it comes.
pub struct Symboliser {
    symbols: Symbols,
    loaded: BTreeMap<String, Option<Loader>>,
    /// The line so far, while it may still turn out to be a frame.
    held: Vec<u8>,
    /// Whether the line so far has been passed on already.
    passing: bool,
    /// The line before, or the passed part of this one.
    last: Vec<u8>,
}

impl Symboliser {
    pub fn new(symbols: Symbols) -> Self {
        Self { symbols, loaded: BTreeMap::new(), held: Vec::new(), passing: false, last: Vec::new() }
    }

    /// Takes a piece of output and appends what may be shown to `shown`.
    pub fn pass(&mut self, piece: &[u8], shown: &mut Vec<u8>) {
        for &byte in piece {
            if self.passing {
                shown.push(byte);
                self.passing = byte != b'\n';
                if self.last.len() < LONGEST {
                    self.last.push(byte);
                }
                continue;
            }
            self.held.push(byte);
            if byte == b'\n' {
                self.end_line(shown);
            } else if !may_become_frame(&self.held) {
                self.last.clone_from(&self.held);
                shown.append(&mut self.held);
                self.passing = true;
            }
        }
    }

    /// Passes on a last line that never ended.
    pub fn finish(&mut self, shown: &mut Vec<u8>) {
        shown.append(&mut self.held);
    }

    fn end_line(&mut self, shown: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.held);
        let text = String::from_utf8_lossy(&line).into_owned();
        let text = text.trim_end_matches(['\r', '\n']);
        let is_exact = precedes_exact_frame(&self.last);
        self.last.clone_from(&line);
        let Some(frame) = Frame::parse(text) else {
            shown.extend_from_slice(&line);
            return;
        };
        // A return address is behind its call, maybe already in the next line or function: the call is before it.
        let address = frame.address.saturating_sub(u64::from(!is_exact));
        shown.extend_from_slice(text.as_bytes());
        for (depth, place) in self.places(frame.name, address).iter().enumerate() {
            let lead = if depth == 0 { " ".to_owned() } else { format!("\n{:FRAME_WIDTH$}inlined in ", "") };
            shown.extend_from_slice(lead.as_bytes());
            shown.extend_from_slice(place.as_bytes());
        }
        shown.push(b'\n');
    }

    /// The function that holds `address`, and those that it was inlined into, each with its line.
    fn places(&mut self, name: &str, address: u64) -> Vec<String> {
        let path = self.symbols.file(name);
        let load = || path.and_then(|path| Loader::new(path).ok());
        match self.loaded.entry(name.to_owned()).or_insert_with(load) {
            Some(loader) => look_up(loader, address),
            None => Vec::new(),
        }
    }
}

/// Whether the frame after this line is the instruction that faulted. It is after the registers, and after the news of
/// a process's end; all other frames are addresses that calls return to.
fn precedes_exact_frame(line: &[u8]) -> bool {
    line.starts_with(b"  r") || line.windows(8).any(|part| part == b" ended: ")
}

/// No line of a report is longer: what is looked at of a line ends here.
const LONGEST: usize = 200;
const FRAME_WIDTH: usize = FRAME.len() + 2;

/// Whether a line that begins with `start` may be a frame.
fn may_become_frame(start: &[u8]) -> bool {
    let common = start.len().min(FRAME.len());
    start[..common] == FRAME.as_bytes()[..common] && start.len() < LONGEST
}

fn look_up(loader: &Loader, address: u64) -> Vec<String> {
    let mut places = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let name =
                frame.function.as_ref().and_then(|function| function.demangle().ok().map(|name| name.into_owned()));
            let name = name.map(|name| without_hash(&name).to_owned());
            let line =
                frame.location.and_then(|location| Some(format!("{}:{}", relative(location.file?), location.line?)));
            places.push((name, line));
        }
    }
    if places.is_empty() {
        places.push((None, None));
    }
    // Line tables alone name only functions that were inlined somewhere; the symbol table names the outermost one.
    if let Some((name @ None, _)) = places.last_mut() {
        *name = loader
            .find_symbol(address)
            .map(|symbol| without_hash(&addr2line::demangle_auto(symbol.into(), None)).to_owned());
    }
    let written = places.into_iter().filter_map(|(name, line)| match (name, line) {
        (Some(name), Some(line)) => Some(format!("{name}, {line}")),
        (name, line) => name.or(line),
    });
    written.collect()
}

/// A demangled name without the hash that the older mangling appends.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

/// A source file's path as seen from the root of the checkout.
fn relative(file: &str) -> String {
    let path = Path::new(file);
    path.strip_prefix(ROOT_IN_OUTPUT).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes `pieces` through a symboliser without symbols.
    fn passed(pieces: &[&str]) -> Vec<String> {
        let mut symboliser = Symboliser::new(Symbols::default());
        let shown = pieces.iter().map(|piece| {
            let mut shown = Vec::new();
            symboliser.pass(piece.as_bytes(), &mut shown);
            String::from_utf8(shown).unwrap()
        });
        let mut all: Vec<String> = shown.collect();
        let mut rest = Vec::new();
        symboliser.finish(&mut rest);
        all.push(String::from_utf8(rest).unwrap());
        all
    }

    #[test]
    fn frames_are_told_from_other_lines() {
        let frame = Frame { name: "kernel", address: 0xffff_ffff_8021_2345 };
        assert_eq!(Frame::parse("  at kernel 0xffffffff80212345"), Some(frame));
        assert_eq!(Frame::parse("  at init 0x7f0000001234").map(|frame| frame.name), Some("init"));
        assert_eq!(Frame::parse("at kernel 0xffffffff80212345"), None);
        assert_eq!(Frame::parse("  at last 12 o'clock"), None);
        assert_eq!(Frame::parse("  at kernel 0x12 and more"), None);
        assert_eq!(Frame::parse("  at kernel 0x11112222333344445"), None, "more than 64 bits");
    }

    #[test]
    fn output_is_passed_at_once_unless_it_may_be_a_frame() {
        assert_eq!(passed(&["$ ", "ls\n"]), ["$ ", "ls\n", ""], "a prompt has no line end");
        assert_eq!(passed(&["  a", "t x\n"]), ["", "  at x\n", ""]);
        assert_eq!(passed(&["  a", "b", "c\n"]), ["", "  ab", "c\n", ""]);
        assert_eq!(passed(&["  at k"]), ["", "  at k"]);
        assert_eq!(passed(&["a\n  b\n"]), ["a\n  b\n", ""]);
    }

    #[test]
    fn a_frame_without_symbols_is_unchanged() {
        assert_eq!(passed(&["  at kernel 0x10\r\n"]), ["  at kernel 0x10\n", ""]);
    }

    #[test]
    fn addresses_of_this_program_get_their_function_and_line() {
        // This test program stands in for a kernel: it is an ELF file with line tables too.
        let myself = std::env::current_exe().unwrap();
        let loader = Loader::new(&myself).unwrap();
        let bytes = fs::read(&myself).unwrap();
        let address = {
            use object::{Object, ObjectSymbol};
            let file = object::File::parse(&*bytes).unwrap();
            let found = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains("without_hash")));
            found.unwrap().address()
        };
        let places = look_up(&loader, address);
        let last = places.last().unwrap();
        assert!(last.contains("symbols::without_hash"), "{places:?}");
        assert!(last.contains("symbols.rs:"), "{places:?}");

        let files = BTreeMap::from([("init".to_owned(), myself)]);
        let mut symboliser = Symboliser::new(Symbols::new(files));
        let mut shown = Vec::new();
        symboliser.pass(format!("init ended: x\n  at init {address:#x}\n").as_bytes(), &mut shown);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with(&format!("init ended: x\n  at init {address:#x} ")), "{shown}");
        assert!(shown.contains("without_hash"), "{shown}");
    }

    #[test]
    fn the_instruction_that_faulted_is_told_from_addresses_that_calls_return_to() {
        for exact in ["  r13 0x0  r14 0x0\n", "tessera: init ended: bad address (address 0x10)\n"] {
            assert!(precedes_exact_frame(exact.as_bytes()), "{exact}");
        }
        for other in ["tessera: kernel crash on processor 0: no memory\n", "init: panic at a.rs:1: b\n", FRAME, ""] {
            assert!(!precedes_exact_frame(other.as_bytes()), "{other}");
        }
        // The line before is remembered however it was cut into pieces.
        let mut symboliser = Symboliser::new(Symbols::default());
        for piece in ["a: x en", "ded: y", "\n"] {
            symboliser.pass(piece.as_bytes(), &mut Vec::new());
        }
        assert!(precedes_exact_frame(&symboliser.last));
    }

    #[test]
    fn an_unknown_name_is_the_only_program() {
        let files = |names: &[(&str, &str)]| {
            Symbols::new(names.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect())
        };
        let one = files(&[("kernel", "/k"), ("init", "/t"), ("tests", "/t")]);
        assert_eq!(one.file("overflow"), Some(&PathBuf::from("/t")));
        assert_eq!(one.file("kernel"), Some(&PathBuf::from("/k")));
        let two = files(&[("kernel", "/k"), ("init", "/t"), ("server", "/s")]);
        assert_eq!(two.file("overflow"), None);
        assert_eq!(files(&[("kernel", "/k")]).file("init"), None);
    }

    #[test]
    fn only_the_hash_of_the_older_mangling_is_cut() {
        assert_eq!(without_hash("kernel::trap::h0123456789abcdef"), "kernel::trap");
        assert_eq!(without_hash("kernel::trap::handle"), "kernel::trap::handle");
    }
}
