//! The compact JSON body of a POST.

use alloc::string::String;
use core::fmt::{self, Display, Write};

use super::{ParameterWriter, Parameters};

/// The parameters as compact JSON: no white space, members in the order of the description, text as it is but for
/// what JSON wants escaped.
#[must_use]
pub fn json(parameters: &impl Parameters) -> String {
    let mut body = String::new();
    write_json(parameters, &mut body);
    body
}

/// As [`json`], appended to `body`. Allocates nothing but what the text needs to grow.
pub fn write_json(parameters: &impl Parameters, body: &mut String) {
    body.push('{');
    parameters.write_parameters(&mut JsonWriter { body, is_first: true });
    body.push('}');
}

struct JsonWriter<'a> {
    body: &'a mut String,
    is_first: bool,
}

impl JsonWriter<'_> {
    fn name(&mut self, name: &'static str) {
        if !self.is_first {
            self.body.push(',');
        }
        self.is_first = false;
        self.quoted(name);
        self.body.push(':');
    }

    fn quoted(&mut self, text: impl Display) {
        self.body.push('"');
        write!(Escaped(self.body), "{text}").expect("neither a parameter's Display nor a String fails");
        self.body.push('"');
    }
}

impl ParameterWriter for JsonWriter<'_> {
    fn text(&mut self, name: &'static str, text: impl Display) {
        self.name(name);
        self.quoted(text);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        write!(self.body, "{number}").expect("writing a number to a String never fails");
    }

    fn texts<T: Display>(&mut self, name: &'static str, texts: &[T]) {
        self.name(name);
        self.body.push('[');
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                self.body.push(',');
            }
            self.quoted(text);
        }
        self.body.push(']');
    }
}

/// Escapes what passes through as the inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..='\u{1f}')) {
            let (plain, special) = rest.split_at(at);
            self.0.push_str(plain);
            let mut chars = special.chars();
            match chars.next() {
                Some(c @ ('"' | '\\')) => self.0.extend(['\\', c]),
                Some(control) => write!(self.0, "\\u{:04x}", u32::from(control))?,
                None => {}
            }
            rest = chars.as_str();
        }
        self.0.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

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
