//! The personality as an image's only program: everything it needs is in the boot archive.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

use tessera_linux::container::{self, Setup};
use tessera_rootfs::Image;
use tessera_rootfs::container::{Container, NOTE_MEMBER, ROOT_MEMBER};
use tessera_runtime::archive::Archive;
use tessera_runtime::object::Vmo;
use tessera_runtime::{Start, log, program};

program!(main);

/// The code with which shells say that a program could not be started.
const NOT_STARTED: i32 = 126;

fn main(mut start: Start) -> i32 {
    let Some(setup) = setup(&mut start) else { return NOT_STARTED };
    match container::start(setup) {
        Ok(()) => container::rest(),
        Err(_) => NOT_STARTED,
    }
}

fn setup(start: &mut Start) -> Option<Setup> {
    let archive = start.take::<Vmo>("archive").and_then(|memory| Archive::new(&memory));
    let archive: &'static Archive = match archive {
        // Kept for as long as the machine runs: files are read from it.
        Ok(archive) => Box::leak(Box::new(archive)),
        Err(error) => {
            log!("linux: no boot archive: {error}");
            return None;
        }
    };
    let (Ok(root), Ok(note)) = (archive.member(ROOT_MEMBER), archive.member(NOTE_MEMBER)) else {
        log!("linux: the image has no `{ROOT_MEMBER}` or no `{NOTE_MEMBER}`: it was not made by `tessera run`");
        return None;
    };
    match Image::new(root) {
        Ok(root) => Some(Setup { root, note: Container::new(note), wall: 0 }),
        Err(error) => {
            log!("linux: the root file system is damaged: {error:?}");
            None
        }
    }
}
