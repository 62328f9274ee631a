//! An example of a component: says back what it is told.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_interfaces::{Echo, EchoError};
use tessera_runtime::component::{Context, StartError};

/// The component.
#[derive(Debug)]
pub struct Server {
    count: AtomicU64,
}

impl Server {
    /// Constructs it.
    pub fn new(_: Context) -> Result<Arc<Server>, StartError> {
        Ok(Arc::new(Server { count: AtomicU64::new(0) }))
    }
}

impl Echo for Server {
    fn echo(&self, from: &[u8], into: &mut [u8]) -> Result<u64, EchoError> {
        into.get_mut(..from.len()).ok_or(EchoError::TooLong)?.copy_from_slice(from);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(from.len() as u64)
    }

    fn count(&self) -> Result<u64, EchoError> {
        Ok(self.count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_back_what_it_is_told() {
        let server = Server::new(Context::fake("echo", &[])).unwrap();
        let mut into = [0; 8];
        assert_eq!(server.echo(b"hello", &mut into), Ok(5));
        assert_eq!(&into, b"hello\0\0\0");
        assert_eq!(server.echo(b"much too long", &mut into), Err(EchoError::TooLong));
        assert_eq!(server.count(), Ok(1));
    }
}
