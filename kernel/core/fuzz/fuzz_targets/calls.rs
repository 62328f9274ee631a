//! Searches for a trace of system calls, faults and interrupts on which the machine panics, does not come to rest, or loses count.
#![no_main]

libfuzzer_sys::fuzz_target!(|trace: &[u8]| tessera_core_testing::trace::run(trace));
