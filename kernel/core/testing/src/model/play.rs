//! Plays steps on a machine and on the model, and compares them after each.

use super::{
    Body, Capability, Holder, Model, Place, RESOURCES, Thing,
    calls::Request,
    waits::{Thread, Wait},
};
use crate::System;
use std::collections::{BTreeSet, VecDeque};
use tessera_abi::{
    Kind, NATIVE_BASE, PAGE, Rights, Syscall, Tag, USER_END,
    syscall::{NO_DEVICE, map_flags},
};
use tessera_core::{Doing, Object, Seen};

/// One step: who does what with what, each picked from what there is at that moment. Smaller numbers mean simpler things, so that
/// a failing sequence can be made small.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub actor: u8,
    pub what: u8,
    pub with: [u8; 4],
}

/// What a step comes to.
#[derive(Debug)]
enum Action {
    Request(Request),
    /// Nanoseconds pass.
    Advance(u64),
    /// A line fires.
    Fire(u64),
}

/// Pins of the test machine; four messages follow.
const PINS: u64 = 24;
const LINES: u64 = 28;
/// Devices for which memory is held.
const DEVICES: [u64; 3] = [8, 16, NO_DEVICE];
/// Where the first program's start-up block can be read, and a word of its stack written.
const READABLE: u64 = USER_END - 0x20_0000;
const WRITABLE: u64 = READABLE - 64;

struct Game {
    system: System,
    model: Model,
    /// The first process and its thread.
    first: (Place, Place),
    /// Handles of the first process that stay.
    kept: Vec<u64>,
    names: u64,
}

/// Plays steps; panics when machine and model differ.
pub fn play(steps: &[Step]) {
    let mut game = Game::new();
    for step in steps {
        let Some((actor, action)) = game.choose(*step) else { continue };
        if std::env::var_os("TESSERA_TRACE").is_some() {
            eprintln!("{actor}: {action:x?}");
        }
        game.act(actor, action);
        if game.model.lost {
            return;
        }
    }
}

impl Game {
    /// A machine with two more processes, each with a pool of its own, a thread, and a session of an endpoint of the first process.
    fn new() -> Game {
        let mut system = System::new(2048, 1);
        system.machine.hardware.iommu = true;
        let mut handle = |name| system.first(name);
        for unused in ["ports", "devices", "clock", "log", "power", "privilege", "archive"].map(&mut handle) {
            system.call(Syscall::Close, &[unused]).value();
        }
        let names = ["pool", "space", "process", "thread", "budget", "interrupts", "dma"];
        let kept = names.map(|name| system.first(name)).to_vec();
        assert!(system.write(WRITABLE, &[0; 8]));
        system.audits = false;
        let who = system.who();
        let seen = system.machine.observe();
        let mut model = Model { pins: PINS, ..Model::default() };
        let quota = |seen: &Seen| seen.accounts[0].1.iter().map(|account| account.0).collect();
        let root = model.add(Kind::Pool, None, Body::Pool { parent: None, quota: quota(&seen) });
        model.root = root;
        let space = model.add(Kind::Space, Some(root), Body::Space { seats: Vec::new(), tables: BTreeSet::new() });
        let process = model.add(Kind::Process, Some(root), Body::Process { space, ended: false });
        let thread = Thread { wait: Wait::Nothing, name: who, ..Thread::new(process) };
        let thread = model.add(Kind::Thread, Some(root), Body::Thread(thread));
        let budget = model.add(Kind::Budget, Some(root), Body::Budget);
        let lines = Body::Lines { first: 0, count: LINES, message: false, target: None };
        let lines = model.add(Kind::Interrupt, Some(root), lines);
        let dma =
            model.add(Kind::Dma, Some(root), Body::Dma { device: None, pins: Vec::new(), tables: BTreeSet::new() });
        for (place, number) in [root, space, process, thread, budget, lines, dma].into_iter().zip(&kept) {
            let kind = model.things[&place].kind;
            let cap = model.handle(process, place, kind, Rights::ALL, None);
            model.caps.get_mut(&cap).expect("a capability").holder = Holder::Process(process, *number);
        }
        let known = model.owed(root);
        let used = seen.accounts[0].1.iter().map(|account| account.1);
        model.baseline = used.zip(known).map(|(used, known)| used - known).collect();
        let mut game = Game { system, model, first: (process, thread), kept, names: 0x1000 };
        game.name_all(&seen);
        game.compare();
        game.furnish();
        game
    }

