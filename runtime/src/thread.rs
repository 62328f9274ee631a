//! Threads of this process: closures on stacks of their own, with an unmapped guard page below each.
//!
//! Each thread has a record that its FS base points to. A thread that has ended owns nothing but its stack and record, which
//! whoever joins it frees, or for one that nobody joins, the next spawn.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tessera_abi::{Error, Handle, PAGE, Syscall};

use crate::handle::{Object, Result};
use crate::object::{Access, Budget, Thread, Vmo, park};
use crate::sync::Mutex;
use crate::{own, raw};

/// Where the stacks lie, one in each slot, the slot's first page left out as guard.
const STACKS: u64 = 0x7f80_0000_0000;
const SLOT: u64 = 64 << 20;
const SLOTS: u32 = 1 << 13;
/// Bytes of a stack if nothing else is asked for. Pages are charged when touched.
const STACK: u64 = 256 << 10;

/// What a thread's FS base points to.
#[repr(C)]
struct Record {
    /// Its own address, so that one load of `fs:[0]` finds it.
    address: AtomicU64,
    /// The thread's handle in this process.
    handle: AtomicU32,
    /// Whose call it carries out: 1 plus a route's number, or 0.
    caller: AtomicU64,
    /// What [`set_note`] left.
    note: AtomicU64,
}

impl Record {
    const fn new() -> Record {
        Record {
            address: AtomicU64::new(0),
            handle: AtomicU32::new(0),
            caller: AtomicU64::new(0),
            note: AtomicU64::new(0),
        }
    }

    /// Makes this the calling thread's record.
    fn enter(&'static self, handle: Handle) {
        let address = core::ptr::from_ref(self) as u64;
        self.address.store(address, Ordering::Relaxed);
        self.handle.store(handle.0, Ordering::Relaxed);
        // SAFETY: FS is used by this file alone, and the record lives as long as the thread.
        unsafe { raw::syscall_1(Syscall::ThreadPointer as u64, address) };
    }
}

static MAIN: Record = Record::new();

/// Makes the calling thread the main one.
pub(crate) fn enter_main(handle: Handle) {
    MAIN.enter(handle);
}

/// The calling thread's record.
#[inline(always)]
fn record() -> &'static Record {
    // SAFETY: every thread enters its record before it runs anything else, and the record outlives what the thread runs.
    unsafe { &*(raw::thread_pointer() as *const Record) }
}

/// The number of the calling thread's handle.
pub(crate) fn own_number() -> u32 {
    record().handle.load(Ordering::Relaxed)
}

/// Whose call the calling thread carries out: 1 plus a route's number, or 0.
#[inline(always)]
pub(crate) fn caller() -> u64 {
    record().caller.load(Ordering::Relaxed)
}

/// Says whose call the calling thread carries out from now on.
#[inline(always)]
pub(crate) fn set_caller(caller: u64) {
    record().caller.store(caller, Ordering::Relaxed);
}

/// A word of the calling thread's own, for whoever runs on it: 0, or what it left there last.
pub fn note() -> u64 {
    record().note.load(Ordering::Relaxed)
}

/// Leaves a word for [`note`].
pub fn set_note(note: u64) {
    record().note.store(note, Ordering::Relaxed);
}

/// Where that word is, for code that is not Rust's. It lives as long as the thread.
pub fn note_place() -> *mut u64 {
    record().note.as_ptr()
}

/// The calling thread.
pub fn current() -> core::mem::ManuallyDrop<Thread> {
    core::mem::ManuallyDrop::new(Thread::from_owned(crate::handle::Owned::new(Handle(own_number()))))
}

/// `state` of a thread that runs and that nobody joins; else it is the joining thread's handle, or `ENDED`.
const RUNS: u32 = 0;
const ENDED: u32 = u32::MAX;

struct Shared<T> {
    record: Record,
    state: AtomicU32,
    slot: u32,
    /// Written when `state` is `ENDED`, unless the joiner took it out since.
    result: UnsafeCell<MaybeUninit<T>>,
    taken: AtomicBool,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == ENDED && !*self.taken.get_mut() {
            // SAFETY: the thread wrote its result before it ended, and nobody took it.
            unsafe { self.result.get_mut().assume_init_drop() };
        }
    }
}

// SAFETY: the result is written by the thread before it ends and read by the joiner after.
unsafe impl<T: Send> Sync for Shared<T> {}

