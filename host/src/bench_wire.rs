//! What a client on this machine sees of a guest's network stack, through QEMU's network in user space: times, as the wire has its own, and the
//! instructions that the guest executes meanwhile.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::linux::Peer;
use super::servers::{Monitor, counting};
use super::{Figure, LIMIT};
use crate::devices::{self, Device, Forwarding};
use crate::image::{Description, MachineKind};
use crate::progress::Step;
use crate::qemu::{Boot, Ending, Engine};
use crate::symbols::Symbols;
use crate::workspace;

const IMAGE: &str = "images/bench-wire.toml";
/// Round trips whose median is the figure.
const ROUNDS: usize = 501;

/// How often a guest is looked at that is to fall silent, and the instructions in between below which it has.
const LOOK: Duration = Duration::from_millis(500);
const SILENT: u64 = 1_000_000;

/// Boots the guest and measures it from here.
pub fn measure(engine: Engine) -> Result<Vec<Figure>> {
    let description = Description::read(&workspace::root().join(IMAGE))?;
    let (port, ports) = forwarding()?;
    let devices = devices::arguments(description.machine(), description.name(), &description.devices()?, &ports)?;
    let (boot, symbols) = super::guest(&description, devices, Engine::Tcg)?;
    observe(port, boot, symbols, engine)
}

/// The same with Debian's kernel and a program that serves alike.
pub fn measure_peer(peer: &Peer, engine: Engine) -> Result<Vec<Figure>> {
    let (port, ports) = forwarding()?;
    let devices = devices::arguments(MachineKind::Q35, "peer", &[Device::Network], &ports)?;
    observe(port, peer.boot("wire", &devices, Engine::Tcg), Symbols::default(), engine)
}

/// A port of this machine that is free, and what leads from it to the guest's.
fn forwarding() -> Result<(u16, [Forwarding; 1])> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?.local_addr().into_diagnostic()?.port();
    Ok((port, [Forwarding { rule: format!("tcp:127.0.0.1:{port}-:7") }]))
}

fn observe(port: u16, mut boot: Boot, symbols: Symbols, engine: Engine) -> Result<Vec<Figure>> {
    let mut step = Step::start("measuring");
    let folder = tempfile::tempdir().into_diagnostic()?;
    let meter = match engine {
        Engine::Counting => Meter::Instructions(folder.path().join("monitor")),
        _ => Meter::Time,
    };
    step.note(meter.about());
    if let Meter::Instructions(monitor) = &meter {
        boot.devices.extend(counting(&boot.devices, folder.path(), monitor));
    }
    let mut console = Vec::new();
    let (ending, figures) = thread::scope(|scope| {
        let client = scope.spawn(|| converse(port, &meter));
        let ending = boot.run(symbols, false, &mut console);
        (ending, client.join().unwrap_or_else(|_| Err(miette!("the client panicked"))))
    });
    match ending? {
        Ending::Guest(0) => figures,
        ending => {
            let console = String::from_utf8_lossy(&console).into_owned();
            Err(miette!(help = console, "the measured guest ended with {ending}, not with exit code 0"))
        }
    }
}

/// Connects when the guest is up; QEMU takes connections before that.
fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).into_diagnostic()?;
    stream.set_nodelay(true).into_diagnostic()?;
    stream.set_read_timeout(Some(LIMIT)).into_diagnostic()?;
    Ok(stream)
}

/// What is measured.
enum Meter {
    /// Microseconds.
    Time,
    /// The guest's instructions, which QEMU's monitor at this path tells.
    Instructions(PathBuf),
}

impl Meter {
    fn about(&self) -> &'static str {
        match self {
            Self::Time => "the wire",
            Self::Instructions(_) => "the wire, counting instructions",
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Time => "us",
            Self::Instructions(_) => "ticks",
        }
    }

    /// Waits until the guest waits: what is sent to a guest that is recorded before it listens can be lost.
    fn wait_for_the_guest(&self, until: Instant) -> Result<()> {
        let Self::Instructions(monitor) = self else { return Ok(()) };
        let mut before = 0;
        loop {
            thread::sleep(LOOK);
            let now = match Monitor::open(monitor).and_then(|mut monitor| monitor.instructions()) {
                Ok(now) => now,
                Err(_) if Instant::now() < until => continue,
                Err(error) => return Err(error),
            };
            if before > 0 && now - before < SILENT {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(miette!("the guest never waits"));
            }
            before = now;
        }
    }

    fn read(&self, begun: Instant) -> Result<f64> {
        match self {
            Self::Time => Ok(begun.elapsed().as_secs_f64() * 1e6),
            Self::Instructions(monitor) => Ok(Monitor::open(monitor)?.instructions()? as f64),
        }
    }
}

fn converse(port: u16, meter: &Meter) -> Result<Vec<Figure>> {
    let until = Instant::now() + LIMIT;
    meter.wait_for_the_guest(until)?;
    let mut echo = loop {
        match connect(port) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(error),
        }
    };
    let begun = Instant::now();
    let mut bytes = [7; 64];
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let before = meter.read(begun)?;
        echo.write_all(&bytes).into_diagnostic()?;
        echo.read_exact(&mut bytes).into_diagnostic().wrap_err("the guest did not answer")?;
        taken.push(meter.read(begun)? - before);
    }
    taken.sort_unstable_by(f64::total_cmp);
    let median = taken.get(ROUNDS / 2).copied().unwrap_or_default().round();
    drop(echo);

    let mut bulk = connect(port)?;
    let mut bytes = vec![0; 64 << 10];
    // From the first byte on: the guest may still be closing the connection before.
    let mut all = bulk.read(&mut bytes).into_diagnostic()?;
    let before = meter.read(begun)?;
    loop {
        match bulk.read(&mut bytes).into_diagnostic()? {
            0 => break,
            length => all += length,
        }
    }
    let a_mebibyte = ((meter.read(begun)? - before) * f64::from(1 << 20) / all as f64).round();
    bulk.shutdown(Shutdown::Write).into_diagnostic()?;
    let figure = |name: &str, value| Figure { name: name.to_owned(), value, unit: meter.unit().to_owned() };
    Ok(vec![figure("wire-round-trip-64-bytes", median), figure("wire-mebibyte-from-the-guest", a_mebibyte)])
}
