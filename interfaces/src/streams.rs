//! The memory through which the bytes of TCP streams go between the network stack and one client: a ring each way for each socket.
//!
//! ```text
//!              client                       shared memory                       network stack
//!   send    ──► SendEnd ──► [ send ring of the slot ]    ──► bytes are put where TCP keeps what it sends
//!                  └──────► [ ASKED ]  [ SLEEPS ] ─ bell ─┘
//!   receive ◄── ReceiveEnd ◄── [ receive ring of the slot ] ◄── bytes are put there as they come
//!                                                            └─► the readiness table, and its event
//! ```
//!
//! A socket's slot is its number in the readiness table, so that it costs no call to get one. What does not go through a ring goes
//! by the socket's methods, `send` and `receive`, and [`slot::STATE`] says when:
//!
//! - The rings are small, and there is nothing that waits for room in them. What does not fit into the send ring is sent by the method, which takes what
//!   is in the ring first; it answers `WouldBlock` when TCP has no room either, and the readiness table tells when there is some.
//! - When TCP holds more than the receive ring takes, a reader that has emptied the ring asks by the method, which answers from behind it.
//! - The end of a stream, and every error, are told by the methods.
//!
//! A client that has put bytes into a ring marks its slot in [`ASKED`] and rings the bell, if the stack said in [`SLEEPS`] that it does not look by itself.
//!
//! **Either side may be hostile.** Each keeps its own positions to itself, loads the other's once, and does not believe one that cannot be:
//! then nothing is there, and there is no room. The worst that a client can do is to garble its own streams. The memory is the stack's, and charged by it to the
//! client's allowance: memory of the client's could be withdrawn while the stack looks at it.

use core::sync::atomic::{Ordering, fence};

use tessera_runtime::Memory;

/// How many slots there are. Slot 0 is nobody's, as no socket has that number.
pub const SLOTS: u32 = 128;
/// Bytes of each ring, a power of two.
pub const RING: usize = 16 << 10;
/// The bits that are raised in the bell's event.
pub const BELL: u64 = 1;
/// Where in the memory the stack says that it sleeps: 1, or 0 while it looks at [`ASKED`] by itself.
pub const SLEEPS: usize = 0;
/// A byte for each slot: 1 if there is something new in its send ring.
pub const ASKED: usize = 64;
/// Where the slots begin. The rings lie behind all of them, so that those that nobody uses need no memory.
const CONTROL: usize = 4096;
/// Bytes of memory that are always there.
pub const HEAD: usize = CONTROL + SLOTS as usize * slot::BYTES;
/// Bytes of the rings of a slot.
pub const RINGS: usize = 2 * RING;
/// Bytes of all the memory.
pub const BYTES: usize = HEAD + SLOTS as usize * RINGS;

/// What is in a slot, by its bytes: a line that the stack writes, and one that the client does.
pub mod slot {
    /// How many bytes were put into the receive ring; positions wrap at 2³².
    pub const RECEIVE_PRODUCED: usize = 0;
    /// How many were taken out of the send ring.
    pub const SEND_CONSUMED: usize = 4;
    /// Bits of [`state`](super::state).
    pub const STATE: usize = 8;
    /// How many bytes were taken out of the receive ring.
    pub const RECEIVE_CONSUMED: usize = 64;
    /// How many were put into the send ring.
    pub const SEND_PRODUCED: usize = 68;
    /// Bytes of a slot.
    pub const BYTES: usize = 128;
}

/// What the stack says of a socket, in its slot.
pub mod state {
    /// The socket has the rings of its slot, until it is closed. Said when a connection is begun or accepted.
    pub const GRANTED: u32 = 1;
    /// When the receive ring is empty, `receive` has an answer.
    pub const RECEIVE_BY_CALL: u32 = 2;
    /// `send` has an answer: nothing is to be put into the ring.
    pub const SEND_BY_CALL: u32 = 4;
}

/// Where the slot of a socket begins: the lines of [`slot`].
pub fn slot_of(number: u32) -> usize {
    CONTROL + number as usize * slot::BYTES
}