    fn furnish(&mut self) {
        let (actor, pool, budget) = (self.first.1, self.kept[0], self.kept[4]);
        let endpoint = self.made(actor, Syscall::EndpointCreate, &[pool]);
        let event = self.made(actor, Syscall::EventCreate, &[pool]);
        let memory = self.made(actor, Syscall::VmoCreate, &[pool, 600 * PAGE]);
        self.made(actor, Syscall::SealCreate, &[pool]);
        for (badge, pages) in [(7, 40), (8, 100)] {
            let small = self.made(actor, Syscall::PoolCreate, &[pool, pages]);
            let space = self.made(actor, Syscall::SpaceCreate, &[small]);
            let process = self.made(actor, Syscall::ProcessCreate, &[small, space, 0, 0]);
            let session = self.made(actor, Syscall::SessionCreate, &[endpoint, small, badge]);
            for handle in [small, endpoint, session, event, memory, process, space, budget] {
                let copy = self.made(actor, Syscall::Duplicate, &[handle, u64::from(Rights::ALL.bits())]);
                self.made(actor, Syscall::ProcessGrant, &[process, copy]);
            }
            let thread = self.made(actor, Syscall::ThreadCreate, &[small, process, budget]);
            self.names += 0x1000;
            self.made(actor, Syscall::ThreadStart, &[thread, NATIVE_BASE, self.names]);
        }
    }

    /// Makes a call that is granted; answers its first value.
    fn made(&mut self, actor: Place, call: Syscall, arguments: &[u64]) -> u64 {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        self.act(actor, Action::Request(Request { call, arguments: all, words: [0; 8] }));
        self.system.registers().rdi
    }

    /// Carries an action out on both sides, and compares them.
    fn act(&mut self, actor: Place, action: Action) {
        match action {
            Action::Request(request) => {
                self.system.switch_to(self.model.thread(actor).name);
                let Request { call, arguments, words } = request;
                let outcome = self.model.make(actor, request);
                let expected = outcome.unwrap_or_else(|error| Some(super::Expected::error(error)));
                if let Some(expected) = expected.filter(|_| self.model.lives(actor)) {
                    self.model.thread_mut(actor).expected = Some(expected);
                }
                if (Syscall::Call as u64..=Syscall::Reply as u64).contains(&(call as u64)) {
                    self.system.message(call, arguments[0], Tag(arguments[1]), words);
                } else {
                    self.system.call(call, &arguments);
                }
            }
            Action::Advance(time) => {
                let now = self.system.machine.hardware.time + time;
                self.model.pass(now);
                // A timer entry rings a bounded number of alarms.
                self.system.advance(time);
                self.system.advance(0);
            }
            Action::Fire(line) => {
                self.model.fire(line);
                self.system.machine.interrupt(0, line as u32);
            }
        }
        self.model.collect();
        if self.model.lost {
            return;
        }
        self.system.settle();
        self.system.machine.bury_all();
        self.system.settle();
        self.compare();
    }

