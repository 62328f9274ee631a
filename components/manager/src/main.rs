//! The first process of an image of components: carries out the plan that the image brings along.
//!
//! It holds everything there is, and hands on what the plan names, nothing else. It runs above all domains in priority, mostly
//! waits, and does not call any of them: none can make it wait. Each domain has a pool, a budget and an endpoint that outlive its
//! process, so that routes to it go on through a restart and what it has used is counted over all its lives.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod kernel;
mod service;

use alloc::sync::Arc;

use tessera_interfaces::{Keeper, Supervisor};
use tessera_manager::Supervision;
use tessera_plan::Plan;
use tessera_runtime::archive::Archive;
use tessera_runtime::object::{Event, Vmo};
use tessera_runtime::sync::Mutex;
use tessera_runtime::{Error, Server, Start, log, own, program, thread};

use kernel::{KEEPER, Kernel, SUPERVISOR};
use service::{Devices, Service};

program!(main);

/// The exit code, and the machine's, if the plan cannot be carried out.
const NO_PLAN: i32 = 120;

/// Pages that the manager keeps for itself when a domain is to have the rest: its heap, and what starting domains takes. A part of all, between
/// these.
const KEPT: (u64, u64) = (32, 1024);
const KEPT_OF: u64 = 16;

fn main(start: Start) -> i32 {
    match supervise(start) {
        Ok(()) => 0,
        Err(error) => {
            log!("manager: the plan cannot be carried out: {error}");
            NO_PLAN
        }
    }
}

fn supervise(mut start: Start) -> Result<(), Error> {
    let memory: Vmo = start.take("archive")?;
    let archive = Archive::new(&memory)?;
    let mut plan = match Plan::decode(archive.member(tessera_plan::MEMBER)?) {
        Ok(plan) => plan,
        Err(refusal) => {
            log!("manager: the plan in the boot archive: {refusal}");
            return Err(Error::BadArgument);
        }
    };
    let pages = own::pool().usage(0)?;
    let free = pages.quota.saturating_sub(pages.used);
    plan.share_memory(free, (free / KEPT_OF).clamp(KEPT.0, KEPT.1));
    let news = Arc::new(Event::create(&own::pool())?);
    let (kernel, endpoint) = Kernel::new(&plan, start, archive, memory, news.clone())?;
    let supervision = Arc::new(Mutex::new(Supervision::new(plan, kernel)));

    let mut server = Server::new(endpoint, 1);
    server.provide::<dyn Keeper>(KEEPER.into(), Arc::new(Devices::default()));
    server.provide::<dyn Supervisor>(SUPERVISOR.into(), Arc::new(Service::new(supervision.clone(), news.clone())));
    thread::spawn(move || {
        let error = server.run(1);
        log!("manager: the supervisor's server ended: {error}");
    })?;
    loop {
        let due = supervision.lock().look();
        match news.wait_until(u64::MAX, u64::MAX, due) {
            Ok(_) | Err(Error::TimedOut | Error::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
