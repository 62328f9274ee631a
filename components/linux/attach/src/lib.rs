//! What passes between `tessera run` and the container that it runs, over one stream of bytes in each direction (a virtio console).
//!
//! The stream carries *frames*: a kind, a length of two bytes (little endian), and so many bytes. Each side skips kinds that it does not
//! know, so either may be the newer one. Input is sent only as far as the other side has granted it: what concerns the terminal or the
//! end is never stuck behind input that nobody reads. The end is agreed on: the guest says [`ToHost::Ended`] after all output and
//! waits for [`ToGuest::Farewell`], so nothing that was written is lost with the machine.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used))]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of input that the host may send before any was taken.
pub const GRANTED: usize = 64 << 10;
/// Most bytes in a frame.
pub const MOST: usize = 16 << 10;
/// Bytes before a frame's contents.
const HEADER: usize = 3;

/// Where output was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Output,
    Error,
}

impl Stream {
    /// The number of its descriptor.
    pub fn number(self) -> u8 {
        match self {
            Stream::Output => 1,
            Stream::Error => 2,
        }
    }

    fn of(number: u8) -> Option<Stream> {
        [Stream::Output, Stream::Error].into_iter().find(|stream| stream.number() == number)
    }
}

/// What the host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGuest {
    /// For standard input, or keys of the terminal.
    Input(Vec<u8>),
    /// There will be no more input.
    InputEnds,
    /// The terminal's size: rows, columns, and both in pixels.
    Size([u16; 4]),
    /// A signal for the first process, by its number in Linux.
    Signal(u8),
    /// Nobody reads what is written there any more.
    Closed(Stream),
    /// All that was said until the end has been taken.
    Farewell,
}

/// What the guest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToHost {
    Written(Stream, Vec<u8>),
    /// So many bytes of input were taken: so many more may be sent.
    Taken(u32),
    /// Something happened, and when: nanoseconds since boot.
    Mark(u64, String),
    /// A message for the person who runs the container.
    Notice(String),
    /// The first process ended, with this code (128 and the signal's number if one ended it).
    Ended(u8),
}

mod kind {
    pub const INPUT: u8 = b'i';
    pub const INPUT_ENDS: u8 = b'e';
    pub const SIZE: u8 = b's';
    pub const SIGNAL: u8 = b'k';
    pub const CLOSED: u8 = b'c';
    pub const FAREWELL: u8 = b'f';
    pub const OUTPUT: u8 = b'1';
    pub const ERROR: u8 = b'2';
    pub const TAKEN: u8 = b't';
    pub const MARK: u8 = b'm';
    pub const NOTICE: u8 = b'n';
    pub const ENDED: u8 = b'x';
}

/// Appends a frame; of contents that are too long, the beginning.
fn put(kind: u8, contents: &[u8], to: &mut Vec<u8>) {
    let contents = contents.get(..MOST).unwrap_or(contents);
    to.push(kind);
    to.extend_from_slice(&(contents.len() as u16).to_le_bytes());
    to.extend_from_slice(contents);
}

/// Appends bytes as any number of frames, none of them empty.
fn put_all(kind: u8, bytes: &[u8], to: &mut Vec<u8>) {
    bytes.chunks(MOST).for_each(|part| put(kind, part, to));
}

/// Something that is sent in frames.
pub trait Message: Sized {
    /// Appends its frames.
    fn write(&self, to: &mut Vec<u8>);
    /// Reads a frame; nothing if it is none of this side's.
    fn read(kind: u8, contents: &[u8]) -> Option<Self>;
}

impl Message for ToGuest {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            ToGuest::Input(bytes) => put_all(kind::INPUT, bytes, to),
            ToGuest::InputEnds => put(kind::INPUT_ENDS, &[], to),
            ToGuest::Size(size) => put(kind::SIZE, size.map(u16::to_le_bytes).as_flattened(), to),
            ToGuest::Signal(number) => put(kind::SIGNAL, &[*number], to),
            ToGuest::Closed(stream) => put(kind::CLOSED, &[stream.number()], to),
            ToGuest::Farewell => put(kind::FAREWELL, &[], to),
        }
    }

    fn read(kind: u8, contents: &[u8]) -> Option<ToGuest> {
        Some(match kind {
            kind::INPUT => ToGuest::Input(contents.into()),
            kind::INPUT_ENDS => ToGuest::InputEnds,
            kind::SIZE => {
                let [a, b, c, d, e, f, g, h] = *contents.first_chunk()?;
                ToGuest::Size([[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes))
            }
            kind::SIGNAL => ToGuest::Signal(*contents.first()?),
            kind::CLOSED => ToGuest::Closed(Stream::of(*contents.first()?)?),
            kind::FAREWELL => ToGuest::Farewell,
            _ => return None,
        })
    }
}

