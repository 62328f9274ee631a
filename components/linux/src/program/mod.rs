//! Programs: reading ELF files and scripts, and laying out a new process's memory.

pub mod elf;
pub mod load;
pub mod stack;
pub mod vdso;
