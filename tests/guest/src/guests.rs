//! Guests: code of another space, run by a thread until it leaves.

use tessera_runtime::abi::x86_64::GuestState;
use tessera_runtime::abi::{FaultKind, PAGE};
use tessera_runtime::object::guest::Exit;
use tessera_runtime::object::{Access, Space, Vmo, guest};
use tessera_runtime::{Error, Object, own, thread};

use crate::Test;
use crate::context::{Context, sleep};

pub const TESTS: &[Test] = &[
    ("a guest leaves at a system call with its registers", system_call),
    ("a guest that is resumed tells its system calls in registers", resumed),
    ("a guest that is resumed and leaves otherwise tells so", resumed_and_left),
    ("a guest leaves at a fault that says what and where", faults),
    ("a guest that spins is interrupted by an unpark", interrupted),
    ("a guest uses vector registers, which last over exits", vectors),
    ("a guest's vector registers are read and set from outside, and bad ones do no harm", vectors_copied),
    ("a guest cannot reach the memory of its thread", confined),
    ("a thread without a guest cannot enter one", none),
    ("a thread sees its guest's memory beside its own", beside),
];

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;

/// A guest of the calling thread whose code is `code`, with a page of data.
fn guest_with(code: &[u8]) -> (Space, Vmo, GuestState) {
    let pool = own::pool();
    let space = Space::create(&pool).unwrap();
    let text = Vmo::create(&pool, PAGE).unwrap();
    text.write(0, code).unwrap();
    let data = Vmo::create(&pool, PAGE).unwrap();
    space.map_at(&text, 0, CODE, PAGE, Access::Execute).unwrap();
    space.map_at(&data, 0, DATA, PAGE, Access::Write).unwrap();
    guest::create(&thread::current(), &pool, &space).unwrap();
    let mut state = GuestState::default();
    state.registers.rip = CODE;
    state.registers.rsp = DATA + PAGE;
    (space, data, state)
}

fn system_call(_: &mut Context) {
    // mov eax, 39; syscall; mov [0x500000], rax; mov eax, 60; syscall
    let code = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x48, 0x89, 0x04, 0x25, 0, 0, 0x50, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    let (_space, data, mut state) = guest_with(&code);
    state.registers.rbx = 0x1122_3344_5566_7788;
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.registers.rax, state.registers.rip), (0, 39, CODE + 7));
    assert_eq!(state.registers.rbx, 0x1122_3344_5566_7788);
    state.registers.rax = 1234;
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.registers.rax), (0, 60));
    let mut stored = [0; 8];
    data.read(0, &mut stored).unwrap();
    assert_eq!(u64::from_le_bytes(stored), 1234);
}

fn resumed(_: &mut Context) {
    // mov eax, 39; syscall; mov [0x500000], rax; mov r9, r15; mov rax, -1; syscall; jmp to the last
    let code = [
        0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x48, 0x89, 0x04, 0x25, 0, 0, 0x50, 0, 0x4d, 0x89, 0xf9, 0x48, 0xc7, 0xc0, 0xff,
        0xff, 0xff, 0xff, 0x0f, 0x05, 0xeb, 0xfc,
    ];
    let (_space, data, mut state) = guest_with(&code);
    let registers = &mut state.registers;
    (registers.rdi, registers.rsi, registers.rdx) = (1, 2, 3);
    (registers.r10, registers.r8, registers.r15) = (4, 5, 6);
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.registers.rax, state.registers.rcx), (0, 39, CODE + 7));
    let before = state;
    let call = |number, last| Exit::Call { number, arguments: [1, 2, 3, 4, 5, last] };
    // The largest number that is told stands for all above.
    assert_eq!(guest::resume(1234, &mut state), Ok(call(u32::MAX - 1, 6)));
    assert_eq!(state, before, "nothing is written");
    let mut stored = [0; 8];
    data.read(0, &mut stored).unwrap();
    assert_eq!(u64::from_le_bytes(stored), 1234);
    let end = CODE + code.len() as u64;
    for value in [7, u64::MAX >> 31, 8] {
        assert_eq!(guest::resume(value, &mut state), Ok(call(value.min(u64::from(u32::MAX) - 1) as u32, 6)));
        guest::save(&mut state).unwrap();
        assert_eq!((state.registers.rax, state.registers.rip, state.registers.r15), (value, end - 2, 6));
        assert_eq!((state.registers.rcx, state.registers.r11), (state.registers.rip, state.registers.rflags));
        sleep(1);
    }
}

fn resumed_and_left(_: &mut Context) {
    // syscall; mov [0x12345678], eax; (at 16) jmp to itself
    let mut code = [0x90; 32];
    code[..9].copy_from_slice(&[0x0f, 0x05, 0x89, 0x04, 0x25, 0x78, 0x56, 0x34, 0x12]);
    code[16..18].copy_from_slice(&[0xeb, 0xfe]);
    let (_space, _data, mut state) = guest_with(&code);
    guest::enter(&mut state).unwrap();
    assert_eq!(guest::resume(5, &mut state), Ok(Exit::Left));
    assert_eq!((state.exit, state.fault, state.address), (1, FaultKind::Write as u64, 0x1234_5678));
    assert_eq!((state.registers.rax, state.registers.rip), (5, CODE + 2));
    // From a system call into the loop: its address is on the guest's way already.
    code[..7].copy_from_slice(&[0x0f, 0x05, 0xeb, 12, 0x90, 0x90, 0x90]);
    let other = thread::spawn(move || {
        let (_space, _data, mut state) = guest_with(&code);
        guest::enter(&mut state).unwrap();
        let runner = thread::current().try_clone().unwrap();
        let other = thread::spawn(move || {
            sleep(30);
            runner.unpark().unwrap();
        })
        .unwrap();
        assert_eq!(guest::resume(6, &mut state), Ok(Exit::Left));
        assert_eq!((state.exit, state.registers.rax, state.registers.rip), (2, 6, CODE + 16));
        other.join();
        thread::current().unpark().unwrap();
        assert_eq!(guest::resume(0, &mut state), Err(Error::Interrupted), "an unpark before it is not lost");
    })
    .unwrap();
    other.join();
}

