//! All that the machine asks of the hardware. `kernel/src` implements it for x86-64, tests implement it with arrays.
//!
//! Nothing here blocks, except that `invalidate` waits for the other processors' acknowledgement.
//! An implementation may trust the frames that core names: core hands each out once.

/// A physical page's number (its address divided by [`tessera_abi::PAGE`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
pub struct Frame(pub u64);

/// What a page may be used for in user mode. Reading is always allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protection {
    /// Stores are allowed.
    pub write: bool,
    /// Instruction fetches are allowed.
    pub execute: bool,
    /// The page is device memory: not cached.
    pub device: bool,
}

/// A device as it signs its accesses to memory: PCI segment, bus, device and function, from bit 16, 8, 3 and 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct DeviceId(pub u32);

/// How a physical machine is asked to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerAction {
    /// Power off, with a code for whoever started the machine.
    Off(u32),
    /// Start again.
    Reboot,
}

/// The hardware, as core sees it.
pub trait Hardware {
    /// Nanoseconds since boot; never goes back.
    fn now(&mut self) -> u64;
    /// Ticks of the user-readable counter a second, and its value at boot.
    fn counter(&self) -> (u64, u64);
    /// Asks for a timer entry on this processor at `at` (nanoseconds since boot), in place of the one asked for before.
    fn set_timer(&mut self, processor: usize, at: u64);
    /// Makes another processor enter the kernel soon.
    fn notify(&mut self, processor: usize);

    /// Fills a frame with zeroes.
    fn zero(&mut self, frame: Frame);
    /// Copies a whole frame.
    fn copy_frame(&mut self, from: Frame, to: Frame);
    /// Copies bytes between physical addresses; neither range crosses the end of its frame.
    fn copy(&mut self, from: u64, to: u64, length: usize);
    /// Reads bytes at a physical address, not across the end of its frame.
    fn read_bytes(&mut self, from: u64, to: &mut [u8]);
    /// Writes bytes at a physical address, not across the end of its frame.
    fn write_bytes(&mut self, to: u64, from: &[u8]);
    /// Reads 64-bit word `index` (0..512) of a frame.
    fn load(&self, frame: Frame, index: usize) -> u64;
    /// Writes 64-bit word `index` (0..512) of a frame.
    fn store(&mut self, frame: Frame, index: usize, value: u64);

    /// Makes a zeroed frame the root of an address space: enters the kernel's half. With `kernel` its pages are for the kernel's mode alone.
    fn space_create(&mut self, root: Frame, kernel: bool);
    /// Enters one page in place of what was there. `tables` yields zeroed frames for missing tables; false when it had none left.
    fn map(
        &mut self,
        root: Frame,
        address: u64,
        frame: Frame,
        protection: Protection,
        tables: &mut dyn FnMut(&mut Self) -> Option<Frame>,
    ) -> bool
    where
        Self: Sized;
    /// Removes the pages in `from..to`, at most about `limit` table entries at a time; answers where it stopped (`to` when done).
    /// Does not invalidate.
    fn unmap(&mut self, root: Frame, from: u64, to: u64, limit: usize) -> u64;
    /// Takes write permission from the pages in `from..to`, like `unmap`.
    fn write_protect(&mut self, root: Frame, from: u64, to: u64, limit: usize) -> u64;
    /// Returns when no processor can use what was removed from `from..to` any more.
    fn invalidate(&mut self, root: Frame, from: u64, to: u64);
    /// Takes up to `limit` of the tables below and with `root` out of use, handing each to `release`; true when none is left, the root included.
    /// The first call makes every processor leave the space.
    fn release_tables(&mut self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool;
    /// The physical address behind a user address, if it is mapped so that user mode could read (or write) it.
    fn translate(&self, root: Frame, address: u64, write: bool) -> Option<u64>;
    /// Joins a guest's space to a process's: while a thread with that guest runs in its process, the process's space shows the guest's
    /// lower 254 of 256 top-level entries. `view` is a zeroed frame for the joint root.
    fn view_create(&mut self, view: Frame, process: Frame, guest: Frame);
    /// Takes a joint root out of use: returns when no processor has it loaded.
    fn view_release(&mut self, view: Frame);

    /// Whether an IOMMU stands between devices and memory: a device reaches what was entered for it, and nothing before that.
    fn has_iommu(&self) -> bool;
    /// From now on the device reaches what is entered below `root`, a zeroed frame, in place of what it reached before. No other root
    /// in use has the same `number`. False if the hardware has no place for it.
    fn device_attach(&mut self, device: DeviceId, number: u32, root: Frame) -> bool;
    /// Enters one page for reading and writing, where none is; `tables` is as for `map`.
    fn device_map(
        &mut self,
        root: Frame,
        address: u64,
        frame: Frame,
        tables: &mut dyn FnMut(&mut Self) -> Option<Frame>,
    ) -> bool
    where
        Self: Sized;
    /// Returns when the device reaches nothing through `root` any more. One that was attached elsewhere stays there.
    fn device_detach(&mut self, device: DeviceId, root: Frame);
    /// Like `release_tables`, for a root that no device is attached to.
    fn device_release(&mut self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool;

    /// Prepares a zeroed frame as vector state.
    fn vector_create(&mut self, frame: Frame);
    /// The frame holds its vector state, and this processor has it loaded no longer. The thread that it belongs to runs here.
    fn vector_save(&mut self, frame: Frame);
    /// Clears what the processor would refuse in vector state that a user wrote.
    fn vector_repair(&mut self, frame: Frame);
    /// Bytes of the vector state, at most a page.
    fn vector_size(&self) -> u64;

    /// Unmasks or masks an interrupt line that is a pin.
    fn interrupt_enable(&mut self, line: u32, enabled: bool);
    /// What a device writes where (address, data) to fire line `line`, which is one of the messages.
    fn interrupt_message(&self, line: u32) -> (u64, u32);
    /// Reads an I/O port; `width` is 1, 2 or 4.
    fn port_read(&mut self, port: u16, width: u8) -> u32;
    /// Writes an I/O port; `width` is 1, 2 or 4.
    fn port_write(&mut self, port: u16, width: u8, value: u32);
    /// Writes text to the debug log.
    fn log(&mut self, text: &[u8]);
    /// Ends the machine; returns only in tests.
    fn power(&mut self, action: PowerAction);
}
