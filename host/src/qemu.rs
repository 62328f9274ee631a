//! Boots an image in QEMU: the command line, the console, and what the end of QEMU says of the guest.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::devices::IOMMU;
use crate::image::{MachineKind, Memory, Processors};
use crate::process::{self, Running};
use crate::symbols::{Symboliser, Symbols};

const EMULATOR: &str = "qemu-system-x86_64";
/// The port through which the guest tells its exit code.
const EXIT_DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=4";
/// What the kernel writes to that port when it has crashed.
const CRASH: i32 = 127;

/// Exit codes of this command that are not the guest's own.
pub mod exit {
    /// The host could not boot the guest.
    pub const HOST: u8 = 125;
    /// The kernel crashed.
    pub const CRASH: u8 = 126;
    /// The time given with `--timeout` was over.
    pub const TIMEOUT: u8 = 124;
    /// Ctrl-C.
    pub const INTERRUPT: u8 = 130;
    /// A container did not end within its grace period: as if by `SIGKILL`.
    pub const KILLED: u8 = 137;
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Kvm,
    /// QEMU's translator.
    Tcg,
    /// The translator, counting: one tick of the time stamp counter is one instruction, and runs repeat exactly.
    Counting,
}

/// One boot of an image.
#[derive(Clone, Debug)]
pub struct Boot {
    pub image: PathBuf,
    pub machine: MachineKind,
    pub memory: Memory,
    pub processors: Processors,
    pub engine: Engine,
    pub limit: Option<Duration>,
    /// Appended to the first process's arguments.
    pub words: Vec<String>,
    /// QEMU's arguments for devices.
    pub devices: Vec<String>,
    /// Whether keys such as Ctrl-C are the guest's, and not this command's.
    pub keys_go_to_the_guest: bool,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest ended with this code.
    Guest(u8),
    /// A container did not heed its stop signal, and was ended.
    Killed,
    /// The kernel crashed, and has printed a report.
    Crash,
    TimedOut,
    Interrupted,
    /// QEMU failed: its own exit code, or none if a signal ended it.
    Emulator(Option<i32>),
}

impl Ending {
    fn from_status(status: ExitStatus) -> Self {
        match status.code() {
            // The guest turned the machine off without the exit device.
            Some(0) => Self::Guest(0),
            // The device ends QEMU with twice the value and one; the guest writes its code and one.
            Some(code) if code >= 3 && code & 1 == 1 => match code >> 1 {
                CRASH => Self::Crash,
                value => Self::Guest(u8::try_from(value - 1).unwrap_or(u8::MAX)),
            },
            code => Self::Emulator(code),
        }
    }

    /// The exit code of the command that ran this boot.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Guest(code) => code,
            Self::Killed => exit::KILLED,
            Self::Crash => exit::CRASH,
            Self::TimedOut => exit::TIMEOUT,
            Self::Interrupted => exit::INTERRUPT,
            Self::Emulator(_) => exit::HOST,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(code) => write!(formatter, "exit code {code}"),
            Self::Killed => write!(formatter, "the end of its grace period"),
            Self::Crash => write!(formatter, "a kernel crash"),
            Self::TimedOut => write!(formatter, "the time-out"),
            Self::Interrupted => write!(formatter, "an interrupt"),
            Self::Emulator(Some(code)) => write!(formatter, "a failure of QEMU (its exit code: {code})"),
            Self::Emulator(None) => write!(formatter, "a signal that ended QEMU"),
        }
    }
}

impl Boot {
    /// QEMU's arguments. `console` is where the serial console leads.
    fn arguments(&self, console: &str) -> Result<Vec<OsString>> {
        let has_iommu = self.devices.iter().any(|argument| argument == IOMMU[1]);
        let machine = match self.machine {
            // KVM's own interrupt controllers do not know QEMU's IOMMU.
            MachineKind::Q35 if has_iommu && self.engine == Engine::Kvm => "q35,kernel-irqchip=split",
            MachineKind::Q35 => "q35",
            MachineKind::Microvm => "microvm,isa-serial=on,rtc=off,pit=off,pic=off",
        };
        // Dropping `arch-capabilities` costs Tessera nothing and spares hosts that cannot pass it on.
        let (accelerator, processor) = match (self.engine, self.processors.count()) {
            (Engine::Kvm, _) => ("kvm", "host,-arch-capabilities"),
            (Engine::Tcg, 1) | (Engine::Counting, _) => ("tcg,thread=single", "max"),
            (Engine::Tcg, _) => ("tcg,thread=multi", "max"),
        };
        let memory = self.memory.to_string();
        let processors = self.processors.count().to_string();
        let mut arguments: Vec<OsString> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-chardev",
            console,
            "-serial",
            "chardev:console",
            "-device",
            EXIT_DEVICE,
            "-machine",
            machine,
            "-accel",
            accelerator,
            "-cpu",
            processor,
            "-m",
            &memory,
            "-smp",
            &processors,
        ]
        .iter()
        .map(OsString::from)
        .collect();
        if self.engine == Engine::Counting {
            if self.processors.count() != 1 {
                return Err(miette!(
                    help = "leave --processors out, or give 1",
                    "counting instructions (--icount) works with one processor, not with {processors}"
                ));
            }
            arguments.extend(["-icount", "shift=0,sleep=off"].map(OsString::from));
        }
        arguments.extend(self.devices.iter().map(OsString::from));
        arguments.extend([OsString::from("-kernel"), self.image.clone().into()]);
        if let Some(words) = command_line(&self.words)? {
            arguments.extend([OsString::from("-append"), words.into()]);
        }
        Ok(arguments)
    }

    /// Boots the guest and shows its console on `console` until it ends. With `input`, this command's standard input
    /// is the guest's.
    pub fn run(&self, symbols: Symbols, input: bool, console: &mut dyn Write) -> Result<Ending> {
        let terminal = input.then(SavedTerminal::take).flatten();
        let mut command = Command::new(EMULATOR);
        let chardev = match self.keys_go_to_the_guest {
            true => "stdio,id=console,signal=off",
            false => "stdio,id=console",
        };
        command.args(self.arguments(chardev)?).stdin(if input { Stdio::inherit() } else { Stdio::null() });
        let ending = self.boot(command, symbols, console);
        drop(terminal);
        ending
    }

    /// The same, with a socket that one of the guest's devices leads to in place of any input ([`Device::Attached`]). Signals from this terminal do not
    /// reach QEMU.
    ///
    /// [`Device::Attached`]: crate::devices::Device::Attached
    pub fn run_attached(&self, symbols: Symbols, socket: OwnedFd, console: &mut dyn Write) -> Result<Ending> {
        let mut command = Command::new(EMULATOR);
        command.args(self.arguments("file,id=console,path=/dev/stdout")?).stdin(socket).process_group(0);
        self.boot(command, symbols, console)
    }

    fn boot(&self, mut command: Command, symbols: Symbols, console: &mut dyn Write) -> Result<Ending> {
        let mut running = Running::start(command.stdout(Stdio::piped()), self.limit)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot start {EMULATOR}; `./tessera doctor` says how to get it"))?;
        // A socket is QEMU's alone from now on, so that its end is seen.
        drop(command);
        if let Some(output) = running.child().stdout.take() {
            show(output, symbols, console).into_diagnostic().wrap_err("cannot show the guest's console")?;
        }
        let (status, timed_out) = running.wait().into_diagnostic()?;
        Ok(match timed_out {
            _ if process::interrupted() => Ending::Interrupted,
            true => Ending::TimedOut,
            false => Ending::from_status(status),
        })
    }
}

