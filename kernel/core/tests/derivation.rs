//! Random sequences of `duplicate`, `close`, `revoke` and moves between processes against a model: a tree of handles, each with its
//! rights and its holder, in which closing hands what was derived on to the parent.

use proptest::{collection::vec, prelude::*};
use tessera_abi::{Error, Rights, Syscall, syscall::RESOURCE_HANDLES};
use tessera_core_testing::System;

#[derive(Clone, Copy, Debug)]
enum Step {
    Duplicate(usize, u64),
    Close(usize),
    Revoke(usize),
    Move(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || 0usize..64;
    let rights = prop_oneof![Just(u64::from(Rights::ALL.bits())), 0..u64::from(Rights::ALL.bits())];
    let step = prop_oneof![
        4 => (place(), rights).prop_map(|(of, rights)| Step::Duplicate(of, rights)),
        2 => place().prop_map(Step::Close),
        1 => place().prop_map(Step::Revoke),
        1 => place().prop_map(Step::Move),
    ];
    vec(step, 0..60)
}

/// A handle of the first program, or one that was moved away (number zero here).
struct Entry {
    number: u64,
    rights: u64,
    parent: Option<usize>,
    lives: bool,
}

/// Whether `entry` is derived from `from`.
fn derived(model: &[Entry], entry: usize, from: usize) -> bool {
    model[entry].parent.is_some_and(|parent| parent == from || derived(model, parent, from))
}

/// Takes an entry out; its children become its parent's.
fn take_out(model: &mut [Entry], gone: usize) {
    let parent = model[gone].parent;
    model[gone].lives = false;
    for entry in model.iter_mut().filter(|entry| entry.parent == Some(gone)) {
        entry.parent = parent;
    }
}

/// The same cases at every run, so that a change is judged by what it did; the fuzzer looks for new ones.
const SEED: proptest::test_runner::RngSeed = proptest::test_runner::RngSeed::Fixed(0x7e55e7a);

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: SEED, ..ProptestConfig::default() })]

    #[test]
    fn handles_are_what_the_model_says(steps in steps()) {
        let mut system = System::new(512, 1);
        let pool = system.first("pool");
        let (_, process) = system.process(pool);
        let event = system.call(Syscall::EventCreate, &[pool]).value();
        let all = Rights::ALL.bits();
        let [_, base, ..] = system.call(Syscall::PoolInspect, &[pool, RESOURCE_HANDLES]).values();
        let mut model = vec![Entry { number: event, rights: u64::from(all), parent: None, lives: true }];
        let has = |entry: &Entry, right: Rights| entry.rights & u64::from(right.bits()) != 0;
        for step in steps {
            let (Step::Duplicate(at, _) | Step::Close(at) | Step::Revoke(at) | Step::Move(at)) = step;
            let at = at % model.len();
            let here = model[at].lives && model[at].number != 0;
            if !here || at == 0 && matches!(step, Step::Close(_) | Step::Move(_)) {
                continue;
            }
            let number = model[at].number;
            match step {
                Step::Duplicate(_, rights) => {
                    let answer = system.call(Syscall::Duplicate, &[number, rights]);
                    let allowed = has(&model[at], Rights::DUPLICATE) && rights & !model[at].rights == 0;
                    prop_assert_eq!(answer.error(), (!allowed).then_some(Error::NoRight));
                    if allowed {
                        model.push(Entry { number: answer.value(), rights, parent: Some(at), lives: true });
                    }
                }
                Step::Close(_) => {
                    prop_assert_eq!(system.call(Syscall::Close, &[number]).error(), None);
                    take_out(&mut model, at);
                }
                Step::Revoke(_) => {
                    let allowed = has(&model[at], Rights::MANAGE);
                    let error = system.call(Syscall::Revoke, &[number]).error();
                    prop_assert_eq!(error, (!allowed).then_some(Error::NoRight));
                    if allowed {
                        let gone: Vec<usize> = (0..model.len()).filter(|entry| derived(&model, *entry, at)).collect();
                        gone.into_iter().for_each(|entry| model[entry].lives = false);
                    }
                }
                Step::Move(_) => {
                    let allowed = has(&model[at], Rights::TRANSFER);
                    let error = system.call(Syscall::ProcessGrant, &[process, number]).error();
                    prop_assert_eq!(error, (!allowed).then_some(Error::NoRight));
                    if allowed {
                        model[at].number = 0;
                    }
                }
            }
            let count = model.iter().filter(|entry| entry.lives).count() as u64;
            for entry in model.iter().filter(|entry| entry.number != 0) {
                let answer = system.call(Syscall::Inspect, &[entry.number]);
                if entry.lives {
                    prop_assert_eq!(answer.values()[1..3].to_vec(), vec![entry.rights, count]);
                } else {
                    prop_assert_eq!(answer.error(), Some(Error::BadHandle));
                }
            }
            let [_, used, ..] = system.call(Syscall::PoolInspect, &[pool, RESOURCE_HANDLES]).values();
            prop_assert_eq!(used, base + count - 1);
        }
    }
}
