//! Arguments that no honest program passes: each is refused with the error that says whose fault it is, and changes nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tessera_runtime::abi::syscall::map_flags::{EXECUTE, FIXED, READ, WRITE};
use tessera_runtime::abi::{NEVER, PAGE, Syscall, Tag, USER_END};
use tessera_runtime::object::{Access, Endpoint, Event, Process, Seal, Session, Space, Thread, Vmo, park};
use tessera_runtime::{Error, Handle, Kind, Object, Owned, Rights, own, thread};

use crate::context::{Context, NO_HANDLE, call, event, number, sleep};
use crate::{Test, machine};

pub const TESTS: &[Test] = &[
    ("unknown call numbers are refused", unknown_calls),
    ("numbers that are no handles are refused by every call", bad_handles),
    ("handles of a wrong kind are refused by every call", wrong_kinds),
    ("handles without rights are refused by every call", missing_rights),
    ("handle numbers with bits above the lower half name nothing", high_bits),
    ("a closed handle names nothing, also when its place is used again", closed_handles),
    ("kernel addresses are not read or written for a process", kernel_addresses),
    ("unmapped addresses are not read or written for a process", unmapped_addresses),
    ("read-only memory is not written for a process", read_only_buffers),
    ("lengths that wrap around are refused", wrapping_lengths),
    ("unaligned mappings are refused", unaligned_mappings),
    ("overlapping mappings are refused and change nothing", overlapping_mappings),
    ("mappings in the kernel's half are refused", kernel_mappings),
    ("writable and executable mappings are refused", write_and_execute),
    ("unknown flags and rights are refused", unknown_bits),
    ("messages whose parts do not fit are refused", bad_tags),
    ("registers of a thread cannot name kernel addresses", kernel_registers),
];

/// The kinds that the calls want in their handle arguments: (call, argument, kind).
const WANTS: &[(Syscall, usize, Kind)] = &[
    (Syscall::PoolCreate, 0, Kind::Pool),
    (Syscall::PoolInspect, 0, Kind::Pool),
    (Syscall::VmoCreate, 0, Kind::Pool),
    (Syscall::VmoCreatePaged, 0, Kind::Pool),
    (Syscall::VmoRead, 0, Kind::Vmo),
    (Syscall::VmoWrite, 0, Kind::Vmo),
    (Syscall::VmoResize, 0, Kind::Vmo),
    (Syscall::VmoDiscard, 0, Kind::Vmo),
    (Syscall::VmoSnapshot, 0, Kind::Vmo),
    (Syscall::VmoInspect, 0, Kind::Vmo),
    (Syscall::SpaceCreate, 0, Kind::Pool),
    (Syscall::SpaceMap, 0, Kind::Space),
    (Syscall::SpaceUnmap, 0, Kind::Space),
    (Syscall::SpaceProtect, 0, Kind::Space),
    (Syscall::ProcessCreate, 0, Kind::Pool),
    (Syscall::ProcessGrant, 0, Kind::Process),
    (Syscall::ProcessKill, 0, Kind::Process),
    (Syscall::ProcessInspect, 0, Kind::Process),
    (Syscall::ProcessWatch, 0, Kind::Process),
    (Syscall::ProcessHandler, 0, Kind::Process),
    (Syscall::ThreadCreate, 0, Kind::Pool),
    (Syscall::ThreadStart, 0, Kind::Thread),
    (Syscall::ThreadSuspend, 0, Kind::Thread),
    (Syscall::ThreadResume, 0, Kind::Thread),
    (Syscall::ThreadRead, 0, Kind::Thread),
    (Syscall::ThreadWrite, 0, Kind::Thread),
    (Syscall::ThreadBudget, 0, Kind::Thread),
    (Syscall::Unpark, 0, Kind::Thread),
    (Syscall::BudgetCreate, 0, Kind::Pool),
    (Syscall::BudgetInspect, 0, Kind::Budget),
    (Syscall::EndpointCreate, 0, Kind::Pool),
    (Syscall::SessionCreate, 0, Kind::Endpoint),
    (Syscall::SessionBadge, 0, Kind::Endpoint),
    (Syscall::EndpointBind, 0, Kind::Endpoint),
    (Syscall::Call, 0, Kind::Session),
    (Syscall::Receive, 0, Kind::Endpoint),
    (Syscall::ReplyAttach, 0, Kind::Reply),
    (Syscall::EventCreate, 0, Kind::Pool),
    (Syscall::EventRaise, 0, Kind::Event),
    (Syscall::EventClear, 0, Kind::Event),
    (Syscall::EventWait, 0, Kind::Event),
    (Syscall::InterruptCreate, 0, Kind::Interrupt),
    (Syscall::InterruptBind, 0, Kind::Interrupt),
    (Syscall::InterruptAcknowledge, 0, Kind::Interrupt),
    (Syscall::DmaCreate, 0, Kind::Dma),
    (Syscall::DmaPin, 0, Kind::Dma),
    (Syscall::DmaInspect, 0, Kind::Dma),
    (Syscall::InterruptCreateMessage, 0, Kind::Interrupt),
    (Syscall::InterruptInspect, 0, Kind::Interrupt),
    (Syscall::IoPortCreate, 0, Kind::IoPort),
    (Syscall::IoPortRead, 0, Kind::IoPort),
    (Syscall::IoPortWrite, 0, Kind::IoPort),
    (Syscall::MmioCreate, 0, Kind::Mmio),
    (Syscall::ClockRead, 0, Kind::Clock),
    (Syscall::ClockInspect, 0, Kind::Clock),
    (Syscall::LogWrite, 0, Kind::Log),
    (Syscall::PowerControl, 0, Kind::Power),
    (Syscall::SealCreate, 0, Kind::Pool),
    (Syscall::SealClose, 0, Kind::Seal),
    (Syscall::SealOpen, 0, Kind::Unseal),
    (Syscall::GuestCreate, 0, Kind::Thread),
    (Syscall::ThreadVector, 0, Kind::Thread),
];

