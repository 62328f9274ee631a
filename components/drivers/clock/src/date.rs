//! Dates of the Gregorian calendar, in UTC.

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    /// 0 to 59; a leap second (60) is not known here.
    pub second: u8,
}

impl Date {
    /// Whether there is such a date, from 1970 on.
    pub fn is_valid(&self) -> bool {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return false,
        };
        self.year >= 1970 && (1..=days).contains(&self.day) && self.hour < 24 && self.minute < 60 && self.second < 60
    }

    /// Seconds since the beginning of 1970; none if there is no such date.
    ///
    /// The days are counted in years that begin in March, so that a leap day is a year's last (Howard Hinnant, "chrono-Compatible
    /// Low-Level Date Algorithms", `days_from_civil`).
    pub fn seconds(&self) -> Option<u64> {
        if !self.is_valid() {
            return None;
        }
        let (month, day) = (u64::from(self.month), u64::from(self.day));
        let year = u64::from(self.year).checked_sub(u64::from(month <= 2))?;
        let in_year = (if month > 2 { month.checked_sub(3) } else { month.checked_add(9) })?;
        let day_of_year = in_year.checked_mul(153)?.checked_add(2)?.checked_div(5)?.checked_add(day)?.checked_sub(1)?;
        let leaps = (year / 4).checked_sub(year / 100)?.checked_add(year / 400)?;
        /// Days from the first of March of the year 0 to the first of January 1970.
        const EPOCH: u64 = 719_468;
        let days = year.checked_mul(365)?.checked_add(leaps)?.checked_add(day_of_year)?.checked_sub(EPOCH)?;
        let hours = days.checked_mul(24)?.checked_add(self.hour.into())?;
        let minutes = hours.checked_mul(60)?.checked_add(self.minute.into())?;
        minutes.checked_mul(60)?.checked_add(self.second.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: u16, month: u8, day: u8) -> Date {
        Date { year, month, day, hour: 0, minute: 0, second: 0 }
    }

    #[test]
    fn days_are_counted_through_leap_years() {
        assert_eq!(at(1970, 1, 1).seconds(), Some(0));
        assert_eq!(at(2000, 3, 1).seconds(), Some(951_868_800));
        assert_eq!(at(2100, 3, 1).seconds(), Some(4_107_542_400));
        let late = Date { hour: 23, minute: 59, second: 59, ..at(2026, 11, 23) };
        assert_eq!(late.seconds(), Some(1_795_478_399));
        let mut days = 0;
        for year in 1970..2200 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if at(year, month, day).is_valid() {
                        assert_eq!(at(year, month, day).seconds(), Some(days * 86_400), "{year}-{month}-{day}");
                        days += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_date_has_no_seconds() {
        let none = [at(2023, 2, 29), at(2100, 2, 29), at(2024, 13, 1), at(2024, 0, 1), at(2024, 4, 31), at(1969, 1, 1)];
        assert!(none.iter().all(|date| date.seconds().is_none()));
        assert!(Date { hour: 24, ..at(2024, 1, 1) }.seconds().is_none());
        assert!(at(2024, 2, 29).seconds().is_some());
    }
}
