//! Guests: a thread's second register file, which runs in a space of its own until it makes a system call, faults, or is
//! interrupted. Then the thread goes on behind its `guest_enter` with the guest's registers in its memory.

use crate::{
    Caller, Flow, Frame, Hardware, Machine,
    arena::Id,
    node::Object,
    pool::Resource,
    thread::{Guest, REGISTER_BYTES, Thread, registers_from_bytes, registers_to_bytes, result_to},
    user::UserSlice,
    vmo::Miss,
};
use tessera_abi::{Error, FaultKind, PAGE, Rights};

/// Why a guest left, as `GuestState::exit` says it.
const EXIT_SYSTEM_CALL: u64 = 0;
const EXIT_INTERRUPTED: u64 = 2;

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
        if !thread.guest.space.is_none() {
            return Err(Error::Occupied);
        }
        let guest_root = self.spaces.get(space).map(|space| space.root).ok_or(Error::Gone)?;
        let own_root = self.spaces.get(caller.space).map(|space| space.root).ok_or(Error::Gone)?;
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
        let activation = crate::Activation { root: guest_root, vector, full: true, ..crate::Activation::default() };
        thread.guest = Guest { space, view, activation, address: 0, pool };
        thread.activation.root = view;
        Ok(Flow::Done)
    }

    /// `guest_enter`.
    pub(crate) fn guest_enter(&mut self, caller: &Caller, address: u64) -> Result<Flow, Error> {
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        if thread.guest.space.is_none() {
            return Err(Error::BadState);
        }
        if core::mem::take(&mut thread.token) {
            return Err(Error::Interrupted);
        }
        let mut bytes = [0; REGISTER_BYTES];
        let from = UserSlice::new(caller.space, address, bytes.len() as u64).map_err(|_| Error::BadAddress)?;
        if let Err(miss) = self.read_user(from, &mut bytes) {
            return self.missed(caller, miss);
        }
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        thread.guest.activation.registers = registers_from_bytes(&bytes).sanitized();
        thread.guest.activation.full = true;
        thread.guest.address = address;
        thread.in_guest = true;
        Ok(Flow::Blocked)
    }

    /// `guest_vector_read`, `guest_vector_write`: the caller runs, so its guest does not, and its frame is up to date.
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
        let physical = thread.guest.activation.vector.0.saturating_mul(PAGE);
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
            self.hardware.vector_repair(Frame(physical / PAGE));
        }
        Ok(Flow::One(self.hardware.vector_size()))
    }

    /// The running guest made a system call.
    pub(crate) fn guest_called(&mut self, id: Id<Thread>) {
        self.guest_leave(id, EXIT_SYSTEM_CALL, 0, 0);
    }

    /// A thread was unparked: if its guest runs, that ends.
    pub(crate) fn guest_interrupted(&mut self, id: Id<Thread>) {
        if let Some(thread) = self.threads.get_mut(id)
            && thread.in_guest
        {
            thread.token = false;
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
        let registers = registers_to_bytes(&thread.guest.activation.registers);
        for (to, from) in bytes.iter_mut().zip(registers.iter().chain(reason.iter().flatten())) {
            *to = *from;
        }
        let space = self.processes.get(process).map_or(Id::NONE, |process| process.space);
        let written = UserSlice::new(space, state, bytes.len() as u64).and_then(|to| self.write_user(to, &bytes));
        let Some(thread) = self.threads.get_mut(id) else { return };
        match written {
            Ok(()) => result_to(&mut thread.activation.registers, Ok(Flow::Done)),
            Err(Miss::NoQuota) => self.fail_thread(id, FaultKind::NoMemory),
            Err(_) => self.fail_thread(id, FaultKind::Write),
        }
    }

    /// A thread ends: its guest goes with it.
    pub(crate) fn guest_drop(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| !thread.guest.space.is_none()) else { return };
        thread.in_guest = false;
        let guest = core::mem::take(&mut thread.guest);
        let root = core::mem::take(&mut thread.activation.root);
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
