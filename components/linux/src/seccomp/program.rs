//! Classic BPF as seccomp(2) takes it: a checked program, and what runs it.
//!
//! After [`Program::check`] nothing that a program does can fail: jumps go forward and stay inside, words of the call are read where
//! they are, scratch memory is written before it is read, and the last instruction returns. So each run ends.

use alloc::vec;
use alloc::vec::Vec;

use super::DATA;
use crate::errno::{Errno, Result};

/// The longest program (`BPF_MAXINSNS`).
pub const LONGEST: usize = 4096;
/// Words of scratch memory.
const SCRATCH: usize = 16;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub when_true: u8,
    pub when_false: u8,
    pub k: u32,
}

impl Instruction {
    pub fn from_bytes(bytes: [u8; 8]) -> Instruction {
        let [a, b, when_true, when_false, e, f, g, h] = bytes;
        let (code, k) = (u16::from_le_bytes([a, b]), u32::from_le_bytes([e, f, g, h]));
        Instruction { code, when_true, when_false, k }
    }
}

/// The codes of the instructions that seccomp allows, as the kernel's headers make them of class, size, mode and source.
mod code {
    pub const LOAD: u16 = 0x20;
    pub const LOAD_LENGTH: u16 = 0x80;
    pub const LOAD_X_LENGTH: u16 = 0x81;
    pub const LOAD_CONSTANT: u16 = 0x00;
    pub const LOAD_X_CONSTANT: u16 = 0x01;
    pub const LOAD_SCRATCH: u16 = 0x60;
    pub const LOAD_X_SCRATCH: u16 = 0x61;
    pub const STORE: u16 = 0x02;
    pub const STORE_X: u16 = 0x03;
    pub const JUMP: u16 = 0x05;
    pub const JUMP_EQUAL: u16 = 0x15;
    pub const JUMP_GREATER: u16 = 0x25;
    pub const JUMP_AT_LEAST: u16 = 0x35;
    pub const JUMP_BITS: u16 = 0x45;
    pub const ADD: u16 = 0x04;
    pub const SUBTRACT: u16 = 0x14;
    pub const MULTIPLY: u16 = 0x24;
    pub const DIVIDE: u16 = 0x34;
    pub const OR: u16 = 0x44;
    pub const AND: u16 = 0x54;
    pub const SHIFT_LEFT: u16 = 0x64;
    pub const SHIFT_RIGHT: u16 = 0x74;
    pub const NEGATE: u16 = 0x84;
    pub const XOR: u16 = 0xa4;
    pub const RETURN: u16 = 0x06;
    pub const RETURN_A: u16 = 0x16;
    pub const A_TO_X: u16 = 0x07;
    pub const X_TO_A: u16 = 0x87;
    /// The operand is X, not the constant.
    pub const OF_X: u16 = 0x08;
}

