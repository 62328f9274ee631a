//! One function as its driver sees it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{Cap, Device, DeviceError, Identity, Keeper, Width};
use tessera_runtime::abi::PAGE;
use tessera_runtime::object::{Access as MapAccess, Dma, Interrupt, Mmio};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Mapping, Object, Registers, Rights, own};

use crate::function::command;
use crate::{Access, Function, MessageTable, SingleMessage, Window, capability};

/// What the bus holds for all devices.
pub struct Authority {
    /// Device memory.
    pub devices: Mmio,
    /// Interrupts, messages among them.
    pub interrupts: Interrupt,
    /// Memory that devices reach by themselves.
    pub dma: Dma,
    /// Who holds that memory too, until the device was reset: this process and the driver's may end at the same moment.
    pub keeper: Cap<dyn Keeper>,
}

/// A function, handed to one driver at a time.
pub struct PciDevice {
    access: Arc<dyn Access>,
    authority: Arc<Authority>,
    function: Function,
    /// The windows that can be given out: placed, and sharing no page with another function's.
    windows: Vec<Window>,
    messages: Option<MessageTable>,
    /// Its message, if it has no table of them.
    single: Option<SingleMessage>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The memory that the function was let reach. Dropped after a reset only.
    dma: Option<Dma>,
    /// The interrupt table, mapped once a message was asked for.
    table: Option<tessera_runtime::Window>,
}

/// An offset rounded down to a page's start.
fn page(offset: u64) -> u64 {
    offset & !PAGE.wrapping_sub(1)
}

impl PciDevice {
    /// A function with those of its windows that nobody else's pages touch. It is stopped first, whatever it did before.
    pub fn new(
        access: Arc<dyn Access>,
        authority: Arc<Authority>,
        function: Function,
        windows: Vec<Window>,
    ) -> PciDevice {
        let messages = MessageTable::find(&*access, function.address);
        let single = SingleMessage::find(&*access, function.address).filter(|_| messages.is_none());
        let device =
            PciDevice { access, authority, function, windows, messages, single, state: Mutex::new(State::default()) };
        device.stop(&mut device.state.lock());
        device
    }

    /// What and where it is.
    pub fn function(&self) -> &Function {
        &self.function
    }

    fn window(&self, number: u32) -> Result<&Window, DeviceError> {
        self.windows.iter().find(|window| u32::from(window.number) == number).ok_or(DeviceError::NotFound)
    }

    /// How much of a window a driver may have: the pages with interrupt tables are the bus's.
    fn usable(&self, window: &Window) -> u64 {
        let mut length = window.length;
        if let Some(table) = &self.messages {
            for (number, offset) in [(table.window, table.offset), table.pending] {
                if number == window.number {
                    length = length.min(page(offset.into()));
                }
            }
        }
        length
    }

    /// Maps the interrupt table and masks all of it.
    fn table(&self, state: &mut State) -> Result<(MessageTable, tessera_runtime::Window), DeviceError> {
        let messages = self.messages.ok_or(DeviceError::NotSupported)?;
        if let Some(table) = &state.table {
            return Ok((messages, table.clone()));
        }
        let window = self.window(messages.window.into())?;
        let end = u64::from(messages.offset).saturating_add(messages.length() as u64);
        if end > window.length {
            return Err(DeviceError::Device);
        }
        let start = window.first.saturating_add(messages.offset.into());
        let first = page(start);
        let inside = start.saturating_sub(first);
        let length = inside.saturating_add(messages.length() as u64);
        let bytes = length.checked_next_multiple_of(PAGE).ok_or(DeviceError::Device)?;
        let pages = self.authority.devices.narrow(&own::pool(), first, bytes)?;
        let mapping = Mapping::new(&pages, 0, bytes, MapAccess::Write)?;
        let table = mapping.into_registers().part(inside as usize, messages.length()).ok_or(DeviceError::Device)?;
        self.function.command(&*self.access, command::MEMORY | command::NO_LINE_INTERRUPT, 0);
        messages.enable(&*self.access, self.function.address, &table);
        state.table = Some(table.clone());
        Ok((messages, table))
    }

    /// The interrupt of a function that has one message.
    fn single_interrupt(&self, single: &SingleMessage) -> Result<Interrupt, DeviceError> {
        let message = self.authority.interrupts.message(&own::pool())?;
        self.function.command(&*self.access, command::NO_LINE_INTERRUPT, 0);
        let fits = single.set(&*self.access, self.function.address, message.address, message.data);
        if fits { Ok(message.interrupt) } else { Err(DeviceError::NotSupported) }
    }

    /// Ends what the function does: it reaches no memory and sends no interrupt afterwards.
    fn stop(&self, state: &mut State) {
        let (access, address) = (&*self.access, self.function.address);
        // Without this bit it starts no access to memory (PCI 3.0, section 6.2.2), whatever its own state is.
        self.function.command(access, 0, command::MASTER);
        if let Some(messages) = &self.messages {
            messages.disable(access, address);
        }
        if let Some(single) = &self.single {
            single.disable(access, address);
        }
        self.function_level_reset();
        state.table = None;
        if let Some(dma) = state.dma.take() {
            // The old driver's handles go too, then the last: its memory is free.
            let _ = dma.revoke();
        }
        // Also what an instance of the bus before this one had it keep. If it cannot be told it keeps on: better lost than somebody else's.
        let _ = self.authority.keeper.release(self.keeping());
    }

