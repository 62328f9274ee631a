//! The start: the tables, all memory in one pool, and the first program with a handle to everything there is.

use crate::{
    Frame, Hardware, Machine, Protection,
    arena::{Arena, Id},
    budget::Budget,
    device::{Device, InterruptLine, Ports},
    dma::Dma,
    frames::Frames,
    node::{Holder, Node, Object},
    pool::{Pool, Resource},
    process::Process,
    reaper::Dead,
    schedule::Processors,
    sizes::Sizes,
    space::Space,
    timer::Alarms,
    vmo::Vmo,
};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use tessera_abi::{Error, Handle, Kind, Level, PAGE, Rights, StartupWriter};

/// What the machine has.
pub struct Config<'a> {
    /// Processors, 1 to [`crate::MAX_PROCESSORS`].
    pub processors: usize,
    /// Frame numbers of the memory that is free, ascending.
    pub free: &'a [Range<u64>],
    /// Frames that are in use from the start and are memory like any other when they are given up: the boot archive's.
    pub held: Range<u64>,
}

/// A piece of the first program.
pub struct Segment<'a> {
    /// Where it goes; a multiple of the page size.
    pub address: u64,
    /// Its size in memory, in bytes; what `data` does not cover is zero.
    pub memory: u64,
    pub data: &'a [u8],
    /// Where in the boot archive `data` begins, if that is on a page: unless it is written, the pages that it fills are shown there.
    pub place: Option<u64>,
    pub write: bool,
    pub execute: bool,
}

/// The first program, and what it is given.
pub struct FirstProgram<'a> {
    pub segments: &'a [Segment<'a>],
    pub entry: u64,
    /// In which mode it runs.
    pub level: Level,
    /// The boot archive: first frame, bytes. Its frames are not among the free ones.
    pub archive: (Frame, u64),
    pub arguments: &'a [&'a str],
    /// How many interrupt lines are pins of a controller. They have the lowest numbers.
    pub interrupt_lines: u32,
    /// How many lines behind those are fired by messages.
    pub interrupt_messages: u32,
    /// Frame numbers that are not memory.
    pub devices: Range<u64>,
}

/// Stack of the first thread, in bytes.
const STACK: u64 = 256 * 1024;
/// Where the first program's stack ends and its start-up block begins: the top of user space, minus a guard.
const STACK_END: u64 = tessera_abi::USER_END - 0x20_0000;
/// Most bytes of a start-up block.
const STARTUP: usize = 4096;
/// What memory of the first program's own allows.
const ALL: Protection = Protection { write: true, execute: true, device: false };
/// The archive is the image's: it can be read and copied, never written or resized.
const ARCHIVE: Rights =
    Rights::DUPLICATE.union(Rights::TRANSFER).union(Rights::READ).union(Rights::MAP).union(Rights::EXECUTE);

