//! A disk that is written, read back, and misused.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tessera_interfaces::{Block, BlockError, Cap, Device};
use tessera_runtime::{log, thread};
use tessera_virtio_blk::VirtioBlk;

const MEBIBYTE: usize = 1 << 20;

/// Bytes that say where they belong.
fn pattern(first: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (((first * 512 + at) * 0x9e37_79b9) >> 16) as u8).collect()
}

/// Leaves 4 MiB of pattern at the start of the disk, which is looked at from outside.
pub fn run(device: Cap<dyn Device>) -> Result<(), String> {
    let block = Arc::new(VirtioBlk::open(device).map_err(|error| format!("{error}"))?);
    let said = |error: BlockError| format!("{error:?}");
    let geometry = block.geometry().map_err(said)?;
    log!("{geometry:?}");
    let mut bytes = vec![0; MEBIBYTE];
    for (first, length) in [(0, 512), (1, 4096), (3, MEBIBYTE), (100, 65536 + 512), (5, 0)] {
        let wanted = pattern(first, length);
        block.write(first, &wanted).map_err(said)?;
        block.read(first, &mut bytes[..length]).map_err(said)?;
        if bytes[..length] != wanted {
            return Err(format!("{length} bytes at block {first} were not read as they were written"));
        }
    }
    block.flush().map_err(said)?;
    let refused = [
        (block.read(geometry.blocks, &mut bytes[..512]), BlockError::OutOfRange),
        (block.read(geometry.blocks - 1, &mut bytes[..1024]), BlockError::OutOfRange),
        (block.write(u64::MAX, &bytes[..512]), BlockError::OutOfRange),
        (block.read(u64::MAX / 512, &mut bytes[..512]), BlockError::OutOfRange),
        (block.write(0, &bytes[..511]), BlockError::NotWholeBlocks),
    ];
    if let Some((outcome, wanted)) = refused.iter().find(|(outcome, wanted)| *outcome != Err(*wanted)) {
        return Err(format!("{outcome:?} instead of {wanted:?}"));
    }
    at_once(&block)?;
    log!("the disk keeps what it is given");
    Ok(())
}

/// Four threads, each in its own MiB.
fn at_once(block: &Arc<VirtioBlk>) -> Result<(), String> {
    let threads = (0..4_u64).map(|number| {
        let block = block.clone();
        thread::spawn(move || -> Result<(), BlockError> {
            let first = number * 2048;
            let wanted = pattern(first, MEBIBYTE);
            let mut back = vec![0; 8192];
            for (index, part) in wanted.chunks(8192).enumerate() {
                let at = first + index as u64 * 16;
                block.write(at, part)?;
                block.read(at, &mut back)?;
                if back != part {
                    return Err(BlockError::Device);
                }
            }
            Ok(())
        })
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        let thread = thread.map_err(|error| format!("{error}"))?;
        thread.join().map_err(|error| format!("a thread among others: {error:?}"))?;
    }
    Ok(())
}
