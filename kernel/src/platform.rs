//! What core asks of the hardware, done for x86-64.
//!
//! Core calls these under the big lock with frames and addresses that it checked; each function does the one thing that
//! its trait asks and decides nothing.

use core::arch::asm;
use core::sync::atomic::Ordering;

use tessera_abi::PAGE;
use tessera_core::{DeviceId, Frame, Hardware, PowerAction, Protection};

use crate::clock::Clock;
use crate::iommu::Iommu;
use crate::processor::{self, Processor};
use crate::tables::Entry;
use crate::{apic, cpu, flush, io_apic, memory, power, serial, space, vector};

/// The machine's hardware.
pub struct Platform {
    /// The root whose upper half all spaces share.
    pub kernel: Frame,
    pub clock: Clock,
    pub iommu: Option<Iommu>,
}

/// Copies `length` bytes, words first.
///
/// # Safety
/// Both ranges are mapped, and they do not overlap.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller vouches for the ranges; the direction flag is clear in the kernel.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) length & 7,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

impl Hardware for Platform {
    #[inline]
    fn now(&mut self) -> u64 {
        self.clock.now()
    }

    fn counter(&self) -> (u64, u64) {
        (self.clock.frequency, self.clock.boot)
    }

    fn set_timer(&mut self, processor: usize, at: u64) {
        let own = Processor::current();
        if processor != own.number() {
            // Only a processor itself sets its timer: let it come and ask.
            self.notify(processor);
            return;
        }
        if own.deadline.swap(at, Ordering::Relaxed) == at {
            return;
        }
        if at == u64::MAX {
            apic::stop_timer();
        } else {
            apic::set_timer(at.saturating_sub(self.clock.now()), self.clock.stamp(at));
        }
    }

    fn notify(&mut self, processor: usize) {
        if let Some(processor) = processor::running().get(processor) {
            apic::send(processor.apic.load(Ordering::Relaxed), apic::NOTIFY);
        }
    }

    fn zero(&mut self, frame: Frame) {
        vector::forget(frame);
        // SAFETY: core's frame is RAM in the direct map and nobody uses it meanwhile.
        unsafe {
            asm!(
                "rep stosq",
                inout("rcx") PAGE / 8 => _,
                inout("rdi") memory::direct(frame.0 * PAGE) => _,
                in("rax") 0,
                options(nostack, preserves_flags),
            );
        }
    }

    fn copy_frame(&mut self, from: Frame, to: Frame) {
        vector::forget(to);
        // SAFETY: two different frames of core's, both in the direct map.
        unsafe { copy(memory::direct(from.0 * PAGE), memory::direct(to.0 * PAGE), PAGE as usize) };
    }

    #[inline]
    fn copy(&mut self, from: u64, to: u64, length: usize) {
        debug_assert!(from % PAGE + length as u64 <= PAGE && to % PAGE + length as u64 <= PAGE);
        // SAFETY: both ranges lie in frames of core's, which the direct map has. Should they overlap (a program may
        // lend and lay out its memory as it likes), the bytes come out in some order, in that memory alone.
        unsafe { copy(memory::direct(from), memory::direct(to), length) };
    }

    fn read_bytes(&mut self, from: u64, to: &mut [u8]) {
        // SAFETY: the range lies in a frame of core's; a slice never lies in such a frame.
        unsafe { copy(memory::direct(from), to.as_mut_ptr(), to.len()) };
    }

    fn write_bytes(&mut self, to: u64, from: &[u8]) {
        // SAFETY: as for `read_bytes`; the slice may lie in the archive's frames, which core never writes.
        unsafe { copy(from.as_ptr(), memory::direct(to), from.len()) };
    }

    #[inline]
    fn load(&self, frame: Frame, index: usize) -> u64 {
        space::read(frame, index).0
    }

    #[inline]
    fn store(&mut self, frame: Frame, index: usize, value: u64) {
        space::write(frame, index, Entry(value));
    }

    fn space_create(&mut self, root: Frame, kernel: bool) {
        space::create(root, self.kernel, kernel);
    }

