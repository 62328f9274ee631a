//! The frame that a handler finds on its stack, and goes back through: `struct rt_sigframe` of x86-64
//! (arch/x86/include/uapi/asm/{sigcontext,ucontext}.h; the order of the registers is `struct sigcontext_64`'s).

use alloc::vec;
use alloc::vec::Vec;

use tessera_runtime::abi::x86_64::Registers;
use tessera_runtime::object::guest;

use super::{Info, Set};
use crate::errno::{Errno, Result};
use crate::task::Context;

/// `sizeof(struct ucontext)` on x86-64: flags, link, stack, 256 bytes of registers, the mask.
const UCONTEXT: usize = 304;
/// Return address, ucontext, siginfo.
pub const FRAME: usize = 8 + UCONTEXT + 128;
/// Where the registers are in the ucontext, and the mask.
const REGISTERS: usize = 40;
const MASK: usize = 296;
/// The segments that user code runs with: cs, gs, fs, ss.
const SEGMENTS: u64 = 0x33 | 0x2b << 48;
/// Flags of a ucontext: vector state is extended, ss is valid, and must be.
const FLAGS: u64 = 7;
/// The marks of extended state in the software bytes of an FXSAVE area, and behind the state.
const MAGIC_1: u32 = 0x4650_5853;
const MAGIC_2: u32 = 0x4650_5845;
const SOFTWARE: usize = 464;
/// Bytes of the legacy area, with the header of the extended one.
const LEGACY: usize = 512;
const WITH_HEADER: usize = 576;
/// The most that the vector state can take.
const MOST_STATE: usize = 4096;

fn put(bytes: &mut [u8], at: usize, from: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + from.len()) {
        place.copy_from_slice(from);
    }
}

fn get(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The registers in the frame's order.
fn ordered(registers: &Registers) -> [u64; 18] {
    let r = registers;
    [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp,
        r.rip, r.rflags,
    ]
}

/// The vector state with the software bytes filled, ended by the second mark; its size is what the frame needs for it.
fn vector_state() -> Result<Vec<u8>> {
    let mut state = vec![0; MOST_STATE];
    let size = guest::vector_state(&mut state)? as usize;
    let size = size.clamp(LEGACY, MOST_STATE);
    state.truncate(size);
    if size >= WITH_HEADER {
        let components = get(&state, LEGACY) | 3;
        put(&mut state, SOFTWARE, &MAGIC_1.to_le_bytes());
        put(&mut state, SOFTWARE + 4, &(size as u32 + 4).to_le_bytes());
        put(&mut state, SOFTWARE + 8, &components.to_le_bytes());
        put(&mut state, SOFTWARE + 16, &(size as u32).to_le_bytes());
        state.extend_from_slice(&MAGIC_2.to_le_bytes());
    }
    Ok(state)
}

/// Where a handler starts: the new stack pointer, and the addresses of the ucontext and the siginfo.
pub struct Built {
    pub stack: u64,
    pub context: u64,
    pub info: u64,
}

/// Builds a frame below `top`.
///
/// # Errors
/// `EFAULT` if the stack cannot hold it.
pub fn build(
    context: &mut Context,
    top: u64,
    info: &Info,
    mask: Set,
    restorer: u64,
    stack: (u64, u32, u64),
    fault: (u64, u64, u64),
) -> Result<Built> {
    let vector = vector_state()?;
    let vector_at = top.checked_sub(vector.len() as u64).ok_or(Errno::EFAULT)? & !63;
    // As at a call: the return address is 8 below a multiple of 16.
    let frame_at = (vector_at.checked_sub(FRAME as u64 + 8).ok_or(Errno::EFAULT)? & !15) + 8 - 16;
    let mut frame = [0; FRAME];
    put(&mut frame, 0, &restorer.to_le_bytes());
    put(&mut frame, 8, &FLAGS.to_le_bytes());
    put(&mut frame, 8 + 16, &stack.0.to_le_bytes());
    put(&mut frame, 8 + 24, &stack.1.to_le_bytes());
    put(&mut frame, 8 + 32, &stack.2.to_le_bytes());
    let (error, trap, address) = fault;
    let tail = [SEGMENTS, error, trap, mask.bits(), address, vector_at];
    let words = ordered(context.registers());
    for (index, word) in words.iter().chain(&tail).enumerate() {
        put(&mut frame, 8 + REGISTERS + 8 * index, &word.to_le_bytes());
    }
    put(&mut frame, 8 + MASK, &mask.bits().to_le_bytes());
    put(&mut frame, 8 + UCONTEXT, &info.to_bytes());
    context.write_bytes(vector_at, &vector)?;
    context.write_bytes(frame_at, &frame)?;
    Ok(Built { stack: frame_at, context: frame_at + 8, info: frame_at + 8 + UCONTEXT as u64 })
}

/// What a frame says: registers, mask, alternate stack.
pub struct Restored {
    pub registers: Registers,
    pub mask: Set,
    pub stack: (u64, u32, u64),
}

/// Reads the frame that a handler returned through; the stack pointer is behind the return address. Puts the vector state back.
pub fn restore(context: &mut Context) -> Result<Restored> {
    let now = *context.registers();
    let frame: [u8; UCONTEXT] = context.read_array(now.rsp)?;
    let word = |index: usize| get(&frame, REGISTERS + 8 * index);
    let registers = Registers {
        r8: word(0),
        r9: word(1),
        r10: word(2),
        r11: word(3),
        r12: word(4),
        r13: word(5),
        r14: word(6),
        r15: word(7),
        rdi: word(8),
        rsi: word(9),
        rbp: word(10),
        rbx: word(11),
        rdx: word(12),
        rax: word(13),
        rcx: word(14),
        rsp: word(15),
        rip: word(16),
        rflags: word(17),
        fs_base: now.fs_base,
        gs_base: now.gs_base,
    };
    let vector_at = word(23);
    if vector_at != 0 {
        let mut state = vec![0; LEGACY];
        context.read_bytes(vector_at, &mut state)?;
        let size = get_u32(&state, SOFTWARE + 16) as usize;
        if get_u32(&state, SOFTWARE) == MAGIC_1 && (WITH_HEADER..=MOST_STATE).contains(&size) {
            state.resize(size, 0);
            context.read_bytes(vector_at, &mut state)?;
        }
        guest::set_vector_state(&state)?;
    }
    let stack = (get(&frame, 16), get_u32(&frame, 24), get(&frame, 32));
    Ok(Restored { registers, mask: Set::from_bits(get(&frame, MASK)), stack })
}
