//! Plain data as words: what was put comes back, and words that are no value are refused.

use crate::shapes::{Colour, LARGE, Large, Part, Point};
use tessera_runtime::TransportError;
use tessera_runtime::transport::{Plain, decode, decode_into, encoded};

fn words<T: Plain>(value: T) -> Vec<u64> {
    let mut words = Vec::new();
    value.put(&mut |word| words.push(word));
    assert_eq!(words.len(), T::WORDS, "as many as the type says");
    words
}

fn value<T: Plain>(words: &[u64]) -> Option<T> {
    let mut words = words.iter().copied();
    T::get(&mut || words.next())
}

fn assert_travels<T: Plain + PartialEq + std::fmt::Debug>(sent: T) {
    let words = words(sent);
    assert_eq!(value(&words), Some(sent));
    if T::WORDS > 0 {
        assert_eq!(value::<T>(&words[1..]), None, "a word too few");
    }
}

#[test]
fn what_was_put_comes_back() {
    assert_travels(());
    assert_travels(i8::MIN);
    assert_travels(i16::MIN);
    assert_travels([i8::MIN, -1, 0, 1, i8::MAX, 5, 6, 7, 8]);
    assert_travels([i32::MIN, -1, i32::MAX]);
    assert_travels([[u8::MAX; 3]; 5]);
    assert_travels([true, false]);
    assert_travels([u64::MAX; 4]);
    assert_travels(Some([Colour::Red, Colour::Blue]));
    assert_travels(None::<Large>);
    assert_travels(LARGE);
    assert_travels(Part { filled: u32::MAX, of: u64::MAX });
}

#[test]
fn elements_of_an_array_share_words() {
    assert_eq!(words([1_u8, 2, 3, 4, 5, 6, 7, 8, 9]), [0x0807_0605_0403_0201, 9]);
    assert_eq!(words([1_u16, 2, 3, 4, 5]), [0x0004_0003_0002_0001, 5]);
    assert_eq!(words([-1_i32, 2]), [0x0000_0002_ffff_ffff]);
    assert_eq!(words([1_u64, 2]), [1, 2]);
    assert_eq!(words([true, false]), [1, 0]);
}

#[test]
fn words_that_are_no_value_are_refused() {
    assert_eq!(value::<u8>(&[256]), None);
    assert_eq!(value::<i8>(&[256]), None);
    assert_eq!(value::<i32>(&[u64::MAX]), None, "negative numbers are not extended");
    assert_eq!(value::<bool>(&[2]), None);
    assert_eq!(value::<Option<u8>>(&[2, 0]), None);
    assert_eq!(value::<Option<u8>>(&[1, 256]), None);
    assert_eq!(value::<Colour>(&[0]), None);
    assert_eq!(value::<Colour>(&[u64::MAX]), None);
    assert_eq!(value::<[u8; 3]>(&[0x0403_0201]), None, "what lies beyond the last element is zero");
    assert_eq!(value::<[Colour; 2]>(&[1, 2]), None);
    assert_eq!(value::<Point>(&[0, 65536]), None);
}

#[test]
fn slices_of_elements_are_whole() {
    let points = [Point { x: -4, y: 2 }, Point { x: 1, y: u16::MAX }];
    let bytes = encoded(&points);
    assert_eq!(bytes.len(), 32);
    assert_eq!(decode::<Point>(&bytes).as_deref(), Some(&points[..]));
    assert_eq!(decode::<Point>(&bytes[..24]), None);
    assert_eq!(decode::<Point>(&[0xff; 16]), None);
    assert_eq!(decode::<()>(&[]), None, "elements without words have no number");
    let mut back = [Point::default(); 2];
    assert_eq!(decode_into(&bytes, &mut back), Ok(()));
    assert_eq!(back, points);
    assert_eq!(decode_into(&bytes, &mut back[..1]), Err(TransportError::Malformed));
}
