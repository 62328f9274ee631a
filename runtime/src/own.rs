//! The handles that every process has of itself, as the start-up block named them.
//!
//! They belong to the process as a whole and stay open until it ends, which is why they are given out as `ManuallyDrop`.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tessera_abi::{Handle, Startup};

use crate::handle::{Object, Owned};
use crate::object::{Budget, Clock, Log, Pool, Process, Space, ticks};

/// The number before any start-up block was read. A process of a host has none, and fixed numbers instead.
#[cfg(target_os = "none")]
const fn initial(_: &str) -> u32 {
    0
}
#[cfg(not(target_os = "none"))]
use crate::host::own_number as initial;

macro_rules! own {
    ($($(#[$doc:meta])* $name:ident: $type:ident = $text:literal;)*) => {
        mod number {
            use super::AtomicU32;
            $(#[allow(non_upper_case_globals)] pub static $name: AtomicU32 = AtomicU32::new(super::initial($text));)*
        }

        $($(#[$doc])*
        ///
        /// Where the process was not given it, every use of it is refused.
        #[inline]
        pub fn $name() -> ManuallyDrop<$type> {
            let handle = Handle(number::$name.load(Ordering::Relaxed));
            ManuallyDrop::new($type::from_owned(Owned::new(handle)))
        })*

        #[cfg_attr(not(target_os = "none"), allow(dead_code))]
        /// Remembers the process's own handles; before anything else runs.
        pub(crate) fn remember(startup: &Startup) {
            $(if let Some(handle) = startup.handle($text) {
                number::$name.store(handle.0, Ordering::Relaxed);
            })*
        }

        /// Whether a handle of this name belongs to the process as a whole.
        pub(crate) fn is_own(name: &str) -> bool {
            matches!(name, "thread" $(| $text)*)
        }
    };
}

own! {
    /// The pool that the process's threads are charged to, and its heap and stacks, unless these have another.
    pool: Pool = "pool";
    /// The space that it runs in.
    space: Space = "space";
    /// The process.
    process: Process = "process";
    /// What its threads run on.
    budget: Budget = "budget";
    /// The debug log.
    log: Log = "log";
    /// The clock.
    clock: Clock = "clock";
}

/// The time stamp counter's value at boot, and nanoseconds a tick times 2^32; 0 before anybody asked.
static BOOT: AtomicU64 = AtomicU64::new(0);
static SCALE: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds since boot, as the process's [`clock`] has them, read off the time stamp counter without a system call. 0 where the process was given no clock.
#[inline]
pub fn now() -> u64 {
    let scale = match SCALE.load(Ordering::Acquire) {
        0 => learn_scale(),
        scale => scale,
    };
    let elapsed = ticks().saturating_sub(BOOT.load(Ordering::Relaxed));
    ((u128::from(elapsed) * u128::from(scale)) >> 32) as u64
}

#[cold]
fn learn_scale() -> u64 {
    let clock = clock();
    let (Ok(frequency), Ok(boot)) = (clock.ticks_a_second(), clock.ticks_at_boot()) else { return 0 };
    BOOT.store(boot, Ordering::Relaxed);
    let scale = ((1_000_000_000_u128 << 32) / u128::from(frequency.max(1))) as u64;
    SCALE.store(scale, Ordering::Release);
    scale
}

/// The number of the pool of the heap and the stacks, where they have one of their own.
static HEAP_POOL: AtomicU32 = AtomicU32::new(0);

/// The pool that the heap and the stacks of new threads are charged to.
#[inline]
pub fn heap_pool() -> ManuallyDrop<Pool> {
    match HEAP_POOL.load(Ordering::Relaxed) {
        0 => pool(),
        number => ManuallyDrop::new(Pool::from_owned(Owned::new(Handle(number)))),
    }
}

/// Charges what the heap takes from now on, and the stacks of new threads, to a pool of their own: whatever else the process uses up,
/// they have what is in it.
pub fn set_heap_pool(pool: Pool) {
    HEAP_POOL.store(pool.into_owned().into_handle().0, Ordering::Relaxed);
}
