//! Random numbers for programs: ChaCha20 (RFC 8439) whose key is replaced after every answer, so that what was given out cannot be
//! computed from what is kept ("fast key erasure", Bernstein 2017). The key comes from the entropy source that is routed here.

use tessera_runtime::object::ticks;
use tessera_runtime::sync::Mutex;

/// A generator.
pub struct Random(Mutex<[u32; 8]>);

impl Random {
    /// From 32 bytes that nobody can foretell. Without them it is only hard to guess from outside: the time stamp counter.
    pub fn new(seed: Option<[u8; 32]>) -> Random {
        let mut key = [0; 8];
        match seed {
            Some(seed) => {
                for (word, bytes) in key.iter_mut().zip(seed.as_chunks::<4>().0) {
                    *word = u32::from_le_bytes(*bytes);
                }
            }
            None => {
                for word in &mut key {
                    *word = ticks() as u32;
                }
            }
        }
        Random(Mutex::new(key))
    }

    /// Fills with random bytes.
    pub fn fill(&self, into: &mut [u8]) {
        let mut key = self.0.lock();
        for (counter, chunk) in (1..).zip(into.chunks_mut(64)) {
            let bytes = block(&key, counter, [0; 3]).map(u32::to_le_bytes);
            for (to, from) in chunk.iter_mut().zip(bytes.as_flattened()) {
                *to = *from;
            }
        }
        let next = block(&key, 0, [0; 3]);
        for (to, from) in key.iter_mut().zip(next) {
            *to = from;
        }
    }
}

/// The block function (RFC 8439, section 2.3).
fn block(key: &[u32; 8], counter: u32, nonce: [u32; 3]) -> [u32; 16] {
    let [k0, k1, k2, k3, k4, k5, k6, k7] = *key;
    let [n0, n1, n2] = nonce;
    let start =
        [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, k0, k1, k2, k3, k4, k5, k6, k7, counter, n0, n1, n2];
    let mut state = start;
    macro_rules! quarter {
        ($a:literal $b:literal $c:literal $d:literal) => {
            state[$a] = state[$a].wrapping_add(state[$b]);
            state[$d] = (state[$d] ^ state[$a]).rotate_left(16);
            state[$c] = state[$c].wrapping_add(state[$d]);
            state[$b] = (state[$b] ^ state[$c]).rotate_left(12);
            state[$a] = state[$a].wrapping_add(state[$b]);
            state[$d] = (state[$d] ^ state[$a]).rotate_left(8);
            state[$c] = state[$c].wrapping_add(state[$d]);
            state[$b] = (state[$b] ^ state[$c]).rotate_left(7);
        };
    }
    for _ in 0..10 {
        quarter!(0 4 8 12);
        quarter!(1 5 9 13);
        quarter!(2 6 10 14);
        quarter!(3 7 11 15);
        quarter!(0 5 10 15);
        quarter!(1 6 11 12);
        quarter!(2 7 8 13);
        quarter!(3 4 9 14);
    }
    for (word, first) in state.iter_mut().zip(start) {
        *word = word.wrapping_add(first);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_that_of_the_rfc() {
        // RFC 8439, section 2.3.2.
        let key = core::array::from_fn(|index| {
            let first = 4 * index as u32;
            first | (first + 1) << 8 | (first + 2) << 16 | (first + 3) << 24
        });
        let state = block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(state[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
        assert_eq!(state[12..], [0xd19c_12b5, 0xb94e_16de, 0xe883_d0cb, 0x4e3c_50a2]);
    }

    #[test]
    fn equal_seeds_give_equal_bytes_that_never_repeat() {
        let (one, two) = (Random::new(Some([7; 32])), Random::new(Some([7; 32])));
        let mut bytes = [[0; 100]; 3];
        one.fill(&mut bytes[0]);
        two.fill(&mut bytes[1]);
        two.fill(&mut bytes[2]);
        assert_eq!(bytes[0], bytes[1]);
        assert_ne!(bytes[1], bytes[2]);
    }
}
