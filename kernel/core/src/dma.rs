//! Memory that devices reach by themselves. A `Dma` object holds pages still: what was pinned through it stays in place, and is given
//! to nobody else, until the object's last handle is closed, whatever becomes of the `Vmo` and the driver meanwhile. So whoever
//! keeps a handle decides when memory that a device may still write is used again: after the device was reset.
//!
//! An object is made for one device, from authority over all of them (or over the same one). Where there is an IOMMU, that device reaches what is
//! pinned through its newest object and nothing else, at addresses that the object numbers by itself, and `dma_pin` tells those. A device
//! without an object reaches nothing. Elsewhere, and for an object of no device, the addresses are the machine's.
//!
//! Pinned pages are charged to the object's pool, on top of what the `Vmo` was charged: the one pays as long as it holds, as the other.

use crate::{
    Caller, Flow, Frame, Hardware, Machine,
    arena::Id,
    hardware::DeviceId,
    node::Object,
    pool::{Pool, Resource},
    reaper::{Grave, Progress},
    user::UserSlice,
    vmo::{Miss, Source, Vmo},
};
use tessera_abi::{Error, Kind, PAGE, Rights, syscall::NO_DEVICE};

/// Pages that one `dma_pin` pins, and that one step of the end lets go.
const STEP: u64 = 32;
/// Pins that a frame of the list has room for: word 0 leads to the next frame, each pin takes two words.
pub(crate) const PINS: u32 = 255;

/// Pages that no IOMMU translates, in any address space of a PC: a device's write there is a message.
const MESSAGES: core::ops::Range<u64> = 0xfee00..0xfef00;

/// For whom pages are held.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Holds {
    /// Whoever it will be: authority to make objects for any device.
    #[default]
    Any,
    /// No device that an IOMMU knows.
    None,
    /// One device.
    One(DeviceId),
}

/// Pages that are held for a device.
#[derive(Default)]
pub struct Dma {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    pub(crate) holds: Holds,
    /// What the device reaches, and how many tables that takes, this one included; none if nothing translates.
    pub(crate) root: Frame,
    pub(crate) tables: u32,
    /// How many pages are pinned.
    pub(crate) pinned: u32,
    /// Which: a list of frames of [`PINS`] pins each; only the first may have fewer.
    pub(crate) list: Frame,
}

#[cfg(feature = "audit")]
impl Dma {
    /// Frames of the list.
    pub(crate) fn lists(&self) -> u32 {
        self.pinned.div_ceil(PINS)
    }
}

/// The words of pin `index` in its frame of the list: the frame that is pinned, and the VMO that it was pinned for.
fn words(index: u32) -> (usize, usize) {
    let first = 1 + 2 * (index % PINS) as usize;
    (first, first + 1)
}

/// Where the device finds pin `index`. Nothing is ever at address 0, where a device writes that was told no address.
fn device_page(index: u32) -> u64 {
    let page = u64::from(index).saturating_add(1);
    if page < MESSAGES.start { page } else { page.saturating_add(MESSAGES.end.saturating_sub(MESSAGES.start)) }
}

impl Holds {
    /// What may be made of this, with `device` as the caller of `dma_create` names it.
    fn narrow(self, device: u64) -> Result<Holds, Error> {
        let wanted = match device {
            NO_DEVICE => Holds::None,
            device => Holds::One(DeviceId(u32::try_from(device).map_err(|_| Error::BadArgument)?)),
        };
        if self == Holds::Any || self == wanted { Ok(wanted) } else { Err(Error::BadArgument) }
    }
}

impl<H: Hardware> Machine<H> {
    /// `dma_create`.
    pub(crate) fn dma_create(&mut self, caller: &Caller, dma: u64, pool: u64, device: u64) -> Result<u64, Error> {
        let (node, parent) = self.dma(caller.process, dma, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let holds = self.dmas.get(parent).ok_or(Error::Gone)?.holds.narrow(device)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Dma, handles)?;
        let made = self.dmas.insert(Dma { pool, holds, ..Dma::default() }).ok_or(Error::NoQuota);
        let made = made.and_then(|id| match holds {
            Holds::One(device) if self.hardware.has_iommu() => self.dma_attach(id, pool, device).map(|()| id),
            _ => Ok(id),
        });
        match made {
            Ok(id) => self.publish(caller.process, node, Object::Dma(id), Rights::ALL),
            Err(error) => {
                self.credit(pool, Resource::of(Kind::Dma), 1);
                self.credit(handles, Resource::HANDLES, 1);
                Err(error)
            }
        }
    }

