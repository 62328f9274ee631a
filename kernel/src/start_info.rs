//! What the loader says of the machine: `hvm_start_info` of the PVH boot protocol (Xen,
//! `include/public/arch-x86/hvm/start_info.h`).
//!
//! Read once, while the early tables map the first GiB. What is kept is copied, since the structure lies in memory
//! that is handed out later.

use core::ops::Range;

use crate::memory;

const MAGIC: u32 = 0x336e_c578;
/// Most memory map entries that are kept.
const ENTRIES: usize = 64;
/// Most bytes of the command line that are kept.
const COMMAND_LINE: usize = 1024;

/// `XEN_HVM_MEMMAP_TYPE_*`, as in E820.
const RAM: u32 = 1;
const ACPI: u32 = 3;
const ACPI_STORAGE: u32 = 4;

/// The loader's word, checked for shape.
pub struct StartInfo {
    ranges: [(Range<u64>, u32); ENTRIES],
    count: usize,
    /// Physical address of the ACPI root pointer; 0 if there is none.
    pub rsdp: u64,
    command_line: [u8; COMMAND_LINE],
    command_line_length: usize,
}

impl StartInfo {
    /// Reads the structure at physical address `at`.
    #[optimize(size)]
    pub fn read(at: u64) -> StartInfo {
        let word = |offset: u64| memory::early_read_32(at + offset);
        let long = |offset: u64| u64::from(word(offset)) | u64::from(word(offset + 4)) << 32;
        assert!(
            word(0) == MAGIC,
            "the loader gave no PVH start information: boot this image with QEMU's -kernel, Firecracker or cloud-hypervisor"
        );
        assert!(
            word(4) >= 1,
            "the loader's PVH start information is of version 0, which has no memory map: use a newer loader"
        );

        let mut info = StartInfo {
            ranges: [const { (0..0, 0) }; ENTRIES],
            count: (word(48) as usize).min(ENTRIES),
            rsdp: long(32),
            command_line: [0; COMMAND_LINE],
            command_line_length: 0,
        };
        let map = long(40);
        for (index, entry) in info.ranges.iter_mut().enumerate().take(info.count) {
            let field = |offset: u64| memory::early_read_32(map + index as u64 * 24 + offset);
            let start = u64::from(field(0)) | u64::from(field(4)) << 32;
            let length = u64::from(field(8)) | u64::from(field(12)) << 32;
            *entry = (start..start.saturating_add(length), field(16));
        }
        let text = long(24);
        if text != 0 {
            while info.command_line_length < COMMAND_LINE {
                let at = text + info.command_line_length as u64;
                let byte = (memory::early_read_32(at & !3) >> (8 * (at & 3))) as u8;
                if byte == 0 {
                    break;
                }
                info.command_line[info.command_line_length] = byte;
                info.command_line_length += 1;
            }
        }
        info
    }

    /// Usable memory, in bytes, as the loader lists it.
    pub fn ram(&self) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        self.of_types(&[RAM])
    }

    /// Usable memory and what firmware tables lie in: all that is cached memory for sure.
    pub fn memory(&self) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        self.of_types(&[RAM, ACPI, ACPI_STORAGE])
    }

    fn of_types(&self, types: &'static [u32]) -> impl Iterator<Item = Range<u64>> + Clone + '_ {
        self.ranges
            .iter()
            .take(self.count)
            .filter(move |(_, kind)| types.contains(kind))
            .map(|(range, _)| range.clone())
    }

    /// The words of the command line; none if it is not UTF-8.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let text = self.command_line.get(..self.command_line_length).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default().split_ascii_whitespace()
    }
}
