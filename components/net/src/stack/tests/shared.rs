//! Streams through shared memory, whose client may write anything into its part.

use super::*;
use proptest::prelude::*;
use tessera_interfaces::streams::{
    self, BYTES, RING, RINGS, Reader, State, Writer, ask, client_ends, slot, slot_of, state,
};
use tessera_interfaces::{Shutdown, SocketOption};
use tessera_runtime::Memory;

/// As much memory as is asked for.
struct Plenty;

impl Backing for Plenty {
    fn back(&mut self, _offset: usize, _length: usize) -> bool {
        true
    }
}

/// A socket as its client has it.
struct End {
    id: Id,
    number: u32,
    writer: Writer,
    reader: Reader,
    state: State,
}

impl Alone {
    fn share(&mut self, client: ClientId) -> Memory {
        let memory = Memory::private(BYTES);
        self.stack.share_streams(client, Streams::new(memory.clone(), Box::new(Plenty)));
        memory
    }

    fn end(&self, memory: &Memory, id: Id) -> End {
        let number = self.stack.number(id).unwrap();
        let (writer, reader, state) = client_ends(memory, number).unwrap();
        End { id, number, writer, reader, state }
    }

    /// Rings the bell for an end.
    fn ring(&mut self, memory: &Memory, number: u32) {
        let _ = ask(memory, number);
        self.stack.attend();
        self.settle();
    }

    /// Receives as a client does: what is in the ring, then what the method answers.
    fn take(&mut self, end: &mut End, into: &mut [u8]) -> Result<usize, NetworkError> {
        let by_call = end.state.get() & state::RECEIVE_BY_CALL != 0;
        match end.reader.read(into) {
            0 if by_call => {
                let count = self.stack.receive(end.id, into, false)? as usize;
                self.settle();
                Ok(count)
            }
            0 => Err(NetworkError::WouldBlock),
            count => Ok(count),
        }
    }

    /// Receives until the stream ends, or fails.
    fn take_all(&mut self, end: &mut End) -> (Vec<u8>, Result<(), NetworkError>) {
        let (mut all, mut into, mut idle) = (Vec::new(), vec![0; 5000], 0);
        loop {
            match self.take(end, &mut into) {
                Ok(0) => return (all, Ok(())),
                Ok(count) => {
                    all.extend(&into[..count]);
                    idle = 0;
                }
                Err(NetworkError::WouldBlock) if idle < 100 => {
                    idle += 1;
                    self.pass(20_000_000);
                }
                Err(error) => return (all, Err(error)),
            }
        }
    }
}

/// Both ends of a connection over the loopback, of one client.
fn connected() -> (Alone, Memory, End, End) {
    let mut alone = Alone::new(LIMITS);
    let memory = alone.share(alone.client);
    let listener = alone.listener(everywhere(80), 8);
    let (client, server) = alone.connected(listener, four(LOCALHOST, 80));
    let ends = [client, server].map(|id| alone.end(&memory, id));
    let [client, server] = ends;
    (alone, memory, client, server)
}

#[test]
fn bytes_go_through_the_rings_without_a_call() {
    let (mut alone, memory, mut client, mut server) = connected();
    let mut into = [0; 100];
    for round in 0..2000_u32 {
        let text = alloc::format!("number {round}");
        let (from, to) = if round % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        assert_eq!((from.state.get(), to.state.get()), (state::GRANTED, state::GRANTED));
        from.writer.write(text.as_bytes());
        let number = from.number;
        alone.ring(&memory, number);
        let count = to.reader.read(&mut into);
        assert_eq!(&into[..count], text.as_bytes());
    }
}

#[test]
fn who_rings_for_nothing_gets_no_turn() {
    let (mut alone, memory, mut client, server) = connected();
    assert!(!alone.stack.attend(), "nobody rang");
    for number in 0..streams::SLOTS {
        let _ = ask(&memory, number);
    }
    assert!(!alone.stack.attend(), "there is nothing in any ring");
    client.writer.write(b"something");
    let _ = ask(&memory, server.number);
    assert!(!alone.stack.attend(), "that is another socket's");
    let _ = ask(&memory, client.number);
    assert!(alone.stack.attend());
}

