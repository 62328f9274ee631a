//! A component that tries to reach what it was not given, by all that a processor can be told.
//!
//! Asked for `handles` it answers with the kinds of all objects that a number names for it, a byte each; what else it is asked for it
//! does, and should not live to answer.
#![no_std]

extern crate alloc;

use alloc::sync::Arc;
use core::arch::asm;
use core::ptr;

use tessera_interfaces::{Echo, EchoError};
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::object::Event;
use tessera_runtime::{Handle, Object, Owned};

/// Where the kernel's text and its map of all memory begin.
const KERNEL: u64 = 0xffff_ffff_8020_0000;
const ALL_MEMORY: u64 = 0xffff_8000_0000_0000;
/// Numbers of handles that are tried: places in the kernel's table, and how often each may have been used before.
const PLACES: u32 = 1 << 16;
const USES: u32 = 4;
/// Bits of a handle that are the place.
const PLACE_BITS: u32 = 20;

/// The component.
#[derive(Debug)]
pub struct Trespasser;

impl Trespasser {
    /// Constructs it.
    pub fn new(_: Context) -> Result<Arc<Trespasser>, StartError> {
        Ok(Arc::new(Trespasser))
    }
}

fn read(address: u64) {
    // SAFETY: none. That it faults is what is tested.
    unsafe { (address as *const u8).read_volatile() };
}

fn write(address: u64) {
    // SAFETY: none, as for `read`.
    unsafe { (address as *mut u8).write_volatile(0) };
}

/// The kinds of the objects that some number names.
fn kinds() -> impl Iterator<Item = u8> {
    let numbers = (0..USES).flat_map(|used| (1..PLACES).map(move |place| used << PLACE_BITS | place));
    numbers.filter_map(|number| {
        // SAFETY: none: it was not given most of these, and closes none.
        let guess = Event::from_owned(unsafe { Owned::from_handle(Handle(number)) });
        let found = guess.inspect();
        guess.into_owned().into_handle();
        Some(found.ok()?.kind as u8)
    })
}

impl Echo for Trespasser {
    fn echo(&self, from: &[u8], into: &mut [u8]) -> Result<u64, EchoError> {
        match from {
            b"handles" => {
                let mut count = 0;
                for kind in kinds() {
                    *into.get_mut(count).ok_or(EchoError::TooLong)? = kind;
                    count += 1;
                }
                return Ok(count as u64);
            }
            b"the kernel's text" => read(KERNEL),
            b"all memory" => read(ALL_MEMORY),
            b"a page table" => write(ALL_MEMORY + 0x1000),
            b"its own text" => write(ptr::from_ref(&Trespasser::new).addr() as u64),
            // SAFETY: none, as for `read`.
            b"a port" => unsafe { asm!("in al, dx", in("dx") 0xcf8_u16, out("al") _) },
            // SAFETY: none, as for `read`.
            b"interrupts" => unsafe { asm!("cli") },
            // SAFETY: none, as for `read`.
            b"control registers" => unsafe { asm!("mov {}, cr3", out(reg) _) },
            _ => return Err(EchoError::TooLong),
        }
        Ok(0)
    }

    fn count(&self) -> Result<u64, EchoError> {
        Ok(0)
    }
}
