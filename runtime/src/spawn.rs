//! Starting programs: an ELF file becomes a process with the handles and arguments that its starter names, and nothing else.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use tessera_abi::{Error, Level, NATIVE_BASE, PAGE, StartupWriter, USER_END};

use crate::handle::{Object, Owned, Result};
use crate::object::{Access, Budget, Event, Pool, Privilege, Process, Progress, Space, Thread, Vmo};
use crate::own;
use crate::start::NAME_ARGUMENT;

/// Where a new process finds its start-up block, and its stack, an unmapped page between and below.
const BLOCK: u64 = 0x7fff_ffe0_0000;
const STACK_TOP: u64 = 0x7fff_fff0_0000;
const STACK: u64 = 256 << 10;

/// The code of a process that its starter ended by dropping it: that of one that gave up.
const KILLED: u64 = 101;

/// A program that is about to be started.
pub struct Program<'a> {
    file: &'a [u8],
    name: String,
    arguments: Vec<String>,
    handles: Vec<(String, Owned)>,
    pool: &'a Pool,
    budget: &'a Budget,
    level: Option<(&'a Privilege, Level)>,
    lies_in: Option<(&'a Vmo, u64)>,
}

/// A process that this one started. Dropped, the process is ended.
pub struct Child {
    /// The process.
    pub process: Process,
    /// Its main thread.
    pub thread: Thread,
    ended: Event,
}

impl<'a> Program<'a> {
    /// The program in the ELF file `file`, charged to `pool`, run by `budget`.
    pub fn new(name: &str, file: &'a [u8], pool: &'a Pool, budget: &'a Budget) -> Program<'a> {
        let (arguments, handles) = (Vec::new(), Vec::new());
        Program { file, name: name.into(), arguments, handles, pool, budget, level: None, lies_in: None }
    }

    /// Says that the file lies in `memory`, which nobody writes, from byte `start` on: what it only reads or executes is shown to it there, as far
    /// as it fills pages, and costs no memory of its own.
    pub fn lies_in(mut self, memory: &'a Vmo, start: u64) -> Self {
        self.lies_in = Some((memory, start));
        self
    }

    /// Lets it run at a level, for which it was linked.
    pub fn level(mut self, privilege: &'a Privilege, level: Level) -> Self {
        self.level = Some((privilege, level));
        self
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Gives it a handle under a name.
    pub fn handle(mut self, name: &str, object: impl Object) -> Self {
        self.handles.push((name.into(), object.into_owned()));
        self
    }

    /// Gives it a handle, whatever it is, under a name.
    pub fn owned(mut self, name: &str, owned: Owned) -> Self {
        self.handles.push((name.into(), owned));
        self
    }

    /// Gives it the log and the clock of this process.
    pub fn standard(self) -> Result<Self> {
        let (log, clock) = (own::log().try_clone()?, own::clock().try_clone()?);
        Ok(self.handle("log", log).handle("clock", clock))
    }

    /// Starts it. Its own pool, process, space, thread and budget are among its handles.
    pub fn start(self) -> Result<Child> {
        let space = match self.level {
            Some((privilege, level)) => privilege.space(self.pool, level)?,
            None => Space::create(self.pool)?,
        };
        let process = Process::create(self.pool, &space, &self.name)?;
        let file = ElfBytes::<LittleEndian>::minimal_parse(self.file).map_err(|_| Error::BadArgument)?;
        self.map_segments(&file, &space)?;
        let stack = Vmo::create(self.pool, STACK)?;
        space.map_at(&stack, 0, STACK_TOP - STACK, STACK, Access::Write)?;
        let thread = Thread::create(self.pool, &process, Some(self.budget))?;
        let ended = Event::create(&own::pool())?;
        process.watch(&ended, 1)?;
        let entry = file.ehdr.e_entry;
        let own_handles = [
            ("pool", self.pool.try_clone()?.into_owned()),
            ("process", process.try_clone()?.into_owned()),
            ("space", space.try_clone()?.into_owned()),
            ("thread", thread.try_clone()?.into_owned()),
            ("budget", self.budget.try_clone()?.into_owned()),
        ];
        let mut granted = Vec::new();
        let given = self.handles.into_iter();
        for (name, owned) in own_handles.into_iter().map(|(name, owned)| (String::from(name), owned)).chain(given) {
            granted.push((name, process.grant(owned)?));
        }
        let mut block = vec![0; PAGE as usize];
        let mut writer = StartupWriter::new(&mut block);
        let name = format!("{NAME_ARGUMENT}{}", self.name);
        let fits = granted.iter().all(|(name, handle)| writer.handle(name, *handle))
            && writer.argument(&name)
            && self.arguments.iter().all(|argument| writer.argument(argument));
        if !fits {
            return Err(Error::BadArgument);
        }
        let length = writer.len() as u64;
        let memory = Vmo::create(self.pool, PAGE)?;
        write_all(&memory, 0, &block)?;
        space.map_at(&memory, 0, BLOCK, PAGE, Access::Read)?;
        // SAFETY: it is not a thread of this process.
        unsafe { thread.start(entry, STACK_TOP - 8, BLOCK, length) }?;
        Ok(Child { process, thread, ended })
    }

    fn map_segments(&self, file: &ElfBytes<'_, LittleEndian>, space: &Space) -> Result<()> {
        for segment in file.segments().ok_or(Error::BadArgument)?.iter().filter(|segment| segment.p_type == PT_LOAD) {
            let offset = segment.p_vaddr % PAGE;
            let address = segment.p_vaddr - offset;
            let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or(Error::BadArgument)?;
            let length = end.checked_next_multiple_of(PAGE).ok_or(Error::BadArgument)?.saturating_sub(address);
            if length == 0 {
                continue;
            }
            if address < NATIVE_BASE || end > USER_END || segment.p_filesz > segment.p_memsz {
                return Err(Error::BadArgument);
            }
            let access = match segment.p_flags & (PF_W | PF_X) {
                0 => Access::Read,
                PF_W => Access::Write,
                PF_X => Access::Execute,
                _ => return Err(Error::BadArgument),
            };
            let data = file.segment_data(&segment).map_err(|_| Error::BadArgument)?;
            let shown = match access {
                Access::Write => 0,
                _ => self.show(space, &segment, access)?,
            };
            if shown >= length {
                continue;
            }
            let memory = Vmo::create(self.pool, length - shown)?;
            let copied = data.get(shown.saturating_sub(offset) as usize..).unwrap_or_default();
            write_all(&memory, offset.saturating_sub(shown), copied)?;
            space.map_at(&memory, 0, address + shown, length - shown, access)?;
        }
        Ok(())
    }

    /// Shows the pages of a segment where the file lies; answers how many bytes these are. In its first and last page other parts of the file
    /// are seen beside it: a last page with something else behind the file, or that is to end with zeroes, is not shown.
    fn show(&self, space: &Space, segment: &ProgramHeader, access: Access) -> Result<u64> {
        let Some((memory, start)) = self.lies_in else { return Ok(0) };
        let before = segment.p_vaddr % PAGE;
        let end = segment.p_offset.checked_add(segment.p_filesz).ok_or(Error::BadArgument)?;
        let Some(first) = segment.p_offset.checked_sub(before) else { return Ok(0) };
        let (place, behind) = (start.saturating_add(first), start.saturating_add(end).next_multiple_of(PAGE));
        if !place.is_multiple_of(PAGE) {
            return Ok(0);
        }
        let is_whole = segment.p_filesz == segment.p_memsz && behind - start <= self.file.len() as u64;
        let shown = if is_whole { behind - place } else { (before + segment.p_filesz) / PAGE * PAGE };
        if shown > 0 {
            space.map_at(memory, place, segment.p_vaddr - before, shown, access)?;
        }
        Ok(shown)
    }
}

/// Writes all of `data`, or fails.
fn write_all(memory: &Vmo, offset: u64, data: &[u8]) -> Result<()> {
    if data.is_empty() || memory.write(offset, data)? == data.len() { Ok(()) } else { Err(Error::NoQuota) }
}

impl Child {
    /// Waits until it ends, or the deadline (nanoseconds since boot); answers how it ended.
    pub fn wait(&self, deadline: Option<u64>) -> Result<Progress> {
        self.ended.wait_until(1, 0, deadline)?;
        self.process.progress()
    }

    /// Ends it.
    pub fn kill(&self, code: u64) -> Result<()> {
        self.process.kill(code)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Refused if it has ended, which is as good.
        let _ = self.process.kill(KILLED);
    }
}
