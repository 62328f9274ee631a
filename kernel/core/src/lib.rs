//! The capability machine: every rule of the system, as safe Rust with no hardware in it.
//!
//! - **One value.** All state of the kernel is a [`Machine`]. An entry (a system call, a fault, an interrupt, a timer tick) is a
//!   function of it; what the hardware is to do comes out through [`Hardware`] and [`Machine::next`].
//! - **No authority without a handle.** No call names an object in any other way: no paths, no ids, no ambient rights.
//! - **Decode, then change.** A refused call has had no effect.
//! - **Nothing is made that is not charged** to a pool, and what goes gives back exactly what it was charged.
//! - **Bounded work.** What can be long is cut into steps: the call is made again (`Flow::Again`), or a thread works it off before it
//!   goes on (`Next::Work`). Nothing here waits.
//! - **No pointers, no allocation after boot, no panic.** Objects lie in tables; an index and a generation name them. What an invariant
//!   rules out is still written as a refusal, never as an assertion that a user could reach.
//! - Simple and clear algorithms over fast and clever ones; the one exception is `fast.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#![allow(clippy::new_without_default, reason = "machines are made from a configuration")]

extern crate alloc;

pub mod arena;
#[cfg(feature = "audit")]
mod audit;
mod boot;
mod budget;
mod call;
mod device;
mod dma;
mod endpoint;
mod event;
mod fast;
mod fault;
mod frames;
mod guest;
pub mod hardware;
mod node;
#[cfg(feature = "audit")]
mod observe;
mod pool;
mod privilege;
mod process;
mod queue;
mod quick;
mod reaper;
mod schedule;
mod seal;
mod sizes;
mod space;
mod syscall;
mod thread;
mod timer;
mod treap;
mod user;
mod vmo;

pub use boot::{Config, FirstProgram, Segment};
pub use fault::Fault;
pub use hardware::{DeviceId, Frame, Hardware, PowerAction, Protection};
pub use node::Object;
#[cfg(feature = "audit")]
pub use observe::{Doing, Seen};
pub use pool::Resource;
pub use privilege::{Door, door};
pub use schedule::MAX_PROCESSORS;

use alloc::vec::Vec;
use arena::{Arena, Id};
use tessera_abi::x86_64::Registers;

/// What the hardware must load to go on with a thread.
#[derive(Clone, Copy, Default)]
pub struct Activation {
    pub registers: Registers,
    /// The root of its page tables.
    pub root: Frame,
    /// It runs in the kernel's mode.
    pub kernel: bool,
    /// How it and its guest, or the guest and it, take turns without core.
    pub door: Door,
    /// The thread pointer of a program in the kernel's mode, be it itself or the one whose guest it is.
    pub pointer: u64,
    /// The FS and GS bases of its guest, which stay loaded while the two take turns by the door.
    pub guest_bases: [u64; 2],
    /// Its vector state; frame 0, which is never memory for anybody: it has none.
    pub vector: Frame,
    /// All registers count, not only those that a system call gives back. Whoever loads them all takes this off: a thread that
    /// enters by a system call has it clear.
    pub full: bool,
}

/// What a processor does after an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Goes on with [`Machine::activation`].
    Run,
    /// Lets interrupts in for a moment, then calls [`Machine::work`] and asks again.
    Work,
    /// Waits for an interrupt.
    Idle,
}

/// What the first look at a system call came to, or the second.
pub enum Entered<'a> {
    /// It is done; the same thread goes on.
    Same,
    /// It is done; this thread goes on, with what a system call gives back. No look at [`Machine::next`] is needed.
    Switched(&'a mut Activation),
    /// It is done; this thread goes on, with all of its registers if it says so. No look at [`Machine::next`] is needed.
    Loaded(&'a mut Activation),
    /// It is done; [`Machine::next`] says what goes on.
    Open,
    /// It is not done, and [`Machine::mapping_syscall`] does it.
    Mapping,
    /// It is not done: [`Machine::quick_syscall`] may do it, and [`Machine::slow_syscall`] does.
    Slow,
}

/// What became of a system call that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    Done,
    One(u64),
    Values([u64; 6]),
    /// There is more to do: the thread makes the call again.
    Again,
    /// The result is, or will be, in the thread's registers already.
    Blocked,
}

/// Who makes a call, with what arguments.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub processor: usize,
    pub thread: Id<thread::Thread>,
    pub process: Id<process::Process>,
    pub space: Id<space::Space>,
    /// The space of the thread's guest.
    pub guest: Id<space::Space>,
    pub arguments: [u64; 6],
}

/// The whole state of the kernel.
pub struct Machine<H: Hardware> {
    /// What carries out this machine's decisions.
    pub hardware: H,
    processors: schedule::Processors,
    threads: Arena<thread::Thread>,
    nodes: Arena<node::Node>,
    sessions: Arena<endpoint::Session>,
    endpoints: Arena<endpoint::Endpoint>,
    replies: Arena<endpoint::Reply>,
    events: Arena<event::Event>,
    processes: Arena<process::Process>,
    spaces: Arena<space::Space>,
    mappings: Arena<space::Mapping>,
    vmos: Arena<vmo::Vmo>,
    pools: Arena<pool::Pool>,
    budgets: Arena<budget::Budget>,
    interrupts: Arena<device::InterruptLine>,
    ports: Arena<device::Ports>,
    devices: Arena<device::Device>,
    dmas: Arena<dma::Dma>,
    brands: Arena<seal::Brand>,
    boxes: Arena<seal::Sealed>,
    frames: frames::Frames,
    alarms: timer::Alarms,
    /// Which interrupt object each line is bound to.
    lines: Vec<Id<device::InterruptLine>>,
    /// Lines below this one are pins, the others messages.
    pins: u32,
    /// Where the search for a free message goes on: one that was given back is used again last.
    next_message: u32,
    /// What waits to be taken apart, first and last.
    dead: reaper::Dead,
    last_dead: reaper::Dead,
    /// The first process: the machine goes when it ends.
    first: Id<process::Process>,
    /// The processor that is in the kernel.
    active: usize,
    /// What the first pool was given: shares of smaller pools are measured against it.
    total_pages: u32,
    capacities: [u32; pool::RESOURCES],
    seed: u64,
}

impl<H: Hardware> Machine<H> {
    /// A number that nobody outside can foresee the use of: it balances trees, it guards nothing.
    pub(crate) fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}
