//! Walks that were made before. A path that the same credentials walk again from the same directory leads to the same place, as long as no name, no
//! permission and no mount has changed anywhere: each such change is counted ([`changed`]). Only walks through trees in memory are known: of others nobody tells.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_runtime::sync::Mutex;

use super::{Place, Walked};
use crate::task::Credentials;

/// Walks that are known at once.
const WALKS: usize = 16;

/// Changes of names, permissions and mounts, in all trees.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// What a path leads to may be something else now. Said when it is, before whoever changed it goes on.
pub fn changed() {
    CHANGES.fetch_add(1, Ordering::AcqRel);
}

/// How often something has changed.
pub fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// What a walk depends on, beside the trees.
pub struct Question<'a> {
    pub root: &'a Arc<Place>,
    pub start: &'a Arc<Place>,
    pub who: &'a Arc<Credentials>,
    pub no_follow: bool,
    pub path: &'a [u8],
}

struct Known {
    root: Arc<Place>,
    start: Arc<Place>,
    who: Arc<Credentials>,
    no_follow: bool,
    path: Vec<u8>,
    walked: Walked,
}

impl Known {
    fn answers(&self, question: &Question) -> bool {
        Arc::ptr_eq(&self.root, question.root)
            && Arc::ptr_eq(&self.start, question.start)
            && Arc::ptr_eq(&self.who, question.who)
            && self.no_follow == question.no_follow
            && self.path == question.path
    }
}

/// The walks of a container.
#[derive(Default)]
pub struct KnownWalks(Mutex<Walks>);

#[derive(Default)]
struct Walks {
    /// The count of changes at which they were right.
    changes: u64,
    known: [Option<Known>; WALKS],
}

impl KnownWalks {
    /// Where a walk ends, if that is known.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn find(&self, question: &Question) -> Option<Walked> {
        let walks = self.0.lock();
        if walks.changes != changes() {
            drop(walks);
            self.forget();
            return None;
        }
        let known = walks.known.get(place(question.path))?.as_ref()?;
        known.answers(question).then(|| known.walked.clone())
    }

    /// Remembers where a walk ended that began when there were so many changes.
    pub fn remember(&self, question: &Question, walked: &Walked, changes: u64) {
        let known = Known {
            root: question.root.clone(),
            start: question.start.clone(),
            who: question.who.clone(),
            no_follow: question.no_follow,
            path: question.path.to_vec(),
            walked: walked.clone(),
        };
        let mut walks = self.0.lock();
        if walks.changes == changes
            && let Some(slot) = walks.known.get_mut(place(question.path))
        {
            let before = slot.replace(known);
            drop(walks);
            drop(before);
        }
    }

    /// Forgets all: what was removed is held by nobody from then on.
    pub fn forget(&self) {
        let fresh = Walks { changes: changes(), ..Walks::default() };
        let before = core::mem::replace(&mut *self.0.lock(), fresh);
        // The end of a place may come back here.
        drop(before);
    }
}

/// Where a path's walk is kept.
fn place(path: &[u8]) -> usize {
    let last = path.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
    ((last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize ^ path.len()) % WALKS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ram::Ram;
    use crate::fs::{Change, Creation, Inode, Kind, Owner, Rename};

    /// Each test's changes are seen by all.
    static ALONE: Mutex<()> = Mutex::new(());

    fn directory() -> Creation {
        Creation {
            kind: Kind::Directory,
            permissions: 0o755,
            owner: Owner { uid: 0, gid: 0 },
            names_device: 0,
            time: 0,
        }
    }

    fn question<'a>(root: &'a Arc<Place>, who: &'a Arc<Credentials>, path: &'a [u8]) -> Question<'a> {
        Question { root, start: root, who, no_follow: false, path }
    }

    #[test]
    fn a_walk_is_known_until_something_changes() {
        let _alone = ALONE.lock();
        let tree = Ram::root(1, None, |_, _, _| Ok(None)).unwrap();
        let inode: Arc<dyn Inode> = tree.clone();
        let root = Place::root(inode.clone());
        let who = Arc::new(Credentials::new(0, 0, Vec::new()));
        let walked =
            Walked { parent: root.clone(), name: (*b"a").into(), place: Some(root.clone()), wants_directory: false };
        let walks = KnownWalks::default();
        let changing: [&dyn Fn(); 5] = [
            &|| drop(tree.create(b"a", &directory())),
            &|| tree.change(&Change { permissions: Some(0o700), ..Change::default() }).unwrap(),
            &|| tree.rename(b"a", &inode, b"b", Rename::Replace, 0).unwrap(),
            &|| drop(tree.symlink(b"c", b"b", &directory())),
            &|| tree.unlink(b"b", true, 0).unwrap(),
        ];
        for change in changing {
            walks.forget();
            let question = question(&root, &who, b"/a");
            walks.remember(&question, &walked, changes());
            assert!(walks.find(&question).is_some());
            tree.change(&Change { accessed: Some(1), ..Change::default() }).unwrap();
            assert!(walks.find(&question).is_some(), "times lead nowhere");
            let before = changes();
            change();
            assert!(walks.find(&question).is_none());
            walks.remember(&question, &walked, before);
            assert!(walks.find(&question).is_none(), "what was walked before the change is not remembered after it");
        }
    }

    #[test]
    fn another_question_has_another_answer() {
        let _alone = ALONE.lock();
        let root = Place::root(Ram::root(1, None, |_, _, _| Ok(None)).unwrap());
        let other = Place::root(root.inode.clone());
        let (who, somebody) =
            (Arc::new(Credentials::new(0, 0, Vec::new())), Arc::new(Credentials::new(0, 0, Vec::new())));
        let walked = Walked { parent: root.clone(), name: Arc::default(), place: None, wants_directory: false };
        let walks = KnownWalks::default();
        walks.forget();
        let asked = question(&root, &who, b"/a");
        walks.remember(&asked, &walked, changes());
        assert!(walks.find(&asked).is_some());
        for another in [
            question(&root, &who, b"/b"),
            question(&root, &somebody, b"/a"),
            question(&other, &who, b"/a"),
            Question { start: &other, ..question(&root, &who, b"/a") },
            Question { no_follow: true, ..question(&root, &who, b"/a") },
        ] {
            assert!(walks.find(&another).is_none());
        }
    }

    #[test]
    fn what_was_removed_is_held_by_nobody() {
        let _alone = ALONE.lock();
        let root = Place::root(Ram::root(1, None, |_, _, _| Ok(None)).unwrap());
        let gone = Arc::new(Place { inode: root.inode.clone(), parent: None, name: Vec::new() });
        let who = Arc::new(Credentials::new(0, 0, Vec::new()));
        let walked =
            Walked { parent: root.clone(), name: Arc::default(), place: Some(gone.clone()), wants_directory: false };
        let walks = KnownWalks::default();
        walks.forget();
        walks.remember(&question(&root, &who, b"/a"), &walked, changes());
        drop(walked);
        assert_eq!(Arc::strong_count(&gone), 2);
        walks.forget();
        assert_eq!(Arc::strong_count(&gone), 1);
    }
}
