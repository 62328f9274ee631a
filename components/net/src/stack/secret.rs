//! What nobody outside can foretell: where sequence numbers begin, which ports are taken, and what questions for names are called.
//!
//! All of it comes from one key by SipHash-2-4, which is a pseudorandom function for whoever does not know the key (Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF", 2012). The key is as good as where it came from: see `Net::new`.

use core::hash::{Hash, Hasher};

use siphasher::sip::SipHasher24;
use smoltcp::time::Instant;

use super::Ends;

/// Bytes of a key.
pub const KEY: usize = 16;

/// What the numbers of one use have to do with those of another: nothing.
#[derive(Hash)]
enum Use {
    Sequence,
    Number,
}

/// The key, and how many numbers were drawn.
pub struct Secret {
    key: [u8; KEY],
    drawn: u64,
}

impl Secret {
    pub fn new(key: [u8; KEY]) -> Secret {
        Secret { key, drawn: 0 }
    }

    /// The next number. It tells nothing about the others.
    pub fn number(&mut self) -> u64 {
        self.drawn += 1;
        self.hash(Use::Number, self.drawn)
    }

    /// The first sequence number of a connection between these ends that begins now, RFC 6528 section 3: it grows by one in 4 µs for the same ends, so
    /// that a connection begins above the sequence numbers of the one before; from where is for each pair of ends another secret.
    pub fn sequence(&self, ends: &Ends, now: Instant) -> u32 {
        let ticks = now.total_micros() as u64 / 4;
        (ticks as u32).wrapping_add(self.hash(Use::Sequence, ends) as u32)
    }

    fn hash(&self, of: Use, what: impl Hash) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        (of, what).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::ends;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use smoltcp::wire::{IpAddress, IpEndpoint};

    fn between(port: u16) -> Ends {
        let at = |last, port| IpEndpoint::new(IpAddress::v4(10, 0, 0, last), port);
        ends(at(1, port), at(2, 80))
    }

    #[test]
    fn sequence_numbers_of_the_same_ends_grow_with_time_and_of_others_tell_nothing() {
        let secret = Secret::new([7; KEY]);
        let (early, late) = (Instant::from_micros(1000), Instant::from_micros(1000 + 4_000_000));
        for port in 1..100 {
            let grown = secret.sequence(&between(port), late).wrapping_sub(secret.sequence(&between(port), early));
            assert_eq!(grown, 1_000_000);
        }
        // Differences between neighbouring ports are no more alike than any numbers are.
        let all: Vec<u32> = (1..2000).map(|port| secret.sequence(&between(port), early)).collect();
        let steps: BTreeSet<u32> = all.windows(2).map(|two| two[1].wrapping_sub(two[0]) >> 8).collect();
        assert!(steps.len() > 1990, "{}", steps.len());
        let other = Secret::new([8; KEY]);
        assert!((1..100).all(|port| other.sequence(&between(port), early) != secret.sequence(&between(port), early)));
    }

    #[test]
    fn numbers_do_not_repeat_and_depend_on_every_bit_of_the_key() {
        let mut secret = Secret::new([0; KEY]);
        let first: BTreeSet<u64> = (0..1000).map(|_| secret.number()).collect();
        assert_eq!(first.len(), 1000);
        for bit in 0..KEY * 8 {
            let mut key = [0; KEY];
            key[bit / 8] = 1 << (bit % 8);
            assert!(!first.contains(&Secret::new(key).number()));
        }
    }
}
