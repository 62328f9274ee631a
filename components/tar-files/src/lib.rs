//! The files of a tar archive on a disk, read only.
//!
//! At the start the archive's headers are read, and its tree is made of them ([`Tree`]). What files hold stays on the disk and is read when a
//! client asks for it. The formats are POSIX's (ustar and pax, IEEE Std 1003.1-2017, `pax`) and GNU's for long names.
//!
//! **The archive is not trusted.** Whatever it says, every byte that is read lies on the disk, and the memory that its tree takes has a limit.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

mod component;
mod disk;
mod header;
mod node;
mod tree;

pub use component::{TarFiles, Uses};
pub use disk::Disk;
pub use node::{Handle, root};
pub use tree::{Damaged, Tree};