/// The kernel's command line: the words, which must survive being split at spaces.
fn command_line(words: &[String]) -> Result<Option<String>> {
    if let Some(word) = words.iter().find(|word| word.is_empty() || word.contains(char::is_whitespace)) {
        return Err(miette!(
            help = "put it into the `arguments` of the image's [init]",
            "the word {word:?} cannot be passed on a kernel command line, which is split at spaces"
        ));
    }
    Ok((!words.is_empty()).then(|| words.join(" ")))
}

/// Copies the console, with crash frames symbolised, until QEMU closes it.
fn show(mut output: impl Read, symbols: Symbols, console: &mut dyn Write) -> io::Result<()> {
    let mut symboliser = Symboliser::new(symbols);
    let mut piece = [0; 4096];
    let mut shown = Vec::new();
    loop {
        let length = match output.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        symboliser.pass(piece.get(..length).unwrap_or_default(), &mut shown);
        console.write_all(&shown)?;
        console.flush()?;
        shown.clear();
    }
    symboliser.finish(&mut shown);
    console.write_all(&shown)?;
    console.flush()
}

/// The terminal's modes. QEMU changes them, and cannot set them back when it is killed.
struct SavedTerminal(Termios);

impl SavedTerminal {
    fn take() -> Option<Self> {
        let input = io::stdin();
        isatty(&input).then(|| tcgetattr(&input).ok()).flatten().map(Self)
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        // A terminal that is gone has no modes to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The emulator's file on the search path.
pub fn emulator() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder: PathBuf| folder.join(EMULATOR))
        .find(|path: &PathBuf| Path::exists(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn ending(code: i32) -> Ending {
        Ending::from_status(ExitStatus::from_raw(code << 8))
    }

    fn boot(engine: Engine, processors: &str) -> Boot {
        Boot {
            image: "i.elf".into(),
            machine: MachineKind::Q35,
            memory: Memory::default(),
            processors: processors.parse().unwrap(),
            engine,
            limit: None,
            words: Vec::new(),
            devices: Vec::new(),
            keys_go_to_the_guest: false,
        }
    }

    #[test]
    fn the_guests_exit_code_survives_the_exit_device() {
        for code in 0..=125 {
            assert_eq!(ending(((code + 1) << 1) | 1), Ending::Guest(code as u8));
        }
        assert_eq!(ending(255), Ending::Crash);
        assert_eq!(ending(0), Ending::Guest(0), "power off");
        assert_eq!(ending(1), Ending::Emulator(Some(1)), "QEMU's own failure is never a guest's code");
        assert_eq!(Ending::from_status(ExitStatus::from_raw(9)), Ending::Emulator(None));
    }

    #[test]
    fn counting_takes_one_processor() {
        let told = boot(Engine::Counting, "2").arguments("null,id=console").unwrap_err().to_string();
        assert!(told.contains("one processor"), "{told}");
        let arguments = boot(Engine::Counting, "1").arguments("null,id=console").unwrap();
        assert!(arguments.iter().any(|argument| argument == "shift=0,sleep=off"));
        assert!(
            !boot(Engine::Tcg, "1").arguments("null,id=console").unwrap().iter().any(|argument| argument == "-icount")
        );
    }

    #[test]
    fn words_that_the_command_line_would_split_are_refused() {
        assert_eq!(command_line(&[]).unwrap(), None);
        assert_eq!(command_line(&["a".into(), "b=c".into()]).unwrap().unwrap(), "a b=c");
        assert!(command_line(&["a b".into()]).is_err());
        assert!(command_line(&["".into()]).is_err());
    }
}
