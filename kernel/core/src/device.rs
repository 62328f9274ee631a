//! Authority over devices: interrupt lines, I/O ports, device memory. Each can only be narrowed.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    event::Event,
    node::Object,
    pool::{Pool, Resource},
};
use tessera_abi::{Error, Kind, PAGE, Rights};

/// Interrupt lines `first..first + count`. One that was made as a message has its line's slot from the start.
#[derive(Default)]
pub struct InterruptLine {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) target: (Id<Event>, u64),
}

/// I/O ports `first..first + count`.
#[derive(Default)]
pub struct Ports {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// Device memory: frames `first..first + pages`.
#[derive(Default)]
pub struct Device {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) first: u64,
    pub(crate) pages: u64,
}

/// Whether `first..first + count` is a part of `outer_first..outer_first + outer_count`, and not empty.
fn within(first: u64, count: u64, outer_first: u64, outer_count: u64) -> bool {
    let end = first.checked_add(count);
    count > 0 && first >= outer_first && end.is_some_and(|end| end <= outer_first.saturating_add(outer_count))
}

impl<H: Hardware> Machine<H> {
    /// `interrupt_create`.
    pub(crate) fn interrupt_create(
        &mut self,
        caller: &Caller,
        interrupt: u64,
        pool: u64,
        first: u64,
        count: u64,
    ) -> Result<u64, Error> {
        let (node, outer) = self.line(caller.process, interrupt, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let outer = self.interrupts.get(outer).ok_or(Error::Gone)?;
        if !within(first, count, u64::from(outer.first), u64::from(outer.count)) {
            return Err(Error::BadArgument);
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Interrupt, handles)?;
        let line = InterruptLine { pool, first: first as u32, count: count as u32, ..InterruptLine::default() };
        let line = self.interrupts.insert(line).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Interrupt(line), Rights::ALL)
    }

    /// The one line of an interrupt object.
    fn single_line(&self, id: Id<InterruptLine>) -> Result<u32, Error> {
        let line = self.interrupts.get(id).ok_or(Error::Gone)?;
        if line.count == 1 { Ok(line.first) } else { Err(Error::BadState) }
    }

    /// `interrupt_bind`.
    pub(crate) fn interrupt_bind(
        &mut self,
        caller: &Caller,
        interrupt: u64,
        event: u64,
        bits: u64,
    ) -> Result<Flow, Error> {
        let (_, id) = self.line(caller.process, interrupt, Rights::MANAGE)?;
        let (_, event) = self.event(caller.process, event, Rights::SIGNAL)?;
        let line = self.single_line(id)?;
        let pin = line < self.pins;
        let slot = self.lines.get_mut(line as usize).ok_or(Error::BadArgument)?;
        if *slot != id && !slot.is_none() {
            return Err(Error::Occupied);
        }
        if *slot != id && !pin {
            // Only who was told a message's address and data has the message.
            return Err(Error::BadState);
        }
        *slot = id;
        if let Some(entry) = self.interrupts.get_mut(id) {
            entry.target = (event, bits);
        }
        self.line_enable(line, true);
        Ok(Flow::Done)
    }

    /// Masks or unmasks a line. A message is an edge and has no mask: the device is where it is held back.
    fn line_enable(&mut self, line: u32, enabled: bool) {
        if line < self.pins {
            self.hardware.interrupt_enable(line, enabled);
        }
    }

    /// `interrupt_create_message`.
    pub(crate) fn interrupt_create_message(
        &mut self,
        caller: &Caller,
        interrupt: u64,
        pool: u64,
    ) -> Result<Flow, Error> {
        let (node, outer) = self.line(caller.process, interrupt, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let outer = self.interrupts.get(outer).ok_or(Error::Gone)?;
        let (first, end) = (outer.first.max(self.pins), outer.first.saturating_add(outer.count));
        if first >= end {
            return Err(Error::BadArgument);
        }
        let from = self.next_message.clamp(first, end);
        let line = (from..end)
            .chain(first..from)
            .find(|line| self.lines.get(*line as usize).is_some_and(|slot| slot.is_none()))
            .ok_or(Error::NoQuota)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Interrupt, handles)?;
        let entry = InterruptLine { pool, first: line, count: 1, ..InterruptLine::default() };
        let id = self.interrupts.insert(entry).ok_or(Error::NoQuota)?;
        if let Some(slot) = self.lines.get_mut(line as usize) {
            *slot = id;
        }
        self.next_message = line.saturating_add(1);
        let (address, data) = self.hardware.interrupt_message(line);
        let handle = self.publish(caller.process, node, Object::Interrupt(id), Rights::ALL)?;
        Ok(Flow::Values([handle, address, u64::from(data), 0, 0, 0]))
    }

