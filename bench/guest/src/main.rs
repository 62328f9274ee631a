#![no_std]
#![no_main]
use tessera_runtime::{Start, program}; program!(main); fn main(_: Start) -> i32 { 0 }
