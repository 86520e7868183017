//! Decimal digits of numbers, many of them one after the other: a request names up to hundreds of ids.
#![expect(
    clippy::indexing_slicing,
    reason = "places in rooms of a fixed length, counted by the digits of a number, which no u64 has more than 20 of"
)]

use alloc::vec::Vec;
use core::ops::Range;

/// The most digits that a `u64` has.
pub(crate) const DIGITS_MAX: usize = 20;

/// The numbers of twelve digits, which nearly all ids have.
const TWELVE: Range<u64> = 100_000_000_000..1_000_000_000_000;

const DIGITS: &[u8; 10] = b"0123456789";

/// The three digits of every number below a thousand, and a byte to be overwritten: four are copied at once.
static THREE: [[u8; 4]; 1000] = {
    let mut table = [[0; 4]; 1000];
    let mut number = 0;
    while number < 1000 {
        table[number] = [DIGITS[number / 100], DIGITS[number / 10 % 10], DIGITS[number % 10], 0];
        number += 1;
    }
    table
};

/// Appends the digits of a number.
pub(crate) fn push(number: u64, out: &mut Vec<u8>) {
    let mut room = [0; DIGITS_MAX];
    let len = write(number, &mut room);
    out.extend_from_slice(&room[..len]);
}

/// Writes the digits of a number to the beginning of `room`, whose other bytes it may overwrite, and says how many they
/// are.
#[inline]
pub(crate) fn write(number: u64, room: &mut [u8; DIGITS_MAX]) -> usize {
    if TWELVE.contains(&number) {
        write_twelve(number, room);
        return 12;
    }
    let len = number.checked_ilog10().map_or(1, |exponent| exponent as usize + 1);
    if number < TWELVE.end {
        let mut padded = [0; 12 + DIGITS_MAX];
        write_twelve(number, &mut padded);
        room.copy_from_slice(&padded[12 - len..][..DIGITS_MAX]);
    } else {
        let mut rest = number;
        for place in room[..len].iter_mut().rev() {
            *place = DIGITS[(rest % 10) as usize];
            rest /= 10;
        }
    }
    len
}

/// Writes twelve digits, the first of them zeros, and overwrites one byte behind them.
#[inline]
fn write_twelve<const ROOM: usize>(number: u64, room: &mut [u8; ROOM]) {
    let (upper, lower) = ((number / 1_000_000) as usize, (number % 1_000_000) as usize);
    room[..4].copy_from_slice(&THREE[upper / 1000]);
    room[3..7].copy_from_slice(&THREE[upper % 1000]);
    room[6..10].copy_from_slice(&THREE[lower / 1000]);
    room[9..13].copy_from_slice(&THREE[lower % 1000]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(number: u64) {
        let mut out = Vec::from(*b"<");
        push(number, &mut out);
        assert_eq!(out, alloc::format!("<{number}").into_bytes());
    }

    #[test]
    fn the_digits_are_those_of_display_at_every_power_of_ten() {
        for power in (0..20).map(|exponent| 10_u64.pow(exponent)) {
            [power - 1, power, power + 1].into_iter().for_each(check);
        }
        check(u64::MAX);
    }

    #[test]
    fn every_group_of_three_digits_comes_out_in_every_place() {
        for number in 0..1000 {
            check(100_000_000_000 + number);
            check(100_000_000_000 + number * 1000);
            check(100_000_000_000 + number * 1_000_000);
            check(100_000_000_000 * (number % 9 + 1) + number * 1_000_000_000 % 100_000_000_000);
        }
    }

    proptest! {
        #[test]
        fn the_digits_are_those_of_display(number in any::<u64>(), shift in 0..64) {
            check(number >> shift);
        }
    }
}
