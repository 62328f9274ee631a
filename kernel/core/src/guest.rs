//! Guests: a thread's second register file, which runs in a space of its own until it makes a system call, faults, or is
//! interrupted. Then the thread goes on behind its `guest_enter` with the guest's registers in its memory.

use crate::{
    Activation, Caller, Flow, Frame, Hardware, Machine,
    arena::Id,
    node::Object,
    pool::Resource,
    privilege::Door,
    thread::{Guest, REGISTER_BYTES, Thread, registers_from_bytes, registers_to_bytes, result_to},
    user::UserSlice,
    vmo::Miss,
};
use tessera_abi::{
    Error, FaultKind, Level, PAGE, Rights,
    x86_64::{GUEST_LEFT, Registers},
};

/// Why a guest left, as `GuestState::exit` says it.
const EXIT_SYSTEM_CALL: u64 = 0;
const EXIT_INTERRUPTED: u64 = 2;

impl Thread {
    /// The guest goes on behind its system call, whose result is `value`.
    #[inline(always)]
    pub(crate) fn resume_guest(&mut self, value: u64, address: u64) {
        self.guest.activation.registers.rax = value;
        self.guest.address = address;
        self.guest.resumed = true;
        self.in_guest = true;
    }

    /// The guest's registers as they are when it goes on: a `syscall` leaves two in the processor that an entry does not save.
    fn guest_registers(&self) -> Registers {
        let Activation { registers, full, .. } = self.guest.activation;
        if full { registers } else { Registers { rcx: registers.rip, r11: registers.rflags, ..registers } }
    }

    /// The guest made a system call, which the thread finds in its own registers.
    #[inline(always)]
    pub(crate) fn take_guest_call(&mut self) {
        let (from, to) = (&self.guest.activation.registers, &mut self.activation.registers);
        to.rax = from.rax.min(GUEST_LEFT - 1) << 32;
        (to.rdi, to.rsi, to.rdx) = (from.rdi, from.rsi, from.rdx);
        (to.r10, to.r8, to.r9) = (from.r10, from.r8, from.r9);
        self.in_guest = false;
    }
}

