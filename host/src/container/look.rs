//! Looking into a finished root image: by path, through symbolic links.

use std::io::{self, Read};

use miette::{IntoDiagnostic, Result, miette};
use tessera_rootfs::{Image, Inode, Kind};

/// Links on the way to one file; Linux's limit too.
const LINKS: usize = 40;

/// An image with paths.
#[derive(Clone, Copy)]
pub struct Look<'a>(pub Image<'a>);

impl Look<'_> {
    /// The file at `path`, links followed, also a last one.
    pub fn find(&self, path: &[u8]) -> Result<Inode> {
        let image = self.0;
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
            parts.rev().map(<[u8]>::to_vec).collect()
        };
        let mut rest = parts(path);
        let mut at = image.inode(image.root()).into_diagnostic()?;
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let missing = || miette!("there is no `{}` in the image", String::from_utf8_lossy(path));
            let entry = image.lookup(&at, &part).into_diagnostic()?.ok_or_else(missing)?;
            let found = image.inode(entry.number).into_diagnostic()?;
            if found.kind() != Kind::Link {
                at = found;
                continue;
            }
            links += 1;
            if links > LINKS {
                return Err(miette!("`{}` leads through too many symbolic links", String::from_utf8_lossy(path)));
            }
            let target = image.link_target(&found).into_diagnostic()?;
            if target.starts_with(b"/") {
                at = image.inode(image.root()).into_diagnostic()?;
            }
            rest.extend(parts(target));
        }
        Ok(at)
    }

    /// The first bytes of a regular file.
    pub fn head(&self, inode: &Inode, most: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(inode.size).unwrap_or(most).min(most)];
        let length = self.0.read(inode, 0, &mut bytes).into_diagnostic()?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// A text of the image, at most a MiB of it; empty if it is not there.
    pub fn text(&self, path: &str) -> String {
        let head = self.find(path.as_bytes()).and_then(|inode| self.head(&inode, 1 << 20));
        String::from_utf8_lossy(&head.unwrap_or_default()).into_owned()
    }
}

/// The first bytes of `from`.
pub fn read_head(from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    from.take(most as u64).read_to_end(&mut head)?;
    Ok(head)
}
