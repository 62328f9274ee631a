//! Budgets: authority over processor time. A budget has a priority, cores, and possibly a limit (an amount in every period).
//! Time used through a budget counts against it and against every limited budget above it; while one of them is used up,
//! the threads that run on it wait. The amount comes back whole at the start of each period (a deferrable server).

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    node::Object,
    pool::{Pool, Resource},
    queue::Queue,
    timer::Alarm,
};
use tessera_abi::{Error, Kind, Rights};

/// Priorities are 0 (lowest) to 63.
pub const PRIORITIES: usize = 64;
/// Most budgets above one another.
const MAX_DEPTH: u8 = 8;
/// How many threads that waited for a period one alarm lets go.
const REFILL_STEP: usize = 16;
/// Shortest period, in nanoseconds: shorter ones would keep the processor busy with its timer.
const MIN_PERIOD: u64 = 100_000;

/// Processor time.
#[derive(Default)]
pub struct Budget {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) parent: Id<Budget>,
    depth: u8,
    pub(crate) priority: u8,
    /// Bit n: may run on processor n.
    pub(crate) cores: u64,
    amount: u64,
    /// Zero: no limit of its own.
    period: u64,
    left: u64,
    refill: u64,
    used: u64,
    /// Whether this one or one above it has a limit.
    pub(crate) limited: bool,
    /// Threads that wait for the next period.
    pub(crate) throttled: Queue,
    pub(crate) alarm: u32,
}

impl Budget {
    /// The budget of the first program: everything.
    pub(crate) fn first(pool: Id<Pool>, cores: u64) -> Budget {
        Budget { pool, priority: PRIORITIES as u8 - 1, cores, ..Budget::default() }
    }
}

impl<H: Hardware> Machine<H> {
    /// `budget_create`: times in nanoseconds.
    pub(crate) fn budget_create(
        &mut self,
        caller: &Caller,
        pool: u64,
        parent: u64,
        priority: u64,
        limit: (u64, u64),
        cores: u64,
    ) -> Result<u64, Error> {
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let (node, parent) = self.budget(caller.process, parent, Rights::MANAGE)?;
        let above = self.budgets.get(parent).ok_or(Error::Gone)?;
        let (amount, period) = limit;
        let cores = if cores == 0 { above.cores } else { cores };
        if priority > u64::from(above.priority) || cores & !above.cores != 0 || above.depth >= MAX_DEPTH {
            return Err(Error::BadArgument);
        }
        if period != 0 && (period < MIN_PERIOD || amount == 0 || amount > period) || period == 0 && amount != 0 {
            return Err(Error::BadArgument);
        }
        let limited = above.limited || period != 0;
        let depth = above.depth.saturating_add(1);
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Budget, handles)?;
        let budget = Budget {
            pool,
            parent,
            depth,
            priority: priority as u8,
            cores,
            amount,
            period,
            left: amount,
            limited,
            ..Budget::default()
        };
        let id = self.budgets.insert(budget).ok_or(Error::NoQuota)?;
        // Its parent stays while it does: a limit holds for as long as there is time to be had under it.
        self.reference(Object::Budget(parent));
        self.publish(caller.process, node, Object::Budget(id), Rights::ALL)
    }

    /// `budget_inspect`.
    pub(crate) fn budget_inspect(&mut self, caller: &Caller, budget: u64) -> Result<Flow, Error> {
        let (_, id) = self.budget(caller.process, budget, Rights::NONE)?;
        let now = self.hardware.now();
        self.account(caller.processor, now);
        let budget = self.budgets.get(id).ok_or(Error::Gone)?;
        Ok(Flow::Values([budget.used, u64::from(budget.priority), budget.amount, budget.period, budget.cores, 0]))
    }

    /// Charges the time since the last account of this processor to the budget that its thread runs on.
    pub(crate) fn account(&mut self, processor: usize, now: u64) {
        let Some(entry) = self.processors.get_mut(processor) else { return };
        let elapsed = now.saturating_sub(entry.since);
        entry.since = now;
        let mut next = self.threads.get(entry.current).map_or(Id::NONE, |thread| thread.budget);
        while let Some(budget) = self.budgets.get_mut(next) {
            budget.used = budget.used.saturating_add(elapsed);
            if budget.period != 0 {
                if budget.refill == 0 {
                    budget.refill = now.saturating_sub(elapsed).saturating_add(budget.period);
                }
                budget.left = budget.left.saturating_sub(elapsed);
            }
            next = budget.parent;
        }
    }

    /// The first budget at or above this one that is used up; periods that have passed are refilled on the way.
    pub(crate) fn exhausted(&mut self, id: Id<Budget>, now: u64) -> Option<Id<Budget>> {
        let mut next = id;
        while let Some(budget) = self.budgets.get_mut(next) {
            if budget.period != 0 {
                if now >= budget.refill {
                    budget.left = budget.amount;
                    budget.refill = now.saturating_add(budget.period);
                }
                if budget.left == 0 {
                    return Some(next);
                }
            }
            next = budget.parent;
        }
        None
    }

    /// Nanoseconds until a running thread's budget is used up.
    pub(crate) fn runway(&self, id: Id<Budget>) -> u64 {
        let (mut next, mut least) = (id, u64::MAX);
        while let Some(budget) = self.budgets.get(next).filter(|budget| budget.limited) {
            if budget.period != 0 {
                least = least.min(budget.left);
            }
            next = budget.parent;
        }
        least
    }

    /// A thread waits until `budget` has time again.
    pub(crate) fn throttle(&mut self, thread: Id<crate::thread::Thread>, budget: Id<Budget>) {
        let Some(entry) = self.budgets.get_mut(budget) else { return };
        entry.throttled.push(&mut self.threads, thread);
        let (at, armed) = (entry.refill, entry.alarm != 0);
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.state = crate::thread::State::Throttled(budget);
        }
        if !armed {
            self.alarm_set(Alarm::Budget(budget), at);
        }
    }

    /// A period began: whoever waited for it may run.
    pub(crate) fn refill(&mut self, id: Id<Budget>) {
        let now = self.hardware.now();
        // Another thread may have begun the period before, and used it up.
        let spent = self.exhausted(id, now) == Some(id);
        let at = if spent { self.budgets.get(id).map_or(now, |budget| budget.refill) } else { now };
        if !spent {
            for _ in 0..REFILL_STEP {
                let Some(thread) = self.budgets.get_mut(id).and_then(|entry| entry.throttled.pop(&mut self.threads))
                else {
                    return;
                };
                self.make_ready(thread);
            }
        }
        let Some(budget) = self.budgets.get(id) else { return };
        if !budget.throttled.is_empty() && budget.alarm == 0 {
            self.alarm_set(Alarm::Budget(id), at);
        }
    }

    /// The last handle is gone: the threads that run on it stand still until they are given another.
    pub(crate) fn budget_unnamed(&mut self, id: Id<Budget>) {
        self.alarm_clear(Alarm::Budget(id));
        if let Some(mut budget) = self.budgets.remove(id) {
            // Those that waited for it go on on what else they have, or stand still.
            while let Some(thread) = budget.throttled.pop(&mut self.threads) {
                self.make_ready(thread);
            }
            self.credit(budget.pool, Resource::of(Kind::Budget), 1);
            self.unreference(Object::Budget(budget.parent));
        }
        // Whoever runs on it now is taken off at the next look.
        for processor in 0..self.processors.len() {
            self.attend(processor);
        }
    }
}
