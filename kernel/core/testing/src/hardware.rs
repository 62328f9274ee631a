//! Hardware made of arrays. Memory that core has not written holds junk; a translation that was removed works on until it is
//! invalidated, and a frame that is taken into use while one still leads to it fails the test.

use std::collections::{BTreeMap, BTreeSet};
use tessera_abi::{PAGE, USER_END};
use tessera_core::{DeviceId, Frame, Hardware, PowerAction, Protection};

/// What memory holds that nobody has written.
const JUNK: u64 = 0xdead_beef_dead_beef;
const WORDS: usize = 512;

/// A machine's hardware.
#[derive(Default)]
pub struct FakeHardware {
    /// The clock, set by hand.
    pub time: u64,
    /// What was written to the log.
    pub log: Vec<u8>,
    /// For what time each processor asked for its timer.
    pub timers: BTreeMap<usize, u64>,
    /// Processors that were notified, until somebody takes them out.
    pub notified: BTreeSet<usize>,
    /// How the machine was ended.
    pub power: Option<PowerAction>,
    /// Which interrupt lines are unmasked.
    pub lines: BTreeSet<u32>,
    /// Bytes copied between physical addresses.
    pub copied: u64,
    /// Ports as last written.
    pub ports: BTreeMap<u16, u32>,
    frames: Vec<Option<Box<[u64; WORDS]>>>,
    pages: BTreeMap<(Frame, u64), (Frame, Protection)>,
    /// Removed, but not yet invalidated.
    stale: BTreeMap<(Frame, u64), Frame>,
    /// Tables below a root: level and what part of the address they serve.
    tables: BTreeMap<Frame, BTreeMap<(u32, u64), Frame>>,
    views: BTreeMap<Frame, (Frame, Frame)>,
    /// Whether devices reach what they were given alone.
    pub iommu: bool,
    /// What each device reaches: the root of its tables.
    attached: BTreeMap<DeviceId, Frame>,
    /// Pages below such a root, and its tables: two levels.
    reached: BTreeMap<Frame, BTreeMap<u64, Frame>>,
    device_tables: BTreeMap<Frame, BTreeMap<(u32, u64), Frame>>,
}

impl FakeHardware {
    /// The words of a frame, filled with junk if it was never written.
    fn words(&mut self, frame: Frame) -> &mut [u64; WORDS] {
        assert_ne!(frame, Frame(0), "frame 0 is never handed out");
        let index = frame.0 as usize;
        if self.frames.len() <= index {
            self.frames.resize_with(index + 1, || None);
        }
        self.frames[index].get_or_insert_with(|| Box::new([JUNK; WORDS]))
    }

    /// A frame is taken into use for something new: nobody may still see what it was.
    fn fresh(&self, frame: Frame) {
        assert!(!self.pages.values().any(|(mapped, _)| *mapped == frame), "{frame:?} is still mapped");
        assert!(!self.stale.values().any(|mapped| *mapped == frame), "{frame:?} is still in a translation buffer");
        assert!(!self.tables.contains_key(&frame), "{frame:?} is the root of a live space");
        let tables = self.tables.values().flat_map(|tables| tables.values());
        assert!(!tables.into_iter().any(|table| *table == frame), "{frame:?} is a live table");
        for (device, root) in &self.attached {
            assert_ne!(*root, frame, "the root of {device:?}");
            let mut reached = self.reached[root].values().chain(self.device_tables[root].values());
            assert!(!reached.any(|other| *other == frame), "{frame:?} is still within reach of {device:?}");
        }
    }

    /// Whether a device reaches an address. The machine's own one, where no IOMMU is.
    pub fn device_reaches(&self, device: DeviceId, address: u64) -> Option<u64> {
        if !self.iommu {
            return Some(address);
        }
        let frame = self.reached.get(self.attached.get(&device)?)?.get(&(address / PAGE))?;
        Some(frame.0 * PAGE + address % PAGE)
    }

    /// How many frames page tables take, the roots included.
    pub fn table_frames(&self) -> usize {
        self.tables.values().map(|tables| tables.len() + 1).sum()
    }

    /// The page entered at an address.
    pub fn page(&self, root: Frame, address: u64) -> Option<(Frame, Protection)> {
        self.pages.get(&(root, address / PAGE)).copied()
    }

