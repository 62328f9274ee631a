//! What the manager's rules act on.

use core::fmt;

use tessera_plan::Ending;

/// What a domain uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of processor time, over all its lives.
    pub time: u64,
    /// Pages used now.
    pub pages: u64,
    /// Kernel objects and handles used now.
    pub objects: u64,
}

/// The machine as the manager's rules see it. Domains have the indexes that the plan gives them.
pub trait World {
    /// Nanoseconds since boot.
    fn now(&self) -> u64;

    /// Starts a domain that does not run, with exactly the handles that the plan names. `life` counts its starts from 1.
    /// The error is the kernel's code.
    fn start(&mut self, domain: usize, life: u32) -> Result<(), u64>;

    /// How a domain that was started has ended; nothing while it runs. Once it is told, nothing is left of that life.
    fn ended(&mut self, domain: usize) -> Option<Ending>;

    /// Ends a domain that runs.
    fn kill(&mut self, domain: usize);

    /// Raises the bits of a domain's event by which it is told of restarted servers.
    fn tell(&mut self, client: usize, bits: u64);

    /// What a domain uses.
    fn usage(&self, domain: usize) -> Usage;

    /// What the manager itself uses, and pages of all memory: how many there are, and are used.
    fn own_usage(&self) -> (Usage, (u64, u64));

    /// Turns the machine off.
    fn power_off(&mut self, code: u64);

    /// Tells people.
    fn say(&mut self, text: fmt::Arguments<'_>);
}
