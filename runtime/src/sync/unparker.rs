//! Unparking a thread that one has no handle to.

use core::sync::atomic::{AtomicU32, Ordering};

use tessera_abi::Syscall;

use crate::handle::request;
use crate::thread;

/// Names a thread of this process that others unpark. Which one may change, and it may have ended.
#[derive(Debug, Default)]
pub struct Unparker(AtomicU32);

impl Unparker {
    /// Names the calling thread from now on.
    pub fn adopt(&self) {
        self.0.store(thread::own_number(), Ordering::Release);
    }

    /// Unparks the thread that it names, if it names one. The number of one that has ended names nothing, or a later thread: whoever parks
    /// looks again whenever it is unparked.
    pub fn unpark(&self) {
        let number = self.0.load(Ordering::Acquire);
        if number != 0 {
            let _ = request(Syscall::Unpark, [number.into()]);
        }
    }
}