/// Where the rings of a slot begin: the one that the client receives from, then the one that it sends into.
pub fn rings_of(number: u32) -> usize {
    HEAD + number as usize * RINGS
}

/// The slot of a socket: its control lines and its two rings; none if there are no rings for this number.
fn parts(memory: &Memory, number: u32) -> Option<(Memory, Memory, Memory)> {
    if number == 0 || number >= SLOTS {
        return None;
    }
    let control = memory.part(slot_of(number), slot::BYTES)?;
    let (receive, send) = (memory.part(rings_of(number), RING)?, memory.part(rings_of(number) + RING, RING)?);
    Some((control, receive, send))
}

/// What the stack says of the socket of a slot: bits of [`state`].
#[derive(Clone, Debug)]
pub struct State(Memory);

impl State {
    /// Loads it. What was put into the receive ring before it was stored is there when it is seen.
    pub fn get(&self) -> u32 {
        self.0.load_32(slot::STATE)
    }

    /// Stores it: the stack's to do.
    pub fn set(&self, state: u32) {
        self.0.store_32(slot::STATE, state);
    }
}

/// The client's ends of a socket's rings, which are as the stack granted them.
pub fn client_ends(memory: &Memory, number: u32) -> Option<(Writer, Reader, State)> {
    let (control, receive, send) = parts(memory, number)?;
    let writer = Writer::new(&control, send, slot::SEND_PRODUCED, slot::SEND_CONSUMED);
    let reader = Reader::new(&control, receive, slot::RECEIVE_CONSUMED, slot::RECEIVE_PRODUCED);
    Some((writer, reader, State(control)))
}

/// The stack's ends of a socket's rings, which are emptied.
pub fn stack_ends(memory: &Memory, number: u32) -> Option<(Writer, Reader, State)> {
    let (control, receive, send) = parts(memory, number)?;
    control.clear(0, slot::BYTES);
    let writer = Writer::new(&control, receive, slot::RECEIVE_PRODUCED, slot::RECEIVE_CONSUMED);
    let reader = Reader::new(&control, send, slot::SEND_CONSUMED, slot::SEND_PRODUCED);
    Some((writer, reader, State(control)))
}

/// Marks a slot; answers whether the bell must be rung.
#[must_use = "if the stack sleeps, it must be woken"]
pub fn ask(memory: &Memory, number: u32) -> bool {
    memory.store_8(ASKED + number as usize, 1);
    // Pairs with the one in `sleep`: either this side sees that the stack sleeps, or the stack sees the mark.
    fence(Ordering::SeqCst);
    let sleeps = memory.load_32(SLEEPS) != 0;
    if sleeps {
        memory.store_32(SLEEPS, 0);
    }
    sleeps
}

/// Takes all marks, and hands the numbers of their slots out.
pub fn asked(memory: &Memory, mut each: impl FnMut(u32)) {
    for first in (0..SLOTS).step_by(8) {
        if memory.load_64(ASKED + first as usize) == 0 {
            continue;
        }
        for number in first..first + 8 {
            let place = ASKED + number as usize;
            if memory.load_8(place) != 0 {
                memory.store_8(place, 0);
                // The mark goes before the ring is looked at.
                fence(Ordering::SeqCst);
                each(number);
            }
        }
    }
}

/// Says that the stack is going to wait for the bell; answers whether it may: if not, a slot is marked.
pub fn sleep(memory: &Memory) -> bool {
    memory.store_32(SLEEPS, 1);
    fence(Ordering::SeqCst);
    let quiet = (0..SLOTS as usize).step_by(8).all(|first| memory.load_64(ASKED + first) == 0);
    if !quiet {
        memory.store_32(SLEEPS, 0);
    }
    quiet
}

/// The pieces of a ring that `length` bytes from `position` on lie in: where, and how many bytes.
fn pieces(position: u32, length: usize) -> [(usize, usize); 2] {
    let start = position as usize % RING;
    let first = length.min(RING - start);
    [(start, first), (0, length - first)]
}

