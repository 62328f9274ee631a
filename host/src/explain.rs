//! `tessera explain`: what an image consists of, before it is built.

use miette::Result;

use crate::cli;
use crate::image::{Description, MachineKind, explained};

/// Prints the domains of an image, what is in them, and what each call crosses.
pub fn explain(arguments: &cli::Explain) -> Result<u8> {
    let mut description = Description::read(&arguments.image)?;
    description.place(arguments.placement);
    let machine = match description.machine() {
        MachineKind::Q35 => "q35",
        MachineKind::Microvm => "microvm",
    };
    println!(
        "image {}: {} of memory, {} processors, machine {machine}",
        description.name(),
        description.memory(),
        description.processors().count()
    );
    match explained(&description)? {
        Some(text) => print!("{text}"),
        None => {
            for program in description.programs() {
                println!("program {} of package {}", program.name, program.package);
            }
        }
    }
    Ok(0)
}
