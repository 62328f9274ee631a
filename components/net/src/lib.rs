//! The network stack, as a component: sockets over a network device, and over the machine's own loopback.
//!
//! `stack` holds all rules and knows no threads. `component` puts it behind a lock and drives it: a thread waits for the device and
//! for timers, and each call of a client does its work under the lock and what follows from it. `wire` is the device's side:
//! rings in shared memory, which the device may fill with anything. `objects` are what clients hold.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arguments;
mod component;
mod objects;
mod rules;
pub mod stack;
#[cfg(test)]
mod tests;
mod wire;

pub use component::{Net, Uses};
pub use objects::Client;
