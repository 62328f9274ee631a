//! Requests and answers as bytes: `size[4] type[1] tag[2]` and what belongs to the type, little endian.

use alloc::vec::Vec;

use tessera_interfaces::FileError;

/// Types of requests. An answer's is one more.
pub mod kind {
    pub const STATFS: u8 = 8;
    pub const OPEN: u8 = 12;
    pub const CREATE: u8 = 14;
    pub const SYMLINK: u8 = 16;
    pub const MAKE_NODE: u8 = 18;
    pub const READ_LINK: u8 = 22;
    pub const GET_ATTRIBUTES: u8 = 24;
    pub const SET_ATTRIBUTES: u8 = 26;
    pub const WALK_ATTRIBUTE: u8 = 30;
    pub const CREATE_ATTRIBUTE: u8 = 32;
    pub const READ_DIRECTORY: u8 = 40;
    pub const SYNCHRONISE: u8 = 50;
    pub const LINK: u8 = 70;
    pub const MAKE_DIRECTORY: u8 = 72;
    pub const RENAME: u8 = 74;
    pub const UNLINK: u8 = 76;
    pub const VERSION: u8 = 100;
    pub const ATTACH: u8 = 104;
    pub const WALK: u8 = 110;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    /// The answer that is an error.
    pub const ERROR: u8 = 7;
}

/// The size of what stands before a message's contents.
pub const HEADER: usize = 7;
/// The tag of all requests, and the one of [`kind::VERSION`].
const TAG: u16 = 0;
const NO_TAG: u16 = 0xffff;

/// A request that is being written.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    pub fn new(kind: u8) -> Request {
        let mut bytes = Vec::from([0, 0, 0, 0, kind]);
        let tag = if kind == kind::VERSION { NO_TAG } else { TAG };
        bytes.extend_from_slice(&tag.to_le_bytes());
        Request(bytes)
    }

    pub fn u16(mut self, value: u16) -> Request {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Request {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Request {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Bytes with their number before them.
    pub fn text(self, text: &[u8]) -> Request {
        let mut request = self.u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        request.0.extend_from_slice(text.get(..usize::from(u16::MAX)).unwrap_or(text));
        request
    }

    /// Bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Request {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn kind(&self) -> u8 {
        self.0.get(4).copied().unwrap_or_default()
    }

    /// The whole message.
    pub fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        if let Some(size) = self.0.first_chunk_mut() {
            *size = length.to_le_bytes();
        }
        self.0
    }
}

/// The contents of an answer, read from the front. What is too short is an error of the server.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    /// Checks the header of the answer to a request of `kind`.
    ///
    /// # Errors
    /// What the server answered; [`FileError::Device`] if that is no answer to such a request.
    pub fn open(bytes: &'a [u8], kind: u8) -> Result<Answer<'a>, FileError> {
        let (head, contents) = bytes.split_at_checked(HEADER).ok_or(FileError::Device)?;
        let mut head = Answer(head);
        let (size, found) = (head.u32()?, head.u8()?);
        let tag = head.u16()?;
        let expected = if kind == kind::VERSION { NO_TAG } else { TAG };
        if size as usize != bytes.len() || tag != expected {
            return Err(FileError::Device);
        }
        match found {
            kind::ERROR => Err(FileError::of_errno(Answer(contents).u32()?)),
            found if found == kind.wrapping_add(1) => Ok(Answer(contents)),
            _ => Err(FileError::Device),
        }
    }

    /// Contents that were taken out of an answer.
    pub fn of(bytes: &'a [u8]) -> Answer<'a> {
        Answer(bytes)
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], FileError> {
        let (now, later) = self.0.split_at_checked(count).ok_or(FileError::Device)?;
        self.0 = later;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let (now, later) = self.0.split_first_chunk().ok_or(FileError::Device)?;
        self.0 = later;
        Ok(*now)
    }

    pub fn u8(&mut self) -> Result<u8, FileError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, FileError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, FileError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, FileError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes with their number of two bytes before them.
    pub fn text(&mut self) -> Result<&'a [u8], FileError> {
        let count = self.u16()?;
        self.bytes(count.into())
    }
}
