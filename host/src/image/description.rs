//! Reads an `image.toml` and checks it like code: every mistake is told with its file, its line and its mend.
//!
//! ```toml
//! name = "hello"
//!
//! [machine]                      # what `tessera run` gives the image; each key has a default
//! memory = "64M"
//! processors = 1
//! machine = "q35"
//!
//! [init]
//! program = "tessera-hello"      # a package of the workspace; its program becomes the first process
//! arguments = []
//!
//! [[program]]                    # any number of further programs
//! name = "echo"                  # placed as bin/echo
//! package = "tessera-echo"
//! bin = "echo"                   # only if the package has several
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use miette::{IntoDiagnostic, LabeledSpan, NamedSource, Report, Result, WrapErr, miette};
use serde::Deserialize;
use toml::Spanned;

use crate::bare::Package;
use crate::workspace;

/// A checked description of an image.
#[derive(Debug)]
pub struct Description {
    file: Written,
    source: NamedSource<String>,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    #[serde(default)]
    machine: WrittenMachine,
    init: WrittenInit,
    #[serde(default, rename = "program")]
    programs: Vec<WrittenProgram>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenMachine {
    memory: Memory,
    processors: Processors,
    machine: MachineKind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenInit {
    program: Spanned<String>,
    #[serde(default)]
    arguments: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProgram {
    name: Spanned<String>,
    package: Spanned<String>,
    bin: Option<Spanned<String>>,
}

/// The name that the first process has in reports, which no other program may take.
const INIT: &str = "init";

/// One program of an image.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its process's name in crash reports.
    pub name: &'a str,
    pub package: &'a str,
    pub bin: Option<&'a str>,
}

impl Program<'_> {
    /// Its path in the archive.
    pub fn member(&self) -> String {
        if self.name == INIT { INIT.to_owned() } else { format!("bin/{}", self.name) }
    }
}

impl Description {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read the image description {}", path.display()))?;
        Self::parse(&workspace::shown(path), text)
    }

    /// Checks `text`, the contents of a file that errors call `name`.
    pub fn parse(name: &str, text: String) -> Result<Self> {
        let source = NamedSource::new(name, text.clone()).with_language("TOML");
        let file: Written = toml::from_str(&text).map_err(|error| unreadable(&source, &error))?;
        let description = Self { file, source };
        description.check()?;
        Ok(description)
    }

    fn check(&self) -> Result<()> {
        self.check_name(&self.file.name)?;
        for argument in &self.file.init.arguments {
            if argument.get_ref().contains('\0') {
                let mend = "leave the NUL character out: it separates the arguments in the archive";
                return Err(self.wrong(argument.span(), "this argument contains a NUL character", mend));
            }
        }
        let mut seen = BTreeSet::from([INIT]);
        for program in &self.file.programs {
            self.check_name(&program.name)?;
            let name = program.name.get_ref().as_str();
            if !seen.insert(name) {
                let mend = if name == INIT {
                    "choose another: the first process has this name"
                } else {
                    "choose another: each program of an image has a name of its own"
                };
                return Err(self.wrong(program.name.span(), &format!("the name `{name}` is taken"), mend));
            }
        }
        Ok(())
    }

