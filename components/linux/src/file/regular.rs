//! Files and directories of a file system, opened.

use alloc::sync::Arc;

use super::{OpenFile, Sink, Source};
use crate::errno::{Errno, Result};
use crate::fs::{Attributes, Inode, Kind};

/// An open regular file or directory.
pub struct InodeFile(pub Arc<dyn Inode>);

impl OpenFile for InodeFile {
    fn read(&self, at: u64, to: &mut dyn Sink) -> Result<usize> {
        self.0.read_at(at, to)
    }

    fn write(&self, at: u64, from: &mut dyn Source) -> Result<usize> {
        self.0.write_at(at, from)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        self.0.attributes()
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.0.clone())
    }

    fn memory(&self) -> Result<Arc<crate::memory::Memory>> {
        if self.0.attributes()?.kind == Kind::Directory {
            return Err(Errno::ENODEV);
        }
        self.0.memory()
    }
}
