//! The program's threads: with vector registers and the program's thread-local variables, which the component's own threads do without.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::iter;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use tessera_runtime::Result;
use tessera_runtime::component::{Context, StartError};
use tessera_runtime::thread::{Builder, JoinHandle, Locals};

/// Bytes of the first thread's stack, unless the image says otherwise. Memory is taken when it is used.
const STACK: u64 = 8 << 20;

unsafe extern "C" {
    /// Where std begins (`std/src/sys/pal/hermit/mod.rs`).
    fn runtime_entry(count: i32, arguments: *const *const c_char, environment: *const *const c_char) -> !;
    /// The first byte of the thread-local variables that have a value; bytes of these, and of all. From the linker script.
    static tessera_locals_image: u8;
    static tessera_locals_sizes: [usize; 2];
}

/// The list of the program's environment, which ends with null.
static ENVIRONMENT: AtomicPtr<*const c_char> = AtomicPtr::new(null_mut());

/// What the image gave the program as its environment: texts `NAME=VALUE`.
pub fn environment() -> impl Iterator<Item = &'static CStr> {
    let mut next = ENVIRONMENT.load(Ordering::Acquire);
    iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: the list and its texts are never freed nor changed; it ends with null, behind which nothing is looked at.
        unsafe {
            let entry = *next;
            if entry.is_null() {
                return None;
            }
            next = next.add(1);
            Some(CStr::from_ptr(entry))
        }
    })
}

fn locals() -> Locals {
    // SAFETY: the linker script puts both there, in memory that nobody writes.
    unsafe {
        let [image, size] = tessera_locals_sizes;
        Locals { image: core::slice::from_raw_parts(&raw const tessera_locals_image, image), size }
    }
}

/// Starts a thread of the program.
pub fn spawn(stack: u64, main: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    Builder::new().stack(stack).vector().locals(locals()).spawn(main)
}

/// Starts the program with the arguments that the image gives: `argument=TEXT` is one of its own, `environment=NAME=VALUE` a variable,
/// `stack=BYTES` its first thread's stack.
pub fn start(context: &Context) -> core::result::Result<(), StartError> {
    let texts = |prefix: &'static str| {
        let texts = context.arguments().filter_map(move |argument| argument.strip_prefix(prefix));
        texts.filter_map(|text| CString::new(text).ok())
    };
    let name = CString::new(context.name()).ok();
    let arguments: Vec<CString> = name.into_iter().chain(texts("argument=")).collect();
    let environment: Vec<CString> = texts("environment=").collect();
    let stack = context.parsed("stack", STACK)?;
    spawn(stack, move || {
        // Kept for as long as the program runs: it reads them at any time.
        let pointers = |texts: Vec<CString>| -> &'static [*const c_char] {
            let pointers = texts.into_iter().map(|text| text.into_raw().cast_const());
            Box::leak(pointers.chain([null()]).collect())
        };
        let count = arguments.len() as i32;
        let (arguments, environment) = (pointers(arguments), pointers(environment));
        ENVIRONMENT.store(environment.as_ptr().cast_mut(), Ordering::Release);
        // SAFETY: both lists end with null and are never freed; this is the program's first thread, begun as `spawn` says.
        unsafe { runtime_entry(count, arguments.as_ptr(), environment.as_ptr()) }
    })?;
    Ok(())
}
