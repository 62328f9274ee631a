#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
pub mod hardware;
pub use hardware::{Frame, Hardware, PowerAction, Protection};
