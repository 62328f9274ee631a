//! Paths: how a name leads to an inode, and who may go there (path_resolution(7)).

pub mod known;

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_runtime::sync::Mutex;

use super::{Attributes, Inode, Kind};
use crate::errno::{Errno, Result};
use crate::task::{Context, Credentials};

/// The longest path, with its ending zero (`PATH_MAX`).
pub const LONGEST_PATH: usize = 4096;
/// The longest name.
const LONGEST_NAME: usize = 255;
/// Links that one walk follows.
const MOST_LINKS: u32 = 40;

/// An inode as it was reached: what `..` and getcwd(2) need.
pub struct Place {
    pub inode: Arc<dyn Inode>,
    pub parent: Option<Arc<Place>>,
    pub name: Vec<u8>,
}

impl Drop for Place {
    /// Lets go of those above one by one: of a deep directory's, each in the other's end would take more than a stack.
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(mut place) = above.and_then(Arc::into_inner) {
            above = place.parent.take();
        }
    }
}

impl Place {
    /// The root of a tree.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Place> {
        Arc::new(Place { inode, parent: None, name: Vec::new() })
    }

    /// Whether `root` is above, or is this one.
    pub fn is_below(self: &Arc<Place>, root: &Arc<Place>) -> bool {
        core::iter::successors(Some(self), |place| place.parent.as_ref()).any(|place| Arc::ptr_eq(place, root))
    }

    /// The path from `root`, or from the top if `root` is not above.
    pub fn path(self: &Arc<Place>, root: &Arc<Place>) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(parent) = at.parent.as_ref().filter(|_| !Arc::ptr_eq(at, root)) {
            names.push(at.name.as_slice());
            at = parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }
}

/// The file systems that cover directories of others.
#[derive(Default)]
pub struct Mounts(Mutex<Vec<Mount>>);

struct Mount {
    device: u64,
    number: u64,
    root: Arc<dyn Inode>,
}

impl Mounts {
    /// Covers a directory.
    pub fn add(&self, on: &Arc<dyn Inode>, root: Arc<dyn Inode>) -> Result<()> {
        let attributes = on.attributes()?;
        self.0.lock().push(Mount { device: attributes.device, number: attributes.number, root });
        known::changed();
        Ok(())
    }

    /// What covers a directory, or the directory itself.
    pub fn cover(&self, inode: Arc<dyn Inode>) -> Arc<dyn Inode> {
        let mounts = self.0.lock();
        if mounts.is_empty() {
            return inode;
        }
        let Ok(attributes) = inode.attributes() else { return inode };
        if attributes.kind != Kind::Directory {
            return inode;
        }
        let found =
            mounts.iter().rev().find(|mount| (mount.device, mount.number) == (attributes.device, attributes.number));
        found.map_or(inode, |mount| mount.root.clone())
    }
}

/// Where a process is (`CLONE_FS` shares it).
pub struct FsContext {
    pub mounts: Arc<Mounts>,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    root: Arc<Place>,
    directory: Arc<Place>,
    mask: u32,
}

impl FsContext {
    /// At the root.
    pub fn new(root: Arc<Place>, mounts: Arc<Mounts>) -> FsContext {
        FsContext { mounts, state: Mutex::new(State { directory: root.clone(), root, mask: 0o022 }) }
    }

    /// A copy that changes independently.
    pub fn copy(&self) -> FsContext {
        FsContext { mounts: self.mounts.clone(), state: Mutex::new(self.state.lock().clone()) }
    }

    pub fn root(&self) -> Arc<Place> {
        self.state.lock().root.clone()
    }

    pub fn directory(&self) -> Arc<Place> {
        self.state.lock().directory.clone()
    }

    pub fn set_root(&self, place: Arc<Place>) {
        self.state.lock().root = place;
    }

    pub fn set_directory(&self, place: Arc<Place>) {
        self.state.lock().directory = place;
    }

    pub fn mask(&self) -> u32 {
        self.state.lock().mask
    }

