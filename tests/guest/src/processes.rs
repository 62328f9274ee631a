//! Processes: what they are started with, how they end, what is left of them.

use tessera_runtime::object::{Event, Process, Progress, Space, Vmo};
use tessera_runtime::{Error, Mapping, Object, own};

use crate::context::{Context, event, pool, within};
use crate::{Role, Test};

pub const TESTS: &[Test] = &[
    ("a process tells its exit code", codes),
    ("a process is started with what it was given and nothing else", given),
    ("a process that was not started can be ended", never_started),
    ("who watches a process is told of its end, also afterwards", watched),
    ("a killed process takes its threads along", killed),
    ("memory is shared between processes", shared),
    ("a process that nobody can name any more ends", unnamed),
    ("a panic ends a process with code 101", panicked),
];

pub const ROLES: &[Role] = &[("exit", exit), ("given", told), ("busy", busy), ("sharer", sharer), ("panic", give_up)];

fn exit(context: &mut Context) -> i32 {
    context.number("code") as i32
}

fn codes(context: &mut Context) {
    for code in [0_u64, 1, 125, 4_000_000_000] {
        let text = alloc::format!("code={code}");
        let child = context.role("exit", |program| program.argument(&text));
        assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(code)));
    }
}

fn told(context: &mut Context) -> i32 {
    let names: alloc::vec::Vec<&str> = context.start.names().collect();
    let wanted = ["pool", "process", "space", "thread", "budget", "log", "clock", "gift"];
    if names != wanted {
        return 3;
    }
    if context.start.take::<Vmo>("gift").err() != Some(Error::WrongKind) {
        return 4;
    }
    if context.start.take::<Event>("power").err() != Some(Error::NotFound) {
        return 5;
    }
    let Ok(gift) = context.start.take::<Event>("gift") else { return 6 };
    if gift.raise(5).is_err() || !context.start.arguments().eq(["role=given", "one", "", "drei und vier"]) {
        return 7;
    }
    0
}

fn given(context: &mut Context) {
    let mine = event();
    let theirs = mine.try_clone().unwrap();
    let child = context
        .role("given", |program| program.handle("gift", theirs).argument("one").argument("").argument("drei und vier"));
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(0)));
    assert_eq!((mine.clear(0), mine.inspect().unwrap().handles), (Ok(5), 1));
}

fn never_started(_: &mut Context) {
    let space = Space::create(&own::pool()).unwrap();
    let process = Process::create(&own::pool(), &space, "nobody").unwrap();
    assert_eq!(process.progress(), Ok(Progress::New));
    process.kill(8).unwrap();
    assert_eq!(process.progress(), Ok(Progress::Ended(8)));
    assert!(process.grant(event().into_owned()).is_err(), "it takes no handles any more");
}

fn watched(context: &mut Context) {
    let child = context.role("exit", |program| program.argument("code=1"));
    let event = event();
    child.process.watch(&event, 4).unwrap();
    assert_eq!(event.wait_until(4, 4, within(5000)), Ok(4));
    child.process.watch(&event, 8).unwrap();
    assert_eq!(event.wait_until(8, 8, within(5000)), Ok(8));
}

fn busy(_: &mut Context) -> i32 {
    for _ in 0..3 {
        let _ = tessera_runtime::thread::spawn(|| {
            loop {
                core::hint::spin_loop();
            }
        });
    }
    loop {
        tessera_runtime::object::yield_now();
    }
}

fn killed(context: &mut Context) {
    for _ in 0..5 {
        let child = context.role("busy", |program| program);
        assert_eq!(child.wait(within(30)), Err(Error::TimedOut));
        child.kill(44).unwrap();
        assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(44)));
    }
}

fn sharer(context: &mut Context) -> i32 {
    use core::sync::atomic::Ordering;
    let memory: Vmo = context.start.take("memory").unwrap();
    let told: Event = context.start.take("told").unwrap();
    let mapping = Mapping::new(&memory, 0, 4096, tessera_runtime::object::Access::Write).unwrap();
    mapping.words()[0].store(0x1234, Ordering::SeqCst);
    told.raise(1).unwrap();
    told.wait_until(2, 2, None).unwrap();
    i32::from(mapping.words()[1].load(Ordering::SeqCst) != 0x5678)
}

fn shared(context: &mut Context) {
    use core::sync::atomic::Ordering;
    let (memory, told) = (Vmo::create(&own::pool(), 4096).unwrap(), event());
    let mapping = Mapping::new(&memory, 0, 4096, tessera_runtime::object::Access::Write).unwrap();
    let (theirs, tell) = (memory.try_clone().unwrap(), told.try_clone().unwrap());
    let child = context.role("sharer", |program| program.handle("memory", theirs).handle("told", tell));
    assert_eq!(told.wait_until(1, 1, within(5000)), Ok(1));
    assert_eq!(mapping.words()[0].load(Ordering::SeqCst), 0x1234);
    mapping.words()[1].store(0x5678, Ordering::SeqCst);
    told.raise(2).unwrap();
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(0)));
}

fn unnamed(_: &mut Context) {
    let small = pool(64);
    let space = Space::create(&small).unwrap();
    let process = Process::create(&small, &space, "nobody").unwrap();
    let watch = event();
    process.watch(&watch, 1).unwrap();
    drop(process);
    assert_eq!(watch.wait_until(1, 1, within(5000)), Ok(1));
}

fn give_up(_: &mut Context) -> i32 {
    panic!("this panic is part of a test");
}

fn panicked(context: &mut Context) {
    let child = context.role("panic", |program| program);
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(101)));
}
