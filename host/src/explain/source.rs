//! Counts the code of a crate: its lines, and those of them with `unsafe`, as they are compiled for the machine.
//!
//! The files are those that the crate's root leads to by `mod`. Comments and empty lines do not count, nor what a `cfg` leaves out: tests,
//! other systems, features that are off. What macros make of their arguments is not seen, nor files that a build script makes.

use std::collections::BTreeSet;
use std::fs;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub lines: usize,
    /// Those with the word `unsafe`.
    pub unsafe_lines: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.lines += other.lines;
        self.unsafe_lines += other.unsafe_lines;
    }
}

/// For what a crate is compiled.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    pub features: BTreeSet<String>,
    /// `target_os`.
    pub system: &'static str,
}

/// Counts the crate whose root is the file `root`.
pub fn count(root: &Path, setting: &Setting) -> Count {
    let mut all = Count::default();
    files(root, setting).into_iter().for_each(|(_, count)| all += count);
    all
}

/// The files of a crate, each counted.
pub fn files(root: &Path, setting: &Setting) -> Vec<(PathBuf, Count)> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let is_own_folder = true;
    let mut waiting = vec![(root.to_owned(), is_own_folder)];
    while let Some((file, is_own_folder)) = waiting.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        // A module that a macro names may not be there.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let tokens = tokens(&text);
        let mut reader =
            Reader { tokens: &tokens, setting, at: 0, lines: BTreeSet::new(), unsafe_lines: BTreeSet::new() };
        let folder =
            if is_own_folder { file.parent().unwrap_or(Path::new("")).to_owned() } else { file.with_extension("") };
        waiting.extend(reader.read(file.parent().unwrap_or(Path::new("")), &folder));
        all.push((file, Count { lines: reader.lines.len(), unsafe_lines: reader.unsafe_lines.len() }));
    }
    all
}

/// Whether the file at a crate's root says `#![LEVEL(unsafe_code)]` of all that follows.
pub fn says(text: &str, level: &str) -> bool {
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    // Attributes of the crate stand before everything else.
    while let [Token { kind: Kind::Sign('#'), .. }, Token { kind: Kind::Sign('!'), .. }, inner @ ..] = rest {
        let length = inner.iter().position(|token| token.kind == Kind::Sign(']')).unwrap_or(inner.len());
        let (attribute, behind) = inner.split_at(length);
        let is = |index: usize, word: &str| attribute.get(index).is_some_and(|token| token.kind == Kind::Word(word));
        if is(1, level) && attribute.iter().any(|token| token.kind == Kind::Word("unsafe_code")) {
            return true;
        }
        rest = behind.get(1..).unwrap_or_default();
    }
    false
}

/// A word, a literal without its quotes, or a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'a> {
    Word(&'a str),
    Text(&'a str),
    Sign(char),
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind<'a>,
    /// The lines that it stands on.
    first: usize,
    last: usize,
}

/// The tokens of a file, without comments (The Rust Reference, chapter "Lexical structure").
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut all = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, kind) = next(rest);
        let piece = &rest[..length];
        let last = line + piece.matches('\n').count();
        if let Some(kind) = kind {
            all.push(Token { kind, first: line, last });
        }
        (at, line) = (at + length, last);
    }
    all
}

/// The bytes of what `rest` begins with, and what it is; nothing for space and comments.
fn next(rest: &str) -> (usize, Option<Kind<'_>>) {
    let first = rest.chars().next().unwrap_or(' ');
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (comment(rest), None);
    }
    if let Some((length, text)) = literal(rest) {
        return (length, Some(Kind::Text(text)));
    }
    if is_word(first) {
        let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        return (length, Some(Kind::Word(&rest[..length])));
    }
    (first.len_utf8(), Some(Kind::Sign(first)))
}

/// Bytes of a block comment, which may hold others.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
        if left.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if left.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += left.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Bytes of a text or a character, and what is between its quotes.
