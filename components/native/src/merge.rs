//! Sorting with a comparison that may contradict itself, as one of C may: that makes some order here, where `sort_by` would panic.

use alloc::vec::Vec;

/// Sorts by merging; equal ones stay in their order. `is_more`: whether the first comes behind the second.
pub fn sorted(mut these: Vec<&[u8]>, is_more: impl Fn(&[u8], &[u8]) -> bool) -> Vec<&[u8]> {
    let mut width = 1;
    while width < these.len() {
        let mut merged = Vec::with_capacity(these.len());
        for pair in these.chunks(width * 2) {
            let (mut one, mut other) = pair.split_at(width.min(pair.len()));
            while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
                if is_more(first, second) {
                    merged.push(*second);
                    other = others;
                } else {
                    merged.push(*first);
                    one = rest;
                }
            }
            merged.extend_from_slice(one);
            merged.extend_from_slice(other);
        }
        these = merged;
        width *= 2;
    }
    these
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    #[test]
    fn what_is_sorted_is_in_order_and_equal_ones_stay_in_theirs() {
        for length in 0..50_u8 {
            let words: Vec<[u8; 2]> = (0..length).map(|at| [at.wrapping_mul(37) % 11, at]).collect();
            let these: Vec<&[u8]> = words.iter().map(<[u8; 2]>::as_slice).collect();
            let mut expected = these.clone();
            expected.sort_by_key(|word| word[0]);
            assert_eq!(sorted(these, |one, other| one[0] > other[0]), expected);
        }
    }

    #[test]
    fn a_comparison_that_contradicts_itself_loses_nothing() {
        let turn = Cell::new(0_u32);
        let words: Vec<[u8; 1]> = (0..100).map(|at| [at]).collect();
        let these = words.iter().map(<[u8; 1]>::as_slice).collect();
        let mut after = sorted(these, |_, _| {
            turn.set(turn.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
            turn.get() >> 31 == 1
        });
        after.sort();
        assert_eq!(after, words);
    }
}
