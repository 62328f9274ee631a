//! Rust programs that use the standard library: ordinary Cargo projects, run without a line changed.
//!
//! [`project`] reads a project and makes the description of an image for it; [`program`] builds it for a target whose `std` calls C functions
//! that the component `native` has; [`link`] puts the two into one program, which is the domain's.

mod c;
pub mod link;
mod program;
mod project;

pub use program::{build, linked};
pub use project::{Project, Wishes};
