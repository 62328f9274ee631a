//! Loading a program into new memory: its interpreter chain, its segments, its stack.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::elf::{self, Head, Segment};
use super::stack::{self, aux};
use crate::errno::{Errno, Result};
use crate::file::transfer::Bytes;
use crate::fs::path::{Walk, access, permitted, walk};
use crate::fs::{Kind, Place};
use crate::memory::layout::Mapped;
use crate::memory::{MapRequest, Memory, Mm, PAGE, Protection, TOP, Target, round_up};
use crate::task::process::limit;
use crate::task::{Context, Credentials};

/// Where programs that can be loaded anywhere are loaded.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// Interpreters of scripts that are followed.
const MOST_SCRIPTS: usize = 5;
/// Bytes of a file that are looked at for a script (`BINPRM_BUF_SIZE`).
const LOOKED_AT: usize = 256;
/// The least and the most bytes of a stack, whatever the limit says.
const STACKS: (u64, u64) = (128 << 10, 64 << 20);

/// A program that is ready to run.
pub struct Loaded {
    pub mm: Arc<Mm>,
    pub entry: u64,
    pub stack: u64,
    pub place: Arc<Place>,
    pub name: [u8; 16],
    pub credentials: Arc<Credentials>,
}

/// The first bytes of a file.
fn start_of(place: &Place, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = place.inode.read_at(0, &mut Bytes(bytes.as_mut_slice()))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Checks that a file may be executed.
fn check(place: &Place, who: &Credentials) -> Result<()> {
    let attributes = place.inode.attributes()?;
    if attributes.kind != Kind::Regular {
        return Err(Errno::EACCES);
    }
    permitted(&attributes, who, access::EXECUTE)
}

/// The interpreter and its argument in a script's first line.
fn script(bytes: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let line = bytes.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let trim = |text: &[u8]| -> Vec<u8> {
        let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |end| end + 1);
        text.get(start..end).unwrap_or_default().to_vec()
    };
    let line = trim(line);
    if line.is_empty() {
        return None;
    }
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(end);
    let argument = trim(rest);
    Some((interpreter.to_vec(), (!argument.is_empty()).then_some(argument)))
}

