//! How small a machine may be: the least memory with which a program still does what it is for, found by halving, with a boot for each size.
//!
//! The programs are the hello of `examples/hello`, which is to greet, and nginx with the libraries that it needs and nothing else of Debian, which is
//! to serve its first page.

use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tempfile::TempDir;

use super::Figure;
use super::linux::Peer;
use super::servers::NGINX;
use crate::container::Source;
use crate::devices;
use crate::image::{self, Memory, Placement, Processors};
use crate::native::{Project, Wishes};
use crate::process;
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::symbols::Symbols;
use crate::test::nginx_alone;
use crate::workspace;

/// The names of the figures.
const OF_HELLO: &str = "memory-hello";
const OF_NGINX: &str = "memory-nginx";
const HELLO: &str = "examples/hello";
const GREETING: &str = "Hello from Rust's standard library!";
/// MiB that are tried for Tessera, from the least that a machine can have, and for Linux.
const TRIED: (u32, u32) = (4, 64);
const TRIED_ON_LINUX: (u32, u32) = (64, 128);
/// How long a guest may take; with enough memory it is done in a second, and Linux in five.
const PATIENCE: Duration = Duration::from_secs(30);

/// nginx's own files.
pub struct Nginx {
    folder: TempDir,
}

impl Nginx {
    pub fn prepare() -> Result<Self> {
        let folder = tempfile::tempdir().into_diagnostic()?;
        nginx_alone(folder.path())?;
        Ok(Self { folder })
    }

    fn source(&self) -> Source {
        Source::Folder(self.folder.path().to_owned())
    }

    /// What nginx needs as a container.
    pub fn measure(&self, placement: Placement) -> Result<Figure> {
        let (source, port) = (self.source(), NGINX.port()?);
        // Whatever this says has nothing to do with memory.
        NGINX.contained(&source, placement, port, None)?;
        least(OF_NGINX, placement.word(), TRIED, |memory| {
            NGINX.answers(NGINX.contained(&source, placement, port, Some(memory))?, port, PATIENCE)
        })
    }

    /// What it needs on Debian's kernel.
    pub fn measure_peer(&self, peer: &Peer) -> Result<Figure> {
        let port = NGINX.port()?;
        let boot = NGINX.on_peer(&self.source(), peer, port)?;
        least(OF_NGINX, &peer.name, TRIED_ON_LINUX, |memory| {
            NGINX.answers(Boot { memory, ..boot.clone() }, port, PATIENCE)
        })
    }
}

/// What the hello needs.
pub fn hello(placement: Placement) -> Result<Figure> {
    let mut description = Project::read(&workspace::root().join(HELLO))?.description(&Wishes::default())?;
    description.place(Some(placement));
    let (image, symbols) = image::build_to_target(&description)?;
    let machine = description.machine();
    let needed = devices::arguments(machine, description.name(), &description.devices()?, &[])?;
    let boot = Boot {
        image,
        machine,
        memory: description.memory(),
        processors: Processors::default(),
        engine: Engine::Tcg,
        limit: Some(PATIENCE),
        words: Vec::new(),
        devices: [devices::firmware(machine), needed].concat(),
        keys_go_to_the_guest: false,
    };
    least(OF_HELLO, placement.word(), TRIED, |memory| greets(&Boot { memory, ..boot.clone() }, symbols.clone()))
}

fn greets(boot: &Boot, symbols: Symbols) -> Result<()> {
    let mut console = Vec::new();
    let ending = boot.run(symbols, false, &mut console)?;
    let console = String::from_utf8_lossy(&console).into_owned();
    if ending != Ending::Guest(0) {
        return Err(miette!(help = console, "it ended with {ending}"));
    }
    if !console.lines().any(|line| line.trim_end() == GREETING) {
        return Err(miette!(help = console, "it did not greet"));
    }
    Ok(())
}

/// The least of the MiB from the first to the second of `tried` with which `attempt` succeeds. It must succeed with the second.
fn least(name: &str, guest: &str, tried: (u32, u32), mut attempt: impl FnMut(Memory) -> Result<()>) -> Result<Figure> {
    let mut step = Step::start("measuring");
    let mut with = |mebibytes: u32| {
        step.note(&format!("{name} on {guest}, with {mebibytes} MiB"));
        let done = attempt(format!("{mebibytes}M").parse().map_err(|error: String| miette!(error))?);
        // That one says nothing of memory.
        if process::interrupted() { done.map(Ok) } else { Ok(done) }
    };
    let (mut below, mut enough) = (tried.0.saturating_sub(1), tried.1);
    with(enough)?.wrap_err_with(|| format!("{name} on {guest}: {enough} MiB are not enough"))?;
    while enough - below > 1 {
        let middle = below + (enough - below) / 2;
        match with(middle)? {
            Ok(()) => enough = middle,
            Err(_) => below = middle,
        }
    }
    Ok(Figure { name: name.to_owned(), value: enough.into(), unit: "MiB".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_is_enough_is_found() {
        for wanted in [4, 5, 23, 63, 64] {
            let mut boots = 0;
            let found = least("memory", "a guest", (4, 64), |memory| {
                boots += 1;
                if memory.bytes() >= wanted << 20 { Ok(()) } else { Err(miette!("too little")) }
            });
            assert_eq!(found.unwrap().value, wanted as f64);
            assert!(boots <= 7, "{boots}");
        }
    }

    #[test]
    fn what_does_not_work_with_the_most_is_told() {
        let told = least("memory", "a guest", (4, 64), |_| Err(miette!("it is broken"))).unwrap_err();
        let told = format!("{told:?}");
        assert!(told.contains("64 MiB are not enough") && told.contains("it is broken"), "{told}");
    }
}