fn unknown_calls(_: &mut Context) {
    let first = Syscall::ALL.len() as u64;
    for unknown in [first, first + 1, 100, 1000, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        assert_eq!(machine::call(unknown, &[1, 2, 3, 4, 5, 6]), Err(Error::BadSyscall), "number {unknown:#x}");
    }
}

fn bad_handles(_: &mut Context) {
    for &(number, ..) in WANTS {
        for bad in [0, u64::from(NO_HANDLE.0), u64::from(u32::MAX), u64::MAX] {
            assert_eq!(call(number, &[bad]), Err(Error::BadHandle), "{number:?} of {bad:#x}");
        }
    }
    for number in [Syscall::Close, Syscall::Duplicate, Syscall::Revoke, Syscall::Inspect] {
        assert_eq!(call(number, &[NO_HANDLE.0.into()]), Err(Error::BadHandle), "{number:?}");
    }
}

fn wrong_kinds(_: &mut Context) {
    let (event, pool) = (event(), own::pool());
    let endpoint = Endpoint::create(&pool).unwrap();
    for &(syscall, _, kind) in WANTS {
        let wrong = if kind == Kind::Event { number(&*pool) } else { number(&event) };
        // The third argument is an endpoint for the one call that looks at it first.
        assert_eq!(call(syscall, &[wrong, 0, number(&endpoint)]), Err(Error::WrongKind), "{syscall:?}");
    }
}

fn missing_rights(_: &mut Context) {
    let pool = own::pool();
    let endpoint = Endpoint::create(&pool).unwrap();
    let pager = endpoint.try_clone().unwrap();
    let session = Session::create(&endpoint, &pool, 1).unwrap();
    let (seal, unseal) = Seal::create(&pool).unwrap();
    let none = |object: Owned, kind: Kind| (kind, bare(object));
    let bare_handles = [
        none(pool.duplicate(Rights::NONE).unwrap().into_owned(), Kind::Pool),
        none(Vmo::create(&pool, 1).unwrap().into_owned(), Kind::Vmo),
        none(own::space().duplicate(Rights::ALL).unwrap().into_owned(), Kind::Space),
        none(own::process().duplicate(Rights::ALL).unwrap().into_owned(), Kind::Process),
        none(thread::current().duplicate(Rights::ALL).unwrap().into_owned(), Kind::Thread),
        none(endpoint.into_owned(), Kind::Endpoint),
        none(session.into_owned(), Kind::Session),
        none(event().into_owned(), Kind::Event),
        none(seal.into_owned(), Kind::Seal),
        none(unseal.into_owned(), Kind::Unseal),
        none(own::log().try_clone().unwrap().into_owned(), Kind::Log),
    ];
    // What may be asked with any handle to the object.
    let free = [
        Syscall::PoolInspect,
        Syscall::VmoInspect,
        Syscall::ProcessInspect,
        Syscall::BudgetInspect,
        Syscall::SealClose,
        Syscall::SealOpen,
    ];
    for &(syscall, _, kind) in WANTS.iter().filter(|(syscall, ..)| !free.contains(syscall)) {
        if let Some((_, handle)) = bare_handles.iter().find(|(found, _)| *found == kind) {
            let result = call(syscall, &[handle.number(), 0, number(&pager)]);
            assert_eq!(result, Err(Error::NoRight), "{syscall:?}");
        }
    }
    for (_, handle) in &bare_handles {
        assert_eq!(call(Syscall::Duplicate, &[handle.number(), 0]), Err(Error::NoRight));
        assert_eq!(call(Syscall::Revoke, &[handle.number()]), Err(Error::NoRight));
        assert_eq!(call(Syscall::ProcessGrant, &[number(&*own::process()), handle.number()]), Err(Error::NoRight));
    }
}

