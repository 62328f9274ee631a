//! Taking ELF files apart and together, on small files that are made here.

use object::elf::{PF_R, PF_X};
use object::pod::bytes_of_slice;

use super::*;

const TEXT: u64 = 0xffff_ffff_8020_0000;
const ARCHIVE: u64 = TEXT + PAGE;
const PHYSICAL: u64 = 0x20_0000;

/// What a made file is like; each test spoils one thing.
struct Made {
    archive_address: u64,
    archive_memory: u64,
    archive_section: &'static [u8],
    text_physical: u64,
}

const GOOD: Made = Made {
    archive_address: ARCHIVE,
    archive_memory: HEADER_LENGTH as u64,
    archive_section: b".archive",
    text_physical: PHYSICAL,
};

/// A kernel with one page of text, the bare archive header in a page of its own, and a section table behind both.
fn make(made: &Made) -> Vec<u8> {
    let mut file = vec![0u8; 2 * PAGE as usize];
    file[PAGE as usize - 1] = 0x90;
    let mut header = bytes_header();
    let mut names = b"\0.shstrtab\0".to_vec();
    let name = names.len() as u32;
    names.extend_from_slice(made.archive_section);
    names.push(0);
    file.extend_from_slice(&MAGIC);
    file.resize(2 * PAGE as usize + HEADER_LENGTH, 0);
    let names_offset = file.len() as u64;
    file.extend_from_slice(&names);
    header.e_shoff.set(LITTLE, file.len() as u64);
    let section = |name: u32, kind, address: u64, offset: u64, size: u64| {
        let mut section = zeroed::<object::elf::SectionHeader64<Endianness>>();
        section.sh_name.set(LITTLE, name);
        section.sh_type.set(LITTLE, kind);
        section.sh_addr.set(LITTLE, address);
        section.sh_offset.set(LITTLE, offset);
        section.sh_size.set(LITTLE, size);
        section
    };
    let sections = [
        section(0, object::elf::SHT_NULL, 0, 0, 0),
        section(1, object::elf::SHT_STRTAB, 0, names_offset, names.len() as u64),
        section(name, object::elf::SHT_PROGBITS, made.archive_address, 2 * PAGE, HEADER_LENGTH as u64),
    ];
    file.extend_from_slice(bytes_of_slice(&sections));
    let segment = |flags, address: u64, physical: u64, offset: u64, size: u64, memory: u64| {
        let mut segment = zeroed::<Segment>();
        segment.p_type.set(LITTLE, PT_LOAD);
        segment.p_flags.set(LITTLE, flags);
        segment.p_vaddr.set(LITTLE, address);
        segment.p_paddr.set(LITTLE, physical);
        segment.p_offset.set(LITTLE, offset);
        segment.p_filesz.set(LITTLE, size);
        segment.p_memsz.set(LITTLE, memory);
        segment.p_align.set(LITTLE, PAGE);
        segment
    };
    let segments = [
        segment(PF_R | PF_X, TEXT, made.text_physical, 0, PAGE, PAGE),
        segment(PF_R, made.archive_address, PHYSICAL + PAGE, 2 * PAGE, HEADER_LENGTH as u64, made.archive_memory),
    ];
    overwrite(&mut file, 0, bytes_of(&header)).unwrap();
    overwrite(&mut file, 64, bytes_of_slice(&segments)).unwrap();
    file
}

fn zeroed<T: object::pod::Pod + Copy>() -> T {
    let zeroes = vec![0u8; size_of::<T>()];
    *object::pod::from_bytes::<T>(&zeroes).unwrap().0
}

fn bytes_header() -> Header {
    let mut header = zeroed::<Header>();
    header.e_ident.magic = object::elf::ELFMAG;
    header.e_ident.class = object::elf::ELFCLASS64;
    header.e_ident.data = object::elf::ELFDATA2LSB;
    header.e_ident.version = object::elf::EV_CURRENT as _;
    header.e_phoff.set(LITTLE, 64);
    header.e_ehsize.set(LITTLE, 64);
    header.e_phentsize.set(LITTLE, 56);
    header.e_phnum.set(LITTLE, 2);
    header.e_shentsize.set(LITTLE, 64);
    header.e_shnum.set(LITTLE, 3);
    header.e_shstrndx.set(LITTLE, object::elf::SymbolSection(1));
    header
}

