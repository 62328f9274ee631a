//! The component: one stack behind one lock, and the thread that drives it.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_interfaces::streams::BELL;
use tessera_interfaces::{Entropy, NetDevice, NetworkError};
use tessera_rings::doorbell::ENDED;
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::object::Event;
use tessera_runtime::sync::{Mutex, Once};
use tessera_runtime::{Cap, Error, Object, Rights, log, own, thread};

use crate::arguments::Arguments;
use crate::objects::Client;
use crate::rules::{NoRule, Rules};
use crate::stack::{KEY, Source, Stack};
use crate::wire::{Shared, device};

/// What the component uses.
pub struct Uses {
    /// The network device.
    pub device: Route<dyn NetDevice>,
    /// Where the key of the stack's secrets comes from.
    pub entropy: Option<Route<dyn Entropy>>,
}

/// The network stack.
pub struct Net {
    core: Arc<Core>,
    arguments: Arguments,
    context: Context,
}

/// What threads and clients share.
pub struct Core {
    stack: Mutex<Stack>,
    /// Bits for the thread that drives the stack; the device has those of `tessera_rings::doorbell`.
    event: Arc<Event>,
    /// Until when that thread sleeps: nanoseconds since boot, 0 while it is awake.
    sleeps_until: AtomicU64,
    /// Raised by clients with streams in shared memory.
    bell: Event,
    listens: Once,
}

/// There is something to do before what the driving thread waits for.
const KICK: u64 = 1 << 8;
/// The driver was started again.
const RESTARTED: u64 = 1 << 9;
/// How long a device that refuses is left alone.
const RETRY: u64 = 100_000_000;
/// How many looks for nothing, beyond those for something, the bell is answered with before it is left alone, and for how long, in nanoseconds: a look takes a
/// few microseconds. Meanwhile calls and what comes in go on, and take what is in the rings along.
const IN_VAIN: u32 = 16;
const PAUSE: u64 = 1_000_000;

impl Core {
    /// Does something with the stack, and what follows from it.
    pub fn act<R>(&self, act: impl FnOnce(&mut Stack) -> R) -> R {
        self.act_and(act, |stack, _| stack.follow())
    }

    /// The same for what may have to wait: who has to looks at the wire himself.
    pub fn ask<T>(&self, act: impl FnOnce(&mut Stack) -> Result<T, NetworkError>) -> Result<T, NetworkError> {
        self.act_and(act, |stack, result| match result {
            Err(NetworkError::WouldBlock) => stack.run(),
            _ => stack.follow(),
        })
    }

    fn act_and<R>(&self, act: impl FnOnce(&mut Stack) -> R, then: impl FnOnce(&mut Stack, &R) -> Option<u64>) -> R {
        let mut stack = self.stack.lock();
        stack.set_time(own::now());
        let result = act(&mut stack);
        let next = then(&mut stack, &result).unwrap_or(u64::MAX);
        // Whose port broke is to be begun anew with at once.
        let next = if stack.wire_is_broken() || stack.must_rest_anew() { 0 } else { next };
        drop(stack);
        if next < self.sleeps_until.load(Ordering::SeqCst) {
            let _ = self.event.raise(KICK);
        }
        result
    }

    /// The bell for clients with streams in shared memory. From the first on that asks for it, a thread listens.
    pub fn bell(self: &Arc<Core>) -> Result<Event, Error> {
        self.listens.call_once(|| {
            let core = self.clone();
            // Nobody else has it: waiting for it is waiting for a time.
            let never = Event::create(&own::pool());
            // Without the thread the bytes wait for the next call of the client, or the peer's next segment.
            if never.and_then(|never| thread::spawn(move || core.listen(&never))).is_err() {
                log!("net: no thread to listen to the bell");
            }
        });
        self.bell.duplicate(Rights::SIGNAL | Rights::TRANSFER)
    }

    /// Does what clients ask for in the memory of their streams, for ever. Other than with a call, this is on the stack's time: who rings for nothing
    /// again and again makes it pause, so that all that can be had of it in this way is a small part of the processor's time.
    fn listen(&self, never: &Event) {
        let mut in_vain = 0_u32;
        loop {
            in_vain = if self.act(Stack::attend) { in_vain.saturating_sub(1) } else { in_vain + 1 };
            if in_vain >= IN_VAIN {
                in_vain = 0;
                let _ = never.wait_until(u64::MAX, 0, Some(own::now().saturating_add(PAUSE)));
                continue;
            }
            if self.stack.lock().attend_no_more() && self.bell.wait(BELL).is_err() {
                return;
            }
        }
    }

    /// Looks at the stack.
    pub fn look<R>(&self, look: impl FnOnce(&Stack) -> R) -> R {
        look(&self.stack.lock())
    }
}

/// How long the entropy source may take.
const ENTROPY: u64 = 2_000_000_000;

