//! The loop that every entry ends in: ask core what to run next, load what that needs, leave.
//!
//! The fast path of the system is `system_call`: nothing in it that the common case does not need, no panic, no call
//! that is not inlined but core's own. From `acquire` to the loop's `release` this processor owns the machine.

use core::sync::atomic::Ordering;

use tessera_abi::USER_END;
use tessera_core::{Activation, Door, Entered, Machine, Next};

use crate::platform::Platform;
use crate::processor::{NO_VECTOR, Processor};
use crate::{cpu, entry, flush, lock, space, vector};

/// A system call: the assembly saved the caller's registers and jumps here, never to return: no register needs to be kept, which
/// this calling convention says (its arguments are in `r12` and `r13`). `number` is what the caller has in `rax`; with `DIRECT` it is
/// a program that runs in the kernel's mode.
#[optimize(speed)]
pub extern "rust-preserve-none" fn system_call<const DIRECT: bool>(own: &'static Processor, number: u64) -> ! {
    // SAFETY: an entry from a program, where this processor cannot hold the lock; interrupts are off.
    let machine = unsafe { lock::acquire() };
    match machine.fast_syscall(own.number(), number) {
        Entered::Same => {
            // SAFETY: the lock is held, and the thread that entered goes on.
            unsafe { leave_same(own, DIRECT) }
        }
        // SAFETY: the lock is held, and the activation is what core wants to run here.
        Entered::Switched(activation) => unsafe { leave_switched(own, activation) },
        // SAFETY: as above.
        Entered::Loaded(activation) => unsafe { leave(own, activation) },
        Entered::Open | Entered::Mapping | Entered::Slow => {}
    }
    // SAFETY: as above: the lock is held, and core has not done the call.
    unsafe {
        own.direct.store(DIRECT, Ordering::Relaxed);
        system_call_beside(own, machine)
    }
}

/// The second look at a system call, out of the way of the first. It is there once for both kinds of programs: made twice, what it
/// is put together from is too large to be inlined, and each switch costs a call more.
///
/// # Safety
/// This processor holds the big lock, and `machine` is what it got with it.
#[cold]
#[inline(never)]
#[optimize(speed)]
unsafe extern "rust-preserve-none" fn system_call_beside(
    own: &'static Processor,
    machine: &'static mut Machine<Platform>,
) -> ! {
    // SAFETY: as in `system_call`.
    unsafe {
        match machine.quick_syscall(own.number()) {
            Entered::Same => leave_same(own, own.direct.load(Ordering::Relaxed)),
            Entered::Switched(activation) => leave_switched(own, activation),
            Entered::Loaded(activation) => leave(own, activation),
            Entered::Mapping => system_call_mapping(own, machine),
            Entered::Open | Entered::Slow => {}
        }
        system_call_slowly(own, machine)
    }
}

/// The system calls that map and unmap.
///
/// # Safety
/// This processor holds the big lock, and `machine` is what it got with it.
#[cold]
#[inline(never)]
#[optimize(speed)]
unsafe extern "rust-preserve-none" fn system_call_mapping(
    own: &'static Processor,
    machine: &'static mut Machine<Platform>,
) -> ! {
    // SAFETY: passed on; where core says so the thread that entered goes on.
    unsafe {
        match machine.mapping_syscall(own.number()) {
            Entered::Same => leave_same(own, own.direct.load(Ordering::Relaxed)),
            _ => run(own, machine),
        }
    }
}

/// The rest of the system calls.
///
/// # Safety
/// This processor holds the big lock, and `machine` is what it got with it.
#[cold]
#[inline(never)]
#[optimize(size)]
unsafe extern "rust-preserve-none" fn system_call_slowly(
    own: &'static Processor,
    machine: &'static mut Machine<Platform>,
) -> ! {
    machine.slow_syscall(own.number());
    // SAFETY: passed on.
    unsafe { run(own, machine) }
}

/// Goes back to the thread that entered: its record is the one that the entry stored into, all else is loaded.
///
/// # Safety
/// This processor holds the big lock.
#[inline(always)]
unsafe fn leave_same(own: &'static Processor, direct: bool) -> ! {
    let registers = own.registers.load(Ordering::Relaxed);
    // SAFETY: the record stays this thread's while it runs.
    unsafe {
        lock::release();
        if direct {
            entry::leave_direct(registers);
        }
        entry::leave_fast(registers);
    }
}

/// Goes to a thread for which what a system call gives back is enough.
///
/// # Safety
/// This processor holds the big lock, and `activation` is that of the thread that core wants to run here.
#[inline(always)]
unsafe fn leave_switched(own: &'static Processor, activation: &mut Activation) -> ! {
    // SAFETY: as in `leave`.
    unsafe {
        if activation.kernel {
            leave_to_kernel_mode(own, activation);
        }
        load(own, activation);
        let registers = &raw const activation.registers;
        lock::release();
        entry::leave_fast(registers);
    }
}

