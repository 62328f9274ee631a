//! What belongs to the thread that runs a task: nobody else can reach it.

use alloc::sync::Arc;
use core::cell::Cell;

use smallvec::SmallVec;
use tessera_runtime::abi::x86_64::{GuestState, Registers};
use tessera_runtime::object::guest;

use super::{Credentials, Process, System, Task};
use crate::errno::{Errno, Result};
use crate::file::transfer::{GuestSlice, GuestSlices};
use crate::file::{Description, Table};
use crate::fs::{FsContext, Place};
use crate::memory::GuestMemory;
use crate::signal::Set;

/// Most pieces of a `readv` or `writev` (`UIO_MAXIOV`).
const MOST_PIECES: u64 = 1024;
/// Most bytes that one call transfers (`MAX_RW_COUNT`).
const MOST_BYTES: u64 = 0x7fff_f000;

/// A text of a guest's: most are short.
pub type Text = SmallVec<[u8; SHORT_TEXT]>;

/// Bytes of a text that lies in no other memory.
const SHORT_TEXT: usize = 64;

/// A thread's own state.
pub struct Context {
    /// The guest's registers and why it left. While it is in a call, they are fetched from the kernel when they are asked for.
    pub state: GuestState,
    /// Whether `state` has the registers.
    pub has_registers: bool,
    /// Whether the guest goes on with the registers in `state`, not just behind its call.
    pub is_changed: bool,
    /// The result of the call that was made last.
    pub result: u64,
    pub task: Arc<Task>,
    pub process: Arc<Process>,
    /// Who the thread is. Only the thread itself changes that, and for itself alone: the C library asks each thread in turn.
    pub identity: Arc<Credentials>,
    pub memory: GuestMemory,
    pub files: Arc<Table>,
    pub fs: Arc<FsContext>,
    pub system: Arc<System>,
    /// The number of the call that is being made, to make it again after a signal.
    pub call: u64,
    /// The mask to go back to after the handlers of the signals that a call with a mask of its own let through.
    pub saved_mask: Option<Set>,
    /// Where signal handlers run: base, flags, size (`sigaltstack`).
    pub signal_stack: (u64, u32, u64),
    /// `set_tid_address`: where zero is written when the thread ends, or 0.
    pub clear_number: u64,
    /// `set_robust_list`, or 0.
    pub robust_list: u64,
    /// Ticks that the thread spent waiting, for the account of the time that it used.
    pub waited: Cell<u64>,
    /// What to do in place of going on with the guest.
    pub next: Next,
}

/// How the thread goes on after a call.
#[derive(Default)]
pub enum Next {
    #[default]
    Guest,
    /// The thread ends, with this code.
    Exit(i32),
    /// Another thread of the personality goes on with the program that replaced this one.
    Moved,
}

impl Context {
    /// The guest's registers.
    pub fn registers(&mut self) -> &Registers {
        if !self.has_registers {
            self.has_registers = true;
            // Refused only to a thread without a guest.
            let _ = guest::save(&mut self.state);
            self.state.registers.rax = self.result;
        }
        &self.state.registers
    }

    /// The guest's registers, to be changed.
    pub fn registers_mut(&mut self) -> &mut Registers {
        self.registers();
        self.is_changed = true;
        &mut self.state.registers
    }

    /// Whether a signal or the process's end has to be looked at before going on waiting.
    pub fn is_interrupted(&self) -> bool {
        let attention = self.task.attention();
        attention != 0 && (attention & !crate::task::process::attention::SIGNAL != 0 || crate::signal::is_pending(self))
    }

    /// The number of the call that is being made, or all ones between calls.
    pub fn call_now(&self) -> u64 {
        self.call
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        self.identity.clone()
    }

    /// Makes the thread someone else. What others see of the process is its first thread.
    pub fn become_someone(&mut self, who: Credentials) {
        self.identity = Arc::new(who);
        if self.task.number() == self.process.number {
            *self.process.credentials.lock() = self.identity.clone();
        }
    }

