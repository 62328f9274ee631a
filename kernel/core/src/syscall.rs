//! The entry of every system call: an exhaustive match, one line a call.

use crate::{
    Caller, Entered, Flow, Hardware, Machine, PowerAction, Resource,
    arena::Id,
    node::Object,
    thread::{Thread, result_to},
    user::UserSlice,
    vmo::Source,
};
use tessera_abi::{Error, Rights, Syscall};

/// Most bytes that one entry copies, or writes to the log.
const COPY_STEP: u64 = 64 * 1024;

impl<H: Hardware> Machine<H> {
    /// The running thread made a system call. Its registers are saved.
    pub fn syscall(&mut self, processor: usize) {
        let number = self.activation(processor).map_or(0, |activation| activation.registers.rax);
        if !matches!(self.fast_syscall(processor, number), Entered::Slow) {
            return;
        }
        match self.quick_syscall(processor) {
            Entered::Slow => self.slow_syscall(processor),
            Entered::Mapping => drop(self.mapping_syscall(processor)),
            _ => {}
        }
    }

    /// What `fast_syscall` and `quick_syscall` left to do when both answered [`Entered::Slow`].
    pub fn slow_syscall(&mut self, processor: usize) {
        self.active = processor;
        let Some(caller) = self.caller(processor) else { return };
        let Some(thread) = self.threads.get(caller.thread) else { return };
        if thread.in_guest {
            self.guest_called(caller.thread);
            return;
        }
        let result = match Syscall::from_number(thread.activation.registers.rax) {
            Some(call) => self.dispatch(call, &caller),
            None => Err(Error::BadSyscall),
        };
        self.finish(caller.thread, result);
    }

    /// Tells a thread what became of its call.
    #[inline(always)]
    pub(crate) fn finish(&mut self, thread: Id<Thread>, result: Result<Flow, Error>) {
        let Some(thread) = self.threads.get_mut(thread) else { return };
        match result {
            Ok(Flow::Blocked) => {}
            Ok(Flow::Again) => {
                let length = thread.activation.call_length();
                let registers = &mut thread.activation.registers;
                registers.rip = registers.rip.wrapping_sub(length);
            }
            result => result_to(&mut thread.activation.registers, result),
        }
    }

