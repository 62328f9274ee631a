//! A Cargo project as something to run: what its Cargo.toml says under `[package.metadata.tessera]`, and the image that follows from it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, NamedSource, Result, WrapErr, miette};
use serde::Deserialize;

use crate::container::{PortMapping, Source, root_image};
use crate::image::{Description, MachineKind, Memory, Placement, Processors, Size, unreadable};
use crate::workspace;

/// A project.
#[derive(Debug)]
pub struct Project {
    /// Its Cargo.toml.
    manifest: PathBuf,
    name: String,
    settings: Settings,
}

/// The parts of a Cargo.toml that are read here.
#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    tessera: Settings,
}

/// What `[package.metadata.tessera]` may say. Each key has a default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Settings {
    memory: Option<Memory>,
    processors: Option<Processors>,
    machine: Option<MachineKind>,
    placement: Option<Placement>,
    /// Whether the program may use the network. Ports lead into it, so they say so too.
    network: bool,
    /// Ports of this machine that lead to the program, if the command line names none.
    ports: Vec<String>,
    /// Whether it is told the date.
    clock: bool,
    /// Whether it gets random numbers from a device.
    entropy: bool,
    /// A folder, from that of the Cargo.toml: what it finds at `/`.
    files: Option<PathBuf>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// Its first thread's stack.
    stack: Option<Size>,
}

/// What the command line adds.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub words: Vec<String>,
    pub environment: Vec<String>,
    pub ports: Vec<PortMapping>,
}

/// Where everything is, unless the project or the command line says otherwise: a machine for one program, with nobody to protect from it but
/// itself.
const PLACEMENT: Placement = Placement::Unikernel;
/// Memory of a machine whose image has a network stack, and of one without.
const WITH_NETWORK: &str = "128M";
const ALONE: &str = "32M";
/// The longest name of a domain.
const DOMAIN_NAME: usize = 16;
/// Names of components of ours, which the program's must not be.
const OURS: [&str; 12] = [
    "pci",
    "virtio-net",
    "virtio-rng",
    "virtio-mmio",
    "net",
    "clock",
    "files",
    "manager",
    "init",
    "kernel",
    "route",
    "program",
];

impl Project {
    /// Whether `path` is the folder of one.
    pub fn is(path: &Path) -> bool {
        path.join("Cargo.toml").is_file()
    }

    /// Reads the one in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the project in {}", folder.display());
        let manifest = folder.join("Cargo.toml").canonicalize().into_diagnostic().wrap_err_with(cannot)?;
        let text = fs::read_to_string(&manifest).into_diagnostic().wrap_err_with(cannot)?;
        let source = NamedSource::new(workspace::shown(&manifest), text.clone()).with_language("TOML");
        let read: Manifest = toml::from_str(&text).map_err(|error| unreadable(&source, &error))?;
        let Some(package) = read.package else {
            return Err(miette!(
                help = "give the folder of one of its members",
                "{} is a workspace, not a package",
                workspace::shown(&manifest)
            ));
        };
        Ok(Self { manifest, name: package.name, settings: package.metadata.tessera })
    }

    /// The ports that lead into the machine: the command line's, else the project's.
    pub fn ports(&self, wishes: &Wishes) -> Result<Vec<PortMapping>> {
        if !wishes.ports.is_empty() {
            return Ok(wishes.ports.clone());
        }
        let read = |text: &String| {
            let port: Result<PortMapping, String> = text.parse();
            port.map_err(|error| miette!("{}: the port `{text}`: {error}", workspace::shown(&self.manifest)))
        };
        self.settings.ports.iter().map(read).collect()
    }

    /// The image that runs it.
    pub fn description(&self, wishes: &Wishes) -> Result<Description> {
        let settings = &self.settings;
        let network = settings.network || !self.ports(wishes)?.is_empty();
        let machine = settings.machine.unwrap_or_default();
        let memory = settings
            .memory
            .map_or_else(|| if network { WITH_NETWORK } else { ALONE }.to_owned(), |memory| memory.to_string());
        let mut text = format!("name = {}\n", quoted(&self.image_name()));
        let placement = settings.placement.unwrap_or(PLACEMENT);
        let _ = writeln!(text, "placement = \"{}\"\n\n[machine]\nmemory = \"{memory}\"", placement.word());
        let _ =
            writeln!(text, "processors = {}\nmachine = \"{machine}\"", settings.processors.unwrap_or_default().count());
        let devices = [(network, "network", "virtio-net"), (settings.entropy, "entropy", "virtio-rng")];
        let devices: Vec<_> = devices.into_iter().filter(|(wanted, ..)| *wanted).collect();
        for (_, kind, driver) in &devices {
            let _ = writeln!(text, "\n[[device]]\nkind = \"{kind}\"\n\n[[component]]\nname = \"{driver}\"");
        }
        if !devices.is_empty() {
            text.push_str(match machine {
                MachineKind::Q35 => {
                    "\n[[component]]\nname = \"pci\"\nallow = [\"dma\", \"ports\", \"memory\", \"interrupts\"]\n"
                }
                MachineKind::Microvm => {
                    "\n[[component]]\nname = \"virtio-mmio\"\nallow = [\"dma\", \"memory\", \"interrupts\"]\n"
                }
            });
        }
        if network {
            text.push_str(
                "\n[[component]]\nname = \"net\"\narguments = [\"fallback=10.0.2.15/24,10.0.2.2,10.0.2.3\", \"bytes=16777216\"]\n\
                 \n[domain.net]\nmemory = \"32M\"\n",
            );
        }
        if settings.clock {
            text.push_str("\n[[component]]\nname = \"clock\"\nallow = [\"ports\"]\n");
        }
        if let Some(folder) = &settings.files {
            let root = self.root_image(folder)?;
            text.push_str(
                "\n[[component]]\nname = \"files\"\nallow = [\"archive\"]\n\n[domain.files]\nmemory = \"8M\"\n",
            );
            let _ = writeln!(text, "\n[[file]]\nname = \"root.erofs\"\npath = {}", quoted(&root.display().to_string()));
        }
        self.write_program(&mut text, wishes);
        Description::parse(&self.manifest, text)
    }

    fn write_program(&self, text: &mut String, wishes: &Wishes) {
        let folder = self.manifest.parent().unwrap_or(Path::new(""));
        let name = self.instance_name();
        let given = self.settings.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let environment = given.chain(wishes.environment.iter().cloned()).map(|entry| format!("environment={entry}"));
        let arguments = self.settings.arguments.iter().chain(&wishes.words).map(|word| format!("argument={word}"));
        let stack = self.settings.stack.map(|stack| format!("stack={}", stack.bytes()));
        let all: Vec<String> = environment.chain(arguments).chain(stack).map(|argument| quoted(&argument)).collect();
        let _ = writeln!(
            text,
            "\n[[component]]\nname = \"{name}\"\ncomponent = \"native\"\nprogram = {}\narguments = [{}]\n\n\
             [domain.{name}]\nmemory = \"rest\"\nrestart = \"never\"\nessential = true",
            quoted(&folder.display().to_string()),
            all.join(", ")
        );
    }

    /// The name of its image.
    fn image_name(&self) -> String {
        let allowed = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
        self.name.chars().map(allowed).take(31).collect()
    }

    /// The name of the component that runs it.
    fn instance_name(&self) -> String {
        let name = self.image_name();
        if name.len() > DOMAIN_NAME || OURS.contains(&name.as_str()) { "app".to_owned() } else { name }
    }

    /// The files that it finds at `/`, as a root image that is kept.
    fn root_image(&self, folder: &Path) -> Result<PathBuf> {
        let folder = self.manifest.parent().unwrap_or(Path::new("")).join(folder);
        if !folder.is_dir() {
            return Err(miette!(
                help = "`files` names a folder, from that of the Cargo.toml",
                "{}: there is no folder {}",
                workspace::shown(&self.manifest),
                folder.display()
            ));
        }
        root_image(&Source::Folder(folder))
    }
}

