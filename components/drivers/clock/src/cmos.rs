//! The chip's registers, behind two ports: the first chooses, the second reads.

use tessera_runtime::object::{IoPort, Width};

use crate::Date;

/// The chip's registers by number.
pub trait Registers {
    /// Reads one; 0xff where there is no chip.
    fn register(&self, number: u8) -> u8;
}

/// The chip behind its ports.
pub struct Cmos(IoPort);

impl Cmos {
    /// Ports 0x70 and 0x71.
    pub fn new(ports: IoPort) -> Cmos {
        Cmos(ports)
    }
}

impl Registers for Cmos {
    fn register(&self, number: u8) -> u8 {
        // Bit 7 of the first port would mask non-maskable interrupts; it stays clear.
        let chosen = self.0.write(0x70, Width::Byte, u32::from(number & 0x7f));
        chosen.and_then(|()| self.0.read(0x71, Width::Byte)).unwrap_or(0xff) as u8
    }
}

/// Register numbers (data sheet, figure 2), and the century's, which is a PC's own.
const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 10;
const B: u8 = 11;
const CENTURY: u8 = 0x32;

const UPDATING: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;

/// Reads the date: twice, until both are the same and neither fell into an update. None if there is no chip, it never stands still, or
/// what it tells is no date.
pub fn read(chip: &dyn Registers) -> Option<Date> {
    const TRIES: u32 = 10_000;
    let mut before = None;
    for _ in 0..TRIES {
        if chip.register(A) & UPDATING != 0 {
            before = None;
            continue;
        }
        let now = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY].map(|number| chip.register(number));
        if before == Some(now) {
            return decode(now, chip.register(B));
        }
        before = Some(now);
    }
    None
}

fn decode([second, minute, hour, day, month, year, century]: [u8; 7], mode: u8) -> Option<Date> {
    let number = |raw: u8| {
        if mode & BINARY != 0 {
            return Some(raw);
        }
        let (tens, ones) = (raw >> 4, raw & 15);
        (tens < 10 && ones < 10).then(|| tens.saturating_mul(10).saturating_add(ones))
    };
    let hour = if mode & HOURS_24 != 0 {
        number(hour)?
    } else {
        // 12, 1, 2, ... 11, twice.
        let half = number(hour & !AFTERNOON)?;
        let afternoon = if hour & AFTERNOON != 0 { 12 } else { 0 };
        half.checked_rem(12)?.checked_add(afternoon)?
    };
    // A machine without that register has anything there.
    let century = number(century).filter(|century| (19..=21).contains(century)).unwrap_or(20);
    let year = u16::from(century).checked_mul(100)?.checked_add(number(year)?.into())?;
    let (second, minute) = (number(second)?, number(minute)?);
    let date = Date { year, month: number(month)?, day: number(day)?, hour, minute, second };
    date.is_valid().then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// A chip with these registers, that is in an update for the first reads.
    struct Chip {
        values: [u8; 7],
        mode: u8,
        updating: Cell<u32>,
        /// Whether the seconds run at each look.
        restless: bool,
        looks: Cell<u8>,
    }

    impl Registers for Chip {
        fn register(&self, number: u8) -> u8 {
            let value = |index: usize| self.values.get(index).copied().unwrap_or(0xff);
            match number {
                A if self.updating.get() > 0 => {
                    self.updating.set(self.updating.get() - 1);
                    UPDATING
                }
                A => 0x26,
                B => self.mode,
                SECONDS if self.restless => {
                    self.looks.set((self.looks.get() + 1) % 60);
                    self.looks.get()
                }
                SECONDS => value(0),
                MINUTES => value(1),
                HOURS => value(2),
                DAY => value(3),
                MONTH => value(4),
                YEAR => value(5),
                CENTURY => value(6),
                _ => 0xff,
            }
        }
    }

    fn chip(values: [u8; 7], mode: u8) -> Chip {
        Chip { values, mode, updating: Cell::new(5), restless: false, looks: Cell::new(0) }
    }

    #[test]
    fn both_ways_of_writing_numbers_and_hours_are_understood() {
        let wanted = Date { year: 2026, month: 11, day: 23, hour: 15, minute: 49, second: 7 };
        assert_eq!(read(&chip([0x07, 0x49, 0x15, 0x23, 0x11, 0x26, 0x20], HOURS_24)), Some(wanted));
        assert_eq!(read(&chip([7, 49, 15, 23, 11, 26, 20], HOURS_24 | BINARY)), Some(wanted));
        assert_eq!(read(&chip([0x07, 0x49, 0x83, 0x23, 0x11, 0x26, 0x20], 0)), Some(wanted));
        assert_eq!(read(&chip([7, 49, 0x83, 23, 11, 26, 0], BINARY)), Some(wanted), "without a century");
        let noon = read(&chip([0, 0, 0x92, 0x23, 0x11, 0x26, 0x20], 0)).unwrap();
        let midnight = read(&chip([0, 0, 0x12, 0x23, 0x11, 0x26, 0x20], 0)).unwrap();
        assert_eq!((noon.hour, midnight.hour), (12, 0));
    }

    #[test]
    fn where_there_is_no_chip_there_is_no_date() {
        assert_eq!(read(&chip([0xff; 7], 0xff)), None);
        assert_eq!(read(&chip([0; 7], HOURS_24)), None, "month 0");
        assert_eq!(read(&chip([0x0a, 0, 0, 1, 1, 0x26, 0x20], HOURS_24)), None, "no decimal digit");
        let stuck = Chip { updating: Cell::new(u32::MAX), ..chip([0; 7], 0) };
        assert_eq!(read(&stuck), None);
        let restless = Chip { restless: true, ..chip([7, 49, 15, 23, 11, 26, 20], HOURS_24 | BINARY) };
        assert_eq!(read(&restless), None);
    }
}