/// Loads the program at `place`, called `path`.
///
/// # Errors
/// `ENOEXEC`, `EACCES`, `E2BIG`, `ELOOP`, `ENOENT` (the interpreter), `ENOMEM`; nothing has changed then.
pub fn load(
    context: &Context,
    mut place: Arc<Place>,
    path: &[u8],
    mut arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
) -> Result<Loaded> {
    let credentials = context.credentials();
    let mut path = path.to_vec();
    let name = task_name(&path);
    let mut scripts = 0;
    let head = loop {
        check(&place, &credentials)?;
        let bytes = start_of(&place, LOOKED_AT)?;
        let Some((interpreter, argument)) = script(&bytes) else { break bytes };
        scripts += 1;
        if scripts > MOST_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        let mut longer = vec![interpreter.clone()];
        longer.extend(argument);
        longer.push(path);
        longer.extend(arguments.into_iter().skip(1));
        arguments = longer;
        place = walk(context, context.fs.directory(), &interpreter, Walk::default())?.found()?;
        path = interpreter;
    };
    let mm = Mm::new()?;
    let program = Program::read(&place, &head)?;
    let base = if program.head.is_relocatable { Some(PROGRAM_BASE) } else { None };
    let interpreter = match program.interpreter(&place)? {
        None => None,
        Some(path) => {
            let place = walk(context, context.fs.directory(), &path, Walk::default())?.found()?;
            check(&place, &credentials)?;
            let head = start_of(&place, LOOKED_AT)?;
            Some((Program::read(&place, &head).map_err(|_| Errno::ENOEXEC)?, place))
        }
    };
    let bias = program.map(&mm, &place, base)?;
    let heap = program.segments.iter().filter(|segment| segment.kind == elf::LOAD);
    let heap = heap.map(|segment| segment.address + segment.in_memory).max().unwrap_or(0);
    let mut entry = bias.wrapping_add(program.head.entry);
    let mut interpreter_base = 0;
    if let Some((interpreter, place)) = &interpreter {
        interpreter_base = interpreter.map(&mm, place, None)?;
        entry = interpreter_base.wrapping_add(interpreter.head.entry);
    }
    // A page between the program and its heap, so that running over the end of one is noticed.
    mm.set_heap(round_up(bias.wrapping_add(heap)).ok_or(Errno::ENOMEM)? + PAGE);

    // Without it programs make calls.
    let vdso = context.system.vdso.as_ref().and_then(|vdso| vdso.map(&mm).ok());
    let size = round_up(context.process.limit(limit::STACK).0.clamp(STACKS.0, STACKS.1)).unwrap_or(STACKS.0);
    let auxiliary = [
        (aux::MINIMUM_SIGNAL_STACK, 4096),
        (aux::CAPABILITIES, 0),
        (aux::PAGE_SIZE, PAGE),
        (aux::TICKS, 100),
        (aux::HEADS, bias.wrapping_add(program.heads_address())),
        (aux::HEAD_SIZE, elf::PROGRAM_HEAD as u64),
        (aux::HEAD_COUNT, program.segments.len() as u64),
        (aux::BASE, interpreter_base),
        (aux::FLAGS, 0),
        (aux::ENTRY, bias.wrapping_add(program.head.entry)),
        (aux::USER, credentials.user.into()),
        (aux::EFFECTIVE_USER, credentials.effective_user.into()),
        (aux::GROUP, credentials.group.into()),
        (aux::EFFECTIVE_GROUP, credentials.effective_group.into()),
        (aux::SECURE, 0),
        (aux::VDSO, vdso.unwrap_or(0)),
    ];
    let mut random = [0; 16];
    context.system.random(&mut random);
    let built = stack::build(TOP, size / 4, &arguments, environment, &path, random, &auxiliary)?;
    mm.map(MapRequest {
        target: Target::Fixed(TOP - size),
        length: size,
        protection: Protection::READ.union(Protection::WRITE),
        shared: false,
        memory: None,
        file: None,
        name: "[stack]",
        attached: None,
    })?;
    if mm.write_from_outside(built.pointer, &built.bytes) != built.bytes.len() {
        return Err(Errno::ENOMEM);
    }
    *mm.notes.lock() =
        crate::memory::Notes { arguments: built.arguments, environment: built.environment, auxiliary: built.auxiliary };
    let credentials = after_execution(&credentials, &place)?;
    Ok(Loaded { mm, entry, stack: built.pointer, place, name, credentials })
}

/// Who the process is afterwards: set-user-id files give their owner's rights.
fn after_execution(before: &Arc<Credentials>, place: &Place) -> Result<Arc<Credentials>> {
    let attributes = place.inode.attributes()?;
    let mut after = (**before).clone();
    if !after.no_new_privileges {
        if attributes.permissions & 0o4000 != 0 {
            after.effective_user = attributes.uid;
        }
        if attributes.permissions & 0o2010 == 0o2010 {
            after.effective_group = attributes.gid;
        }
    }
    (after.saved_user, after.file_user) = (after.effective_user, after.effective_user);
    (after.saved_group, after.file_group) = (after.effective_group, after.effective_group);
    let gained = if after.effective_user == 0 || after.user == 0 { after.bounding } else { after.ambient };
    after.permitted = gained | after.inheritable & after.ambient;
    after.effective = if after.effective_user == 0 { after.permitted } else { after.ambient };
    after.keep_capabilities = false;
    Ok(if after == **before { before.clone() } else { Arc::new(after) })
}

/// The name that a thread gets from a program's path.
fn task_name(path: &[u8]) -> [u8; 16] {
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(base) {
        *to = *from;
    }
    name
}

/// An ELF file's heads.
struct Program {
    head: Head,
    segments: Vec<Segment>,
}

impl Program {
    fn read(place: &Place, start: &[u8]) -> Result<Program> {
        let head = elf::head(start)?;
        let mut bytes = vec![0; usize::from(head.heads) * elf::PROGRAM_HEAD];
        if place.inode.read_at(head.heads_offset, &mut Bytes(bytes.as_mut_slice()))? != bytes.len() {
            return Err(Errno::ENOEXEC);
        }
        Ok(Program { head, segments: elf::segments(&bytes)? })
    }

