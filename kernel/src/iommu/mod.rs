//! Intel's IOMMU: which memory each device reaches (Virtualization Technology for Directed I/O, Architecture Specification, revision 3.0;
//! "VT-d" below).
//!
//! All units share one root table, which leads by bus and function to a device's tables of pages. From boot on it is switched on and empty:
//! a device reaches nothing until core attaches it. What core takes away is out of every cache when the call returns. The first access that a
//! device was refused is reported on the log; then that device is silent until it is attached again, so that none can keep the
//! kernel busy with reports.
//!
//! Messages of devices are not translated and not checked (no interrupt remapping).

mod tables;
mod unit;

use tessera_abi::PAGE;
use tessera_core::{DeviceId, Frame};

use crate::acpi_tables::Description;
use crate::memory;
use tables::Tables;
use unit::{Fault, Unit};

/// Buses whose devices can be attached: each has a table, which boot takes.
const BUSES: usize = 16;

/// The units of the machine, and the tables that they all look into.
pub struct Iommu {
    units: [Option<Unit>; Description::IOMMUS],
    root: Frame,
    /// Tables that no bus has yet, the first `left` of them.
    spare: [Frame; BUSES],
    left: usize,
    tables: Tables,
    /// How many numbers of roots there are.
    numbers: u32,
    /// Whether an entry that was not there may be remembered as such.
    remembers_absence: bool,
}

// A root entry and a context entry (VT-d 9.1, 9.3) are two words each.
const PRESENT: u64 = 1;
/// In a context entry, whether it is present or not: refused accesses are not recorded.
const SILENT: u64 = 1 << 1;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Iommu {
    /// The bytes of the tables that [`Iommu::start`] makes.
    pub fn size(description: &Description) -> u64 {
        if description.iommus.iter().any(Option::is_some) { (BUSES as u64 + 1) * PAGE } else { 0 }
    }

    /// Switches on what the tables name: no device reaches anything. None if there is nothing, or nothing that this file can drive.
    #[optimize(size)]
    pub fn start(description: &Description) -> Option<Iommu> {
        let mut units = description.iommus.map(|found| found.and_then(|found| Unit::find(found.address)));
        let all = || description.iommus.iter().flatten();
        // One segment has one root table. A second segment's devices would be taken for the first one's.
        if all().any(|found| found.segment != 0) || all().count() != units.iter().flatten().count() {
            crate::log!("the IOMMU is of a kind that is not supported; devices are not held back");
            return None;
        }
        let found = || units.iter().flatten();
        found().next()?;
        let levels = [3, 4].into_iter().find(|levels| found().all(|unit| unit.walks(*levels)))?;
        let coherent = found().all(Unit::is_coherent);
        let mut iommu = Iommu {
            root: memory::boot_frame(),
            spare: [(); BUSES].map(|()| memory::boot_frame()),
            left: BUSES,
            tables: Tables { levels, coherent },
            numbers: found().map(Unit::numbers).min()?,
            remembers_absence: found().any(Unit::remembers_absence),
            units: [const { None }; Description::IOMMUS],
        };
        iommu.tables.write_back(iommu.root);
        iommu.spare.iter().for_each(|spare| iommu.tables.write_back(*spare));
        units.iter_mut().flatten().for_each(|unit| unit.start(iommu.root));
        iommu.units = units;
        Some(iommu)
    }

    /// The place of a device's context entry: a table, and the index of the first of two words. None if it cannot have one.
    fn place(&mut self, device: DeviceId) -> Option<(Frame, usize)> {
        let (bus, function) = (device.0 as usize >> 8, device.0 as usize & 0xff);
        if bus > 0xff {
            return None;
        }
        let entry = self.tables.read(self.root, bus * 2);
        let table = if entry & PRESENT != 0 {
            tables::frame(entry & ADDRESS)
        } else {
            self.left = self.left.checked_sub(1)?;
            let table = *self.spare.get(self.left)?;
            self.tables.write(self.root, bus * 2, tables::address(table) | PRESENT);
            table
        };
        Some((table, function * 2))
    }

    /// From now on the device reaches what is below `root`, which is empty. False if there is no place for it.
    pub fn attach(&mut self, device: DeviceId, number: u32, root: Frame) -> bool {
        // Some units keep number 0 for themselves.
        let Some(number) = number.checked_add(1).filter(|number| *number < self.numbers) else { return false };
        let Some((table, place)) = self.place(device) else { return false };
        self.tables.write_back(root);
        self.tables.write(table, place, 0);
        self.forget();
        let width = u64::from(self.tables.levels) - 2;
        self.tables.write(table, place + 1, u64::from(number) << 8 | width);
        self.tables.write(table, place, tables::address(root) | PRESENT);
        self.forget();
        true
    }

    /// Returns when the device reaches nothing through `root`.
    pub fn detach(&mut self, device: DeviceId, root: Frame) {
        let Some((table, place)) = self.place(device) else { return };
        let entry = self.tables.read(table, place);
        if entry & PRESENT != 0 && entry & ADDRESS == tables::address(root) {
            self.tables.write(table, place, 0);
            self.forget();
        }
    }

    /// How tables are written. Who enters something says so afterwards, by [`Iommu::entered`].
    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// Something was entered where nothing was: returns when all units see it.
    pub fn entered(&self) {
        if self.remembers_absence {
            self.forget();
        }
    }

    /// Takes up to `limit` tables of a root that no device is attached to out of use; true when none is left.
    pub fn release(&self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
        self.tables.release(root, limit, release)
    }

    fn forget(&self) {
        self.units.iter().flatten().for_each(Unit::forget);
    }

    /// Reports what devices were refused since the last time.
    pub fn report(&mut self) {
        for index in 0..self.units.len() {
            // Each round silences a device, so this ends; what a last one leaves is lost.
            for _ in 0..BUSES {
                let fault = self.units.get(index).and_then(Option::as_ref).and_then(Unit::fault);
                let Some(fault) = fault else { break };
                self.silence(index, &fault);
                crate::log!("{fault}");
            }
        }
    }

    /// Has no more accesses of a device recorded.
    fn silence(&mut self, unit: usize, fault: &Fault) {
        if let Some((table, place)) = self.place(fault.device) {
            let entry = self.tables.read(table, place);
            self.tables.write(table, place, entry | SILENT);
            self.forget();
        } else if let Some(unit) = self.units.get(unit).and_then(Option::as_ref) {
            unit.stop_reports();
        }
    }
}