    /// Sets the mask for new files; answers the old one.
    pub fn set_mask(&self, mask: u32) -> u32 {
        core::mem::replace(&mut self.state.lock().mask, mask & 0o777)
    }
}

/// What access is wanted, as the bits of access(2).
pub mod access {
    pub const EXECUTE: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const READ: u32 = 4;
}

/// Whether someone may do something with an inode.
pub fn permitted(attributes: &Attributes, who: &Credentials, wanted: u32) -> Result<()> {
    if who.overrides_permissions() {
        // Root executes only what somebody may execute.
        if wanted & access::EXECUTE == 0 || attributes.kind == Kind::Directory || attributes.permissions & 0o111 != 0 {
            return Ok(());
        }
        return Err(Errno::EACCES);
    }
    let shift = if who.file_user == attributes.uid {
        6
    } else if who.is_in_group(attributes.gid) {
        3
    } else {
        0
    };
    if attributes.permissions >> shift & 7 & wanted == wanted { Ok(()) } else { Err(Errno::EACCES) }
}

/// Checks access to an inode.
pub fn check(inode: &Arc<dyn Inode>, who: &Credentials, wanted: u32) -> Result<()> {
    permitted(&inode.attributes()?, who, wanted)
}

/// How to walk.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Walk {
    /// Whether a link at the end is not followed.
    pub no_follow: bool,
    /// Whether no link is followed at all (`RESOLVE_NO_SYMLINKS`).
    pub no_links: bool,
    /// Whether no link is followed that leads somewhere by itself (`RESOLVE_NO_MAGICLINKS`).
    pub no_jumps: bool,
    /// Whether the starting directory's file system must not be left (`RESOLVE_NO_XDEV`).
    pub no_crossing: bool,
    pub within: Within,
}

/// What a walk must not leave.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Within {
    #[default]
    All,
    /// The starting directory: whoever would is refused (`RESOLVE_BENEATH`).
    Start,
    /// The starting directory, which is the root to this walk (`RESOLVE_IN_ROOT`).
    Root,
}

/// Where a walk ended.
#[derive(Clone)]
pub struct Walked {
    /// The directory of the last name.
    pub parent: Arc<Place>,
    /// The last name; empty, `.` or `..` where the path ends so. Shared: walks that were made before give it out again and again.
    pub name: Arc<[u8]>,
    /// What has that name, if anything.
    pub place: Option<Arc<Place>>,
    /// Whether the path ended with a slash.
    pub wants_directory: bool,
}

impl Walked {
    /// What was found.
    pub fn found(self) -> Result<Arc<Place>> {
        self.place.ok_or(Errno::ENOENT)
    }

    /// The directory and the free name, for what is to be made.
    pub fn free(self) -> Result<(Arc<Place>, Arc<[u8]>)> {
        match self.place {
            Some(_) => Err(Errno::EEXIST),
            None => Ok((self.parent, self.name)),
        }
    }
}

/// Walks a path from a directory.
#[cfg_attr(target_os = "none", optimize(speed))]
pub fn walk(context: &Context, start: Arc<Place>, path: &[u8], how: Walk) -> Result<Walked> {
    if (Walk { no_follow: false, ..how }) != Walk::default() {
        return walk_through(context, start, path, how, &mut true);
    }
    let (root, who) = (context.fs.root(), context.credentials());
    let question = known::Question { root: &root, start: &start, who: &who, no_follow: how.no_follow, path };
    let walks = &context.system.walks;
    if let Some(walked) = walks.find(&question) {
        return Ok(walked);
    }
    let (changes, mut is_steady) = (known::changes(), true);
    let walked = walk_through(context, start.clone(), path, how, &mut is_steady)?;
    if is_steady && walked.place.is_some() {
        walks.remember(&question, &walked, changes);
    }
    Ok(walked)
}

