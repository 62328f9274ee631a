//! What the host command and the manager agree on: the plan of an image, which the command writes into the boot archive and the
//! manager carries out, and the state of a running image, which the manager tells and the command shows.
//!
//! Both are encoded with postcard. Whoever reads one treats it as hostile: [`Plan::decode`] answers a plan whose every index is in
//! range, or an error, and never panics.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod check;
mod plan;
mod state;

pub use plan::{Component, Domain, Level, MEMBER, Need, Plan, Provision, Restart, Server, Share, Use, badge};
pub use state::{DomainState, Ending, Phase, Report, State};
pub use tessera_abi::FaultKind;

/// Why something encoded was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not what postcard makes of the type.
    Encoding,
    /// It was made for another version of the format.
    Version(u32),
    /// A value is out of range; which one.
    Value(&'static str),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refusal::Encoding => formatter.write_str("it is damaged"),
            Refusal::Version(version) => write!(formatter, "its format has version {version}"),
            Refusal::Value(which) => write!(formatter, "{which} is out of range"),
        }
    }
}