    fn dispatch(&mut self, call: Syscall, caller: &Caller) -> Result<Flow, Error> {
        let [a, b, c, d, e, f] = caller.arguments;
        let one = |value: Result<u64, Error>| value.map(Flow::One);
        match call {
            Syscall::Null => Ok(Flow::Done),
            Syscall::Yield => {
                // The result first: the thread may not be the one that runs afterwards.
                if let Some(thread) = self.threads.get_mut(caller.thread) {
                    result_to(&mut thread.activation.registers, Ok(Flow::Done));
                }
                self.give_way(caller.processor);
                Ok(Flow::Blocked)
            }
            Syscall::Close => self.close(caller, a),
            Syscall::Duplicate => one(self.duplicate(caller, a, b)),
            Syscall::Revoke => self.revoke(caller, a),
            Syscall::Inspect => self.inspect(caller, a),
            Syscall::PoolCreate => one(self.pool_create(caller, a, b)),
            Syscall::PoolInspect => self.pool_inspect(caller, a, b),
            Syscall::VmoCreate => one(self.vmo_create(caller, a, b, Source::Zero)),
            Syscall::VmoCreatePaged => {
                let (_, endpoint) = self.endpoint(caller.process, c, Rights::MANAGE)?;
                one(self.vmo_create(caller, a, b, Source::Pager(endpoint, d)))
            }
            Syscall::VmoRead => self.vmo_copy(caller, a, b, c, d, false),
            Syscall::VmoWrite => self.vmo_copy(caller, a, b, c, d, true),
            Syscall::VmoResize => self.vmo_resize(caller, a, b),
            Syscall::VmoDiscard => self.vmo_discard(caller, a, b, c),
            Syscall::VmoSnapshot => self.vmo_snapshot(caller, a, b),
            Syscall::VmoInspect => self.vmo_inspect(caller, a),
            Syscall::SpaceCreate => one(self.space_create(caller, a)),
            Syscall::SpaceCreatePrivileged => one(self.space_create_privileged(caller, a, b, c)),
            Syscall::SpaceMap => one(self.space_map(caller)),
            Syscall::SpaceUnmap => self.space_unmap(caller),
            Syscall::SpaceProtect => self.space_protect(caller),
            Syscall::ProcessCreate => one(self.process_create(caller, a, b, [c, d])),
            Syscall::ProcessGrant => one(self.process_grant(caller, a, b)),
            Syscall::ProcessKill => self.process_kill(caller, a, b),
            Syscall::Exit => {
                self.process_end(caller.process, a);
                Ok(Flow::Blocked)
            }
            Syscall::ProcessInspect => self.process_inspect(caller, a),
            Syscall::ProcessWatch => self.process_watch(caller, a, b, c),
            Syscall::ProcessHandler => self.process_handler(caller, a, b, c),
            Syscall::ThreadCreate => one(self.thread_create(caller, a, b, c)),
            Syscall::ThreadStart => self.thread_start(caller, a, b, c, [d, e]),
            Syscall::ThreadSuspend => self.thread_suspend(caller, a),
            Syscall::ThreadResume => self.thread_resume(caller, a),
            Syscall::ThreadRead => self.thread_read(caller, a, b),
            Syscall::ThreadWrite => self.thread_write(caller, a, b),
            Syscall::ThreadBudget => self.thread_budget(caller, a, b),
            Syscall::ThreadExit => self.thread_exit(caller, a),
            Syscall::ThreadPointer => self.thread_pointer(caller, a),
            Syscall::ThreadVector => self.thread_vector(caller, a, b),
            Syscall::Park => self.park(caller, a),
            Syscall::Unpark => self.unpark(caller, a),
            Syscall::BudgetCreate => one(self.budget_create(caller, a, b, c, (d, e), f)),
            Syscall::BudgetInspect => self.budget_inspect(caller, a),
            Syscall::EndpointCreate => one(self.endpoint_create(caller, a)),
            Syscall::SessionCreate => one(self.session_create(caller, a, b, c)),
            Syscall::SessionBadge => one(self.session_badge(caller, a, b)),
            Syscall::EndpointBind => self.endpoint_bind(caller, a, b, c),
            Syscall::Call => self.call(caller),
            Syscall::Receive => self.receive(caller),
            Syscall::ReplyAndReceive => self.reply_and_receive(caller),
            Syscall::Reply => self.reply_only(caller),
            Syscall::ReplyDetach => one(self.reply_detach(caller, a)),
            Syscall::ReplyAttach => self.reply_attach(caller, a),
            Syscall::LeaseRead => self.lease(caller, false),
            Syscall::LeaseWrite => self.lease(caller, true),
            Syscall::EventCreate => one(self.event_create(caller, a)),
            Syscall::EventRaise => self.event_raise(caller, a, b),
            Syscall::EventClear => one(self.event_clear(caller, a, b)),
            Syscall::EventWait => self.event_wait(caller, a, b, c, d),
            Syscall::InterruptCreate => one(self.interrupt_create(caller, a, b, c, d)),
            Syscall::InterruptBind => self.interrupt_bind(caller, a, b, c),
            Syscall::InterruptAcknowledge => self.interrupt_acknowledge(caller, a),
            Syscall::InterruptCreateMessage => self.interrupt_create_message(caller, a, b),
            Syscall::DmaCreate => one(self.dma_create(caller, a, b, c)),
            Syscall::DmaPin => self.dma_pin(caller, a, b, c, d, e),
            Syscall::DmaInspect => self.dma_inspect(caller, a),
            Syscall::InterruptInspect => self.interrupt_inspect(caller, a),
            Syscall::IoPortCreate => one(self.port_create(caller, a, b, c, d)),
            Syscall::IoPortRead => one(self.port_read(caller, a, b, c)),
            Syscall::IoPortWrite => self.port_write(caller, a, b, c, d),
            Syscall::MmioCreate => one(self.mmio_create(caller, a, b, c, d)),
            Syscall::ClockRead => {
                self.single(caller.process, a, Object::Clock, Rights::READ)?;
                Ok(Flow::One(self.hardware.now()))
            }
            Syscall::ClockInspect => {
                self.single(caller.process, a, Object::Clock, Rights::READ)?;
                let (frequency, start) = self.hardware.counter();
                Ok(Flow::Values([frequency, start, 0, 0, 0, 0]))
            }
            Syscall::LogWrite => self.log_write(caller, a, b, c),
            Syscall::PowerControl => self.power_control(caller, a, b, c),
            Syscall::SealCreate => self.seal_create(caller, a),
            Syscall::SealClose => one(self.seal_close(caller, a, b, c)),
            Syscall::SealOpen => one(self.seal_open(caller, a, b)),
            Syscall::GuestCreate => self.guest_create(caller, a, b, c),
            Syscall::GuestEnter => self.guest_enter(caller, a),
            Syscall::GuestResume => self.guest_resume(caller, a, b),
            Syscall::GuestSave => self.guest_save(caller, a),
            Syscall::GuestVectorRead => self.guest_vector(caller, a, b, false),
            Syscall::GuestVectorWrite => self.guest_vector(caller, a, b, true),
            Syscall::Processors => Ok(Flow::One(self.processors.len() as u64)),
        }
    }

