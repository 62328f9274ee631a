//! seccomp(2): the filters that programs install on themselves. A filter looks at each call before it is made, and says what is to
//! become of it; all that were installed are asked, and the strictest answer counts.

pub mod program;

use alloc::sync::Arc;

use crate::errno::{Errno, Result};

pub use program::{Instruction, Program};

/// What filters may look at (`struct seccomp_data`): number, architecture, instruction, six arguments.
pub const DATA: usize = 64;
/// `AUDIT_ARCH_X86_64`.
pub const ARCHITECTURE: u32 = 0xc000_003e;
/// The most instructions of all filters of a thread; each filter costs some beside its own (`MAX_INSNS_PER_PATH`).
const MOST_INSTRUCTIONS: usize = 32_768;
const COST: usize = 4;

/// What filters say, strictest first (the upper half of what a program returns; the lower half is the action's data).
pub mod action {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERROR: u32 = 0x0005_0000;
    pub const NOTIFY: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// The part of what a program returns that is the action.
    pub const MASK: u32 = 0xffff_0000;
}

/// How a thread's calls are looked at.
#[derive(Clone, Default)]
pub enum Seccomp {
    #[default]
    Off,
    /// Reading, writing, ending and returning from handlers only.
    Strict,
    Filter(Arc<Filter>),
}

impl Seccomp {
    /// As `PR_GET_SECCOMP` and /proc/PID/status tell it.
    pub fn mode(&self) -> u32 {
        match self {
            Seccomp::Off => 0,
            Seccomp::Strict => 1,
            Seccomp::Filter(_) => 2,
        }
    }

    /// The newest filter.
    pub fn filter(&self) -> Option<&Arc<Filter>> {
        match self {
            Seccomp::Filter(filter) => Some(filter),
            _ => None,
        }
    }
}

/// A filter, and those that were installed before it.
pub struct Filter {
    program: Program,
    /// Whether what it does not allow is logged.
    logs: bool,
    before: Option<Arc<Filter>>,
    /// The instructions of all.
    instructions: usize,
}

impl Filter {
    /// Adds a filter to those before.
    ///
    /// # Errors
    /// `ENOMEM` if they are too long together.
    pub fn new(program: Program, logs: bool, before: Option<Arc<Filter>>) -> Result<Arc<Filter>> {
        let earlier = before.as_ref().map_or(0, |filter| filter.instructions + COST);
        let instructions = earlier + program.len();
        if instructions > MOST_INSTRUCTIONS {
            return Err(Errno::ENOMEM);
        }
        Ok(Arc::new(Filter { program, logs, before, instructions }))
    }

    /// What is to become of a call: the strictest of all answers, of equals the newest filter's.
    pub fn decide(&self, data: &[u8; DATA]) -> u32 {
        let mut strictest = self.program.run(data);
        let mut at = self.before.as_deref();
        while let Some(filter) = at {
            let answer = filter.program.run(data);
            // Compared as signed numbers: the sign bit makes killing the process the strictest.
            if ((answer & action::MASK) as i32) < ((strictest & action::MASK) as i32) {
                strictest = answer;
            }
            at = filter.before.as_deref();
        }
        strictest
    }

    pub fn logs(&self) -> bool {
        self.logs
    }

    /// Whether `other` is this filter or was installed before it.
    pub fn includes(self: &Arc<Self>, other: &Arc<Filter>) -> bool {
        let mut at = Some(self);
        while let Some(filter) = at {
            if Arc::ptr_eq(filter, other) {
                return true;
            }
            at = filter.before.as_ref();
        }
        false
    }
}

impl Drop for Filter {
    /// A long chain is taken apart link by link: dropping it by recursion could need more stack than there is.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(filter) = next {
            next = Arc::into_inner(filter).and_then(|mut filter| filter.before.take());
        }
    }
}

/// A call as filters see it.
pub fn data(number: u64, instruction: u64, arguments: &[u64; 6]) -> [u8; DATA] {
    let head = u64::from(number as u32) | u64::from(ARCHITECTURE) << 32;
    let [a, b, c, d, e, f] = *arguments;
    let words = [head, instruction, a, b, c, d, e, f];
    let mut bytes = [0; DATA];
    for (to, from) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn always(value: u32) -> Program {
        Program::check(vec![Instruction { code: 6, when_true: 0, when_false: 0, k: value }]).unwrap()
    }

    #[test]
    fn the_strictest_answer_counts() {
        let data = data(1, 0, &[0; 6]);
        let allow = Filter::new(always(action::ALLOW), false, None).unwrap();
        assert_eq!(allow.decide(&data), action::ALLOW);
        let error = Filter::new(always(action::ERROR | 5), false, Some(allow.clone())).unwrap();
        assert_eq!(error.decide(&data), action::ERROR | 5);
        let newer = Filter::new(always(action::ERROR | 7), false, Some(error.clone())).unwrap();
        assert_eq!(newer.decide(&data), action::ERROR | 7);
        let thread = Filter::new(always(action::KILL_THREAD), false, Some(newer)).unwrap();
        let process = Filter::new(always(action::KILL_PROCESS), false, Some(thread)).unwrap();
        let last = Filter::new(always(action::ALLOW), false, Some(process)).unwrap();
        assert_eq!(last.decide(&data), action::KILL_PROCESS);
        assert!(last.includes(&allow) && !allow.includes(&last));
    }

    #[test]
    fn filters_cannot_grow_without_bound_nor_their_end_run_out_of_stack() {
        let mut last = None;
        let mut count = 0;
        while let Ok(filter) = Filter::new(always(action::ALLOW), false, last.clone()) {
            last = Some(filter);
            count += 1;
        }
        assert!(count > MOST_INSTRUCTIONS / 10 && count <= MOST_INSTRUCTIONS / (COST + 1) + 1);
    }
}
