//! The boot archive: the programs that an image brings along.

use tar_no_std::TarArchiveRef;
use tessera_abi::Error;

use crate::handle::Result;
use crate::mapping::Mapping;
use crate::object::{Access, Vmo};

/// Bytes before the tar file, and where among them its length stands.
const HEADER: usize = 512;
const HEADER_LENGTH: u64 = 16;

/// The boot archive, shown in this process's space.
#[derive(Debug)]
pub struct Archive {
    mapping: Mapping,
    length: usize,
}

impl Archive {
    /// Opens the archive in `memory`, which the kernel gave to the first program and nobody can write.
    pub fn new(memory: &Vmo) -> Result<Archive> {
        let mapping = Mapping::new(memory, 0, memory.size()?, Access::Read)?;
        let mut length = [0; 8];
        memory.read(HEADER_LENGTH, &mut length)?;
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| Error::BadArgument)?;
        Ok(Archive { mapping, length })
    }

    /// The content of a member.
    pub fn member(&self, path: &str) -> Result<&[u8]> {
        // SAFETY: nobody holds a handle to the archive with the right to write it: the kernel makes none.
        let bytes = unsafe { self.mapping.bytes() };
        let archive =
            HEADER.checked_add(self.length).and_then(|end| bytes.get(HEADER..end)).ok_or(Error::BadArgument)?;
        let archive = TarArchiveRef::new(archive).map_err(|_| Error::BadArgument)?;
        let member = archive.entries().find(|entry| entry.filename().as_str() == Ok(path));
        member.map(|member| member.data()).ok_or(Error::NotFound)
    }

    /// Where a member's content lies in the archive's memory, in bytes. Files other than programs begin on a page, so
    /// that they can be mapped.
    pub fn place(&self, path: &str) -> Result<core::ops::Range<u64>> {
        let content = self.member(path)?;
        let start = self.place_of(content)?;
        Ok(start..start.checked_add(content.len() as u64).ok_or(Error::NotFound)?)
    }

    /// Where in the archive's memory a member's content begins, in bytes. Of a program, the code begins on a page.
    pub fn place_of(&self, content: &[u8]) -> Result<u64> {
        // SAFETY: as in `member`.
        let start = unsafe { self.mapping.bytes() }.as_ptr().addr();
        content.as_ptr().addr().checked_sub(start).map(|place| place as u64).ok_or(Error::NotFound)
    }

    /// The file of program `name`.
    pub fn program(&self, name: &str) -> Result<&[u8]> {
        let mut path = [0; 100];
        let length = 4 + name.len();
        let bytes = path.get_mut(..length).ok_or(Error::NotFound)?;
        for (to, from) in bytes.iter_mut().zip("bin/".bytes().chain(name.bytes())) {
            *to = from;
        }
        self.member(core::str::from_utf8(bytes).map_err(|_| Error::NotFound)?)
    }
}