impl Message for ToHost {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            ToHost::Written(Stream::Output, bytes) => put_all(kind::OUTPUT, bytes, to),
            ToHost::Written(Stream::Error, bytes) => put_all(kind::ERROR, bytes, to),
            ToHost::Taken(bytes) => put(kind::TAKEN, &bytes.to_le_bytes(), to),
            ToHost::Mark(time, what) => {
                let mut contents = Vec::from(time.to_le_bytes());
                contents.extend_from_slice(what.as_bytes());
                put(kind::MARK, &contents, to);
            }
            ToHost::Notice(text) => put(kind::NOTICE, text.as_bytes(), to),
            ToHost::Ended(code) => put(kind::ENDED, &[*code], to),
        }
    }

    fn read(kind: u8, contents: &[u8]) -> Option<ToHost> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(match kind {
            kind::OUTPUT => ToHost::Written(Stream::Output, contents.into()),
            kind::ERROR => ToHost::Written(Stream::Error, contents.into()),
            kind::TAKEN => ToHost::Taken(u32::from_le_bytes(*contents.first_chunk()?)),
            kind::MARK => {
                let (time, what) = contents.split_first_chunk()?;
                ToHost::Mark(u64::from_le_bytes(*time), text(what))
            }
            kind::NOTICE => ToHost::Notice(text(contents)),
            kind::ENDED => ToHost::Ended(*contents.first()?),
            _ => return None,
        })
    }
}

/// Puts frames together from pieces of a stream.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Takes a piece of the stream; answers the messages that it completes. At most one frame is kept.
    pub fn take<M: Message>(&mut self, piece: &[u8]) -> Vec<M> {
        self.bytes.extend_from_slice(piece);
        let mut messages = Vec::new();
        let mut rest = self.bytes.as_slice();
        while let Some(([kind, low, high], after)) = rest.split_first_chunk::<HEADER>() {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let Some((contents, after)) = after.split_at_checked(length) else { break };
            messages.extend(M::read(*kind, contents));
            rest = after;
        }
        let kept = rest.len();
        let done = self.bytes.len().saturating_sub(kept);
        self.bytes.drain(..done);
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn through<M: Message>(messages: &[M], piece: usize) -> Vec<M> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.write(&mut bytes));
        let mut frames = Frames::default();
        let read = bytes.chunks(piece).flat_map(|part| frames.take(part)).collect();
        assert!(frames.bytes.is_empty());
        read
    }

    #[test]
    fn what_is_said_arrives_in_pieces_of_any_size() {
        let to_guest = [
            ToGuest::Size([24, 80, 640, 65535]),
            ToGuest::Input(vec![0, 255, b'\n', 3]),
            ToGuest::Signal(15),
            ToGuest::InputEnds,
            ToGuest::Closed(Stream::Error),
            ToGuest::Farewell,
        ];
        let to_host = [
            ToHost::Written(Stream::Output, (0..=255).collect()),
            ToHost::Written(Stream::Error, b"no".to_vec()),
            ToHost::Taken(70_000),
            ToHost::Mark(u64::MAX, "first".into()),
            ToHost::Notice("denied".into()),
            ToHost::Ended(137),
        ];
        for piece in [1, 2, 3, 7, 100_000] {
            assert_eq!(through(&to_guest, piece), to_guest);
            assert_eq!(through(&to_host, piece), to_host);
        }
    }

    #[test]
    fn much_is_sent_in_several_frames_and_nothing_in_none() {
        let much = vec![7; 3 * MOST + 1];
        let parts = through(&[ToGuest::Input(much.clone())], 4096);
        assert_eq!(parts.len(), 4);
        let all = parts.into_iter().flat_map(|part| match part {
            ToGuest::Input(bytes) => bytes,
            _ => Vec::new(),
        });
        assert_eq!(all.collect::<Vec<_>>(), much);
        assert_eq!(through(&[ToGuest::Input(Vec::new())], 1), []);
    }

    #[test]
    fn what_is_not_known_or_too_short_is_skipped() {
        let mut bytes = Vec::new();
        put(b'?', b"from the future", &mut bytes);
        put(kind::SIZE, &[1, 2], &mut bytes);
        put(kind::SIGNAL, &[], &mut bytes);
        ToGuest::Signal(2).write(&mut bytes);
        assert_eq!(Frames::default().take::<ToGuest>(&bytes), [ToGuest::Signal(2)]);
        assert_eq!(Frames::default().take::<ToHost>(&bytes), []);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_taken(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut frames = Frames::default();
            for piece in &pieces {
                let _ = frames.take::<ToGuest>(piece);
            }
            // Never more than one frame is kept.
            prop_assert!(frames.bytes.len() < HEADER + usize::from(u16::MAX));
        }
    }
}