fn literal(rest: &str) -> Option<(usize, &str)> {
    let prefix = rest.bytes().take_while(u8::is_ascii_lowercase).count();
    if !matches!(&rest[..prefix], "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    let body = &rest[prefix..];
    let hashes = body.bytes().take_while(|byte| *byte == b'#').count();
    if rest[..prefix].ends_with('r') && body[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix + hashes + 1;
        let length = rest[start..].find(&end).map_or(rest.len() - start, |length| length);
        return Some(((start + length + end.len()).min(rest.len()), &rest[start..start + length]));
    }
    let quote = body.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime has no quote at its end.
        let second = body[1..].chars().next()?;
        let is_character = second == '\\' || body[1 + second.len_utf8()..].starts_with('\'');
        if !is_character {
            return None;
        }
    }
    let mut escaped = false;
    for (at, letter) in body.char_indices().skip(1) {
        if !escaped && letter == quote {
            return Some((prefix + at + 1, &body[1..at]));
        }
        escaped = !escaped && letter == '\\';
    }
    Some((rest.len(), &body[1..]))
}

/// Goes over the tokens of one file.
struct Reader<'a> {
    tokens: &'a [Token<'a>],
    setting: &'a Setting,
    at: usize,
    lines: BTreeSet<usize>,
    unsafe_lines: BTreeSet<usize>,
}

impl<'a> Reader<'a> {
    fn kind(&self, ahead: usize) -> Option<Kind<'a>> {
        self.tokens.get(self.at + ahead).map(|token| token.kind)
    }

    /// Counts; answers the files of the modules, and whether their own modules are beside them. `beside` is the file's folder, `folder` that
    /// of its modules.
    fn read(&mut self, beside: &Path, folder: &Path) -> Vec<(PathBuf, bool)> {
        let mut found = Vec::new();
        // The modules that are open, each with the depth that it begins at.
        let mut inside: Vec<(usize, &str)> = Vec::new();
        let mut depth = 0;
        let mut path = None;
        while let Some(token) = self.tokens.get(self.at) {
            match token.kind {
                Kind::Sign('#') if self.kind(1) == Some(Kind::Sign('[')) => {
                    let attribute = self.attribute();
                    if let Some(given) = attribute.path(self.setting) {
                        path = Some(given);
                    }
                    if !attribute.holds(self.setting) {
                        self.skip_item();
                        path = None;
                    }
                    continue;
                }
                Kind::Word("mod") => {
                    if let (Some(Kind::Word(name)), Some(after)) = (self.kind(1), self.kind(2)) {
                        let here = inside.iter().fold(folder.to_owned(), |folder, (_, name)| folder.join(name));
                        match (after, path.take()) {
                            (Kind::Sign(';'), Some(given)) => found.push((beside.join(given), true)),
                            (Kind::Sign(';'), None) => {
                                let file = here.join(format!("{name}.rs"));
                                let own = here.join(name).join("mod.rs");
                                found.push(if file.exists() { (file, false) } else { (own, true) });
                            }
                            (Kind::Sign('{'), _) => inside.push((depth, name)),
                            _ => {}
                        }
                    }
                }
                Kind::Sign('{') => depth += 1,
                Kind::Sign('}') => {
                    depth = depth.saturating_sub(1);
                    inside.pop_if(|(begins, _)| *begins == depth);
                }
                Kind::Word("unsafe") => {
                    self.unsafe_lines.insert(token.first);
                }
                Kind::Sign(';') => path = None,
                _ => {}
            }
            self.lines.extend(token.first..=token.last);
            self.at += 1;
        }
        found
    }

    /// Takes an attribute, whose lines count, and its `unsafe` too.
    fn attribute(&mut self) -> Attribute<'a> {
        let start = self.at + 2;
        let mut depth = 0;
        while let Some(token) = self.tokens.get(self.at) {
            self.lines.extend(token.first..=token.last);
            self.at += 1;
            match token.kind {
                Kind::Sign('[') => depth += 1,
                Kind::Sign(']') if depth == 1 => break,
                Kind::Sign(']') => depth -= 1,
                Kind::Word("unsafe") => {
                    self.unsafe_lines.insert(token.first);
                }
                _ => {}
            }
        }
        Attribute(self.tokens.get(start..self.at.saturating_sub(1)).unwrap_or_default())
    }

    /// Goes behind what the attribute before stands for: an item, a field, an arm, a block. Nothing of it counts.
    fn skip_item(&mut self) {
        const ITEMS: [&str; 17] = [
            "pub",
            "fn",
            "mod",
            "impl",
            "struct",
            "enum",
            "use",
            "const",
            "static",
            "trait",
            "type",
            "unsafe",
            "extern",
            "async",
            "macro_rules",
            "union",
            "let",
        ];
        while self.kind(0) == Some(Kind::Sign('#')) && self.kind(1) == Some(Kind::Sign('[')) {
            let (lines, unsafe_lines) = (self.lines.clone(), self.unsafe_lines.clone());
            self.attribute();
            (self.lines, self.unsafe_lines) = (lines, unsafe_lines);
        }
        let is_item = matches!(self.kind(0), Some(Kind::Word(word)) if ITEMS.contains(&word));
        let mut depth = 0;
        while let Some(kind) = self.kind(0) {
            match kind {
                Kind::Sign('{' | '(' | '[') => depth += 1,
                Kind::Sign('}' | ')' | ']') if depth == 0 => return,
                Kind::Sign(closing @ ('}' | ')' | ']')) => {
                    depth -= 1;
                    if depth == 0 && closing == '}' {
                        self.at += 1;
                        if matches!(self.kind(0), Some(Kind::Sign(';' | ','))) {
                            self.at += 1;
                        }
                        return;
                    }
                }
                Kind::Sign(';') if depth == 0 => {
                    self.at += 1;
                    return;
                }
                Kind::Sign(',') if depth == 0 && !is_item => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }
}

/// What stands between `#[` and `]`.
struct Attribute<'a>(&'a [Token<'a>]);

impl<'a> Attribute<'a> {
    /// Whether what follows is compiled.
    fn holds(&self, setting: &Setting) -> bool {
        match self.0 {
            [Token { kind: Kind::Word("cfg"), .. }, _, rest @ .., _] => condition(&mut rest.iter().peekable(), setting),
            [Token { kind: Kind::Word("test"), .. }] => false,
            _ => true,
        }
    }

    /// The file that a `path` gives.
    fn path(&self, setting: &Setting) -> Option<&'a str> {
        let of = |tokens: &'a [Token<'a>]| match tokens {
            [Token { kind: Kind::Word("path"), .. }, _, Token { kind: Kind::Text(path), .. }, ..] => Some(*path),
            _ => None,
        };
        match self.0 {
            [Token { kind: Kind::Word("cfg_attr"), .. }, _, rest @ .., _] => {
                let mut tokens = rest.iter().peekable();
                let holds = condition(&mut tokens, setting);
                let left = tokens.len().saturating_sub(1);
                of(rest.get(rest.len().saturating_sub(left)..)?).filter(|_| holds)
            }
            tokens => of(tokens),
        }
    }
}

