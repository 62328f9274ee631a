//! The first program: `init` from the boot archive, as an ELF file.
//!
//! The archive is what the person who built the image put there, so a fault in it is theirs to mend: it is told in
//! words and the machine is turned off. Nothing in it can make the kernel read outside of it.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use tar_no_std::TarArchiveRef;
use tessera_abi::{Level, PAGE};
use tessera_core::Segment;

use crate::memory;

const MAGIC: &[u8; 16] = b"TESSERA-ARCHIVE\0";
/// Magic, length of the tar file, its hash (which the host command checks), reserved: one block of a tar file, so that
/// members can begin on a page.
const HEADER: u64 = 512;
/// Most segments of a program, and most arguments.
pub const SEGMENTS: usize = 16;
pub const ARGUMENTS: usize = 64;

/// The archive's place in physical memory, header included.
#[derive(Clone, Copy)]
pub struct Archive {
    pub start: u64,
    pub length: u64,
}

/// `init`, taken apart.
pub struct Init {
    pub segments: [Segment<'static>; SEGMENTS],
    pub segment_count: usize,
    pub entry: u64,
    pub level: Level,
    pub arguments: [&'static str; ARGUMENTS],
    pub argument_count: usize,
}

impl Archive {
    /// Finds the archive at the end of the image. With the early tables: only the header is looked at.
    pub fn find() -> Result<Archive, &'static str> {
        let start = memory::image().archive;
        // SAFETY: the image's last segment holds at least the header, nobody writes to it, and it is mapped.
        let header = unsafe { memory::bytes(start, HEADER as usize) };
        let Some((magic, rest)) = header.split_first_chunk::<16>() else {
            return Err("the boot archive has no header");
        };
        if magic != MAGIC {
            return Err("the boot archive's header is damaged: build the image again with `tessera build`");
        }
        let length = rest.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length));
        if length == 0 {
            return Err("this is a bare kernel without a boot archive: make an image of it with `tessera build`");
        }
        Ok(Archive { start, length: HEADER + length })
    }

    /// Takes `init` and its arguments out. After the direct map is loaded.
    #[optimize(size)]
    pub fn init(&self) -> Result<Init, &'static str> {
        // SAFETY: `memory::divide` kept the archive out of the free memory, so nobody ever writes to it, and it is RAM.
        let tar = unsafe { memory::bytes(self.start + HEADER, (self.length - HEADER) as usize) };
        let archive =
            TarArchiveRef::new(tar).map_err(|_| "the boot archive is not a tar file: build the image again")?;
        let member = |name: &str| {
            archive.entries().find(|entry| entry.filename().as_str() == Ok(name)).map(|entry| entry.data())
        };
        let program = member("init")
            .ok_or("the boot archive has no member `init`: name a program under [init] in the image's description")?;
        let mut init = load(program, HEADER + (program.as_ptr().addr() - tar.as_ptr().addr()) as u64)?;
        let text = core::str::from_utf8(member("arguments").unwrap_or_default())
            .map_err(|_| "the member `arguments` of the boot archive is not UTF-8")?;
        for argument in text.split_terminator('\0') {
            init.add_argument(argument)?;
        }
        Ok(init)
    }
}

impl Init {
    /// Appends one argument.
    pub fn add_argument(&mut self, argument: &'static str) -> Result<(), &'static str> {
        let place =
            self.arguments.get_mut(self.argument_count).ok_or("more than 64 arguments for the first program")?;
        *place = argument;
        self.argument_count += 1;
        Ok(())
    }
}

/// Takes the program apart that stands at byte `begin` of the archive.
#[optimize(size)]
fn load(program: &'static [u8], begin: u64) -> Result<Init, &'static str> {
    const DAMAGED: &str = "`init` in the boot archive is not a program: it is no ELF file, or a damaged one";
    let file = ElfBytes::<LittleEndian>::minimal_parse(program).map_err(|_| DAMAGED)?;
    if file.ehdr.e_machine != EM_X86_64 || file.ehdr.e_type != ET_EXEC {
        return Err(
            "`init` in the boot archive is no program for this machine: it must be an x86-64 executable with fixed addresses",
        );
    }
    let mut init = Init {
        segments: [const { Segment { address: 0, memory: 0, data: &[], place: None, write: false, execute: false } };
            SEGMENTS],
        segment_count: 0,
        entry: file.ehdr.e_entry,
        level: Level::from_code(file.ehdr.e_flags.into()).ok_or(DAMAGED)?,
        arguments: [""; ARGUMENTS],
        argument_count: 0,
    };
    for header in file.segments().ok_or(DAMAGED)?.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
    {
        // A segment may begin within a page; ELF makes address and offset agree there.
        let before = header.p_vaddr % PAGE;
        let start = header.p_offset.checked_sub(before).ok_or(DAMAGED)?;
        let end = header.p_offset.checked_add(header.p_filesz).ok_or(DAMAGED)?;
        let part = |start: u64, end: u64| program.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
        let data = part(start, end).ok_or(DAMAGED)?;
        let (place, last) = (begin + start, (begin + end).next_multiple_of(PAGE) - begin);
        // What follows in its last page is the program's own too, and may be seen beside a segment that is only read.
        let is_whole = header.p_filesz == header.p_memsz && header.p_flags & PF_W == 0;
        let data = part(start, last).filter(|_| is_whole && place.is_multiple_of(PAGE)).unwrap_or(data);
        let memory = header.p_memsz.checked_add(before).and_then(|memory| memory.checked_next_multiple_of(PAGE));
        let memory = memory.filter(|&memory| memory >= data.len() as u64).ok_or(DAMAGED)?;
        let segment =
            init.segments.get_mut(init.segment_count).ok_or("`init` in the boot archive has more than 16 segments")?;
        *segment = Segment {
            address: header.p_vaddr - before,
            memory,
            data,
            place: place.is_multiple_of(PAGE).then_some(place),
            write: header.p_flags & PF_W != 0,
            execute: header.p_flags & PF_X != 0,
        };
        init.segment_count += 1;
    }
    Ok(init)
}
