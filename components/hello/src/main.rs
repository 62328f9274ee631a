//! The smallest program: greets from user space, names its arguments, ends.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tessera_runtime::{Start, log, program};

program!(main);

fn main(start: Start) -> i32 {
    log!("Hello from user space: this is {} on Tessera.", tessera_runtime::name());
    for argument in start.arguments() {
        log!("argument: {argument}");
    }
    0
}
