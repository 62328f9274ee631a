//! Entries of the page tables (Intel SDM volume 3, section 4.5).

use tessera_abi::PAGE;
use tessera_core::{Frame, Protection};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const UNCACHED: u64 = 1 << 4;
/// Set in advance: the kernel reads neither, and the processor need not write them.
const ACCESSED_DIRTY: u64 = 3 << 5;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(pub u64);

impl Entry {
    /// Nothing is mapped.
    pub const EMPTY: Entry = Entry(0);

    /// A page of the kernel at a physical address: readable only, the same in all spaces.
    pub const fn kernel(address: u64) -> Entry {
        Entry(address | PRESENT | ACCESSED_DIRTY | GLOBAL | NO_EXECUTE)
    }

    /// A table of the kernel's half.
    pub const fn kernel_table(frame: Frame) -> Entry {
        Entry((frame.0 * PAGE) | PRESENT | WRITABLE | ACCESSED_DIRTY)
    }

    /// A page of user space.
    pub const fn user(frame: Frame, protection: Protection) -> Entry {
        let mut bits = (frame.0 * PAGE) | PRESENT | USER | ACCESSED_DIRTY;
        if protection.write {
            bits |= WRITABLE;
        }
        if !protection.execute {
            bits |= NO_EXECUTE;
        }
        if protection.device {
            bits |= UNCACHED | WRITE_THROUGH;
        }
        Entry(bits)
    }

    /// No page, but the bit that lets user mode use one.
    pub const USER_BIT: Entry = Entry(USER);

    /// The same without the bits of `other`.
    #[inline(always)]
    pub const fn without(self, other: Entry) -> Entry {
        Entry(self.0 & !other.0)
    }

    /// A table of user space: the pages below it decide what is allowed.
    pub const fn user_table(frame: Frame) -> Entry {
        Entry((frame.0 * PAGE) | PRESENT | WRITABLE | USER | ACCESSED_DIRTY)
    }

    /// The same, writable.
    pub const fn writable(self) -> Entry {
        Entry(self.0 | WRITABLE)
    }

    /// The same, not writable.
    pub const fn read_only(self) -> Entry {
        Entry(self.0 & !WRITABLE)
    }

    /// The same, executable.
    pub const fn executable(self) -> Entry {
        Entry(self.0 & !NO_EXECUTE)
    }

    /// The same, not cached.
    pub const fn uncached(self) -> Entry {
        Entry(self.0 | UNCACHED | WRITE_THROUGH)
    }

    /// The same, as a page in place of a table.
    pub const fn large(self) -> Entry {
        Entry(self.0 | LARGE)
    }

    /// Whether something is mapped.
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether a page of a program may be read (and written, if asked) by it.
    #[inline(always)]
    pub const fn allows(self, write: bool) -> bool {
        let wanted = if write { PRESENT | WRITABLE } else { PRESENT };
        self.0 & wanted == wanted
    }

    /// The frame behind it.
    #[inline(always)]
    pub const fn frame(self) -> Frame {
        Frame((self.0 & ADDRESS) / PAGE)
    }

    /// The physical address behind it.
    #[inline(always)]
    pub const fn address(self) -> u64 {
        self.0 & ADDRESS
    }
}