impl<H: Hardware> Machine<H> {
    /// `guest_create`: two frames are charged to the pool, the vector state and the joint table.
    pub(crate) fn guest_create(&mut self, caller: &Caller, thread: u64, pool: u64, space: u64) -> Result<Flow, Error> {
        let (_, id) = self.thread(caller.process, thread, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let (_, space) = self.space(caller.process, space, Rights::MANAGE | Rights::MAP)?;
        let thread = self.threads.get(id).ok_or(Error::Gone)?;
        if thread.process != caller.process || space == caller.space {
            return Err(Error::BadArgument);
        }
        if !thread.guest.space.is_none() || !thread.vector_pool.is_none() {
            return Err(Error::Occupied);
        }
        let (guest_root, guest_level) =
            self.spaces.get(space).map(|space| (space.root, space.level)).ok_or(Error::Gone)?;
        let (own_root, own_level) =
            self.spaces.get(caller.space).map(|space| (space.root, space.level)).ok_or(Error::Gone)?;
        if guest_level.is_kernel() && own_level != Level::Guests {
            return Err(Error::NoRight);
        }
        let vector = self.charged_frame(pool).map_err(|_| Error::NoQuota)?;
        let Ok(view) = self.charged_frame(pool) else {
            self.frames.release(vector);
            self.credit(pool, Resource::PAGES, 1);
            return Err(Error::NoQuota);
        };
        self.hardware.vector_create(vector);
        self.hardware.view_create(view, own_root, guest_root);
        self.reference(Object::Space(space));
        let thread = self.threads.get_mut(id).ok_or(Error::Gone)?;
        // A guest cannot reach memory of the kernel's mode: it can do with the table that shows both.
        let root = if own_level.is_kernel() { view } else { guest_root };
        let door = Door::between(own_level, guest_level);
        let kernel = guest_level.is_kernel();
        let pointer = thread.activation.pointer;
        let activation = Activation { root, kernel, door, pointer, vector, full: true, ..Activation::default() };
        thread.guest = Guest { space, view, activation, address: 0, resumed: false, pool };
        thread.activation.root = view;
        // The thread itself uses no vector registers: those of its guest stay loaded while the two take turns.
        thread.activation.vector = vector;
        thread.activation.door = door;
        thread.knob.door = door != Door::Closed;
        Ok(Flow::Done)
    }

    /// `guest_enter`.
    pub(crate) fn guest_enter(&mut self, caller: &Caller, address: u64) -> Result<Flow, Error> {
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        if thread.guest.space.is_none() {
            return Err(Error::BadState);
        }
        if core::mem::take(&mut thread.knob.token) {
            return Err(Error::Interrupted);
        }
        let mut bytes = [0; REGISTER_BYTES];
        let from = UserSlice::new(caller.space, address, bytes.len() as u64).map_err(|_| Error::BadAddress)?;
        if let Err(miss) = self.read_user(from, &mut bytes) {
            return self.missed(caller, miss);
        }
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        let registers = registers_from_bytes(&bytes).sanitized();
        thread.guest.activation.registers = registers;
        let bases = [registers.fs_base, registers.gs_base];
        (thread.activation.guest_bases, thread.guest.activation.guest_bases) = (bases, bases);
        thread.guest.activation.full = true;
        thread.guest.address = address;
        thread.guest.resumed = false;
        thread.in_guest = true;
        Ok(Flow::Blocked)
    }

    /// `guest_resume`.
    pub(crate) fn guest_resume(&mut self, caller: &Caller, value: u64, address: u64) -> Result<Flow, Error> {
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        if thread.guest.space.is_none() {
            return Err(Error::BadState);
        }
        if core::mem::take(&mut thread.knob.token) {
            return Err(Error::Interrupted);
        }
        thread.resume_guest(value, address);
        Ok(Flow::Blocked)
    }

    /// `guest_save`.
    pub(crate) fn guest_save(&mut self, caller: &Caller, address: u64) -> Result<Flow, Error> {
        let thread = self.threads.get(caller.thread).ok_or(Error::Gone)?;
        if thread.guest.space.is_none() {
            return Err(Error::BadState);
        }
        let bytes = registers_to_bytes(&thread.guest_registers());
        let to = UserSlice::new(caller.space, address, bytes.len() as u64).map_err(|_| Error::BadAddress)?;
        match self.write_user(to, &bytes) {
            Ok(()) => Ok(Flow::Done),
            Err(miss) => self.missed(caller, miss),
        }
    }

    /// `guest_vector_read`, `guest_vector_write`: the caller runs, so its guest does not.
    pub(crate) fn guest_vector(
        &mut self,
        caller: &Caller,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<Flow, Error> {
        let thread = self.threads.get(caller.thread).ok_or(Error::Gone)?;
        if thread.guest.space.is_none() {
            return Err(Error::BadState);
        }
        let vector = thread.guest.activation.vector;
        self.hardware.vector_save(vector);
        let physical = vector.0.saturating_mul(PAGE);
        let length = length.min(PAGE);
        // First that all of it is accessible: a refused call leaves the state as it was.
        for copy in [false, true] {
            let mut done = 0;
            while done < length {
                let mut bytes = [0; 256];
                let part = (length - done).min(bytes.len() as u64);
                let Some(bytes) = bytes.get_mut(..part as usize) else { return Err(Error::BadArgument) };
                let (at, to) = (address.wrapping_add(done), physical.saturating_add(done));
                let touched = if write {
                    UserSlice::new(caller.space, at, part).and_then(|from| self.read_user(from, bytes))
                } else {
                    self.hardware.read_bytes(to, bytes);
                    UserSlice::new(caller.space, at, part).and_then(|to| self.write_user(to, bytes))
                };
                if let Err(miss) = touched {
                    return self.missed(caller, miss);
                }
                if write && copy {
                    self.hardware.write_bytes(to, bytes);
                }
                done = done.saturating_add(part);
            }
        }
        if write {
            self.hardware.vector_repair(vector);
        }
        Ok(Flow::One(self.hardware.vector_size()))
    }

    /// The running guest made a system call.
    pub(crate) fn guest_called(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get_mut(id) else { return };
        if thread.guest.resumed {
            thread.take_guest_call();
        } else {
            self.guest_leave(id, EXIT_SYSTEM_CALL, 0, 0);
        }
    }

    /// A thread was unparked: if its guest runs, that ends.
    pub(crate) fn guest_interrupted(&mut self, id: Id<Thread>) {
        if let Some(thread) = self.threads.get_mut(id)
            && thread.in_guest
        {
            thread.knob.token = false;
            self.guest_leave(id, EXIT_INTERRUPTED, 0, 0);
        }
    }

    /// The guest stops; its registers and the reason go to where the thread keeps its state.
    pub(crate) fn guest_leave(&mut self, id: Id<Thread>, exit: u64, fault: u64, address: u64) {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| thread.in_guest) else { return };
        thread.in_guest = false;
        let (process, state) = (thread.process, thread.guest.address);
        let mut bytes = [0; REGISTER_BYTES + 24];
        let reason = [exit, fault, address].map(u64::to_le_bytes);
        let registers = registers_to_bytes(&thread.guest_registers());
        let (registers_to, reason_to) = bytes.split_at_mut(REGISTER_BYTES);
        registers_to.copy_from_slice(&registers);
        for (to, from) in reason_to.chunks_exact_mut(8).zip(reason) {
            to.copy_from_slice(&from);
        }
        let space = self.processes.get(process).map_or(Id::NONE, |process| process.space);
        let written = UserSlice::new(space, state, bytes.len() as u64).and_then(|to| self.write_user(to, &bytes));
        let Some(thread) = self.threads.get_mut(id) else { return };
        match written {
            Ok(()) => {
                result_to(&mut thread.activation.registers, Ok(Flow::Done));
                if thread.guest.resumed {
                    thread.activation.registers.rax = GUEST_LEFT << 32;
                }
            }
            Err(Miss::NoQuota) => self.fail_thread(id, FaultKind::NoMemory),
            Err(_) => self.fail_thread(id, FaultKind::Write),
        }
    }

    /// A thread ends: its guest goes with it.
    pub(crate) fn guest_drop(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| !thread.guest.space.is_none()) else { return };
        thread.in_guest = false;
        let guest = core::mem::take(&mut thread.guest);
        thread.knob.door = false;
        thread.activation.door = Door::Closed;
        let root = core::mem::take(&mut thread.activation.root);
        thread.activation.vector = Frame(0);
        debug_assert!(root == guest.view);
        // No processor may go on with the joint table; that of the process is left to the space.
        self.hardware.view_release(guest.view);
        for frame in [guest.activation.vector, guest.view] {
            self.frames.release(frame);
            self.credit(guest.pool, Resource::PAGES, 1);
        }
        self.unreference(Object::Space(guest.space));
    }
}
