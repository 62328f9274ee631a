//! Leases: memory of a caller that a server reads and writes until it answers.

use alloc::vec;

use tessera_runtime::object::{Lease, reply};
use tessera_runtime::{Error, Message, thread};

use crate::Test;
use crate::calls::pair;
use crate::context::Context;

pub const TESTS: &[Test] = &[
    ("a server reads and writes what was lent", lent),
    ("a lease crosses page borders and is bounded by its length", bounded),
    ("what was lent for reading is not written", read_only),
    ("a lease ends with the answer", ended),
    ("lending what is not the caller's own is refused when it is used", foreign),
];

fn lent(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        let received = endpoint.receive().unwrap();
        let (from, to) = (received.lease(0).unwrap(), received.lease(1).unwrap());
        assert_eq!((from.length, from.writable, to.length, to.writable), (5, false, 8, true));
        assert_eq!((received.lease(2), received.words[4]), (None, 99));
        let mut content = [0; 5];
        from.read(0, &mut content).unwrap();
        content.reverse();
        to.write(2, &content).unwrap();
        reply(Message::new(0)).unwrap();
    })
    .unwrap();
    let mut answer = [0; 8];
    session.call(Message::new(1).read(b"hello").write(&mut answer).word(99)).unwrap();
    assert_eq!(&answer, b"\0\0olleh\0");
    server.join();
}

fn bounded(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        let received = endpoint.receive().unwrap();
        let lease = received.lease(0).unwrap();
        let mut content = vec![0; 10_000];
        lease.read(0, &mut content).unwrap();
        assert!(content.iter().enumerate().all(|(index, byte)| *byte == index as u8));
        assert_eq!(lease.read(1, &mut content), Err(Error::BadArgument));
        assert_eq!(lease.read(10_000, &mut [0]), Err(Error::BadArgument));
        assert_eq!(lease.read(u64::MAX, &mut [0; 2]), Err(Error::BadArgument));
        lease.read(9_999, &mut content[..1]).unwrap();
        assert_eq!(content[0], 9_999_u32 as u8);
        reply(Message::new(0)).unwrap();
    })
    .unwrap();
    let content: vec::Vec<u8> = (0..10_000_u32).map(|index| index as u8).collect();
    session.call(Message::new(1).read(&content)).unwrap();
    server.join();
}

fn read_only(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        let received = endpoint.receive().unwrap();
        let refused = received.lease(0).unwrap().write(0, b"x");
        reply(Message::new(0)).unwrap();
        refused
    })
    .unwrap();
    let content = *b"keep";
    session.call(Message::new(1).read(&content)).unwrap();
    assert_eq!((server.join(), &content), (Err(Error::NoRight), b"keep"));
}

fn ended(_: &mut Context) {
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        let received = endpoint.receive().unwrap();
        let lease: Lease = received.lease(0).unwrap();
        reply(Message::new(0)).unwrap();
        let without_call = lease.read(0, &mut [0]);
        // The next call lends nothing: the old lease does not reach it.
        drop(endpoint.receive().unwrap());
        let other_call = lease.read(0, &mut [0]);
        reply(Message::new(0)).unwrap();
        (without_call, other_call)
    })
    .unwrap();
    session.call(Message::new(1).read(b"x")).unwrap();
    session.call_words(2, [1]).unwrap();
    assert_eq!(server.join(), (Err(Error::BadState), Err(Error::NotFound)));
}

fn foreign(_: &mut Context) {
    use tessera_runtime::abi::{Syscall, Tag};
    let (endpoint, session) = pair(1);
    let server = thread::spawn(move || {
        let received = endpoint.receive().unwrap();
        let lease = received.lease(0).unwrap();
        let results = (lease.read(0, &mut [0; 8]), lease.write(0, &[0; 8]));
        reply(Message::new(0)).unwrap();
        results
    })
    .unwrap();
    // An address at which nothing is mapped: told to the server, which cannot have the page.
    let words = [0x7f3f_0000_0000, 4096, 0, 0, 0, 0, 0, 0];
    let tag = Tag::new(1).with_lease(true);
    crate::machine::message(Syscall::Call as u64, crate::context::number(&session), tag.0, words).unwrap();
    let (read, write) = server.join();
    assert!(read.is_err() && write.is_err(), "{read:?}, {write:?}");
}
