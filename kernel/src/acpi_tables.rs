//! What ACPI says of the machine: processors, interrupt controllers, the timer port, how to power off and reset.
//!
//! The tables are read by the crate `acpi`, once, after the direct map is loaded; what is kept is copied. They are the
//! firmware's, which is as trusted as the machine itself. A machine without tables is one processor without lines.

use core::ptr::NonNull;

use acpi::address::{AddressSpace, GenericAddress};
use acpi::sdt::Signature;
use acpi::sdt::fadt::Fadt;
use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::{AcpiTables, Handler, PciAddress, PhysicalMapping};

use crate::processor::MAX;
use crate::{cpu, memory};

/// An I/O interrupt controller.
#[derive(Clone)]
pub struct Controller {
    pub address: u64,
    /// The number of its first line.
    pub first: u32,
}

/// How a line signals, where that differs from its bus's custom.
#[derive(Clone, Copy)]
pub struct Shape {
    pub line: u32,
    pub level: bool,
    pub low: bool,
}

/// A unit that holds devices back, by the address of its registers.
#[derive(Clone, Copy)]
pub struct IommuUnit {
    pub segment: u16,
    pub address: u64,
}

/// A register somewhere.
#[derive(Clone, Copy)]
pub enum Register {
    Port(u16),
    Memory(u64),
}

/// What the tables say, as far as it is used.
pub struct Description {
    /// Local APIC numbers of the enabled processors.
    pub processors: [u32; MAX],
    pub processor_count: usize,
    pub controllers: [Option<Controller>; 4],
    pub shapes: [Option<Shape>; 16],
    /// The port of the 3.579545 MHz timer.
    pub timer: Option<u16>,
    /// The power management control port, with the value for "off".
    pub power: Option<(u16, u8)>,
    /// The sleep control register of a machine without the above, with the value for "off".
    pub sleep: Option<(Register, u8)>,
    pub reset: Option<(Register, u8)>,
    pub iommus: [Option<IommuUnit>; Description::IOMMUS],
}

impl Description {
    /// Most units that are read of.
    pub const IOMMUS: usize = 8;

    /// Reads the tables behind the root pointer at `rsdp` (0: none).
    #[optimize(size)]
    pub fn read(rsdp: u64) -> Description {
        let mut description = Description {
            processors: [0; MAX],
            processor_count: 0,
            controllers: [const { None }; 4],
            shapes: [None; 16],
            timer: None,
            power: None,
            sleep: None,
            reset: None,
            iommus: [None; Description::IOMMUS],
        };
        if rsdp == 0 {
            return description;
        }
        // SAFETY: the loader says that the root pointer is there, and the direct map has all memory.
        match unsafe { AcpiTables::from_rsdp(DirectMap, rsdp as usize) } {
            Ok(tables) => {
                description.read_interrupts(&tables);
                description.read_power(&tables);
                description.read_iommus(&tables);
            }
            Err(error) => crate::log!("the ACPI tables cannot be read ({error:?}); going on with one processor"),
        }
        description
    }

    fn read_interrupts(&mut self, tables: &AcpiTables<DirectMap>) {
        let Some(madt) = tables.find_table::<Madt>() else { return };
        let mut controllers = 0;
        let mut shapes = 0;
        for entry in madt.get().entries() {
            match entry {
                MadtEntry::LocalApic(local) if local.flags & 1 == 1 => self.add_processor(u32::from(local.apic_id)),
                MadtEntry::LocalX2Apic(local) if local.flags & 1 == 1 => self.add_processor(local.x2apic_id),
                MadtEntry::IoApic(controller) if controllers < self.controllers.len() => {
                    let (address, first) =
                        (u64::from(controller.io_apic_address), controller.global_system_interrupt_base);
                    self.controllers[controllers] = Some(Controller { address, first });
                    controllers += 1;
                }
                MadtEntry::InterruptSourceOverride(change) if shapes < self.shapes.len() => {
                    let flags = change.flags;
                    let shape =
                        Shape { line: change.global_system_interrupt, low: flags & 3 == 3, level: flags >> 2 & 3 == 3 };
                    self.shapes[shapes] = Some(shape);
                    shapes += 1;
                }
                _ => {}
            }
        }
    }

    fn add_processor(&mut self, id: u32) {
        if self.processor_count < MAX {
            self.processors[self.processor_count] = id;
            self.processor_count += 1;
        }
    }

    /// Intel's table of units (VT-d, section 8.1).
    fn read_iommus(&mut self, tables: &AcpiTables<DirectMap>) {
        let Some((address, header)) = tables.table_headers().find(|(_, header)| header.signature == Signature::DMAR)
        else {
            return;
        };
        // SAFETY: the table is memory that the direct map has, and nobody writes to it.
        let table = unsafe { memory::bytes(address as u64, header.length as usize) };
        for (place, found) in self.iommus.iter_mut().zip(iommu_units(table)) {
            *place = Some(found);
        }
    }

