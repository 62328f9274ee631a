//! The names in a directory: those of the image below, and what was put in their place since.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Content, Directory, Node, State};
use crate::errno::{Errno, Result};
use crate::fs::path::known;
use crate::fs::{Kind, Time};

impl Node {
    /// The name's node, `None` if there is none.
    pub(super) fn find(&self, state: &mut State, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let Content::Directory(directory) = &mut state.content else { return Err(Errno::ENOTDIR) };
        if let Some(known) = directory.names.get(name) {
            return Ok(known.clone());
        }
        let (Some(below), Some(image)) = (directory.below, &self.system.image) else { return Ok(None) };
        let below = image.inode(below).map_err(|_| Errno::EIO)?;
        let Some(entry) = image.lookup(&below, name).map_err(|_| Errno::EIO)? else { return Ok(None) };
        let node = self.system.node_of_image(entry.number)?;
        directory.names.insert(name.to_vec(), Some(node.clone()));
        Ok(Some(node))
    }

    /// All names: those of the image that were not looked up, and the known ones.
    pub(super) fn names(&self, directory: &Directory) -> Result<BTreeMap<Vec<u8>, (u64, Kind)>> {
        let mut names = BTreeMap::new();
        if let (Some(below), Some(image)) = (directory.below, &self.system.image) {
            let below = image.inode(below).map_err(|_| Errno::EIO)?;
            for entry in image.entries(&below, 0).map_err(|_| Errno::EIO)? {
                let entry = entry.map_err(|_| Errno::EIO)?;
                if entry.name != b"." && entry.name != b".." && !directory.names.contains_key(entry.name) {
                    let kind = Kind::of_mode(entry.kind.mode().into())?;
                    names.insert(entry.name.to_vec(), (entry.number.0 + 1, kind));
                }
            }
        }
        for (name, node) in &directory.names {
            if let Some(node) = node {
                names.insert(name.clone(), (node.number, node.kind));
            }
        }
        Ok(names)
    }

    pub(super) fn is_empty(&self) -> Result<bool> {
        match &self.state.lock().content {
            Content::Directory(directory) => Ok(self.names(directory)?.is_empty()),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn add(&self, name: &[u8], node: Arc<Node>, time: Time) -> Result<()> {
        let mut state = self.state.lock();
        if state.links == 0 {
            return Err(Errno::ENOENT);
        }
        if self.find(&mut state, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if node.kind == Kind::Directory {
            state.links += 1;
        }
        let Content::Directory(directory) = &mut state.content else { return Err(Errno::ENOTDIR) };
        directory.names.insert(name.to_vec(), Some(node));
        directory.order += 1;
        state.touch(time);
        known::changed();
        Ok(())
    }

    pub(super) fn set_name(&self, name: &[u8], node: Option<Arc<Node>>, time: Time) -> Result<()> {
        let mut state = self.state.lock();
        let Content::Directory(directory) = &mut state.content else { return Err(Errno::ENOTDIR) };
        if node.is_none() && directory.below.is_none() {
            directory.names.remove(name);
        } else {
            directory.names.insert(name.to_vec(), node);
        }
        directory.order += 1;
        state.touch(time);
        known::changed();
        Ok(())
    }

    pub(super) fn remove_name(&self, name: &[u8], node: &Arc<Node>, time: Time) -> Result<()> {
        self.set_name(name, None, time)?;
        let mut theirs = node.state.lock();
        theirs.changed = time;
        if node.kind == Kind::Directory {
            theirs.links = 0;
            drop(theirs);
            let mut state = self.state.lock();
            state.links = state.links.saturating_sub(1);
        } else {
            theirs.links = theirs.links.saturating_sub(1);
        }
        Ok(())
    }

    /// Whether `node` is this directory or below it. Only what was looked up can be.
    pub(super) fn holds(&self, node: &Node) -> bool {
        if core::ptr::eq(self, node) {
            return true;
        }
        let children: Vec<Arc<Node>> = match &self.state.lock().content {
            Content::Directory(directory) => {
                directory.names.values().flatten().filter(|child| child.kind == Kind::Directory).cloned().collect()
            }
            _ => return false,
        };
        children.iter().any(|child| child.holds(node))
    }
}
