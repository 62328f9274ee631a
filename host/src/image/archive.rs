//! The boot archive: a USTAR tar file behind a 512-byte header, which the kernel finds at the end of its image.
//!
//! Members are sorted by name, those that are mapped first; times, owners and modes are constants, so that equal programs make equal archives.
//! The contents of large files begin on a page, those of programs so that their code does: so they can be mapped where they lie. Before them
//! stand others, as far as there is room, and a member of padding.

use std::borrow::Cow;
use std::collections::BTreeMap;

use miette::{IntoDiagnostic, Result, miette};

use super::elf;

/// The header's first bytes.
pub const MAGIC: [u8; 16] = *b"TESSERA-ARCHIVE\0";
/// The header's length in bytes: magic, length of the tar file (little endian), its BLAKE3 hash, the rest reserved. It
/// is a tar file's block, and the archive begins on a page.
pub const HEADER_LENGTH: usize = 512;

const PAGE: usize = 4096;
/// The name of members that are there to move the next one to a page.
const PADDING: &str = "padding";
/// The member that is the first program, and how the names of others begin.
const INIT: &str = "init";
const PROGRAMS: &str = "bin/";

/// An archive that is being packed.
type Archive = tar::Builder<Vec<u8>>;

/// The members of an archive: path to contents.
pub type Members<'a> = BTreeMap<String, Cow<'a, [u8]>>;

/// Packs `members` and puts the header before them.
pub fn pack(members: &Members) -> Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(members.values().map(|contents| contents.len() + 2 * PAGE).sum());
    packed.resize(HEADER_LENGTH, 0);
    let mut tar = tar::Builder::new(packed);
    // A first program that starts no others is copied, and the archive given up: that takes no more memory, and less of the file.
    let starts_others = members.keys().any(|path| path.starts_with(PROGRAMS));
    let is_on_page = |path: &str, contents: &[u8]| (path != INIT || starts_others) && mapped(path, contents).is_some();
    let (on_pages, mut others): (Vec<_>, Vec<_>) =
        members.iter().partition(|(path, contents)| is_on_page(path, contents));
    for (path, contents) in on_pages {
        // The position at which what is mapped would begin: behind this member's header.
        let begin = |tar: &Archive| tar.get_ref().len() + HEADER_LENGTH + mapped(path, contents).unwrap_or_default();
        let gap = |tar: &Archive| begin(tar).next_multiple_of(PAGE) - begin(tar);
        while let Some(fits) = others.iter().position(|(_, other)| whole(other) <= gap(&tar)) {
            let (path, contents) = others.remove(fits);
            append(&mut tar, path, contents)?;
        }
        if let Some(padding) = gap(&tar).checked_sub(HEADER_LENGTH) {
            append(&mut tar, PADDING, &vec![0; padding])?;
        }
        append(&mut tar, path, contents)?;
    }
    for (path, contents) in others {
        append(&mut tar, path, contents)?;
    }
    let mut packed = tar.into_inner().into_diagnostic()?;
    let (header, tar) = packed.split_at_mut(HEADER_LENGTH);
    header[..16].copy_from_slice(&MAGIC);
    header[16..24].copy_from_slice(&(tar.len() as u64).to_le_bytes());
    header[24..56].copy_from_slice(blake3::hash(tar).as_bytes());
    Ok(packed)
}

/// The members of a packed archive.
pub fn unpack(packed: &[u8]) -> Result<Members<'_>> {
    let tar = packed.get(HEADER_LENGTH..).unwrap_or_default();
    let mut members = Members::new();
    for entry in tar::Archive::new(tar).entries().into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = entry.raw_file_position() as usize;
        let contents = tar.get(place..place.saturating_add(entry.size() as usize));
        if path != PADDING {
            members.insert(path, contents.ok_or_else(|| miette!("the archive is cut short"))?.into());
        }
    }
    Ok(members)
}

/// The bytes that a member takes.
fn whole(contents: &[u8]) -> usize {
    HEADER_LENGTH + contents.len().next_multiple_of(HEADER_LENGTH)
}

