//! Reads the root image and the note of a container inside the machine, and prints what it finds: the host's test
//! compares that with what it packed. It maps a file of the image from the archive's memory, as whoever runs containers
//! does.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tessera_rootfs::container::{Container, NOTE_MEMBER, ROOT_MEMBER};
use tessera_rootfs::{Image, Inode, Kind, NodeNumber, PAGE};
use tessera_runtime::archive::Archive;
use tessera_runtime::object::Vmo;
use tessera_runtime::{Start, log, program};

program!(main);

fn main(mut start: Start) -> i32 {
    match probe(&mut start) {
        Ok(()) => 0,
        Err(what) => {
            log!("failed: {what}");
            1
        }
    }
}

fn probe(start: &mut Start) -> Result<(), &'static str> {
    let memory: Vmo = start.take("archive").map_err(|_| "there is no archive")?;
    let archive = Archive::new(&memory).map_err(|_| "the archive cannot be shown")?;
    let note = Container::new(archive.member(NOTE_MEMBER).map_err(|_| "there is no note")?);
    for argument in note.arguments() {
        log!("argument: {}", text(argument));
    }
    log!("user {} group {} in {}", note.user(), note.group(), text(note.directory()));

    let place = archive.place(ROOT_MEMBER).map_err(|_| "there is no root image")?;
    log!("the root image begins {} bytes into a page", place.start % PAGE);
    let image = Image::new(archive.member(ROOT_MEMBER).map_err(|_| "there is no root image")?)
        .map_err(|_| "the root image is damaged")?;
    let mut found = Found::default();
    walk(&image, image.root(), 0, &mut found)?;
    log!("{} directories, {} files, {} links", found.directories, found.files, found.links);
    // The same sum as the host makes: it depends on every byte and on no order.
    log!("{} bytes, sum {:#x}", found.bytes, found.sum);

    let Some((offset, length)) = found.largest else { return Err("there is no file") };
    let mut first = [0; 16];
    let wanted = first.get_mut(..usize::try_from(length.min(16)).unwrap_or(16)).unwrap_or_default();
    memory.read(place.start + offset, wanted).map_err(|_| "the archive's memory cannot be read")?;
    log!("the largest file begins with {:?}", wanted);
    Ok(())
}

#[derive(Default)]
struct Found {
    directories: u64,
    files: u64,
    links: u64,
    bytes: u64,
    sum: u64,
    /// Where the largest file lies in the image, and its length.
    largest: Option<(u64, u64)>,
}

fn walk(image: &Image, number: NodeNumber, depth: usize, found: &mut Found) -> Result<(), &'static str> {
    const DAMAGED: &str = "the root image is damaged";
    if depth > 64 {
        return Err("the directories are too deep");
    }
    let inode = image.inode(number).map_err(|_| DAMAGED)?;
    match inode.kind() {
        Kind::Directory => {
            found.directories += 1;
            for entry in image.entries(&inode, 0).map_err(|_| DAMAGED)? {
                let entry = entry.map_err(|_| DAMAGED)?;
                if entry.name != b"." && entry.name != b".." {
                    walk(image, entry.number, depth + 1, found)?;
                }
            }
        }
        Kind::Regular => {
            found.files += 1;
            file(image, &inode, found).ok_or(DAMAGED)?;
        }
        Kind::Link => found.links += 1,
        _ => {}
    }
    Ok(())
}

fn file(image: &Image, inode: &Inode, found: &mut Found) -> Option<()> {
    let extent = image.data_extent(inode).ok()??;
    let mut piece = [0; 4096];
    let mut offset = 0;
    while offset < inode.size {
        let length = image.read(inode, offset, &mut piece).ok().filter(|length| *length > 0)?;
        found.sum = piece.get(..length)?.iter().fold(found.sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        offset += length as u64;
    }
    found.bytes += inode.size;
    if found.largest.is_none_or(|(_, length)| inode.size > length) {
        found.largest = Some((extent.start, inode.size));
    }
    Some(())
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("(not UTF-8)")
}
