//! The compact JSON body of a POST.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use super::{ParameterWriter, Parameters};
use crate::ids::AccountId;

/// Decimal and hexadecimal.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Returns the parameters as compact JSON: no white space, members in the order of the description, and only the escapes that
/// JSON requires.
#[must_use]
pub fn json(parameters: &impl Parameters) -> String {
    let mut body = Vec::new();
    write_json(parameters, &mut body);
    String::from_utf8(body).expect("it is made of texts and of ASCII")
}

/// As [`json`], appended to `body`, which grows as needed.
pub fn write_json(parameters: &impl Parameters, body: &mut Vec<u8>) {
    let mut writer = JsonWriter { body, before: b'{' };
    parameters.write_parameters(&mut writer);
    if writer.before == b'{' {
        body.push(b'{');
    }
    body.push(b'}');
}

struct JsonWriter<'a> {
    body: &'a mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
}

impl JsonWriter<'_> {
    /// Begins a member: its name, and what stands between the name and the first character of the value.
    #[inline(always)]
    fn begin(&mut self, name: &'static str, between: &'static [u8]) {
        self.body.extend_from_slice(&[self.before, b'"']);
        self.body.extend_from_slice(name.as_bytes());
        self.body.extend_from_slice(between);
        self.before = b',';
    }
}

// Inlined into the description of each action, where the lengths of the names are known: a body costs a third less.
impl ParameterWriter for JsonWriter<'_> {
    #[inline(always)]
    fn text(&mut self, name: &'static str, text: &str) {
        self.begin(name, b"\":\"");
        escape(text.as_bytes(), self.body);
        self.body.push(b'"');
    }

    #[inline]
    fn number(&mut self, name: &'static str, number: u64) {
        self.begin(name, b"\":");
        self.body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    #[inline]
    fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]) {
        self.begin(name, b"\":[");
        for (index, text) in texts.iter().enumerate() {
            self.body.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            escape(text.as_ref().as_bytes(), self.body);
            self.body.push(b'"');
        }
        self.body.push(b']');
    }

    #[inline(always)]
    fn accounts(&mut self, name: &'static str, ids: &[AccountId]) {
        self.begin(name, b"\":[");
        write_accounts(ids, self.body);
        self.body.push(b']');
    }

    fn objects<T: Parameters>(&mut self, name: &'static str, objects: &[T]) {
        self.begin(name, b"\":[");
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                self.body.push(b',');
            }
            write_json(object, self.body);
        }
        self.body.push(b']');
    }
}

/// Bytes of the longest account id, its quotes and a comma.
const ACCOUNT_LEN_MAX: usize = 19 + 3;

/// Nearly all account ids have twelve digits.
const TWELVE_DIGITS: Range<u64> = 100_000_000_000..1_000_000_000_000;

/// Appends the entries of a list of ids. A list has up to hundreds, so the body gets room for all of them at once.
#[expect(clippy::indexing_slicing, reason = "the room is made two lines above")]
fn write_accounts(ids: &[AccountId], body: &mut Vec<u8>) {
    let mut end = body.len();
    body.resize(end + ids.len() * ACCOUNT_LEN_MAX, 0);
    for id in ids {
        let Some(room) = body[end..].first_chunk_mut() else { break };
        end += write_account(id.get(), room);
    }
    // No comma follows the last entry.
    body.truncate(if ids.is_empty() { end } else { end - 1 });
}

/// Writes an id in quotes and a comma, and returns their length. Writing three digits at a time takes half of the time that
/// `itoa` takes and the copy out of its buffer.
#[expect(clippy::indexing_slicing, reason = "an account id has at most 19 digits, and each part of twelve has three")]
#[inline]
fn write_account(id: u64, room: &mut [u8; ACCOUNT_LEN_MAX]) -> usize {
    room[0] = b'"';
    if TWELVE_DIGITS.contains(&id) {
        let (upper, lower) = ((id / 1_000_000) as usize, (id % 1_000_000) as usize);
        room[1..4].copy_from_slice(&THREE_DIGITS[upper / 1000]);
        room[4..7].copy_from_slice(&THREE_DIGITS[upper % 1000]);
        room[7..10].copy_from_slice(&THREE_DIGITS[lower / 1000]);
        room[10..13].copy_from_slice(&THREE_DIGITS[lower % 1000]);
        room[13..15].copy_from_slice(b"\",");
        return 15;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(id).as_bytes();
    let (number, behind) = room[1..].split_at_mut(digits.len());
    number.copy_from_slice(digits);
    behind[..2].copy_from_slice(b"\",");
    digits.len() + 3
}

/// The digits of every number below a thousand.
#[expect(clippy::indexing_slicing, reason = "evaluated when this is compiled")]
static THREE_DIGITS: [[u8; 3]; 1000] = {
    let mut table = [*b"000"; 1000];
    let mut number = 0;
    while number < table.len() {
        table[number] = [DIGITS[number / 100], DIGITS[number / 10 % 10], DIGITS[number % 10]];
        number += 1;
    }
    table
};

/// Appends the inside of a JSON string. Nearly every text is copied as it is. Checking all its bytes without a branch is faster
/// than stopping at the first special one.
#[inline(always)]
fn escape(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().fold(false, |special, byte| special | is_special(*byte)) {
        escape_special(text, out);
    } else {
        out.extend_from_slice(text);
    }
}

/// Appends the inside of a JSON string byte by byte. What has to be escaped is ASCII, so the bytes of other characters stay
/// together.
#[expect(clippy::indexing_slicing, reason = "half a byte is less than 16")]
fn escape_special(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            ..=0x1f => {
                let (upper, lower) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', upper, lower]);
            }
            _ => out.push(byte),
        }
    }
}

const fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..=0x1f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json as value};

    use super::*;

    struct Sample {
        text: String,
        number: u64,
        texts: Vec<String>,
    }

    impl Parameters for Sample {
        fn write_parameters(&self, to: &mut impl ParameterWriter) {
            to.text("Text", &self.text);
            to.number("Number", self.number);
            to.texts("Texts", &self.texts);
        }
    }

    struct Nothing;

    impl Parameters for Nothing {
        fn write_parameters(&self, _: &mut impl ParameterWriter) {}
    }

    #[test]
    fn members_stand_in_order_without_spaces() {
        let sample = Sample { text: "a b".into(), number: 7, texts: ["x".into(), "y".into()].into() };
        assert_eq!(json(&sample), r#"{"Text":"a b","Number":7,"Texts":["x","y"]}"#);
        assert_eq!(json(&Nothing), "{}");
    }

    #[test]
    fn only_quotes_backslashes_and_control_characters_are_escaped() {
        let sample = Sample { text: "\0\n\u{1f}\u{7f}\"\\/未".into(), number: 0, texts: [].into() };
        assert_eq!(json(&sample), "{\"Text\":\"\\u0000\\u000a\\u001f\u{7f}\\\"\\\\/未\",\"Number\":0,\"Texts\":[]}");
    }

    struct Accounts(Vec<AccountId>);

    impl Parameters for Accounts {
        fn write_parameters(&self, to: &mut impl ParameterWriter) {
            to.accounts("Ids", &self.0);
        }
    }

    #[track_caller]
    fn check_accounts(numbers: &[u64]) {
        let quoted: Vec<String> = numbers.iter().map(|number| alloc::format!("\"{number}\"")).collect();
        let ids = Accounts(numbers.iter().map(|number| AccountId::new(*number).unwrap()).collect());
        assert_eq!(json(&ids), alloc::format!("{{\"Ids\":[{}]}}", quoted.join(",")));
    }

    #[test]
    fn account_ids_of_every_length_are_written() {
        check_accounts(&[]);
        let powers = (5..19).map(|exponent| 10_u64.pow(exponent));
        check_accounts(&powers.flat_map(|power| [power - 1, power, power + 1]).collect::<Vec<_>>());
        check_accounts(&[10_000, 9_999_999_999_999_999_999]);
    }

    #[test]
    fn any_three_digits_are_written_in_every_place() {
        for number in 0..1000 {
            let places = [1, 1_000, 1_000_000].map(|place| 100_000_000_000 + number * place);
            check_accounts(&places);
            check_accounts(&[number.max(100) * 1_000_000_000 + 7]);
        }
    }

    /// Any characters, control characters among them, which proptest's own texts leave out.
    fn any_text() -> impl Strategy<Value = String> {
        let special = proptest::sample::select(&['"', '\\', '\n', '\0', '\u{1f}'][..]);
        proptest::collection::vec(prop_oneof![any::<char>(), special], 0..20).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn any_parameters_are_read_back_by_serde_json(
            text in any_text(),
            number in any::<u64>(),
            texts in proptest::collection::vec(any_text(), 0..4),
        ) {
            let sample = Sample { text: text.clone(), number, texts: texts.clone() };
            let read: Value = serde_json::from_str(&json(&sample)).unwrap();
            prop_assert_eq!(read, value!({"Text": text, "Number": number, "Texts": texts}));
        }

        #[test]
        fn any_account_ids_are_written(
            numbers in proptest::collection::vec((10_000..=9_999_999_999_999_999_999_u64, 0..47_u32), 0..60),
        ) {
            check_accounts(&numbers.iter().map(|&(number, shift): &(u64, u32)| (number >> shift).max(10_000)).collect::<Vec<_>>());
        }
    }
}