/// From where on the contents of a member are mapped, if they are.
fn mapped(path: &str, contents: &[u8]) -> Option<usize> {
    match path {
        _ if path == INIT || path.starts_with(PROGRAMS) => {
            elf::code(contents).filter(|code| code.is_multiple_of(HEADER_LENGTH))
        }
        _ => (contents.len() >= PAGE).then_some(0),
    }
}

fn append(tar: &mut Archive, path: &str, contents: &[u8]) -> Result<()> {
    let is_program = path == INIT || path.starts_with(PROGRAMS);
    let mut member = tar::Header::new_ustar();
    member.set_path(path).into_diagnostic()?;
    member.set_size(contents.len() as u64);
    member.set_mode(if is_program { 0o555 } else { 0o444 });
    member.set_uid(0);
    member.set_gid(0);
    member.set_mtime(0);
    member.set_cksum();
    tar.append(&member, contents).into_diagnostic()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn members() -> Members<'static> {
        BTreeMap::from([
            ("init".to_owned(), vec![1, 2, 3].into()),
            ("bin/echo".to_owned(), vec![4; 6000].into()),
            ("arguments".to_owned(), b"one\0two".to_vec().into()),
        ])
    }

    /// The members, with the places of their contents.
    fn unpack(packed: &[u8]) -> Vec<(String, usize, Vec<u8>)> {
        let mut archive = tar::Archive::new(&packed[HEADER_LENGTH..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            let place = HEADER_LENGTH + entry.raw_file_position() as usize;
            (entry.path().unwrap().display().to_string(), place, contents)
        });
        entries.collect()
    }

    #[test]
    fn the_header_describes_the_tar_file() {
        let packed = pack(&members()).unwrap();
        let (header, tar) = packed.split_at(HEADER_LENGTH);
        assert_eq!(header[..16], MAGIC);
        assert_eq!(u64::from_le_bytes(header[16..24].try_into().unwrap()), tar.len() as u64);
        assert_eq!(header[24..56], *blake3::hash(tar).as_bytes());
        assert!(header[56..].iter().all(|byte| *byte == 0));
        assert_eq!(tar.len() % 512, 0);
    }

    #[test]
    fn what_was_packed_can_be_unpacked_and_packed_again() {
        let mut members = members();
        members.insert("root.img".to_owned(), vec![5; 4096].into());
        let packed = pack(&members).unwrap();
        let unpacked = super::unpack(&packed).unwrap();
        assert_eq!(unpacked, members);
        assert_eq!(pack(&unpacked).unwrap(), packed);
        assert!(super::unpack(&packed[..packed.len() / 2]).is_err());
    }

    #[test]
    fn members_are_sorted_and_come_back_whole() {
        let found = unpack(&pack(&members()).unwrap());
        let found: Vec<_> = found.into_iter().map(|(path, _, contents)| (path, contents.into())).collect();
        assert_eq!(found, members().into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn small_members_stand_where_padding_would() {
        let image = ("root.img".to_owned(), Cow::from(vec![5; 4096]));
        let alone = pack(&BTreeMap::from([image.clone()])).unwrap();
        let both = pack(&BTreeMap::from([image, ("small".to_owned(), vec![6; 2000].into())])).unwrap();
        assert_eq!(alone.len(), both.len());
    }

    #[test]
    fn files_that_are_mapped_begin_on_a_page_wherever_they_come() {
        for before in 0..9 {
            let mut members = members();
            members.insert("arguments".to_owned(), vec![b'x'; before * 512].into());
            members.insert("root.img".to_owned(), vec![5; 4096].into());
            members.insert("second.img".to_owned(), vec![6; 4097].into());
            let found = unpack(&pack(&members).unwrap());
            for (name, place, contents) in found.iter().filter(|(name, ..)| name.ends_with(".img")) {
                assert_eq!(place % PAGE, 0, "{name} with {before} blocks before");
                assert_eq!(members[name], contents.as_slice());
            }
            let padding: usize =
                found.iter().filter(|(name, ..)| name == PADDING).map(|(_, _, contents)| contents.len()).sum();
            assert!(padding < 2 * PAGE);
        }
    }
}
