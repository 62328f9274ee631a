//! Traces of calls, faults and interrupts: those that once found a bug or reach much, kept for the fuzzer, and random ones that shrink.

use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
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

/// The same cases at every run, so that a change is judged by what it did; the fuzzer looks for new ones, and so do `TESSERA_SEED` and
/// `TESSERA_CASES`.
fn config() -> ProptestConfig {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    ProptestConfig {
        cases: number("TESSERA_CASES").map_or(200, |cases| cases as u32),
        rng_seed: RngSeed::Fixed(number("TESSERA_SEED").unwrap_or(0x7e55e7a)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_trace_runs(trace in vec(any::<u8>(), 0..1500)) {
        trace::run(&trace);
    }
}
