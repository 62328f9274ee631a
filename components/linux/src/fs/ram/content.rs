//! What is in a file: bytes of the image until they are written, then bytes on the heap, or pages when they are many.

use alloc::vec::Vec;

use tessera_rootfs::NodeNumber;

use super::{Content, LARGEST, Node, SMALL, SMALLER, State};
use crate::errno::{Errno, Result};
use crate::file::transfer::Source;
use crate::fs::{Kind, seal};
use crate::memory::{Memory, PAGE, reserve};

impl Node {
    /// The content in a form that can be written, at least `size` bytes long.
    pub(super) fn writable<'a>(&self, state: &'a mut State, size: u64) -> Result<&'a mut Content> {
        if size > LARGEST {
            return Err(Errno::EFBIG);
        }
        // The heap is small: when half of it is used, larger contents go where guests' memory is.
        let small = if reserve::is_half_used() { SMALLER } else { SMALL };
        if let Content::Image(number, length) = state.content {
            state.content = self.content_of(number, length, length.max(size) > small)?;
        }
        if let Content::Bytes(bytes) = &mut state.content {
            if size > small {
                let memory = Memory::new(size.next_multiple_of(PAGE))?;
                memory.vmo().write(0, bytes)?;
                state.content = Content::Pages(memory, bytes.len() as u64);
            } else if bytes.len() < size as usize {
                reserve::check(size as usize - bytes.len())?;
                bytes.resize(size as usize, 0);
            }
        }
        if let Content::Pages(memory, length) = &mut state.content
            && *length < size
        {
            let pages = memory.vmo().size()?;
            if pages < size {
                // Growing by a fraction, so that many small writes do not resize at each.
                memory.resize((size + (size / 8).min(16 << 20)).next_multiple_of(PAGE))?;
            }
            *length = size;
        }
        match &mut state.content {
            content @ (Content::Bytes(_) | Content::Pages(..)) => Ok(content),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(super) fn content_of(&self, number: NodeNumber, length: u64, as_pages: bool) -> Result<Content> {
        let image = self.system.image.as_ref().ok_or(Errno::EIO)?;
        let inode = image.inode(number).map_err(|_| Errno::EIO)?;
        if !as_pages {
            let mut bytes = alloc::vec![0; length as usize];
            let read = image.read(&inode, 0, &mut bytes).map_err(|_| Errno::EIO)?;
            return if read == bytes.len() { Ok(Content::Bytes(bytes)) } else { Err(Errno::EIO) };
        }
        let memory = Memory::new(length.max(1).next_multiple_of(PAGE))?;
        let mut buffer = [0; 4096];
        let mut at = 0;
        while at < length {
            let read = image.read(&inode, at, &mut buffer).map_err(|_| Errno::EIO)?;
            if read == 0 {
                return Err(Errno::EIO);
            }
            memory.vmo().write(at, buffer.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        Ok(Content::Pages(memory, length))
    }

    pub(super) fn resize(&self, state: &mut State, size: u64) -> Result<()> {
        if self.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        if self.kind != Kind::Regular {
            return Err(Errno::EINVAL);
        }
        let before = state.size();
        if size < before && state.is_sealed(seal::SHRINK) || size > before && state.is_sealed(seal::GROW) {
            return Err(Errno::EPERM);
        }
        if size >= before {
            self.writable(state, size)?;
            return Ok(());
        }
        if size == 0 && matches!(state.content, Content::Image(..)) {
            state.content = Content::Bytes(Vec::new());
            return Ok(());
        }
        match self.writable(state, 0)? {
            Content::Bytes(bytes) => bytes.truncate(size as usize),
            Content::Pages(memory, length) => {
                let end = size.next_multiple_of(PAGE);
                memory.resize(end.max(PAGE))?;
                memory.cut_copies(end)?;
                if size == 0 {
                    memory.vmo().discard(0, PAGE)?;
                } else if end > size {
                    let zeroes = [0; PAGE as usize];
                    memory.vmo().write(size, zeroes.get(..(end - size) as usize).unwrap_or_default())?;
                }
                *length = size;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Takes bytes in through a buffer, and puts them from `at` on.
    pub(super) fn write_through(&self, buffer: &mut [u8], at: u64, from: &mut dyn Source) -> Result<usize> {
        let mut done = 0;
        while from.left() > 0 {
            let length = buffer.len().min(from.left());
            let part = buffer.get_mut(..length).unwrap_or_default();
            let taken = match from.take(part) {
                Ok(taken) => taken,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let bytes = part.get(..taken).unwrap_or_default();
            let start = at.checked_add(done).ok_or(Errno::EFBIG)?;
            let end = start.checked_add(taken as u64).ok_or(Errno::EFBIG)?;
            let mut state = self.state.lock();
            let grows = end > state.size();
            if state.is_sealed(seal::WRITE | seal::FUTURE_WRITE) || grows && state.is_sealed(seal::GROW) {
                return if done > 0 { Ok(done as usize) } else { Err(Errno::EPERM) };
            }
            let room = if grows && end > SMALL { reserve::check_files() } else { Ok(()) };
            let stored = match room.and_then(|()| self.writable(&mut state, end)) {
                Ok(Content::Bytes(content)) => {
                    content.get_mut(start as usize..end as usize).ok_or(Errno::EIO)?.copy_from_slice(bytes);
                    Ok(taken)
                }
                Ok(Content::Pages(memory, _)) => memory.vmo().write(start, bytes).map_err(|_| Errno::ENOSPC),
                Ok(_) => Err(Errno::EINVAL),
                Err(Errno::ENOMEM) => Err(Errno::ENOSPC),
                Err(error) => Err(error),
            };
            match stored {
                Ok(stored) => done += stored as u64,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if taken == 0 {
                break;
            }
        }
        Ok(done as usize)
    }
}
