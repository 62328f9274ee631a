//! What the file system may take of the heap it shares with others: a client that makes many names or small files is told that
//! there is no space, long before memory runs out for everybody.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use tessera_interfaces::FileError;

/// A limit in bytes and what is used of it.
#[derive(Debug)]
pub struct Account {
    used: AtomicU64,
    limit: u64,
}

impl Account {
    pub fn new(limit: u64) -> Arc<Account> {
        Arc::new(Account { used: AtomicU64::new(0), limit })
    }

    /// Bytes used.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be used.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn charge(&self, bytes: u64) -> Result<(), FileError> {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map(|_| ()).map_err(|_| FileError::NoSpace)
    }

    fn credit(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A part of an account, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

impl Charge {
    /// Takes `bytes`.
    pub fn new(account: &Arc<Account>, bytes: u64) -> Result<Charge, FileError> {
        account.charge(bytes)?;
        Ok(Charge { account: account.clone(), bytes })
    }

    /// Changes what is taken.
    pub fn set(&mut self, bytes: u64) -> Result<(), FileError> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.account.charge(more)?,
            None => self.account.credit(self.bytes.saturating_sub(bytes)),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.credit(self.bytes);
    }
}
