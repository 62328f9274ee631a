//! The manager's own interface: what runs, and what is to become of it.

use tessera_runtime::{InterfaceError, Plain, TransportError, interface};

/// Authority over the running domains.
#[interface]
pub trait Supervisor {
    /// How the domain of this name is, or that of the component of this name; `manager` is the manager itself.
    fn report(&self, name: &str) -> Result<DomainReport, SupervisorError>;

    /// Puts the image's plan into `into`, as package `tessera-plan` encodes it; answers its bytes.
    #[fills]
    fn plan(&self, into: &mut [u8]) -> Result<u64, SupervisorError>;

    /// Puts the state of all domains and the latest crash reports into `into`, as package `tessera-plan` encodes them; answers
    /// its bytes.
    #[fills]
    fn state(&self, into: &mut [u8]) -> Result<u64, SupervisorError>;

    /// Ends the domain; its policy says what follows. It is not held against it.
    fn kill(&self, name: &str) -> Result<(), SupervisorError>;

    /// Ends the domain if it runs, and starts it (again), whatever its policy.
    fn restart(&self, name: &str) -> Result<(), SupervisorError>;
}

/// How a domain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct DomainReport {
    /// What it does.
    pub phase: DomainPhase,
    /// How many times it was started.
    pub starts: u32,
    /// Nanoseconds since boot at which it was last started.
    pub started: u64,
    /// Nanoseconds of processor time, over all its lives.
    pub time: u64,
    /// Pages of memory that it uses now.
    pub pages: u64,
    /// Kernel objects and handles that it uses now.
    pub objects: u64,
}

/// What a domain does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum DomainPhase {
    /// It runs.
    Running = 1,
    /// It ended, and is started again when its delay is over.
    Waiting = 2,
    /// It ended for good.
    Ended = 3,
}

/// Why the manager refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum SupervisorError {
    /// There is no such domain or component.
    NotFound,
    /// What is asked for is longer than the slice that it should go to.
    TooLong,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