    fn loaded(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.kind == elf::LOAD && segment.in_memory > 0)
    }

    /// The path of the interpreter.
    fn interpreter(&self, place: &Place) -> Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.iter().find(|segment| segment.kind == elf::INTERPRETER) else {
            return Ok(None);
        };
        if !(2..=4096).contains(&segment.in_file) {
            return Err(Errno::ENOEXEC);
        }
        let mut path = vec![0; segment.in_file as usize];
        if place.inode.read_at(segment.offset, &mut Bytes(path.as_mut_slice()))? != path.len() || path.pop() != Some(0)
        {
            return Err(Errno::ENOEXEC);
        }
        Ok(Some(path))
    }

    /// Where the program heads are in memory, before the bias.
    fn heads_address(&self) -> u64 {
        if let Some(segment) = self.segments.iter().find(|segment| segment.kind == elf::HEADS) {
            return segment.address;
        }
        let at = self.head.heads_offset;
        let holder = self.loaded().find(|segment| (segment.offset..segment.offset + segment.in_file).contains(&at));
        holder.map_or(0, |segment| segment.address + (at - segment.offset))
    }

    /// Maps the segments; answers what was added to their addresses.
    fn map(&self, mm: &Mm, place: &Arc<Place>, base: Option<u64>) -> Result<u64> {
        let first = self.loaded().map(|segment| segment.address & !(PAGE - 1)).min().ok_or(Errno::ENOEXEC)?;
        let end = self.loaded().map(|segment| segment.address + segment.in_memory).max().ok_or(Errno::ENOEXEC)?;
        let bias = if self.head.is_relocatable {
            let alignment = self.loaded().map(|segment| segment.alignment).filter(|value| value.is_power_of_two());
            let alignment = alignment.max().unwrap_or(PAGE).clamp(PAGE, 1 << 30);
            let target = match base {
                Some(base) => Target::Fixed((base & !(alignment - 1)) + (first & (alignment - 1))),
                None => Target::Hint(0),
            };
            // All of it is reserved first, so that the segments keep their distances.
            let length = end - first + if base.is_none() && alignment > PAGE { alignment } else { 0 };
            let start = mm.map(reserve(target, length))?;
            let start = start.next_multiple_of(alignment);
            start.wrapping_sub(first & !(alignment - 1))
        } else {
            0
        };
        let memory = match place.inode.lies_in()? {
            Some(there) => there,
            None => (place.inode.memory()?, 0),
        };
        for segment in self.loaded() {
            self.map_segment(mm, place, &memory, segment, bias)?;
        }
        Ok(bias)
    }

    fn map_segment(
        &self,
        mm: &Mm,
        place: &Arc<Place>,
        (memory, begin): &(Arc<Memory>, u64),
        segment: &Segment,
        bias: u64,
    ) -> Result<()> {
        let bits = (segment.flags >> 2 & 1) | (segment.flags & 2) | (segment.flags & 1) << 2;
        let protection = Protection::from_bits(bits.into());
        let address = bias.checked_add(segment.address).ok_or(Errno::ENOEXEC)?;
        let start = address & !(PAGE - 1);
        let shift = address - start;
        let mut mapped = start;
        if segment.in_file > 0 {
            let length = segment.in_file + shift;
            let offset = segment.offset - shift;
            mm.map(MapRequest {
                target: Target::Fixed(start),
                length,
                protection,
                shared: false,
                memory: Some((memory.clone(), begin.saturating_add(offset))),
                file: Some(Mapped { place: place.clone(), offset, writable: false }),
                name: "",
                attached: None,
            })?;
            mapped = round_up(start + length).ok_or(Errno::ENOEXEC)?;
            let file_end = address + segment.in_file;
            if segment.in_memory > segment.in_file && protection.contains(Protection::WRITE) {
                let zeroes = vec![0; (mapped - file_end) as usize];
                mm.write_from_outside(file_end, &zeroes);
            }
        }
        let end = round_up(address + segment.in_memory).ok_or(Errno::ENOEXEC)?;
        if end > mapped {
            mm.map(MapRequest { protection, ..reserve(Target::Fixed(mapped), end - mapped) })?;
        }
        Ok(())
    }
}

fn reserve(target: Target, length: u64) -> MapRequest {
    MapRequest {
        target,
        length,
        protection: Protection::NONE,
        shared: false,
        memory: None,
        file: None,
        name: "",
        attached: None,
    }
}
