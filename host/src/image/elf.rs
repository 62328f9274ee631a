//! Takes ELF files apart and puts them together, as far as images need it: cuts off what is not loaded (symbols, line
//! tables) and gives the kernel its archive.
//!
//! The kernel's linker script ends with a segment of its own that holds the section `.archive`: page aligned, at the
//! highest addresses, a bare header without an archive. [`with_archive`] appends the real one to the file and makes
//! that segment point to it. Every offset and length is checked: a damaged file is an error, never a panic.

use miette::{Result, miette};
use object::elf::{FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, pod::bytes_of};

use super::archive::{HEADER_LENGTH, MAGIC};

type Header = FileHeader64<Endianness>;
type Segment = object::elf::ProgramHeader64<Endianness>;

const PAGE: u64 = 4096;
/// How segments stand in a file: in memory they begin on pages, and are copied there.
const IN_FILE: u64 = 64;
const LITTLE: Endianness = Endianness::Little;

pub fn damaged(error: object::read::Error) -> miette::Report {
    miette!("the ELF file cannot be read: {error}")
}

fn parse(file: &[u8]) -> Result<(&Header, &[Segment])> {
    let header = Header::parse(file).map_err(damaged)?;
    if header.endian().map_err(damaged)? != LITTLE {
        return Err(miette!("the ELF file is for a big-endian machine"));
    }
    let segments = header.program_headers(LITTLE, file).map_err(damaged)?;
    Ok((header, segments))
}

/// The file without what follows the last loaded byte, and without its section table.
///
/// lld puts everything that is not loaded behind everything that is, so that cutting is enough.
pub fn loadable_part(file: &[u8]) -> Result<Vec<u8>> {
    let (header, segments) = parse(file)?;
    let table = header.e_phoff(LITTLE) + size_of_val(segments) as u64;
    let end = contents_end(segments).max(table);
    let mut cut = slice_to(file, end)?.to_vec();

    let mut header = *header;
    header.e_shoff.set(LITTLE, 0);
    header.e_shnum.set(LITTLE, 0);
    header.e_shstrndx.set(LITTLE, object::elf::SymbolSection(0));
    overwrite(&mut cut, 0, bytes_of(&header))?;
    Ok(cut)
}

/// Where in the file the contents of the last of `segments` end. One without contents may name a place behind all of them.
fn contents_end<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> u64 {
    let with_contents = segments.into_iter().filter(|segment| segment.p_filesz(LITTLE) > 0);
    with_contents.map(|segment| segment.p_offset(LITTLE).saturating_add(segment.p_filesz(LITTLE))).max().unwrap_or(0)
}

/// Where in a program's file its code begins, if it has a page of it or more.
pub fn code(program: &[u8]) -> Option<usize> {
    let (_, segments) = parse(program).ok()?;
    let code =
        segments.iter().find(|segment| segment.p_type(LITTLE) == PT_LOAD && segment.p_flags(LITTLE).contains(PF_X))?;
    (code.p_filesz(LITTLE) >= PAGE).then_some(code.p_offset(LITTLE) as usize)
}

/// The kernel's loadable part with `archive` as the contents of its last segment.
pub fn with_archive(kernel: &[u8], archive: &[u8]) -> Result<Vec<u8>> {
    let (header, segments) = parse(kernel)?;
    let index = archive_segment(kernel, header, segments)?;
    let table = header.e_phoff(LITTLE);

    let mut file = loadable_part(kernel)?;
    // The empty archive goes with what stands before it.
    let others = segments.iter().enumerate().filter(|(other, _)| *other != index);
    let end = contents_end(others.map(|(_, segment)| segment)).max(table + size_of_val(segments) as u64);
    file.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    let offset = (file.len() as u64).next_multiple_of(IN_FILE);
    let mut segment: Segment = segments[index];
    segment.p_offset.set(LITTLE, offset);
    segment.p_align.set(LITTLE, IN_FILE);
    segment.p_filesz.set(LITTLE, archive.len() as u64);
    segment.p_memsz.set(LITTLE, archive.len() as u64);
    let place = table as usize + index * size_of::<Segment>();
    overwrite(&mut file, place, bytes_of(&segment))?;
    file.resize(offset as usize, 0);
    file.extend_from_slice(archive);
    Ok(file)
}

/// The archive of an image.
pub fn archive(image: &[u8]) -> Result<&[u8]> {
    let (_, segments) = parse(image)?;
    archive_of(image, segments).map(|(_, archive)| archive)
}

