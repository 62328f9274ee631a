//! The Linux personality: runs unmodified Linux programs as guests of its threads.
//!
//! An ordinary component, without privilege. A program's system calls and faults come here; what it may reach is what this component was
//! given. Everything that comes from a guest is an allegation: numbers are checked where they are used, addresses in [`memory`] alone,
//! which is the only module with `unsafe`. Nothing a guest does may end the personality.
#![cfg_attr(target_os = "none", feature(optimize_attribute))]
#![no_std]
#![deny(unsafe_code)]
// Methods that answer something are not always asked for it.
#![allow(clippy::must_use_candidate)]

extern crate alloc;

use alloc::sync::Arc;

use tessera_attach::ToHost;
use tessera_interfaces::{Console, Entropy, Network, Node, WallClock};
use tessera_runtime::component::{self, Route, StartError};
use tessera_runtime::object::Vmo;
use tessera_runtime::{exit, log, own, thread};

use crate::attached::Attachment;
use crate::container::Setup;
use crate::errno::Errno;

pub mod attached;
pub mod container;
pub mod errno;
pub mod file;
pub mod fs;
pub mod futex;
pub mod ipc;
pub mod memory;
pub mod program;
pub mod seccomp;
pub mod signal;
pub mod syscall;
pub mod task;
pub mod time;

/// What the component uses.
pub struct Uses {
    /// The network that the container's programs reach, and no other.
    pub network: Route<dyn Network>,
    /// The time of day.
    pub clock: Route<dyn WallClock>,
    /// The seed of its random numbers.
    pub entropy: Route<dyn Entropy>,
    /// Whoever runs the container.
    pub console: Option<Route<dyn Console>>,
    /// The roots of volumes.
    pub volume_1: Option<Route<dyn Node>>,
    pub volume_2: Option<Route<dyn Node>>,
    pub volume_3: Option<Route<dyn Node>>,
    pub volume_4: Option<Route<dyn Node>>,
}

/// The component: one container.
#[derive(Debug)]
pub struct Linux;

/// The codes with which shells say that a program could not be started, and that there is none.
const NOT_STARTED: u8 = 126;
const NOT_FOUND: u8 = 127;
/// What is told of a container for which there is no memory.
const NO_MEMORY: &str = "the machine has too little memory for the container to start: give it more";

impl Linux {
    /// Starts the container that is in the boot archive. The domain ends with the container's first process, and with its code.
    ///
    /// # Errors
    /// The archive holds no container, or there is no memory for it.
    pub fn new(context: component::Context, uses: Uses) -> Result<Arc<Linux>, StartError> {
        let begun = own::clock().now().unwrap_or(0);
        // Without a date the container starts in 1970, as a machine without a clock does.
        let date = uses.clock.cap.now().unwrap_or(0);
        let boot = date.saturating_sub(own::clock().now().unwrap_or(0));
        let network = Some(uses.network.cap);
        let mut setup = Setup { network, wall: boot as i64, ..Setup::of(&context.take::<Vmo>("archive")?)? };
        let mut seed = [0; 32];
        match uses.entropy.cap.fill(&mut seed) {
            Ok(()) => setup.seed = Some(seed),
            Err(_) => log!("linux: the entropy source gives nothing: random numbers can be guessed"),
        }
        setup.attachment = uses.console.map(Attachment::connect).transpose()?.flatten();
        let volumes = [uses.volume_1, uses.volume_2, uses.volume_3, uses.volume_4];
        setup.volumes = volumes.into_iter().flatten().map(|route| route.cap).collect();
        if let Some(attachment) = &setup.attachment {
            attachment.say(ToHost::Mark(begun, "the personality begins".into()));
            attachment.mark("the drivers answer");
        }
        // The thread that loads the first program is given a guest, which is more than the thread that serves is to have.
        thread::spawn(move || {
            let attachment = setup.attachment.clone();
            if let Err(error) = container::start(setup) {
                let code = if error == Errno::ENOENT { NOT_FOUND } else { NOT_STARTED };
                if error == Errno::ENOMEM {
                    container::report(attachment.as_ref(), NO_MEMORY.into());
                }
                match attachment {
                    Some(attachment) => attachment.end(code),
                    None => exit(code.into()),
                }
            }
        })?;
        Ok(Arc::new(Linux))
    }
}

/// What `uname` says: programs ask for the version of Linux whose calls they may use.
pub const RELEASE: &str = "6.1.0-tessera";
/// The rest of what it says of the kernel.
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC Tessera";

/// Whether every call is written to the log. For finding out what a program does; never on in what is shipped.
pub(crate) const TRACE: bool = option_env!("TESSERA_LINUX_TRACE").is_some();
