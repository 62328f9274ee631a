//! What is kept for devices: a handle to the memory that each reaches, from before it reaches it until it was reset, whoever dies meanwhile.

use alloc::collections::BTreeMap;

use tessera_interfaces::KeeperError;

/// Devices for which something can be kept.
const MOST: usize = 256;

/// What is kept, by device.
#[derive(Debug)]
pub struct Kept<T>(BTreeMap<u64, T>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(BTreeMap::new())
    }
}

impl<T> Kept<T> {
    /// Keeps something for a device for which nothing is kept: what is must not go before the device was reset.
    pub fn keep(&mut self, device: u64, what: T) -> Result<(), KeeperError> {
        if self.0.contains_key(&device) {
            return Err(KeeperError::Taken);
        }
        if self.0.len() >= MOST {
            return Err(KeeperError::TooMany);
        }
        self.0.insert(device, what);
        Ok(())
    }

    /// Gives back what is kept for a device.
    pub fn release(&mut self, device: u64) -> Option<T> {
        self.0.remove(&device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;

    #[test]
    fn what_a_device_reaches_is_kept_until_it_is_released_and_not_replaced() {
        let (mut kept, memory) = (Kept::default(), Rc::new(()));
        assert_eq!(kept.keep(8, memory.clone()), Ok(()));
        assert_eq!(kept.keep(8, Rc::new(())), Err(KeeperError::Taken));
        assert_eq!(kept.keep(16, Rc::new(())), Ok(()));
        assert_eq!(Rc::strong_count(&memory), 2);
        drop(kept.release(8));
        assert_eq!(Rc::strong_count(&memory), 1);
        assert!(kept.release(8).is_none() && kept.release(24).is_none());
        assert_eq!(kept.keep(8, memory), Ok(()));
    }

    #[test]
    fn no_client_makes_it_keep_without_bound() {
        let mut kept = Kept::default();
        let kept = (0..1000).filter(|device| kept.keep(*device, ()).is_ok()).count();
        assert_eq!(kept, MOST);
    }
}
