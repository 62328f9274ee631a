//! The start-up block: how a process is told its first handles and its arguments.
//!
//! A sequence of records, each of a 32-bit kind, a 32-bit payload length in bytes, and the payload padded to a multiple of eight.
//! A handle's payload is its number (4 bytes) and its name (UTF-8); an argument's is its text.
//! Reading stops at the first record that makes no sense: a damaged block yields less, never a panic.

use crate::Handle;

const HANDLE: u32 = 1;
const ARGUMENT: u32 = 2;

/// Writes a start-up block.
pub struct StartupWriter<'a> {
    block: &'a mut [u8],
    used: usize,
}

impl<'a> StartupWriter<'a> {
    /// A writer into `block`.
    pub fn new(block: &'a mut [u8]) -> Self {
        StartupWriter { block, used: 0 }
    }

    /// Adds a named handle; false when the block is full.
    #[must_use]
    pub fn handle(&mut self, name: &str, handle: Handle) -> bool {
        self.record(HANDLE, &handle.0.to_le_bytes(), name.as_bytes())
    }

    /// Adds an argument; false when the block is full.
    #[must_use]
    pub fn argument(&mut self, text: &str) -> bool {
        self.record(ARGUMENT, &[], text.as_bytes())
    }

    /// Bytes written so far: the block's length.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn record(&mut self, kind: u32, first: &[u8], second: &[u8]) -> bool {
        let length = first.len().saturating_add(second.len());
        let Ok(short) = u32::try_from(length) else { return false };
        let total = length.next_multiple_of(8).saturating_add(8);
        let Some(record) = self.block.get_mut(self.used..).and_then(|rest| rest.get_mut(..total)) else { return false };
        record.fill(0);
        let bytes = kind.to_le_bytes().into_iter().chain(short.to_le_bytes());
        for (to, from) in record.iter_mut().zip(bytes.chain(first.iter().copied()).chain(second.iter().copied())) {
            *to = from;
        }
        self.used = self.used.saturating_add(total);
        true
    }
}

/// Reads a start-up block.
#[derive(Clone, Copy)]
pub struct Startup<'a>(&'a [u8]);

impl<'a> Startup<'a> {
    /// A reader of `block`.
    pub const fn new(block: &'a [u8]) -> Self {
        Startup(block)
    }

    /// The first handle with this name.
    pub fn handle(&self, name: &str) -> Option<Handle> {
        self.handles().find(|(found, _)| *found == name).map(|(_, handle)| handle)
    }

    /// All named handles.
    pub fn handles(&self) -> impl Iterator<Item = (&'a str, Handle)> + use<'a> {
        self.records().filter(|record| record.0 == HANDLE).filter_map(|(_, payload)| {
            let (number, name) = payload.split_first_chunk::<4>()?;
            Some((core::str::from_utf8(name).ok()?, Handle(u32::from_le_bytes(*number))))
        })
    }

    /// All arguments, the program's name not among them.
    pub fn arguments(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.records()
            .filter(|record| record.0 == ARGUMENT)
            .filter_map(|(_, payload)| core::str::from_utf8(payload).ok())
    }

    fn records(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (kind, after) = rest.split_first_chunk::<4>()?;
            let (length, after) = after.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length) as usize;
            let payload = after.get(..length)?;
            rest = after.get(length.next_multiple_of(8)..).unwrap_or(&[]);
            match u32::from_le_bytes(*kind) {
                kind @ (HANDLE | ARGUMENT) => Some((kind, payload)),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut block = [0xff; 128];
        let mut writer = StartupWriter::new(&mut block);
        assert!(writer.handle("log", Handle(7)) && writer.argument("hello") && writer.handle("pool", Handle(9)));
        let length = writer.len();
        let startup = Startup::new(&block[..length]);
        assert_eq!(startup.handle("pool"), Some(Handle(9)));
        assert_eq!(startup.handle("power"), None);
        assert!(startup.arguments().eq(["hello"]));
    }

    #[test]
    fn a_full_block_is_told_and_a_damaged_one_ends_early() {
        let mut block = [0; 24];
        let mut writer = StartupWriter::new(&mut block);
        assert!(writer.argument("fits"));
        assert!(!writer.argument("does not"));
        let damaged = [2, 0, 0, 0, 255, 255, 255, 255, 1];
        assert_eq!(Startup::new(&damaged).arguments().count(), 0);
    }
}