/// A handle without rights in place of one with all.
fn bare(object: Owned) -> Owned {
    match call(Syscall::Duplicate, &[object.number(), 0]) {
        Ok(values) => machine::named(Handle(values[0] as u32)),
        // It has no right to be duplicated: it is bare already.
        Err(_) => object,
    }
}

fn high_bits(_: &mut Context) {
    let event = event();
    for bit in 32..64 {
        let wrong = number(&event) | 1 << bit;
        assert_eq!(call(Syscall::EventRaise, &[wrong, 1]), Err(Error::BadHandle), "bit {bit}");
    }
    assert_eq!(event.clear(0), Ok(0));
}

fn closed_handles(_: &mut Context) {
    let first = event();
    let stale = number(&first);
    drop(first);
    let others: Vec<Event> = (0..8).map(|_| event()).collect();
    assert_eq!(call(Syscall::EventRaise, &[stale, 1]), Err(Error::BadHandle));
    assert!(others.iter().all(|event| event.clear(0) == Ok(0)));
}

/// Addresses that are never a process's own.
const FOREIGN: [u64; 7] = [
    USER_END,
    USER_END - 8,
    0xffff_8000_0000_0000,
    0xffff_ffff_8020_0000,
    u64::MAX - 7,
    0x8000_0000_0000_0000,
    0xffff_7fff_ffff_f000,
];

fn kernel_addresses(_: &mut Context) {
    refuses_addresses(&FOREIGN);
}

fn unmapped_addresses(_: &mut Context) {
    refuses_addresses(&[0, 8, PAGE, 0x1234_5678_9000, 0x7f3f_ffff_f000]);
}

/// Every call that reads or writes memory refuses these addresses, and an honest call after it still works.
fn refuses_addresses(addresses: &[u64]) {
    let memory = Vmo::create(&own::pool(), 2 * PAGE).unwrap();
    assert_eq!(memory.write(0, b"still here"), Ok(10));
    let other = thread::spawn(|| while park(None).is_ok() {}).unwrap();
    other.thread().suspend().unwrap();
    for &address in addresses {
        let none_or_refused = |result: Result<[u64; 6], Error>| match result {
            Ok(values) => values[0] == 0,
            Err(error) => error == Error::BadAddress,
        };
        let vmo = number(&memory);
        assert!(none_or_refused(call(Syscall::VmoRead, &[vmo, 0, address, 64])), "vmo_read to {address:#x}");
        assert!(none_or_refused(call(Syscall::VmoWrite, &[vmo, 0, address, 64])), "vmo_write of {address:#x}");
        let refused = Err(Error::BadAddress);
        assert_eq!(call(Syscall::LogWrite, &[number(&*own::log()), address, 64]), refused, "log_write of {address:#x}");
        let thread = number(&*other.thread());
        assert_eq!(call(Syscall::ThreadRead, &[thread, address]), refused, "thread_read to {address:#x}");
        assert_eq!(call(Syscall::ThreadWrite, &[thread, address]), refused, "thread_write of {address:#x}");
    }
    let mut content = [0; 10];
    assert_eq!(memory.read(0, &mut content), Ok(10));
    assert_eq!(&content, b"still here");
    // The process ends with the suspended thread in it.
    core::mem::forget(other);
}

fn read_only_buffers(_: &mut Context) {
    static CONSTANT: [u8; 64] = [7; 64];
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    let result = call(Syscall::VmoRead, &[number(&memory), 0, CONSTANT.as_ptr() as u64, 64]);
    assert!(matches!(result, Err(Error::BadAddress) | Ok([0, ..])), "{result:?}");
    assert!(core::hint::black_box(&CONSTANT).iter().all(|byte| *byte == 7));
}

