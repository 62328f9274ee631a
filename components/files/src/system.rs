//! One file system: what its objects share.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_interfaces::{Cap, FileError, FileSystemStatistics, Node, NodeKind, Owner, Time};
use tessera_rootfs::NodeNumber;
use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Pool, Usage};
use tessera_runtime::sync::{Mutex, MutexGuard};

use crate::account::Account;
use crate::content::{Content, Source};
use crate::directory::Directory;
use crate::image::{self, Image};
use crate::inode::{Body, Inode, NAME_LIMIT, State};
use crate::node::Handle;

/// Numbers of objects that are not in the image begin here: those of the image are below.
const FIRST_NEW_NUMBER: u64 = 1 << 32;

/// What Linux's `statfs` calls a file system in memory (`TMPFS_MAGIC`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Where the time of a change comes from.
pub type Clock = Box<dyn Fn() -> Time + Send + Sync>;

/// What the objects of one file system share.
pub struct FileSystem {
    clock: Clock,
    pool: Pool,
    account: Arc<Account>,
    image: Option<Image>,
    next: AtomicU64,
    /// Objects of the image that have several names: a name read later must find the same object.
    shared: Mutex<BTreeMap<NodeNumber, Arc<Inode>>>,
    names: Mutex<()>,
}

impl fmt::Debug for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FileSystem").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Makes a file system; answers its root directory. See [`FileSystem::start`].
pub fn root(pool: Pool, limit: u64, image: Option<Image>, clock: Clock) -> Result<Cap<dyn Node>, FileError> {
    FileSystem::start(pool, limit, image, clock).map(Handle::of)
}

impl FileSystem {
    /// A file system whose changes are charged to `pool`, with at most `limit` bytes of the heap; answers its root directory.
    /// It begins with what is in the image, or empty.
    pub fn start(pool: Pool, limit: u64, image: Option<Image>, clock: Clock) -> Result<Arc<Inode>, FileError> {
        let system = Arc::new(FileSystem {
            clock,
            pool,
            account: Account::new(limit),
            image,
            next: AtomicU64::new(FIRST_NEW_NUMBER),
            shared: Mutex::new(BTreeMap::new()),
            names: Mutex::new(()),
        });
        match &system.image {
            Some(image) => system.from_image(None, image, image.root()),
            None => {
                let owner = Owner { user: 0, group: 0 };
                let body = Body::Directory { parent: Default::default(), entries: Directory::default(), pending: None };
                system.make(NodeKind::Directory, 0o755, owner, 2, 0, body)
            }
        }
    }

    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The time of a change that happens now.
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// Where the content of files comes from.
    pub fn source(&self) -> Source<'_> {
        Source { pool: &self.pool, account: &self.account, image: self.image.as_ref() }
    }

    /// Held by whoever changes which names there are.
    pub fn names(&self) -> MutexGuard<'_, ()> {
        self.names.lock()
    }

    /// An object without a name.
    pub fn make(
        self: &Arc<Self>,
        kind: NodeKind,
        mode: u32,
        owner: Owner,
        links: u32,
        device: u64,
        body: Body,
    ) -> Result<Arc<Inode>, FileError> {
        let now = self.now();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state =
            State { mode, owner, links, accessed: now, modified: now, changed: now, attributes: BTreeMap::new(), body };
        Inode::new(self.clone(), number, kind, device, state)
    }

    /// Reads the entries of a directory of the image.
    pub fn load(
        self: &Arc<Self>,
        directory: &Arc<Inode>,
        place: &tessera_rootfs::Inode,
        entries: &mut Directory,
    ) -> Result<(), FileError> {
        let image = self.image.as_ref().ok_or(FileError::Device)?;
        let mut fresh = Directory::default();
        image.entries(place, |name, number| {
            fresh.insert(name, self.from_image(Some(directory), image, number)?);
            Ok(())
        })?;
        *entries = fresh;
        Ok(())
    }

    fn from_image(
        self: &Arc<Self>,
        parent: Option<&Arc<Inode>>,
        image: &Image,
        number: NodeNumber,
    ) -> Result<Arc<Inode>, FileError> {
        let node = image.node(number)?;
        let kind = image::kind(&node);
        let is_shared = kind != NodeKind::Directory && node.links > 1;
        if is_shared && let Some(found) = self.shared.lock().get(&number) {
            return Ok(found.clone());
        }
        let body = match kind {
            NodeKind::File => Body::File(Content::Image(node)),
            NodeKind::Directory => Body::Directory {
                parent: parent.map(Arc::downgrade).unwrap_or_default(),
                entries: Directory::default(),
                pending: Some(node),
            },
            NodeKind::SymbolicLink => Body::Link(image.target(&node)?.into()),
            _ => Body::Special,
        };
        let modified = image::modified(&node);
        let state = State {
            mode: u32::from(node.permissions()),
            owner: image::owner(&node),
            links: node.links,
            accessed: modified,
            modified,
            changed: modified,
            attributes: image.extended(&node)?,
            body,
        };
        let inode = Inode::new(self.clone(), number.0, kind, image::device(&node), state)?;
        if is_shared {
            self.shared.lock().insert(number, inode.clone());
        }
        Ok(inode)
    }

    /// An object has lost its last name: nobody will find it by its number again.
    pub fn forget(&self, number: u64) {
        self.shared.lock().remove(&NodeNumber(number));
    }

    /// Sizes: pages of the pool, and objects by what the heap has room for.
    pub fn statistics(&self) -> FileSystemStatistics {
        let usage = self.pool.usage(0).unwrap_or(Usage { quota: 0, used: 0 });
        let objects = self.account.limit() / Inode::CHARGE;
        FileSystemStatistics {
            magic: TMPFS_MAGIC,
            block_size: PAGE as u32,
            blocks: usage.quota,
            free_blocks: usage.quota.saturating_sub(usage.used),
            nodes: objects,
            free_nodes: objects.saturating_sub(self.account.used() / Inode::CHARGE),
            longest_name: NAME_LIMIT as u32,
            read_only: false,
        }
    }
}