/// The end of a ring that puts bytes in.
#[derive(Debug)]
pub struct Writer {
    control: Memory,
    ring: Memory,
    own: usize,
    others: usize,
    next: u32,
    /// What the reader was last seen to have taken.
    taken: u32,
}

impl Writer {
    fn new(control: &Memory, ring: Memory, own: usize, others: usize) -> Writer {
        Writer { control: control.clone(), ring, own, others, next: 0, taken: 0 }
    }

    /// What the reader has taken, as far as it can be believed: what was put in, and no less than before.
    fn look(&self) -> u32 {
        let taken = self.control.load_32(self.others);
        if taken.wrapping_sub(self.taken) <= self.next.wrapping_sub(self.taken) { taken } else { self.taken }
    }

    /// Bytes that the reader has not taken yet.
    pub fn unread(&self) -> usize {
        self.next.wrapping_sub(self.look()) as usize
    }

    /// Bytes that there is room for; looks at the reader's position only if `wanted` are not known to be free.
    pub fn room(&mut self, wanted: usize) -> usize {
        if RING - (self.next.wrapping_sub(self.taken) as usize) < wanted {
            self.taken = self.look();
        }
        RING - self.next.wrapping_sub(self.taken) as usize
    }

    /// Puts in what there is room for, and shows it to the reader; answers how many bytes.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let length = self.room(from.len()).min(from.len());
        let mut rest = from.get(..length).unwrap_or_default();
        for (place, length) in pieces(self.next, length) {
            let (part, others) = rest.split_at(length.min(rest.len()));
            self.ring.copy_in(place, part);
            rest = others;
        }
        if length > 0 {
            self.next = self.next.wrapping_add(length as u32);
            self.control.store_32(self.own, self.next);
        }
        length
    }
}

/// The end of a ring that takes bytes out.
#[derive(Debug)]
pub struct Reader {
    control: Memory,
    ring: Memory,
    own: usize,
    others: usize,
    next: u32,
    /// What the writer was last seen to have put in.
    put: u32,
    sealed: bool,
}

impl Reader {
    fn new(control: &Memory, ring: Memory, own: usize, others: usize) -> Reader {
        Reader { control: control.clone(), ring, own, others, next: 0, put: 0, sealed: false }
    }

    /// What the writer has put in, as far as it can be believed: no less than before, and up to a full ring.
    fn look(&self) -> u32 {
        let put = self.control.load_32(self.others);
        let seen = self.put.wrapping_sub(self.next);
        let can_be = (seen..=RING as u32).contains(&put.wrapping_sub(self.next));
        if can_be && !self.sealed { put } else { self.put }
    }

    /// Bytes that are there.
    pub fn unread(&self) -> usize {
        self.look().wrapping_sub(self.next) as usize
    }

    /// The same, and from now on it cannot be less.
    pub fn waiting(&mut self) -> usize {
        self.put = self.look();
        self.put.wrapping_sub(self.next) as usize
    }

    /// From now on nothing that is put in counts.
    pub fn seal(&mut self) {
        self.waiting();
        self.sealed = true;
    }

    /// Copies what is there and leaves it; answers how many bytes.
    pub fn peek(&mut self, into: &mut [u8]) -> usize {
        let length = self.waiting().min(into.len());
        let mut rest = into.get_mut(..length).unwrap_or_default();
        for (place, length) in pieces(self.next, length) {
            let (part, others) = rest.split_at_mut(length.min(rest.len()));
            self.ring.copy_out(place, part);
            rest = others;
        }
        length
    }

    /// Takes what is there out; answers how many bytes.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let length = self.peek(into);
        self.skip(length);
        length
    }

    /// Takes bytes out that were looked at.
    pub fn skip(&mut self, length: usize) {
        if length > 0 {
            self.next = self.next.wrapping_add(length as u32);
            self.control.store_32(self.own, self.next);
        }
    }
}
