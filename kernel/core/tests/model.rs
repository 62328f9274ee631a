//! Random steps on the machine and on a small independent model: who holds what, what each pool owes, who waits for what, what each is
//! told. A failing sequence is made small.

use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use tessera_core_testing::model::{Step, play};

/// The same cases at every run, so that a change is judged by what it did. `TESSERA_SEED` and `TESSERA_CASES` search elsewhere.
fn config() -> ProptestConfig {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    ProptestConfig {
        cases: number("TESSERA_CASES").map_or(60, |cases| cases as u32),
        rng_seed: RngSeed::Fixed(number("TESSERA_SEED").unwrap_or(0x7e55e7a)),
        failure_persistence: None,
        max_shrink_iters: 3_000,
        ..ProptestConfig::default()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<u8>(), any::<u8>(), any::<[u8; 4]>());
    vec(step.prop_map(|(actor, what, with)| Step { actor, what, with }), 0..250)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_machine_does_what_the_model_says(steps in steps()) {
        play(&steps);
    }
}
