//! What the program of a domain does: constructs its components, registers what they provide, and serves calls.
//!
//! The program itself is made by the build and says only which components there are and how they are bound. It relies on the
//! names under which the manager gives it its handles: `endpoint`, `restarts`, `route.COMPONENT.USE`, `COMPONENT.NEED`, and the arguments
//! `life=N` and `COMPONENT:ARGUMENT`.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use tessera_abi::PAGE;

use crate::component::{Context, Notice, Route, StartError};
use crate::object::{Endpoint, Event, Session};
use crate::transport::Interface;
use crate::{Cap, Error, Result, Server, Start, log, own};

/// The exit code of a domain of which a component could not be constructed.
const NOT_CONSTRUCTED: i32 = 100;
/// The exit code of a domain whose server cannot go on.
const NOT_SERVED: i32 = 99;

/// A domain that is being put together.
pub struct Domain {
    start: Start,
    server: Server,
    restarts: Arc<Event>,
    /// The component that is being constructed, for reports.
    component: String,
    kept: Vec<Arc<dyn Any + Send + Sync>>,
}

/// Puts the domain together with `build`, then serves calls with `threads` threads for as long as it lives.
#[optimize(size)]
#[inline(never)]
pub fn run(mut start: Start, threads: usize, build: fn(&mut Domain) -> core::result::Result<(), StartError>) -> i32 {
    let life = start.argument("life").and_then(|life| life.parse().ok()).unwrap_or(0);
    let given = match start.take("endpoint") {
        Err(Error::NotFound) => alone(&mut start),
        endpoint => endpoint.and_then(|endpoint| Ok((endpoint, start.take("restarts")?))),
    };
    let (endpoint, restarts) = match given {
        Ok((endpoint, restarts)) => (endpoint, Arc::new(restarts)),
        Err(error) => {
            log!("{}: the manager gave it no endpoint: {error}", crate::name());
            return NOT_CONSTRUCTED;
        }
    };
    let mut domain =
        Domain { start, server: Server::new(endpoint, life), restarts, component: String::new(), kept: Vec::new() };
    if let Err(error) = build(&mut domain) {
        log!("{}: cannot be constructed: {error}", domain.component);
        return NOT_CONSTRUCTED;
    }
    // What is left when all is constructed.
    let free = own::pool().usage(0).map_or(0, |usage| usage.quota.saturating_sub(usage.used).saturating_mul(PAGE));
    domain.server.limit_slices_within(free, threads);
    let error = domain.server.run(threads);
    log!("{}: the server ended: {error}", crate::name());
    NOT_SERVED
}

/// What the manager gives, where there is none: a domain that is alone is the machine's first process. The handles to all there is, which
/// its components were not given, are closed before there is a component.
#[optimize(size)]
fn alone(start: &mut Start) -> Result<(Endpoint, Event)> {
    for name in start.names() {
        drop(start.take_owned(name));
    }
    Ok((Endpoint::create(&own::pool())?, Event::create(&own::pool())?))
}

impl Domain {
    /// What component `name` is constructed with.
    #[optimize(size)]
    pub fn context(&mut self, name: &str) -> Context {
        self.component = name.into();
        let prefix = format!("{name}:");
        let arguments = self.start.arguments().filter_map(|argument| argument.strip_prefix(prefix.as_str()));
        let prefix = format!("{name}.");
        let mut handles = Vec::new();
        for full in self.start.names() {
            if let Some(need) = full.strip_prefix(prefix.as_str())
                && let Ok(owned) = self.start.take_owned(full)
            {
                handles.push((String::from(need), owned));
            }
        }
        Context::new(name, arguments.map(String::from).collect(), handles)
    }

    /// The route to an object of this domain.
    pub fn local<T: ?Sized>(&self, object: Arc<T>) -> Route<T> {
        Route::local(object)
    }

    /// The route that the manager gave for a use, `COMPONENT.USE`. `bit` is that of its news.
    pub fn remote<T: Interface + ?Sized>(
        &mut self,
        used: &str,
        bit: Option<u8>,
    ) -> core::result::Result<Route<T>, StartError> {
        let session: Session = self
            .start
            .take(&format!("route.{used}"))
            .map_err(|error| StartError::new(format_args!("the route {used}: {error}")))?;
        let restarted = bit.map_or(Notice::never(), |bit| Notice::new(self.restarts.clone(), 1 << (bit & 63)));
        Ok(Route { cap: Cap::remote(session), restarted })
    }

    /// Lets other domains call an object, as root object `index`.
    pub fn provide<T: Interface + ?Sized>(&mut self, index: u32, object: Arc<T>) {
        self.server.provide(index, object);
    }

    /// Keeps a component that nobody calls for as long as the domain lives.
    pub fn keep(&mut self, component: Arc<dyn Any + Send + Sync>) {
        self.kept.push(component);
    }
}
