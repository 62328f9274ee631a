//! What a client on this machine sees of a guest's network stack, through QEMU's network in user space: times, as the wire has its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::linux::Peer;
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

/// Boots the guest and measures it from here.
pub fn measure() -> Result<Vec<Figure>> {
    let description = Description::read(&workspace::root().join(IMAGE))?;
    let (port, ports) = forwarding()?;
    let devices = devices::arguments(description.machine(), description.name(), &description.devices()?, &ports)?;
    let (boot, symbols) = super::guest(&description, devices, Engine::Tcg)?;
    observe(port, &boot, symbols)
}

/// The same with Debian's kernel and a program that serves alike.
pub fn measure_peer(peer: &Peer) -> Result<Vec<Figure>> {
    let (port, ports) = forwarding()?;
    let devices = devices::arguments(MachineKind::Q35, "peer", &[Device::Network], &ports)?;
    observe(port, &peer.boot("wire", &devices, Engine::Tcg), Symbols::default())
}

/// A port of this machine that is free, and what leads from it to the guest's.
fn forwarding() -> Result<(u16, [Forwarding; 1])> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?.local_addr().into_diagnostic()?.port();
    Ok((port, [Forwarding { rule: format!("tcp:127.0.0.1:{port}-:7") }]))
}

fn observe(port: u16, boot: &Boot, symbols: Symbols) -> Result<Vec<Figure>> {
    let mut step = Step::start("measuring");
    step.note("the wire");
    let mut console = Vec::new();
    let (ending, figures) = thread::scope(|scope| {
        let client = scope.spawn(|| converse(port));
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

fn converse(port: u16) -> Result<Vec<Figure>> {
    let until = Instant::now() + LIMIT;
    let mut echo = loop {
        match connect(port) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(error),
        }
    };
    let mut bytes = [7; 64];
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        echo.write_all(&bytes).into_diagnostic()?;
        echo.read_exact(&mut bytes).into_diagnostic().wrap_err("the guest did not answer")?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_unstable_by(f64::total_cmp);
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default().round();
    drop(echo);

    let mut bulk = connect(port)?;
    let mut bytes = vec![0; 64 << 10];
    // From the first byte on: the guest may still be closing the connection before.
    let mut all = bulk.read(&mut bytes).into_diagnostic()?;
    let begun = Instant::now();
    loop {
        match bulk.read(&mut bytes).into_diagnostic()? {
            0 => break,
            length => all += length,
        }
    }
    let a_mebibyte = (begun.elapsed().as_secs_f64() * 1e6 * f64::from(1 << 20) / all as f64).round();
    bulk.shutdown(Shutdown::Write).into_diagnostic()?;
    let figure = |name: &str, value| Figure { name: name.to_owned(), value, unit: "us".to_owned() };
    Ok(vec![figure("wire-round-trip-64-bytes", median), figure("wire-mebibyte-from-the-guest", a_mebibyte)])
}