    /// The keeper's number for the function.
    fn keeping(&self) -> u64 {
        self.function.address.0.into()
    }

    /// Brings the function to its initial state, where it can do that (PCI Express 4.0, section 6.6.2). Windows keep their place.
    fn function_level_reset(&self) {
        const EXPRESS: u8 = 0x10;
        const CAN_RESET: u32 = 1 << 28;
        const RESET: u32 = 1 << 15;
        const PATIENCE: u64 = 100_000_000;
        let (access, address) = (&*self.access, self.function.address);
        let Some(at) = capability(access, address, EXPRESS).filter(|at| *at <= 0xf0) else { return };
        if access.read(address, at.wrapping_add(4)) & CAN_RESET == 0 {
            return;
        }
        let saved: Vec<(u8, u32)> =
            (0x10..0x28).step_by(4).map(|register| (register, access.read(address, register))).collect();
        let control = access.read(address, at.wrapping_add(8)) & 0xffff;
        access.write(address, at.wrapping_add(8), control | RESET);
        // A real function may take 100 ms and answers nothing meanwhile; an emulated one (virtio) is done at once.
        const EMULATED: u16 = 0x1af4;
        if self.function.vendor != EMULATED
            && let Ok(now) = own::clock().now()
        {
            while own::clock().now().is_ok_and(|later| later < now.saturating_add(PATIENCE)) {
                tessera_runtime::object::yield_now();
            }
        }
        for (register, value) in saved {
            access.write(address, register, value);
        }
    }
}

impl Device for PciDevice {
    fn identity(&self) -> Result<Identity, DeviceError> {
        let (subsystem_vendor, subsystem) = self.function.subsystem(&*self.access);
        Ok(Identity {
            vendor: self.function.vendor,
            device: self.function.device,
            class: self.function.class,
            subsystem_vendor,
            subsystem,
            revision: self.function.revision,
            place: self.function.address.0.into(),
            interrupts: self.messages.map_or(self.single.is_some().into(), |table| table.count.into()),
        })
    }

    fn configuration_read(&self, offset: u32, width: Width) -> Result<u32, DeviceError> {
        let register = u8::try_from(offset).map_err(|_| DeviceError::NotFound)?;
        let word = self.access.read(self.function.address, register & 0xfc);
        let within = u32::from(register & 3);
        let (bytes, mask) = match width {
            Width::One => (1, 0xff),
            Width::Two => (2, 0xffff),
            Width::Four => (4, u32::MAX),
        };
        if !offset.is_multiple_of(bytes) {
            return Err(DeviceError::Misaligned);
        }
        Ok((word >> within.saturating_mul(8)) & mask)
    }

    /// Always refused: through configuration space a driver could move its windows over another's, reach the interrupt table
    /// (virtio has a capability for that), or let the device at memory. What drivers need of it, the other methods do.
    fn configuration_write(&self, _offset: u32, _width: Width, _value: u32) -> Result<(), DeviceError> {
        Err(DeviceError::Refused)
    }

    fn registers(&self, window: u32) -> Result<(Mmio, u64, u64), DeviceError> {
        let window = self.window(window)?;
        let length = self.usable(window);
        if length == 0 {
            return Err(DeviceError::Refused);
        }
        let first = page(window.first);
        let inside = window.first.saturating_sub(first);
        let bytes = inside.saturating_add(length).checked_next_multiple_of(PAGE).ok_or(DeviceError::Device)?;
        self.function.command(&*self.access, command::MEMORY, 0);
        let pages = self.authority.devices.narrow(&own::pool(), first, bytes)?;
        Ok((pages, inside, length))
    }

    fn interrupt(&self, index: u32) -> Result<Interrupt, DeviceError> {
        let number = u16::try_from(index).map_err(|_| DeviceError::NotFound)?;
        let mut state = self.state.lock();
        if let Some(single) = &self.single {
            return if number == 0 { self.single_interrupt(single) } else { Err(DeviceError::NotFound) };
        }
        let (messages, table) = self.table(&mut state)?;
        if number >= messages.count {
            return Err(DeviceError::NotFound);
        }
        let message = self.authority.interrupts.message(&own::pool())?;
        messages.set(&table as &dyn Registers, number, message.address, message.data);
        Ok(message.interrupt)
    }

    fn dma(&self) -> Result<Dma, DeviceError> {
        let mut state = self.state.lock();
        // A driver that begins anew must not find its predecessor's memory still within the device's reach.
        if state.dma.is_some() {
            self.stop(&mut state);
        }
        let dma = self.authority.dma.create(&own::pool(), self.function.address.0.into())?;
        let lent = dma.duplicate(Rights::MAP.union(Rights::TRANSFER))?;
        let held = dma.duplicate(Rights::TRANSFER)?;
        self.authority.keeper.keep(self.keeping(), held).map_err(|_| DeviceError::Device)?;
        state.dma = Some(dma);
        self.function.command(&*self.access, command::MASTER | command::MEMORY, 0);
        Ok(lent)
    }

    fn reset(&self) -> Result<(), DeviceError> {
        self.stop(&mut self.state.lock());
        Ok(())
    }
}
