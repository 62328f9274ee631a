//! The life of a thread: into the guest, out again for a call or a fault, and so on until it ends.

use alloc::boxed::Box;
use alloc::sync::Arc;

use tessera_runtime::abi::FaultKind;
use tessera_runtime::abi::x86_64::{GuestState, Registers};
use tessera_runtime::object::guest::Exit;
use tessera_runtime::object::{guest, ticks};
use tessera_runtime::{Error, thread};

use core::sync::atomic::Ordering::Relaxed;

use super::context::Next;
use super::{Context, Credentials, System, Task, exit, trace};
use crate::file::Table;
use crate::fs::FsContext;
use crate::memory::{GuestMemory, Mm, Protection, reserve};
use crate::signal::{self, Info, code, deliver};
use crate::syscall;

/// Bytes of the personality's stack for a thread; pages are charged when touched.
const STACK: u64 = 128 << 10;

/// What a new thread starts with.
pub struct Parts {
    pub task: Arc<Task>,
    pub identity: Arc<Credentials>,
    pub mm: Arc<Mm>,
    pub files: Arc<Table>,
    pub fs: Arc<FsContext>,
    pub system: Arc<System>,
    pub registers: Registers,
    /// The vector state it starts with; none: a fresh one.
    pub vector: Option<Box<[u8]>>,
    pub signal_stack: (u64, u32, u64),
    pub clear_number: u64,
    pub robust_list: u64,
}

/// Lets a thread of the personality run a task.
pub fn start(parts: Parts) -> crate::errno::Result<()> {
    let stack = reserve::Stack::take()?;
    thread::Builder::new().stack(STACK).spawn(move || {
        live(parts);
        drop(stack);
    })?;
    Ok(())
}

fn live(parts: Parts) {
    let process = parts.task.process.clone();
    parts.task.waiter.adopt();
    let memory = match GuestMemory::bind(parts.mm) {
        Ok(memory) => memory,
        Err(_) => {
            process.end(signal::SIGKILL);
            exit::without_guest(&parts.task, &parts.files, &parts.system);
            return;
        }
    };
    if let Some(vector) = parts.vector {
        // Refused only if the thread had no guest.
        let _ = guest::set_vector_state(&vector);
    }
    let mut context = Context {
        state: GuestState { registers: parts.registers, ..GuestState::default() },
        has_registers: true,
        is_changed: true,
        result: 0,
        task: parts.task,
        process,
        identity: parts.identity,
        memory,
        files: parts.files,
        fs: parts.fs,
        system: parts.system,
        call: u64::MAX,
        saved_mask: None,
        signal_stack: parts.signal_stack,
        clear_number: parts.clear_number,
        robust_list: parts.robust_list,
        waited: Default::default(),
        next: Next::Guest,
    };
    run(&mut context);
}

/// Why the guest left.
enum Left {
    Call(u64, [u64; 6]),
    Otherwise,
}

/// The state says why the guest left.
fn left(context: &mut Context) -> Left {
    context.has_registers = true;
    let registers = &context.state.registers;
    if context.state.exit == 0 {
        context.is_changed = false;
        Left::Call(registers.rax, registers.arguments())
    } else {
        context.is_changed = true;
        Left::Otherwise
    }
}

/// What the processor's time went to.
struct Account {
    /// When the guest left last.
    since: u64,
}

impl Account {
    /// The guest left now; it was let in at `entered`.
    #[inline(always)]
    fn count(&mut self, context: &Context, entered: u64) {
        let left = ticks();
        let [guest_time, own_time] = &context.task.used;
        let worked = entered.wrapping_sub(self.since).saturating_sub(context.waited.take());
        own_time.store(own_time.load(Relaxed).wrapping_add(worked), Relaxed);
        guest_time.store(guest_time.load(Relaxed).wrapping_add(left.wrapping_sub(entered)), Relaxed);
        self.since = left;
    }
}

