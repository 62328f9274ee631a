//! A new program's stack: arguments, environment, auxiliary vector (System V ABI, AMD64 supplement, section 3.4.1).

use alloc::vec::Vec;

use crate::errno::{Errno, Result};

/// The longest argument (`MAX_ARG_STRLEN`).
pub const LONGEST: usize = 128 << 10;

/// Entries of the auxiliary vector.
pub mod aux {
    pub const END: u64 = 0;
    pub const HEADS: u64 = 3;
    pub const HEAD_SIZE: u64 = 4;
    pub const HEAD_COUNT: u64 = 5;
    pub const PAGE_SIZE: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const USER: u64 = 11;
    pub const EFFECTIVE_USER: u64 = 12;
    pub const GROUP: u64 = 13;
    pub const EFFECTIVE_GROUP: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const CAPABILITIES: u64 = 16;
    pub const TICKS: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const FILE_NAME: u64 = 31;
    pub const VDSO: u64 = 33;
    pub const MINIMUM_SIGNAL_STACK: u64 = 51;
}

/// A stack's content, to be placed so that it ends at `top`.
pub struct Built {
    pub bytes: Vec<u8>,
    /// The stack pointer at the start: the address of the first byte.
    pub pointer: u64,
    /// Where the arguments' and the environment's texts are: start, end.
    pub arguments: (u64, u64),
    pub environment: (u64, u64),
    /// The auxiliary vector, for /proc.
    pub auxiliary: Vec<u8>,
}

/// Lays out a stack below `top`. `auxiliary` are the entries that do not point into the stack.
///
/// # Errors
/// `E2BIG` if it takes more than `most` bytes.
pub fn build(
    top: u64,
    most: u64,
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
    file_name: &[u8],
    random: [u8; 16],
    auxiliary: &[(u64, u64)],
) -> Result<Built> {
    let texts = arguments.iter().chain(environment);
    let length: u64 = texts.fold(0_u64, |sum, text| sum.saturating_add(text.len() as u64 + 1 + 8));
    if length > most {
        return Err(Errno::E2BIG);
    }
    // From the top down: the file's name, platform, random bytes, then the texts in order.
    let mut strings: Vec<u8> = Vec::new();
    let mut places = Vec::new();
    for text in arguments.iter().chain(environment) {
        places.push(strings.len() as u64);
        strings.extend_from_slice(text);
        strings.push(0);
    }
    let split = places.get(arguments.len()).copied().unwrap_or(strings.len() as u64);
    let texts_end = strings.len() as u64;
    let platform = strings.len() as u64;
    strings.extend_from_slice(b"x86_64\0");
    let name = strings.len() as u64;
    strings.extend_from_slice(file_name);
    strings.push(0);
    let random_at = strings.len() as u64;
    strings.extend_from_slice(&random);
    let strings_at = (top - 8 - strings.len() as u64) & !15;

    let mut vector: Vec<u64> = Vec::new();
    for (key, value) in auxiliary {
        vector.extend_from_slice(&[*key, *value]);
    }
    vector.extend_from_slice(&[aux::PLATFORM, strings_at + platform]);
    vector.extend_from_slice(&[aux::FILE_NAME, strings_at + name]);
    vector.extend_from_slice(&[aux::RANDOM, strings_at + random_at, aux::END, 0]);

    let mut words: Vec<u64> = Vec::new();
    words.push(arguments.len() as u64);
    let (first, rest) = places.split_at(arguments.len().min(places.len()));
    words.extend(first.iter().map(|place| strings_at + place));
    words.push(0);
    words.extend(rest.iter().map(|place| strings_at + place));
    words.push(0);
    words.extend_from_slice(&vector);
    let pointer = (strings_at - 8 * words.len() as u64) & !15;
    let mut bytes: Vec<u8> = Vec::with_capacity((top - pointer) as usize);
    for word in &words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize((strings_at - pointer) as usize, 0);
    bytes.extend_from_slice(&strings);
    Ok(Built {
        bytes,
        pointer,
        arguments: (strings_at, strings_at + split),
        environment: (strings_at + split, strings_at + texts_end),
        auxiliary: vector.iter().flat_map(|word| word.to_le_bytes()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_a_program_reads_is_where_the_abi_says() {
        let arguments = vec![b"sh".to_vec(), b"-c".to_vec()];
        let environment = vec![b"A=1".to_vec()];
        let top = 0x7000_0000;
        let built = build(top, 4096, &arguments, &environment, b"/bin/sh", [7; 16], &[(aux::PAGE_SIZE, 4096)]).unwrap();
        assert!(built.pointer.is_multiple_of(16) && built.pointer + built.bytes.len() as u64 <= top);
        let word = |index: usize| u64::from_le_bytes(built.bytes[8 * index..8 * index + 8].try_into().unwrap());
        let text = |address: u64| {
            let bytes = &built.bytes[(address - built.pointer) as usize..];
            &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap()]
        };
        assert_eq!(word(0), 2);
        assert_eq!((text(word(1)), text(word(2)), word(3)), (&b"sh"[..], &b"-c"[..], 0));
        assert_eq!((text(word(4)), word(5)), (&b"A=1"[..], 0));
        assert_eq!((word(6), word(7)), (aux::PAGE_SIZE, 4096));
        assert_eq!((word(8), text(word(9))), (aux::PLATFORM, &b"x86_64"[..]));
        assert_eq!((word(10), text(word(11))), (aux::FILE_NAME, &b"/bin/sh"[..]));
        assert_eq!((word(12), word(14)), (aux::RANDOM, aux::END));
        assert_eq!(text(built.environment.0), b"A=1");
        assert_eq!(built.arguments, (word(1), word(4)));
    }

    #[test]
    fn too_many_arguments_are_refused() {
        let arguments = vec![vec![b'x'; 100]; 50];
        assert_eq!(build(0x7000_0000, 4096, &arguments, &[], b"/x", [0; 16], &[]).err(), Some(Errno::E2BIG));
    }
}
