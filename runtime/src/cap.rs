//! Capabilities to objects that implement an interface, wherever they live.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;

/// A capability to one object: `Cap<dyn Block>` is a block device in this domain or in another. Its methods are those of the
/// interface.
///
/// Clones name the same object. A local call is a virtual call.
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
