//! Peers that keep to nothing: a client that sends whatever the kernel lets through, and a server that answers likewise.

use alloc::vec;
use tessera_runtime::abi::{Delivery, Tag};
use tessera_runtime::object::{Endpoint, Event, Session, Vmo};
use tessera_runtime::transport::Plain;
use tessera_runtime::{Cap, Message, Object, own};

use super::{Colour, LARGE, Large, Paged, Point, Shapes};

/// Numbers without a pattern (xorshift64*, Vigna 2016).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A word: small, a likely limit, or anything.
    fn word(&mut self) -> u64 {
        let likely = [0, 1, 2, 5, 7, 100, 250, 255, 256, 4096, u64::MAX, 1 << 31, 1 << 32, 1 << 63];
        match self.below(3) {
            0 => likely[self.below(likely.len() as u64) as usize],
            1 => self.below(300),
            _ => self.next(),
        }
    }
}

/// The methods that end the process or take their time.
const SPARED: [u32; 2] = [21, 22];

/// Calls a session with a message of any shape.
pub fn attack(session: &Session, random: &mut Random) {
    let label = match random.below(8) {
        0 => random.next() as u32,
        _ => random.below(30) as u32,
    };
    if SPARED.contains(&label) {
        return;
    }
    let length = [0, 1, 8, 12, 16, 64, 4096, 70_000, 2 << 20][random.below(9) as usize];
    let mut memory: [vec::Vec<u8>; 3] = core::array::from_fn(|_| vec![random.next() as u8; length]);
    let mut message = Message::new(label);
    let mut used = 0;
    for memory in memory.iter_mut().take([0, 0, 1, 1, 2, 3][random.below(6) as usize]) {
        used += 2;
        message = if random.below(2) == 0 { message.read(memory) } else { message.write(memory) };
    }
    for _ in 0..[0, 0, 0, 1, 2, 4][random.below(6) as usize] {
        used += 1;
        let (pool, of) = (own::pool(), random.below(3));
        message = match of {
            0 => message.handle(Event::create(&pool).unwrap()),
            1 => message.handle(Vmo::create(&pool, 4096).unwrap()),
            _ => message.handle(session.try_clone().unwrap()),
        };
    }
    for _ in 0..random.below(9_u64.saturating_sub(used).max(1)) {
        message = message.word(random.word());
    }
    let mut buffer = [0; Tag::MAX_BYTES];
    if random.below(3) == 0 {
        let words = [0, Large::WORDS, 2 * Large::WORDS, 1, 128][random.below(5) as usize];
        for byte in &mut buffer {
            *byte = [0, 1, 5, random.next() as u8][random.below(4) as usize];
        }
        message = message.bytes(&mut buffer, words * 8);
    }
    // What does not fit together is refused before it is sent; the rest is for the server to judge.
    let _ = session.call(message);
}

/// Answers `calls` calls with anything at all.
pub fn lie(endpoint: &Endpoint, calls: u64, random: &mut Random) {
    let mut buffer = [0; Tag::MAX_BYTES];
    let mut answered = 0;
    let mut received = endpoint.receive_into(&mut buffer).unwrap();
    while answered < calls {
        if received.delivery != Delivery::Call {
            drop(received);
            received = endpoint.receive_into(&mut buffer).unwrap();
            continue;
        }
        answered += 1;
        for index in 0..3 {
            if let Some(lease) = received.lease(index).filter(|lease| lease.writable && lease.length > 0) {
                let _ = lease.write(0, &[0xff]);
            }
        }
        let label = [0, 0, 0, 0, 1, 7, 9, 0x8000_0001, 0x8000_0099, random.next() as u32][random.below(10) as usize];
        let mut answer = Message::new(label);
        let handles = [0, 0, 0, 1, 2, 4][random.below(6) as usize];
        for _ in 0..handles {
            let (pool, kind) = (own::pool(), random.below(3));
            answer = match kind {
                0 => answer.handle(Event::create(&pool).unwrap()),
                1 => answer.handle(Vmo::create(&pool, 4096).unwrap()),
                _ => answer.handle(Session::create(endpoint, &pool, 1).unwrap()),
            };
        }
        for _ in 0..random.below(7 - handles) {
            answer = answer.word(random.word());
        }
        let words = [0, 0, Large::WORDS, 2 * Large::WORDS, 1, 128][random.below(6) as usize];
        for byte in &mut buffer {
            *byte = [0, 1, 5, random.next() as u8][random.below(4) as usize];
        }
        drop(received);
        // An answer that does not fit the caller is the caller's to know, and receiving goes on.
        received = match endpoint.reply_and_receive(answer.bytes(&mut buffer, words * 8)) {
            Ok(received) => received,
            Err(_) => endpoint.receive_into(&mut buffer).unwrap(),
        };
    }
}

/// Calls every method of an object that may answer anything; what comes back must be a value of its type, or an error. Answers how many
/// calls were made.
pub fn provoke(object: &Cap<dyn Shapes>) -> u64 {
    let mut into = [0; 9];
    let mut points = [Point { x: 1, y: 1 }; 3];
    let event = Event::create(&own::pool()).unwrap();
    let _ = object.nothing();
    let _ = object.add(1, 2);
    let _ = object.six(1, 2, 3, 4, true, Colour::Red);
    let _ = object.large(LARGE, LARGE);
    let _ = object.optional(None);
    let _ = object.fail(1);
    let _ = object.sum(&[1; 100]);
    let _ = object.count(&mut into, 1);
    if let Ok(filled) = object.some(&mut into, 3) {
        assert!(filled <= 9);
    }
    if let Ok(part) = object.some_of_three(&[1], &mut [0; 2], &mut into) {
        assert!(part.filled <= 9);
    }
    let _ = object.letters("a");
    let _ = object.points(&points);
    let _ = object.double(&mut points);
    if let Ok(bytes) = object.repeat(1, 1) {
        assert!(bytes.len() <= 3000);
    }
    if let Ok(text) = object.greet("a") {
        assert!(text.len() <= 64);
    }
    let _ = object.raise(event, 1);
    if let Ok(Paged { vmo, offset: _ }) = object.memory(1) {
        assert!(vmo.size().is_ok(), "it was checked to be memory");
    }
    // A session is as good as any other, whatever it reaches: its calls show it.
    let _ = object.child(1);
    let _ = object.pass(object.clone());
    let _ = object.name_of(object.clone());
    let _ = object.children();
    21
}
