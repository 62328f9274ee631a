//! A component that answers as an echo and crashes when it is told to: `crash` panics, `fault` touches what is not there.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_interfaces::{Echo, EchoError};
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::exit;

/// The component.
#[derive(Debug)]
pub struct Fragile {
    count: AtomicU64,
}

impl Fragile {
    /// Constructs it.
    pub fn new(context: Context) -> Result<Arc<Fragile>, StartError> {
        if context.argument("start") == Some("never") {
            return Err(StartError::new("it was told not to start"));
        }
        Ok(Arc::new(Fragile { count: AtomicU64::new(0) }))
    }
}

/// Uses up the stack, whose end is not mapped.
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let page = core::hint::black_box([depth; 512]);
    if depth == u64::MAX {
        return 0;
    }
    overflow(depth.wrapping_add(1)).wrapping_add(core::hint::black_box(&page).iter().sum())
}

impl Echo for Fragile {
    fn echo(&self, from: &[u8], into: &mut [u8]) -> Result<u64, EchoError> {
        match from {
            b"exit" => exit(3),
            b"crash" => panic!("told to crash"),
            b"fault" => return Ok(overflow(0)),
            _ => {}
        }
        into.get_mut(..from.len()).ok_or(EchoError::TooLong)?.copy_from_slice(from);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(from.len() as u64)
    }

    fn count(&self) -> Result<u64, EchoError> {
        Ok(self.count.load(Ordering::Relaxed))
    }
}
