//! What happens when a program gives up: a report with a backtrace, then the end of the process.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use tessera_abi::NATIVE_BASE;

use crate::object::exit;
use crate::{log, raw, start};

/// The exit code of a process that gave up.
pub const CODE: u64 = 101;

/// No longer backtrace is printed.
const FRAMES: usize = 64;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static AGAIN: AtomicBool = AtomicBool::new(false);
    if AGAIN.swap(true, Ordering::Relaxed) {
        // The report itself failed, or another thread reports: the process ends either way.
        exit(CODE);
    }
    let name = start::name();
    match info.location() {
        Some(location) => {
            log!("{name}: panic at {}:{}: {}", location.file(), location.line(), info.message());
        }
        None => log!("{name}: panic: {}", info.message()),
    }
    let mut frame = raw::frame_pointer();
    for _ in 0..FRAMES {
        // Frames are at rising addresses of the native half; anything else ends the chain.
        if frame < NATIVE_BASE || !frame.is_multiple_of(8) {
            break;
        }
        // SAFETY: code is compiled with frame pointers, so that this is the frame record of a function that is being
        // executed. Were it not, the process would fault, and it is about to end.
        let [next, address] = unsafe { *(frame as *const [u64; 2]) };
        if address < NATIVE_BASE {
            break;
        }
        log!("  at {name} {address:#x}");
        if next <= frame {
            break;
        }
        frame = next;
    }
    exit(CODE)
}