#[test]
fn the_loadable_part_ends_with_the_last_loaded_byte_and_names_no_sections() {
    let file = make(&GOOD);
    let cut = loadable_part(&file).unwrap();
    assert_eq!(cut.len(), 2 * PAGE as usize + HEADER_LENGTH);
    let (header, segments) = parse(&cut).unwrap();
    assert_eq!((header.e_shoff(LITTLE), header.e_shnum(LITTLE)), (0, 0));
    assert_eq!(segments.len(), 2);
    assert_eq!(cut[64..], file[64..cut.len()], "all else is unchanged");
}

#[test]
fn an_image_loads_the_archive_where_the_bare_header_was() {
    let kernel = make(&GOOD);
    let archive: Vec<u8> = MAGIC.iter().copied().chain((0..10_000u32).map(|byte| byte as u8)).collect();
    assert!(!is_image(&kernel[..100]));
    let image = with_archive(&kernel, &archive).unwrap();
    let (_, segments) = parse(&image).unwrap();
    let last = &segments[1];
    assert_eq!(last.p_vaddr(LITTLE), ARCHIVE);
    assert_eq!(last.p_paddr(LITTLE), PHYSICAL + PAGE);
    // What loaders rely on: place and address are alike, as far as the alignment says.
    assert!(last.p_align(LITTLE).is_power_of_two() && last.p_vaddr(LITTLE).is_multiple_of(PAGE));
    assert_eq!((last.p_vaddr(LITTLE) - last.p_offset(LITTLE)) % last.p_align(LITTLE), 0);
    assert_eq!(last.p_memsz(LITTLE), archive.len() as u64);
    assert_eq!(last.data(LITTLE, image.as_slice()).unwrap(), archive);
    assert_eq!(segments[0].data(LITTLE, image.as_slice()).unwrap().last(), Some(&0x90), "the text is still there");
    assert!(is_image(&image));
}

#[test]
fn a_segment_without_contents_takes_no_place_in_the_file() {
    let archive = [MAGIC.as_slice(), &[7; 100]].concat();
    let mut kernel = make(&GOOD);
    // The text has none but the table, and names a place behind the archive's.
    for (field, value) in [(8, 9 * PAGE), (32, 0)] {
        overwrite(&mut kernel, 64 + field, &value.to_le_bytes()).unwrap();
    }
    let image = with_archive(&kernel, &archive).unwrap();
    let offset = (64 + 2 * size_of::<Segment>() as u64).next_multiple_of(IN_FILE);
    let (_, segments) = parse(&image).unwrap();
    assert_eq!(segments[1].p_offset(LITTLE), offset);
    assert_eq!(image.len() as u64, offset + archive.len() as u64);
    assert_eq!(loadable_part(&image).unwrap().len(), image.len());
}

#[test]
fn a_kernel_whose_archive_segment_cannot_grow_is_refused() {
    let cases: [(Made, &str); 4] = [
        (Made { archive_section: b".archives", ..GOOD }, "no section `.archive`"),
        (Made { archive_memory: 4096, ..GOOD }, "4096 bytes"),
        (Made { archive_address: ARCHIVE + 64, ..GOOD }, "not page aligned"),
        (Made { text_physical: PHYSICAL + 2 * PAGE, ..GOOD }, "not its last"),
    ];
    for (made, expected) in cases {
        let told = with_archive(&make(&made), &MAGIC).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn an_image_does_not_take_a_second_archive() {
    let image = with_archive(&make(&GOOD), &[MAGIC.as_slice(), &[0; 100]].concat()).unwrap();
    assert!(with_archive(&image, &MAGIC).is_err());
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let file = make(&GOOD);
    for length in (0..file.len()).step_by(7) {
        let _ = is_image(&file[..length]);
        let cut = loadable_part(&file[..length]);
        assert!(cut.is_err() || length >= 2 * PAGE as usize + HEADER_LENGTH, "cut at {length}");
        assert!(with_archive(&file[..length], &MAGIC).is_err(), "cut at {length}");
    }
    for byte in 0..200 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut spoiled = file.clone();
            spoiled[byte] = value;
            let _ = (is_image(&spoiled), loadable_part(&spoiled), with_archive(&spoiled, &MAGIC));
        }
    }
}
