//! What a Rust program with the standard library runs on.
//!
//! The program's `std` is the real one, built for the target `x86_64-unknown-hermit`, whose platform layer calls C functions named `sys_*`.
//! They are here, on the interfaces that the image routes to this component: files, network, date and random numbers are there as far as
//! they were given, and nothing else is. Program and component share a domain, and are linked into one program by `tessera build`.
//!
//! [`abi`](self) and `program` are the border, and alone have `unsafe`: pointers of the program become references there. All else is safe
//! code on safe arguments; what it refuses is an [`errno::Errno`].
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

use alloc::sync::Arc;

use tessera_interfaces::{Cap, Entropy, Network, Node, WallClock};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::own;
use tessera_runtime::sync::OnceLock;

use crate::descriptor::Table;
use crate::errno::{Errno, Result};
use crate::net::Net;

#[cfg(target_os = "none")]
mod abi;
pub mod console;
pub mod counter;
pub mod descriptor;
pub mod errno;
pub mod file;
pub mod futex;
pub mod merge;
pub mod mutex;
pub mod net;
pub mod path;
pub mod poll;
#[cfg(target_os = "none")]
mod program;
pub mod socket;
pub mod wait;

/// Bytes that are passed to a server at once: what one with little memory takes, too. A program that reads or writes more asks for the rest.
const PIECE: usize = 64 << 10;

/// What the component uses: all of it optional, as the image says what the program may do.
pub struct Uses {
    /// The network.
    pub network: Option<Route<dyn Network>>,
    /// The directory that the program sees as `/`.
    pub files: Option<Route<dyn Node>>,
    /// The date.
    pub clock: Option<Route<dyn WallClock>>,
    /// Random numbers.
    pub entropy: Option<Route<dyn Entropy>>,
}

/// What the program can reach.
pub struct World {
    /// Open files and sockets.
    pub descriptors: Table,
    network: Option<Arc<Net>>,
    files: Option<Cap<dyn Node>>,
    entropy: Option<Cap<dyn Entropy>>,
    /// Nanoseconds from the beginning of 1970 to boot; 0 without a clock.
    boot: u64,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// The component.
#[derive(Debug)]
pub struct Native;

impl Native {
    /// Starts the program. The domain ends with it, and with its code.
    ///
    /// # Errors
    /// A route does not work, or there is no memory.
    pub fn new(context: Context, uses: Uses) -> core::result::Result<Arc<Native>, StartError> {
        let world = World::new(uses)?;
        let _ = WORLD.get_or_init(|| world);
        #[cfg(target_os = "none")]
        program::start(&context)?;
        #[cfg(not(target_os = "none"))]
        let _ = context;
        Ok(Arc::new(Native))
    }
}

impl World {
    /// Takes what the image gave.
    ///
    /// # Errors
    /// A route does not work, or there is no memory.
    pub fn new(uses: Uses) -> core::result::Result<World, StartError> {
        let network = uses.network.map(|route| Net::new(route.cap)).transpose();
        let date = uses.clock.and_then(|route| route.cap.now().ok());
        Ok(World {
            descriptors: Table::new(),
            network: network
                .map_err(|error| StartError::new(format_args!("the network refuses: error {}", error.0)))?,
            files: uses.files.map(|route| route.cap),
            entropy: uses.entropy.map(|route| route.cap),
            boot: date.map_or(0, |date| date.saturating_sub(now())),
        })
    }

    /// The directory that is `/`.
    ///
    /// # Errors
    /// `ENOENT`: the image gives no files.
    pub fn root(&self) -> Result<&Cap<dyn Node>> {
        self.files.as_ref().ok_or(Errno::ENOENT)
    }

    /// The network.
    ///
    /// # Errors
    /// `ENETDOWN`: the image gives none.
    pub fn network(&self) -> Result<&Arc<Net>> {
        self.network.as_ref().ok_or(Errno::ENETDOWN)
    }

    /// Nanoseconds since the beginning of 1970; since boot, if the image gives no clock.
    pub fn date(&self) -> u64 {
        self.boot.saturating_add(now())
    }

    /// Fills `into` from the entropy source.
    ///
    /// # Errors
    /// `ENOSYS`: there is none. `EIO`: it gives nothing.
    pub fn random(&self, into: &mut [u8]) -> Result<()> {
        /// Bytes asked for at once.
        const PIECE: usize = 64;
        let source = self.entropy.as_ref().ok_or(Errno::ENOSYS)?;
        into.chunks_mut(PIECE).try_for_each(|piece| source.fill(piece).map_err(|_| Errno::EIO))
    }
}

/// Nanoseconds since boot, the unit of deadlines.
pub fn now() -> u64 {
    own::now()
}

/// What the program can reach; before it runs.
#[cfg(target_os = "none")]
fn world() -> &'static World {
    WORLD.get_or_init(|| World { descriptors: Table::new(), network: None, files: None, entropy: None, boot: 0 })
}