fn faults(_: &mut Context) {
    // mov [0x12345678], eax; (at 16) ud2
    let mut code = [0x90; 32];
    code[..7].copy_from_slice(&[0x89, 0x04, 0x25, 0x78, 0x56, 0x34, 0x12]);
    code[16..18].copy_from_slice(&[0x0f, 0x0b]);
    let (_space, _data, mut state) = guest_with(&code);
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.fault, state.address), (1, FaultKind::Write as u64, 0x1234_5678));
    assert_eq!(state.registers.rip, CODE);
    state.registers.rip = CODE + 16;
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.fault, state.registers.rip), (1, FaultKind::Instruction as u64, CODE + 16));
}

fn interrupted(_: &mut Context) {
    let (_space, _data, mut state) = guest_with(&[0xeb, 0xfe]);
    let runner = thread::current().try_clone().unwrap();
    let other = thread::spawn(move || {
        sleep(30);
        runner.unpark().unwrap();
    })
    .unwrap();
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.registers.rip), (2, CODE));
    other.join();
    thread::current().unpark().unwrap();
    assert_eq!(guest::enter(&mut state), Err(Error::Interrupted), "an unpark before the entry is not lost");
}

fn vectors(_: &mut Context) {
    // movq xmm3, rax; syscall; movq rdx, xmm3; syscall
    let code = [0x66, 0x48, 0x0f, 0x6e, 0xd8, 0x0f, 0x05, 0x66, 0x48, 0x0f, 0x7e, 0xda, 0x0f, 0x05];
    let (_space, _data, mut state) = guest_with(&code);
    state.registers.rax = 0xabcd_ef01_2345_6789;
    guest::enter(&mut state).unwrap();
    assert_eq!(state.exit, 0);
    sleep(5);
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.registers.rdx), (0, 0xabcd_ef01_2345_6789));
}

fn vectors_copied(_: &mut Context) {
    // movq xmm3, rax; syscall; movq rdx, xmm3; syscall
    let code = [0x66, 0x48, 0x0f, 0x6e, 0xd8, 0x0f, 0x05, 0x66, 0x48, 0x0f, 0x7e, 0xda, 0x0f, 0x05];
    let (_space, _data, mut state) = guest_with(&code);
    state.registers.rax = 0xabcd_ef01_2345_6789;
    guest::enter(&mut state).unwrap();
    let mut vector = [0; 4096];
    let size = guest::vector_state(&mut vector).unwrap() as usize;
    assert!((512..=vector.len()).contains(&size));
    // XMM3 lies at 160 + 3 * 16 (Intel SDM volume 1, table 10-2).
    assert_eq!(vector[208..216], 0xabcd_ef01_2345_6789_u64.to_le_bytes());
    vector[208..216].copy_from_slice(&77_u64.to_le_bytes());
    guest::set_vector_state(&vector[..size]).unwrap();
    guest::enter(&mut state).unwrap();
    assert_eq!(state.registers.rdx, 77);
    // What no processor would load is loaded as far as it can be.
    state.registers.rip = CODE + 7;
    vector[24..32].fill(0xff);
    vector[512..576].fill(0xff);
    guest::set_vector_state(&vector[..size]).unwrap();
    guest::enter(&mut state).unwrap();
    assert_eq!((state.exit, state.registers.rdx), (0, 77));
}

fn confined(_: &mut Context) {
    // mov al, [rbx]
    let (_space, _data, mut state) = guest_with(&[0x8a, 0x03]);
    let secret = 7_u64;
    for address in [&raw const secret as u64, 0x7f00_0000_0000, 0xffff_ffff_8020_0000] {
        state.registers.rip = CODE;
        state.registers.rbx = address;
        guest::enter(&mut state).unwrap();
        assert_eq!((state.exit, state.fault), (1, FaultKind::Read as u64), "{address:#x}");
    }
}

fn none(_: &mut Context) {
    assert_eq!(guest::enter(&mut GuestState::default()), Err(Error::BadState));
    assert_eq!(guest::resume(0, &mut GuestState::default()), Err(Error::BadState));
    assert_eq!(guest::save(&mut GuestState::default()), Err(Error::BadState));
    let space = Space::create(&own::pool()).unwrap();
    guest::create(&thread::current(), &own::pool(), &space).unwrap();
    assert_eq!(guest::create(&thread::current(), &own::pool(), &space), Err(Error::Occupied));
}

fn beside(_: &mut Context) {
    let (_space, data, _state) = guest_with(&[0x0f, 0x05]);
    data.write(3, &[99]).unwrap();
    assert_eq!(crate::machine::read(DATA + 3), 99);
    crate::machine::write(DATA + 4, 98);
    let mut found = [0];
    data.read(4, &mut found).unwrap();
    assert_eq!(found, [98]);
}
