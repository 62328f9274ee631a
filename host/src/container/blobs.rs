//! The files of an image's package by name: a folder, or a tar file on the disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tar::{Archive, EntryType};

use super::decode::{Packing, decoded};

/// Longest text (a manifest, an index, a configuration) that is read, in bytes; the largest ones known have a few MiB.
const TEXT: u64 = 32 << 20;

/// Files by name.
pub enum Blobs {
    Folder(PathBuf),
    Tar { file: File, index: HashMap<String, Place> },
}

/// Where a tar file's member is.
#[derive(Clone, Debug)]
pub enum Place {
    At {
        offset: u64,
        length: u64,
    },
    /// A link to another member.
    Link(String),
}

impl Blobs {
    /// Takes a folder.
    pub fn folder(path: PathBuf) -> Self {
        Self::Folder(path)
    }

    /// Takes a tar file, packed or not.
    pub fn tar(mut file: File, spool: impl FnOnce() -> Result<File>) -> Result<Self> {
        let mut head = Vec::new();
        file.by_ref().take(6).read_to_end(&mut head).into_diagnostic()?;
        file.rewind().into_diagnostic()?;
        if Packing::of(&head) != Packing::None {
            let mut unpacked = spool()?;
            io::copy(&mut decoded(file).into_diagnostic()?, &mut unpacked).into_diagnostic()?;
            file = unpacked;
            file.rewind().into_diagnostic()?;
        }
        let mut index = HashMap::new();
        let mut archive = Archive::new(&file);
        for entry in archive.entries_with_seek().into_diagnostic().wrap_err("it is not a tar file")? {
            let entry = entry.into_diagnostic().wrap_err("it is not a tar file, or a damaged one")?;
            let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let place = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    Place::At { offset: entry.raw_file_position(), length: entry.size() }
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let is_symbolic = entry.header().entry_type() == EntryType::Symlink;
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    Place::Link(clean(&if is_symbolic { format!("{folder}/{target}") } else { target }))
                }
                _ => continue,
            };
            index.insert(name, place);
        }
        Ok(Self::Tar { file, index })
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Tar { index, .. } => index.contains_key(name),
        }
    }

    /// Opens a file.
    pub fn open(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let file =
                    File::open(&path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))?;
                Ok(Box::new(BufReader::new(file)))
            }
            Self::Tar { file, index } => {
                let mut place = index.get(name);
                // A link leads to a file or to another link; a chain longer than this is a circle.
                for _ in 0..8 {
                    match place {
                        Some(Place::At { offset, length }) => {
                            let mut file = file.try_clone().into_diagnostic()?;
                            file.seek(SeekFrom::Start(*offset)).into_diagnostic()?;
                            return Ok(Box::new(BufReader::new(file).take(*length)));
                        }
                        Some(Place::Link(target)) => place = index.get(target),
                        None => break,
                    }
                }
                Err(miette!(help = "the file is incomplete: save or copy the image again", "it has no file `{name}`"))
            }
        }
    }

    /// All of a text.
    pub fn text(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name)?.take(TEXT + 1).read_to_end(&mut bytes).into_diagnostic()?;
        if bytes.len() as u64 > TEXT {
            return Err(miette!("`{name}` is longer than any text of an image"));
        }
        Ok(bytes)
    }
}

/// A path without empty parts and dots.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
