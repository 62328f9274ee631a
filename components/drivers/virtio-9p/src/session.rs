//! A session with a server: the messages that both can take, and the numbers (fids) by which files are spoken of.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::FileError;
use tessera_runtime::sync::Mutex;

use crate::LONGEST;
use crate::message::{Answer, HEADER, Request, kind};

/// The version of the protocol.
const VERSION: &[u8] = b"9P2000.L";
/// Stands for "no fid".
const NONE: u32 = u32::MAX;
/// Most fids at once.
const MOST: u32 = 1 << 16;
/// A message shorter than this cannot carry what clients ask for.
const SHORTEST: u32 = 4096;
/// The longest name.
pub const LONGEST_NAME: usize = 255;

/// Carries a request to the server and its answer back. The answer is at most as long as the longest message.
pub trait Exchange: Send {
    /// # Errors
    /// The server cannot be reached, or never will be again.
    fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, FileError>;
}

/// A session.
pub struct Session {
    link: Mutex<alloc::boxed::Box<dyn Exchange>>,
    fids: Mutex<Fids>,
    /// Bytes of the longest message.
    longest: u32,
}

#[derive(Default)]
struct Fids {
    next: u32,
    freed: BTreeSet<u32>,
}

/// A number for a file; the server is told when it goes.
pub struct Fid {
    session: Arc<Session>,
    number: u32,
    is_given_back: bool,
}

impl Fid {
    fn new(session: &Arc<Session>, number: u32) -> Fid {
        Fid { session: session.clone(), number, is_given_back: false }
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// Gives it back.
    ///
    /// # Errors
    /// What the server had left to refuse.
    pub fn close(mut self) -> Result<(), FileError> {
        self.is_given_back = true;
        self.give_back()
    }

    fn give_back(&self) -> Result<(), FileError> {
        let outcome = self.session.ask(Request::new(kind::CLUNK).u32(self.number), |_| Ok(()));
        self.session.fids.lock().freed.insert(self.number);
        outcome
    }

    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Fid {
    fn drop(&mut self) {
        if !self.is_given_back {
            // A server that refuses has forgotten it all the same (clunk(5)).
            let _ = self.give_back();
        }
    }
}

impl Session {
    /// Agrees with the server on the protocol and asks for the root of what it serves.
    ///
    /// # Errors
    /// The server cannot be reached, speaks another protocol, or refuses.
    pub fn begin(link: alloc::boxed::Box<dyn Exchange>) -> Result<Fid, FileError> {
        let mut session =
            Session { link: Mutex::new(link), fids: Mutex::new(Fids::default()), longest: LONGEST as u32 };
        let request = Request::new(kind::VERSION).u32(LONGEST as u32).text(VERSION);
        session.longest = session.ask(request, |mut answer| {
            let longest = answer.u32()?;
            let speaks = answer.text()? == VERSION && (SHORTEST..=LONGEST as u32).contains(&longest);
            if speaks { Ok(longest) } else { Err(FileError::NotSupported) }
        })?;
        let session = Arc::new(session);
        let root = session.new_fid()?;
        // As nobody in particular: the server acts as whoever started it.
        let request = Request::new(kind::ATTACH).u32(root).u32(NONE).text(b"").text(b"").u32(NONE);
        session.take(root, request)
    }

    /// Bytes that fit into a message beside `other` bytes of contents.
    pub fn room(&self, other: usize) -> usize {
        (self.longest as usize).saturating_sub(HEADER).saturating_sub(other)
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// The server's, or [`FileError::Device`] for an answer that is none.
    pub fn ask<R>(
        &self,
        request: Request,
        read: impl FnOnce(Answer<'_>) -> Result<R, FileError>,
    ) -> Result<R, FileError> {
        let kind = request.kind();
        let request = request.finish();
        if request.len() > self.longest as usize {
            return Err(FileError::TooLarge);
        }
        let answer = self.link.lock().exchange(&request)?;
        read(Answer::open(&answer, kind)?)
    }

    fn new_fid(&self) -> Result<u32, FileError> {
        let mut fids = self.fids.lock();
        if let Some(number) = fids.freed.pop_first() {
            return Ok(number);
        }
        if fids.next >= MOST {
            return Err(FileError::LimitReached);
        }
        let number = fids.next;
        fids.next = fids.next.saturating_add(1);
        Ok(number)
    }

    /// Makes a request that gives a new fid its meaning.
    fn take(self: &Arc<Self>, number: u32, request: Request) -> Result<Fid, FileError> {
        match self.ask(request, |_| Ok(())) {
            Ok(()) => Ok(Fid::new(self, number)),
            Err(error) => {
                self.fids.lock().freed.insert(number);
                Err(error)
            }
        }
    }

    /// A new fid for what is called `name` in the directory `from`; for `from` itself without a name.
    ///
    /// # Errors
    /// The server's.
    pub fn walk(self: &Arc<Self>, from: &Fid, name: Option<&[u8]>) -> Result<Fid, FileError> {
        let number = self.new_fid()?;
        let request = Request::new(kind::WALK).u32(from.number).u32(number);
        let request = match name {
            Some(name) => request.u16(1).text(name),
            None => request.u16(0),
        };
        let wanted = u16::from(name.is_some());
        let walked = self.ask(request, |mut answer| answer.u16());
        match walked {
            Ok(found) if found == wanted => Ok(Fid::new(self, number)),
            other => {
                self.fids.lock().freed.insert(number);
                // A name that is not there can be told by walking less far (walk(5)).
                Err(other.err().unwrap_or(FileError::NotFound))
            }
        }
    }

    /// A new fid for an extended attribute of `of`, to be read; and its bytes. Without a name: for the list of names.
    ///
    /// # Errors
    /// The server's.
    pub fn walk_attribute(self: &Arc<Self>, of: &Fid, name: &[u8]) -> Result<(Fid, u64), FileError> {
        let number = self.new_fid()?;
        let request = Request::new(kind::WALK_ATTRIBUTE).u32(of.number).u32(number).text(name);
        match self.ask(request, |mut answer| answer.u64()) {
            Ok(size) => Ok((Fid::new(self, number), size)),
            Err(error) => {
                self.fids.lock().freed.insert(number);
                Err(error)
            }
        }
    }
}

/// Checks a name of a directory's: the server is not asked for one that leads elsewhere.
///
/// # Errors
/// It is none.
pub fn check_name(name: &[u8]) -> Result<(), FileError> {
    if name.len() > LONGEST_NAME {
        return Err(FileError::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(FileError::InvalidArgument);
    }
    Ok(())
}