    /// Gives a device to a new object. If that cannot be, the object is gone.
    fn dma_attach(&mut self, id: Id<Dma>, pool: Id<Pool>, device: DeviceId) -> Result<(), Error> {
        let Ok(root) = self.charged_frame(pool) else {
            self.dmas.remove(id);
            return Err(Error::NoQuota);
        };
        if !self.hardware.device_attach(device, id.index(), root) {
            self.frames.release(root);
            self.credit(pool, Resource::PAGES, 1);
            self.dmas.remove(id);
            return Err(Error::NoQuota);
        }
        if let Some(dma) = self.dmas.get_mut(id) {
            (dma.root, dma.tables) = (root, 1);
        }
        Ok(())
    }

    /// `dma_inspect`.
    pub(crate) fn dma_inspect(&mut self, caller: &Caller, dma: u64) -> Result<Flow, Error> {
        let (_, dma) = self.dma(caller.process, dma, Rights::NONE)?;
        let dma = self.dmas.get(dma).ok_or(Error::Gone)?;
        Ok(Flow::Values([dma.pinned.into(), (dma.tables > 0).into(), 0, 0, 0, 0]))
    }

    /// `dma_pin`: at most [`STEP`] pages at a time; the caller learns how many.
    pub(crate) fn dma_pin(
        &mut self,
        caller: &Caller,
        dma: u64,
        vmo: u64,
        offset: u64,
        length: u64,
        address: u64,
    ) -> Result<Flow, Error> {
        let (_, dma) = self.dma(caller.process, dma, Rights::MAP)?;
        // A device that was given an address reads and writes.
        let (_, id) = self.vmo(caller.process, vmo, Rights::READ | Rights::WRITE)?;
        let (size, source) = self.vmos.get(id).map(|vmo| (vmo.pages, vmo.source)).ok_or(Error::Gone)?;
        let (first, count) = (offset / PAGE, length / PAGE);
        let whole = offset.is_multiple_of(PAGE) && length.is_multiple_of(PAGE) && count > 0;
        let inside = first.checked_add(count).is_some_and(|end| end <= size);
        // A pager may give its pages away again as it likes; nothing holds those still.
        if !whole || !inside || source != Source::Zero || !address.is_multiple_of(8) {
            return Err(Error::BadArgument);
        }
        let bytes = count.saturating_mul(8);
        let addresses = UserSlice::<true>::new(caller.space, address, bytes).map_err(|_| Error::BadAddress)?;
        for done in 0..count.min(STEP) {
            match self.dma_pin_page(dma, id, first.saturating_add(done), addresses, done) {
                Ok(()) => {}
                // What was pinned before counts.
                Err(_) if done > 0 => return Ok(Flow::One(done)),
                Err(miss) => return self.missed(caller, miss),
            }
        }
        Ok(Flow::One(count.min(STEP)))
    }

    fn dma_pin_page(
        &mut self,
        dma: Id<Dma>,
        vmo: Id<Vmo>,
        page: u64,
        addresses: UserSlice<true>,
        place: u64,
    ) -> Result<(), Miss> {
        let frame = self.vmo_touch(vmo, page, true)?.frame;
        // Looked for before the pin, and after the page, which may have moved the one that the address goes to.
        let to = self.reach(addresses.space, addresses.address.saturating_add(place.saturating_mul(8)), true)?;
        let (pool, pinned, before) =
            self.dmas.get(dma).map(|dma| (dma.pool, dma.pinned, dma.list)).ok_or(Miss::Denied)?;
        self.charge(pool, Resource::PAGES, 1).map_err(|_| Miss::NoQuota)?;
        let list = if pinned.is_multiple_of(PINS) {
            let next = self.charged_frame(pool).inspect_err(|_| self.credit(pool, Resource::PAGES, 1))?;
            self.hardware.store(next, 0, before.0);
            next
        } else {
            before
        };
        let is_held = self.frames.pin(frame);
        let reached = if is_held { self.dma_enter(dma, pinned, frame) } else { None };
        let Some(told) = reached else {
            if is_held {
                self.frames.unpin(frame);
            }
            if list != before {
                self.frames.release(list);
                self.credit(pool, Resource::PAGES, 1);
            }
            self.credit(pool, Resource::PAGES, 1);
            return Err(Miss::NoQuota);
        };
        let (frame_word, vmo_word) = words(pinned);
        self.hardware.store(list, frame_word, frame.0);
        self.hardware.store(list, vmo_word, vmo.to_bits());
        if let Some(dma) = self.dmas.get_mut(dma) {
            dma.pinned = pinned.saturating_add(1);
            dma.list = list;
        }
        if let Some(vmo) = self.vmos.get_mut(vmo) {
            vmo.pinned = vmo.pinned.saturating_add(1);
        }
        self.hardware.write_bytes(to, &told.to_le_bytes());
        Ok(())
    }