#[inline(never)]
#[cfg_attr(target_os = "none", optimize(speed))]
fn run(context: &mut Context) {
    let mut in_call = false;
    let mut account = Account { since: ticks() };
    loop {
        if context.task.attention() != 0 && !deliver::attend(context, in_call) {
            break;
        }
        let entered = ticks();
        // The short way behind a call, and for most calls back.
        let resumed = if context.is_changed { None } else { Some(guest::resume(context.result, &mut context.state)) };
        if let Some(Ok(Exit::Call { number, arguments })) = resumed {
            account.count(context, entered);
            context.has_registers = false;
            in_call = true;
            if !serve(context, number.into(), arguments) {
                break;
            }
        } else if !come_back(context, resumed.map(|exit| exit.map(|_| ())), entered, &mut account, &mut in_call) {
            break;
        }
    }
    match core::mem::take(&mut context.next) {
        Next::Moved => {}
        Next::Exit(status) => exit::thread(context, status),
        Next::Guest => exit::thread(context, 0),
    }
}

/// Makes a call of the guest; answers whether it goes on.
#[inline(always)]
fn serve(context: &mut Context, number: u64, arguments: [u64; 6]) -> bool {
    syscall::dispatch(context, number, arguments);
    // A result that stands for an interruption is not for the guest's eyes, even if nothing is left to handle.
    if context.result.wrapping_sub(-600_i64 as u64) < 100 {
        context.task.attend(crate::task::process::attention::SIGNAL);
    }
    matches!(context.next, Next::Guest)
}

/// The guest left otherwise than by a call with its registers in registers, or is to go on with those of the state; answers whether it goes on.
#[inline(never)]
fn come_back(
    context: &mut Context,
    resumed: Option<Result<(), Error>>,
    entered: u64,
    account: &mut Account,
    in_call: &mut bool,
) -> bool {
    let entry = resumed.unwrap_or_else(|| guest::enter(&mut context.state));
    let entry = entry.map(|()| left(context));
    account.count(context, entered);
    match entry {
        Ok(Left::Call(number, arguments)) => {
            *in_call = true;
            serve(context, number, arguments)
        }
        Ok(Left::Otherwise) => {
            *in_call = false;
            context.call = trace::NO_CALL;
            if context.state.exit == 1 {
                fault(context);
            }
            true
        }
        Err(Error::Interrupted) => true,
        Err(_) => {
            context.process.end(signal::SIGKILL);
            false
        }
    }
}

/// The guest's instruction could not be executed.
fn fault(context: &mut Context) {
    let address = context.state.address;
    let instruction = context.state.registers.rip;
    let kind = FaultKind::from_code(context.state.fault);
    let access = match kind {
        Some(FaultKind::Read) => Some(Protection::READ),
        Some(FaultKind::Write) => Some(Protection::WRITE),
        Some(FaultKind::Execute) => Some(Protection::EXECUTE),
        _ => None,
    };
    let info = match (access, kind) {
        (Some(access), _) => {
            let mm = context.memory.mm();
            if mm.resolve(address, access) {
                return;
            }
            let layout = mm.lock();
            match layout.find(address) {
                None => Info::fault(signal::SIGSEGV, code::MAP_ERROR, address),
                Some((_, area)) if area.protection.contains(access) => {
                    Info::fault(signal::SIGBUS, code::NO_ADDRESS, address)
                }
                Some(_) => Info::fault(signal::SIGSEGV, code::ACCESS_ERROR, address),
            }
        }
        (_, Some(FaultKind::Instruction)) => Info::fault(signal::SIGILL, code::ILLEGAL_OPERAND, instruction),
        (_, Some(FaultKind::Divide)) => Info::fault(signal::SIGFPE, code::DIVIDE, instruction),
        (_, Some(FaultKind::FloatingPoint)) => Info::fault(signal::SIGFPE, code::FLOAT_INVALID, instruction),
        (_, Some(FaultKind::Debug)) if trace::stepped(context) => {
            Info { code: trace::TRACED, ..Info::fault(signal::SIGTRAP, 0, instruction) }
        }
        (_, Some(FaultKind::Debug)) => Info::kernel(signal::SIGTRAP),
        (_, Some(FaultKind::Alignment)) => Info::fault(signal::SIGBUS, code::ALIGNMENT, 0),
        (_, Some(FaultKind::NoMemory)) => {
            context.system.shortage.wait(&context.system);
            return;
        }
        _ => Info::kernel(signal::SIGSEGV),
    };
    deliver::force(context, info);
}
