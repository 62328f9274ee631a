//! What the manager tells of a running image.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// A running image at one moment. The domains are those of the plan, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Nanoseconds since boot.
    pub now: u64,
    /// Nanoseconds of processor time that the manager itself has used.
    pub manager_time: u64,
    /// Kernel objects and handles of the manager itself, and what the domains' pools hold for theirs.
    pub manager_objects: u64,
    /// Pages that all pools together have, and use.
    pub memory: (u64, u64),
    pub domains: Vec<DomainState>,
    /// The latest crash reports, oldest first.
    pub reports: Vec<Report>,
}

/// What a domain is doing and what it has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainState {
    pub phase: Phase,
    /// How many times it was started.
    pub starts: u32,
    /// When it was last started, in nanoseconds since boot.
    pub started: u64,
    /// Nanoseconds of processor time, over all its lives.
    pub time: u64,
    /// Pages used now.
    pub pages: u64,
    /// Kernel objects and handles used now.
    pub objects: u64,
}

/// How far a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Running,
    /// It ended, and is started again at this time, in nanoseconds since boot.
    Waiting(u64),
    /// It ended for good.
    Ended,
}

/// How a domain ended once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The domain's index in the plan.
    pub domain: u16,
    /// Which of its lives.
    pub life: u32,
    /// Nanoseconds since boot.
    pub at: u64,
    pub ending: Ending,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// By itself, with this code.
    Code(u64),
    /// By a fault: its kind (a code of the ABI), the address that was accessed, the instruction.
    Fault { kind: u64, address: u64, instruction: u64 },
    /// The manager ended it because somebody asked.
    Killed,
    /// It could not be started; the kernel's error code.
    NotStarted(u64),
}

impl State {
    /// The state as bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Writing into a vector cannot fail: no type here refuses to be serialised.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads what [`State::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<State, Refusal> {
        postcard::from_bytes(bytes).map_err(|_| Refusal::Encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_was_written_is_read() {
        let state = State {
            now: 7,
            manager_time: 1,
            manager_objects: 8,
            memory: (100, 50),
            domains: vec![DomainState {
                phase: Phase::Waiting(9),
                starts: 2,
                started: 3,
                time: 4,
                pages: 5,
                objects: 6,
            }],
            reports: vec![Report {
                domain: 0,
                life: 1,
                at: 2,
                ending: Ending::Fault { kind: 1, address: 2, instruction: 3 },
            }],
        };
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Ok(state));
        for length in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..length]), Err(Refusal::Encoding));
        }
    }
}
