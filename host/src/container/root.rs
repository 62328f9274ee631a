//! A root file system while it is being put together, and the image that it becomes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tessera_rootfs::build::{self, Blob, Content, Existing, Metadata, Node, Spool, Tree};

use super::settings::Settings;
use crate::workspace;

/// Most bytes of files in one root file system. The guest holds it in memory.
const LIMIT: u64 = 16 << 30;

/// The tree so far, with the contents of its files in a nameless file under the target folder.
pub struct Building {
    pub tree: Tree,
    spool: Spool<File>,
}

impl Building {
    pub fn new() -> Result<Self> {
        let folder = workspace::target().join("tessera");
        let spool = fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
        let spool = spool.into_diagnostic().wrap_err_with(|| format!("cannot write to {}", folder.display()))?;
        Ok(Self { tree: Tree::default(), spool: Spool::new(spool, LIMIT) })
    }

    /// Keeps the contents of a file.
    pub fn add(&mut self, from: &mut dyn Read) -> Result<Blob> {
        self.spool.add(from).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => miette!(
                help = "the guest holds all files in its memory: leave large ones out",
                "the files are larger than {} GiB together",
                LIMIT >> 30
            ),
            _ => miette!("{error}"),
        })
    }

    /// Puts a small file of ours at `path`.
    pub fn put_file(&mut self, path: &str, permissions: u16, contents: &[u8]) -> Result<()> {
        let blob = self.add(&mut &*contents)?;
        self.put(path, permissions, Content::Regular(blob))
    }

    /// Puts something of ours at `path`, owned by the superuser.
    pub fn put(&mut self, path: &str, permissions: u16, content: Content) -> Result<()> {
        let node = Node { metadata: Metadata { permissions, ..Metadata::default() }, content };
        match self.tree.put(path.as_bytes(), node, Existing::KeepLink) {
            Ok(_) => Ok(()),
            Err(error) => Err(miette!("the root file system has no place for `/{path}`: {error}")),
        }
    }

    /// The contents of the regular file at `path`; nothing if there is none.
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let Ok(found) = self.tree.find(path.as_bytes(), true) else { return Ok(None) };
        let Content::Regular(blob) = self.tree.node(found).content else { return Ok(None) };
        self.spool.head(&blob, u64::MAX).into_diagnostic().map(Some)
    }

    /// What every container finds, whatever its image has: the directories that the guest mounts on, and the name
    /// service's files for a machine whose network is QEMU's.
    pub fn finish(&mut self) -> Result<()> {
        for (path, permissions) in
            [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("etc", 0o755), ("tmp", 0o1777)]
        {
            if self.tree.find(path.as_bytes(), true).is_err() {
                self.put(path, permissions, Content::Directory(Default::default()))?;
            }
        }
        // As Docker and others do, whatever the image has there.
        self.put_file("etc/resolv.conf", 0o644, b"nameserver 10.0.2.3\n")?;
        self.put_file("etc/hostname", 0o644, b"tessera\n")?;
        self.put_file("etc/hosts", 0o644, b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\ttessera\n")
    }

    /// Writes the image to `path`, whole or not at all.
    pub fn write(mut self, path: &Path) -> Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let partial = path.with_extension(format!("partial-{}", std::process::id()));
        let mut file = File::create(&partial).into_diagnostic().wrap_err_with(cannot)?;
        let written = build::write(&self.tree, &mut self.spool, &mut file);
        if written.is_err() {
            // The error that is told is the first one.
            let _ = fs::remove_file(&partial);
        }
        written.into_diagnostic().wrap_err_with(cannot)?;
        fs::rename(&partial, path).into_diagnostic().wrap_err_with(cannot)
    }
}

/// A root file system with what its source says of it.
pub struct Unpacked {
    pub building: Building,
    pub settings: Settings,
}
