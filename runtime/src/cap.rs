//! Capabilities to objects that implement an interface, wherever they live.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::ops::Deref;

use crate::object::Session;
use crate::server::Dispatch;
use crate::transport::{Call, Interface, Limit, Remote, TransportError};

/// A capability to one object: `Cap<dyn Block>` is a block device in this domain or in another. Its methods are those of the
/// interface.
///
/// Clones name the same object. A local call is a virtual call; a call to another domain is one too, of a proxy that makes it
/// an IPC call.
pub struct Cap<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Cap<T> {
    /// A capability to an object of this domain.
    pub fn local(object: Arc<T>) -> Cap<T> {
        Cap(object)
    }

    /// Whether two capabilities are copies of one. Two that were received apart may name one object and still differ.
    pub fn same(one: &Cap<T>, other: &Cap<T>) -> bool {
        Arc::ptr_eq(&one.0, &other.0)
    }

    pub(crate) fn into_arc(self) -> Arc<T> {
        self.0
    }
}

impl<T: Interface + ?Sized> Cap<T> {
    /// A capability to the object of another domain that a session reaches. Whether it implements the interface shows at its calls.
    pub fn remote(session: Session) -> Cap<T> {
        Cap(T::remote(Remote::new(session)))
    }

    /// Whether calls leave this domain.
    pub fn is_remote(&self) -> bool {
        self.as_remote().is_some()
    }

    pub(crate) fn as_remote(&self) -> Option<&Remote> {
        (*self.0).as_remote()
    }

    /// The object itself, if it is of this domain and of this type.
    pub fn local_as<Concrete: Any + Send + Sync>(&self) -> Option<Arc<Concrete>> {
        T::any(self.0.clone()).downcast().ok()
    }

    fn limited(&self, limit: Limit) -> Result<Cap<T>, TransportError> {
        match self.as_remote() {
            Some(remote) => Ok(Cap(T::remote(remote.limited(limit)?))),
            None => Ok(self.clone()),
        }
    }

    /// The same object, whose calls end with `Deadline` at a time in nanoseconds since boot. A call within the domain takes as long as it
    /// does: its methods do not wait without bound.
    pub fn with_deadline(&self, deadline: u64) -> Result<Cap<T>, TransportError> {
        self.limited(Limit::Until(deadline))
    }

    /// The same object, each of whose calls ends with `Deadline` after this many nanoseconds.
    pub fn with_timeout(&self, nanoseconds: u64) -> Result<Cap<T>, TransportError> {
        self.limited(Limit::Within(nanoseconds))
    }
}

impl<T: ?Sized> Clone for Cap<T> {
    fn clone(&self) -> Cap<T> {
        Cap(self.0.clone())
    }
}

impl<T: ?Sized> Deref for Cap<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> From<Arc<T>> for Cap<T> {
    fn from(object: Arc<T>) -> Cap<T> {
        Cap::local(object)
    }
}

impl<T: ?Sized> fmt::Debug for Cap<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Cap<{}>", core::any::type_name::<T>())
    }
}

/// An object as a server keeps it: what it is called through, without its type.
pub(crate) struct Served<T: ?Sized>(pub Arc<T>);

impl<T: Interface + ?Sized> Dispatch for Served<T> {
    #[inline]
    fn dispatch(&self, call: &mut Call<'_>) -> Result<(), TransportError> {
        self.0.dispatch(call)
    }
}

impl<T: Interface + ?Sized> Served<T> {
    /// The capability behind what a server keeps, if it is to an object with this interface.
    pub(crate) fn of(object: &dyn Dispatch) -> Option<Cap<T>> {
        let object: &dyn Any = object;
        object.downcast_ref::<Served<T>>().map(|served| Cap(served.0.clone()))
    }
}
