//! Descriptors of processes: pidfd_open(2). Ready to be read once the process has ended.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::{OpenFile, ready};
use crate::errno::Result;
use crate::fs::{Attributes, Kind};
use crate::task::process::Life;
use crate::task::{Process, WaitQueue};

/// A process, whatever becomes of its number.
pub struct ProcessFile(pub Arc<Process>);

impl OpenFile for ProcessFile {
    fn information(&self) -> String {
        // -1: it was waited for, and has no number any more.
        let number = if *self.0.life.lock() == Life::Gone { -1 } else { self.0.number };
        format!("Pid:\t{number}\nNSpid:\t{number}\n")
    }

    fn ready(&self) -> u32 {
        if self.0.is_alive() { 0 } else { ready::IN }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.ended)
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::anonymous(Kind::Regular, 0o600, 0))
    }

    fn label(&self) -> String {
        String::from("anon_inode:[pidfd]")
    }
}