/// The key of the stack's secrets: from the entropy source if the image has one. Else it is only hard to guess from outside: time stamps, of this moment and of
/// the next ones.
fn key(source: Option<Cap<dyn Entropy>>) -> [u8; KEY] {
    let mut key = (u128::from(tessera_runtime::object::ticks()) << 64 | u128::from(own::now())).to_le_bytes();
    let filled = source.map(|source| match source.with_timeout(ENTROPY) {
        Ok(source) => source.fill(&mut key),
        Err(error) => Err(error.into()),
    });
    match filled {
        Some(Ok(())) => {}
        Some(Err(error)) => log!("net: the entropy source fails: {error:?}; sequence numbers and ports can be guessed"),
        None => log!("net: no entropy source: sequence numbers and ports can be guessed"),
    }
    key
}

impl Net {
    /// Starts the stack. The device need not be there yet: until it is, the machine speaks with itself.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Net>, StartError> {
        let arguments = Arguments::read(&context)?;
        let event = Arc::new(Event::create(&own::pool())?);
        let stack = Mutex::new(Stack::new(key(uses.entropy.map(|route| route.cap)), own::now()));
        let core = Arc::new(Core {
            stack,
            event: event.clone(),
            sleeps_until: AtomicU64::new(0),
            bell: Event::create(&own::pool())?,
            listens: Once::new(),
        });
        let (shared, port) = Shared::new(arguments.buffers, event.clone())?;
        let Route { cap, restarted } = uses.device;
        if restarted.event_and_bit().is_some() {
            let event = event.clone();
            thread::spawn(move || {
                while restarted.wait(None).is_ok() {
                    let _ = event.raise(RESTARTED);
                }
            })?;
        }
        let driven = core.clone();
        thread::spawn(move || drive(&driven, &cap, &shared, port, arguments.source))?;
        Ok(Arc::new(Net { core, arguments, context }))
    }

    /// The network as one client sees it, with limits and rules of its own. Rules that cannot be read allow nothing.
    pub fn client(&self, name: &str) -> Arc<Client> {
        let list = |kind| self.context.argument(&format!("{kind}.{name}"));
        let rules = Rules::read(list("only"), list("never")).unwrap_or_else(|NoRule| {
            log!("net: the rules for {name} cannot be read: it may speak to nobody");
            Rules::nobody()
        });
        Client::new(self.core.clone(), self.arguments.limits, rules)
    }
}

/// Attaches the device when it can be, then runs the stack whenever something happens.
fn drive(
    core: &Core,
    cap: &Cap<dyn NetDevice>,
    shared: &Shared,
    port: alloc::boxed::Box<dyn crate::stack::Port>,
    source: Source,
) {
    let mut waiting = Some(port);
    let mut attached = false;
    loop {
        if !attached {
            attached = attach(core, cap, shared, &mut waiting, source);
        }
        let retry = if attached { u64::MAX } else { own::now().saturating_add(RETRY) };
        let happened = wait(core, retry);
        if happened & (RESTARTED | ENDED) != 0 {
            attached = false;
        }
        // A device that breaks the rules of the rings is begun anew with, like one that was started again.
        if attached && core.stack.lock().wire_is_broken() {
            log!("net: the device broke the rules of the rings");
            attached = false;
        }
    }
}

/// Gives the rings to the device. What was in them when an instance of it ended is sent again.
fn attach(
    core: &Core,
    cap: &Cap<dyn NetDevice>,
    shared: &Shared,
    waiting: &mut Option<alloc::boxed::Box<dyn crate::stack::Port>>,
    source: Source,
) -> bool {
    let Ok(information) = cap.information() else { return false };
    match waiting.take() {
        Some(port) => {
            let mut stack = core.stack.lock();
            stack.set_time(own::now());
            stack.attach(port, &device(&information), source);
        }
        None => core.stack.lock().restart_wire(),
    }
    match shared.attach(cap) {
        Ok(()) => true,
        Err(error) => {
            log!("net: the device cannot be attached: {error:?}");
            false
        }
    }
}

/// Runs the stack until there is nothing to do, then sleeps until something happens, or `latest`. Answers what happened.
fn wait(core: &Core, latest: u64) -> u64 {
    let mut listeners = Vec::new();
    loop {
        let mut stack = core.stack.lock();
        stack.set_time(own::now());
        let next = stack.run_untold().unwrap_or(u64::MAX).min(latest);
        stack.take_called(&mut listeners);
        stack.tell();
        let is_due = next <= stack.time();
        let is_broken = stack.wire_is_broken();
        let rests = !is_broken && !is_due && stack.rest();
        if rests {
            core.sleeps_until.store(next, Ordering::SeqCst);
        }
        drop(stack);
        for listener in listeners.drain(..) {
            // Who is not there any more need not know.
            let _ = listener.changed();
        }
        if is_broken || is_due && next == latest {
            return 0;
        }
        if !rests {
            continue;
        }
        let deadline = (next != u64::MAX).then_some(next);
        let happened = core.event.wait_until(u64::MAX, u64::MAX, deadline).unwrap_or(0);
        core.sleeps_until.store(0, Ordering::SeqCst);
        core.stack.lock().rise();
        if happened & (RESTARTED | ENDED) != 0 || happened == 0 && next == latest {
            return happened;
        }
    }
}
