//! What calls of an interface cost: of an object of this domain, and of one in another process, beside the bare call below.

use alloc::sync::Arc;
use alloc::vec;

use tessera_runtime::object::{Endpoint, Session};
use tessera_runtime::{Cap, InterfaceError, Result, Server, Start, TransportError, interface};

use crate::measure::{Bench, report, sample};

/// An object that does next to nothing, so that what is measured is the way to it.
#[interface]
pub trait Sample {
    fn nothing(&self) -> core::result::Result<(), SampleError>;
    fn add(&self, one: u64, other: u64) -> core::result::Result<u64, SampleError>;
    fn read(&self, from: &[u8]) -> core::result::Result<u64, SampleError>;
    fn fill(&self, into: &mut [u8]) -> core::result::Result<(), SampleError>;
    #[fills]
    fn fill_some(&self, into: &mut [u8]) -> core::result::Result<u64, SampleError>;
    fn object(&self) -> core::result::Result<Cap<dyn Sample>, SampleError>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum SampleError {
    Transport(TransportError),
}

struct Object;

impl Sample for Object {
    fn nothing(&self) -> core::result::Result<(), SampleError> {
        Ok(())
    }

    fn add(&self, one: u64, other: u64) -> core::result::Result<u64, SampleError> {
        Ok(one.wrapping_add(other))
    }

    fn read(&self, from: &[u8]) -> core::result::Result<u64, SampleError> {
        Ok(from.len() as u64)
    }

    fn fill(&self, into: &mut [u8]) -> core::result::Result<(), SampleError> {
        if let Some(first) = into.first_mut() {
            *first = 1;
        }
        Ok(())
    }

    fn fill_some(&self, into: &mut [u8]) -> core::result::Result<u64, SampleError> {
        Ok(into.len().min(64) as u64)
    }

    fn object(&self) -> core::result::Result<Cap<dyn Sample>, SampleError> {
        Ok(Cap::local(Arc::new(Object)))
    }
}

/// The other process: serves the object until the first process ends the machine.
pub fn serve(start: &mut Start) -> i32 {
    let Ok(endpoint) = start.take::<Endpoint>("endpoint") else { return 2 };
    let mut server = Server::new(endpoint, 1);
    server.provide::<dyn Sample>(0, Arc::new(Object));
    let _ = server.run(1);
    1
}

/// Measures both.
pub fn run(bench: &Bench) -> Result<()> {
    let mut refused = false;
    bench.served("words", |session| {
        report("bare-call-0-words", sample(|| refused |= session.call_words(0, []).is_err()));
        report("bare-call-4-words", sample(|| refused |= session.call_words(4, [1; 4]).is_err()));
    })?;
    // Hidden from the compiler, which would else call the object directly.
    let local: Cap<dyn Sample> = core::hint::black_box(Cap::local(Arc::new(Object)));
    refused |= measure("local", &local);
    bench.started("interface", |endpoint, pool| {
        let remote = Cap::<dyn Sample>::remote(Session::create(endpoint, pool, 0)?);
        refused |= remote.add(1, 2) != Ok(3) || measure("remote", &remote);
        Ok(())
    })?;
    if refused { Err(tessera_runtime::Error::BadState) } else { Ok(()) }
}

/// The lengths of slices, in bytes, by the names of their lines.
const LENGTHS: [(&str, usize); 3] = [("64-bytes", 64), ("4-kib", 4096), ("64-kib", 65536)];

/// Measures each method; whether a call was refused, whose figure would be far too small.
fn measure(place: &str, object: &Cap<dyn Sample>) -> bool {
    let line = |what: &str, cost: u64| report(&alloc::format!("{place}-{what}"), cost);
    let mut refused = false;
    line("0-words", sample(|| refused |= object.nothing().is_err()));
    line("2-words", sample(|| refused |= object.add(1, 2).is_err()));
    let mut memory = vec![1_u8; 65536 + 4096];
    let page = memory.as_ptr().align_offset(4096);
    for (name, length) in LENGTHS {
        let Some(slice) = memory.get_mut(page..page + length) else { continue };
        line(&alloc::format!("read-{name}"), sample(|| refused |= object.read(slice).is_err()));
        line(&alloc::format!("fill-{name}"), sample(|| refused |= object.fill(slice).is_err()));
    }
    if let Some(slice) = memory.get_mut(page..page + 4096) {
        line("fill-64-bytes-of-4-kib", sample(|| refused |= object.fill_some(slice).is_err()));
    }
    line("object-and-its-end", sample(|| refused |= object.object().is_err()));
    refused
}
