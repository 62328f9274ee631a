//! Reading whole files by their paths, from file systems that may die meanwhile.

use alloc::vec;
use alloc::vec::Vec;

use tessera_runtime::Cap;

use crate::{FileError, Node};

/// How often a file system that dies is asked again.
const TRIES: usize = 100;
/// Bytes that are read at once: what a server with little memory takes, too.
const PIECE: usize = 64 << 10;

/// What the file at `path` below `root` holds. A file system that dies under it is asked again, from the root on, since all else that it handed out
/// is gone with it.
///
/// # Errors
/// [`FileError::TooLarge`] if the file has more than `most` bytes; else what the file system says.
pub fn contents(root: &Cap<dyn Node>, path: &[u8], most: usize) -> Result<Vec<u8>, FileError> {
    let mut found = read(root, path, most);
    for _ in 1..TRIES {
        if !matches!(found, Err(FileError::Transport(_))) {
            break;
        }
        found = read(root, path, most);
    }
    found
}

fn read(root: &Cap<dyn Node>, path: &[u8], most: usize) -> Result<Vec<u8>, FileError> {
    let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let node = names.try_fold(root.clone(), |node, name| node.lookup(name))?;
    let size = usize::try_from(node.attributes()?.size).unwrap_or(usize::MAX);
    if size > most {
        return Err(FileError::TooLarge);
    }
    let mut bytes = vec![0; size];
    let mut length = 0;
    // A file that was cut meanwhile ends earlier.
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        let piece = rest.len().min(PIECE);
        match node.read(length as u64, rest.get_mut(..piece).unwrap_or_default())? as usize {
            0 => break,
            count => length = length.saturating_add(count),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicU32, Ordering};

    use tessera_runtime::TransportError;

    use super::*;
    use crate::{
        Appended, AttributeChange, Attributes, Entries, FileSystemStatistics, Memory, NodeKind, Owner, Rename,
        SetAttribute, Time, Unlink,
    };

    /// A directory that holds the file `file` and is both, of a file system that dies under the first calls.
    struct Dying(AtomicU32, u32);

    impl Dying {
        fn call(&self) -> Result<(), FileError> {
            let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_ok() { Err(FileError::Transport(TransportError::PeerDied)) } else { Ok(()) }
        }
    }

    const CONTENTS: &[u8] = b"contents";

    /// Methods that are never called.
    macro_rules! refused {
        ($($name:ident($($argument:ty),*) -> $answer:ty;)*) => {
            $(fn $name(&self, $(_: $argument),*) -> Result<$answer, FileError> { Err(FileError::NotSupported) })*
        };
    }

    impl Node for Dying {
        fn attributes(&self) -> Result<Attributes, FileError> {
            self.call()?;
            let (owner, time) = (Owner { user: 0, group: 0 }, Time::default());
            Ok(Attributes {
                kind: NodeKind::File,
                mode: 0,
                owner,
                size: CONTENTS.len() as u64,
                links: 1,
                number: 1,
                device: 0,
                blocks: 0,
                accessed: time,
                modified: time,
                changed: time,
            })
        }

        fn lookup(&self, name: &[u8]) -> Result<Cap<dyn Node>, FileError> {
            self.call()?;
            match name {
                b"file" => Ok(Cap::local(Arc::new(Dying(AtomicU32::new(0), self.1)))),
                _ => Err(FileError::NotFound),
            }
        }

        fn read(&self, at: u64, into: &mut [u8]) -> Result<u64, FileError> {
            self.call()?;
            // As few at once as it likes, and no more than it has now.
            let rest = CONTENTS.get(at as usize..self.1 as usize).unwrap_or_default();
            let count = rest.len().min(into.len()).min(3);
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count as u64)
        }

        refused! {
            set_attributes(AttributeChange) -> ();
            create(&[u8], NodeKind, u32, Owner, u64) -> Cap<dyn Node>;
            create_unnamed(u32, Owner) -> Cap<dyn Node>;
            symlink(&[u8], &[u8], Owner) -> Cap<dyn Node>;
            link(&[u8], Cap<dyn Node>) -> ();
            unlink(&[u8], Unlink) -> ();
            rename(&[u8], Cap<dyn Node>, &[u8], Rename) -> ();
            entries(u64, &mut [u8]) -> Entries;
            target(&mut [u8]) -> u64;
            write(u64, &[u8]) -> u64;
            append(&[u8]) -> Appended;
            memory() -> Memory;
            synchronise() -> ();
            attribute(&[u8], &mut [u8]) -> u64;
            set_attribute(&[u8], &[u8], SetAttribute) -> ();
            remove_attribute(&[u8]) -> ();
            attribute_names(&mut [u8]) -> u64;
            statistics() -> FileSystemStatistics;
        }
    }

    fn dying(deaths: u32, bytes: u32) -> Cap<dyn Node> {
        Cap::local(Arc::new(Dying(AtomicU32::new(deaths), bytes)))
    }

    #[test]
    fn a_file_is_read_whole_whoever_dies() {
        assert_eq!(contents(&dying(0, 8), b"/file", 8).as_deref(), Ok(CONTENTS));
        assert_eq!(contents(&dying(5, 8), b"file/file/", 8).as_deref(), Ok(CONTENTS));
        assert_eq!(contents(&dying(0, 5), b"file", 8).as_deref(), Ok(&CONTENTS[..5]), "cut meanwhile");
        let died = Err(FileError::Transport(TransportError::PeerDied));
        assert_eq!(contents(&dying(u32::MAX, 8), b"file", 8), died, "not for ever");
    }

    #[test]
    fn what_is_not_there_or_too_large_is_told_at_once() {
        assert_eq!(contents(&dying(0, 8), b"none", 8), Err(FileError::NotFound));
        assert_eq!(contents(&dying(0, 8), b"file", 7), Err(FileError::TooLarge));
    }
}