impl<H: Hardware> Machine<H> {
    /// Makes the machine. But for a table of lines in `start_first`, the only place that allocates: what [`Machine::memory`] says.
    pub fn new(hardware: H, config: Config<'_>) -> Machine<H> {
        let frames = Frames::new(config.free, config.held);
        let pages = frames.available() as usize;
        let sizes = Sizes::new(pages);
        let size = |kind: Kind| sizes.of(kind);
        let mut pools = Arena::new(size(Kind::Pool).saturating_add(1));
        // The first pool: nobody's child, never gone.
        pools.insert(Pool::first(sizes.0));
        Machine {
            hardware,
            processors: Processors::new(config.processors),
            threads: Arena::new(size(Kind::Thread)),
            nodes: Arena::new(sizes.handles()),
            sessions: Arena::new(size(Kind::Session)),
            endpoints: Arena::new(size(Kind::Endpoint)),
            replies: Arena::new(size(Kind::Reply)),
            events: Arena::new(size(Kind::Event)),
            processes: Arena::new(size(Kind::Process)),
            spaces: Arena::new(size(Kind::Space)),
            mappings: Arena::new(sizes.handles()),
            vmos: Arena::new(size(Kind::Vmo)),
            pools,
            budgets: Arena::new(size(Kind::Budget)),
            interrupts: Arena::new(size(Kind::Interrupt)),
            ports: Arena::new(size(Kind::IoPort)),
            devices: Arena::new(size(Kind::Mmio)),
            dmas: Arena::new(size(Kind::Dma)),
            brands: Arena::new(size(Kind::Seal)),
            boxes: Arena::new(size(Kind::Sealed)),
            alarms: Alarms::new(sizes.alarms()),
            lines: Vec::new(),
            pins: 0,
            next_message: 0,
            dead: Dead::Nothing,
            last_dead: Dead::Nothing,
            first: Id::NONE,
            active: 0,
            total_pages: (pages as u32).max(1),
            capacities: sizes.shared(),
            frames,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Makes the first process and lets it run.
    pub fn start_first(&mut self, program: &FirstProgram<'_>) -> Result<(), Error> {
        let lines = program.interrupt_lines.saturating_add(program.interrupt_messages);
        self.lines = vec![Id::NONE; lines as usize];
        self.pins = program.interrupt_lines;
        let pool = self.pools.iter().next().map(|(id, _)| id).ok_or(Error::BadState)?;
        let made = [Kind::Space, Kind::Process, Kind::Thread, Kind::Budget];
        for kind in made.into_iter().chain([Kind::Interrupt, Kind::IoPort, Kind::Mmio, Kind::Dma]) {
            self.charge(pool, Resource::of(kind), 1)?;
        }
        let space = self.space_make(pool, program.level)?;
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(b"init") {
            *to = *from;
        }
        let process = self.process_make(pool, space, name)?;
        let all_cores = (1 << self.processors.len()) - 1;
        let budget = self.budgets.insert(Budget::first(pool, all_cores)).ok_or(Error::NoQuota)?;
        self.first = process;
        let thread = self.thread_make(pool, process, budget)?;
        let line = InterruptLine { pool, count: lines, ..InterruptLine::default() };
        let line = self.interrupts.insert(line).ok_or(Error::NoQuota)?;
        let ports =
            self.ports.insert(Ports { pool, first: 0, count: 0x1_0000, ..Ports::default() }).ok_or(Error::NoQuota)?;
        let pages = program.devices.end.saturating_sub(program.devices.start);
        let devices = self
            .devices
            .insert(Device { pool, first: program.devices.start, pages, ..Device::default() })
            .ok_or(Error::NoQuota)?;
        let dma = self.dmas.insert(Dma { pool, ..Dma::default() }).ok_or(Error::NoQuota)?;
        let archive = self.archive(pool, program.archive)?;
        let mut block = [0; STARTUP];
        let mut writer = StartupWriter::new(&mut block);
        let objects = [
            ("pool", Object::Pool(pool)),
            ("space", Object::Space(space)),
            ("process", Object::Process(process)),
            ("thread", Object::Thread(thread)),
            ("budget", Object::Budget(budget)),
            ("interrupts", Object::Interrupt(line)),
            ("ports", Object::IoPort(ports)),
            ("devices", Object::Mmio(devices)),
            ("dma", Object::Dma(dma)),
            ("clock", Object::Clock),
            ("log", Object::Log),
            ("power", Object::Power),
            ("privilege", Object::Privilege),
        ];
        let mut fits = true;
        for (name, object) in objects {
            let number = self.first_handle(process, object, Rights::ALL)?;
            fits &= writer.handle(name, Handle(number as u32));
        }
        let number = self.first_handle(process, Object::Vmo(archive), ARCHIVE)?;
        fits &= writer.handle("archive", Handle(number as u32));
        for argument in program.arguments {
            fits &= writer.argument(argument);
        }
        if !fits {
            return Err(Error::BadArgument);
        }
        let length = writer.len();
        for segment in program.segments {
            self.first_segment(pool, space, archive, segment)?;
        }
        let stack = self.first_memory(pool, STACK, &[])?;
        let written = Protection { write: true, ..Protection::default() };
        self.map_first(space, stack, (0, STACK / PAGE), STACK_END.saturating_sub(STACK), [written, ALL])?;
        self.node_remove(stack.1);
        let startup = self.first_memory(pool, STARTUP as u64, &block)?;
        self.map_first(space, startup, (0, STARTUP as u64 / PAGE), STACK_END, [Protection::default(), ALL])?;
        self.node_remove(startup.1);
        self.thread_begin(thread, program.entry, STACK_END.saturating_sub(8), [STACK_END, length as u64]);
        Ok(())
    }

    fn first_handle(&mut self, process: Id<Process>, object: Object, rights: Rights) -> Result<u64, Error> {
        let pool = self.handle_pool(process)?;
        self.charge(pool, Resource::HANDLES, 1)?;
        self.publish(process, Id::NONE, object, rights)
    }

    /// Maps a segment: what fills pages of the archive is shown there, the rest is copied.
    fn first_segment(
        &mut self,
        pool: Id<Pool>,
        space: Id<Space>,
        archive: Id<Vmo>,
        segment: &Segment<'_>,
    ) -> Result<(), Error> {
        let now = Protection { write: segment.write, execute: segment.execute, device: false };
        let pages = segment.memory.div_ceil(PAGE);
        let place = segment.place.filter(|place| !segment.write && place.is_multiple_of(PAGE));
        let shown = place.map_or(0, |_| segment.data.len() as u64 / PAGE).min(pages);
        if let Some(place) = place.filter(|_| shown > 0) {
            let node = self.first_node(pool, archive, ARCHIVE)?;
            self.map_first(space, (archive, node), (place / PAGE, shown), segment.address, [now, now])?;
            self.node_remove(node);
        }
        if shown == pages {
            return Ok(());
        }
        let (copied, rest) = (shown.saturating_mul(PAGE), pages.saturating_sub(shown));
        let data = segment.data.get(copied as usize..).unwrap_or_default();
        let memory = self.first_memory(pool, rest.saturating_mul(PAGE), data)?;
        self.map_first(space, memory, (0, rest), segment.address.saturating_add(copied), [now, ALL])?;
        self.node_remove(memory.1);
        Ok(())
    }

    /// Memory with content, and a capability to it that nobody holds.
    fn first_memory(&mut self, pool: Id<Pool>, size: u64, data: &[u8]) -> Result<(Id<Vmo>, Id<Node>), Error> {
        self.charge(pool, Resource::of(Kind::Vmo), 1)?;
        let vmo = self.vmos.insert(Vmo { pool, pages: size.div_ceil(PAGE), ..Vmo::default() }).ok_or(Error::NoQuota)?;
        for (index, part) in data.chunks(PAGE as usize).enumerate() {
            self.vmo_put(vmo, index as u64, part, 0)?;
        }
        Ok((vmo, self.first_node(pool, vmo, Rights::ALL)?))
    }

    /// A capability to memory that nobody holds.
    fn first_node(&mut self, pool: Id<Pool>, vmo: Id<Vmo>, rights: Rights) -> Result<Id<Node>, Error> {
        self.charge(pool, Resource::HANDLES, 1)?;
        self.node_create(Id::NONE, Object::Vmo(vmo), rights, Holder::Nobody, pool)
    }

    /// The boot archive as memory. Its frames come on top of what the first pool was given, and are charged to it.
    fn archive(&mut self, pool: Id<Pool>, (first, bytes): (Frame, u64)) -> Result<Id<Vmo>, Error> {
        let pages = u32::try_from(bytes.div_ceil(PAGE)).map_err(|_| Error::BadArgument)?;
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.extend(pages);
        }
        self.charge(pool, Resource::of(Kind::Vmo), 1)?;
        let vmo = Vmo { pool, pages: u64::from(pages).max(1), ..Vmo::default() };
        let vmo = self.vmos.insert(vmo).ok_or(Error::NoQuota)?;
        self.vmo_adopt(vmo, first, pages)?;
        Ok(vmo)
    }
}