    /// Visits the pages in a range as the table walk of a real machine does: `limit` entries, then it stops.
    fn visit(
        &mut self,
        root: Frame,
        from: u64,
        to: u64,
        limit: usize,
        mut each: impl FnMut(&mut Self, (Frame, u64)),
    ) -> u64 {
        assert!(
            from <= to && from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE),
            "{from:#x}..{to:#x} is not a range of pages"
        );
        let mut at = from;
        for _ in 0..limit.max(1) {
            if at >= to {
                return to;
            }
            // A table that is not there is passed over as one entry.
            let missing = self.tables.get(&root).is_none_or(|tables| !tables.contains_key(&(1, at >> 21)));
            if missing {
                at = ((at >> 21) + 1) << 21;
                continue;
            }
            each(self, (root, at / PAGE));
            at += PAGE;
        }
        at.min(to)
    }

    fn each_byte(&mut self, at: u64, length: usize) {
        assert!(at % PAGE + length as u64 <= PAGE, "{length} bytes at {at:#x} cross the end of a frame");
    }
}

impl Hardware for FakeHardware {
    fn now(&mut self) -> u64 {
        self.time
    }

    fn counter(&self) -> (u64, u64) {
        (1_000_000_000, 7)
    }

    fn set_timer(&mut self, processor: usize, at: u64) {
        self.timers.insert(processor, at);
    }

    fn notify(&mut self, processor: usize) {
        self.notified.insert(processor);
    }

    fn zero(&mut self, frame: Frame) {
        self.fresh(frame);
        *self.words(frame) = [0; WORDS];
    }

    fn copy_frame(&mut self, from: Frame, to: Frame) {
        self.fresh(to);
        let words = *self.words(from);
        *self.words(to) = words;
    }

    fn copy(&mut self, from: u64, to: u64, length: usize) {
        self.copied += length as u64;
        let mut bytes = vec![0; length];
        self.read_bytes(from, &mut bytes);
        self.write_bytes(to, &bytes);
    }

    fn read_bytes(&mut self, from: u64, to: &mut [u8]) {
        self.each_byte(from, to.len());
        let words = self.words(Frame(from / PAGE));
        for (index, byte) in to.iter_mut().enumerate() {
            let at = (from % PAGE) as usize + index;
            *byte = words[at / 8].to_le_bytes()[at % 8];
        }
    }

    fn write_bytes(&mut self, to: u64, from: &[u8]) {
        self.each_byte(to, from.len());
        let words = self.words(Frame(to / PAGE));
        for (index, byte) in from.iter().enumerate() {
            let at = (to % PAGE) as usize + index;
            let mut bytes = words[at / 8].to_le_bytes();
            bytes[at % 8] = *byte;
            words[at / 8] = u64::from_le_bytes(bytes);
        }
    }

    fn load(&self, frame: Frame, index: usize) -> u64 {
        self.frames.get(frame.0 as usize).and_then(|words| words.as_ref()).map_or(JUNK, |words| words[index])
    }

    fn store(&mut self, frame: Frame, index: usize, value: u64) {
        self.words(frame)[index] = value;
    }

    fn space_create(&mut self, root: Frame, _kernel: bool) {
        assert!(self.words(root).iter().all(|word| *word == 0), "the root is zeroed");
        assert!(self.tables.insert(root, BTreeMap::new()).is_none(), "{root:?} is a root already");
    }

    fn map(
        &mut self,
        root: Frame,
        address: u64,
        frame: Frame,
        protection: Protection,
        tables: &mut dyn FnMut(&mut Self) -> Option<Frame>,
    ) -> bool {
        assert!(address < USER_END && address.is_multiple_of(PAGE), "{address:#x} is not a page of user space");
        assert!(!(protection.write && protection.execute), "what can be written is never executed");
        for level in [3, 2, 1] {
            let key = (level, address >> (12 + 9 * level));
            if self.tables.get(&root).expect("a live root").contains_key(&key) {
                continue;
            }
            let Some(table) = tables(self) else { return false };
            self.tables.get_mut(&root).expect("a live root").insert(key, table);
        }
        self.pages.insert((root, address / PAGE), (frame, protection));
        true
    }

    fn unmap(&mut self, root: Frame, from: u64, to: u64, limit: usize) -> u64 {
        self.visit(root, from, to, limit, |hardware, key| {
            if let Some((frame, _)) = hardware.pages.remove(&key) {
                hardware.stale.insert(key, frame);
            }
        })
    }

    fn write_protect(&mut self, root: Frame, from: u64, to: u64, limit: usize) -> u64 {
        self.visit(root, from, to, limit, |hardware, key| {
            if let Some((_, protection)) = hardware.pages.get_mut(&key) {
                protection.write = false;
            }
        })
    }

