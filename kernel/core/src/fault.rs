//! Faults: a page that can be supplied is, by the kernel or by its pager; anything else goes to the process's handler, if it has
//! one, or ends the process and is written down.

use crate::{
    Caller, Hardware, Machine,
    arena::Id,
    process::Epitaph,
    space::Access,
    thread::{Purpose, Thread},
    vmo::Miss,
};
use core::fmt::Write;
use tessera_abi::FaultKind;

/// What went wrong in user mode.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// The address that was touched, for `Read`, `Write` and `Execute`.
    pub address: u64,
}

impl<H: Hardware> Machine<H> {
    /// The running thread faulted. Its registers are saved, with `rip` at the instruction.
    pub fn fault(&mut self, processor: usize, fault: Fault) {
        self.active = processor;
        let Some(caller) = self.caller(processor) else { return };
        let Some(thread) = self.threads.get_mut(caller.thread) else { return };
        let guest = thread.in_guest;
        let space = if guest { thread.guest.space } else { caller.space };
        let instruction = if guest { thread.guest.activation.registers.rip } else { thread.activation.registers.rip };
        if guest {
            thread.guest.activation.full = true;
        } else {
            thread.activation.full = true;
        }
        let access = match fault.kind {
            FaultKind::Read => Some(Access::Read),
            FaultKind::Write => Some(Access::Write),
            FaultKind::Execute => Some(Access::Execute),
            _ => None,
        };
        let mut kind = fault.kind;
        if let Some(access) = access {
            let view = guest || caller.guest.is_none() || fault.address >= tessera_abi::NATIVE_BASE;
            let space = if view { space } else { caller.guest };
            match self.resolve(space, fault.address, access) {
                Ok(()) => return,
                Err(Miss::Denied) => {}
                Err(Miss::NoQuota) => kind = FaultKind::NoMemory,
                Err(Miss::Pager { endpoint, badge, offset, write }) => {
                    self.ask(&caller, endpoint, Purpose::Page { badge, offset, write });
                    return;
                }
            }
        }
        if guest {
            self.guest_leave(caller.thread, 1, kind as u64, fault.address);
            return;
        }
        let handler = self.processes.get(caller.process).map(|process| process.handler).unwrap_or_default();
        if self.endpoints.get(handler.0).is_some() {
            self.ask(
                &caller,
                handler.0,
                Purpose::Fault { badge: handler.1, kind, address: fault.address, instruction },
            );
        } else {
            self.fail(caller.thread, Epitaph { kind, address: fault.address, instruction });
        }
    }

    /// A thread cannot go on: its process ends.
    pub(crate) fn fail_thread(&mut self, id: Id<Thread>, kind: FaultKind) {
        let instruction = self.threads.get(id).map_or(0, |thread| thread.activation.registers.rip);
        self.fail(id, Epitaph { kind, address: 0, instruction });
    }

    fn fail(&mut self, id: Id<Thread>, epitaph: Epitaph) {
        let Some(process) = self.threads.get(id).map(|thread| thread.process) else { return };
        let Some(entry) = self.processes.get_mut(process) else { return };
        entry.epitaph = Some(epitaph);
        let name = entry.name;
        let name = name.split(|byte| *byte == 0).next().and_then(|name| core::str::from_utf8(name).ok()).unwrap_or("?");
        let mut line = Line::default();
        // A line that is too long is cut: nothing to be done about it here.
        let _ = writeln!(line, "tessera: {name} ended: {} (address {:#x})", epitaph.kind.text(), epitaph.address);
        let _ = writeln!(line, "  at {name} {:#x}", epitaph.instruction);
        let mut frame = self.threads.get(id).map_or(0, |thread| thread.activation.registers.rbp);
        let space = self.processes.get(process).map_or(Id::NONE, |process| process.space);
        for _ in 0..16 {
            let mut words = [0; 16];
            let Ok(slice) = crate::user::UserSlice::new(space, frame, 16) else { break };
            if frame == 0
                || self
                    .spaces
                    .get(space)
                    .is_none_or(|space| self.hardware.translate(space.root, frame, false).is_none())
            {
                break;
            }
            if self.read_user(slice, &mut words).is_err() {
                break;
            }
            let (next, address) = words.split_at(8);
            let (next, address) =
                (next.try_into().map_or(0, u64::from_le_bytes), address.try_into().map_or(0, u64::from_le_bytes));
            if address == 0 || next <= frame {
                break;
            }
            let _ = writeln!(line, "  at {name} {address:#x}");
            frame = next;
        }
        let _ = writeln!(line, "tessera: end of report");
        let length = line.length;
        self.hardware.log(line.text.get(..length).unwrap_or(&[]));
        // 128 and more: ended by a fault, as shells say it of signals.
        self.process_end(process, 128 + epitaph.kind as u64);
    }
}

/// Text of bounded length.
struct Line {
    text: [u8; 1024],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line { text: [0; 1024], length: 0 }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            let Some(place) = self.text.get_mut(self.length) else { return Err(core::fmt::Error) };
            *place = byte;
            self.length += 1;
        }
        Ok(())
    }
}

impl<H: Hardware> Machine<H> {
    /// Who runs on a processor.
    #[inline(always)]
    pub(crate) fn caller(&self, processor: usize) -> Option<Caller> {
        let current = self.processors.get(processor)?.current;
        let thread = self.threads.get(current)?;
        let space = self.processes.get(thread.process)?.space;
        let arguments = thread.activation.registers.arguments();
        Some(Caller {
            processor,
            thread: current,
            process: thread.process,
            space,
            guest: thread.guest.space,
            arguments,
        })
    }
}