    /// Everything that can be seen of the machine is what the model says.
    fn compare(&mut self) {
        if let Err(what) = self.system.machine.audit() {
            panic!("the books do not balance: {what}");
        }
        let seen = self.system.machine.observe();
        self.hear(&seen);
        if self.model.lost {
            return;
        }
        self.name_all(&seen);
        let process = |place: &Place| self.model.things.get(place).map_or(Object::Nothing, |thing| thing.real);
        let mut held: Vec<String> = Vec::new();
        for cap in self.model.caps.values() {
            if let Holder::Process(place, number) = cap.holder {
                held.push(format!("{:?} {number:#x} {:?} {:?}", process(&place), cap.real, cap.rights));
            }
        }
        let mut found: Vec<String> =
            seen.handles.iter().map(|(p, n, object, rights)| format!("{p:?} {n:#x} {object:?} {rights:?}")).collect();
        held.sort();
        found.sort();
        assert_eq!(found, held, "who holds what (the machine first)");
        let pools = |model: &Model| model.things.values().filter(|thing| thing.kind == Kind::Pool).count();
        assert_eq!(seen.accounts.len(), pools(&self.model), "how many pools there are");
        for (place, thing) in self.model.things.iter().filter(|(_, thing)| thing.kind == Kind::Pool) {
            let account = seen.accounts.iter().find(|(pool, _)| *pool == thing.real).expect("the pool is there");
            let used: Vec<u32> = account.1.iter().map(|account| account.1).collect();
            assert_eq!(used.len(), RESOURCES);
            assert_eq!(used, self.model.owed(*place), "what pool {:?} owes (the machine first)", thing.real);
        }
        self.compare_waits(&seen);
    }

    fn compare_waits(&self, seen: &Seen) {
        let real = |place: Place| self.model.things.get(&place).map_or(Object::Nothing, |thing| thing.real);
        for thing in self.model.things.values() {
            let Body::Thread(thread) = &thing.body else { continue };
            let wanted = match thread.wait {
                _ if thread.ended => Doing::Ended,
                Wait::New => Doing::New,
                Wait::Nothing => Doing::Going,
                Wait::Parked => Doing::Parked,
                Wait::Event { event, mask, clear } => Doing::Waiting(real(event), mask, clear),
                Wait::Calling(endpoint) => Doing::Calling(real(endpoint)),
                Wait::Receiving(endpoint) => Doing::Receiving(real(endpoint)),
                Wait::Answer(answerer) => Doing::Awaiting(real(answerer)),
            };
            let found = seen.threads.iter().find(|(thread, ..)| *thread == thing.real).map(|found| found.1);
            assert_eq!(found, Some(wanted), "what {:?} does (the machine first)", thing.real);
        }
        let threads = self.model.things.values().filter(|thing| thing.kind == Kind::Thread).count();
        assert_eq!(seen.threads.len(), threads, "how many threads there are");
    }

