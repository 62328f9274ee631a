//! Sealed pairs: how a server recognises its own objects.

use tessera_abi::Syscall;

use super::Pool;
use crate::handle::{Object, Owned, Result, create, object, owned, request};

object! {
    /// Seals handles.
    Seal
}

object! {
    /// Opens what the matching `Seal` closed.
    Unseal
}

object! {
    /// A handle in a box.
    Sealed
}

impl Seal {
    /// Makes a pair.
    pub fn create(pool: &Pool) -> Result<(Seal, Unseal)> {
        let values = request(Syscall::SealCreate, [pool.owned().number()])?;
        Ok((Seal::from_owned(owned(values[0])), Unseal::from_owned(owned(values[1]))))
    }

    /// Puts a handle into a box. When refused the handle is closed.
    pub fn close(&self, pool: &Pool, handle: Owned) -> Result<Sealed> {
        let sealed = create(Syscall::SealClose, [self.owned().number(), pool.owned().number(), handle.number()])?;
        let _ = handle.into_handle();
        Ok(sealed)
    }
}

impl Unseal {
    /// A handle derived from the one in the box.
    pub fn open<T: Object>(&self, sealed: &Sealed) -> Result<T> {
        create(Syscall::SealOpen, [self.owned().number(), sealed.owned().number()])
    }
}
