//! Decides whether guests run under KVM.
//!
//! That `/dev/kvm` can be opened proves nothing: on some machines it runs a kernel wrongly. KVM is used only after a
//! probe, the hello image, has run correctly under it. The answer is remembered for this processor, kernel and QEMU.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use miette::Result;
use serde::{Deserialize, Serialize};

use crate::image::{self, Description, MachineKind, Memory, Processors};
use crate::qemu::{self, Boot, Ending, Engine};
use crate::symbols::Symbols;
use crate::workspace;

/// The image that the probe boots, and what it must print.
pub const PROBE_IMAGE: &str = "images/hello.toml";
pub const GREETING: &str = "Hello from user space";
/// A guest that runs correctly greets within a fraction of a second.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Accelerator {
    /// KVM if a probe guest has run correctly under it, else TCG.
    #[default]
    Auto,
    /// The processor's own virtualisation, without a probe.
    Kvm,
    /// QEMU's translator: works everywhere.
    Tcg,
}

/// A remembered answer.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Answer {
    /// What the answer holds for; another key makes it void.
    key: String,
    works: bool,
    reason: String,
}

/// Chooses the engine for a boot and says the choice on standard error.
pub fn choose(wanted: Accelerator, icount: bool) -> Result<Engine> {
    Ok(match wanted {
        Accelerator::Kvm if icount => {
            return Err(miette::miette!(
                help = "leave out one of them",
                "--icount counts instructions in QEMU's translator: it cannot be had with --accel kvm"
            ));
        }
        _ if icount => Engine::Counting,
        Accelerator::Kvm => Engine::Kvm,
        Accelerator::Tcg => Engine::Tcg,
        Accelerator::Auto => {
            let answer = probe()?;
            let (engine, name) = if answer.works { (Engine::Kvm, "KVM") } else { (Engine::Tcg, "TCG") };
            eprintln!("tessera: {name} ({})", answer.reason);
            engine
        }
    })
}

/// The answer for this machine: the remembered one, else that of a new probe.
fn probe() -> Result<Answer> {
    let no = |reason: &str| Answer { key: String::new(), works: false, reason: reason.to_owned() };
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(no("/dev/kvm cannot be opened"));
    }
    let (key, path) = (key(), workspace::cache().join("kvm-probe.json"));
    if let Some(answer) = recall(&path, &key) {
        return Ok(answer);
    }
    eprintln!("tessera: probing whether this machine's KVM runs a kernel correctly (once)");
    let description = Description::read(&workspace::root().join(PROBE_IMAGE))?;
    let (image, symbols) = image::build_to_target(&description)?;
    let answer = match greets(&image, &symbols, Engine::Kvm)? {
        Ok(()) => Answer { key, works: true, reason: "a probe guest has run correctly under KVM".to_owned() },
        Err(told) => {
            // A guest that fails everywhere says nothing of KVM: such an answer is not to be remembered.
            if greets(&image, &symbols, Engine::Tcg)?.is_err() {
                return Ok(no("the probe guest runs neither under KVM nor under TCG"));
            }
            Answer { key, works: false, reason: format!("a probe guest failed under KVM: {told}") }
        }
    };
    remember(&path, &answer);
    Ok(answer)
}

/// Boots the probe. The inner error says what went wrong.
fn greets(image: &Path, symbols: &Symbols, engine: Engine) -> Result<std::result::Result<(), String>> {
    let boot = Boot {
        image: image.to_owned(),
        machine: MachineKind::Q35,
        memory: Memory::default(),
        processors: Processors::default(),
        engine,
        limit: Some(PROBE_LIMIT),
        words: Vec::new(),
        devices: Vec::new(),
        keys_go_to_the_guest: false,
    };
    let mut console = Vec::new();
    let ending = boot.run(symbols.clone(), false, &mut console)?;
    let greeted = String::from_utf8_lossy(&console).lines().any(|line| line.contains(GREETING));
    Ok(match ending {
        Ending::Guest(0) if greeted => Ok(()),
        Ending::Guest(0) => Err("it ended without its greeting".to_owned()),
        other => Err(format!("it ended with {other}")),
    })
}

/// What an answer depends on: the processor, its microcode and features, the kernel, the emulator.
fn key() -> String {
    let mut hasher = blake3::Hasher::new();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    const FIELDS: [&str; 6] = ["vendor_id", "cpu family", "model", "stepping", "microcode", "flags"];
    let first = processor.split("\n\n").next().unwrap_or_default();
    for line in first.lines().filter(|line| FIELDS.iter().any(|field| line.starts_with(field))) {
        hasher.update(line.as_bytes());
    }
    hasher.update(fs::read_to_string("/proc/version").unwrap_or_default().as_bytes());
    if let Some(emulator) = qemu::emulator()
        && let Ok(metadata) = fs::metadata(&emulator)
    {
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hasher.update(emulator.as_os_str().as_encoded_bytes());
        hasher.update(&metadata.len().to_le_bytes());
        hasher.update(&changed.unwrap_or_default().as_nanos().to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn recall(path: &Path, key: &str) -> Option<Answer> {
    let answer: Answer = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    (answer.key == key).then_some(answer)
}

/// Remembers an answer. Where that fails, the next command probes again, which is slow but right.
fn remember(path: &Path, answer: &Answer) {
    let written = serde_json::to_string_pretty(answer)
        .map_err(|error| error.to_string())
        .and_then(|text| image::write(path, text.as_bytes()).map_err(|error| error.to_string()));
    if let Err(error) = written {
        eprintln!("tessera: cannot remember the answer: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_for_its_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/kvm-probe.json");
        assert_eq!(recall(&path, "a"), None);
        let answer = Answer { key: "a".into(), works: true, reason: "it ran".into() };
        remember(&path, &answer);
        assert_eq!(recall(&path, "a"), Some(answer));
        assert_eq!(recall(&path, "b"), None, "another machine");
    }

    #[test]
    fn a_damaged_answer_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvm-probe.json");
        fs::write(&path, "{\"key\": \"a\"").unwrap();
        assert_eq!(recall(&path, "a"), None);
    }

    #[test]
    fn the_key_is_the_same_each_time() {
        assert_eq!(key(), key());
    }

    #[test]
    fn counting_needs_the_translator() {
        assert_eq!(choose(Accelerator::Auto, true).unwrap(), Engine::Counting);
        assert!(choose(Accelerator::Kvm, true).is_err());
    }
}
