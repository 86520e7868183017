//! Wall time in whole seconds, and its UTC date. For signing and for the times in answers; nothing here reads a clock.

use core::fmt;

const SECONDS_PER_DAY: u64 = 86_400;

/// The last nanosecond of a second.
const NANOS_MAX: u32 = 999_999_999;

/// Digits of a second that are kept.
const FRACTION_LEN_MAX: usize = 9;

/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds, up to the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(u64);

/// A time after the year 9999, whose date has no form of ten characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid time of {0} seconds since 1970 (expected 0 to 253402300799, the end of the year 9999)")]
pub struct UnixSecondsError(u64);

/// A day of the Gregorian calendar in UTC. Shown as `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcDate {
    year: u16,
    month: u8,
    day: u8,
}

impl UnixSeconds {
    /// The last second that has a date: 9999-12-31T23:59:59Z.
    pub const MAX: Self = Self(253_402_300_799);

    /// A time from its seconds.
    ///
    /// # Errors
    /// If it lies after the year 9999.
    pub const fn new(seconds: u64) -> Result<Self, UnixSecondsError> {
        if seconds > Self::MAX.0 { Err(UnixSecondsError(seconds)) } else { Ok(Self(seconds)) }
    }

    /// Parses a time of RFC 3339 into its second and its nanoseconds: `T` and `Z` in any case or a space for the `T`, any
    /// number of digits of a second (those after the ninth are dropped), and any offset. A leap second counts as the end
    /// of the second before it. A time before 1970 counts as its beginning, and one after the year 9999 as the end of
    /// that.
    ///
    /// `None` for any other form and for days that do not exist.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<(Self, u32)> {
        let (head, rest) = text.as_bytes().split_at_checked(19)?;
        let &[a, b, c, d, b'-', e, f, b'-', g, h, b'T' | b't' | b' ', i, j, b':', k, l, b':', m, n] = head else {
            return None;
        };
        let (year, month, day) = (number([a, b, c, d])?, number([e, f])?, number([g, h])?);
        let (hour, minute, second) = (number([i, j])?, number([k, l])?, number([m, n])?);
        let (mut nanos, zone) = match rest {
            [b'.', rest @ ..] => fraction(rest)?,
            _ => (0, rest),
        };
        let offset = match *zone {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), o, p, b':', q, r] => {
                let (hours, minutes) = (number([o, p])?, number([q, r])?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = i64::try_from(hours * 3_600 + minutes * 60).ok()?;
                if sign == b'+' { seconds } else { -seconds }
            }
            _ => return None,
        };
        if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        if second == 60 {
            nanos = NANOS_MAX;
        }
        if year < 1970 {
            return Some((Self(0), 0));
        }
        let seconds = days(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second.min(59);
        let seconds = i64::try_from(seconds).ok()? - offset;
        let Ok(seconds) = u64::try_from(seconds) else { return Some((Self(0), 0)) };
        Some(Self::new(seconds).map_or((Self::MAX, NANOS_MAX), |time| (time, nanos)))
    }

    /// The seconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of its UTC day, from 1970-01-01 on.
    pub(crate) const fn day(self) -> u64 {
        self.0 / SECONDS_PER_DAY
    }

    /// The UTC date.
    #[must_use]
    pub fn date(self) -> UtcDate {
        // Counted from 0000-03-01, a leap day is the last day of its year, and a month's beginning is linear in its
        // number (the method is Howard Hinnant's `civil_from_days`).
        let shifted = self.day() + DAYS_BEFORE_EPOCH;
        let (era, day_of_era) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let small = |number: u64| u8::try_from(number).expect("a month is at most 12 and a day at most 31");
        UtcDate {
            year: u16::try_from(year).expect("no UnixSeconds lies after the year 9999"),
            month: small(month),
            day: small(day),
        }
    }

    /// The time as RFC 3339 has it, to be shown: `2025-06-27T04:53:20Z`.
    #[must_use]
    pub fn utc(self) -> impl fmt::Display {
        struct Utc(UnixSeconds);

        impl fmt::Display for Utc {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let second = self.0.0 % SECONDS_PER_DAY;
                let (hour, minute) = (second / 3_600, second / 60 % 60);
                write!(f, "{}T{hour:02}:{minute:02}:{:02}Z", self.0.date(), second % 60)
            }
        }

        Utc(self)
    }
}

impl fmt::Display for UtcDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Days from 1970-01-01 to a day of a year from 1970, the inverse of [`UnixSeconds::date`].
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year_from_march = year - u64::from(month <= 2);
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_BEFORE_EPOCH
}

