//! Every call with pseudo-random arguments, made by processes that nobody needs. What is tested is that the machine goes on, that
//! such a process can be ended, and (by the supervisor) that nothing is left of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use tessera_runtime::abi::Syscall;
use tessera_runtime::abi::syscall::map_flags;
use tessera_runtime::object::{Endpoint, Session, Vmo};
use tessera_runtime::{Object, Owned, own};

use crate::context::{Context, event, number, within};
use crate::random::Random;
use crate::{Role, Test, machine};

pub const TESTS: &[Test] = &[
    ("every call survives random arguments", alone),
    ("processes that make random calls side by side harm nobody", side_by_side),
];

pub const ROLES: &[Role] = &[("garbage", garbage)];

/// Calls of one process, if it lives that long.
const CALLS: usize = 4000;
/// How long it may take: a random call can wait for ever.
const MILLISECONDS: u64 = 150;

fn alone(context: &mut Context) {
    for seed in 0..16 {
        let child = context.role("garbage", |program| program.argument(&format!("seed={seed}")));
        let _ = child.wait(within(MILLISECONDS));
    }
    assert_eq!(event().clear(0), Ok(0), "this process is as it was");
}

fn side_by_side(context: &mut Context) {
    for round in 0..3 {
        let children: Vec<_> = (0..6)
            .map(|index| {
                context.role("garbage", |program| program.argument(&format!("seed={}", 100 + round * 6 + index)))
            })
            .collect();
        for child in &children {
            let _ = child.wait(within(MILLISECONDS));
        }
    }
}

/// Makes random calls with what it holds, with what it does not hold, with its own memory and others'.
fn garbage(context: &mut Context) -> i32 {
    let mut random = Random::new(context.number("seed"));
    let pool = own::pool();
    let endpoint = Endpoint::create(&pool).unwrap();
    let session = Session::create(&endpoint, &pool, 7).unwrap();
    let memory = Vmo::create(&pool, 16 << 10).unwrap();
    let shown = own::space().map_flags(&memory, 0, 0, 16 << 10, map_flags::READ | map_flags::WRITE).unwrap();
    let buffer = Box::new([0_u8; 4096]);
    let mut handles: Vec<u64> = Vec::from([
        number(&*pool),
        number(&*own::space()),
        number(&*own::process()),
        number(&*own::budget()),
        number(&*tessera_runtime::thread::current()),
        number(&endpoint),
        number(&session),
        number(&memory),
        number(&event()),
    ]);
    // The event's handle was closed with it: a stale number is among the arguments too.
    let kept = event();
    handles.push(number(&kept));
    for _ in 0..CALLS {
        let mut syscall = random.below(Syscall::ALL.len() as u64 + 2);
        if matches!(Syscall::from_number(syscall), Some(Syscall::Exit | Syscall::ThreadExit)) && random.below(50) != 0 {
            syscall = Syscall::Duplicate as u64;
        }
        let arguments: [u64; 6] =
            core::array::from_fn(|index| argument(&mut random, index, &handles, shown, &buffer[..]));
        if let Ok(values) = machine::call(syscall, &arguments)
            && handles.len() < 200
        {
            handles.push(values[0]);
        }
    }
    let _: [Owned; 4] = [kept.into_owned(), memory.into_owned(), session.into_owned(), endpoint.into_owned()];
    0
}

fn argument(random: &mut Random, index: usize, handles: &[u64], shown: u64, buffer: &[u8]) -> u64 {
    const ODD: [u64; 12] = [
        0,
        1,
        0x1000,
        0x7fff_ffff_f000,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8020_0000,
        u64::MAX,
        1 << 63,
        0xffff_ffff,
        0x7f00_0000_0000,
        4096 - 1,
    ];
    // Handles are mostly first, so that calls get beyond their first check.
    let choice = if index == 0 { random.below(8) } else { 4 + random.below(12) };
    match choice {
        0..=6 => random.one_of(handles),
        7 | 8 => random.one_of(&ODD),
        9 => random.next(),
        10 => shown + random.below(4) * 4096,
        11 => buffer.as_ptr() as u64 + random.below(4096),
        12 => random.below(16) * 4096,
        13 => 1 << random.below(64),
        _ => random.below(40),
    }
}
