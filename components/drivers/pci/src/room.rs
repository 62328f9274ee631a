//! Places windows that the firmware has left without addresses: firmware made to start virtual machines fast leaves all of them so.
//!
//! Where there is room is told by the host bridge alone, and known for Intel's Q35, which QEMU's PC has (3 Series Express Chipset datasheet,
//! section 3): from 3 GiB, above any memory, to the registers of interrupt controllers, but for configuration space. On any other
//! machine, windows without addresses stay so.

use alloc::vec::Vec;

use crate::{Access, Address, Function, Window};

/// The host bridge of Q35: vendor and device.
const Q35: (u16, u16) = (0x8086, 0x29c0);
/// Where windows of 32 bits can be.
const FIRST: u64 = 0xc000_0000;
const END: u64 = 0xfec0_0000;
/// The host bridge's register of where configuration space lies in memory (section 5.1.16), in two halves.
const CONFIGURATION_SPACE: u8 = 0x60;
const PAGE: u64 = 4096;

/// Places all of `windows` that have no address, each on pages of its own, as far as there is room.
pub fn place(access: &dyn Access, functions: &[Function], windows: &mut [Window]) {
    let bridge = Address::new(0, 0, 0);
    let is_known = |function: &Function| function.address == bridge && (function.vendor, function.device) == Q35;
    if !functions.iter().any(is_known) {
        return;
    }
    let mut taken: Vec<(u64, u64)> = windows.iter().filter(|window| window.first != 0).map(range).collect();
    taken.extend(configuration_space(access, bridge));
    let mut unplaced: Vec<&mut Window> = windows.iter_mut().filter(|window| window.first == 0).collect();
    // The largest first: so no room is lost between them.
    unplaced.sort_by_key(|window| core::cmp::Reverse(window.length));
    for window in unplaced {
        if let Some(first) = free(window.length, &taken) {
            window.place(access, first);
            taken.push(range(window));
        }
    }
}

fn range(window: &Window) -> (u64, u64) {
    (window.first, window.end())
}

/// The lowest free place for so many bytes, at a multiple of them.
fn free(length: u64, taken: &[(u64, u64)]) -> Option<u64> {
    let length = length.max(PAGE);
    let mut first = FIRST;
    loop {
        first = first.checked_next_multiple_of(length)?;
        let end = first.checked_add(length).filter(|end| *end <= END)?;
        match taken.iter().find(|(other, other_end)| *other < end && first < *other_end) {
            Some((_, other_end)) => first = (*other_end).max(first.checked_add(1)?),
            None => return Some(first),
        }
    }
}

/// What configuration space takes of memory, where it is switched on.
fn configuration_space(access: &dyn Access, bridge: Address) -> Option<(u64, u64)> {
    let low = access.read(bridge, CONFIGURATION_SPACE);
    let high = access.read(bridge, CONFIGURATION_SPACE.wrapping_add(4));
    let length = match low >> 1 & 3 {
        0 => 256 << 20,
        1 => 128 << 20,
        _ => 64 << 20,
    };
    let first = u64::from(high) << 32 | u64::from(low & 0xfc00_0000);
    (low & 1 != 0).then(|| (first, first.saturating_add(length)))
}
