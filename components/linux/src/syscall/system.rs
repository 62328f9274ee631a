//! The machine and the thread's standing in it: names, memory, limits, scheduling, `prctl`, random numbers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use tessera_runtime::own;

use super::identity;
use super::process::find;
use crate::errno::{Errno, Result};
use crate::task::credentials::{ALL_CAPABILITIES, capability};
use crate::task::process::{LIMITS, limit};
use crate::task::{Context, Process, Task, Text};
use crate::time::timers;

pub fn uname(context: &mut Context, to: u64) -> Result<u64> {
    let host = context.system.host_name.lock().clone();
    let domain = context.system.domain_name.lock().clone();
    let mut bytes = [[0; 65]; 6];
    let texts: [&[u8]; 6] = [b"Linux", &host, crate::RELEASE.as_bytes(), crate::VERSION.as_bytes(), b"x86_64", &domain];
    for (field, text) in bytes.iter_mut().zip(texts) {
        for (to, from) in field.iter_mut().take(64).zip(text) {
            *to = *from;
        }
    }
    context.write_bytes(to, bytes.as_flattened()).map(|()| 0)
}

pub fn sethostname(context: &mut Context, from: u64, length: u64) -> Result<u64> {
    set_name(context, from, length, true)
}

pub fn setdomainname(context: &mut Context, from: u64, length: u64) -> Result<u64> {
    set_name(context, from, length, false)
}