/// The days of a month.
const fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The nanoseconds that the digits of a second write, and what follows them; `None` if there are no digits.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len).filter(|_| len > 0)?;
    let mut nanos = 0;
    for place in 0..FRACTION_LEN_MAX {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    Some((nanos, rest))
}

/// The number that decimal digits write.
fn number<const N: usize>(digits: [u8; N]) -> Option<u64> {
    let mut number = 0;
    for digit in digits {
        number = number * 10 + u64::from(char::from(digit).to_digit(10)?);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(seconds: u64, utc: &str) {
        let time = UnixSeconds::new(seconds).unwrap();
        assert_eq!(time.utc().to_string(), utc);
        assert_eq!(Some(time.date().to_string().as_str()), utc.get(..10));
        assert_eq!(UnixSeconds::from_rfc3339(utc), Some((time, 0)));
    }

    #[test]
    fn dates_at_edges_of_years_and_eras() {
        check(0, "1970-01-01T00:00:00Z");
        check(86_399, "1970-01-01T23:59:59Z");
        check(86_400, "1970-01-02T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_799, "2000-02-29T23:59:59Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_551_113_065, "2019-02-25T16:44:25Z");
        check(1_577_836_799, "2019-12-31T23:59:59Z");
        check(1_577_836_800, "2020-01-01T00:00:00Z");
        check(1_709_164_800, "2024-02-29T00:00:00Z");
        check(2_147_483_648, "2038-01-19T03:14:08Z");
        check(4_107_542_399, "2100-02-28T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(253_402_300_799, "9999-12-31T23:59:59Z");
    }

    #[test]
    fn year_10000_is_refused() {
        for seconds in [253_402_300_800, u64::MAX] {
            assert!(UnixSeconds::new(seconds).is_err());
        }
        assert_eq!(
            UnixSeconds::new(253_402_300_800).unwrap_err().to_string(),
            "invalid time of 253402300800 seconds since 1970 (expected 0 to 253402300799, the end of the year 9999)"
        );
    }

    #[test]
    fn invalid_dates_are_refused() {
        for text in [
            "",
            "2025-06-27",
            "2025-06-27T04:53:20",
            "2025-06-27_04:53:20Z",
            "2025-06-27T04:53:20.Z",
            "2025-06-27T04:53:20,5Z",
            "2025-06-27T04:53:20+24:00",
            "2025-06-27T04:53:20+08:60",
            "2025-06-27T04:53:20+0800",
            "2025-06-27T04:53:20+08",
            "2025-06-27T04:53:20ZZ",
            "2025-06-27T04:53Z",
            "2025-6-27T04:53:20Z",
            "2025-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2025-04-31T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-01-00T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:60:00Z",
            "2025-01-01T00:00:61Z",
            "2025-01-01-01T00:00:00Z",
            "2025-01-01T00:00:00:00Z",
            "+025-01-01T00:00:00Z",
        ] {
            assert_eq!(UnixSeconds::from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        for (text, utc, nanos) in [
            ("2025-06-27T04:53:20.5Z", "2025-06-27T04:53:20Z", 500_000_000),
            ("2025-06-27T04:53:20.123456789Z", "2025-06-27T04:53:20Z", 123_456_789),
            ("2025-06-27T04:53:20.1234567899999Z", "2025-06-27T04:53:20Z", 123_456_789),
            ("2025-06-27t04:53:20z", "2025-06-27T04:53:20Z", 0),
            ("2025-06-27 04:53:20+08:00", "2025-06-26T20:53:20Z", 0),
            ("2025-06-27T04:53:20.000000001-00:30", "2025-06-27T05:23:20Z", 1),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z", 999_999_999),
            ("2017-01-01T07:59:60.5+08:00", "2016-12-31T23:59:59Z", 999_999_999),
            ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", 0),
            ("0000-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00+00:01", "1970-01-01T00:00:00Z", 0),
            ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z", 999_999_999),
        ] {
            let (time, found) = UnixSeconds::from_rfc3339(text).unwrap();
            assert_eq!((time.utc().to_string().as_str(), found), (utc, nanos), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back_and_dates_grow(seconds in 0..=UnixSeconds::MAX.get() - SECONDS_PER_DAY) {
            let time = UnixSeconds::new(seconds).unwrap();
            prop_assert_eq!(UnixSeconds::from_rfc3339(&time.utc().to_string()), Some((time, 0)));
            prop_assert!(UnixSeconds::new(seconds + SECONDS_PER_DAY).unwrap().date() > time.date());
        }

        #[test]
        fn no_text_breaks_the_reading(text in "[0-9:.TZ+-]{0,24}|.{0,24}") {
            if let Some((time, nanos)) = UnixSeconds::from_rfc3339(&text) {
                prop_assert!(time <= UnixSeconds::MAX && nanos <= NANOS_MAX);
            }
        }
    }
}
