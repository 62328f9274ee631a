//! Physical memory at boot: where it is, which part the kernel keeps, and the heap that core's tables come from.
//!
//! The heap is first a small run of RAM behind the image, which the early tables map, for the real tables; then others anywhere,
//! for the rest of boot and for core's tables, as large as those need. It only grows and is sealed when boot is over, after which
//! every allocation is a crash. All else that is RAM is handed to core as free frames and never touched here again.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tessera_abi::PAGE;
use tessera_core::Frame;

use crate::start_info::StartInfo;

/// Where the direct map of physical memory begins.
pub const DIRECT: u64 = 0xffff_8000_0000_0000;
/// The distance of the kernel's image from its physical addresses.
pub const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// What the early tables map.
const EARLY: u64 = 1 << 30;
/// Below this lie the trampoline and what firmware left. What lies higher up, below 1 MiB too, the loader's map tells apart.
const LOW: u64 = 64 << 10;
const MIB: u64 = 1 << 20;
/// Most separate runs of free memory that are kept.
pub const MAX_FREE: usize = 64;

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __data_end: u8;
    static __archive_start: u8;
}

/// The physical ranges of the image's parts.
pub struct Image {
    pub text: Range<u64>,
    pub rodata: Range<u64>,
    pub data: Range<u64>,
    /// First byte of the archive's header.
    pub archive: u64,
}

/// Where the image lies, by the linker's symbols.
pub fn image() -> Image {
    let at = |symbol: *const u8| symbol as u64 - KERNEL;
    let (start, text, rodata) = (at(&raw const __image_start), at(&raw const __text_end), at(&raw const __rodata_end));
    let (data, archive) = (at(&raw const __data_end), at(&raw const __archive_start));
    Image { text: start..text, rodata: text..rodata, data: rodata..data, archive }
}

/// The address at which the kernel sees physical address `address`.
#[inline(always)]
pub const fn direct(address: u64) -> *mut u8 {
    (DIRECT + address) as *mut u8
}

/// Reads physical memory while only the early tables are loaded. An address beyond them is a crash.
pub fn early_read_32(address: u64) -> u32 {
    assert!(address < EARLY - 4, "the loader put its start information at {address:#x}, above the first GiB");
    // SAFETY: the early tables map the first GiB at the direct map; any bytes are a `u32`.
    unsafe { direct(address).cast::<u32>().read_unaligned() }
}

/// `length` bytes of physical memory as a slice.
///
/// # Safety
/// They are mapped, and nobody writes to them while the slice lives.
pub unsafe fn bytes(address: u64, length: usize) -> &'static [u8] {
    // SAFETY: the caller vouches for it.
    unsafe { core::slice::from_raw_parts(direct(address), length) }
}

/// The boot heap: hands out memory upward, never takes any back.
pub struct BootHeap {
    next: AtomicU64,
    end: AtomicU64,
    sealed: AtomicBool,
}

#[global_allocator]
static HEAP: BootHeap = BootHeap { next: AtomicU64::new(0), end: AtomicU64::new(0), sealed: AtomicBool::new(false) };

// SAFETY: each call answers a range of its own from memory that is nobody else's (`open`), or null.
unsafe impl GlobalAlloc for BootHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert!(!self.sealed.load(Ordering::Relaxed), "an allocation of {} bytes after boot", layout.size());
        // Boot is one processor: no other call comes between the load and the store.
        let start = self.next.load(Ordering::Relaxed).next_multiple_of(layout.align() as u64);
        let end = start + layout.size() as u64;
        if end > self.end.load(Ordering::Relaxed) {
            return ptr::null_mut();
        }
        self.next.store(end, Ordering::Relaxed);
        direct(start)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// A zeroed frame from the boot heap.
pub fn boot_frame() -> Frame {
    boot_frames(1)
}

