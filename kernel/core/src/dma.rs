//! Memory that devices reach by themselves. A `Dma` object holds pages still: what was pinned through it stays in place, and is given
//! to nobody else, until the object's last handle is closed, whatever becomes of the `Vmo` and the driver meanwhile. So whoever
//! keeps a handle decides when memory that a device may still write is used again: after the device was reset.
//!
//! There is no IOMMU behind it yet: every object hands out physical addresses, and a device is as trusted as the driver that programs it.
//! With one, an object is a translation domain, and `dma_pin` enters pages into it and answers addresses within it.
//!
//! Pinned pages are charged to the object's pool, on top of what the `Vmo` was charged: the one pays as long as it holds, as the other.

use crate::{
    Caller, Flow, Frame, Hardware, Machine,
    arena::Id,
    node::Object,
    pool::{Pool, Resource},
    reaper::{Grave, Progress},
    user::UserSlice,
    vmo::{Miss, Source, Vmo},
};
use tessera_abi::{Error, Kind, PAGE, Rights};

/// Pages that one `dma_pin` pins, and that one step of the end lets go.
const STEP: u64 = 32;
/// Pins that a frame of the list has room for: word 0 leads to the next frame, each pin takes two words.
pub(crate) const PINS: u32 = 255;

/// Pages that are held for devices.
#[derive(Default)]
pub struct Dma {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
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

impl<H: Hardware> Machine<H> {
    /// `dma_create`.
    pub(crate) fn dma_create(&mut self, caller: &Caller, dma: u64, pool: u64) -> Result<u64, Error> {
        let (node, _) = self.dma(caller.process, dma, Rights::MANAGE)?;
        let (_, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Dma, handles)?;
        let dma = self.dmas.insert(Dma { pool, ..Dma::default() }).ok_or(Error::NoQuota)?;
        self.publish(caller.process, node, Object::Dma(dma), Rights::ALL)
    }

    /// `dma_inspect`.
    pub(crate) fn dma_inspect(&mut self, caller: &Caller, dma: u64) -> Result<u64, Error> {
        let (_, dma) = self.dma(caller.process, dma, Rights::NONE)?;
        self.dmas.get(dma).map(|dma| u64::from(dma.pinned)).ok_or(Error::Gone)
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
        let (pool, pinned, list) =
            self.dmas.get(dma).map(|dma| (dma.pool, dma.pinned, dma.list)).ok_or(Miss::Denied)?;
        self.charge(pool, Resource::PAGES, 1).map_err(|_| Miss::NoQuota)?;
        let list = if pinned.is_multiple_of(PINS) {
            let next = self.charged_frame(pool).inspect_err(|_| self.credit(pool, Resource::PAGES, 1))?;
            self.hardware.store(next, 0, list.0);
            next
        } else {
            list
        };
        if !self.frames.pin(frame) {
            self.credit(pool, Resource::PAGES, 1);
            if pinned.is_multiple_of(PINS) {
                self.frames.release(list);
                self.credit(pool, Resource::PAGES, 1);
            }
            return Err(Miss::NoQuota);
        }
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
        // Without an IOMMU a device's addresses are the machine's.
        self.hardware.write_bytes(to, &frame.0.saturating_mul(PAGE).to_le_bytes());
        Ok(())
    }

    /// Pin `index` of a list's frame.
    pub(crate) fn dma_pinned(&self, list: Frame, index: u32) -> (Frame, Id<Vmo>) {
        let (frame, vmo) = words(index);
        (Frame(self.hardware.load(list, frame)), Id::from_bits(self.hardware.load(list, vmo)))
    }

    /// Lets go of the pages a bounded part at a time, then of the object.
    pub(crate) fn dma_reap(&mut self, id: Id<Dma>) -> Progress {
        for _ in 0..STEP {
            let Some(dma) = self.dmas.get_mut(id) else { return Progress::Finished };
            let (pool, list) = (dma.pool, dma.list);
            let Some(last) = dma.pinned.checked_sub(1) else {
                self.dmas.remove(id);
                self.credit(pool, Resource::of(Kind::Dma), 1);
                return Progress::Finished;
            };
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
}
