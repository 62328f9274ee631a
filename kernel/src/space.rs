//! User address spaces: the lower half of four-level page tables, in frames that core hands out.
//!
//! Every function here runs under the big lock and trusts the frames that core names. A root's upper half is the
//! kernel's, the same in all, but for marks in entries that it does not use, with the present bit clear. A root whose pages are for the
//! kernel's mode is marked so. A joint root ("view") of a process and its guest keeps the frame numbers of the two in
//! such entries; its lower half repeats their top-level entries. Top-level entries are only ever added until a root is released, so a view can lag but not lie:
//! what it lacks it takes over at the page fault (`catch_up`).

use tessera_abi::PAGE;
use tessera_core::{Frame, Protection};

use crate::memory;
use crate::tables::Entry;

/// Top-level entries of user space, and those of them that belong to the guest in a view.
const USER_SLOTS: usize = 256;
const GUEST_SLOTS: usize = 254;
/// Entries of a view's upper half that name its parts.
const VIEW_PROCESS: usize = 500;
const VIEW_GUEST: usize = 501;
/// The entry that has the bits which the pages are to be without: none, or the one for user mode.
const LEVEL: usize = 502;
const KERNEL_ONLY: Entry = Entry::USER_BIT;

/// Reads entry `index` of a table.
#[inline(always)]
pub fn read(table: Frame, index: usize) -> Entry {
    debug_assert!(index < 512);
    // SAFETY: core's frames are RAM and in the direct map; the index stays within the frame; the lock is held.
    Entry(unsafe { memory::direct(table.0 * PAGE).cast::<u64>().add(index & 511).read_volatile() })
}

/// Writes entry `index` of a table.
#[inline(always)]
pub fn write(table: Frame, index: usize, entry: Entry) {
    // SAFETY: as for `read`; a table's frame holds nothing but entries.
    unsafe { memory::direct(table.0 * PAGE).cast::<u64>().add(index & 511).write_volatile(entry.0) };
}

/// The index of `address` in a table of `level` (3: root, 0: last).
#[inline(always)]
const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level) & 511) as usize
}

/// The parts of a view; `None` if the root is an ordinary one.
fn parts(root: Frame) -> Option<(Frame, Frame)> {
    let process = read(root, VIEW_PROCESS).0 >> 1;
    (process != 0).then(|| (Frame(process), Frame(read(root, VIEW_GUEST).0 >> 1)))
}

/// Enters the kernel's half (of `half`'s root) into a zeroed root, and for whose mode its pages are.
pub fn create(root: Frame, half: Frame, kernel: bool) {
    enter_half(root, half);
    if kernel {
        write(root, LEVEL, KERNEL_ONLY);
    }
}

fn enter_half(root: Frame, kernel: Frame) {
    for slot in USER_SLOTS..512 {
        let entry = read(kernel, slot);
        if entry.is_present() {
            write(root, slot, entry);
        }
    }
}

/// Makes a zeroed frame the view of a process and a guest.
pub fn create_view(view: Frame, process: Frame, guest: Frame, kernel: Frame) {
    enter_half(view, kernel);
    write(view, VIEW_PROCESS, Entry(process.0 << 1));
    write(view, VIEW_GUEST, Entry(guest.0 << 1));
    for slot in 0..USER_SLOTS {
        write(view, slot, read(if slot < GUEST_SLOTS { guest } else { process }, slot));
    }
}

/// Takes over the top-level entry for `address` if `root` is a view that lacks it; true if there was one to take.
pub fn catch_up(root: Frame, address: u64) -> bool {
    let slot = index(address, 3);
    let Some((process, guest)) = parts(root) else { return false };
    if slot >= USER_SLOTS || read(root, slot).is_present() {
        return false;
    }
    let entry = read(if slot < GUEST_SLOTS { guest } else { process }, slot);
    write(root, slot, entry);
    entry.is_present()
}

/// Whether a processor that loaded `loaded` uses tables of `root`.
pub fn shows(loaded: Frame, root: Frame) -> bool {
    loaded == root || parts(loaded).is_some_and(|(process, guest)| process == root || guest == root)
}

/// The process that a view is of; `None` if the root is an ordinary one.
pub fn process_of(root: Frame) -> Option<Frame> {
    parts(root).map(|(process, _)| process)
}

