//! The small devices: entropy, a console, the clock.

use alloc::format;
use alloc::string::String;

use tessera_clock::{Cmos, read};
use tessera_interfaces::{Cap, Console, ConsoleError, Device, Entropy, EntropyError};
use tessera_runtime::object::{Event, IoPort};
use tessera_runtime::{Object, log, own};
use tessera_virtio_console::VirtioConsole;
use tessera_virtio_driver::AttachError;
use tessera_virtio_rng::VirtioRng;

/// Random bytes: as many as asked for, and not the same twice.
pub fn entropy(device: Cap<dyn Device>) -> Result<(), String> {
    let source = VirtioRng::open(device).map_err(|error| format!("{error}"))?;
    let said = |error: EntropyError| format!("{error:?}");
    let (mut one, mut other) = ([0; 10_000], [0; 10_000]);
    source.fill(&mut one).map_err(said)?;
    source.fill(&mut other).map_err(said)?;
    let ones: u32 = one.iter().map(|byte| byte.count_ones()).sum();
    // 80,000 bits: 40,000 ones, give or take 10 standard deviations.
    if one == other || !(38_500..41_500).contains(&ones) {
        return Err(format!("{ones} of 80000 bits are ones"));
    }
    if source.fill(&mut alloc::vec![0; 1 << 20]) != Err(EntropyError::TooMany) {
        return Err(String::from("a request without bound was not refused"));
    }
    log!("20000 random bytes");
    Ok(())
}

/// A device that would take an IOMMU's addresses for the machine's own is not given any.
pub fn around(device: Cap<dyn Device>) -> Result<(), String> {
    match VirtioRng::open(device) {
        Err(reason @ AttachError::AroundIommu) => log!("refused: {reason}"),
        Err(other) => return Err(format!("refused for another reason: {other}")),
        Ok(_) => return Err("it was given addresses that it takes for the machine's own".into()),
    }
    Ok(())
}

/// Shows a greeting and what is typed, up to the end of the line.
pub fn console(device: Cap<dyn Device>) -> Result<(), String> {
    let console = VirtioConsole::open(&device).map_err(|error| format!("{error}"))?;
    let said = |error: ConsoleError| format!("{error:?}");
    let own_event = Event::create(&own::pool()).map_err(|error| format!("{error}"))?;
    console.watch(own_event.try_clone().map_err(|error| format!("{error}"))?, 1).map_err(said)?;
    write(&console, b"what is your name?\n")?;
    let mut name = String::new();
    while !name.ends_with('\n') {
        let mut bytes = [0; 16];
        match console.read(&mut bytes) {
            Ok(count) => name.push_str(&String::from_utf8_lossy(&bytes[..count as usize])),
            Err(ConsoleError::WouldBlock) => drop(own_event.wait(1)),
            Err(error) => return Err(said(error)),
        }
    }
    // More than fits into the driver's memory at once.
    for number in 0..5000 {
        write(&console, format!("{number} {name}").as_bytes())?;
    }
    log!("the console says: {}", name.trim_end());
    Ok(())
}

fn write(console: &VirtioConsole, text: &[u8]) -> Result<(), String> {
    let mut rest = text;
    while !rest.is_empty() {
        match console.write(rest) {
            Ok(count) => rest = &rest[count as usize..],
            Err(ConsoleError::WouldBlock) => tessera_runtime::object::yield_now(),
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    Ok(())
}

/// The date.
pub fn clock(ports: &IoPort) -> Result<(), String> {
    let ports = ports.narrow(&own::pool(), 0x70, 2).map_err(|error| format!("{error}"))?;
    let date = read(&Cmos::new(ports)).ok_or("there is no clock")?;
    log!("seconds since 1970: {}", date.seconds().unwrap_or(0));
    Ok(())
}