/// What a finished thread leaves behind, whatever its result's type.
trait Remains: Send + Sync {
    fn state(&self) -> &AtomicU32;
    fn slot(&self) -> u32;
}

impl<T: Send> Remains for Shared<T> {
    fn state(&self) -> &AtomicU32 {
        &self.state
    }
    fn slot(&self) -> u32 {
        self.slot
    }
}

/// A thread that can be joined. Dropped, the thread goes on by itself.
pub struct JoinHandle<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    thread: u32,
}

/// Threads that nobody joins, and free slots.
struct Slots {
    detached: Vec<Arc<dyn Remains>>,
    free: Vec<u32>,
    next: u32,
}

static SLOT_TABLE: Mutex<Slots> = Mutex::new(Slots { detached: Vec::new(), free: Vec::new(), next: 0 });

/// The thread-local variables of a program that is linked with this one: what each of its threads begins with. They lie below the
/// thread's record, where the compiler looks for them (ELF Handling For Thread-Local Storage, section 3.4.6, variant II).
#[derive(Clone, Copy, Debug)]
pub struct Locals {
    /// The initialised ones; the others are zero.
    pub image: &'static [u8],
    /// Bytes of all.
    pub size: usize,
}

impl Locals {
    /// What the linker script aligns them to.
    const ALIGN: u64 = 64;
}

/// How a thread is to be made.
#[derive(Default)]
pub struct Builder<'a> {
    stack: Option<u64>,
    budget: Option<&'a Budget>,
    passive: bool,
    vector: bool,
    locals: Option<Locals>,
}

