//! Reads the `component.toml` files: what each component provides, uses and needs.
//!
//! ```toml
//! name = "net"
//! package = "tessera-net"              # its library
//! constructor = "Net::new"             # fn new(context: Context, uses: Uses) -> Result<Arc<Net>, StartError>
//! in-order = true                      # calls are served one at a time, in the order in which they came; if not said, two at once
//! unsafe = ["src/border.rs"]           # files with `unsafe` code; if not said, the crate says `#![forbid(unsafe_code)]`
//!
//! [provides]
//! network = "Network"                  # the constructed object implements this trait of `tessera-interfaces`
//! status = { interface = "Status", from = "status" }           # an object that a method of it answers
//! sockets = { interface = "Network", for_each = "client" }     # one for each client: the method is given its name
//!
//! [uses]
//! device = "NetDevice"                 # `Uses` has a field `device: Route<dyn NetDevice>`
//! clock = { interface = "WallClock", optional = true }         # a field `clock: Option<Route<dyn WallClock>>`
//!
//! [needs]
//! log = true
//! clock = true
//! ports = { uart = { first = 0x3f8, count = 8 } }              # taken with `context.take("uart")`
//! interrupts = { uart = { line = 4 } }
//! memory = { window = { first = 0xfe000000, length = 4096 }, all = "all" }
//! authority = ["power"]                # what the first process has under that name
//! ```
//!
//! A component without [uses] is constructed from its context alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use miette::{IntoDiagnostic, NamedSource, Report, Result, WrapErr};
use serde::Deserialize;
use toml::Spanned;

use super::mistake::{check_name, report, unreadable};
use super::written::TextOr;
use crate::workspace;

/// The folders of the checkout in which components are looked for, and how deep.
const FOLDERS: [&str; 3] = ["components", "tests", "bench"];
const DEPTH: u32 = 3;
const FILE: &str = "component.toml";

/// A component's description.
#[derive(Debug)]
pub struct Manifest {
    /// The folder of its package.
    pub folder: PathBuf,
    /// The first file of its library, if its code was found too.
    pub root: Option<PathBuf>,
    source: NamedSource<String>,
    file: Written,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: Spanned<String>,
    package: Spanned<String>,
    constructor: Spanned<String>,
    /// Whether its domain is linked with a program of the user's.
    #[serde(default)]
    program: bool,
    #[serde(default)]
    in_order: bool,
    /// The files in which it says `unsafe`.
    #[serde(default, rename = "unsafe")]
    unsafe_files: Vec<Spanned<String>>,
    #[serde(default)]
    provides: BTreeMap<Spanned<String>, Spanned<TextOr<WrittenProvision>>>,
    #[serde(default)]
    uses: BTreeMap<Spanned<String>, Spanned<TextOr<WrittenUse>>>,
    #[serde(default)]
    needs: WrittenNeeds,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProvision {
    interface: String,
    from: Option<String>,
    for_each: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenUse {
    interface: String,
    #[serde(default)]
    optional: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenNeeds {
    log: bool,
    clock: bool,
    ports: BTreeMap<Spanned<String>, Spanned<TextOr<Ports>>>,
    interrupts: BTreeMap<Spanned<String>, Spanned<TextOr<Interrupt>>>,
    memory: BTreeMap<Spanned<String>, Spanned<TextOr<Memory>>>,
    authority: Vec<Spanned<String>>,
}

/// A range of I/O ports.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    first: u16,
    count: u16,
}

/// One interrupt line.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interrupt {
    line: u32,
}

/// A range of device memory, in bytes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    first: u64,
    length: u64,
}

/// How an object that a component provides is got from the constructed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is the constructed one.
    Itself,
    /// This method answers it.
    From(String),
    /// This method answers one for each client, whose name it is given.
    ForEach(String),
}

/// Something that a component provides.
#[derive(Clone, Debug)]
pub struct Provision {
    pub name: String,
    pub interface: String,
    pub source: Source,
}

/// Something that a component uses.
#[derive(Clone, Debug)]
pub struct Use {
    pub name: String,
    pub interface: String,
    pub optional: bool,
}

/// The authority that every component may have without being allowed it by the image.
pub const FREE: [&str; 2] = ["log", "clock"];

/// Something that a component needs, and the word by which an image allows it.
#[derive(Clone, Debug)]
pub struct Need {
    pub allowed_by: String,
    pub need: tessera_plan::Need,
}

