//! A serial port as a console: the driver of the 16550 and its like.
//!
//! Registers are those of the PC16550D data sheet (National Semiconductor, 1995). What is received waits in a buffer of this component, so that
//! a reader that is slow loses the oldest, never the port.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod uart;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{Console, ConsoleError, ConsoleSize};
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::object::{Event, Interrupt, IoPort};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Result, log, own, thread};

use uart::{Registers, Uart};

/// The port's first I/O port: that of the range in the component's description.
const BASE: u16 = 0x2f8;
/// Bytes that wait for a reader.
const WAITING: usize = 16 << 10;
/// Watchers that are told.
const WATCHERS: usize = 8;

/// The port's I/O ports.
struct Ports(IoPort);

impl Registers for Ports {
    fn read(&self, register: u16) -> u8 {
        // Refused only if the handle was revoked: as a port that is not there, it reads as ones.
        self.0.read(BASE.wrapping_add(register), tessera_runtime::object::Width::Byte).map_or(0xff, |value| value as u8)
    }

    fn write(&self, register: u16, value: u8) {
        let _ = self.0.write(BASE.wrapping_add(register), tessera_runtime::object::Width::Byte, value.into());
    }
}

/// The component.
pub struct Serial {
    uart: Uart<Ports>,
    input: Mutex<Input>,
}

/// What was received, and who wants to know.
#[derive(Default)]
struct Input {
    waiting: VecDeque<u8>,
    watchers: Vec<(Event, u64)>,
}

impl Serial {
    /// Constructs it, and starts the thread that waits for the port's interrupt.
    pub fn new(context: Context) -> core::result::Result<Arc<Serial>, StartError> {
        let interrupt: Interrupt = context.take("line")?;
        let ports: IoPort = context.take("ports")?;
        let event = Event::create(&own::pool())?;
        interrupt.bind(&event, 1)?;
        let uart = Uart::new(Ports(ports)).ok_or(StartError::new("there is no serial port"))?;
        let serial = Arc::new(Serial { uart, input: Mutex::new(Input::default()) });
        let served = serial.clone();
        thread::spawn(move || {
            if let Err(error) = served.receive(&interrupt, &event) {
                log!("serial: its interrupt is gone: {error}");
            }
        })?;
        Ok(serial)
    }

    /// Takes what comes in, for ever.
    fn receive(&self, interrupt: &Interrupt, event: &Event) -> Result<()> {
        loop {
            let mut came = Vec::new();
            while let Some(byte) = self.uart.receive() {
                came.push(byte);
            }
            if !came.is_empty() {
                self.input.lock().take(&came);
            }
            event.wait(1)?;
            // Before the port is read: a byte that comes meanwhile makes an edge that is seen.
            interrupt.acknowledge()?;
        }
    }
}

impl Input {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.waiting.len() == WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(*byte);
        }
        // Whoever is gone is not told again.
        self.watchers.retain(|(event, bits)| event.raise(*bits).is_ok());
    }
}

impl Console for Serial {
    fn write(&self, from: &[u8]) -> core::result::Result<u64, ConsoleError> {
        let sent = from.iter().take_while(|byte| self.uart.send(**byte)).count();
        if sent == 0 && !from.is_empty() { Err(ConsoleError::WouldBlock) } else { Ok(sent as u64) }
    }

    fn read(&self, into: &mut [u8]) -> core::result::Result<u64, ConsoleError> {
        let mut input = self.input.lock();
        let length = input.waiting.len().min(into.len());
        for (to, from) in into.iter_mut().zip(input.waiting.drain(..length)) {
            *to = from;
        }
        if length == 0 && !into.is_empty() { Err(ConsoleError::WouldBlock) } else { Ok(length as u64) }
    }

    fn watch(&self, readable: Event, bits: u64) -> core::result::Result<(), ConsoleError> {
        let mut input = self.input.lock();
        if !input.waiting.is_empty() {
            readable.raise(bits).map_err(|_| ConsoleError::Device)?;
        }
        if input.watchers.len() == WATCHERS {
            // The oldest is most likely one whose owner was started again.
            input.watchers.remove(0);
        }
        input.watchers.push((readable, bits));
        Ok(())
    }

    fn size(&self) -> core::result::Result<ConsoleSize, ConsoleError> {
        Ok(ConsoleSize { columns: 0, rows: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_loses_the_oldest_and_watchers_are_told() {
        let event = Event::create(&own::pool()).unwrap();
        let mut input = Input::default();
        input.watchers.push((event.duplicate_for_test(), 4));
        input.take(&[1; WAITING]);
        input.take(&[2, 3]);
        assert_eq!(input.waiting.len(), WAITING);
        assert_eq!(input.waiting.back(), Some(&3));
        assert_eq!(event.clear(4), Ok(4));
    }

    /// Another handle to the event.
    trait Duplicate {
        fn duplicate_for_test(&self) -> Event;
    }

    impl Duplicate for Event {
        fn duplicate_for_test(&self) -> Event {
            tessera_runtime::Object::try_clone(self).unwrap()
        }
    }
}