/// A text as TOML writes it: JSON's texts are TOML's basic strings too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(metadata: &str) -> Result<Project> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), format!("[package]\nname = \"My_App\"\n{metadata}")).unwrap();
        Project::read(folder.path())
    }

    fn components(project: &Project, wishes: &Wishes) -> Vec<String> {
        let description = project.description(wishes).unwrap();
        description.components().iter().map(|component| component.name.get_ref().clone()).collect()
    }

    #[test]
    fn a_project_that_asks_for_nothing_gets_nothing() {
        let project = project("").unwrap();
        assert_eq!(components(&project, &Wishes::default()), ["my-app"]);
        let description = project.description(&Wishes::default()).unwrap();
        assert_eq!((description.name(), description.memory().to_string().as_str()), ("my-app", "32M"));
    }

    #[test]
    fn ports_bring_the_network_and_its_drivers() {
        let project = project("[package.metadata.tessera]\nports = [\"8080:80\"]\nclock = true\n").unwrap();
        let names = components(&project, &Wishes::default());
        assert_eq!(names, ["virtio-net", "pci", "net", "clock", "my-app"]);
        assert_eq!(project.ports(&Wishes::default()).unwrap().len(), 1);
        let wishes =
            Wishes { ports: vec!["9000:80".parse().unwrap(), "9001:81".parse().unwrap()], ..Wishes::default() };
        assert_eq!(project.ports(&wishes).unwrap().len(), 2);
    }

    #[test]
    fn words_of_the_command_line_come_behind_those_of_the_project() {
        let project =
            project("[package.metadata.tessera]\narguments = [\"a \\\"b\\\"\"]\nenvironment = { X = \"1\" }\n");
        let wishes = Wishes { words: vec!["c".into()], environment: vec!["Y=2".into()], ..Wishes::default() };
        let description = project.unwrap().description(&wishes).unwrap();
        let arguments: Vec<&str> =
            description.components()[0].arguments.iter().map(|argument| argument.get_ref().as_str()).collect();
        assert_eq!(arguments, ["environment=X=1", "environment=Y=2", "argument=a \"b\"", "argument=c"]);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let error = format!("{:?}", project("[package.metadata.tessera]\nmemroy = \"64M\"\n").unwrap_err());
        assert!(error.contains("did you mean `memory`?"), "{error}");
        let project = project("[package.metadata.tessera]\nfiles = \"nowhere\"\n").unwrap();
        assert!(format!("{:?}", project.description(&Wishes::default()).unwrap_err()).contains("there is no folder"));
    }
}
