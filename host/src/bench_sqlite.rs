//! What a row costs sqlite, in a transaction of many and in one of its own: Debian's program as a container in each placement and on
//! Debian's kernel, both times started by `bench/linux/sqlite.c`, which counts.

use miette::{IntoDiagnostic, Result};
use tempfile::TempDir;

use super::linux::Peer;
use super::placement::{compile, measure};
use super::{Figure, figures};
use crate::container::{self, Mode, Overrides, Source, Volume};
use crate::image::Placement;
use crate::qemu::{Boot, Engine};
use crate::symbols::Symbols;

const PROGRAM: &str = "bench/linux/sqlite.c";
const PACKAGE: &str = "debian:sqlite3";
/// Where the measuring program's folder is in the guest, and how it is started there.
const FILES: &str = "/bench";
const WORDS: [&str; 1] = ["/bench/sqlite"];

/// Debian's sqlite3 and what measures it.
pub struct Sqlite {
    source: Source,
    files: TempDir,
}

impl Sqlite {
    /// Builds the measuring program.
    pub fn compile() -> Result<Self> {
        let files = tempfile::tempdir().into_diagnostic()?;
        compile(PROGRAM, &files.path().join("sqlite"))?;
        Ok(Self { source: Source::of(PACKAGE)?, files })
    }

    fn volumes(&self) -> Vec<Volume> {
        vec![Volume { host: self.files.path().to_owned(), guest: FILES.to_owned(), mode: Mode::Copy }]
    }

    /// The figures in a container.
    pub fn measure(&self, placement: Placement, engine: Engine) -> Result<Vec<Figure>> {
        let words = WORDS.map(str::to_owned).to_vec();
        let overrides = Overrides { words, volumes: self.volumes(), ..Overrides::default() };
        Ok(measure(&self.source, &overrides, placement, engine)?.0)
    }

    /// The figures on Debian's kernel.
    pub fn measure_peer(&self, peer: &Peer, engine: Engine) -> Result<Vec<Figure>> {
        let root = container::root_image_with(&self.source, &self.volumes())?;
        let boot = peer.running("sqlite", &root, &WORDS, &[])?;
        figures(&Boot { engine, ..boot }, Symbols::default())
    }
}