impl Manifest {
    /// Reads and checks the file in `folder`.
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read the component description {}", path.display()))?;
        let manifest = Self::parse(&workspace::shown(&path), folder, text)?;
        Ok(Self { root: Some(folder.join("src/lib.rs")), ..manifest })
    }

    /// Checks `text`, the contents of a file in `folder` that errors call `name`. Its code is not looked for.
    pub fn parse(name: &str, folder: &Path, text: String) -> Result<Self> {
        let source = NamedSource::new(name, text.clone()).with_language("TOML");
        let file: Written = toml::from_str(&text).map_err(|error| unreadable(&source, &error))?;
        let manifest = Self { folder: folder.to_owned(), root: None, source, file };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        check_name(&self.source, &self.file.name)?;
        let constructor = &self.file.constructor;
        let parts: Vec<&str> = constructor.get_ref().split("::").collect();
        if parts.len() < 2 || !parts.iter().all(|part| is_identifier(part)) {
            let mend = "write the type and the function, such as \"Net::new\"";
            let what = format!("`{}` is not the path of a constructor", constructor.get_ref());
            return Err(self.wrong(constructor.span(), &what, mend));
        }
        for (name, provision) in &self.file.provides {
            self.check_field(name)?;
            let methods = match provision.get_ref() {
                TextOr::Table(table) => [table.from.as_deref(), table.for_each.as_deref()],
                TextOr::Text(_) => [None, None],
            };
            if let [Some(_), Some(_)] = methods {
                let mend = "keep `from` for one object for all clients, or `for_each` for one each";
                return Err(self.wrong(provision.span(), "both `from` and `for_each` are given", mend));
            }
            let interface = match provision.get_ref() {
                TextOr::Table(table) => &table.interface,
                TextOr::Text(interface) => interface,
            };
            let method = methods.into_iter().flatten();
            self.check_identifiers(provision.span(), [interface.as_str()].into_iter().chain(method))?;
        }
        for (name, used) in &self.file.uses {
            self.check_field(name)?;
            let (TextOr::Table(WrittenUse { interface, .. }) | TextOr::Text(interface)) = used.get_ref();
            self.check_identifiers(used.span(), [interface.as_str()].into_iter())?;
        }
        self.check_needs()
    }

    fn check_needs(&self) -> Result<()> {
        let needs = &self.file.needs;
        let mut seen = std::collections::BTreeSet::new();
        let names = needs.ports.keys().chain(needs.interrupts.keys()).chain(needs.memory.keys());
        for name in names.chain(&needs.authority) {
            check_name(&self.source, name)?;
            if !seen.insert(name.get_ref()) {
                let mend = "choose another: the component takes each of its needs by its name";
                return Err(self.wrong(name.span(), &format!("the name `{}` is taken", name.get_ref()), mend));
            }
        }
        let whole = needs.ports.values().map(|need| (need.span(), text_of(need)));
        let whole = whole.chain(needs.interrupts.values().map(|need| (need.span(), text_of(need))));
        for (span, text) in whole.chain(needs.memory.values().map(|need| (need.span(), text_of(need)))) {
            if text.is_some_and(|text| text != "all") {
                let mend = "write \"all\" for the whole authority, or a table with a range";
                return Err(self.wrong(span, "this is no range", mend));
            }
        }
        for need in needs.memory.values() {
            if let TextOr::Table(Memory { first, length }) = need.get_ref()
                && (*length == 0 || first % 4096 != 0 || length % 4096 != 0 || first.checked_add(*length).is_none())
            {
                let mend = "`first` and `length` are multiples of 4096, and `length` is not 0";
                return Err(self.wrong(need.span(), "this is no range of device memory", mend));
            }
        }
        for need in needs.ports.values() {
            if let TextOr::Table(Ports { first, count }) = need.get_ref()
                && (*count == 0 || u32::from(*first) + u32::from(*count) > 0x1_0000)
            {
                let mend = "ports go from 0 to 0xffff, and `count` is not 0";
                return Err(self.wrong(need.span(), "this is no range of ports", mend));
            }
        }
        Ok(())
    }

    /// Names of provisions and uses become names of fields.
    fn check_field(&self, name: &Spanned<String>) -> Result<()> {
        let text = name.get_ref();
        let small = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if small && is_identifier(text) && text.len() <= 31 {
            return Ok(());
        }
        let mend = "it becomes the name of a field: use at most 31 characters out of a-z, 0-9 and `_`";
        Err(self.wrong(name.span(), &format!("`{text}` cannot be the name of a field"), mend))
    }

    fn check_identifiers<'a>(&self, span: std::ops::Range<usize>, names: impl Iterator<Item = &'a str>) -> Result<()> {
        for name in names {
            if !is_identifier(name) {
                let mend = "write the name of a trait of `tessera-interfaces`, or of a method";
                return Err(self.wrong(span, &format!("`{name}` is not a name of Rust"), mend));
            }
        }
        Ok(())
    }

    /// A mistake at `place`.
    pub fn wrong(&self, place: std::ops::Range<usize>, what: &str, mend: &str) -> Report {
        report(&self.source, place, what, mend)
    }

    /// The file and the line of `place`, for a mistake that is told at another.
    fn place(&self, place: std::ops::Range<usize>) -> String {
        let before = self.source.inner().get(..place.start).unwrap_or_default();
        format!("{}:{}", self.source.name(), before.matches('\n').count() + 1)
    }

    /// The file and the line in which use `name` stands.
    pub fn place_of_use(&self, name: &str) -> String {
        let key = self.file.uses.keys().find(|key| key.get_ref() == name);
        self.place(key.map_or(0..0, Spanned::span))
    }

    pub fn name(&self) -> &str {
        self.file.name.get_ref()
    }

    pub fn package(&self) -> &Spanned<String> {
        &self.file.package
    }

    pub fn constructor(&self) -> &str {
        self.file.constructor.get_ref()
    }

    /// Whether it is called by one thread, so that a call is over before a later one begins.
    pub fn is_in_order(&self) -> bool {
        self.file.in_order
    }

    /// The files, below the folder of its package, in which it says `unsafe`.
    pub fn unsafe_files(&self) -> impl Iterator<Item = &str> {
        self.file.unsafe_files.iter().map(|file| file.get_ref().as_str())
    }

    /// Whether its domain is linked with a program of the user's.
    pub fn runs_a_program(&self) -> bool {
        self.file.program
    }

    pub fn provisions(&self) -> Vec<Provision> {
        let provisions = self.file.provides.iter().map(|(name, provision)| {
            let (interface, source) = match provision.get_ref().clone() {
                TextOr::Text(interface) => (interface, Source::Itself),
                TextOr::Table(WrittenProvision { interface, from: Some(method), .. }) => {
                    (interface, Source::From(method))
                }
                TextOr::Table(WrittenProvision { interface, for_each: Some(method), .. }) => {
                    (interface, Source::ForEach(method))
                }
                TextOr::Table(WrittenProvision { interface, .. }) => (interface, Source::Itself),
            };
            Provision { name: name.get_ref().clone(), interface, source }
        });
        provisions.collect()
    }

    pub fn uses(&self) -> Vec<Use> {
        let uses = self.file.uses.iter().map(|(name, used)| {
            let (interface, optional) = match used.get_ref().clone() {
                TextOr::Text(interface) => (interface, false),
                TextOr::Table(WrittenUse { interface, optional }) => (interface, optional),
            };
            Use { name: name.get_ref().clone(), interface, optional }
        });
        uses.collect()
    }

    pub fn needs(&self) -> Vec<Need> {
        use tessera_plan::Need as Planned;
        let written = &self.file.needs;
        let mut needs = Vec::new();
        let mut add = |allowed_by: &str, need| needs.push(Need { allowed_by: allowed_by.to_owned(), need });
        if written.log {
            add("log", Planned::Log);
        }
        if written.clock {
            add("clock", Planned::Clock);
        }
        let whole =
            |name: &Spanned<String>, of: &str| Planned::Authority { name: name.get_ref().clone(), of: of.into() };
        for (name, ports) in &written.ports {
            add(
                "ports",
                match ports.get_ref() {
                    TextOr::Table(Ports { first, count }) => {
                        Planned::Ports { name: name.get_ref().clone(), first: *first, count: *count }
                    }
                    TextOr::Text(_) => whole(name, "ports"),
                },
            );
        }
        for (name, interrupt) in &written.interrupts {
            add(
                "interrupts",
                match interrupt.get_ref() {
                    TextOr::Table(Interrupt { line }) => {
                        Planned::Interrupt { name: name.get_ref().clone(), line: *line }
                    }
                    TextOr::Text(_) => whole(name, "interrupts"),
                },
            );
        }
        for (name, memory) in &written.memory {
            add(
                "memory",
                match memory.get_ref() {
                    TextOr::Table(Memory { first, length }) => {
                        Planned::Memory { name: name.get_ref().clone(), first: *first, length: *length }
                    }
                    TextOr::Text(_) => whole(name, "devices"),
                },
            );
        }
        for name in &written.authority {
            add(name.get_ref(), whole(name, name.get_ref()));
        }
        needs
    }
}

