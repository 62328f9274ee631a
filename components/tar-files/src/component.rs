//! The component: a disk, and the root of what is on it.

use alloc::sync::Arc;

use tessera_block_retry::Retried;
use tessera_interfaces::Block;
use tessera_runtime::component::{Context, Route, StartError};

use crate::node::root;
use crate::{Disk, Handle, Tree};

/// What it uses.
pub struct Uses {
    /// The disk with the archive.
    pub block: Route<dyn Block>,
}

/// The most files, unless the argument `files=N` says otherwise.
const FILES: usize = 8192;

/// The files of a disk.
pub struct TarFiles {
    root: Arc<Handle>,
}

impl TarFiles {
    /// Reads the archive's headers.
    ///
    /// # Errors
    /// The disk cannot be read, or holds no archive that makes sense.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<TarFiles>, StartError> {
        let limit = context.parsed("files", FILES)?;
        let disk = Disk::new(Arc::new(Retried::new(uses.block.cap)));
        let disk = disk.map_err(|error| StartError::new(alloc::format!("the disk does not answer: {error:?}")))?;
        let tree = Tree::read(&disk, limit).map_err(StartError::new)?;
        Ok(Arc::new(TarFiles { root: Arc::new(root(disk, tree)) }))
    }

    /// The root of the files.
    pub fn root(&self) -> Arc<Handle> {
        self.root.clone()
    }
}