    fn read_power(&mut self, tables: &AcpiTables<DirectMap>) {
        let Some(fadt) = tables.find_table::<Fadt>() else { return };
        let fadt = fadt.get();
        if let Ok(Some(timer)) = fadt.pm_timer_block()
            && let Some(Register::Port(port)) = register(timer)
            && port != 0
        {
            self.timer = Some(port);
        }
        let off = tables.dsdt().ok().and_then(|table| {
            // SAFETY: the table is memory that the direct map has, and nobody writes to it.
            off_value(unsafe { memory::bytes(table.phys_address as u64, table.length as usize) })
        });
        if let (Some(off), Ok(control)) = (off, fadt.pm1a_control_block())
            && let Some(Register::Port(port)) = register(control)
            && port != 0
        {
            self.power = Some((port, off));
        }
        if let Ok(Some(control)) = fadt.sleep_control_register()
            && control.address != 0
        {
            self.sleep = register(control).map(|register| (register, off.unwrap_or(5)));
        }
        let flags = fadt.flags;
        if flags.supports_system_reset_via_fadt()
            && let Ok(reset) = fadt.reset_register()
            && reset.address != 0
        {
            self.reset = register(reset).map(|register| (register, fadt.reset_value));
        }
    }
}

fn register(address: GenericAddress) -> Option<Register> {
    match address.address_space {
        AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Register::Port),
        AddressSpace::SystemMemory => Some(Register::Memory(address.address)),
        _ => None,
    }
}

/// The sleep type of `_S5` (ACPI 6.5, section 7.4.2): the first number of the package of that name. Found by its bytes, as
/// the kernel runs no AML: name, package operator, length, count, then a byte constant or zero or one.
fn off_value(table: &[u8]) -> Option<u8> {
    let at = table.windows(5).position(|window| window == b"_S5_\x12")? + 5;
    let lengths = 1 + (table.get(at)? >> 6) as usize;
    match *table.get(at + lengths + 1)? {
        0x0a => table.get(at + lengths + 2).copied(),
        value @ (0 | 1) => Some(value),
        _ => None,
    }
}

/// The units of the table, each a structure of type 0 behind the table's 48 bytes (VT-d, section 8.3).
fn iommu_units(table: &[u8]) -> impl Iterator<Item = IommuUnit> + '_ {
    const UNIT: u16 = 0;
    let mut rest = table.get(48..).unwrap_or_default();
    let structures = core::iter::from_fn(move || {
        let (head, _) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (structure, behind) = rest.split_at_checked(length.max(head.len()))?;
        rest = behind;
        Some(structure)
    });
    structures.filter_map(|structure| {
        let (fields, _) = structure.split_first_chunk::<16>()?;
        let segment = u16::from_le_bytes([fields[6], fields[7]]);
        let address = u64::from_le_bytes(*fields.last_chunk()?);
        (u16::from_le_bytes([fields[0], fields[1]]) == UNIT).then_some(IommuUnit { segment, address })
    })
}

/// Lets the crate `acpi` see memory and ports.
#[derive(Clone)]
struct DirectMap;

macro_rules! memory_access {
    ($read:ident, $write:ident, $type:ty) => {
        fn $read(&self, address: usize) -> $type {
            // SAFETY: only asked for addresses that the firmware's tables name; the direct map has them.
            unsafe { memory::direct(address as u64).cast::<$type>().read_volatile() }
        }
        fn $write(&self, address: usize, value: $type) {
            // SAFETY: as for reading.
            unsafe { memory::direct(address as u64).cast::<$type>().write_volatile(value) };
        }
    };
}

macro_rules! port_access {
    ($read:ident, $write:ident, $cpu_read:ident, $cpu_write:ident, $type:ty) => {
        fn $read(&self, port: u16) -> $type {
            // SAFETY: only asked for ports that the firmware's tables name.
            unsafe { cpu::$cpu_read(port) }
        }
        fn $write(&self, port: u16, value: $type) {
            // SAFETY: as for reading.
            unsafe { cpu::$cpu_write(port, value) };
        }
    };
}

macro_rules! no_pci {
    ($read:ident, $write:ident, $type:ty) => {
        /// No table that is read here lies in PCI configuration space: reads as an absent device does.
        fn $read(&self, _: PciAddress, _: u16) -> $type {
            <$type>::MAX
        }
        fn $write(&self, _: PciAddress, _: u16, _: $type) {}
    };
}

impl Handler for DirectMap {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let virtual_start = NonNull::new(memory::direct(address as u64).cast()).expect("the direct map is not at zero");
        PhysicalMapping {
            physical_start: address,
            virtual_start,
            region_length: size,
            mapped_length: size,
            handler: DirectMap,
        }
    }
    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
    memory_access!(read_u8, write_u8, u8);
    memory_access!(read_u16, write_u16, u16);
    memory_access!(read_u32, write_u32, u32);
    memory_access!(read_u64, write_u64, u64);
    port_access!(read_io_u8, write_io_u8, read_port_8, write_port_8, u8);
    port_access!(read_io_u16, write_io_u16, read_port_16, write_port_16, u16);
    port_access!(read_io_u32, write_io_u32, read_port_32, write_port_32, u32);
    no_pci!(read_pci_u8, write_pci_u8, u8);
    no_pci!(read_pci_u16, write_pci_u16, u16);
    no_pci!(read_pci_u32, write_pci_u32, u32);
    fn nanos_since_boot(&self) -> u64 {
        0
    }
    fn stall(&self, _: u64) {}
    fn sleep(&self, _: u64) {}
}