/// `count` zeroed frames in a row from the boot heap.
pub fn boot_frames(count: u64) -> Frame {
    let layout = Layout::from_size_align((count * PAGE) as usize, PAGE as usize).expect("a whole number of frames");
    // SAFETY: the size is not zero.
    let memory = unsafe { HEAP.alloc(layout) };
    assert!(!memory.is_null(), "the boot heap is too small for what the firmware says of this machine");
    // SAFETY: the heap gave this range to us alone.
    unsafe { ptr::write_bytes(memory, 0, layout.size()) };
    Frame((memory as u64 - DIRECT) / PAGE)
}

/// Ends boot: from now on an allocation is a crash.
pub fn seal() {
    HEAP.sealed.store(true, Ordering::Relaxed);
}

/// The frames that are left for core, ascending.
#[derive(Clone)]
pub struct Free {
    pub ranges: [Range<u64>; MAX_FREE],
    pub count: usize,
    /// All RAM, in bytes.
    pub ram: u64,
}

/// Opens the first part of the boot heap behind the image (which ends at `image_end`), and lists what remains.
#[optimize(size)]
pub fn divide(info: &StartInfo, image_end: u64) -> Free {
    let ram: u64 = info.ram().map(|range| range.end - range.start).sum();
    // Two tables for each GiB, and those of the kernel's image and stacks.
    let size = (MIB / 4 + (ram >> 17)).next_multiple_of(PAGE);
    let start = image_end.next_multiple_of(PAGE);
    let home = info.ram().find(|range| range.contains(&image().text.start));
    let Some(home) = home else { panic!("the image does not lie in memory that the loader lists as usable") };
    assert!(
        start + size <= home.end.min(EARLY),
        "the image does not fit into the memory at {:#x}..{:#x}: give the machine more memory, or the image fewer programs",
        home.start,
        home.end
    );
    HEAP.next.store(start, Ordering::Relaxed);
    HEAP.end.store(start + size, Ordering::Relaxed);

    let kept = image().text.start & !(PAGE - 1)..start + size;
    let mut free = Free { ranges: [const { 0..0 }; MAX_FREE], count: 0, ram };
    for range in info.ram() {
        let range = range.start.max(LOW)..range.end;
        free.add(range.start..range.end.min(kept.start));
        free.add(range.start.max(kept.end)..range.end);
    }
    free
}

/// Goes on with the heap in `size` bytes that are taken from the free frames; what the heap before has left over is free. With the real
/// tables loaded, which map all memory.
pub fn open_heap(free: &mut Free, size: u64) {
    free.add(HEAP.next.load(Ordering::Relaxed)..HEAP.end.load(Ordering::Relaxed));
    let heap = free.take(size.div_ceil(PAGE));
    HEAP.next.store(heap.start, Ordering::Relaxed);
    HEAP.end.store(heap.end, Ordering::Relaxed);
}

impl Free {
    /// Adds the whole frames of a range of bytes, which are not among these, in their place.
    fn add(&mut self, bytes: Range<u64>) {
        let frames = bytes.start.div_ceil(PAGE)..bytes.end / PAGE;
        if frames.start >= frames.end {
            return;
        }
        if let Some(before) = self.ranges[..self.count].iter_mut().find(|range| range.end == frames.start) {
            before.end = frames.end;
        } else if let Some(behind) = self.ranges[..self.count].iter_mut().find(|range| range.start == frames.end) {
            behind.start = frames.start;
        } else if self.count < MAX_FREE {
            let place = self.ranges[..self.count].iter().take_while(|range| range.start < frames.start).count();
            self.ranges[place..=self.count].rotate_right(1);
            self.ranges[place] = frames;
            self.count += 1;
        }
    }

    /// Takes so many frames from the end of the largest range; answers where they are, in bytes.
    fn take(&mut self, frames: u64) -> Range<u64> {
        let largest = self.ranges[..self.count].iter_mut().max_by_key(|range| range.end - range.start);
        let largest = largest.filter(|range| range.end - range.start > frames);
        let Some(largest) = largest else {
            panic!("no {} KiB of memory in a row: give the machine more", frames * PAGE / 1024)
        };
        largest.end -= frames;
        largest.end * PAGE..(largest.end + frames) * PAGE
    }
}