#[test]
fn what_does_not_fit_goes_by_the_methods_behind_what_is_in_the_rings() {
    let (mut alone, memory, mut client, mut server) = connected();
    let data = numbers(1 << 20);
    let mut sent = 0;
    // Until neither the ring, nor TCP at both ends, nor the other ring has room.
    loop {
        let count = client.writer.write(&data[sent..sent + 1000]);
        alone.ring(&memory, client.number);
        sent += count;
        if count == 1000 {
            continue;
        }
        match alone.stack.send(client.id, &data[sent..sent + 3000]) {
            Ok(count) => sent += count as usize,
            Err(error) => {
                assert_eq!(error, NetworkError::WouldBlock);
                break;
            }
        }
        alone.settle();
    }
    alone.pass(100_000_000);
    // TCP leaves room that is too little for a segment.
    assert!(sent > 2 * RING + 2 * tcp::BUFFER - 1000, "{sent}");
    let queued = alone.stack.option(client.id, SocketOption::SendQueued).unwrap();
    let there = alone.stack.option(server.id, SocketOption::ReceiveQueued).unwrap();
    assert_eq!((queued + there) as usize, sent);
    assert_eq!(alone.stack.bits(client.id) & readiness::WRITABLE, 0);
    assert_ne!(server.state.get() & state::RECEIVE_BY_CALL, 0, "there is more than the ring takes");
    let mut into = vec![0; 5000];
    assert_eq!(alone.stack.receive(server.id, &mut into, false), Err(NetworkError::WouldBlock), "the ring comes first");
    alone.stack.shutdown(client.id, Shutdown::Send).unwrap();
    let (all, end) = alone.take_all(&mut server);
    assert_eq!((end, all.len()), (Ok(()), sent));
    assert!(all == data[..sent]);
}

#[test]
fn the_end_comes_behind_what_is_in_the_ring() {
    for closes in [false, true] {
        for length in [0, 1, RING, 20 * RING] {
            let (mut alone, memory, mut client, mut server) = connected();
            let data = numbers(length + RING);
            let mut sent = 0;
            loop {
                let count = client.writer.write(&data[sent..length.max(sent)]);
                sent += count;
                if count == 0 || sent == length {
                    break;
                }
                alone.ring(&memory, client.number);
            }
            // Nobody rang for the last of it.
            if closes {
                alone.stack.close(client.id);
            } else {
                alone.stack.shutdown(client.id, Shutdown::Send).unwrap();
            }
            // Nor does what is put in after the end count; where the ring is full, its number is still its own.
            if !closes || client.writer.room(RING) == 0 {
                client.writer.write(b"too late");
            }
            let (all, end) = alone.take_all(&mut server);
            assert_eq!((all.len(), end), (sent, Ok(())), "{closes} {length}");
            assert!(all == data[..sent]);
            alone.stack.close(client.id);
            alone.stack.close(server.id);
            alone.pass(100_000_000_000);
            assert_eq!(alone.stack.count(), 1);
            assert_eq!(alone.stack.used(alone.client), (1, 2 * RINGS as u64), "the rings are kept for the next ones");
        }
    }
}

#[test]
fn a_number_is_another_sockets_when_nothing_of_its_own_is_left_in_the_rings() {
    let (mut alone, memory, mut client, mut server) = connected();
    let data = numbers(20 * RING);
    let mut sent = 0;
    // Until nothing more leaves the ring.
    while client.writer.room(RING) > 0 {
        sent += client.writer.write(&data[sent..]);
        alone.ring(&memory, client.number);
    }
    alone.stack.close(client.id);
    let next = alone.open(Protocol::Tcp, Family::V4);
    assert_ne!(alone.stack.number(next), Ok(client.number));
    let (all, end) = alone.take_all(&mut server);
    assert_eq!((all.len(), end), (sent, Ok(())));
    alone.stack.close(server.id);
    alone.pass(100_000_000_000);
    let ids = [0; 3].map(|_| alone.open(Protocol::Tcp, Family::V4));
    let numbers: Vec<u32> = ids.iter().map(|id| alone.stack.number(*id).unwrap()).collect();
    assert!(numbers.contains(&client.number));
}

#[test]
fn what_came_before_a_reset_is_read_before_it_is_told() {
    let (mut alone, memory, mut client, mut server) = connected();
    client.writer.write(b"last words");
    alone.ring(&memory, client.number);
    alone.stack.set_option(client.id, SocketOption::Linger, 0).unwrap();
    alone.stack.close(client.id);
    alone.settle();
    assert_eq!(server.state.get(), state::GRANTED | state::RECEIVE_BY_CALL | state::SEND_BY_CALL);
    assert_ne!(alone.stack.bits(server.id) & readiness::ERROR, 0);
    let (all, end) = alone.take_all(&mut server);
    assert_eq!((&all[..], end), (&b"last words"[..], Err(NetworkError::ConnectionReset)));
}

#[test]
fn who_closes_with_something_unread_resets() {
    let (mut alone, memory, mut client, server) = connected();
    client.writer.write(b"unread");
    alone.ring(&memory, client.number);
    alone.stack.close(server.id);
    alone.settle();
    assert_eq!(alone.take_all(&mut client).1, Err(NetworkError::ConnectionReset));
}

