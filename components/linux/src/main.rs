//! The personality as an image's only program: everything it needs is in the boot archive.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tessera_linux::container::{self, Setup};
use tessera_runtime::component::StartError;
use tessera_runtime::object::Vmo;
use tessera_runtime::{Start, log, program};

program!(main);

/// The code with which shells say that a program could not be started.
const NOT_STARTED: i32 = 126;

fn main(mut start: Start) -> i32 {
    let setup = start.take::<Vmo>("archive").map_err(Into::into).and_then(|archive| Setup::of(&archive));
    let outcome = setup.and_then(|setup| container::start(setup).map_err(|error| StartError::new(error.name())));
    match outcome {
        Ok(()) => container::rest(),
        Err(error) => {
            log!("linux: {error}");
            NOT_STARTED
        }
    }
}
