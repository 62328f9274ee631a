//! Links a program with the kernel: its system calls become calls of the kernel.
//!
//! A program is built once, for either mode of the processor. Each of its `syscall` instructions stands behind four prefixes that
//! say nothing (`runtime/src/raw.rs`), so that a call through a word of memory fits in its place; the words lie in the program, and are
//! filled in here with the addresses of the kernel's entries. In the ELF header it is noted at which level the program runs.

use miette::{IntoDiagnostic, Result, miette};
use object::Endianness;
use object::elf::{FileHeader64, PF_X, PT_LOAD, SHT_SYMTAB};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use tessera_plan::Level;

use super::elf::{damaged, overwrite};

const LITTLE: Endianness = Endianness::Little;

/// The instruction that the kernel is called by in user mode, and what takes its place: `call [rip + …]`.
const CALL: ([u8; 6], [u8; 2]) = ([0x3e, 0x3e, 0x3e, 0x3e, 0x0f, 0x05], [0xff, 0x15]);
/// The same where no stack may be used: `jmp [rip + …]`.
const JUMP: ([u8; 6], [u8; 2]) = ([0x26, 0x26, 0x26, 0x26, 0x0f, 0x05], [0xff, 0x25]);
/// The words in the program, and the entries of the kernel that go there, in their order.
const WORDS: &str = "tessera_kernel_calls";
const ENTRIES: [&str; 2] = ["direct_call", "direct_jump"];
/// The instruction that reads the thread pointer in user mode: `mov REGISTER, fs:[0]`, with the register's bits as zeroes. In the kernel's
/// mode it goes by GS, where the kernel keeps the pointer at an offset that it names.
const POINTER: [u8; 5] = [0x64, 0x48, 0x8b, 0x04, 0x25];
const REGISTER: [u8; 5] = [0, 0x04, 0, 0x38, 0];
const GS: u8 = 0x65;
const THREAD_POINTER: &str = "program_pointer";
/// Where the ELF header has its flags.
const FLAGS: usize = 48;

/// `program`, linked with `kernel` to run at `level`.
pub fn link(program: &[u8], kernel: &[u8], level: Level) -> Result<Vec<u8>> {
    let mut linked = program.to_vec();
    let code = match level {
        Level::User => return Ok(linked),
        level => level.code(),
    };
    let header = FileHeader64::<Endianness>::parse(program).map_err(damaged)?;
    let segments = header.program_headers(LITTLE, program).map_err(damaged)?;
    let words = symbol(program, WORDS)?;
    let place = segments.iter().find_map(|segment| {
        let within = words.checked_sub(segment.p_vaddr(LITTLE))?;
        let there = segment.p_type(LITTLE) == PT_LOAD && within < segment.p_filesz(LITTLE);
        there.then_some((segment.p_offset(LITTLE) + within) as usize)
    });
    let place = place.ok_or_else(|| miette!("the program's symbol `{WORDS}` lies in none of its segments"))?;
    for (index, entry) in ENTRIES.iter().enumerate() {
        overwrite(&mut linked, place + index * 8, &symbol(kernel, entry)?.to_le_bytes())?;
    }
    let pointer = u32::try_from(symbol(kernel, THREAD_POINTER)?).into_diagnostic()?;
    let mut replaced = 0;
    for segment in segments.iter().filter(|segment| segment.p_type(LITTLE) == PT_LOAD) {
        if !segment.p_flags(LITTLE).contains(PF_X) {
            continue;
        }
        let text = segment.data(LITTLE, program).map_err(|()| miette!("the program is cut short"))?;
        let (offset, address) = (segment.p_offset(LITTLE) as usize, segment.p_vaddr(LITTLE));
        for at in 0..text.len() {
            if is_pointer(&text[at..]) {
                overwrite(&mut linked, offset + at, &[GS])?;
                overwrite(&mut linked, offset + at + POINTER.len(), &pointer.to_le_bytes())?;
            }
            for (index, (from, to)) in [CALL, JUMP].iter().enumerate() {
                if !text[at..].starts_with(from) {
                    continue;
                }
                let behind = address + (at + from.len()) as u64;
                let distance = (words + index as u64 * 8).wrapping_sub(behind).cast_signed();
                let distance = i32::try_from(distance).map_err(|_| {
                    miette!("the program is too large: its system call at {behind:#x} cannot be linked")
                })?;
                overwrite(&mut linked, offset + at, to)?;
                overwrite(&mut linked, offset + at + to.len(), &distance.to_le_bytes())?;
                replaced += 1;
            }
        }
    }
    if replaced == 0 {
        return Err(miette!("the program makes no system call: it is not one for Tessera"));
    }
    overwrite(&mut linked, FLAGS, &code.to_le_bytes())?;
    Ok(linked)
}

/// Whether `code` begins with the instruction that reads the thread pointer.
fn is_pointer(code: &[u8]) -> bool {
    let Some((first, rest)) = code.split_first_chunk::<5>() else { return false };
    let same = first.iter().zip(POINTER).zip(REGISTER).all(|((byte, wanted), register)| byte & !register == wanted);
    same && rest.starts_with(&[0; 4])
}

/// The address of a symbol.
fn symbol(file: &[u8], name: &str) -> Result<u64> {
    let header = FileHeader64::<Endianness>::parse(file).map_err(damaged)?;
    let sections = header.sections(LITTLE, file).map_err(damaged)?;
    let symbols = sections.symbols(LITTLE, file, SHT_SYMTAB).map_err(damaged)?;
    let found = symbols.iter().find(|symbol| symbol.name(LITTLE, symbols.strings()) == Ok(name.as_bytes()));
    found.map(|symbol| symbol.st_value(LITTLE)).ok_or_else(|| miette!("the ELF file has no symbol `{name}`"))
}
