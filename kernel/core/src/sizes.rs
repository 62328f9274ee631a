//! How large the tables are, and what memory they take. They are made at boot, in proportion to the memory there is, and never change.

use crate::{
    Hardware, Machine, arena::Arena, boot::Config, node::MAX_NODES, pool::RESOURCES, schedule::Processors,
    timer::Alarms,
};
use core::ops::Range;
use tessera_abi::Kind;

/// What a table may be moved by to begin where its entries can be.
const ALIGNMENT: u64 = 64;
/// Lines that interrupts can have: a table of them is made when the first program starts.
const MOST_LINES: u64 = 1024;

/// Entries of the smallest table.
const LEAST: usize = 32;

/// Objects of each kind, and handles, that the first program can have beside what its pages have for their share.
const OWN_OBJECTS: u32 = 8;
const OWN_HANDLES: u32 = 64;

/// The tables' capacities, by resource.
pub(crate) struct Sizes(pub(crate) [u32; RESOURCES]);

impl Sizes {
    /// The tables for so many pages of memory.
    pub(crate) fn new(pages: usize) -> Sizes {
        // One entry for so many pages, and so many at least, of which a small machine has a part.
        let table = |share: usize, least: usize| (pages / share).max(least.min(pages / 8).max(LEAST));
        let kinds = [
            (Kind::Pool, table(32, 128)),
            (Kind::Vmo, table(8, 512)),
            (Kind::Space, table(32, 128)),
            (Kind::Process, table(32, 128)),
            (Kind::Thread, table(16, 256)),
            (Kind::Budget, table(32, 128)),
            (Kind::Endpoint, table(16, 256)),
            (Kind::Session, table(8, 512)),
            (Kind::Reply, table(16, 256)),
            (Kind::Event, table(8, 512)),
            (Kind::Interrupt, table(64, 256)),
            (Kind::IoPort, table(64, 256)),
            (Kind::Mmio, table(64, 256)),
            (Kind::Dma, table(64, 256)),
            (Kind::Seal, table(64, 128)),
            (Kind::Sealed, table(16, 256)),
        ];
        let mut sizes = [0; RESOURCES];
        // A handle or mapping for every other page, and in a small machine for each; the tables hold both.
        let handles = (pages / 2).max(pages.clamp(16 * LEAST, 4096)).min(MAX_NODES);
        let others = [(0, pages), (RESOURCES - 1, handles)];
        for (resource, size) in kinds.map(|(kind, size)| (kind as usize, size)).into_iter().chain(others) {
            if let Some(slot) = sizes.get_mut(resource) {
                *slot = u32::try_from(size).unwrap_or(u32::MAX);
            }
        }
        Sizes(sizes)
    }

    /// What smaller pools have shares of: all but what the first program needs for itself, however many pages it gives away.
    pub(crate) fn shared(&self) -> [u32; RESOURCES] {
        let mut shared = self.0;
        let [_, kinds @ .., handles] = &mut shared;
        kinds.iter_mut().for_each(|kind| *kind = kind.saturating_sub(OWN_OBJECTS));
        *handles = handles.saturating_sub(OWN_HANDLES);
        shared
    }

    /// The capacity of a kind's table.
    pub(crate) fn of(&self, kind: Kind) -> usize {
        self.0.get(kind as usize).map_or(0, |size| *size as usize)
    }

    /// The capacity of the tables of handles and of mappings.
    pub(crate) fn handles(&self) -> usize {
        self.0.last().map_or(0, |size| *size as usize)
    }

    /// How many alarms there can be: one for each thread and budget.
    pub(crate) fn alarms(&self) -> usize {
        self.of(Kind::Thread).saturating_add(self.of(Kind::Budget))
    }
}

/// The bytes of a table that is a field of the machine, whose type says what is in it.
fn bytes_of<H: Hardware, T: Default>(_: fn(&Machine<H>) -> &Arena<T>, capacity: usize) -> u64 {
    Arena::<T>::bytes(capacity).saturating_add(ALIGNMENT)
}

impl<H: Hardware> Machine<H> {
    /// The bytes that `new` and `start_first` allocate, at most, if some of the free frames of `config` are taken away for that.
    pub fn memory(config: &Config<'_>) -> u64 {
        let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
        let pages = config.free.iter().map(length).sum::<u64>();
        let sizes = Sizes::new(pages as usize);
        let all = config.free.iter().chain([&config.held]);
        let (first, end) = all.fold((u64::MAX, 0), |(first, end), range| (first.min(range.start), end.max(range.end)));
        let frames = end.saturating_sub(first).saturating_mul(size_of::<u32>() as u64);
        let mut bytes = frames.saturating_add(Processors::BYTES).saturating_add(Alarms::bytes(sizes.alarms()));
        bytes = bytes.saturating_add(MOST_LINES * size_of::<u64>() as u64).saturating_add(4 * ALIGNMENT);
        macro_rules! tables {
            ($($table:ident $kind:ident),*) => {
                [$(bytes_of::<H, _>(|machine| &machine.$table, sizes.of(Kind::$kind))),*]
            };
        }
        let tables = tables!(
            threads Thread, sessions Session, endpoints Endpoint, replies Reply, events Event, processes Process,
            spaces Space, vmos Vmo, budgets Budget, interrupts Interrupt, ports IoPort, devices Mmio, dmas Dma,
            brands Seal, boxes Sealed
        );
        // The first pool is nobody's child: it comes on top.
        let pools = sizes.of(Kind::Pool).saturating_add(1);
        let others = [
            bytes_of::<H, _>(|machine| &machine.nodes, sizes.handles()),
            bytes_of::<H, _>(|machine| &machine.mappings, sizes.handles()),
            bytes_of::<H, _>(|machine| &machine.pools, pools),
        ];
        tables.into_iter().chain(others).fold(bytes, u64::saturating_add)
    }
}
