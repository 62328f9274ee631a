//! Vector state: the registers that only threads have which asked for them, or have a guest.
//!
//! The state of the last such thread, in its guest or not, stays in the registers until another one (or none) runs on this
//! processor; CR0.TS is set whenever nothing is loaded, so that an ordinary thread faults instead of seeing it. Whoever reuses the frame
//! of a thread that ended calls `forget` first, else the registers would be saved over its new contents.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_abi::PAGE;
use tessera_core::Frame;

use crate::processor::{self, LOST_VECTOR, NO_VECTOR, Processor};
use crate::{cpu, memory};

/// Components that are saved: x87, SSE, AVX, AVX-512 (Intel SDM volume 1, section 13.1). All fit into one frame.
const WANTED: u64 = 0b1110_0111;
const DEFAULT_CONTROL: u16 = 0x37f;
const DEFAULT_MXCSR: u32 = 0x1f80;
/// The bits of MXCSR that every x86-64 processor has. Denormals-are-zeroes (bit 6) came soon after, and is in every one with XSAVE.
const CONTROL_BITS: u32 = 0xffff;

static EXTENDED: AtomicBool = AtomicBool::new(false);
static COMPONENTS: AtomicU64 = AtomicU64::new(0);

/// Chooses the components and opens them on this processor. After CR4.OSXSAVE was set, if XSAVE is there.
pub fn initialize(extended: bool) {
    EXTENDED.store(extended, Ordering::Relaxed);
    if extended {
        let leaf = cpu::cpuid(13, 0);
        let mut components = (u64::from(leaf.eax) | u64::from(leaf.edx) << 32) & WANTED;
        // AVX-512 comes whole or not at all, and needs AVX.
        if components & 0b1110_0100 != 0b1110_0100 {
            components &= 0b111;
        }
        COMPONENTS.store(components, Ordering::Relaxed);
        // SAFETY: the processor offers these components; OSXSAVE is set.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") (components >> 32) as u32, options(nostack))
        };
        assert!(u64::from(cpu::cpuid(13, 0).ebx) <= PAGE, "the vector state does not fit into a frame");
    }
    cpu::forbid_vector();
}

/// Makes a zeroed frame the state of a new thread.
pub fn create(frame: Frame) {
    let area = memory::direct(frame.0 * PAGE);
    // SAFETY: core hands this frame out as vector state, so it is RAM and nobody else's. Offsets: SDM volume 1, table 13-1.
    unsafe {
        area.cast::<u16>().write(DEFAULT_CONTROL);
        area.add(24).cast::<u32>().write(DEFAULT_MXCSR);
    }
}

/// Bytes of the state as it is saved.
pub fn size() -> u64 {
    if EXTENDED.load(Ordering::Relaxed) { u64::from(cpu::cpuid(13, 0).ebx).min(PAGE) } else { 512 }
}

/// Clears what the processor would refuse to load from a state that a user wrote: reserved bits of MXCSR, components that are
/// not there, the compact format, and the rest of the XSAVE header (SDM volume 1, sections 11.6.6, 13.4.2 and 13.6).
pub fn repair(frame: Frame) {
    let area = memory::direct(frame.0 * PAGE);
    // SAFETY: the frame is the state of the thread that runs here, taken out of the registers before: no processor has it loaded.
    unsafe {
        let control = area.add(24).cast::<u32>();
        control.write(control.read() & CONTROL_BITS);
        let header = area.add(512).cast::<u64>();
        header.write(header.read() & COMPONENTS.load(Ordering::Relaxed));
        header.add(1).write_bytes(0, 7);
    }
}

/// Makes `wanted` (a frame number, or `NO_VECTOR`) the loaded state. Under the big lock.
#[cold]
pub fn switch(own: &Processor, wanted: u64) {
    let loaded = own.vector.load(Ordering::Relaxed);
    cpu::allow_vector();
    if loaded != NO_VECTOR && loaded != LOST_VECTOR {
        save(loaded);
    }
    own.vector.store(wanted, Ordering::Relaxed);
    if wanted == NO_VECTOR {
        cpu::forbid_vector();
    } else {
        restore(wanted);
    }
}

/// Takes the state of `frame` out of this processor's registers, if it is in them.
pub fn save_loaded(own: &Processor, frame: Frame) {
    if own.vector.load(Ordering::Relaxed) == frame.0 {
        save(frame.0);
        // What is loaded is looked at again before anything runs.
        own.vector.store(LOST_VECTOR, Ordering::Relaxed);
    }
}

/// The contents of `frame` are about to change hands: no processor may save its registers there any more.
pub fn forget(frame: Frame) {
    for processor in processor::running() {
        if processor.vector.load(Ordering::Relaxed) == frame.0 {
            processor.vector.store(LOST_VECTOR, Ordering::Relaxed);
        }
    }
}

fn save(frame: u64) {
    let area = memory::direct(frame * PAGE);
    let components = COMPONENTS.load(Ordering::Relaxed);
    // SAFETY: the frame is this state's own (else `forget` was called); it is page aligned and large enough.
    unsafe {
        if EXTENDED.load(Ordering::Relaxed) {
            asm!("xsave64 [{}]", in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32, options(nostack));
        } else {
            asm!("fxsave64 [{}]", in(reg) area, options(nostack));
        }
    }
}

fn restore(frame: u64) {
    let area = memory::direct(frame * PAGE);
    let components = COMPONENTS.load(Ordering::Relaxed);
    // SAFETY: the frame was filled by `create` or `save` alone, so it holds a state that the processor accepts.
    unsafe {
        if EXTENDED.load(Ordering::Relaxed) {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32, options(nostack));
        } else {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack));
        }
    }
}
