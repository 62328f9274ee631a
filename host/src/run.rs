//! `tessera run` and `tessera build`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use crate::accelerator;
use crate::cli::{Build, ContainerOptions, Run};
use crate::container::{Source, launch};
use crate::devices::{self, Device, Forwarding};
use crate::guests::Registered;
use crate::image::{self, Description, MachineKind, Memory, Processors};
use crate::native::{Project, Wishes};
use crate::qemu::{Boot, Ending};
use crate::symbols::Symbols;
use crate::workspace;

/// Runs what was given, and answers with the command's exit code.
pub fn run(run: &Run) -> Result<u8> {
    if !is_tessera(&run.image) {
        return launch::run(run, &Source::of(&run.image)?);
    }
    let image = Path::new(&run.image);
    let (mut boot, symbols) = prepare(run, image)?;
    // Only images of components can answer; to others the port does no harm.
    let name = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let guest = Registered::new(&name, &boot.image)?;
    boot.devices.extend(guest.arguments(boot.machine));
    let ending = boot.run(symbols, true, &mut io::stdout().lock());
    devices::remove_scratch();
    let ending = ending?;
    match ending {
        Ending::Guest(_) | Ending::Interrupted => {}
        Ending::TimedOut => eprintln!("tessera: killed the guest after {} s", run.timeout.unwrap_or_default()),
        other => eprintln!("tessera: the guest ended with {other}"),
    }
    Ok(ending.exit_code())
}

/// Makes `image` ready to boot: from its description, or as the file that it is.
fn prepare(run: &Run, image: &Path) -> Result<(Boot, Symbols)> {
    let machine = &run.machine;
    let project = Project::is(image).then(|| Project::read(image)).transpose()?;
    let wishes = wishes(&run.container, &run.words);
    let ports = match &project {
        Some(project) => project.ports(&wishes)?,
        None => run.container.ports.clone(),
    };
    let (path, symbols, defaults, wanted) = if project.is_some() || is_description(image) {
        let mut description = match &project {
            Some(project) => project.description(&wishes)?,
            None => Description::read(image)?,
        };
        description.place(run.placement);
        let (path, symbols) = image::build_to_target(&description)?;
        let defaults = (description.machine(), description.memory(), description.processors());
        (path, symbols, defaults, (description.name().to_owned(), description.devices()?))
    } else {
        let file =
            fs::read(image).into_diagnostic().wrap_err_with(|| format!("cannot read the image {}", image.display()))?;
        if !image::is_image(&file) {
            return Err(miette!(
                help = "give an image.toml, or a file that `tessera build` made from one",
                "{} is not an image of Tessera",
                image.display()
            ));
        }
        let symbols = Symbols::recall(&file).unwrap_or_default();
        let defaults = (MachineKind::default(), Memory::default(), Processors::default());
        (image.to_owned(), symbols, defaults, (String::new(), Vec::new()))
    };
    let machine_kind = machine.machine.unwrap_or(defaults.0);
    if !ports.is_empty() && !wanted.1.contains(&Device::Network) {
        return Err(miette!(
            help = "add a [[device]] with `kind = \"network\"`, and the components that drive it",
            "the image {} has no network that a port could lead to",
            image.display()
        ));
    }
    let ports: Vec<Forwarding> = ports.iter().map(|mapping| Forwarding { rule: mapping.rule() }).collect();
    let boot = Boot {
        image: path,
        machine: machine_kind,
        memory: machine.memory.unwrap_or(defaults.1),
        processors: machine.processors.unwrap_or(if machine.icount { Processors::default() } else { defaults.2 }),
        engine: accelerator::choose(machine.accel, machine.icount)?,
        limit: run.timeout.map(Duration::from_secs),
        // A program's are in its image.
        words: if project.is_some() { Vec::new() } else { run.words.clone() },
        devices: [devices::firmware(machine_kind), devices::arguments(machine_kind, &wanted.0, &wanted.1, &ports)?]
            .concat(),
        keys_go_to_the_guest: run.container.tty,
    };
    Ok((boot, symbols))
}

/// What the command line says to a program of a project.
fn wishes(options: &ContainerOptions, words: &[String]) -> Wishes {
    Wishes {
        words: words.to_vec(),
        environment: options.environment.iter().map(|entry| launch::with_value(entry)).collect(),
        ports: options.ports.clone(),
    }
}

/// Whether `given` is an image of Tessera: a description, a file made from one, or a project. Everything else is a container's.
fn is_tessera(given: &str) -> bool {
    let path = Path::new(given);
    is_description(path)
        || Project::is(path)
        || path.extension().is_some_and(|extension| extension == "elf") && !path.exists()
        || path.is_file() && fs::read(path).is_ok_and(|file| image::is_image(&file))
}

fn is_description(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// Builds an image and says where it is.
pub fn build(build: &Build) -> Result<u8> {
    if !is_tessera(&build.image) {
        return launch::build(build, &Source::of(&build.image)?);
    }
    let path = Path::new(&build.image);
    let mut description = if Project::is(path) {
        Project::read(path)?.description(&wishes(&build.container, &build.words))?
    } else {
        Description::read(path)?
    };
    description.place(build.placement);
    let image = image::build(&description)?;
    let path = match &build.output {
        Some(path) => path.clone(),
        None => workspace::built_images().join(format!("{}.elf", description.file_stem())),
    };
    image::write(&path, &image.file)?;
    image.symbols.remember(&image.file)?;
    let size = image.file.len().div_ceil(1024);
    println!("{} ({size} KiB, BLAKE3 {})", workspace::shown(&path), blake3::hash(&image.file));
    Ok(0)
}