    /// `interrupt_inspect`.
    pub(crate) fn interrupt_inspect(&mut self, caller: &Caller, interrupt: u64) -> Result<Flow, Error> {
        let (_, id) = self.line(caller.process, interrupt, Rights::NONE)?;
        let line = self.interrupts.get(id).ok_or(Error::Gone)?;
        Ok(Flow::Values([u64::from(line.first), u64::from(line.count), u64::from(self.pins), 0, 0, 0]))
    }

    /// `interrupt_acknowledge`.
    pub(crate) fn interrupt_acknowledge(&mut self, caller: &Caller, interrupt: u64) -> Result<Flow, Error> {
        let (_, id) = self.line(caller.process, interrupt, Rights::MANAGE)?;
        let line = self.single_line(id)?;
        if self.lines.get(line as usize) != Some(&id) {
            return Err(Error::BadState);
        }
        self.line_enable(line, true);
        Ok(Flow::Done)
    }

    /// A device's line fired; a pin that is a level is masked until it is acknowledged. One that nobody bound is ignored.
    pub fn interrupt(&mut self, processor: usize, line: u32) {
        self.interrupted(processor);
        let id = self.lines.get(line as usize).copied().unwrap_or_default();
        if let Some((event, bits)) = self.interrupts.get(id).map(|line| line.target) {
            self.raise(event, bits);
        }
    }

    pub(crate) fn interrupt_unnamed(&mut self, id: Id<InterruptLine>) {
        let Some(line) = self.interrupts.remove(id) else { return };
        if let Some(slot) = self.lines.get_mut(line.first as usize).filter(|slot| **slot == id) {
            *slot = Id::NONE;
            self.line_enable(line.first, false);
        }
        self.credit(line.pool, Resource::of(Kind::Interrupt), 1);
    }

    /// `io_port_create`.
    pub(crate) fn port_create(
        &mut self,
        caller: &Caller,
        port: u64,
        pool: u64,
        first: u64,
        count: u64,
    ) -> Result<u64, Error> {
        let (node, outer) = self.ports(caller.process, port, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let outer = self.ports.get(outer).ok_or(Error::Gone)?;
        if !within(first, count, u64::from(outer.first), u64::from(outer.count)) {
            return Err(Error::BadArgument);
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::IoPort, handles)?;
        let ports = self
            .ports
            .insert(Ports { pool, first: first as u32, count: count as u32, ..Ports::default() })
            .ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::IoPort(ports), Rights::ALL)
    }

    fn checked_port(
        &self,
        caller: &Caller,
        handle: u64,
        port: u64,
        width: u64,
        rights: Rights,
    ) -> Result<(u16, u8), Error> {
        let (_, id) = self.ports(caller.process, handle, rights)?;
        let ports = self.ports.get(id).ok_or(Error::Gone)?;
        if !matches!(width, 1 | 2 | 4) || !within(port, width, u64::from(ports.first), u64::from(ports.count)) {
            return Err(Error::BadArgument);
        }
        Ok((u16::try_from(port).map_err(|_| Error::BadArgument)?, width as u8))
    }

    /// `io_port_read`.
    pub(crate) fn port_read(&mut self, caller: &Caller, handle: u64, port: u64, width: u64) -> Result<u64, Error> {
        let (port, width) = self.checked_port(caller, handle, port, width, Rights::READ)?;
        Ok(u64::from(self.hardware.port_read(port, width)))
    }

    /// `io_port_write`.
    pub(crate) fn port_write(
        &mut self,
        caller: &Caller,
        handle: u64,
        port: u64,
        width: u64,
        value: u64,
    ) -> Result<Flow, Error> {
        let (port, width) = self.checked_port(caller, handle, port, width, Rights::WRITE)?;
        self.hardware.port_write(port, width, value as u32);
        Ok(Flow::Done)
    }

    /// `mmio_create`: bytes.
    pub(crate) fn mmio_create(
        &mut self,
        caller: &Caller,
        mmio: u64,
        pool: u64,
        first: u64,
        length: u64,
    ) -> Result<u64, Error> {
        let (node, outer) = self.device(caller.process, mmio, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let outer = self.devices.get(outer).ok_or(Error::Gone)?;
        let (first, pages, whole) =
            (first / PAGE, length / PAGE, first.is_multiple_of(PAGE) && length.is_multiple_of(PAGE));
        if !whole || !within(first, pages, outer.first, outer.pages) {
            return Err(Error::BadArgument);
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Mmio, handles)?;
        let device = self.devices.insert(Device { pool, first, pages, ..Device::default() }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Mmio(device), Rights::ALL)
    }
}