/// The image with another archive in place of its own.
pub fn replace_archive(image: &[u8], archive: &[u8]) -> Result<Vec<u8>> {
    let (header, segments) = parse(image)?;
    let (index, _) = archive_of(image, segments)?;
    let mut segment: Segment = segments[index];
    let offset = segment.p_offset(LITTLE);
    segment.p_filesz.set(LITTLE, archive.len() as u64);
    segment.p_memsz.set(LITTLE, archive.len() as u64);
    let mut file = Vec::with_capacity(offset as usize + archive.len());
    file.extend_from_slice(slice_to(image, offset)?);
    overwrite(&mut file, header.e_phoff(LITTLE) as usize + index * size_of::<Segment>(), bytes_of(&segment))?;
    file.extend_from_slice(archive);
    Ok(file)
}

/// The segment of an image's archive, and its contents.
fn archive_of<'a>(image: &'a [u8], segments: &[Segment]) -> Result<(usize, &'a [u8])> {
    let loaded = segments.iter().enumerate().filter(|(_, segment)| segment.p_type(LITTLE) == PT_LOAD);
    let last = loaded.max_by_key(|(_, segment)| segment.p_paddr(LITTLE));
    let found = last.and_then(|(index, segment)| Some((index, segment.data(LITTLE, image).ok()?)));
    found
        .filter(|(_, archive)| archive.starts_with(&MAGIC) && archive.len() > HEADER_LENGTH)
        .ok_or_else(|| miette!("the file is no image with an archive"))
}

/// Finds the segment that holds `.archive` and checks that it may grow.
fn archive_segment(kernel: &[u8], header: &Header, segments: &[Segment]) -> Result<usize> {
    let sections = header.sections(LITTLE, kernel).map_err(damaged)?;
    let (_, section) = sections
        .section_by_name(LITTLE, b".archive")
        .ok_or_else(|| miette!("the kernel has no section `.archive`; its linker script must end with one"))?;
    let address = section.sh_addr(LITTLE);
    let is_loaded = |segment: &Segment| segment.p_type(LITTLE) == PT_LOAD;
    let index = segments
        .iter()
        .position(|segment| is_loaded(segment) && segment.p_vaddr(LITTLE) == address)
        .ok_or_else(|| miette!("the kernel's section `.archive` does not begin a loaded segment"))?;
    let own = &segments[index];
    if own.p_memsz(LITTLE) != HEADER_LENGTH as u64 {
        return Err(miette!(
            "the kernel's archive segment has {} bytes, not a bare header's {HEADER_LENGTH}: it shares the segment \
             with something else, or the file is an image already",
            own.p_memsz(LITTLE)
        ));
    }
    if !address.is_multiple_of(PAGE) || !own.p_paddr(LITTLE).is_multiple_of(PAGE) {
        return Err(miette!("the kernel's archive segment is not page aligned ({address:#x})"));
    }
    let above = segments.iter().filter(|segment| is_loaded(segment));
    if above
        .clone()
        .any(|segment| segment.p_paddr(LITTLE) > own.p_paddr(LITTLE) || segment.p_vaddr(LITTLE) > own.p_vaddr(LITTLE))
    {
        return Err(miette!("the kernel's archive segment is not its last: the archive would overlap what follows"));
    }
    Ok(index)
}

fn slice_to(file: &[u8], end: u64) -> Result<&[u8]> {
    usize::try_from(end)
        .ok()
        .and_then(|end| file.get(..end))
        .ok_or_else(|| miette!("the ELF file is cut short: a segment ends at byte {end} of {}", file.len()))
}

pub fn overwrite(file: &mut [u8], offset: usize, bytes: &[u8]) -> Result<()> {
    let place = file
        .get_mut(offset..offset.saturating_add(bytes.len()))
        .ok_or_else(|| miette!("the ELF file is cut short: it has no byte {offset}"))?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// Whether `file` is a kernel whose last segment holds an archive.
pub fn is_image(file: &[u8]) -> bool {
    parse(file).is_ok_and(|(_, segments)| {
        let last = segments
            .iter()
            .filter(|segment| segment.p_type(LITTLE) == PT_LOAD)
            .max_by_key(|segment| segment.p_paddr(LITTLE));
        last.and_then(|segment| segment.data(LITTLE, file).ok()).is_some_and(|bytes| bytes.starts_with(&MAGIC))
    })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
