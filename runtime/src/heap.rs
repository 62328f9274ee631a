//! The heap: the allocator of crate `talc`, on memory objects mapped one after the other into a range of the own space.
//!
//! What the heap took is kept until the process ends. Growing must not allocate.

use core::alloc::Layout;
use core::ptr::NonNull;

use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;
use tessera_abi::PAGE;

use crate::object::{Access, Vmo};
use crate::own;
use crate::sync::RawMutex;

#[global_allocator]
static HEAP: TalcLock<RawMutex, Growing> = TalcLock::new(Growing { end: None });

/// Where the heap starts. Nothing else is placed between here and `LIMIT`.
const BASE: u64 = 0x7f40_0000_0000;
/// Where it must end.
const LIMIT: u64 = 0x7f80_0000_0000;
/// The least that it grows by. Pages are charged when touched, so this costs addresses only.
const STEP: u64 = 1 << 20;

#[derive(Debug)]
struct Growing {
    end: Option<NonNull<u8>>,
}

// SAFETY: the pointer names memory of the process, which is the same in every thread.
unsafe impl Send for Growing {}

// SAFETY: `acquire` makes system calls only and allocates nothing.
unsafe impl Source for Growing {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let end = talc.source.end;
        let start = end.map_or(BASE, |end| end.as_ptr() as u64);
        // The allocator's own tables and tags come on top of what is asked for.
        let wanted = (layout.size() as u64).checked_add(layout.align() as u64).ok_or(())?;
        let length = wanted.checked_add(4 * PAGE).and_then(|length| length.checked_next_multiple_of(STEP)).ok_or(())?;
        if start.checked_add(length).is_none_or(|end| end > LIMIT) {
            return Err(());
        }
        let memory = Vmo::create(&own::pool(), length).map_err(|_| ())?;
        own::space().map_at(&memory, 0, start, length, Access::Write).map_err(|_| ())?;
        // SAFETY: the range was just mapped for this purpose and is never unmapped; it starts where the heap ended.
        let end = unsafe {
            match end {
                Some(end) => Some(talc.extend(end, (start + length) as *mut u8)),
                None => talc.claim(start as *mut u8, length as usize),
            }
        };
        talc.source.end = end;
        end.map(|_| ()).ok_or(())
    }
}