    /// Looks at what threads that go on were told.
    fn hear(&mut self, seen: &Seen) {
        let told = |thing: &mut Thing| match &mut thing.body {
            Body::Thread(thread) => thread.expected.take(),
            _ => None,
        };
        let told: Vec<_> =
            self.model.things.values_mut().filter_map(|thing| Some((told(thing)?, thing.real))).collect();
        for (expected, real) in told {
            let registers = seen.threads.iter().find(|(thread, ..)| *thread == real).expect("the thread is there").2;
            let r = &registers;
            assert_eq!(r.rax, expected.code, "the result of {real:?} (the machine first), else {:x?}", expected.words);
            let values = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9, r.r12, r.r13, r.r14, r.r15];
            for (word, value) in expected.words.into_iter().zip(values) {
                self.model.learn(word, value);
            }
        }
    }

    /// Learns the machine's names of objects that have none yet.
    fn name_all(&mut self, seen: &Seen) {
        // Processes first: what they hold is found by their names.
        for _ in 0..2 {
            let unnamed = |cap: &Capability| cap.real == Object::Nothing;
            let caps: Vec<_> = self.model.caps.iter().filter(|(_, cap)| unnamed(cap)).map(|(id, _)| *id).collect();
            for id in caps {
                let Holder::Process(process, number) = self.model.caps[&id].holder else { continue };
                let holder = self.model.things.get(&process).map_or(Object::Nothing, |thing| thing.real);
                let ours = |found: &&(Object, u64, Object, Rights)| {
                    found.1 == number && (found.0 == holder || holder == Object::Nothing)
                };
                let Some((_, _, real, _)) = seen.handles.iter().find(ours) else { continue };
                self.model.caps.get_mut(&id).expect("a capability").real = *real;
                self.model.name(self.model.caps[&id].place, *real);
            }
        }
    }

    /// Who can act.
    fn actors(&self) -> Vec<Place> {
        let can = |thing: &Thing| match &thing.body {
            Body::Thread(thread) => thread.wait == Wait::Nothing && !thread.ended && !thread.suspended,
            _ => false,
        };
        self.model.things.iter().filter(|(_, thing)| can(thing)).map(|(place, _)| *place).collect()
    }

    /// A handle of a process, mostly of the kind that is wanted. Handles that must stay are not given for `away`.
    fn pick(&self, process: Place, kind: Option<Kind>, selector: u8, away: bool) -> u64 {
        let stays = |number: u64| away && process == self.first.0 && self.kept.contains(&number);
        let own = self.model.caps.values().filter_map(|cap| match cap.holder {
            Holder::Process(holder, number) if holder == process && !stays(number) => Some((cap.kind, number)),
            _ => None,
        });
        let own: Vec<_> = own.collect();
        let right: Vec<_> = own.iter().filter(|(found, _)| kind.is_none_or(|kind| kind == *found)).collect();
        let list: Vec<u64> = if selector < 240 && !right.is_empty() {
            right.iter().map(|(_, number)| *number).collect()
        } else {
            own.iter().map(|(_, number)| *number).collect()
        };
        if list.is_empty() || selector == 255 { 0xdead } else { list[usize::from(selector) % list.len()] }
    }

    /// What a step means now; nothing, if there is nobody to do it or it would end the machine.
    fn choose(&mut self, step: Step) -> Option<(Place, Action)> {
        let Step { actor, what, with: [one, two, three, four] } = step;
        // Every fourth step is one with few pages of little memory, so that pages are shared, copied and cut.
        let (what, one, two) = match actor % 4 {
            3 => ([9, 11, 11, 11, 12][usize::from(what % 5)], one % 3, two % 3),
            _ => (what, one, two),
        };
        let actors = self.actors();
        let actor = *actors.get(usize::from(actor) % actors.len().max(1)).unwrap_or(&self.first.1);
        match what % 64 {
            60..62 => return Some((actor, Action::Advance(u64::from(one) * 100))),
            62.. => return Some((actor, Action::Fire(u64::from(one) % (LINES + 1)))),
            _ if actors.is_empty() => return Some((actor, Action::Advance(1_000))),
            _ => {}
        }
        let process = self.model.thread(actor).process;
        let of = |kind, selector| self.pick(process, Some(kind), selector, false);
        let any = |selector| self.pick(process, None, selector, true);
        let rights = if two < 128 { u64::from(Rights::ALL.bits()) } else { u64::from(two) << 3 | u64::from(three & 7) };
        let page = |selector: u8| if selector < 250 { u64::from(selector % 8) * PAGE } else { 550 * PAGE };
        // The first thread does not wait for ever, lest nobody is left to do anything.
        let patient = actor != self.first.1 && four < 128;
        let soon = if patient { u64::MAX } else { self.model.now + u64::from(four) * 10 };
        let bits = u64::from(two % 16);
        let place = 0x10_0000 + u64::from(three % 8) * PAGE;
        let length = u64::from(four % 4 + 1) * PAGE;
        let mine = process == self.first.0;
        let (call, arguments): (Syscall, Vec<u64>) = match what % 64 {
            0..4 => (Syscall::Close, vec![any(one)]),
            4..7 => (Syscall::Duplicate, vec![self.pick(process, None, one, false), rights]),
            7 => {
                let handle = if three < 230 { any(one) } else { self.pick(process, None, one, false) };
                let found = self.model.find(process, handle);
                // More than one step's worth is not looked at: the caller may end on the way.
                if found.is_ok_and(|cap| self.model.derived_from(cap).len() > 30) {
                    return None;
                }
                (Syscall::Revoke, vec![handle])
            }
            8 => (Syscall::PoolCreate, vec![of(Kind::Pool, one), u64::from(two % 80)]),
            9..11 => (Syscall::VmoCreate, vec![of(Kind::Pool, one), page(two)]),
            11..14 if mine && three % 8 < 5 => (Syscall::VmoWrite, vec![of(Kind::Vmo, one), page(two), READABLE, 1]),
            11 if three % 8 == 7 => (Syscall::VmoResize, vec![of(Kind::Vmo, one), page(two)]),
            11 => (Syscall::VmoDiscard, vec![of(Kind::Vmo, one), page(two), length]),
            12..14 => (Syscall::VmoSnapshot, vec![of(Kind::Vmo, one), of(Kind::Pool, two)]),
            14 => (Syscall::SpaceCreate, vec![of(Kind::Pool, one)]),
            15..18 => {
                let space = of(Kind::Space, one);
                let first = self.model.find(process, space).is_ok_and(|cap| {
                    // What is in the first program's own space the model does not know.
                    matches!(self.model.things[&self.first.0].body, Body::Process { space, .. } if space == self.model.caps[&cap].place)
                });
                let populate = if one & 1 == 1 && !first { map_flags::POPULATE } else { 0 };
                let flags = map_flags::READ | map_flags::WRITE | map_flags::FIXED | populate;
                (Syscall::SpaceMap, vec![space, of(Kind::Vmo, two), page(two), place, length, flags])
            }
            18 => (Syscall::SpaceUnmap, vec![of(Kind::Space, one), place, length]),
            19 => (Syscall::ProcessCreate, vec![of(Kind::Pool, one), of(Kind::Space, two), 0, 0]),
            20..23 => (Syscall::ProcessGrant, vec![of(Kind::Process, one), any(two)]),
            23 => {
                let killed = of(Kind::Process, one);
                let victim = self.model.find(process, killed).map(|cap| self.model.caps[&cap].place);
                if victim == Ok(self.first.0) {
                    return None;
                }
                (Syscall::ProcessKill, vec![killed, 3])
            }
            24 if mine => {
                (Syscall::DmaCreate, vec![of(Kind::Dma, one), of(Kind::Pool, two), DEVICES[usize::from(three % 3)]])
            }
            24 if one > 200 => (Syscall::Exit, vec![1]),
            24 => return None,
            25 => (Syscall::ThreadCreate, vec![of(Kind::Pool, one), of(Kind::Process, two), of(Kind::Budget, three)]),
            26 => {
                self.names += 0x1000;
                (
                    Syscall::ThreadStart,
                    vec![self.pick(process, Some(Kind::Thread), one, false), NATIVE_BASE, self.names],
                )
            }
            27 => {
                let thread = self.pick(process, Some(Kind::Thread), one, true);
                (Syscall::ThreadSuspend, vec![thread])
            }
            28 => (Syscall::ThreadResume, vec![of(Kind::Thread, one)]),
            29 if actor != self.first.1 && one > 200 => (Syscall::ThreadExit, vec![0]),
            29 => (Syscall::Unpark, vec![of(Kind::Thread, one)]),
            30 => (Syscall::Park, vec![soon]),
            31 => (Syscall::Unpark, vec![of(Kind::Thread, one)]),
            32 => (Syscall::EndpointCreate, vec![of(Kind::Pool, one)]),
            33 => (Syscall::SessionCreate, vec![of(Kind::Endpoint, one), of(Kind::Pool, two), u64::from(three)]),
            34 => (Syscall::EndpointBind, vec![of(Kind::Endpoint, one), of(Kind::Event, three), bits]),
            35..39 => return Some((actor, self.message(actor, Syscall::Call, of(Kind::Session, one), step)?)),
            39..42 => return Some((actor, self.message(actor, Syscall::Receive, of(Kind::Endpoint, one), step)?)),
            42..44 => return Some((actor, self.message(actor, Syscall::Reply, 0, step)?)),
            44..47 => {
                return Some((actor, self.message(actor, Syscall::ReplyAndReceive, of(Kind::Endpoint, one), step)?));
            }
            47 => (Syscall::ReplyDetach, vec![of(Kind::Pool, one)]),
            48 => (Syscall::ReplyAttach, vec![of(Kind::Reply, one)]),
            49 => (Syscall::EventCreate, vec![of(Kind::Pool, one)]),
            50 => (Syscall::EventRaise, vec![of(Kind::Event, one), bits]),
            51 => (Syscall::EventClear, vec![of(Kind::Event, one), bits]),
            52 => (Syscall::EventWait, vec![of(Kind::Event, one), bits, u64::from(three % 16), soon]),
            53 => (
                Syscall::InterruptCreate,
                vec![of(Kind::Interrupt, one), of(Kind::Pool, two), u64::from(three % 30), u64::from(four % 3)],
            ),
            54 => (Syscall::InterruptCreateMessage, vec![of(Kind::Interrupt, one), of(Kind::Pool, two)]),
            55 => (Syscall::InterruptBind, vec![of(Kind::Interrupt, one), of(Kind::Event, three), bits]),
            56 => (Syscall::SealCreate, vec![of(Kind::Pool, one)]),
            57 => (Syscall::SealClose, vec![of(Kind::Seal, one), of(Kind::Pool, two), any(three)]),
            58 => (Syscall::SealOpen, vec![of(Kind::Unseal, one), of(Kind::Sealed, two)]),
            _ if mine => (Syscall::DmaPin, vec![of(Kind::Dma, one), of(Kind::Vmo, two), page(three), PAGE, WRITABLE]),
            _ => return None,
        };
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(&arguments);
        Some((actor, Action::Request(Request { call, arguments: all, words: [0; 8] })))
    }

    /// A message with up to two handles, and for calls perhaps a deadline. Nothing if the first thread would wait for ever.
    fn message(&self, actor: Place, call: Syscall, handle: u64, step: Step) -> Option<Action> {
        let [_, two, three, four] = step.with;
        let process = self.model.thread(actor).process;
        let first = actor == self.first.1;
        let nobody_calls = || {
            let endpoint = self.model.find(process, handle).map(|cap| self.model.caps[&cap].place);
            let body = endpoint.ok().and_then(|endpoint| self.model.things.get(&endpoint)).map(|thing| &thing.body);
            matches!(body, Some(Body::Endpoint { callers, .. }) if callers.is_empty())
        };
        if first && matches!(call, Syscall::Receive | Syscall::ReplyAndReceive) && nobody_calls() {
            return None;
        }
        let receives = call == Syscall::Receive;
        let count = if receives { 0 } else { usize::from(two % 4).min(2) };
        let mut tag = Tag::new(if receives { 0 } else { u32::from(two) }).with_handles(count);
        let mut words: VecDeque<u64> =
            [three, four].into_iter().take(count).map(|selector| self.pick(process, None, selector, true)).collect();
        words.extend((words.len() as u64..8).map(|index| index * 1000 + u64::from(four)));
        let mut words: Vec<u64> = words.into();
        if call == Syscall::Call && (first || four >= 200) {
            tag = tag.with_deadline();
            words[6] = self.model.now + u64::from(four) * 10;
        }
        let words = std::array::from_fn(|index| words[index]);
        Some(Action::Request(Request { call, arguments: [handle, tag.0, 0, 0, 0, 0], words }))
    }
}