    /// Lets the device reach a page as pin `index`; answers the address by which it does. None if there is no memory for a table.
    fn dma_enter(&mut self, id: Id<Dma>, index: u32, frame: Frame) -> Option<u64> {
        let dma = self.dmas.get_mut(id)?;
        let (pool, root, made) = (dma.pool, dma.root, &mut dma.tables);
        if *made == 0 {
            return Some(frame.0.saturating_mul(PAGE));
        }
        let (pools, frames) = (&mut self.pools, &mut self.frames);
        let address = device_page(index).saturating_mul(PAGE);
        let entered = self.hardware.device_map(root, address, frame, &mut |hardware: &mut H| {
            pools.get_mut(pool)?.charge_pages(1).ok()?;
            let table = frames.take()?;
            hardware.zero(table);
            *made = made.saturating_add(1);
            Some(table)
        });
        entered.then_some(address)
    }

    /// Pin `index` of a list's frame.
    pub(crate) fn dma_pinned(&self, list: Frame, index: u32) -> (Frame, Id<Vmo>) {
        let (frame, vmo) = words(index);
        (Frame(self.hardware.load(list, frame)), Id::from_bits(self.hardware.load(list, vmo)))
    }

    /// Takes the device away, lets go of the pages a bounded part at a time, then of the tables and the object.
    pub(crate) fn dma_reap(&mut self, id: Id<Dma>) -> Progress {
        let Some(dma) = self.dmas.get_mut(id) else { return Progress::Finished };
        if let (Holds::One(device), 1..) = (dma.holds, dma.tables) {
            dma.holds = Holds::None;
            let root = dma.root;
            self.hardware.device_detach(device, root);
        }
        for _ in 0..STEP {
            let Some(dma) = self.dmas.get_mut(id) else { return Progress::Finished };
            let (pool, list) = (dma.pool, dma.list);
            let Some(last) = dma.pinned.checked_sub(1) else { return self.dma_dissolve(id) };
            dma.pinned = last;
            let (frame, vmo) = self.dma_pinned(list, last);
            self.frames.unpin(frame);
            if let Some(vmo) = self.vmos.get_mut(vmo) {
                vmo.pinned = vmo.pinned.saturating_sub(1);
            }
            let mut pages = 1;
            if last.is_multiple_of(PINS) {
                let next = Frame(self.hardware.load(list, 0));
                self.frames.release(list);
                pages = 2;
                if let Some(dma) = self.dmas.get_mut(id) {
                    dma.list = next;
                }
            }
            self.credit(pool, Resource::PAGES, pages);
        }
        Progress::More
    }

    /// One step on what is left of an object without pages.
    fn dma_dissolve(&mut self, id: Id<Dma>) -> Progress {
        let Some(dma) = self.dmas.get_mut(id) else { return Progress::Finished };
        let (pool, root, tables) = (dma.pool, dma.root, dma.tables);
        if tables > 0 {
            let (frames, mut released) = (&mut self.frames, 0);
            let done = self.hardware.device_release(root, STEP as usize, &mut |table| {
                frames.release(table);
                released += 1;
            });
            dma.tables = if done { 0 } else { tables.saturating_sub(released) };
            self.credit(pool, Resource::PAGES, released);
            return Progress::More;
        }
        self.dmas.remove(id);
        self.credit(pool, Resource::of(Kind::Dma), 1);
        Progress::Finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pin_lies_at_address_zero_or_where_messages_go() {
        let pages: alloc::vec::Vec<u64> = (0..0x10_0000).map(device_page).collect();
        assert!(pages.is_sorted() && pages.windows(2).all(|two| two[0] != two[1]));
        assert!(!pages.iter().any(|page| *page == 0 || (0xfee00..0xfef00).contains(page)));
        assert_eq!((device_page(0), device_page(0xfedff)), (1, 0xfef00));
    }
}