fn wrapping_lengths(_: &mut Context) {
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    let (vmo, space) = (number(&memory), number(&*own::space()));
    let mut buffer = Box::new([0_u8; 64]);
    let address = buffer.as_mut_ptr() as u64;
    for length in [u64::MAX, u64::MAX - address + 1, 1 << 63, USER_END - address + 1] {
        for syscall in [Syscall::VmoRead, Syscall::VmoWrite] {
            // No more than the memory's size could be copied; the rest of the range must not be looked at.
            match call(syscall, &[vmo, 0, address, length]) {
                Ok(values) => assert!(values[0] <= PAGE, "{syscall:?} copied {}", values[0]),
                Err(error) => {
                    assert!(matches!(error, Error::BadAddress | Error::BadArgument), "{syscall:?}: {error:?}")
                }
            }
        }
        let log = number(&*own::log());
        assert!(call(Syscall::LogWrite, &[log, address, length]).is_err());
    }
    for length in [u64::MAX, !(PAGE - 1), 0, USER_END] {
        let map = call(Syscall::SpaceMap, &[space, vmo, 0, 0x7f30_0000_0000, length, READ | FIXED]);
        assert_eq!(map, Err(Error::BadArgument), "map of {length:#x}");
        let unmap = machine::unmap(&own::space(), 0x7f30_0000_0000, length);
        assert_eq!(unmap, Err(Error::BadArgument), "unmap of {length:#x}");
    }
    for offset in [!(PAGE - 1), 1 << 63] {
        assert!(call(Syscall::SpaceMap, &[space, vmo, offset, 0, PAGE, READ]).is_err(), "offset {offset:#x}");
        assert_eq!(memory.write(offset, &[1]).unwrap_or(0), 0, "offset {offset:#x}");
        assert_eq!(memory.read(offset, &mut [1]).unwrap_or(0), 0, "offset {offset:#x}");
    }
    assert!(Vmo::create(&own::pool(), u64::MAX).is_err());
    assert!(own::pool().create(u64::MAX).is_err());
    assert!(own::pool().create(1 << 32).is_err());
}

fn unaligned_mappings(_: &mut Context) {
    let memory = Vmo::create(&own::pool(), 2 * PAGE).unwrap();
    let space = own::space();
    let base = 0x7f30_0000_0000;
    let map = |offset, address, length| space.map_at(&memory, offset, address, length, Access::Read);
    assert_eq!(map(1, base, PAGE), Err(Error::BadArgument));
    assert_eq!(map(0, base + 1, PAGE), Err(Error::BadArgument));
    assert_eq!(map(0, base, PAGE + 1), Err(Error::BadArgument));
    assert_eq!(machine::unmap(&space, base + 8, PAGE), Err(Error::BadArgument));
    assert_eq!(machine::protect(&space, base, PAGE - 1, Access::Read), Err(Error::BadArgument));
    assert_eq!(map(0, base, PAGE), Ok(()));
    assert_eq!(machine::unmap(&space, base, PAGE), Ok(()));
}

fn overlapping_mappings(_: &mut Context) {
    let pool = own::pool();
    let (first, second) = (Vmo::create(&pool, 4 * PAGE).unwrap(), Vmo::create(&pool, 4 * PAGE).unwrap());
    first.write(PAGE, &[1]).unwrap();
    second.write(0, &[2; 1]).unwrap();
    let space = own::space();
    let base = 0x7f30_0000_0000;
    space.map_at(&first, PAGE, base + PAGE, PAGE, Access::Read).unwrap();
    for (address, pages) in [(base, 2), (base + PAGE, 1), (base + PAGE, 2), (base, 4)] {
        let result = space.map_at(&second, 0, address, pages * PAGE, Access::Read);
        assert_eq!(result, Err(Error::Occupied), "{address:#x}, {pages} pages");
    }
    assert_eq!(machine::read(base + PAGE), 1);
    assert_eq!(space.map_at(&second, 0, base, PAGE, Access::Read), Ok(()));
    assert_eq!((machine::read(base), machine::read(base + PAGE)), (2, 1));
    machine::unmap(&space, base, 2 * PAGE).unwrap();
}

fn kernel_mappings(_: &mut Context) {
    let memory = Vmo::create(&own::pool(), 2 * PAGE).unwrap();
    let space = own::space();
    for address in [USER_END, USER_END - PAGE, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, !(PAGE - 1)] {
        let result = space.map_at(&memory, 0, address, 2 * PAGE, Access::Read);
        assert!(matches!(result, Err(Error::BadArgument | Error::BadAddress)), "{address:#x}: {result:?}");
        assert!(machine::unmap(&space, address, 2 * PAGE).is_err(), "{address:#x}");
    }
}

