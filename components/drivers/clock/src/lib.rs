//! The time of day: a PC's real-time clock (Motorola MC146818A data sheet), read once; from then on the kernel's clock counts on.
//!
//! The chip tells whole seconds, so the time is up to a second behind. What it tells is checked: a date that is none is an error, not a
//! panic and not another date.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::arithmetic_side_effects))]

extern crate alloc;

mod cmos;
mod date;

use alloc::sync::Arc;

pub use cmos::{Cmos, Registers, read};
pub use date::Date;
use tessera_interfaces::{WallClock, WallClockError};
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::{log, own};

const SECOND: u64 = 1_000_000_000;

/// The time of day.
pub struct Clock {
    /// Nanoseconds since 1970 when the kernel's clock was at 0; none if the date is not known.
    boot: Option<u64>,
}

impl Clock {
    /// Reads the chip.
    pub fn new(context: Context) -> Result<Arc<Clock>, StartError> {
        let told = context.argument("boot").and_then(|seconds| seconds.parse::<u64>().ok());
        let told = told.and_then(|seconds| seconds.checked_mul(SECOND));
        let boot = match read(&Cmos::new(context.take("cmos")?)) {
            Some(date) => {
                let since_boot = own::clock().now()?;
                date.seconds().and_then(|seconds| seconds.checked_mul(SECOND)?.checked_sub(since_boot))
            }
            None => told,
        };
        if boot.is_none() {
            log!("this machine has no clock that knows the date");
        }
        Ok(Arc::new(Clock { boot }))
    }
}

impl WallClock for Clock {
    fn now(&self) -> Result<u64, WallClockError> {
        let since_boot = own::clock().now().map_err(|_| WallClockError::Device)?;
        self.boot.and_then(|boot| boot.checked_add(since_boot)).ok_or(WallClockError::Device)
    }
}
