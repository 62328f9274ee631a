//! Takes all that it can get: half of its threads burn processor time, the others call a server without pause, with the longest slices that it takes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec;

use tessera_interfaces::{Cap, Echo};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::{log, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// Whom it floods with calls.
    pub echo: Route<dyn Echo>,
}

/// The component.
#[derive(Debug)]
pub struct Hog;

/// Threads of each kind.
const THREADS: usize = 4;
/// The longest slice that can be lent.
const LONGEST: usize = 1 << 20;

impl Hog {
    /// Constructs it.
    pub fn new(_: Context, uses: Uses) -> Result<Arc<Hog>, StartError> {
        for _ in 0..THREADS {
            let echo = uses.echo.cap.clone();
            thread::spawn(move || flood(&echo))?;
            thread::spawn(|| {
                loop {
                    core::hint::spin_loop();
                }
            })?;
        }
        Ok(Arc::new(Hog))
    }
}

/// Calls without pause; with half as much whenever it is refused.
fn flood(echo: &Cap<dyn Echo>) {
    let (from, mut into) = (vec![7; LONGEST], vec![0; LONGEST]);
    let mut length = LONGEST;
    loop {
        let lent = from.get(..length).zip(into.get_mut(..length));
        let Some((from, into)) = lent else { return };
        if let Err(error) = echo.echo(from, into) {
            log!("hog: {length} bytes: {error:?}");
            length /= 2;
        }
    }
}