/// Reads a condition of `cfg` (The Rust Reference, "Conditional compilation"). What is not known does not hold.
fn condition<'a>(tokens: &mut std::iter::Peekable<std::slice::Iter<'a, Token<'a>>>, setting: &Setting) -> bool {
    let Some(Token { kind: Kind::Word(name), .. }) = tokens.next() else { return false };
    match tokens.peek().map(|token| token.kind) {
        Some(Kind::Sign('(')) => {
            tokens.next();
            if *name == "target_has_atomic" {
                tokens.by_ref().find(|token| token.kind == Kind::Sign(')'));
                return true;
            }
            let mut all = Vec::new();
            loop {
                match tokens.peek().map(|token| token.kind) {
                    None => break,
                    Some(Kind::Sign(')')) => {
                        tokens.next();
                        break;
                    }
                    Some(Kind::Sign(_)) => {
                        tokens.next();
                    }
                    Some(_) => all.push(condition(tokens, setting)),
                }
            }
            match *name {
                "all" => all.iter().all(|holds| *holds),
                "any" => all.contains(&true),
                "not" => all.first() == Some(&false),
                _ => false,
            }
        }
        Some(Kind::Sign('=')) => {
            tokens.next();
            let Some(Token { kind: Kind::Text(value), .. }) = tokens.next() else { return false };
            match *name {
                "feature" => setting.features.contains(*value),
                "target_os" => *value == setting.system,
                "target_arch" => *value == "x86_64",
                "target_pointer_width" => *value == "64",
                "target_endian" => *value == "little",
                "target_has_atomic" => *value != "128",
                "panic" => *value == "abort",
                _ => false,
            }
        }
        _ => *name == "true",
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
