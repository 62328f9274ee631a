//! Simple devices: the container's console as the debug log, `/dev/null`, `/dev/zero`, `/dev/full`, `/dev/random`.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::own;
use tessera_runtime::sync::Mutex;

use super::transfer::{copy_out, put_all};
use super::{OpenFile, Sink, Source, ready};
use crate::errno::{Errno, Result};
use crate::fs::ram::make_device;
use crate::fs::{Attributes, Kind};
use crate::task::{Context, System, WaitQueue};

/// Longest text that the log takes at once.
const PIECE: usize = 1024;

/// The attributes of a device that is not in a file system.
pub fn device_attributes(number: u64, names_device: u64) -> Attributes {
    Attributes {
        kind: Kind::Character,
        permissions: 0o620,
        uid: 0,
        gid: 5,
        size: 0,
        links: 1,
        number,
        device: 5,
        names_device,
        blocks: 0,
        block_size: 1024,
        accessed: 0,
        modified: 0,
        changed: 0,
    }
}

/// Output to the debug log, which takes text only: what is no UTF-8 is shown as U+FFFD. There is no input.
#[derive(Default)]
pub struct LogConsole {
    /// The start of a character whose rest was not written yet.
    begun: Mutex<Vec<u8>>,
}

impl LogConsole {
    pub fn new() -> Arc<LogConsole> {
        Arc::new(LogConsole::default())
    }

    fn show(text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let mut end = rest.len().min(PIECE);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (now, later) = rest.split_at(end);
            let _ = own::log().write(now);
            rest = later;
        }
    }
}

impl OpenFile for LogConsole {
    fn read(&self, _at: u64, _to: &mut dyn Sink) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        let mut begun = self.begun.lock();
        let mut done = 0;
        let mut buffer = [0; PIECE];
        while from.left() > 0 {
            let taken = match from.take(&mut buffer) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            begun.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            done += taken;
            let mut text = String::new();
            let mut bytes = begun.as_slice();
            loop {
                match core::str::from_utf8(bytes) {
                    Ok(valid) => {
                        text.push_str(valid);
                        bytes = &[];
                        break;
                    }
                    Err(error) => {
                        let (valid, rest) = bytes.split_at(error.valid_up_to());
                        text.push_str(core::str::from_utf8(valid).unwrap_or_default());
                        bytes = rest;
                        let Some(bad) = error.error_len() else { break };
                        text.push('\u{fffd}');
                        bytes = bytes.get(bad..).unwrap_or_default();
                    }
                }
            }
            let rest = bytes.to_vec();
            *begun = rest;
            LogConsole::show(&text);
        }
        Ok(done)
    }

    fn queue(&self) -> Option<&WaitQueue> {
        // As a terminal it can be watched; it is always ready, so that nobody is ever woken.
        static NEVER: WaitQueue = WaitQueue::new();
        Some(&NEVER)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(device_attributes(1, make_device(5, 1)))
    }

    fn label(&self) -> String {
        String::from("/dev/console")
    }
}

/// A device without state.
#[derive(Clone)]
pub enum Simple {
    Null,
    Zero,
    Full,
    Random(Arc<System>),
}

impl OpenFile for Simple {
    fn read(&self, _at: u64, to: &mut dyn Sink) -> Result<usize> {
        if matches!(self, Simple::Null) {
            return Ok(0);
        }
        let Simple::Random(system) = self else {
            static ZEROES: [u8; 4096] = [0; 4096];
            return put_all(to, core::iter::repeat(ZEROES.as_slice()));
        };
        let room = to.room();
        copy_out(to, room, |_, into| {
            system.random(into);
            Ok(into.len())
        })
    }

    fn write(&self, _at: u64, from: &mut dyn Source) -> Result<usize> {
        if matches!(self, Simple::Full) {
            return Err(Errno::ENOSPC);
        }
        // The bytes are not looked at, and need not even be there.
        Ok(from.left())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stays_at_its_start(&self) -> bool {
        true
    }

    fn ready(&self) -> u32 {
        ready::IN | ready::OUT
    }

    fn control(&self, context: &mut Context, request: u32, argument: u64) -> Result<u64> {
        const RNDGETENTCNT: u32 = 0x8004_5200;
        const RNDADDTOENTCNT: u32 = 0x4004_5201;
        const RNDADDENTROPY: u32 = 0x4008_5203;
        match (self, request) {
            (Simple::Random(_), RNDGETENTCNT) => context.write_u32(argument, 256).map(|()| 0),
            (Simple::Random(_), RNDADDTOENTCNT | RNDADDENTROPY) => Err(Errno::EPERM),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        let minor = match self {
            Simple::Null => 3,
            Simple::Zero => 5,
            Simple::Full => 7,
            Simple::Random(_) => 9,
        };
        Ok(Attributes { permissions: 0o666, gid: 0, ..device_attributes(minor, make_device(1, minor as u32)) })
    }
}