    fn pool_inspect(&mut self, caller: &Caller, pool: u64, resource: u64) -> Result<Flow, Error> {
        let (_, pool) = self.pool(caller.process, pool, Rights::NONE)?;
        let resource = Resource::from_number(resource).ok_or(Error::BadArgument)?;
        let (quota, used) = self.pools.get(pool).ok_or(Error::Gone)?.account(resource);
        Ok(Flow::Values([u64::from(quota), u64::from(used), 0, 0, 0, 0]))
    }

    fn thread_pointer(&mut self, caller: &Caller, address: u64) -> Result<Flow, Error> {
        if address >= tessera_abi::USER_END {
            return Err(Error::BadAddress);
        }
        let thread = self.threads.get_mut(caller.thread).ok_or(Error::Gone)?;
        thread.activation.registers.fs_base = address;
        (thread.activation.pointer, thread.guest.activation.pointer) = (address, address);
        Ok(Flow::Done)
    }

    /// `vmo_read`, `vmo_write`: at most `COPY_STEP` bytes at a time; the caller learns how many.
    fn vmo_copy(
        &mut self,
        caller: &Caller,
        vmo: u64,
        offset: u64,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<Flow, Error> {
        let (_, id) = self.vmo(caller.process, vmo, if write { Rights::WRITE } else { Rights::READ })?;
        let size = self.vmos.get(id).map_or(0, |vmo| vmo.pages.saturating_mul(tessera_abi::PAGE));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::BadArgument);
        }
        let space = UserSlice::<false>::new(caller.space, address, length).map_err(|_| Error::BadAddress)?.space;
        let length = length.min(COPY_STEP);
        let mut done = 0;
        while done < length {
            match self.vmo_copy_part(
                id,
                offset.saturating_add(done),
                space,
                address.saturating_add(done),
                length.saturating_sub(done),
                write,
            ) {
                Ok(part) => done = done.saturating_add(part),
                // What was copied before counts.
                Err(_) if done > 0 => break,
                Err(miss) => return self.missed(caller, miss),
            }
        }
        Ok(Flow::One(done))
    }

    fn log_write(&mut self, caller: &Caller, log: u64, address: u64, length: u64) -> Result<Flow, Error> {
        self.single(caller.process, log, Object::Log, Rights::WRITE)?;
        if length > COPY_STEP {
            return Err(Error::BadArgument);
        }
        // All of it must be there before any of it is written: a call that waits for a pager is made again.
        let whole = UserSlice::<false>::new(caller.space, address, length).map_err(|_| Error::BadAddress)?;
        if let Err(miss) = self.touch_user(whole) {
            return self.missed(caller, miss);
        }
        let mut done = 0;
        while done < length {
            let mut line = [0; 256];
            let part = (length.saturating_sub(done)).min(line.len() as u64);
            let from =
                UserSlice::new(caller.space, address.saturating_add(done), part).map_err(|_| Error::BadAddress)?;
            let Some(line) = line.get_mut(..part as usize) else { return Err(Error::BadArgument) };
            if let Err(miss) = self.read_user(from, line) {
                return self.missed(caller, miss);
            }
            self.hardware.log(line);
            done = done.saturating_add(part);
        }
        Ok(Flow::Done)
    }

    fn power_control(&mut self, caller: &Caller, power: u64, action: u64, code: u64) -> Result<Flow, Error> {
        self.single(caller.process, power, Object::Power, Rights::MANAGE)?;
        let action = match action {
            0 => PowerAction::Off(u32::try_from(code).unwrap_or(u32::MAX)),
            1 => PowerAction::Reboot,
            _ => return Err(Error::BadArgument),
        };
        self.hardware.power(action);
        Ok(Flow::Done)
    }
}
