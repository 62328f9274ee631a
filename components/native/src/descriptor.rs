//! Descriptors: the numbers by which a program names what it has open.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_runtime::sync::Mutex;

use crate::console::Console;
use crate::counter::Counter;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::poll::ready;
use crate::socket::Socket;
use crate::wait::Queue;

/// Most that can be open at once.
const LIMIT: usize = 16 << 10;

/// Something open. Clones are the same.
#[derive(Clone)]
pub enum Descriptor {
    /// Standard input: nobody types.
    Input,
    /// Standard output or standard error.
    Console(Arc<Console>),
    /// A file or a directory.
    File(Arc<OpenFile>),
    /// A socket.
    Socket(Arc<Socket>),
    /// A counter.
    Counter(Arc<Counter>),
}

impl Descriptor {
    /// Reads; 0 at the end.
    ///
    /// # Errors
    /// What the thing itself refuses; `EBADF` if it is for output only.
    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        match self {
            Descriptor::Input => Ok(0),
            Descriptor::Console(_) => Err(Errno::EBADF),
            Descriptor::File(file) => file.read(into),
            Descriptor::Socket(socket) => socket.receive(into, false),
            Descriptor::Counter(counter) => counter.read(into),
        }
    }

    /// Writes; answers how much was taken.
    ///
    /// # Errors
    /// What the thing itself refuses; `EBADF` if it is for input only.
    pub fn write(&self, from: &[u8]) -> Result<usize> {
        match self {
            Descriptor::Input => Err(Errno::EBADF),
            Descriptor::Console(console) => {
                console.write(from);
                Ok(from.len())
            }
            Descriptor::File(file) => file.write(from),
            Descriptor::Socket(socket) => socket.send(from),
            Descriptor::Counter(counter) => counter.write(from),
        }
    }

    /// What is ready: bits of [`ready`].
    pub fn ready(&self) -> i16 {
        match self {
            Descriptor::Input | Descriptor::File(_) => ready::IN | ready::OUT,
            Descriptor::Console(_) => ready::OUT,
            Descriptor::Socket(socket) => socket.ready(),
            Descriptor::Counter(counter) => ready::OUT | if counter.is_ready() { ready::IN } else { 0 },
        }
    }

    /// Where to wait for a change of that, if there can be one.
    pub fn queue(&self) -> Option<&Queue> {
        match self {
            Descriptor::Input | Descriptor::Console(_) | Descriptor::File(_) => None,
            Descriptor::Socket(socket) => Some(&socket.queue),
            Descriptor::Counter(counter) => Some(&counter.queue),
        }
    }

    /// Says whether calls answer `EAGAIN` in place of waiting. What never waits does not care.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        match self {
            Descriptor::Input | Descriptor::Console(_) | Descriptor::File(_) => {}
            Descriptor::Socket(socket) => socket.nonblocking.store(nonblocking, Ordering::Relaxed),
            Descriptor::Counter(counter) => counter.nonblocking.store(nonblocking, Ordering::Relaxed),
        }
    }

    /// Whether calls answer `EAGAIN` in place of waiting.
    pub fn is_nonblocking(&self) -> bool {
        match self {
            Descriptor::Input | Descriptor::Console(_) | Descriptor::File(_) => false,
            Descriptor::Socket(socket) => socket.nonblocking.load(Ordering::Relaxed),
            Descriptor::Counter(counter) => counter.nonblocking.load(Ordering::Relaxed),
        }
    }

    /// The socket that it is.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn socket(&self) -> Result<&Arc<Socket>> {
        match self {
            Descriptor::Socket(socket) => Ok(socket),
            _ => Err(Errno::ENOTSOCK),
        }
    }

    /// The file that it is.
    ///
    /// # Errors
    /// `ESPIPE`: it is none, and has no place to read from.
    pub fn file(&self) -> Result<&Arc<OpenFile>> {
        match self {
            Descriptor::File(file) => Ok(file),
            _ => Err(Errno::ESPIPE),
        }
    }
}

/// All that is open, by number.
pub struct Table(Mutex<Vec<Option<Descriptor>>>);

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// Standard input, output and error.
    #[must_use]
    pub fn new() -> Table {
        let console = Descriptor::Console(Arc::new(Console::default()));
        Table(Mutex::new([Some(Descriptor::Input), Some(console.clone()), Some(console)].into()))
    }

    /// The descriptor of this number.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, number: i32) -> Result<Descriptor> {
        let number = usize::try_from(number).map_err(|_| Errno::EBADF)?;
        self.0.lock().get(number).cloned().flatten().ok_or(Errno::EBADF)
    }

    /// Gives it the lowest number from `lowest` on that is free.
    ///
    /// # Errors
    /// `EMFILE`: too much is open.
    pub fn add(&self, descriptor: Descriptor, lowest: usize) -> Result<i32> {
        let mut all = self.0.lock();
        let free = all.iter().enumerate().skip(lowest).find(|(_, place)| place.is_none()).map(|(number, _)| number);
        let number = free.unwrap_or(all.len().max(lowest));
        if number >= LIMIT {
            return Err(Errno::EMFILE);
        }
        if number >= all.len() {
            all.resize_with(number + 1, || None);
        }
        if let Some(place) = all.get_mut(number) {
            *place = Some(descriptor);
        }
        Ok(number as i32)
    }

    /// Takes a number back. What it named goes with its last descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&self, number: i32) -> Result<()> {
        let number = usize::try_from(number).map_err(|_| Errno::EBADF)?;
        let taken = self.0.lock().get_mut(number).and_then(Option::take);
        // Dropped here, not under the lock: a socket's end is a call to another component.
        taken.map(drop).ok_or(Errno::EBADF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_given() {
        let table = Table::new();
        let counter = || Descriptor::Counter(Arc::new(Counter::new(0, true)));
        assert_eq!([table.add(counter(), 0), table.add(counter(), 0)], [Ok(3), Ok(4)]);
        assert_eq!(table.close(3), Ok(()));
        assert_eq!(table.close(3), Err(Errno::EBADF));
        assert_eq!([table.add(counter(), 0), table.add(counter(), 10)], [Ok(3), Ok(10)]);
        assert_eq!(table.add(counter(), 0), Ok(5));
        for bad in [-1, 6, i32::MAX, i32::MIN] {
            assert!(table.get(bad).is_err());
        }
        assert_eq!(table.add(counter(), LIMIT), Err(Errno::EMFILE));
    }

    #[test]
    fn standard_streams_have_their_directions() {
        let table = Table::new();
        assert_eq!(table.get(0).unwrap().read(&mut [0; 4]), Ok(0));
        assert_eq!(table.get(0).unwrap().write(b"x"), Err(Errno::EBADF));
        assert_eq!(table.get(1).unwrap().write(b"x"), Ok(1));
        assert_eq!(table.get(2).unwrap().read(&mut [0; 4]), Err(Errno::EBADF));
    }
}
