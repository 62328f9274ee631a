//! `tee`, `vmsplice`: between pipes, and between a pipe and memory.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::file::pipe::End;
use crate::file::transfer::Pieces;
use crate::file::{Description, OpenFile};
use crate::task::Context;

/// `SPLICE_F_MOVE`, `_NONBLOCK`, `_MORE`, `_GIFT`.
const FLAGS: u32 = 0xf;
const NON_BLOCKING: u32 = 2;

fn end(context: &Context, descriptor: i32) -> Result<(Arc<Description>, Arc<End>)> {
    let description = context.description(descriptor)?;
    let end = description.concrete::<End>().ok_or(Errno::EINVAL)?;
    Ok((description, end))
}

/// Tries once, or until it works.
fn attempt(
    context: &mut Context,
    description: &Description,
    flags: u32,
    mut attempt: impl FnMut(&mut Context) -> Result<u64>,
) -> Result<u64> {
    if flags & NON_BLOCKING != 0 { attempt(context) } else { super::io::blocking(context, description, attempt) }
}

pub fn tee(context: &mut Context, from: i32, to: i32, length: u64, flags: u32) -> Result<u64> {
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let ((source, from), (target, to)) = (end(context, from)?, end(context, to)?);
    if !source.is_readable() || !target.is_writable() {
        return Err(Errno::EBADF);
    }
    if from.is_of(&to) {
        return Err(Errno::EINVAL);
    }
    if length == 0 {
        return Ok(0);
    }
    let most = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = {
        let mut found = alloc::vec::Vec::new();
        attempt(context, &source, flags, |_| {
            found = from.peek(most)?;
            Ok(found.len() as u64)
        })?;
        found
    };
    if bytes.is_empty() {
        return Ok(0);
    }
    attempt(context, &target, flags, |_| {
        to.write(0, &mut crate::file::transfer::Bytes(bytes.as_slice())).map(|written| written as u64)
    })
}

pub fn vmsplice(context: &mut Context, descriptor: i32, pieces: u64, count: u64, flags: u32) -> Result<u64> {
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let description = context.description(descriptor)?;
    let end = description.concrete::<End>().ok_or(Errno::EBADF)?;
    let pieces = context.read_pieces(pieces, count)?;
    let total: u64 = pieces.iter().map(|piece| piece.length).sum();
    if total == 0 {
        return Ok(0);
    }
    if !description.is_writable() {
        return attempt(context, &description, flags, |context| {
            end.read(0, &mut Pieces::new(&context.memory, &pieces)).map(|read| read as u64)
        });
    }
    let mut done = 0;
    while done < total {
        // It waits for room for the first byte, not for all.
        let flags = if done > 0 { flags | NON_BLOCKING } else { flags };
        let step = attempt(context, &description, flags, |context| {
            end.write(0, &mut Pieces::behind(&context.memory, &pieces, done)).map(|written| written as u64)
        });
        match step {
            Ok(0) => break,
            Ok(written) => done += written,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
