//! The compact JSON body of a POST.

use alloc::{string::String, vec::Vec};

use super::{ParameterWriter, Parameters};
use crate::{decimal, ids::AccountId};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The parameters as compact JSON: no white space, members in the order of the description, text as it is but for
/// what JSON wants escaped.
#[must_use]
pub fn json(parameters: &impl Parameters) -> String {
    let mut body = Vec::new();
    write_json(parameters, &mut body);
    String::from_utf8(body).expect("it is made of texts and of ASCII")
}

/// As [`json`], appended to `body`. Allocates nothing but what the text needs to grow.
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
    fn name(&mut self, name: &'static str) {
        self.body.extend_from_slice(&[self.before, b'"']);
        self.body.extend_from_slice(name.as_bytes());
        self.body.extend_from_slice(b"\":");
        self.before = b',';
    }

    fn quoted(&mut self, text: &str) {
        self.body.push(b'"');
        escape(text.as_bytes(), self.body);
        self.body.push(b'"');
    }

    /// A list of texts, which are written by `write`, without their quotes.
    fn list<T>(&mut self, name: &'static str, texts: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
        self.name(name);
        let Some((first, rest)) = texts.split_first() else { return self.body.extend_from_slice(b"[]") };
        self.body.extend_from_slice(b"[\"");
        write(first, self.body);
        for text in rest {
            self.body.extend_from_slice(b"\",\"");
            write(text, self.body);
        }
        self.body.extend_from_slice(b"\"]");
    }
}

impl ParameterWriter for JsonWriter<'_> {
    fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.quoted(text);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        decimal::push(number, self.body);
    }

    fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]) {
        self.list(name, texts, |text, to| escape(text.as_ref().as_bytes(), to));
    }

    #[expect(clippy::indexing_slicing, reason = "the body was just made as long as all of them can be")]
    fn accounts(&mut self, name: &'static str, ids: &[AccountId]) {
        const BETWEEN: &[u8; 3] = b"\",\"";
        self.name(name);
        self.body.extend_from_slice(b"[\"");
        // There may be hundreds: they are written where there is room for all of them already.
        let mut at = self.body.len();
        self.body.resize(at + ids.len() * (decimal::DIGITS_MAX + BETWEEN.len()), 0);
        for id in ids {
            let Some(room) = self.body[at..].first_chunk_mut() else { break };
            at += decimal::write(id.get(), room);
            self.body[at..at + BETWEEN.len()].copy_from_slice(BETWEEN);
            at += BETWEEN.len();
        }
        self.body.truncate(if ids.is_empty() { at - 1 } else { at - 2 });
        self.body.push(b']');
    }
}

/// Appends the inside of a JSON string. What has to be escaped is ASCII, so the bytes of other characters stay together.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..=0x1f);
    let mut rest = text;
    while let Some((plain, [special, behind @ ..])) =
        rest.iter().position(is_special).and_then(|at| rest.split_at_checked(at))
    {
        out.extend_from_slice(plain);
        match *special {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            control => {
                #[expect(clippy::indexing_slicing, reason = "half a byte is less than 16")]
                let (upper, lower) = (HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', upper, lower]);
            }
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
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
    fn members_stand_in_order_without_white_space() {
        let sample = Sample { text: "a b".into(), number: 7, texts: ["x".into(), "y".into()].into() };
        assert_eq!(json(&sample), r#"{"Text":"a b","Number":7,"Texts":["x","y"]}"#);
        assert_eq!(json(&Nothing), "{}");
    }

    #[test]
    fn quotes_backslashes_and_control_characters_are_escaped_and_nothing_else() {
        let sample = Sample { text: "\0\n\u{1f}\u{7f}\"\\/未".into(), number: 0, texts: [].into() };
        assert_eq!(json(&sample), "{\"Text\":\"\\u0000\\u000a\\u001f\u{7f}\\\"\\\\/未\",\"Number\":0,\"Texts\":[]}");
    }

    /// Any characters, control characters among them, which proptest's own texts leave out.
    fn any_text() -> impl Strategy<Value = String> {
        let special = proptest::sample::select(&['"', '\\', '\n', '\0', '\u{1f}'][..]);
        proptest::collection::vec(prop_oneof![any::<char>(), special], 0..20).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_by_a_json_parser(
            text in any_text(),
            number in any::<u64>(),
            texts in proptest::collection::vec(any_text(), 0..4),
        ) {
            let sample = Sample { text: text.clone(), number, texts: texts.clone() };
            let read: Value = serde_json::from_str(&json(&sample)).unwrap();
            prop_assert_eq!(read, value!({"Text": text, "Number": number, "Texts": texts}));
        }
    }
}
