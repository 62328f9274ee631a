//! Measures a disk as a client in another domain sees it: a request crosses into the driver's domain, to the device and back.
//!
//! Prints `bench NAME VALUE UNIT` for each figure: the median of its samples, in ticks of the time stamp counter.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{Block, BlockError};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::ticks;
use tessera_runtime::{exit, log, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// What is measured.
    pub block: Route<dyn Block>,
}

/// The component.
#[derive(Debug)]
pub struct Bench;

/// Bytes of a request, how many samples, and what it is called.
const SIZES: [(usize, usize, &str); 2] = [(4 << 10, 201, "4-kib"), (1 << 20, 21, "1-mib")];
/// What the two reads of the counter take.
const READING: u64 = 3;

impl Bench {
    /// Constructs it; it measures in a thread.
    pub fn new(_context: Context, uses: Uses) -> Result<Arc<Bench>, StartError> {
        thread::spawn(move || match measure(&*uses.block.cap) {
            Ok(()) => exit(0),
            Err(error) => {
                log!("block-bench: {error:?}");
                exit(1)
            }
        })?;
        Ok(Arc::new(Bench))
    }
}

fn measure(block: &dyn Block) -> Result<(), BlockError> {
    let blocks_a_kib = 1024 / u64::from(block.geometry()?.block_size).clamp(1, 1024);
    for (bytes, samples, name) in SIZES {
        let mut buffer = vec![0x5a; bytes];
        let span = bytes as u64 / 1024 * blocks_a_kib;
        let reads = median(samples, |sample| block.read(sample % 8 * span, &mut buffer))?;
        log!("bench block-read-{name} {reads} ticks");
        let writes = median(samples, |sample| block.write(sample % 8 * span, &buffer))?;
        log!("bench block-write-{name} {writes} ticks");
    }
    Ok(())
}

fn median(samples: usize, mut request: impl FnMut(u64) -> Result<(), BlockError>) -> Result<u64, BlockError> {
    // The first ones touch pages for the first time.
    for sample in 0..3 {
        request(sample)?;
    }
    let mut taken = Vec::with_capacity(samples);
    for sample in 0..samples as u64 {
        let start = ticks();
        request(sample)?;
        taken.push(ticks().wrapping_sub(start).saturating_sub(READING));
    }
    taken.sort_unstable();
    Ok(taken.get(samples / 2).copied().unwrap_or(0))
}