    fn invalidate(&mut self, root: Frame, from: u64, to: u64) {
        self.stale.retain(|(other, page), _| *other != root || page * PAGE < from || page * PAGE >= to);
    }

    fn release_tables(&mut self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
        assert!(!self.pages.keys().any(|(other, _)| *other == root), "all pages are removed before their tables");
        let tables = self.tables.get_mut(&root).expect("a live root");
        for _ in 0..limit {
            match tables.pop_first() {
                Some((_, frame)) => release(frame),
                None => {
                    self.tables.remove(&root);
                    release(root);
                    return true;
                }
            }
        }
        false
    }

    fn translate(&self, root: Frame, address: u64, write: bool) -> Option<u64> {
        let root = match self.views.get(&root) {
            Some((process, guest)) => *if address < tessera_abi::NATIVE_BASE { guest } else { process },
            None => root,
        };
        let (frame, protection) = self.pages.get(&(root, address / PAGE))?;
        (!write || protection.write).then_some(frame.0 * PAGE + address % PAGE)
    }

    fn view_create(&mut self, view: Frame, process: Frame, guest: Frame) {
        assert!(self.tables.contains_key(&process) && self.tables.contains_key(&guest), "live roots");
        assert!(self.views.insert(view, (process, guest)).is_none(), "{view:?} is a view already");
    }

    fn view_release(&mut self, view: Frame) {
        assert!(self.views.remove(&view).is_some(), "{view:?} is no view");
    }

    fn has_iommu(&self) -> bool {
        self.iommu
    }

    fn device_attach(&mut self, device: DeviceId, _: u32, root: Frame) -> bool {
        assert!(self.words(root).iter().all(|word| *word == 0), "the root is zeroed");
        // A segment too many, for the tests.
        if device.0 >> 16 != 0 {
            return false;
        }
        self.attached.insert(device, root);
        self.reached.insert(root, BTreeMap::new());
        self.device_tables.insert(root, BTreeMap::new());
        true
    }

    fn device_map(
        &mut self,
        root: Frame,
        address: u64,
        frame: Frame,
        tables: &mut dyn FnMut(&mut Self) -> Option<Frame>,
    ) -> bool {
        for level in [2, 1] {
            let key = (level, address >> (12 + 9 * level));
            if self.device_tables[&root].contains_key(&key) {
                continue;
            }
            let Some(table) = tables(self) else { return false };
            self.device_tables.get_mut(&root).expect("a live root").insert(key, table);
        }
        let before = self.reached.get_mut(&root).expect("a live root").insert(address / PAGE, frame);
        assert_eq!(before, None, "a device finds one page at an address");
        true
    }

    fn device_detach(&mut self, device: DeviceId, root: Frame) {
        if self.attached.get(&device) == Some(&root) {
            self.attached.remove(&device);
        }
    }

    fn device_release(&mut self, root: Frame, limit: usize, release: &mut dyn FnMut(Frame)) -> bool {
        assert!(!self.attached.values().any(|other| *other == root), "a device is detached before its tables go");
        self.reached.remove(&root);
        let tables = self.device_tables.get_mut(&root).expect("a live root");
        for _ in 0..limit {
            match tables.pop_first() {
                Some((_, frame)) => release(frame),
                None => {
                    self.device_tables.remove(&root);
                    release(root);
                    return true;
                }
            }
        }
        false
    }

    fn vector_save(&mut self, _frame: Frame) {}

    fn vector_repair(&mut self, frame: Frame) {
        let words = self.words(frame);
        words[64] &= 7;
    }

    fn vector_size(&self) -> u64 {
        832
    }

    fn vector_create(&mut self, frame: Frame) {
        assert!(self.words(frame).iter().all(|word| *word == 0), "vector state is zeroed");
    }

    fn interrupt_enable(&mut self, line: u32, enabled: bool) {
        if enabled {
            self.lines.insert(line)
        } else {
            self.lines.remove(&line)
        };
    }

    fn interrupt_message(&self, line: u32) -> (u64, u32) {
        (0xfee0_0000, line)
    }

    fn port_read(&mut self, port: u16, _: u8) -> u32 {
        self.ports.get(&port).copied().unwrap_or(0)
    }

    fn port_write(&mut self, port: u16, _: u8, value: u32) {
        self.ports.insert(port, value);
    }

    fn log(&mut self, text: &[u8]) {
        self.log.extend_from_slice(text);
    }

    fn power(&mut self, action: PowerAction) {
        self.power = Some(action);
    }
}