/// A program that was checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// Takes a program that can only end well.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check(instructions: Vec<Instruction>) -> Result<Program> {
        let length = instructions.len();
        let ends = instructions.last().is_some_and(|last| matches!(last.code, code::RETURN | code::RETURN_A));
        if length > LONGEST || !ends {
            return Err(Errno::EINVAL);
        }
        // Which words of scratch memory are written on every way to an instruction; all bits: not reached yet.
        let mut written = vec![u16::MAX; length];
        let mut now = 0_u16;
        for (index, instruction) in instructions.iter().enumerate() {
            now &= written.get(index).copied().unwrap_or(0);
            let Instruction { code: number, when_true, when_false, k } = *instruction;
            let to = |offset: usize| index.checked_add(1 + offset).filter(|to| *to < length).ok_or(Errno::EINVAL);
            let scratch = || u16::try_from(k).ok().filter(|k| usize::from(*k) < SCRATCH).map(|k| 1_u16 << k);
            match number {
                code::LOAD if !k.is_multiple_of(4) || k as usize >= DATA => return Err(Errno::EINVAL),
                code::LOAD_SCRATCH | code::LOAD_X_SCRATCH => {
                    let word = scratch().ok_or(Errno::EINVAL)?;
                    if now & word == 0 {
                        return Err(Errno::EINVAL);
                    }
                }
                code::STORE | code::STORE_X => now |= scratch().ok_or(Errno::EINVAL)?,
                code::JUMP => {
                    let target = to(k as usize)?;
                    note(&mut written, target, now);
                    now = u16::MAX;
                }
                _ if is_branch(number) => {
                    for offset in [when_true, when_false] {
                        let target = to(offset.into())?;
                        note(&mut written, target, now);
                    }
                    now = u16::MAX;
                }
                code::DIVIDE if k == 0 => return Err(Errno::EINVAL),
                code::SHIFT_LEFT | code::SHIFT_RIGHT if k >= 32 => return Err(Errno::EINVAL),
                _ if is_plain(number) => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(Program(instructions))
    }

    /// How many instructions there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it returns for a call. A division by zero returns 0.
    pub fn run(&self, data: &[u8; DATA]) -> u32 {
        let (mut a, mut x, mut scratch) = (0_u32, 0_u32, [0_u32; SCRATCH]);
        let mut at = 0_usize;
        while let Some(instruction) = self.0.get(at) {
            at += 1;
            let Instruction { code: number, when_true, when_false, k } = *instruction;
            let operand = if number & code::OF_X != 0 { x } else { k };
            let mut branch = |taken: bool| at += usize::from(if taken { when_true } else { when_false });
            match number {
                code::LOAD => a = word(data, k),
                code::LOAD_LENGTH => a = DATA as u32,
                code::LOAD_X_LENGTH => x = DATA as u32,
                code::LOAD_CONSTANT => a = k,
                code::LOAD_X_CONSTANT => x = k,
                code::LOAD_SCRATCH => a = scratch.get(k as usize).copied().unwrap_or(0),
                code::LOAD_X_SCRATCH => x = scratch.get(k as usize).copied().unwrap_or(0),
                code::STORE | code::STORE_X => {
                    if let Some(place) = scratch.get_mut(k as usize) {
                        *place = if number == code::STORE { a } else { x };
                    }
                }
                code::RETURN => return k,
                code::RETURN_A => return a,
                code::A_TO_X => x = a,
                code::X_TO_A => a = x,
                code::NEGATE => a = a.wrapping_neg(),
                code::JUMP => at = at.saturating_add(k as usize),
                _ => match number & !code::OF_X {
                    code::JUMP_EQUAL => branch(a == operand),
                    code::JUMP_GREATER => branch(a > operand),
                    code::JUMP_AT_LEAST => branch(a >= operand),
                    code::JUMP_BITS => branch(a & operand != 0),
                    code::ADD => a = a.wrapping_add(operand),
                    code::SUBTRACT => a = a.wrapping_sub(operand),
                    code::MULTIPLY => a = a.wrapping_mul(operand),
                    code::DIVIDE => match a.checked_div(operand) {
                        Some(quotient) => a = quotient,
                        None => return 0,
                    },
                    code::OR => a |= operand,
                    code::AND => a &= operand,
                    code::XOR => a ^= operand,
                    code::SHIFT_LEFT => a = a.checked_shl(operand & 31).unwrap_or(0),
                    code::SHIFT_RIGHT => a = a.checked_shr(operand & 31).unwrap_or(0),
                    _ => return 0,
                },
            }
        }
        0
    }
}

fn is_branch(number: u16) -> bool {
    let branches = [code::JUMP_EQUAL, code::JUMP_GREATER, code::JUMP_AT_LEAST, code::JUMP_BITS];
    branches.contains(&(number & !code::OF_X))
}

/// Whether this is an instruction that always works.
fn is_plain(number: u16) -> bool {
    let arithmetic = [
        code::ADD,
        code::SUBTRACT,
        code::MULTIPLY,
        code::DIVIDE,
        code::OR,
        code::AND,
        code::XOR,
        code::SHIFT_LEFT,
        code::SHIFT_RIGHT,
    ];
    let others = [
        code::LOAD,
        code::LOAD_LENGTH,
        code::LOAD_X_LENGTH,
        code::LOAD_CONSTANT,
        code::LOAD_X_CONSTANT,
        code::RETURN,
        code::RETURN_A,
        code::A_TO_X,
        code::X_TO_A,
        code::NEGATE,
    ];
    others.contains(&number) || arithmetic.contains(&(number & !code::OF_X))
}

/// A jump reaches `target` with these words written.
fn note(written: &mut [u16], target: usize, now: u16) {
    if let Some(place) = written.get_mut(target) {
        *place &= now;
    }
}

