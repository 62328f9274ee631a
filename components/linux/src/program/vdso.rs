//! The code that tells programs the time without a call (vdso(7)), and the page that it reads: `vdso/vdso.rs` has its source.

use alloc::sync::Arc;

use super::elf;
use crate::errno::Result;
use crate::memory::{MapRequest, Memory, Mm, PAGE, Protection, Target};

/// The image as the build script linked it.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.so"));
/// Where the wall clock stands in the page before the image, behind frequency and first tick.
const WALL: u64 = 16;

/// One page of numbers and the image behind it, shared by all programs.
pub struct Vdso(Arc<Memory>);

impl Vdso {
    /// With a clock of so many ticks a second, that showed `first_tick` at boot, `wall` nanoseconds after 1970.
    pub fn new(frequency: u64, first_tick: u64, wall: i64) -> Result<Vdso> {
        elf::head(IMAGE)?;
        let memory = Memory::new(PAGE + (IMAGE.len() as u64).next_multiple_of(PAGE))?;
        memory.vmo().write(0, [frequency, first_tick, wall as u64].map(u64::to_le_bytes).as_flattened())?;
        memory.vmo().write(PAGE, IMAGE)?;
        Ok(Vdso(memory))
    }

    /// Sets the wall clock.
    pub fn set_wall(&self, wall: i64) {
        // Refused only if the page were not there, which it has been since it was made.
        let _ = self.0.vmo().write(WALL, &wall.to_le_bytes());
    }

    /// Maps it into a program's memory; answers where the image is.
    pub fn map(&self, mm: &Mm) -> Result<u64> {
        let start = mm.map(MapRequest {
            target: Target::Hint(0),
            length: self.0.vmo().size()?,
            protection: Protection::READ.union(Protection::EXECUTE),
            shared: true,
            memory: Some((self.0.clone(), 0)),
            file: None,
            name: "[vdso]",
            attached: None,
        })?;
        Ok(start + PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag of the dynamic section.
    fn is_there(tag: u64) -> bool {
        let segments = elf::segments(&IMAGE[64..64 + 2 * elf::PROGRAM_HEAD]).unwrap();
        let dynamic = segments.iter().find(|segment| segment.kind == 2).unwrap();
        let entries = &IMAGE[dynamic.offset as usize..(dynamic.offset + dynamic.in_file) as usize];
        entries.chunks_exact(16).any(|entry| entry[..8] == tag.to_le_bytes())
    }

    #[test]
    fn the_image_needs_no_relocation_and_lies_as_it_is_mapped() {
        const HASH: u64 = 4;
        const RELOCATIONS: [u64; 3] = [7, 17, 23];
        assert!(is_there(HASH) && !RELOCATIONS.into_iter().any(is_there));
        let segments = elf::segments(&IMAGE[64..64 + 2 * elf::PROGRAM_HEAD]).unwrap();
        let loaded: alloc::vec::Vec<_> = segments.iter().filter(|segment| segment.kind == elf::LOAD).collect();
        assert!(loaded.len() == 1 && loaded[0].address == 0 && loaded[0].offset == 0);
        for name in ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu", "LINUX_2.6"] {
            assert!(IMAGE.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
        }
    }
}
