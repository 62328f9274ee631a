//! Connections begin with the sequence number of our choice, though the protocol library draws it from a generator of its own, which is meant to differ
//! from boot to boot and not to be unforeseeable: whoever has seen a few of its numbers knows the others.
//!
//! The generator belongs to an interface. So a connection is begun on an interface that is made for this and dropped afterwards, with a seed from which
//! the wanted number comes first. What the socket keeps of an interface is nothing else.

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Device, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

/// An interface like `side`, without its addresses and neighbours, whose generator draws `first` first. `rest` is what else nobody can foretell.
pub fn interface(side: &Interface, device: &mut impl Device, first: u32, rest: u64, now: Instant) -> Interface {
    let hardware = match device.capabilities().medium {
        Medium::Ethernet => side.hardware_addr(),
        Medium::Ip => HardwareAddress::Ip,
    };
    let mut config = Config::new(hardware);
    // The interface takes one for itself.
    config.random_seed = before(before(state(first, rest)));
    Interface::new(config, device, now)
}

/// The library's generator is sPCG32 (O'Neill, "PCG: a family of simple fast space-efficient statistically good algorithms for random number generation",
/// 2014): a state of 64 bits goes on by `state * MULTIPLIER + INCREMENT`, and its three highest bits say which 32 of those below are the number. If it ever becomes
/// another, numbers are no less secret, but not the wanted ones, which `connections_begin_with_the_sequence_number_of_our_choice` notices.
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
const INCREMENT: u64 = 0x7590_ef39;

/// A state whose number is `first`: with three zeros on top it is the bits that follow. Below it are 29 of `rest`.
fn state(first: u32, rest: u64) -> u64 {
    u64::from(first) << 29 | rest >> 35
}

/// The state before another.
fn before(state: u64) -> u64 {
    state.wrapping_sub(INCREMENT).wrapping_mul(inverse(MULTIPLIER))
}

/// The inverse of an odd number modulo 2⁶⁴, by Newton's method: each step doubles the bits that are right, of which there are three at first.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_number_is_that_of_its_state() {
        for first in [0, 1, 0x1234_5678, u32::MAX] {
            let state = state(first, u64::MAX);
            assert_eq!((state >> (29 - (state >> 61))) as u32, first);
            assert_eq!(before(state).wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT), state);
        }
    }

    #[test]
    fn an_odd_number_times_its_inverse_is_one() {
        for odd in [1, 3, MULTIPLIER, u64::MAX, 0x1234_5678_9abc_def1] {
            assert_eq!(odd.wrapping_mul(inverse(odd)), 1);
        }
    }
}
