//! Where a program begins: the start-up block, the main thread's record, then the program's `main`.

use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use tessera_abi::{Error, Startup};

use crate::handle::{Object, Owned, Result};
use crate::own;

/// Names the argument by which a process is told its own name.
pub(crate) const NAME_ARGUMENT: &str = "process-name=";

static BLOCK: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static BLOCK_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// What the process was started with.
#[derive(Debug)]
pub struct Start(());

impl Start {
    /// Takes the handle of this name. The handles of [`crate::own`] cannot be taken.
    pub fn take<T: Object>(&mut self, name: &str) -> Result<T> {
        if own::is_own(name) {
            return Err(Error::Occupied);
        }
        let object = T::from_owned(Owned::new(block().handle(name).ok_or(Error::NotFound)?));
        match object.inspect() {
            Ok(inspected) if inspected.kind == T::KIND => Ok(object),
            // Not ours to close: it may be taken as what it is.
            other => {
                let _ = object.into_owned().into_handle();
                Err(other.err().unwrap_or(Error::WrongKind))
            }
        }
    }

    /// Takes the handle of this name, whatever it is.
    #[cfg(target_os = "none")]
    pub(crate) fn take_owned(&mut self, name: &str) -> Result<Owned> {
        if own::is_own(name) {
            return Err(Error::Occupied);
        }
        block().handle(name).map(Owned::new).ok_or(Error::NotFound)
    }

    /// The names of all handles.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        block().handles().map(|(name, _)| name)
    }

    /// The arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &'static str> + use<> {
        block().arguments().filter(|argument| !argument.starts_with(NAME_ARGUMENT))
    }

    /// The value of the argument `NAME=VALUE`.
    pub fn argument(&self, name: &str) -> Option<&'static str> {
        self.arguments().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The process's name, as reports give it.
pub fn name() -> &'static str {
    block().arguments().find_map(|argument| argument.strip_prefix(NAME_ARGUMENT)).unwrap_or("init")
}

fn block() -> Startup<'static> {
    let first = BLOCK.load(Ordering::Acquire);
    if first.is_null() {
        return Startup::new(&[]);
    }
    // SAFETY: `begin` stored the block that the process was started with; it is mapped read-only and never unmapped.
    Startup::new(unsafe { core::slice::from_raw_parts(first, BLOCK_LENGTH.load(Ordering::Relaxed)) })
}

/// What the kernel enters: the first code of a program.
#[cfg(target_os = "none")]
mod entry {
    use core::sync::atomic::Ordering;

    use tessera_abi::Handle;

    use super::{BLOCK, BLOCK_LENGTH, Start, block};
    use crate::object::exit;
    use crate::{own, thread};

    /// Entered by the kernel: the block's address and length in the first two arguments, as at a call.
    #[unsafe(no_mangle)]
    extern "C" fn _start(block_address: *mut u8, length: usize) -> ! {
        BLOCK_LENGTH.store(length, Ordering::Relaxed);
        BLOCK.store(block_address, Ordering::Release);
        let startup = block();
        own::remember(&startup);
        thread::enter_main(startup.handle("thread").unwrap_or(Handle::NONE));
        unsafe extern "Rust" {
            safe fn tessera_main(start: Start) -> i32;
        }
        let code = tessera_main(Start(()));
        exit(code as u32 as u64)
    }
}

/// Names the function at which the program begins: `fn main(start: Start) -> i32`. Its result is the exit code.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn tessera_main(start: $crate::Start) -> i32 {
            let main: fn($crate::Start) -> i32 = $main;
            main(start)
        }
    };
}