fn word(data: &[u8; DATA], at: u32) -> u32 {
    let bytes = data.get(at as usize..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Result<Program> {
        let instruction = |(code, when_true, when_false, k): &(u16, u8, u8, u32)| Instruction {
            code: *code,
            when_true: *when_true,
            when_false: *when_false,
            k: *k,
        };
        Program::check(instructions.iter().map(instruction).collect())
    }

    fn run(instructions: &[(u16, u8, u8, u32)]) -> u32 {
        program(instructions).unwrap().run(&crate::seccomp::data(39, 0x1000, &[10, 11, 12, 13, 14, 15]))
    }

    #[test]
    fn programs_see_the_call_and_compute() {
        use code::*;
        assert_eq!(run(&[(LOAD, 0, 0, 0), (RETURN_A, 0, 0, 0)]), 39);
        assert_eq!(run(&[(LOAD, 0, 0, 4), (RETURN_A, 0, 0, 0)]), crate::seccomp::ARCHITECTURE);
        assert_eq!(run(&[(LOAD, 0, 0, 56), (RETURN_A, 0, 0, 0)]), 15);
        let branch = [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, 39), (RETURN, 0, 0, 1), (RETURN, 0, 0, 2)];
        assert_eq!(run(&branch), 1);
        assert_eq!(
            run(&[
                (LOAD_CONSTANT, 0, 0, 7),
                (STORE, 0, 0, 3),
                (LOAD_X_SCRATCH, 0, 0, 3),
                (LOAD_LENGTH, 0, 0, 0),
                (SUBTRACT | OF_X, 0, 0, 0),
                (RETURN_A, 0, 0, 0)
            ]),
            57
        );
        assert_eq!(run(&[(LOAD_CONSTANT, 0, 0, 9), (DIVIDE | OF_X, 0, 0, 0), (RETURN, 0, 0, 5)]), 0);
        assert_eq!(run(&[(JUMP, 0, 0, 1), (RETURN, 0, 0, 1), (RETURN, 0, 0, 2)]), 2);
    }

    #[test]
    fn programs_that_could_fail_are_refused() {
        use code::*;
        let refused: [&[(u16, u8, u8, u32)]; 11] = [
            &[],
            &[(LOAD, 0, 0, 0)],
            &[(LOAD, 0, 0, 2), (RETURN, 0, 0, 0)],
            &[(LOAD, 0, 0, 64), (RETURN, 0, 0, 0)],
            &[(JUMP, 0, 0, 1), (RETURN, 0, 0, 0)],
            &[(JUMP_EQUAL, 0, 1, 0), (RETURN, 0, 0, 0)],
            &[(DIVIDE, 0, 0, 0), (RETURN, 0, 0, 0)],
            &[(SHIFT_LEFT, 0, 0, 32), (RETURN, 0, 0, 0)],
            &[(LOAD_SCRATCH, 0, 0, 0), (RETURN, 0, 0, 0)],
            &[(STORE, 0, 0, 16), (RETURN, 0, 0, 0)],
            // Loads of packets, which there are none of.
            &[(0x28, 0, 0, 0), (RETURN, 0, 0, 0)],
        ];
        for instructions in refused {
            assert_eq!(program(instructions), Err(Errno::EINVAL), "{instructions:?}");
        }
        // Written on one way only.
        let half = [(JUMP_EQUAL, 0, 1, 0), (STORE, 0, 0, 0), (LOAD_SCRATCH, 0, 0, 0), (RETURN_A, 0, 0, 0)];
        assert_eq!(program(&half), Err(Errno::EINVAL));
        assert_eq!(program(&[(RETURN, 0, 0, 0); LONGEST + 1]), Err(Errno::EINVAL));
        assert!(program(&[(RETURN, 0, 0, 0); LONGEST]).is_ok());
    }

    /// Whatever passes the check ends, and looks at nothing that is not there.
    #[test]
    fn random_programs_are_refused_or_end() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut taken = 0;
        for _ in 0..20_000 {
            let count = random() as usize % 8 + 1;
            let mut all: Vec<Instruction> = (0..count)
                .map(|_| Instruction {
                    code: random() as u16 & 0xbf,
                    when_true: random() as u8 & 3,
                    when_false: random() as u8 & 3,
                    k: random() as u32 & 0x3f,
                })
                .collect();
            all.push(Instruction { code: code::RETURN_A, when_true: 0, when_false: 0, k: 0 });
            if let Ok(program) = Program::check(all) {
                program.run(&crate::seccomp::data(random(), random(), &[random(); 6]));
                taken += 1;
            }
        }
        assert!(taken > 100);
    }
}