fn text_of<T>(need: &Spanned<TextOr<T>>) -> Option<&str> {
    match need.get_ref() {
        TextOr::Text(text) => Some(text),
        TextOr::Table(_) => None,
    }
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The component descriptions of the checkout. One that has a mistake troubles the images only that may mean it.
pub struct Manifests {
    good: Vec<Rc<Manifest>>,
    bad: RefCell<Vec<Report>>,
}

impl Manifests {
    /// Looks for them in the checkout.
    pub fn find() -> Self {
        let mut found = Vec::new();
        for folder in FOLDERS {
            collect(&workspace::root().join(folder), DEPTH, &mut found);
        }
        Self::new(found)
    }

    pub fn new(found: Vec<Result<Manifest>>) -> Self {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for manifest in found {
            match manifest {
                Ok(manifest) => good.push(Rc::new(manifest)),
                Err(report) => bad.push(report),
            }
        }
        Self { good, bad: RefCell::new(bad) }
    }

    /// The one with this name; nothing if there is none.
    pub fn get(&self, name: &str) -> Result<Option<Rc<Manifest>>> {
        let found = self.good.iter().find(|manifest| manifest.name() == name);
        match found {
            Some(manifest) => Ok(Some(Rc::clone(manifest))),
            None => self.bad.borrow_mut().pop().map_or(Ok(None), Err),
        }
    }

    /// The names of all.
    pub fn names(&self) -> Vec<&str> {
        self.good.iter().map(|manifest| manifest.name()).collect()
    }
}

fn collect(folder: &Path, depth: u32, found: &mut Vec<Result<Manifest>>) {
    if folder.join(FILE).exists() {
        found.push(Manifest::read(folder));
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    for inner in folders.iter().filter(|_| depth > 0) {
        collect(inner, depth - 1, found);
    }
}