    fn check_name(&self, name: &Spanned<String>) -> Result<()> {
        let text = name.get_ref();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=31).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(());
        }
        let mend = "a name has 1 to 31 characters out of a-z, 0-9 and `-`";
        Err(self.wrong(name.span(), &format!("`{text}` is not a name"), mend))
    }

    /// Checks that every program can be built from `packages`, those of the workspace.
    pub fn check_packages(&self, packages: &[Package]) -> Result<()> {
        let init = (&self.file.init.program, None);
        let others = self.file.programs.iter().map(|program| (&program.package, program.bin.as_ref()));
        for (name, bin) in [init].into_iter().chain(others) {
            let Some(package) = packages.iter().find(|package| package.name == *name.get_ref()) else {
                let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
                let mend = format!("{}name a package that the root Cargo.toml lists", closest(name.get_ref(), &names));
                let what = format!("the workspace has no package `{}`", name.get_ref());
                return Err(self.wrong(name.span(), &what, &mend));
            };
            let bins: Vec<&str> = package.bins.iter().map(String::as_str).collect();
            match bin {
                Some(bin) if !bins.contains(&bin.get_ref().as_str()) => {
                    let what = format!("the package `{}` has no program `{}`", package.name, bin.get_ref());
                    let mend = format!("{}it has: {}", closest(bin.get_ref(), &bins), listed(&bins));
                    return Err(self.wrong(bin.span(), &what, &mend));
                }
                None if bins.len() != 1 => {
                    let what = format!("the package `{}` has {} programs, not one", package.name, bins.len());
                    let mend = format!("place it as a [[program]] and choose with `bin`; it has: {}", listed(&bins));
                    return Err(self.wrong(name.span(), &what, &mend));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wrong(&self, place: Range<usize>, what: &str, mend: &str) -> Report {
        report(&self.source, place, what, mend)
    }

    pub fn name(&self) -> &str {
        self.file.name.get_ref()
    }

    pub fn memory(&self) -> Memory {
        self.file.machine.memory
    }

    pub fn processors(&self) -> Processors {
        self.file.machine.processors
    }

    pub fn machine(&self) -> MachineKind {
        self.file.machine.machine
    }

    /// All programs, the first process's first.
    pub fn programs(&self) -> impl Iterator<Item = Program<'_>> {
        let init = Program { name: INIT, package: self.file.init.program.get_ref(), bin: None };
        let others = self.file.programs.iter().map(|program| Program {
            name: program.name.get_ref(),
            package: program.package.get_ref(),
            bin: program.bin.as_ref().map(|bin| bin.get_ref().as_str()),
        });
        [init].into_iter().chain(others)
    }

    /// The first process's arguments, separated by NUL; nothing if there are none.
    pub fn packed_arguments(&self) -> Option<Vec<u8>> {
        let arguments: Vec<&str> =
            self.file.init.arguments.iter().map(|argument| argument.get_ref().as_str()).collect();
        (!arguments.is_empty()).then(|| arguments.join("\0").into_bytes())
    }
}

fn report(source: &NamedSource<String>, place: Range<usize>, what: &str, mend: &str) -> Report {
    let label = LabeledSpan::underline(place);
    miette!(labels = vec![label], help = mend, "{what}").with_source_code(source.clone())
}

/// The report of a file that is not TOML, or not an image description.
fn unreadable(source: &NamedSource<String>, error: &toml::de::Error) -> Report {
    let message = error.message();
    let mend = if let Some((wrong, known)) = unknown_key(message) {
        format!("{}remove it, or use one of: {}", closest(wrong, &known), listed(&known))
    } else if message.starts_with("missing field") {
        "add it; README.md, \"Images\", shows a whole description".to_owned()
    } else {
        "README.md, \"Images\", says what each key may be".to_owned()
    };
    let length = source.inner().len();
    report(source, error.span().unwrap_or(length..length), message, &mend)
}

/// The unknown key and the known ones, from serde's message: "unknown field `a`, expected one of `b`, `c`".
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// "did you mean `x`? " if one of `known` is close to `wrong`.
fn closest(wrong: &str, known: &[&str]) -> String {
    let distances = known.iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name));
    match distances.min() {
        Some((distance, name)) if distance <= wrong.len() / 3 + 1 => format!("did you mean `{name}`? "),
        _ => String::new(),
    }
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// The kind of virtual machine.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MachineKind {
    /// A PC with PCI Express.
    #[default]
    Q35,
    /// A minimal machine without PCI and with little firmware.
    Microvm,
}

/// The guest's memory in MiB, 16 or more.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Memory(u32);

impl Default for Memory {
    fn default() -> Self {
        Self(64)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}M", self.0)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "memory is a number and a unit, `M` or `G`, from \"16M\" to \"1024G\"";
        let (number, scale) = match (text.strip_suffix('M'), text.strip_suffix('G')) {
            (Some(number), _) => (number, 1),
            (_, Some(number)) => (number, 1024),
            _ => return Err(format!("`{text}` is no size: {WANTED}")),
        };
        let size = number.parse().ok().and_then(|number: u32| number.checked_mul(scale));
        match size {
            Some(size) if (16..=1024 * 1024).contains(&size) => Ok(Self(size)),
            _ => Err(format!("`{text}` is out of range: {WANTED}")),
        }
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// The number of processors, 1 to 8.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "i64")]
pub struct Processors(u8);

impl Processors {
    pub fn count(self) -> u8 {
        self.0
    }
}

impl Default for Processors {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<i64> for Processors {
    type Error = String;

    fn try_from(count: i64) -> std::result::Result<Self, String> {
        match u8::try_from(count) {
            Ok(count @ 1..=8) => Ok(Self(count)),
            _ => Err(format!("{count} processors are out of range: Tessera runs on 1 to 8")),
        }
    }
}

impl FromStr for Processors {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        text.parse::<i64>().map_err(|_| format!("`{text}` is not a number"))?.try_into()
    }
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod tests;
