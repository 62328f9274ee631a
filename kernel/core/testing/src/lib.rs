//! What the tests and the fuzzer of `tessera-core` stand on: hardware made of arrays, and a driver that does what the kernel's
//! entry code does. Only the `model` knows rules of the machine; all else checks that core
//! keeps its word to the hardware.
#![forbid(unsafe_code)]

mod driver;
mod hardware;
pub mod model;
pub mod trace;

pub use driver::{Answer, POOL_RESOURCES, System};
pub use hardware::FakeHardware;
