//! The network stack, as a component: sockets over a network device, and over the machine's own loopback.
//!
//! `stack` holds all rules and knows no threads; `component` puts it behind a lock, lets a thread drive it, and makes objects of its sockets.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod stack;