#[test]
fn rings_are_for_the_first_half_of_the_allowance_and_for_those_who_can_have_their_memory() {
    struct Little(usize);
    impl Backing for Little {
        fn back(&mut self, _offset: usize, _length: usize) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 > 0
        }
    }
    let granted = |bytes: u64, backing: Box<dyn Backing>| {
        let mut alone = Alone::new(Limits { sockets: 8191, bytes });
        let memory = Memory::private(BYTES);
        alone.stack.share_streams(alone.client, Streams::new(memory.clone(), backing));
        let listener = alone.listener(everywhere(80), 8);
        let ids: Vec<Id> = (0..20)
            .map(|_| alone.connected(listener, four(LOCALHOST, 80)))
            .flat_map(|(one, other)| [one, other])
            .collect();
        let is_granted = |id: &&Id| alone.end(&memory, **id).state.get() & state::GRANTED != 0;
        let granted = ids.iter().filter(is_granted).count();
        // Those without go by the methods.
        let (last, to) = (ids[38], ids[39]);
        alone.stack.send(last, b"word").unwrap();
        alone.settle();
        let mut into = [0; 4];
        assert!(alone.stack.receive(to, &mut into, false) == Ok(4) || granted == 40);
        for id in ids {
            alone.stack.close(id);
        }
        alone.pass(100_000_000_000);
        assert_eq!(alone.stack.used(alone.client).1, granted as u64 * RINGS as u64);
        granted
    };
    assert_eq!(granted(1 << 30, Box::new(Plenty)), 40);
    assert_eq!(granted(1 << 30, Box::new(Little(6))), 5);
    let few = granted(2 << 20, Box::new(Plenty));
    assert!((1..10).contains(&few), "{few}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]
    #[test]
    fn who_writes_nonsense_harms_itself_alone(
        seed in any::<u64>(), acts in proptest::collection::vec((0..6_u8, any::<u32>(), any::<u32>()), 1..80),
    ) {
        let mut alone = Alone::new(LIMITS);
        let hostile = alone.stack.add_client(LIMITS);
        let (memory, bad) = (alone.share(alone.client), alone.share(hostile));
        let listener = alone.listener(everywhere(80), 8);
        let (one, other) = alone.connected(listener, four(LOCALHOST, 80));
        let (mut one, mut other) = (alone.end(&memory, one), alone.end(&memory, other));
        let mut theirs: Vec<Id> = Vec::new();
        let own = alone.client;
        alone.client = hostile;
        let trap = alone.listener(everywhere(81), 8);
        for _ in 0..2 {
            let (client, server) = alone.connected(trap, four(LOCALHOST, 81));
            theirs.extend([client, server]);
        }
        let mut expected = Vec::new();
        let mut got = Vec::new();
        for (round, (act, place, value)) in acts.into_iter().enumerate() {
            let id = theirs[place as usize % theirs.len()];
            let number = 1 + place % 6;
            match act {
                // Anywhere that a client can write to, which is everywhere.
                0 => bad.store_32((place as usize % BYTES) & !3, value),
                1 => bad.store_32(slot_of(number) + slot::SEND_PRODUCED, value % (2 * RING as u32)),
                2 => bad.store_32(slot_of(number) + slot::RECEIVE_CONSUMED, value % (2 * RING as u32)),
                3 => bad.store_64(streams::ASKED, u64::MAX),
                4 => drop(alone.stack.send(id, &vec![1; value as usize % 5000])),
                _ => drop(alone.stack.receive(id, &mut vec![0; value as usize % 5000], false)),
            }
            if value % 50 == 0 {
                let _ = alone.stack.shutdown(id, Shutdown::Send);
            }
            let bytes = [round as u8, seed as u8, 3];
            if one.writer.room(3) >= 3 {
                one.writer.write(&bytes);
                expected.extend(bytes);
            }
            alone.ring(&memory, one.number);
            let mut into = [0; 10];
            if let Ok(count) = alone.take(&mut other, &mut into) {
                got.extend(&into[..count]);
            }
            let _ = alone.stack.attend_no_more();
        }
        alone.stack.shutdown(one.id, Shutdown::Send).unwrap();
        let (rest, end) = alone.take_all(&mut other);
        got.extend(rest);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(got, expected);
        for id in theirs.into_iter().chain([trap]) {
            alone.stack.close(id);
        }
        alone.pass(200_000_000_000);
        prop_assert_eq!(alone.stack.used(hostile).0, 0);
        prop_assert!(alone.stack.used(own).0 > 0);
    }
}
