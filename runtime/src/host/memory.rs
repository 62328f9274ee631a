//! Memory objects: files without a name, really mapped, so that two mappings of one object show the same memory.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tessera_abi::syscall::map_flags;
use tessera_abi::{Error, PAGE};

/// A memory object.
pub struct Memory(File);

impl Memory {
    /// `size` bytes, rounded up to pages, of zeros.
    pub fn new(size: u64) -> Result<Arc<Memory>, Error> {
        // SAFETY: the name is a C string; the call touches nothing else.
        let descriptor = unsafe { libc::memfd_create(c"vmo".as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(Error::NoQuota);
        }
        // SAFETY: the descriptor is new and nobody else's.
        let memory = Memory(unsafe { File::from_raw_fd(descriptor) });
        memory.resize(size)?;
        Ok(Arc::new(memory))
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Changes the size.
    pub fn resize(&self, size: u64) -> Result<(), Error> {
        let size = size.checked_next_multiple_of(PAGE).ok_or(Error::BadArgument)?;
        self.0.set_len(size).map_err(|_| Error::BadArgument)
    }

    /// Copies out; answers the bytes that were there.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<u64, Error> {
        match self.0.read_at(to, offset) {
            Ok(0) | Err(_) => Err(Error::BadArgument),
            Ok(copied) => Ok(copied as u64),
        }
    }

    /// Copies in, as far as the object goes; answers the bytes copied.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<u64, Error> {
        let room = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let from = from.get(..from.len().min(room)).unwrap_or(&[]);
        if room == 0 {
            return Err(Error::BadArgument);
        }
        self.0.write_at(from, offset).map(|copied| copied as u64).map_err(|_| Error::BadArgument)
    }

    /// Other memory with the same content.
    pub fn copy(&self) -> Result<Arc<Memory>, Error> {
        let copy = Memory::new(self.size())?;
        let mut page = [0; PAGE as usize];
        for offset in (0..self.size()).step_by(PAGE as usize) {
            self.read(offset, &mut page)?;
            copy.write(offset, &page)?;
        }
        Ok(copy)
    }

    /// Maps a part of it where the host finds room.
    pub fn map(&self, offset: u64, address: u64, length: u64, flags: u64) -> Result<u64, Error> {
        let end = offset.checked_add(length).ok_or(Error::BadArgument)?;
        let aligned = offset.is_multiple_of(PAGE) && length.is_multiple_of(PAGE) && length != 0;
        if !aligned || end > self.size() || address != 0 || flags & (map_flags::FIXED | map_flags::EXECUTE) != 0 {
            return Err(Error::BadArgument);
        }
        let write = if flags & map_flags::WRITE != 0 { libc::PROT_WRITE } else { 0 };
        let (file, offset) = (self.0.as_raw_fd(), libc::off_t::try_from(offset).map_err(|_| Error::BadArgument)?);
        let (length, protection) = (length as usize, libc::PROT_READ | write);
        // SAFETY: a new mapping where the host chooses takes nothing away.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), length, protection, libc::MAP_SHARED, file, offset) };
        if at == libc::MAP_FAILED { Err(Error::NoQuota) } else { Ok(at as u64) }
    }
}

/// Removes a mapping.
///
/// # Safety
/// Nothing may use the range any more.
pub unsafe fn unmap(address: u64, length: u64) -> Result<(), Error> {
    // SAFETY: passed on to the caller.
    match unsafe { libc::munmap(address as *mut libc::c_void, length as usize) } {
        0 => Ok(()),
        _ => Err(Error::BadArgument),
    }
}
