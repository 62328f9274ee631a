//! Taking samples, and starting the server that a measurement calls.

use alloc::vec::Vec;

use tessera_runtime::archive::Archive;
use tessera_runtime::object::{Endpoint, Pool, Session, Vmo, ticks};
use tessera_runtime::{Object, Program, Result, Start, log, own};

/// Readings a figure is the median of.
pub const SAMPLES: usize = 513;

/// The median cost of `action`, in ticks, without that of reading the counter.
pub fn sample(mut action: impl FnMut()) -> u64 {
    let empty = median(|| {});
    median(&mut action).saturating_sub(empty)
}

fn median(mut action: impl FnMut()) -> u64 {
    let mut readings = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let before = ticks();
        action();
        readings.push(ticks().wrapping_sub(before));
    }
    readings.sort_unstable();
    readings.get(SAMPLES / 2).copied().unwrap_or(0)
}

/// Prints one figure.
pub fn report(name: &str, value: u64) {
    log!("bench {name} {value} ticks");
}

/// What measurements between processes need.
pub struct Bench {
    archive: Vmo,
}

impl Bench {
    /// Takes the boot archive, where the server's program is.
    pub fn new(start: &mut Start) -> Result<Bench> {
        Ok(Bench { archive: start.take("archive")? })
    }

    /// Runs `client` with the endpoint of a server process of one shape, which is ended afterwards.
    pub fn started(&self, shape: &str, client: impl FnOnce(&Endpoint, &Pool) -> Result<()>) -> Result<()> {
        let archive = Archive::new(&self.archive)?;
        let (pool, budget) = (own::pool(), own::budget());
        let endpoint = Endpoint::create(&pool)?;
        let _server = Program::new("server", archive.program("bench")?, &pool, &budget)
            .standard()?
            .argument(&alloc::format!("serve={shape}"))
            .handle("endpoint", endpoint.try_clone()?)
            .start()?;
        client(&endpoint, &pool)
    }

    /// Runs `client` with a session of a server process that answers calls of one shape.
    pub fn served(&self, shape: &str, client: impl FnOnce(&Session)) -> Result<()> {
        let archive = Archive::new(&self.archive)?;
        let (pool, budget) = (own::pool(), own::budget());
        let endpoint = Endpoint::create(&pool)?;
        let session = Session::create(&endpoint, &pool, 1)?;
        let server = Program::new("server", archive.program("bench")?, &pool, &budget)
            .standard()?
            .argument(&alloc::format!("serve={shape}"))
            .handle("endpoint", endpoint.try_clone()?)
            .start()?;
        // The first call waits until the server receives.
        session.call_words(0, [0; 0])?;
        client(&session);
        drop(session);
        // With its last session closed the server ends by itself.
        server.wait(None)?;
        Ok(())
    }
}
