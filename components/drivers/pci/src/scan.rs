//! Finds all functions, bus by bus behind the bridges.

use alloc::vec::Vec;

use crate::{Access, Address, Function};

/// All functions that are not bridges, in the order of their places.
pub fn scan(access: &dyn Access) -> Vec<Function> {
    const SECONDARY_BUS: u8 = 0x18;
    let mut found = Vec::new();
    // Each bus is looked at once, whatever the bridges say.
    let mut seen = [false; 256];
    let mut waiting = alloc::vec![0_u8];
    while let Some(bus) = waiting.pop() {
        match seen.get_mut(usize::from(bus)) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        for device in 0..32 {
            for number in 0..8 {
                let Some(function) = Function::probe(access, Address::new(bus, device, number)) else {
                    if number == 0 {
                        break;
                    }
                    continue;
                };
                match function.header {
                    0 => found.push(function),
                    1 => waiting.push((access.read(function.address, SECONDARY_BUS) >> 8) as u8),
                    _ => {}
                }
                if number == 0 && !function.several {
                    break;
                }
            }
        }
    }
    found.sort_by_key(|function| function.address);
    found
}