impl<'a> Builder<'a> {
    /// As `spawn` does.
    pub fn new() -> Builder<'a> {
        Builder::default()
    }

    /// Bytes of its stack, at most 64 MiB less a page.
    pub fn stack(mut self, bytes: u64) -> Self {
        self.stack = Some(bytes);
        self
    }

    /// Its budget, in place of the process's.
    pub fn budget(mut self, budget: &'a Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// No budget: it runs on its callers' only.
    pub fn passive(mut self) -> Self {
        self.passive = true;
        self
    }

    /// It may use vector registers.
    pub fn vector(mut self) -> Self {
        self.vector = true;
        self
    }

    /// It has these variables of its own, at the top of its stack.
    pub fn locals(mut self, locals: Locals) -> Self {
        self.locals = Some(locals);
        self
    }

    /// Starts the thread.
    pub fn spawn<T: Send + 'static>(self, main: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
        let bytes = self.stack.unwrap_or(STACK).next_multiple_of(PAGE);
        if bytes == 0 || bytes > SLOT - PAGE {
            return Err(Error::BadArgument);
        }
        let slot = take_slot()?;
        let shared = Arc::new(Shared {
            record: Record::new(),
            state: AtomicU32::new(RUNS),
            slot,
            result: UnsafeCell::new(MaybeUninit::uninit()),
            taken: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        let made = self.start(
            slot,
            bytes,
            Box::new(move || {
                // SAFETY: the joiner reads after the thread ended.
                unsafe { (*theirs.result.get()).write(main()) };
                let state = &raw const theirs.state;
                let own = own_number();
                // The joiner, or the table of detached threads, holds the other reference until the state says ended.
                drop(theirs);
                (state, own)
            }),
            &shared,
        );
        match made {
            Ok(thread) => Ok(JoinHandle { shared, thread }),
            Err(error) => {
                give_slot(slot);
                Err(error)
            }
        }
    }

    fn start<T: Send>(&self, slot: u32, bytes: u64, main: Main, shared: &Arc<Shared<T>>) -> Result<u32> {
        let top = STACKS + (u64::from(slot) + 1) * SLOT;
        let memory = Vmo::create(&own::heap_pool(), bytes)?;
        own::space().map_at(&memory, 0, top - bytes, bytes, Access::Write)?;
        let process_budget = own::budget();
        let budget = if self.passive { None } else { Some(self.budget.unwrap_or(&process_budget)) };
        let thread = Thread::create(&own::pool(), &own::process(), budget)?;
        if self.vector {
            thread.use_vector(&own::pool())?;
        }
        let number = thread.handle();
        let (top, record) = match self.locals {
            None => (top, &raw const shared.record),
            Some(locals) => place(locals, top, bytes)?,
        };
        let first = Box::into_raw(Box::new(First { main, record, number }));
        // The stack looks as at a call: 8 bytes below a multiple of 16.
        // SAFETY: `enter` takes the box that `first` came from, on a stack that is its own.
        let started = unsafe { thread.start(enter as *const () as u64, top - 8, first as u64, 0) };
        if let Err(error) = started {
            // SAFETY: nobody else has the box.
            drop(unsafe { Box::from_raw(first) });
            return Err(error);
        }
        // From here on the thread owns its handle: it closes it when it ends.
        let _ = thread.into_owned().into_handle();
        Ok(number.0)
    }
}

/// Puts a record and below it the thread's variables at the top of its new stack of `bytes`; answers the stack's new top and the record.
fn place(locals: Locals, top: u64, bytes: u64) -> Result<(u64, *const Record)> {
    let record = (top - size_of::<Record>() as u64) & !(Locals::ALIGN - 1);
    let size = (locals.size.max(locals.image.len()) as u64).next_multiple_of(Locals::ALIGN);
    // Half of the stack is left to the thread.
    if size > bytes / 2 {
        return Err(Error::BadArgument);
    }
    let start = record - size;
    // SAFETY: both lie in the stack, which was just mapped, is zero, and which nobody else knows of yet.
    unsafe {
        core::ptr::copy_nonoverlapping(locals.image.as_ptr(), start as *mut u8, locals.image.len());
        (record as *mut Record).write(Record::new());
    }
    Ok((start, record as *const Record))
}

type Main = Box<dyn FnOnce() -> (*const AtomicU32, u32) + Send>;

struct First {
    main: Main,
    record: *const Record,
    number: Handle,
}

extern "C" fn enter(first: *mut First) -> ! {
    // SAFETY: `start` made the box for this thread alone.
    let first = unsafe { Box::from_raw(first) };
    // Before the box is freed: the heap's lock needs the record.
    // SAFETY: the record is part of what the thread shares with its joiner, or of its stack: it lives until the thread ended.
    unsafe { &*first.record }.enter(first.number);
    let First { main, .. } = *first;
    let (state, own) = main();
    // SAFETY: the state is live until it says ended; nothing of this thread's stack is used after.
    unsafe { raw::end_thread(state, ENDED, own) }
}

fn take_slot() -> Result<u32> {
    let mut ended = Vec::new();
    let mut slots = SLOT_TABLE.lock();
    slots.detached.retain(|thread| {
        let gone = thread.state().load(Ordering::Acquire) == ENDED;
        if gone {
            ended.push(thread.slot());
        }
        !gone
    });
    for slot in ended {
        free_stack(slot);
        slots.free.push(slot);
    }
    if let Some(slot) = slots.free.pop() {
        return Ok(slot);
    }
    if slots.next == SLOTS {
        return Err(Error::NoQuota);
    }
    slots.next += 1;
    Ok(slots.next - 1)
}

fn free_stack(slot: u32) {
    // SAFETY: the thread that ran on it has ended, or was never started.
    let _ = unsafe { own::space().unmap(STACKS + u64::from(slot) * SLOT + PAGE, SLOT - PAGE) };
}

fn give_slot(slot: u32) {
    free_stack(slot);
    SLOT_TABLE.lock().free.push(slot);
}

/// Starts a thread on the process's budget.
pub fn spawn<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().spawn(main)
}

impl<T: Send + 'static> JoinHandle<T> {
    /// The thread's handle, for as long as it runs.
    pub fn thread(&self) -> core::mem::ManuallyDrop<Thread> {
        core::mem::ManuallyDrop::new(Thread::from_owned(crate::handle::Owned::new(Handle(self.thread))))
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == ENDED
    }

    /// Waits until the thread ends; answers its result.
    pub fn join(self) -> T {
        let shared = &self.shared;
        let own = own_number();
        if shared.state.compare_exchange(RUNS, own, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while shared.state.load(Ordering::Acquire) != ENDED {
                let _ = park(None);
            }
        }
        give_slot(shared.slot);
        shared.taken.store(true, Ordering::Relaxed);
        // SAFETY: the thread has ended and wrote it before; `join` is called once, and whatever is dropped later sees that it is taken.
        unsafe { (*shared.result.get()).assume_init_read() }
    }
}

impl<T: Send + 'static> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // Of one that was joined nothing is left to look after.
        if !self.shared.taken.load(Ordering::Relaxed) {
            SLOT_TABLE.lock().detached.push(self.shared.clone());
        }
    }
}
