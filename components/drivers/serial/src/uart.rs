//! The device's logic, on any registers.

/// The registers of the port, by their offsets (data sheet, table II).
pub trait Registers {
    fn read(&self, register: u16) -> u8;
    fn write(&self, register: u16, value: u8);
}

/// Data to send and that was received; the divisor's low byte while `LINE_DIVISOR` is set.
const DATA: u16 = 0;
/// Which interrupts are made (8.5); the divisor's high byte while `LINE_DIVISOR` is set.
const INTERRUPTS: u16 = 1;
const INTERRUPT_RECEIVED: u8 = 1;
/// The queues (8.3).
const QUEUES: u16 = 2;
const QUEUES_ON_AND_EMPTY: u8 = 0b111;
/// The line (8.1).
const LINE: u16 = 3;
const LINE_DIVISOR: u8 = 1 << 7;
const LINE_EIGHT_BITS: u8 = 0b11;
/// The modem's lines (8.7). On a PC the interrupt passes through the second output.
const MODEM: u16 = 4;
const MODEM_READY_AND_INTERRUPT: u8 = 0b1011;
/// How the line is (8.2).
const STATUS: u16 = 5;
const STATUS_RECEIVED: u8 = 1;
const STATUS_ROOM: u8 = 1 << 5;
/// Keeps what is written (8.9): shows that there is a port at all.
const SCRATCH: u16 = 7;
/// How often to look for room before giving up; the slowest line sends a byte in fewer.
const PATIENCE: u32 = 100_000;

/// A port that works.
pub struct Uart<R> {
    registers: R,
}

impl<R: Registers> Uart<R> {
    /// Sets the port up for 115200 baud, 8 bits, no parity; nothing if there is none.
    pub fn new(registers: R) -> Option<Self> {
        for value in [0x5a, 0xa5] {
            registers.write(SCRATCH, value);
            if registers.read(SCRATCH) != value {
                return None;
            }
        }
        registers.write(INTERRUPTS, 0);
        registers.write(LINE, LINE_DIVISOR);
        registers.write(DATA, 1);
        registers.write(INTERRUPTS, 0);
        registers.write(LINE, LINE_EIGHT_BITS);
        registers.write(QUEUES, QUEUES_ON_AND_EMPTY);
        registers.write(MODEM, MODEM_READY_AND_INTERRUPT);
        registers.write(INTERRUPTS, INTERRUPT_RECEIVED);
        Some(Uart { registers })
    }

    /// A byte that was received, if there is one.
    pub fn receive(&self) -> Option<u8> {
        (self.registers.read(STATUS) & STATUS_RECEIVED != 0).then(|| self.registers.read(DATA))
    }

    /// Sends a byte; false if there is no room for a long time.
    pub fn send(&self, byte: u8) -> bool {
        let has_room = (0..PATIENCE).any(|_| self.registers.read(STATUS) & STATUS_ROOM != 0);
        if has_room {
            self.registers.write(DATA, byte);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use core::cell::{Cell, RefCell};

    /// A port that sends a byte in ten looks at its status.
    #[derive(Default)]
    struct Fake {
        there: bool,
        scratch: Cell<u8>,
        line: Cell<u8>,
        interrupts: Cell<u8>,
        divisor: Cell<u8>,
        received: RefCell<VecDeque<u8>>,
        sent: RefCell<Vec<u8>>,
        busy: Cell<u32>,
    }

    impl Registers for &Fake {
        fn read(&self, register: u16) -> u8 {
            if !self.there {
                return 0xff;
            }
            match register {
                DATA => self.received.borrow_mut().pop_front().unwrap_or(0),
                STATUS => {
                    let busy = self.busy.get();
                    self.busy.set(busy.saturating_sub(1));
                    let received = if self.received.borrow().is_empty() { 0 } else { STATUS_RECEIVED };
                    received | if busy == 0 { STATUS_ROOM } else { 0 }
                }
                SCRATCH => self.scratch.get(),
                _ => 0,
            }
        }

        fn write(&self, register: u16, value: u8) {
            match register {
                DATA if self.line.get() & LINE_DIVISOR != 0 => self.divisor.set(value),
                DATA => {
                    assert_eq!(self.busy.get(), 0, "a byte is overwritten");
                    self.sent.borrow_mut().push(value);
                    self.busy.set(10);
                }
                INTERRUPTS if self.line.get() & LINE_DIVISOR == 0 => self.interrupts.set(value),
                LINE => self.line.set(value),
                SCRATCH => self.scratch.set(value),
                _ => {}
            }
        }
    }

    #[test]
    fn a_port_that_is_not_there_is_found_out() {
        assert!(Uart::new(&Fake::default()).is_none());
    }

    #[test]
    fn bytes_go_out_one_after_the_other_and_come_in_in_order() {
        let fake = Fake { there: true, ..Fake::default() };
        let uart = Uart::new(&fake).unwrap();
        assert_eq!((fake.divisor.get(), fake.interrupts.get()), (1, INTERRUPT_RECEIVED));
        assert_eq!(uart.receive(), None);
        fake.received.borrow_mut().extend(*b"ab");
        assert_eq!((uart.receive(), uart.receive(), uart.receive()), (Some(b'a'), Some(b'b'), None));
        assert!(b"hello".iter().all(|byte| uart.send(*byte)));
        assert_eq!(*fake.sent.borrow(), b"hello");
    }

    #[test]
    fn a_line_that_is_stuck_is_given_up() {
        let fake = Fake { there: true, ..Fake::default() };
        let uart = Uart::new(&fake).unwrap();
        fake.busy.set(u32::MAX);
        assert!(!uart.send(1));
    }
}