fn set_name(context: &mut Context, from: u64, length: u64, host: bool) -> Result<u64> {
    if !context.credentials().has(capability::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if length > 64 {
        return Err(Errno::EINVAL);
    }
    let mut name = alloc::vec![0; length as usize];
    context.read_bytes(from, &mut name)?;
    let place = if host { &context.system.host_name } else { &context.system.domain_name };
    *place.lock() = name;
    Ok(0)
}

pub fn sysinfo(context: &mut Context, to: u64) -> Result<u64> {
    let usage = own::pool().usage(0)?;
    let page = crate::memory::PAGE;
    let (total, free) = (usage.quota * page, usage.quota.saturating_sub(usage.used) * page);
    let tasks = context.system.task_count() as u64;
    // Uptime, three loads, total, free, shared, buffers, swap, free swap, processes, high memory, free high, unit.
    let words = [context.system.now() / crate::time::SECOND, 0, 0, 0, total, free, 0, 0, 0, 0, tasks, 0, 0, 1];
    context.write_words(to, words).map(|()| 0)
}

pub fn getrandom(context: &mut Context, to: u64, length: u64, flags: u32) -> Result<u64> {
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let length = length.min(i32::MAX as u64 & !4095);
    let mut buffer = [0; 256];
    let mut done = 0;
    while done < length {
        let part = buffer.get_mut(..(length - done).min(256) as usize).unwrap_or_default();
        context.system.random(part);
        let written = context.memory.write_some(to.wrapping_add(done), part);
        done += written as u64;
        if written < part.len() {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
    }
    Ok(done)
}

pub fn prlimit64(context: &mut Context, number: i32, resource: u32, new: u64, old: u64) -> Result<u64> {
    let resource = resource as usize;
    if resource >= LIMITS {
        return Err(Errno::EINVAL);
    }
    let process = find(context, number)?;
    let who = context.credentials();
    let other = process.credentials();
    if process.number != context.process.number && who.user != other.user && !who.has(capability::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    let wanted = if new != 0 { Some(context.read_words::<2>(new)?) } else { None };
    let mut limits = process.limits.lock();
    let place = limits.get_mut(resource).ok_or(Errno::EINVAL)?;
    let before = *place;
    if let Some([soft, hard]) = wanted {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if hard > before.1 && !who.has(capability::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if resource == limit::FILES && hard > 1 << 20 {
            return Err(Errno::EPERM);
        }
        *place = (soft, hard);
        if resource == limit::ADDRESS_SPACE
            && let Some(mm) = &process.resources.lock().mm
        {
            mm.limit.store(soft, Ordering::Relaxed);
        }
    }
    drop(limits);
    if resource == limit::CPU && wanted.is_some() {
        timers::limit_changed(&context.system, &process);
    }
    if old != 0 {
        context.write_words(old, [before.0, before.1])?;
    }
    Ok(0)
}

pub fn getrlimit(context: &mut Context, resource: u32, to: u64) -> Result<u64> {
    prlimit64(context, 0, resource, 0, to)
}

pub fn setrlimit(context: &mut Context, resource: u32, from: u64) -> Result<u64> {
    prlimit64(context, 0, resource, from, 0)
}

pub fn arch_prctl(context: &mut Context, command: u32, address: u64) -> Result<u64> {
    let registers = context.registers_mut();
    match command {
        0x1001 | 0x1002 if address >= tessera_runtime::abi::NATIVE_BASE => return Err(Errno::EPERM),
        0x1001 => registers.gs_base = address,
        0x1002 => registers.fs_base = address,
        0x1003 => {
            let base = registers.fs_base;
            context.write_u64(address, base)?;
        }
        0x1004 => {
            let base = registers.gs_base;
            context.write_u64(address, base)?;
        }
        // ARCH_GET_CPUID, ARCH_SET_CPUID: the instruction can be used, and that cannot be changed.
        0x1011 => return Ok(1),
        0x1012 => return Err(Errno::ENODEV),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub fn prctl(context: &mut Context, command: u32, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
    let process = context.process.clone();
    match command {
        // PR_SET_PDEATHSIG, PR_GET_PDEATHSIG
        1 if a > 64 => Err(Errno::EINVAL),
        1 => {
            process.parent_death_signal.store(a as i32, Ordering::Relaxed);
            Ok(0)
        }
        2 => context.write_u32(a, process.parent_death_signal.load(Ordering::Relaxed) as u32).map(|()| 0),
        // PR_GET_DUMPABLE, PR_SET_DUMPABLE
        3 => Ok(process.dumpable.load(Ordering::Relaxed).into()),
        4 if a > 1 => Err(Errno::EINVAL),
        4 => {
            process.dumpable.store(a as u32, Ordering::Relaxed);
            Ok(0)
        }
        // PR_GET_KEEPCAPS, PR_SET_KEEPCAPS
        7 => Ok(context.credentials().keep_capabilities.into()),
        8 if a > 1 => Err(Errno::EINVAL),
        8 => identity::change(context, |who| {
            who.keep_capabilities = a == 1;
            Ok(())
        }),
        // PR_SET_NAME, PR_GET_NAME
        15 => {
            let text = match context.read_text(a, 16) {
                Err(Errno::ENAMETOOLONG) => Text::from_slice(&context.read_array::<15>(a)?),
                other => other?,
            };
            let mut name = [0; 16];
            for (to, from) in name.iter_mut().take(15).zip(text) {
                *to = from;
            }
            *context.task.name.lock() = name;
            Ok(0)
        }
        16 => {
            let name = *context.task.name.lock();
            context.write_bytes(a, &name).map(|()| 0)
        }
        // PR_GET_SECCOMP, PR_SET_SECCOMP
        21 => Ok(context.task.seccomp.lock().mode().into()),
        22 if a == 1 => super::seccomp::strict(context),
        22 if a == 2 => super::seccomp::filter(context, 0, b),
        // PR_CAPBSET_READ, PR_CAPBSET_DROP
        23 | 24 if a >= 64 || ALL_CAPABILITIES & 1 << a == 0 => Err(Errno::EINVAL),
        23 => Ok(u64::from(context.credentials().bounding & 1 << a != 0)),
        24 => {
            if !context.credentials().has(capability::SETPCAP) {
                return Err(Errno::EPERM);
            }
            identity::change(context, |who| {
                who.bounding &= !(1 << a);
                Ok(())
            })
        }
        // PR_GET_SECUREBITS, PR_SET_SECUREBITS
        27 => Ok(context.credentials().secure_bits.into()),
        28 => {
            if !context.credentials().has(capability::SETPCAP) {
                return Err(Errno::EPERM);
            }
            identity::change(context, |who| {
                who.secure_bits = a as u32;
                Ok(())
            })
        }
        // PR_GET_TIMING, PR_SET_TIMING: processes are not timed by statistics.
        13 => Ok(0),
        14 if a != 0 => Err(Errno::EINVAL),
        14 => Ok(0),
        // PR_GET_TSC, PR_SET_TSC: the counter can be read.
        25 => context.write_u32(a, 1).map(|()| 0),
        26 if a != 1 => Err(Errno::EINVAL),
        26 => Ok(0),
        // PR_SET_TIMERSLACK, PR_GET_TIMERSLACK
        29 => {
            let task = &context.task;
            let slack = if a == 0 { task.usual_slack.load(Ordering::Relaxed) } else { a };
            task.timer_slack.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        30 => Ok(context.task.timer_slack.load(Ordering::Relaxed)),
        // PR_TASK_PERF_EVENTS_DISABLE, PR_TASK_PERF_EVENTS_ENABLE: there are none.
        31 | 32 => Ok(0),
        // PR_MCE_KILL, PR_MCE_KILL_GET: memory errors are not told early.
        33 if a > 1 || c != 0 || d != 0 => Err(Errno::EINVAL),
        33 => Ok(0),
        34 if a != 0 || b != 0 || c != 0 || d != 0 => Err(Errno::EINVAL),
        34 => Ok(2),
        // PR_GET_TID_ADDRESS
        40 => context.write_u64(a, context.clear_number).map(|()| 0),
        // PR_SET_PTRACER: who may look into a process is not narrowed by where it stands in the family.
        0x5961_6d61 => Ok(0),
        // PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER
        36 => {
            process.is_reaper.store(u32::from(a != 0), Ordering::Relaxed);
            Ok(0)
        }
        37 => context.write_u32(a, process.is_reaper.load(Ordering::Relaxed)).map(|()| 0),
        // PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS
        38 if a != 1 || b != 0 || c != 0 || d != 0 => Err(Errno::EINVAL),
        38 => identity::change(context, |who| {
            who.no_new_privileges = true;
            Ok(())
        }),
        39 if a != 0 || b != 0 || c != 0 || d != 0 => Err(Errno::EINVAL),
        39 => Ok(context.credentials().no_new_privileges.into()),
        // PR_SET_THP_DISABLE, PR_GET_THP_DISABLE: there are no large pages.
        41 if b != 0 || c != 0 || d != 0 => Err(Errno::EINVAL),
        42 if a != 0 || b != 0 || c != 0 || d != 0 => Err(Errno::EINVAL),
        41 | 42 => Ok(0),
        // PR_CAP_AMBIENT: raise, lower, is set, clear all
        47 if c != 0 || d != 0 || a == 4 && b != 0 => Err(Errno::EINVAL),
        47 if (1..=3).contains(&a) && (b >= 64 || ALL_CAPABILITIES & 1 << b == 0) => Err(Errno::EINVAL),
        47 if a == 2 => {
            // SECBIT_NO_CAP_AMBIENT_RAISE
            const NO_RAISE: u32 = 1 << 6;
            identity::change(context, |who| {
                if who.permitted & who.inheritable & 1 << b == 0 || who.secure_bits & NO_RAISE != 0 {
                    return Err(Errno::EPERM);
                }
                who.ambient |= 1 << b;
                Ok(())
            })
        }
        47 if a == 3 => identity::change(context, |who| {
            who.ambient &= !(1 << b);
            Ok(())
        }),
        47 if a == 1 => Ok(context.credentials().ambient.checked_shr(b as u32).unwrap_or(0) & 1),
        47 if a == 4 => identity::change(context, |who| {
            who.ambient = 0;
            Ok(())
        }),
        // PR_SET_VMA: names of mappings.
        0x5356_4d41 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_yield(_context: &mut Context) -> Result<u64> {
    tessera_runtime::object::yield_now();
    Ok(0)
}

pub fn find_task(context: &Context, number: i32) -> Result<Arc<Task>> {
    match number {
        0 => Ok(context.task.clone()),
        1.. => context.system.task(number).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// The same for the calls to which a negative number is a thread that is not there.
fn find_any(context: &Context, number: i32) -> Result<Arc<Task>> {
    if number < 0 { Err(Errno::ESRCH) } else { find_task(context, number) }
}

fn processors() -> u32 {
    tessera_runtime::object::processors().clamp(1, 64) as u32
}

pub fn sched_getaffinity(context: &mut Context, number: i32, size: u64, to: u64) -> Result<u64> {
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    find_any(context, number)?;
    context.write_u64(to, u64::MAX >> (64 - processors()))?;
    Ok(8)
}

/// The kernel balances by itself; a set that has one of the processors is accepted.
pub fn sched_setaffinity(context: &mut Context, number: i32, size: u64, from: u64) -> Result<u64> {
    let task = find_any(context, number)?;
    let mut bytes = [0; 8];
    let length = size.min(8) as usize;
    context.read_bytes(from, bytes.get_mut(..length).unwrap_or_default())?;
    let (who, theirs) = (context.credentials(), task.process.credentials());
    if ![theirs.user, theirs.effective_user].contains(&who.effective_user) && !who.has(capability::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    if u64::from_le_bytes(bytes) & u64::MAX >> (64 - processors()) == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

pub fn getcpu(context: &mut Context, processor: u64, node: u64) -> Result<u64> {
    for address in [processor, node] {
        if address != 0 {
            context.write_u32(address, 0)?;
        }
    }
    Ok(0)
}

const OTHER: i32 = 0;
const FIFO: i32 = 1;
const ROUND_ROBIN: i32 = 2;
const DEADLINE: i32 = 6;
const BATCH: i32 = 3;
const IDLE: i32 = 5;
/// `SCHED_RESET_ON_FORK`.
const RESET: i32 = 0x4000_0000;

pub fn sched_getscheduler(context: &mut Context, number: i32) -> Result<u64> {
    Ok(find_task(context, number)?.policy.load(Ordering::Relaxed) as u64)
}

pub fn sched_setscheduler(context: &mut Context, number: i32, policy: i32, parameter: u64) -> Result<u64> {
    if parameter == 0 || policy < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = context.read_u32(parameter)? as i32;
    set_policy(context, number, policy, priority)
}

/// Whether the caller may say how a thread is scheduled: it is the same user's.
fn may_schedule(context: &Context, task: &Task) -> Result<()> {
    let (own, other) = (context.credentials(), task.process.credentials());
    let same = [other.user, other.effective_user].contains(&own.effective_user);
    if same || own.has(capability::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
}

/// How a thread is scheduled, as far as it may choose; the kernel of Tessera takes no notice of it.
pub fn set_policy(context: &Context, number: i32, policy: i32, priority: i32) -> Result<u64> {
    let task = find_task(context, number)?;
    may_schedule(context, &task)?;
    match policy & !RESET {
        OTHER | BATCH | IDLE if priority == 0 => {}
        FIFO | ROUND_ROBIN if (1..=99).contains(&priority) => {
            if !context.credentials().has(capability::SYS_NICE) {
                return Err(Errno::EPERM);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    task.policy.store(policy, Ordering::Relaxed);
    task.priority.store(priority, Ordering::Relaxed);
    Ok(0)
}

pub fn sched_getparam(context: &mut Context, number: i32, to: u64) -> Result<u64> {
    if to == 0 {
        return Err(Errno::EINVAL);
    }
    let priority = find_task(context, number)?.priority.load(Ordering::Relaxed);
    context.write_u32(to, priority as u32).map(|()| 0)
}

pub fn sched_setparam(context: &mut Context, number: i32, from: u64) -> Result<u64> {
    let policy = find_task(context, number)?.policy.load(Ordering::Relaxed);
    sched_setscheduler(context, number, policy, from)
}

pub fn sched_get_priority_max(_context: &mut Context, policy: i32) -> Result<u64> {
    match policy {
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        FIFO | ROUND_ROBIN => Ok(99),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_get_priority_min(_context: &mut Context, policy: i32) -> Result<u64> {
    match policy {
        OTHER | BATCH | IDLE | DEADLINE => Ok(0),
        FIFO | ROUND_ROBIN => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_rr_get_interval(context: &mut Context, number: i32, to: u64) -> Result<u64> {
    find_task(context, number)?;
    crate::time::write_timespec(context, to, 100_000_000).map(|()| 0)
}

/// The threads that a priority is of: one, those of a group's processes, or of a user's.
fn prioritized(context: &Context, which: u32, who: i32) -> Result<Vec<Arc<Task>>> {
    let of = |is_one: &dyn Fn(&Process) -> bool| {
        let processes = context.system.processes();
        let found = processes.iter().filter(|process| process.is_alive() && is_one(process));
        found.flat_map(|process| process.threads.lock().clone()).collect::<Vec<_>>()
    };
    let found = match which {
        0 => alloc::vec![find_any(context, who)?],
        1 => {
            let group = if who == 0 { context.process.group() } else { who };
            of(&|process| process.group() == group)
        }
        2 => {
            let user = if who == 0 { context.identity.user } else { who as u32 };
            of(&|process| process.credentials().user == user)
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

pub fn getpriority(context: &mut Context, which: u32, who: i32) -> Result<u64> {
    let tasks = prioritized(context, which, who)?;
    let least = tasks.iter().map(|task| task.nice.load(Ordering::Relaxed)).min();
    // As it is passed: 20 less the nice value, so that it is never negative.
    Ok((20 - least.unwrap_or(0)) as u64)
}

pub fn setpriority(context: &mut Context, which: u32, who: i32, nice: i32) -> Result<u64> {
    let tasks = prioritized(context, which, who)?;
    let nice = nice.clamp(-20, 19);
    let own = context.credentials();
    let mut outcome = Ok(0);
    for task in tasks {
        let other = task.process.credentials();
        if ![other.user, other.effective_user].contains(&own.effective_user) && !own.has(capability::SYS_NICE) {
            outcome = Err(Errno::EPERM);
        } else if nice < task.nice.load(Ordering::Relaxed) && !own.has(capability::SYS_NICE) {
            outcome = Err(Errno::EACCES);
        } else {
            task.nice.store(nice, Ordering::Relaxed);
        }
    }
    outcome
}

pub fn personality(context: &mut Context, persona: u32) -> Result<u64> {
    let place = &context.process.persona;
    // All ones only ask. What a persona would change (addresses, limits of old programs) is not done.
    let before =
        if persona == u32::MAX { place.load(Ordering::Relaxed) } else { place.swap(persona, Ordering::Relaxed) };
    Ok(before.into())
}