/// Goes to a thread that runs in the kernel's mode.
///
/// # Safety
/// This processor holds the big lock, and `activation` is that of the thread that core wants to run here.
#[cold]
unsafe fn leave_to_kernel_mode(own: &'static Processor, activation: &mut Activation) -> ! {
    let (root, state) = (activation.root.0, activation.vector.0);
    own.registers.store(&raw mut activation.registers, Ordering::Relaxed);
    own.pointer.store(activation.pointer, Ordering::Relaxed);
    // SAFETY: as in `load`.
    unsafe { flush::switch_root(own, root) };
    // Whether it is the guest that goes on or its thread, what is loaded is the guest's.
    let [fs_base, _] = activation.guest_bases;
    if activation.door != Door::Closed && own.fs_base.load(Ordering::Relaxed) != fs_base {
        load_fs_base(own, fs_base);
    }
    if own.vector.load(Ordering::Relaxed) | state != NO_VECTOR {
        load_rest(own, activation);
    }
    let full = core::mem::take(&mut activation.full);
    let registers = &raw const activation.registers;
    // SAFETY: the record stays this thread's while it runs.
    unsafe {
        lock::release();
        if full {
            entry::leave_direct_full(registers);
        }
        entry::leave_direct(registers);
    }
}

/// Loads what a thread needs beside its registers.
///
/// # Safety
/// This processor holds the big lock, and `activation` is that of the thread that core wants to run here.
#[inline(always)]
unsafe fn load(own: &'static Processor, activation: &mut Activation) {
    let (root, state) = (activation.root.0, activation.vector.0);
    own.registers.store(&raw mut activation.registers, Ordering::Relaxed);
    // SAFETY: core runs threads in spaces that it made, and makes processors leave them before it gives them up.
    unsafe { flush::switch_root(own, root) };
    if own.fs_base.load(Ordering::Relaxed) != activation.registers.fs_base {
        load_fs_base(own, activation.registers.fs_base);
    }
    // Few threads have vector state: those that asked for it, and guests, which alone have a GS base.
    if own.vector.load(Ordering::Relaxed) | state != NO_VECTOR {
        load_rest(own, activation);
    }
}

/// Loads what few threads have.
#[cold]
#[inline(never)]
fn load_rest(own: &Processor, activation: &Activation) {
    let (door, state) = (activation.door, activation.vector.0);
    // Nobody's has no root; what is loaded stays, and so does what it shows.
    if activation.root.0 != 0
        && let Some(process) = space::process_of(activation.root)
    {
        own.viewed.store(process.0, Ordering::Relaxed);
    }
    let gs_base = if door == Door::Closed { activation.registers.gs_base } else { activation.guest_bases[1] };
    own.pointer.store(activation.pointer, Ordering::Relaxed);
    if own.door.load(Ordering::Relaxed) != door as u8 {
        own.door.store(door as u8, Ordering::Relaxed);
        // SAFETY: an address of the kernel's text, where an entry begins.
        unsafe { cpu::write_msr(cpu::msr::LSTAR, entry::system_call_address(door)) };
    }
    if own.gs_base.load(Ordering::Relaxed) != gs_base {
        load_gs_base(own, gs_base);
    }
    if own.vector.load(Ordering::Relaxed) != state {
        vector::switch(own, state);
    }
}

/// Loads what a thread needs, releases the lock, and goes to it.
///
/// # Safety
/// This processor holds the big lock, and `activation` is that of the thread that core wants to run here.
#[inline(always)]
unsafe fn leave(own: &'static Processor, activation: &mut Activation) -> ! {
    // SAFETY: passed on.
    unsafe {
        if activation.kernel {
            leave_to_kernel_mode(own, activation)
        }
        load(own, activation);
    }
    let full = core::mem::take(&mut activation.full);
    if full && activation.registers.rip >= USER_END {
        // `iretq` to an address that is not canonical would fault in the kernel: let it fault in user mode.
        activation.registers.rip = 0;
    }
    let registers = &raw const activation.registers;
    // SAFETY: the record stays this thread's while it runs; nobody else reads or writes it until the next entry.
    unsafe {
        lock::release();
        if full {
            entry::leave_full(registers);
        }
        entry::leave_fast(registers);
    }
}

/// Runs what core wants to run on this processor.
///
/// # Safety
/// This processor holds the big lock, and `machine` is what it got with it.
pub unsafe fn run(own: &'static Processor, mut machine: &'static mut Machine<Platform>) -> ! {
    loop {
        match machine.next(own.number()) {
            Next::Run => {
                let Some(activation) = machine.activation(own.number()) else { continue };
                // SAFETY: the lock is held, and the activation is what core wants to run here.
                unsafe { leave(own, activation) }
            }
            Next::Work => {
                // SAFETY: `machine` is not used until it is taken again.
                unsafe { lock::release() };
                own.open_window(cpu::interrupt_window);
                // SAFETY: released above; interrupts are off again.
                machine = unsafe { lock::acquire() };
                machine.work(own.number());
            }
            Next::Idle => {
                if own.vector.load(Ordering::Relaxed) != NO_VECTOR {
                    // Another processor may run the thread next: its state must be in memory.
                    load_rest(own, &Activation::default());
                }
                // SAFETY: `machine` is not used until it is taken again.
                unsafe { lock::release() };
                own.open_window(cpu::wait_for_interrupt);
                // SAFETY: as above.
                machine = unsafe { lock::acquire() };
            }
        }
    }
}

#[cold]
fn load_fs_base(own: &Processor, base: u64) {
    let base = if base < USER_END { base } else { 0 };
    own.fs_base.store(base, Ordering::Relaxed);
    // SAFETY: FS is the user's alone; the address is canonical.
    unsafe { cpu::write_msr(cpu::msr::FS_BASE, base) };
}

#[cold]
fn load_gs_base(own: &Processor, base: u64) {
    let base = if base < USER_END { base } else { 0 };
    own.gs_base.store(base, Ordering::Relaxed);
    // SAFETY: in the kernel this register holds the user's base; the address is canonical.
    unsafe { cpu::write_msr(cpu::msr::KERNEL_GS_BASE, base) };
}
