//! What a component is constructed with: its context, and the routes to what it uses.
//!
//! A component's constructor is `fn new(context: Context, uses: Uses) -> Result<Arc<Self>, StartError>`, or without `uses` if it uses
//! nothing. `Uses` is a struct of its own crate with a [`Route`] for each line of `[uses]` in its `component.toml`. Nothing here tells it in
//! which domain the other side is. On the host a test makes both: [`Context::fake`], [`Route::local`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::handle::{Object, Owned, Result};
use crate::object::Event;
use crate::sync::Mutex;
use crate::transport::InterfaceError;
use crate::{Cap, Error};

#[cfg(target_os = "none")]
pub use crate::domain::{Domain, run};

/// Why a component could not be constructed, in words for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError(String);

impl StartError {
    /// An error with a reason.
    pub fn new(reason: impl fmt::Display) -> StartError {
        StartError(reason.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> StartError {
        StartError(format!("{error}"))
    }
}

impl<E: InterfaceError + fmt::Debug> From<E> for StartError {
    fn from(error: E) -> StartError {
        StartError(format!("{error:?}"))
    }
}

/// What one component was given besides its routes.
#[derive(Debug)]
pub struct Context {
    name: String,
    arguments: Vec<String>,
    handles: Mutex<Vec<(String, Owned)>>,
}

impl Context {
    /// Puts a context together; the build does, and tests do with [`Context::fake`].
    pub fn new(name: &str, arguments: Vec<String>, handles: Vec<(String, Owned)>) -> Context {
        Context { name: name.into(), arguments, handles: Mutex::new(handles) }
    }

    /// A context without handles, for a test.
    pub fn fake(name: &str, arguments: &[&str]) -> Context {
        Context::new(name, arguments.iter().map(|argument| (*argument).into()).collect(), Vec::new())
    }

    /// Adds what [`Context::take`] is to find, for a test.
    pub fn with(self, name: &str, object: impl Object) -> Context {
        self.handles.lock().push((name.into(), object.into_owned()));
        self
    }

    /// The component's name in its image.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments that the image gives it.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(String::as_str)
    }

    /// The value of the argument `NAME=VALUE`.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value of the argument `NAME=VALUE`, read as a `T`; `default` if there is none.
    pub fn parsed<T: core::str::FromStr>(&self, name: &str, default: T) -> core::result::Result<T, StartError> {
        let Some(text) = self.argument(name) else { return Ok(default) };
        text.parse().map_err(|_| StartError::new(format_args!("the argument {name}={text} cannot be read")))
    }

    /// Takes what the component's `[needs]` call `name`; once.
    pub fn take<T: Object>(&self, name: &str) -> Result<T> {
        let mut handles = self.handles.lock();
        let index = handles.iter().position(|(other, _)| other == name).ok_or(Error::NotFound)?;
        let (name, owned) = handles.swap_remove(index);
        let object = T::from_owned(owned);
        match object.inspect() {
            Ok(inspected) if inspected.kind == T::KIND => Ok(object),
            other => {
                // It stays, to be taken as what it is.
                handles.push((name, object.into_owned()));
                Err(other.err().unwrap_or(Error::WrongKind))
            }
        }
    }
}

/// News that the other side of a route was started again. A capability that was got from the old one may be revoked; the
/// route itself goes on.
#[derive(Clone, Debug)]
pub struct Notice(Option<(Arc<Event>, u64)>);

impl Notice {
    /// Of a side that lives as long as this one.
    pub fn never() -> Notice {
        Notice(None)
    }

    /// That raises a bit of an event.
    pub fn new(event: Arc<Event>, bit: u64) -> Notice {
        Notice(Some((event, bit)))
    }

    /// Whether it came since it was last taken.
    pub fn take(&self) -> bool {
        self.0.as_ref().is_some_and(|(event, bit)| event.clear(*bit).is_ok_and(|raised| raised & bit != 0))
    }

    /// Waits for it until `deadline` (nanoseconds since boot), and takes it.
    pub fn wait(&self, deadline: Option<u64>) -> Result<()> {
        match &self.0 {
            Some((event, bit)) => event.wait_until(*bit, *bit, deadline).map(|_| ()),
            None => Err(Error::NotFound),
        }
    }

    /// The event and its bit, to wait for several things at once; nothing if it never comes.
    pub fn event_and_bit(&self) -> Option<(&Event, u64)> {
        self.0.as_ref().map(|(event, bit)| (&**event, *bit))
    }
}

/// A capability that the image gives to a component, and the news of its other side.
pub struct Route<T: ?Sized> {
    /// The capability.
    pub cap: Cap<T>,
    /// Whether the domain of the other side was started again.
    pub restarted: Notice,
}

impl<T: ?Sized> Route<T> {
    /// A route to an object of this domain.
    pub fn local(object: Arc<T>) -> Route<T> {
        Route { cap: Cap::local(object), restarted: Notice::never() }
    }
}

impl<T: ?Sized> Clone for Route<T> {
    fn clone(&self) -> Route<T> {
        Route { cap: self.cap.clone(), restarted: self.restarted.clone() }
    }
}

impl<T: ?Sized> From<Route<T>> for Cap<T> {
    fn from(route: Route<T>) -> Cap<T> {
        route.cap
    }
}

impl<T: ?Sized> fmt::Debug for Route<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cap.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own;

    #[test]
    fn arguments_are_found_by_name() {
        let context = Context::fake("net", &["address=10.0.0.2", "verbose", "window=4096"]);
        assert_eq!(context.argument("address"), Some("10.0.0.2"));
        assert_eq!(context.argument("verbose"), None);
        assert_eq!(context.parsed("window", 1), Ok(4096));
        assert_eq!(context.parsed("depth", 7), Ok(7));
        assert!(context.parsed::<u8>("window", 1).is_err(), "out of range");
        assert!(context.arguments().any(|argument| argument == "verbose"));
    }

    #[test]
    fn a_need_is_taken_once_and_as_what_it_is() {
        let context = Context::fake("net", &[]).with("bell", Event::create(&own::pool()).unwrap());
        assert_eq!(context.take::<Event>("other"), Err(Error::NotFound));
        assert_eq!(context.take::<crate::object::Vmo>("bell").err(), Some(Error::WrongKind));
        assert!(context.take::<Event>("bell").is_ok());
        assert_eq!(context.take::<Event>("bell"), Err(Error::NotFound));
    }

    #[test]
    fn a_notice_is_taken_once() {
        let event = Arc::new(Event::create(&own::pool()).unwrap());
        let (one, other) = (Notice::new(event.clone(), 1), Notice::new(event.clone(), 2));
        event.raise(1).unwrap();
        assert!(!other.take());
        assert!(one.take());
        assert!(!one.take());
        assert!(!Notice::never().take());
    }
}