fn write_and_execute(_: &mut Context) {
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    let space = own::space();
    let result = space.map_flags(&memory, 0, 0, PAGE, READ | WRITE | EXECUTE);
    assert_eq!(result, Err(Error::BadArgument));
    let address = space.map(&memory, 0, PAGE, Access::Write).unwrap();
    let flags = READ | WRITE | EXECUTE;
    assert_eq!(call(Syscall::SpaceProtect, &[number(&*space), address, PAGE, flags]), Err(Error::BadArgument));
    machine::write(address, 1);
    machine::unmap(&space, address, PAGE).unwrap();
}

fn unknown_bits(_: &mut Context) {
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    assert_eq!(own::space().map_flags(&memory, 0, 0, PAGE, READ | 1 << 40), Err(Error::BadArgument));
    assert_eq!(call(Syscall::Duplicate, &[number(&memory), 1 << 31]), Err(Error::BadArgument));
    assert_eq!(call(Syscall::Duplicate, &[number(&memory), u64::MAX]), Err(Error::BadArgument));
    assert_eq!(call(Syscall::PoolInspect, &[number(&*own::pool()), 31]), Err(Error::BadArgument));
    assert_eq!(call(Syscall::PoolInspect, &[number(&*own::pool()), u64::MAX]), Err(Error::BadArgument));
}

fn bad_tags(_: &mut Context) {
    let pool = own::pool();
    let endpoint = Endpoint::create(&pool).unwrap();
    let session = Session::create(&endpoint, &pool, 1).unwrap();
    let number = number(&session);
    let refused = |tag: Tag, words: [u64; 8]| machine::message(Syscall::Call as u64, number, tag.0, words).unwrap_err();
    let three = Tag::new(1).with_lease(false).with_lease(false).with_lease(false);
    assert_eq!(refused(three.with_handles(3), [0; 8]), Error::BadArgument);
    assert_eq!(refused(Tag(1 << 60), [0; 8]), Error::BadArgument);
    assert_eq!(refused(Tag(1 << 32), [0; 8]), Error::BadArgument, "bytes without a buffer");
    assert_eq!(refused(Tag(2000 << 32 | Tag::BUFFER), [0; 8]), Error::BadArgument, "too many bytes");
    assert_eq!(refused(Tag(5 << 43), [0; 8]), Error::BadArgument, "too many handles");
    assert_eq!(refused(Tag::new(1).with_handles(1), [NO_HANDLE.0.into(); 8]), Error::BadHandle);
    let kernel = 0xffff_8000_0000_0000;
    assert_eq!(refused(Tag::new(1).with_lease(true), [kernel, 64, 0, 0, 0, 0, 0, 0]), Error::BadAddress);
    assert_eq!(refused(Tag::new(1).with_lease(true), [PAGE, u64::MAX, 0, 0, 0, 0, 0, 0]), Error::BadAddress);
    // The buffer is looked at when a receiver takes the message.
    let server = thread::spawn(move || endpoint.receive_into(&mut [0; Tag::MAX_BYTES]).map(|_| ())).unwrap();
    sleep(20);
    assert_eq!(refused(Tag::new(1).with_bytes(8), [kernel; 8]), Error::BadAddress);
    drop(session);
    assert_eq!(server.join(), Ok(()), "it was told of the closed session, not of the refused call");
    let wait = call(Syscall::EventWait, &[self::number(&event()), 0, 0, NEVER]);
    assert_eq!(wait, Err(Error::BadArgument), "waiting for no bit would never end");
}

fn kernel_registers(_: &mut Context) {
    for address in FOREIGN.into_iter().filter(|address| *address >= USER_END) {
        let result = call(Syscall::ThreadPointer, &[address]);
        assert!(matches!(result, Err(Error::BadArgument | Error::BadAddress)), "{address:#x}: {result:?}");
    }
    let budget = own::budget();
    for address in [USER_END, 0xffff_8000_0000_0000, 0xffff_ffff_8020_0000] {
        let space = Space::create(&own::pool()).unwrap();
        let process = Process::create(&own::pool(), &space, "victim").unwrap();
        let thread = Thread::create(&own::pool(), &process, Some(&budget)).unwrap();
        let result = machine::start(&thread, address, 0x1000);
        // Refused, or started at an address where it faults in user mode.
        assert!(matches!(result, Ok(()) | Err(Error::BadArgument | Error::BadAddress | Error::BadState)), "{result:?}");
    }
}