/// The last table on the way to `address`, if it is there.
#[inline(always)]
fn last_table(root: Frame, address: u64) -> Option<Frame> {
    let third = read(root, index(address, 3));
    if !third.is_present() {
        return None;
    }
    let second = read(third.frame(), index(address, 2));
    if !second.is_present() {
        return None;
    }
    let first = read(second.frame(), index(address, 1));
    first.is_present().then(|| first.frame())
}

/// Enters one page; false when `tables` had no frame for a missing table.
#[inline(always)]
pub fn map(
    root: Frame,
    address: u64,
    frame: Frame,
    protection: Protection,
    tables: &mut dyn FnMut() -> Option<Frame>,
) -> bool {
    let Some(table) = last_table(root, address).or_else(|| make_tables(root, address, tables)) else { return false };
    write(table, index(address, 0), Entry::user(frame, protection).without(read(root, LEVEL)));
    true
}

/// The last table on the way to `address`, with all that are missing before it made.
#[cold]
#[inline(never)]
fn make_tables(root: Frame, address: u64, tables: &mut dyn FnMut() -> Option<Frame>) -> Option<Frame> {
    let mut table = root;
    for level in [3, 2, 1] {
        let entry = read(table, index(address, level));
        table = if entry.is_present() {
            entry.frame()
        } else {
            let fresh = tables()?;
            write(table, index(address, level), Entry::user_table(fresh));
            fresh
        };
    }
    Some(table)
}

/// Applies `change` to the present pages in `from..to`, visiting at most about `limit` entries; answers where it stopped.
#[inline(always)]
pub fn for_each(root: Frame, from: u64, to: u64, limit: usize, change: impl Fn(Entry) -> Entry) -> u64 {
    let mut address = from;
    let mut left = limit.max(1);
    while address < to && left > 0 {
        left -= 1;
        let Some(table) = last_table(root, address) else {
            address = behind_hole(root, address);
            continue;
        };
        // The rest of this last table, without walking down again.
        loop {
            let entry = read(table, index(address, 0));
            if entry.is_present() {
                write(table, index(address, 0), change(entry));
            }
            address += PAGE;
            if address >= to || left == 0 || index(address, 0) == 0 {
                break;
            }
            left -= 1;
        }
    }
    address.min(to)
}

/// Where the entry ends for which no table is there on the way to `address`.
#[cold]
#[inline(never)]
fn behind_hole(root: Frame, address: u64) -> u64 {
    let mut table = root;
    let mut span = 1 << 12;
    for level in [3, 2, 1] {
        span = 1u64 << (12 + 9 * level);
        let entry = read(table, index(address, level));
        if !entry.is_present() {
            break;
        }
        table = entry.frame();
    }
    (address & !(span - 1)) + span
}

/// Takes up to `limit` tables below and with `root` out of use, deepest first; true when the root itself is out.
pub fn release(root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
    let mut left = limit;
    if parts(root).is_none() {
        for slot in 0..USER_SLOTS {
            let entry = read(root, slot);
            if entry.is_present() {
                if !release_below(entry.frame(), 2, &mut left, release) {
                    return false;
                }
                write(root, slot, Entry::EMPTY);
            }
        }
    }
    if left == 0 {
        return false;
    }
    release(root);
    true
}

/// Releases a table of `level` (0: last) and all below it; false when `left` ran out first.
pub fn release_below(table: Frame, level: u32, left: &mut usize, release: &mut dyn FnMut(Frame)) -> bool {
    if level > 0 {
        for slot in 0..512 {
            let entry = read(table, slot);
            if entry.is_present() {
                if !release_below(entry.frame(), level - 1, left, release) {
                    return false;
                }
                write(table, slot, Entry::EMPTY);
            }
        }
    }
    if *left == 0 {
        return false;
    }
    *left -= 1;
    release(table);
    true
}

/// The physical address behind a user address, if the program could read (or write) it.
#[inline]
pub fn translate(root: Frame, address: u64, write: bool) -> Option<u64> {
    if address >= tessera_abi::USER_END {
        return None;
    }
    let page = read(last_table(root, address)?, index(address, 0));
    page.allows(write).then(|| page.address() | address & (PAGE - 1))
}
