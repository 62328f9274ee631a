//! What calls cost, measured inside the machine through the runtime's ordinary API.
//!
//! Each line is `bench NAME VALUE UNIT`: the median of [`SAMPLES`] readings of the time stamp counter. Under
//! `-icount shift=0` a tick is an executed instruction; the cost of reading the counter twice is measured first and taken off.
//! Started with `serve=SHAPE`, the program is the server of a measurement, a process of its own.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod interface;
mod measure;
mod server;

use measure::{Bench, SAMPLES, report, sample};
use tessera_runtime::abi::x86_64::GuestState;
use tessera_runtime::object::{Access, Event, Limits, Session, Space, Vmo, guest, null, yield_now};
use tessera_runtime::{Mapping, Message, Object, Result, Start, log, own, program, thread};

program!(main);

fn main(mut start: Start) -> i32 {
    if let Some(shape) = start.argument("serve") {
        return if shape == "interface" { interface::serve(&mut start) } else { server::serve(&mut start, shape) };
    }
    match run(&mut start) {
        Ok(()) => 0,
        Err(error) => {
            log!("bench: a measurement was refused: {error}");
            1
        }
    }
}

fn run(start: &mut Start) -> Result<()> {
    let bench = Bench::new(start)?;
    if start.arguments().any(|argument| argument == "interface") {
        return interface::run(&bench);
    }
    report("null-system-call", sample(null));
    calls(&bench)?;
    switches()?;
    map_and_unmap()?;
    guest_crossings()
}

/// Round trips between address spaces, and within one.
fn calls(bench: &Bench) -> Result<()> {
    bench.served("words", |session| {
        report("call-0-words", sample(|| call::<0>(session)));
        report("call-4-words", sample(|| call::<4>(session)));
        report("call-8-words", sample(|| call::<8>(session)));
    })?;
    bench.served("bytes", |session| {
        let mut buffer = [7; 1024];
        let round_trip = sample(|| {
            let _ = session.call(Message::new(0).bytes(&mut buffer, 800));
        });
        report("call-100-words", round_trip);
    })?;
    bench.served("lease", |session| {
        let memory = alloc::vec![5_u8; 8192];
        let page = memory.as_ptr().align_offset(4096);
        let Some(lent) = memory.get(page..page + 4096) else {
            return;
        };
        let with = sample(|| {
            let _ = session.call(Message::new(1).read(lent));
        });
        let without = sample(|| {
            let _ = session.call(Message::new(0).read(lent));
        });
        // `rep movsq` counts each of its 512 iterations, which is the copy and not the call.
        report("lease-4096-bytes", with.saturating_sub(without).saturating_sub(512));
        report("lease-4096-bytes-with-copy", with.saturating_sub(without));
    })
}

fn call<const N: usize>(session: &Session) {
    // A refusal would show as a figure that is far too small.
    let _ = session.call_words(N as u32, [1; N]);
}

/// Another thread of this process: at the same priority for `yield`, at a higher one for a signal.
fn switches() -> Result<()> {
    let pool = own::pool();
    // The partner gives way for as long as the samples are taken; the first yields let it start.
    let partner = thread::Builder::new().spawn(|| {
        for _ in 0..SAMPLES * 2 {
            yield_now();
        }
    })?;
    yield_now();
    // Two yields, one of each thread, bring the turn back here.
    report("yield-with-switch", sample(yield_now) / 2);
    partner.join();

    let (there, back) = (Event::create(&pool)?, Event::create(&pool)?);
    let (waits, answers) = (there.try_clone()?, back.try_clone()?);
    let mine = own::budget();
    let low = mine.create(&pool, Limits { priority: mine.limits()?.priority - 1, amount: 0, period: 0, cores: 0 })?;
    let main = thread::current();
    main.set_budget(Some(&low))?;
    let waiter = thread::Builder::new().budget(&mine).spawn(move || {
        loop {
            if waits.wait(3).is_ok_and(|bits| bits & 2 != 0) {
                return;
            }
            let _ = answers.raise(1);
        }
    })?;
    report(
        "signal-and-back",
        sample(|| {
            let _ = there.raise(1);
        }),
    );
    there.raise(2)?;
    waiter.join();
    main.set_budget(Some(&mine))?;
    Ok(())
}

/// One page, entered in the tables and taken out again.
fn map_and_unmap() -> Result<()> {
    let memory = Vmo::create(&own::pool(), 4096)?;
    memory.write(0, &[1; 16])?;
    let cost = sample(|| drop(Mapping::populated(&memory, 0, 4096, Access::Write)));
    report("map-and-unmap", cost);
    Ok(())
}

/// From a system call of a guest to its thread, and back behind it: in registers, and with the guest's whole state in memory.
fn guest_crossings() -> Result<()> {
    const CODE: u64 = 0x40_0000;
    // 1: mov eax, 110; syscall; jmp 1
    const LOOP: [u8; 9] = [0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    let pool = own::pool();
    let (space, text) = (Space::create(&pool)?, Vmo::create(&pool, 4096)?);
    text.write(0, &LOOP)?;
    space.map_at(&text, 0, CODE, 4096, Access::Execute)?;
    guest::create(&thread::current(), &pool, &space)?;
    let mut state = GuestState::default();
    state.registers.rip = CODE;
    let whole = sample(|| {
        let _ = guest::enter(&mut state);
    });
    let registers = sample(|| {
        let _ = guest::resume(1, &mut state);
    });
    // The guest's own two instructions before its call are not the crossing.
    report("guest-crossing", registers.saturating_sub(2));
    report("guest-crossing-in-memory", whole.saturating_sub(2));
    Ok(())
}
