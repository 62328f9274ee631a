//! The component: the file system as others are routed to it.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use tessera_interfaces::{Time, WallClock};
use tessera_rootfs::container::ROOT_MEMBER;
use tessera_runtime::archive::Archive;
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Vmo;
use tessera_runtime::{Object, own};

use crate::image::Image;
use crate::node::Handle;
use crate::system::FileSystem;

/// Bytes of the heap that names and small files may take, unless the argument `bytes=N` says otherwise.
const LIMIT: u64 = 1 << 20;

/// What the component uses.
pub struct Uses {
    /// The date, for what is changed.
    pub clock: Option<Route<dyn WallClock>>,
}

/// A file system.
#[derive(Debug)]
pub struct Files(Arc<Handle>);

impl Files {
    /// Begins with the root image in the boot archive, or empty.
    ///
    /// # Errors
    /// The image is damaged, or there is no memory.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Files>, StartError> {
        let memory = context.take::<Vmo>("archive")?;
        // Kept for as long as the machine runs: files are read from it.
        let archive: &'static Archive = Box::leak(Box::new(Archive::new(&memory)?));
        let image = match (archive.member(ROOT_MEMBER), archive.place(ROOT_MEMBER)) {
            (Ok(bytes), Ok(place)) => {
                let damaged = |error| StartError::new(format!("the root image is damaged: {error}"));
                Some(Image::new(bytes, memory, place.start).map_err(damaged)?)
            }
            _ => None,
        };
        let date = uses.clock.and_then(|route| route.cap.now().ok()).unwrap_or(0);
        let now = || own::clock().now().unwrap_or(0);
        let boot = date.saturating_sub(now());
        let clock = move || {
            let time = boot.saturating_add(now());
            Time { seconds: (time / 1_000_000_000) as i64, nanoseconds: (time % 1_000_000_000) as u32 }
        };
        let root =
            FileSystem::start(own::pool().try_clone()?, context.parsed("bytes", LIMIT)?, image, Box::new(clock))?;
        Ok(Arc::new(Files(Arc::new(Handle::new(root)))))
    }

    /// Its root directory.
    pub fn root(&self) -> Arc<Handle> {
        self.0.clone()
    }
}