    #[inline(always)]
    fn map(
        &mut self,
        root: Frame,
        address: u64,
        frame: Frame,
        protection: Protection,
        tables: &mut dyn FnMut(&mut Self) -> Option<Frame>,
    ) -> bool {
        space::map(root, address, frame, protection, &mut || tables(self))
    }

    #[inline(always)]
    fn unmap(&mut self, root: Frame, from: u64, to: u64, limit: usize) -> u64 {
        space::for_each(root, from, to, limit, |_| Entry::EMPTY)
    }

    fn write_protect(&mut self, root: Frame, from: u64, to: u64, limit: usize) -> u64 {
        space::for_each(root, from, to, limit, Entry::read_only)
    }

    #[inline(always)]
    fn invalidate(&mut self, root: Frame, from: u64, to: u64) {
        flush::invalidate(root, from, to);
    }

    fn release_tables(&mut self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
        flush::leave(root);
        space::release(root, limit, release)
    }

    #[inline]
    fn translate(&self, root: Frame, address: u64, write: bool) -> Option<u64> {
        space::translate(root, address, write)
    }

    fn view_create(&mut self, view: Frame, process: Frame, guest: Frame) {
        space::create_view(view, process, guest, self.kernel);
    }

    fn view_release(&mut self, view: Frame) {
        flush::leave(view);
    }

    fn has_iommu(&self) -> bool {
        self.iommu.is_some()
    }

    fn device_attach(&mut self, device: DeviceId, number: u32, root: Frame) -> bool {
        self.iommu.as_mut().is_some_and(|iommu| iommu.attach(device, number, root))
    }

    fn device_map(
        &mut self,
        root: Frame,
        address: u64,
        frame: Frame,
        tables: &mut dyn FnMut(&mut Self) -> Option<Frame>,
    ) -> bool {
        let Some(how) = self.iommu.as_ref().map(Iommu::tables) else { return false };
        let entered = how.map(root, address, frame, &mut || tables(self));
        self.iommu.iter().for_each(Iommu::entered);
        entered
    }

    fn device_detach(&mut self, device: DeviceId, root: Frame) {
        if let Some(iommu) = &mut self.iommu {
            iommu.detach(device, root);
        }
    }

    fn device_release(&mut self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
        self.iommu.as_ref().is_none_or(|iommu| iommu.release(root, limit, release))
    }

    fn vector_save(&mut self, frame: Frame) {
        vector::save_loaded(Processor::current(), frame);
    }

    fn vector_repair(&mut self, frame: Frame) {
        vector::repair(frame);
    }

    fn vector_size(&self) -> u64 {
        vector::size()
    }

    fn vector_create(&mut self, frame: Frame) {
        vector::create(frame);
    }

    fn interrupt_enable(&mut self, line: u32, enabled: bool) {
        io_apic::enable(line, enabled);
    }

    fn interrupt_message(&self, line: u32) -> (u64, u32) {
        apic::message(line)
    }

    fn port_read(&mut self, port: u16, width: u8) -> u32 {
        // SAFETY: whoever holds the port's handle was given the device behind it; with DMA a device is as trusted as the
        // kernel, which is why the first program alone gets such handles.
        unsafe {
            match width {
                1 => u32::from(cpu::read_port_8(port)),
                2 => u32::from(cpu::read_port_16(port)),
                _ => cpu::read_port_32(port),
            }
        }
    }

    fn port_write(&mut self, port: u16, width: u8, value: u32) {
        // SAFETY: as for `port_read`.
        unsafe {
            match width {
                1 => cpu::write_port_8(port, value as u8),
                2 => cpu::write_port_16(port, value as u16),
                _ => cpu::write_port_32(port, value),
            }
        }
    }

    fn log(&mut self, text: &[u8]) {
        serial::write(text);
    }

    fn power(&mut self, action: PowerAction) {
        match action {
            PowerAction::Off(code) => power::off(code),
            PowerAction::Reboot => power::reboot(),
        }
    }
}
