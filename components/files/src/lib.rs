//! A file system in memory that begins with a read-only image, or empty.
//!
//! Files of the image are read and mapped where they lie; what is changed moves to memory, charged to the component's pool.
//! So a container's root costs memory for what it writes only, and every start begins with the same files.
//!
//! `inode` has the rules, `content` the bytes of files, `system` what is shared, `node` the interface.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod component;
mod content;
mod directory;
mod image;
mod inode;
mod node;
mod system;

pub use component::{Files, Uses};
pub use image::Image;
pub use node::Handle;
pub use system::{Clock, root};
