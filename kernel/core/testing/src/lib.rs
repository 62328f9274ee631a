//! What the tests and the fuzzer of `tessera-core` stand on: hardware made of arrays, and a driver that does what the kernel's
//! entry code does. Nothing here knows a rule of the machine; what it checks is that core keeps its word to the hardware.
#![forbid(unsafe_code)]

mod driver;
mod hardware;
pub mod trace;

pub use driver::{Answer, POOL_RESOURCES, System};
pub use hardware::FakeHardware;
