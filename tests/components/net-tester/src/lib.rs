//! Tests the network stack from inside an image, as a client in another domain.
//!
//! Its last line is `N passed, N failed`, and its exit code says the same.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cases;

use alloc::sync::Arc;

use tessera_interfaces::{Network, Streams};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::{exit, log, thread};

/// What the component uses, by the names in its component.toml.
pub struct Uses {
    /// What is tested.
    pub network: Route<dyn Network>,
}

/// The component.
#[derive(Debug)]
pub struct Tester;

impl Tester {
    /// Constructs it; the tests run in a thread.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Tester>, StartError> {
        let sizes = cases::Sizes {
            connections: context.parsed("connections", 300)?,
            megabytes: context.parsed("megabytes", 4)?,
            is_remote: uses.network.cap.is_remote(),
        };
        thread::spawn(move || {
            let (mut passed, mut failed) = (0, 0);
            let network = &*uses.network.cap;
            let mut run = |way: &str, streams: &Streams| {
                for (name, case) in cases::CASES {
                    match case(network, streams, &sizes) {
                        Ok(()) => {
                            log!("test {name}-{way} ... ok");
                            passed += 1;
                        }
                        Err(why) => {
                            log!("test {name}-{way} ... FAILED: {why}");
                            failed += 1;
                        }
                    }
                }
            };
            run("by-calls", &Streams::default());
            match Streams::shared(network) {
                Ok(streams) => run("through-memory", &streams),
                Err(error) => {
                    log!("test streams ... FAILED: {error:?}");
                    failed += 1;
                }
            }
            log!("{passed} passed, {failed} failed");
            exit(u64::from(failed != 0 || passed == 0))
        })?;
        Ok(Arc::new(Tester))
    }
}
