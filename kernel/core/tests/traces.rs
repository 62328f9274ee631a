//! Traces of calls, faults and interrupts: those that once found a bug or reach much, kept for the fuzzer, and random ones that shrink.

use proptest::{collection::vec, prelude::*};
use std::{fs, path::Path};
use tessera_core_testing::trace;

#[test]
fn kept_traces_run() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/calls");
    let mut count = 0;
    for entry in fs::read_dir(corpus).expect("there is a corpus").flatten() {
        trace::run(&fs::read(entry.path()).expect("a trace"));
        count += 1;
    }
    assert!(count > 0, "the corpus is empty");
}

/// The same cases at every run, so that a change is judged by what it did; the fuzzer looks for new ones.
const SEED: proptest::test_runner::RngSeed = proptest::test_runner::RngSeed::Fixed(0x7e55e7a);

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: SEED, ..ProptestConfig::default() })]

    #[test]
    fn any_trace_runs(trace in vec(any::<u8>(), 0..1500)) {
        trace::run(&trace);
    }
}