/// Walks name by name. `is_steady` is made false if what was seen on the way can change without being told.
fn walk_through(context: &Context, start: Arc<Place>, path: &[u8], how: Walk, is_steady: &mut bool) -> Result<Walked> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.len() >= LONGEST_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    let fs = context.fs.clone();
    let root = if how.within == Within::Root { start.clone() } else { fs.root() };
    let credentials = context.credentials();
    let base = start.clone();
    let device = if how.no_crossing { Some(start.inode.attributes()?.device) } else { None };
    let stays = |inode: &Arc<dyn Inode>| match device {
        Some(device) if inode.attributes()?.device != device => Err(Errno::EXDEV),
        _ => Ok(()),
    };
    let mut at = if path.first() == Some(&b'/') {
        if how.within == Within::Start {
            return Err(Errno::EXDEV);
        }
        stays(&root.inode)?;
        root.clone()
    } else {
        start
    };
    let mut rest: Vec<u8> = path.to_vec();
    let mut position = 0;
    let mut links = 0;
    loop {
        while rest.get(position) == Some(&b'/') {
            position += 1;
        }
        let remaining = rest.get(position..).unwrap_or_default();
        if remaining.is_empty() {
            return Ok(Walked { parent: at.clone(), name: Arc::default(), place: Some(at), wants_directory: true });
        }
        let length = remaining.iter().position(|byte| *byte == b'/').unwrap_or(remaining.len());
        let name = remaining.get(..length).unwrap_or_default();
        let after = remaining.get(length..).unwrap_or_default();
        let is_last = after.iter().all(|byte| *byte == b'/');
        let wants_directory = !after.is_empty();
        if name.len() > LONGEST_NAME {
            return Err(Errno::ENAMETOOLONG);
        }
        *is_steady &= at.inode.is_steady();
        let attributes = at.inode.attributes()?;
        if attributes.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        permitted(&attributes, &credentials, access::EXECUTE)?;
        if name == b"." || name == b".." {
            let next = if name == b"." || Arc::ptr_eq(&at, &root) {
                at.clone()
            } else if how.within == Within::Start && Arc::ptr_eq(&at, &base) {
                return Err(Errno::EXDEV);
            } else {
                at.parent.clone().unwrap_or_else(|| at.clone())
            };
            stays(&next.inode)?;
            if is_last {
                return Ok(Walked { parent: at, name: name.into(), place: Some(next), wants_directory: true });
            }
            at = next;
            position += length;
            continue;
        }
        let inode = match at.inode.lookup(name) {
            Ok(inode) => fs.mounts.cover(inode),
            Err(Errno::ENOENT) if is_last => {
                return Ok(Walked { parent: at, name: name.into(), place: None, wants_directory });
            }
            Err(error) => return Err(error),
        };
        stays(&inode)?;
        *is_steady &= inode.is_steady();
        let kind = inode.attributes()?.kind;
        if kind == Kind::Link && (!is_last || wants_directory || !how.no_follow) {
            links += 1;
            if links > MOST_LINKS || how.no_links {
                return Err(Errno::ELOOP);
            }
            if let Some(place) = inode.jump(context) {
                if how.no_jumps {
                    return Err(if how.within == Within::All { Errno::ELOOP } else { Errno::EXDEV });
                }
                let place = place?;
                stays(&place.inode)?;
                if is_last {
                    return Ok(Walked { parent: at, name: name.into(), place: Some(place), wants_directory });
                }
                at = place;
                position += length;
                continue;
            }
            let mut target = inode.target()?;
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            if target.first() == Some(&b'/') {
                if how.within == Within::Start {
                    return Err(Errno::EXDEV);
                }
                stays(&root.inode)?;
                at = root.clone();
            }
            target.extend_from_slice(after);
            if target.len() >= 2 * LONGEST_PATH {
                return Err(Errno::ENAMETOOLONG);
            }
            (rest, position) = (target, 0);
            continue;
        }
        let next = Arc::new(Place { inode, parent: Some(at.clone()), name: name.to_vec() });
        if is_last {
            if wants_directory && kind != Kind::Directory {
                return Err(Errno::ENOTDIR);
            }
            return Ok(Walked { parent: at, name: name.into(), place: Some(next), wants_directory });
        }
        at = next;
        position += length;
    }
}
