//! The manager's own interface: what runs, and what is to become of it.

use tessera_runtime::{InterfaceError, Plain, TransportError, interface};

/// Authority over the running components.
#[interface]
pub trait Supervisor {
    /// How many components the image has; they are numbered from 0.
    fn count(&self) -> Result<u32, SupervisorError>;

    /// How a component is.
    fn report(&self, number: u32) -> Result<ComponentReport, SupervisorError>;

    /// Puts a component's name into `into`; answers its bytes.
    #[fills]
    fn name(&self, number: u32, into: &mut [u8]) -> Result<u64, SupervisorError>;

    /// Puts what runs into `into`, as lines of text; answers its bytes.
    #[fills]
    fn components(&self, into: &mut [u8]) -> Result<u64, SupervisorError>;

    /// Ends the component's domain as a crash would: its policy says what follows.
    fn kill(&self, name: &str) -> Result<(), SupervisorError>;

    /// Ends the component's domain and starts it again, whatever its policy.
    fn restart(&self, name: &str) -> Result<(), SupervisorError>;

    /// Puts the reports of the last crashes into `into`, as text, the newest last; answers its bytes.
    #[fills]
    fn crashes(&self, into: &mut [u8]) -> Result<u64, SupervisorError>;
}

/// How a component is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct ComponentReport {
    /// What it does.
    pub state: ComponentState,
    /// The number of its domain.
    pub domain: u32,
    /// How often its domain was started again.
    pub restarts: u32,
    /// Bytes of memory that its domain has.
    pub memory: u64,
    /// Bytes of memory that its domain may have.
    pub memory_limit: u64,
    /// Nanoseconds of processor time that its domain has used since it was first started.
    pub processor_time: u64,
    /// Nanoseconds since boot at which it was last started.
    pub started: u64,
}

/// What a component does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum ComponentState {
    /// It is being started.
    Starting = 1,
    /// It runs.
    Running = 2,
    /// It ended, and is started again when its back-off is over.
    Waiting = 3,
    /// It ended and stays so.
    Ended = 4,
    /// It failed too often, and stays ended.
    GivenUp = 5,
}

/// Why the manager refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum SupervisorError {
    /// There is no such component.
    NotFound,
    /// The component's policy or state does not allow it.
    Refused,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
