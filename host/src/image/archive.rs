//! The boot archive: a USTAR tar file behind a 64-byte header, which the kernel finds at the end of its image.
//!
//! Members are sorted by name; times, owners and modes are constants, so that equal programs make equal archives.

use std::collections::BTreeMap;

use miette::{IntoDiagnostic, Result};

/// The header's first bytes.
pub const MAGIC: [u8; 16] = *b"TESSERA-ARCHIVE\0";
/// The header's length in bytes: magic, length of the tar file (little endian), its BLAKE3 hash, 8 reserved bytes.
pub const HEADER_LENGTH: usize = 64;

/// Packs `members` (path to contents) and puts the header before them.
pub fn pack(members: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, contents) in members {
        let mut member = tar::Header::new_ustar();
        member.set_path(path).into_diagnostic()?;
        member.set_size(contents.len() as u64);
        member.set_mode(if path == "arguments" { 0o444 } else { 0o555 });
        member.set_uid(0);
        member.set_gid(0);
        member.set_mtime(0);
        member.set_cksum();
        tar.append(&member, contents.as_slice()).into_diagnostic()?;
    }
    let tar = tar.into_inner().into_diagnostic()?;
    let mut packed = header(&tar).to_vec();
    packed.extend_from_slice(&tar);
    Ok(packed)
}

fn header(tar: &[u8]) -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    header[..16].copy_from_slice(&MAGIC);
    header[16..24].copy_from_slice(&(tar.len() as u64).to_le_bytes());
    header[24..56].copy_from_slice(blake3::hash(tar).as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn members() -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([
            ("init".to_owned(), vec![1, 2, 3]),
            ("bin/echo".to_owned(), vec![4; 600]),
            ("arguments".to_owned(), b"one\0two".to_vec()),
        ])
    }

    #[test]
    fn the_header_describes_the_tar_file() {
        let packed = pack(&members()).unwrap();
        let (header, tar) = packed.split_at(HEADER_LENGTH);
        assert_eq!(header[..16], MAGIC);
        assert_eq!(u64::from_le_bytes(header[16..24].try_into().unwrap()), tar.len() as u64);
        assert_eq!(header[24..56], *blake3::hash(tar).as_bytes());
        assert_eq!(header[56..], [0; 8]);
        assert_eq!(tar.len() % 512, 0);
    }

    #[test]
    fn members_are_sorted_and_come_back_whole() {
        let packed = pack(&members()).unwrap();
        let mut archive = tar::Archive::new(&packed[HEADER_LENGTH..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            found.push((entry.path().unwrap().display().to_string(), contents));
        }
        assert_eq!(found, members().into_iter().collect::<Vec<_>>());
    }
}
