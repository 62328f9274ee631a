//! Guest memory: what is mapped where in a Linux process, and the way to its bytes.
//!
//! [`layout`] is the list of mappings, pure book-keeping. [`Mm`] keeps a list and the kernel's space of the same content together.
//! [`access`] is the only module of the crate with `unsafe`: it touches guest memory, under the lock of the list that it
//! checked the address against. Nothing else may turn a guest's number into an address.

#[allow(unsafe_code)]
pub mod access;
pub mod layout;
mod manage;
pub mod reserve;

pub use access::GuestMemory;
pub use layout::{Layout, Protection, Vma};
pub use manage::{MapRequest, Mm, Move, Notes, Target};

use alloc::sync::Arc;

use tessera_runtime::object::Vmo;
use tessera_runtime::own;

use crate::errno::Result;

/// Bytes of a page.
pub const PAGE: u64 = tessera_runtime::abi::PAGE;
/// The lowest address that programs may map (`vm.mmap_min_addr`).
pub const LOWEST: u64 = 0x1_0000;
/// One past the highest address of a guest.
pub const TOP: u64 = 0x7eff_ffff_f000;

/// Rounds up to whole pages; none if that overflows.
pub fn round_up(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE)
}

/// Memory that mappings and files share.
#[derive(Debug)]
pub struct Memory {
    vmo: Vmo,
}

impl Memory {
    /// Zeroes of `size` bytes; pages are charged when touched.
    pub fn new(size: u64) -> Result<Arc<Memory>> {
        Ok(Arc::new(Memory { vmo: Vmo::create(&own::pool(), size)? }))
    }

    /// The kernel's object.
    pub fn vmo(&self) -> &Vmo {
        &self.vmo
    }

    /// A copy that changes independently.
    pub fn snapshot(&self) -> Result<Arc<Memory>> {
        Ok(Arc::new(Memory { vmo: self.vmo.snapshot(&own::pool())? }))
    }
}
