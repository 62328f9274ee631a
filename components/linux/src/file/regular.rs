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

    fn regular(&self) -> Result<Option<Attributes>> {
        let attributes = self.0.attributes()?;
        Ok((attributes.kind == Kind::Regular).then_some(attributes))
    }

    fn inode(&self) -> Option<Arc<dyn Inode>> {
        Some(self.0.clone())
    }

    fn closed_by(&self, process: i32) {
        // POSIX: closing any descriptor of a file gives up the process's locks on it.
        if super::lock::is_any()
            && let Ok(attributes) = self.0.attributes()
        {
            super::lock::clear_all((attributes.device, attributes.number), super::lock::Owner::Process(process));
        }
    }

    fn memory(&self) -> Result<Arc<crate::memory::Memory>> {
        if self.0.attributes()?.kind == Kind::Directory {
            return Err(Errno::ENODEV);
        }
        self.0.memory()
    }
}
