//! `tessera explain`: what an image consists of: its domains, what each may reach and how, what it rests on, what its fault takes along.
//!
//! [`model`] is what is told, made by `image/explain.rs`; [`linked`] and [`source`] count the code, [`cost`] finds what was measured;
//! [`text`], [`draw`] and [`page`] tell it.

mod cost;
mod draw;
mod layout;
pub mod linked;
pub mod model;
mod page;
pub mod source;
pub mod text;

use std::path::Path;

use miette::Result;

use crate::bench;
use crate::cli;
use crate::container::{self, Source, launch};
use crate::image::{self, Description};
use crate::native::{Project, Wishes};
use crate::progress::Step;
use crate::workspace;

pub use cost::record;
use model::Picture;

/// Explains an image, a project or a container, in words and perhaps as a picture.
pub fn explain(arguments: &cli::Explain) -> Result<u8> {
    let path = Path::new(&arguments.what);
    let (mut description, program) = if Project::is(path) {
        (Project::read(path)?.description(&Wishes::default())?, None)
    } else if path.extension().is_some_and(|extension| extension == "toml") {
        (Description::read(path)?, None)
    } else {
        (launch::system(None, None)?, Some(Source::of(&arguments.what)?))
    };
    description.place(arguments.placement);
    let mut step = Step::start("counting lines");
    let Some(mut picture) = image::picture(&description)? else {
        drop(step);
        for program in description.programs() {
            println!("program {} of package {}", program.name, program.package);
        }
        return Ok(0);
    };
    if let Some(source) = program {
        step.note("reading the container");
        describe(&mut picture, &source, &arguments.words)?;
    }
    drop(step);
    if arguments.measure {
        bench::bench(&cli::Bench { what: cli::Benchmark::Interface, json: false, peer: false })?;
        println!();
    }
    let costs = cost::Costs::recorded();
    print!("{}", text::text(&picture, costs.as_ref()));
    if let Some(file) = &arguments.svg {
        image::write(file, draw::file(&picture).as_bytes())?;
        eprintln!("tessera: the picture is in {}", workspace::shown(file));
    }
    if let Some(file) = &arguments.html {
        image::write(file, page::page(&picture, costs.as_ref()).as_bytes())?;
        eprintln!("tessera: the page is in {}", workspace::shown(file));
    }
    Ok(0)
}

/// Says what a container runs, in place of the system that it runs on.
fn describe(picture: &mut Picture, source: &Source, words: &[String]) -> Result<()> {
    let (arguments, bytes) = container::told(source, words)?;
    let size = model::grouped(bytes.div_ceil(1024) as usize);
    picture.program = Some(format!("{} (its files take {size} KiB of the memory)", arguments.join(" ")));
    picture.name = source.name();
    Ok(())
}
