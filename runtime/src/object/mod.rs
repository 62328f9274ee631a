//! Typed handles, one file for each kind of kernel object.

mod budget;
mod clock;
mod endpoint;
mod event;
pub mod guest;
mod interrupt;
mod io_port;
mod log;
mod mmio;
mod pool;
mod power;
mod process;
mod reply;
mod seal;
mod session;
mod space;
mod thread;
mod vmo;

pub use budget::{Budget, Limits};
pub use clock::{Clock, ticks};
pub use endpoint::{Endpoint, Lease, Received, reply};
pub use event::Event;
pub use interrupt::{Interrupt, Lines, MessageInterrupt};
pub use io_port::{IoPort, Width};
pub use log::Log;
pub use mmio::Mmio;
pub use pool::{Pool, Usage};
pub use power::Power;
pub use process::{Fault, Process, Progress, exit};
pub use reply::Reply;
pub use seal::{Seal, Sealed, Unseal};
pub use session::Session;
pub use space::{Access, Space};
pub use thread::{Thread, null, park, processors, yield_now};
pub use vmo::Vmo;