    /// Copies from the guest's memory, all or nothing.
    pub fn read_bytes(&self, address: u64, to: &mut [u8]) -> Result<()> {
        if self.memory.read_some(address, to) == to.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies to the guest's memory.
    pub fn write_bytes(&self, address: u64, from: &[u8]) -> Result<()> {
        if self.memory.write_some(address, from) == from.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    pub fn read_array<const N: usize>(&self, address: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_bytes(address, &mut bytes)?;
        Ok(bytes)
    }

    pub fn read_u32(&self, address: u64) -> Result<u32> {
        Ok(u32::from_le_bytes(self.read_array(address)?))
    }

    pub fn read_u64(&self, address: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.read_array(address)?))
    }

    /// Reads `N` 64-bit words.
    pub fn read_words<const N: usize>(&self, address: u64) -> Result<[u64; N]> {
        let mut words = [0; N];
        let mut bytes = [[0; 8]; N];
        self.read_bytes(address, bytes.as_flattened_mut())?;
        for (word, bytes) in words.iter_mut().zip(bytes) {
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    pub fn write_words<const N: usize>(&self, address: u64, words: [u64; N]) -> Result<()> {
        self.write_bytes(address, words.map(u64::to_le_bytes).as_flattened())
    }

    pub fn write_u32(&self, address: u64, value: u32) -> Result<()> {
        self.write_bytes(address, &value.to_le_bytes())
    }

    pub fn write_u64(&self, address: u64, value: u64) -> Result<()> {
        self.write_bytes(address, &value.to_le_bytes())
    }

    /// Reads a text that a zero byte ends, at most `most` bytes with it.
    ///
    /// # Errors
    /// `ENAMETOOLONG` if there is no zero byte among those.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn read_text(&self, address: u64, most: usize) -> Result<Text> {
        let mut text = Text::new();
        if most >= SHORT_TEXT {
            let mut bytes = [0; SHORT_TEXT];
            let read = self.memory.read_some(address, &mut bytes);
            if let Some(end) = crate::memory::first_zero(bytes.get(..read).unwrap_or_default()) {
                return Ok(Text::from_buf_and_len(bytes, end));
            }
        }
        while text.len() < most {
            let at = address.checked_add(text.len() as u64).ok_or(Errno::EFAULT)?;
            // Most texts are short. To the end of a page at most: what comes after it need not be there.
            let length = 64.min(most - text.len()).min(4096 - (at & 4095) as usize);
            if self.memory.read_text_onto(at, &mut text, length)? {
                return Ok(text);
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path.
    pub fn read_path(&self, address: u64) -> Result<Text> {
        self.read_text(address, crate::fs::path::LONGEST_PATH)
    }

    /// Reads an array of `struct iovec`.
    #[cfg_attr(target_os = "none", optimize(speed))]
    pub fn read_pieces(&self, address: u64, count: u64) -> Result<GuestSlices> {
        if count > MOST_PIECES {
            return Err(Errno::EINVAL);
        }
        let mut pieces = GuestSlices::with_capacity(count as usize);
        let mut left = MOST_BYTES;
        for index in 0..count {
            let [address, length] = self.read_words(address.wrapping_add(index * 16))?;
            if length > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            let length = length.min(left);
            left -= length;
            pieces.push(GuestSlice { address, length });
        }
        Ok(pieces)
    }

    /// One piece of guest memory.
    pub fn piece(address: u64, length: u64) -> GuestSlice {
        GuestSlice { address, length: length.min(MOST_BYTES) }
    }

    /// What a descriptor leads to.
    pub fn description(&self, descriptor: i32) -> Result<Arc<Description>> {
        self.files.get(descriptor)
    }

    /// The directory that a path starts from: `AT_FDCWD` or a descriptor.
    pub fn start(&self, descriptor: i32, path: &[u8]) -> Result<Arc<Place>> {
        const CURRENT: i32 = -100;
        if descriptor == CURRENT || path.first() == Some(&b'/') {
            return Ok(self.fs.directory());
        }
        self.files.get(descriptor)?.place.clone().ok_or(Errno::ENOTDIR)
    }
}
