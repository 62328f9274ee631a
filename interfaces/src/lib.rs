//! The contracts between components: one trait a file, with the types that its methods take and answer.
//!
//! Only declarations stand here, and what follows from them; no component's logic. A change must keep what is recorded in `schema/`:
//! a test says which rule it would break. Methods answer within a bound: what waits for the outside world answers
//! `WouldBlock` and raises an event later.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use tessera_runtime::transport::Interface;
use tessera_runtime::transport::schema::Schema;

mod block;
mod console;
mod contents;
mod device;
mod echo;
mod entropy;
mod errno;
mod files;
mod keeper;
mod net_device;
mod network;
mod ready;
mod stream;
pub mod streams;
mod supervisor;
mod wall_clock;

pub use block::{Block, BlockError, Geometry};
pub use console::{Console, ConsoleError, ConsoleSize};
pub use contents::contents;
pub use device::{AbsentDevice, Device, DeviceError, Identity, Width};
pub use echo::{Echo, EchoError};
pub use entropy::{Entropy, EntropyError};
pub use files::{
    Appended, AttributeChange, Attributes, Changes, Entries, FileError, FileSystemStatistics, Memory, Node, NodeKind,
    Owner, Rename, SetAttribute, Time, Unlink,
};
pub use keeper::{Keeper, KeeperError};
pub use net_device::{NetDevice, NetDeviceError, NetInformation, NetPump, offloads};
pub use network::{
    Address, Configuration, Datagram, Failure, Family, Marks, Message, Network, NetworkError, NetworkListener,
    Shutdown, Socket, SocketOption, readiness,
};
pub use ready::{Readiness, ready};
pub use stream::{Stream, Streams};
pub use supervisor::{DomainPhase, DomainReport, Supervisor, SupervisorError};
pub use tessera_runtime::{Cap, TransportError};
pub use wall_clock::{WallClock, WallClockError};

/// What is recorded of every interface, in `schema/`.
pub const SCHEMAS: &[&Schema] = &[
    <dyn Block>::SCHEMA,
    <dyn Console>::SCHEMA,
    <dyn Device>::SCHEMA,
    <dyn Echo>::SCHEMA,
    <dyn Entropy>::SCHEMA,
    <dyn Keeper>::SCHEMA,
    <dyn NetDevice>::SCHEMA,
    <dyn NetPump>::SCHEMA,
    <dyn Network>::SCHEMA,
    <dyn NetworkListener>::SCHEMA,
    <dyn Node>::SCHEMA,
    <dyn Socket>::SCHEMA,
    <dyn Supervisor>::SCHEMA,
    <dyn WallClock>::SCHEMA,
];
