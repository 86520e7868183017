//! JSON that is not one value per line: an object over several lines, several of them, or a list.

use imageshare_core::text::excerpt;

use super::value::Value;

/// Splits a text into its top-level values and the elements of its top-level lists. Holds one value at a time. It follows
/// brackets and quotes only; whether a value is valid is for its parser to say.
pub(super) struct Documents {
    len_max: usize,
    /// The first `len_max` bytes of the last value.
    value: Vec<u8>,
    is_too_long: bool,
    /// The line on which it begins.
    line: u64,
    state: State,
    list: List,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing: the next value has not begun.
    Between,
    /// An object or a list with this many open brackets.
    Brackets(usize),
    /// A text within this many brackets.
    Text { depth: usize, is_escaped: bool },
    /// A number or a word.
    Word,
}

/// What a top-level list expects next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    /// Nothing: it is closed.
    Closed,
    /// A value, or the end.
    ValueOrEnd,
    /// A comma, or the end.
    CommaOrEnd,
    /// A value.
    Value,
}

/// What was found in a line.
pub(super) enum LinePart<'a> {
    /// A value ended.
    Value {
        /// The line on which it began.
        line: u64,
        /// Its bytes, or what is wrong with it.
        value: Result<&'a [u8], String>,
        /// Where in the line to continue.
        next: usize,
    },
    /// No further value ends in this line.
    LineEnd,
    /// An error that leaves the begin of the next value unknown.
    Malformed(String),
}

/// JSON of another program, recognized to say what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// The file of Packer's `manifest` post-processor.
    PackerManifest,
    /// What `terraform output -json` prints.
    TerraformOutput,
}

/// Whether a text is not one value per line, by its first line that is not blank: it begins a list, or an object that
/// cannot end in this line.
pub(super) fn is_spread(first_line: &[u8]) -> bool {
    let line = first_line.trim_ascii();
    line.starts_with(b"[") || (line.starts_with(b"{") && line.last().is_some_and(|last| b"{[,".contains(last)))
}

impl Documents {
    /// Returns a splitter into values of at most `len_max` bytes each.
    pub(super) const fn new(len_max: usize) -> Self {
        let (state, list) = (State::Between, List::Closed);
        Self { len_max, value: Vec::new(), is_too_long: false, line: 0, state, list }
    }

    /// Takes a line from the byte `at` on until a value ends, so that no more than one is in memory.
    pub(super) fn take(&mut self, number: u64, line: &[u8], at: usize) -> LinePart<'_> {
        for at in at..=line.len() {
            let byte = line.get(at).copied().unwrap_or(b'\n');
            if self.state == State::Word && (byte.is_ascii_whitespace() || b",]}".contains(&byte)) {
                return self.end(at);
            }
            if self.state == State::Between {
                match self.begin(byte) {
                    Ok(true) => {
                        self.value.clear();
                        (self.line, self.is_too_long) = (number, false);
                    }
                    Ok(false) => continue,
                    Err(problem) => {
                        return LinePart::Malformed(format!(
                            "malformed JSON: {problem}; the rest of the file was not read"
                        ));
                    }
                }
            } else {
                self.follow(byte);
            }
            if self.value.len() < self.len_max {
                self.value.push(byte);
            } else {
                self.is_too_long = true;
            }
            if self.state == State::Between {
                return self.end(at + 1);
            }
        }
        LinePart::LineEnd
    }

    /// Returns what is wrong if the text ends here.
    pub(super) fn finish(&self) -> Option<(u64, String)> {
        let is_open = self.state != State::Between || self.list != List::Closed;
        let problem = "malformed JSON: the file ends before the value that begins here (expected all closing brackets; \
                       the file may be truncated)";
        is_open.then(|| (self.line.max(1), problem.to_owned()))
    }

    /// Takes a byte between values. Returns whether it begins one.
    fn begin(&mut self, byte: u8) -> Result<bool, String> {
        if byte.is_ascii_whitespace() {
            return Ok(false);
        }
        match (self.list, byte) {
            (List::Closed, b'[') => self.list = List::ValueOrEnd,
            (List::ValueOrEnd | List::CommaOrEnd, b']') => self.list = List::Closed,
            (List::CommaOrEnd, b',') => self.list = List::Value,
            (List::CommaOrEnd, _) => return Err(format!("unexpected {} (expected , or ])", shown(byte))),
            (_, b',' | b']' | b'}') => return Err(format!("unexpected {} (expected a value)", shown(byte))),
            _ => {
                self.state = match byte {
                    b'{' | b'[' => State::Brackets(1),
                    b'"' => State::Text { depth: 0, is_escaped: false },
                    _ => State::Word,
                };
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a byte within a value. The state is between values again if it is the last one.
    fn follow(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Text { depth, is_escaped: true }, _) => State::Text { depth, is_escaped: false },
            (State::Text { depth, .. }, b'\\') => State::Text { depth, is_escaped: true },
            (State::Text { depth: 0, .. }, b'"') => State::Between,
            (State::Text { depth, .. }, b'"') => State::Brackets(depth),
            (State::Brackets(depth), b'"') => State::Text { depth, is_escaped: false },
            (State::Brackets(depth), b'{' | b'[') => State::Brackets(depth + 1),
            (State::Brackets(1), b'}' | b']') => State::Between,
            (State::Brackets(depth), b'}' | b']') => State::Brackets(depth - 1),
            (state, _) => state,
        };
    }

    /// Ends a value before the byte `next`.
    fn end(&mut self, next: usize) -> LinePart<'_> {
        self.state = State::Between;
        if self.list != List::Closed {
            self.list = List::CommaOrEnd;
        }
        let value = if self.is_too_long {
            Err(format!("more than {0} bytes (expected at most {0})", self.len_max))
        } else {
            Ok(self.value.as_slice())
        };
        LinePart::Value { line: self.line, value, next }
    }
}

fn shown(byte: u8) -> String {
    excerpt(&char::from(byte).to_string())
}

impl Foreign {
    /// Returns the program that an object is from, if it is known.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let Ok(Value::Object(members)) = serde_json::from_slice(text) else { return None };
        let member = |name: &str| members.iter().find(|(of, _)| of == name).map(|(_, value)| value);
        if matches!(member("builds"), Some(Value::Array(_))) && member("last_run_uuid").is_some() {
            return Some(Self::PackerManifest);
        }
        let is_output = |value: &Value<'_>| match value {
            Value::Object(members) => {
                ["sensitive", "type", "value"].iter().all(|name| members.iter().any(|(of, _)| of == name))
            }
            _ => false,
        };
        let is_terraform = !members.is_empty() && members.iter().all(|(_, value)| is_output(value));
        is_terraform.then_some(Self::TerraformOutput)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a text, and shows each value behind its line.
    fn split(text: &str) -> Vec<String> {
        let mut documents = Documents::new(24);
        let mut read = Vec::new();
        for (number, line) in (1..).zip(text.split('\n')) {
            let mut at = 0;
            loop {
                match documents.take(number, line.as_bytes(), at) {
                    LinePart::Value { line, value, next } => {
                        let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
                        read.push(format!("{line} {}", value.unwrap_or_else(|problem| problem)));
                        at = next;
                    }
                    LinePart::LineEnd => break,
                    LinePart::Malformed(problem) => {
                        read.push(format!("{number} {problem}"));
                        return read;
                    }
                }
            }
        }
        read.extend(documents.finish().map(|(line, problem)| format!("{line} {problem}")));
        read
    }

    #[test]
    fn values_are_found_however_they_are_spread() {
        for text in [
            "{\"a\":1} {\"b\":2}",
            "[{\"a\":1},{\"b\":2}]",
            "[ {\"a\":1} ,\n",
            "{\"a\":1}\n\n{\"b\":2}",
            "[{\"a\":1}][{\"b\":2}]",
        ] {
            let whole = text.replace(",\n", ",{\"b\":2}]");
            let read: Vec<_> =
                split(&whole).into_iter().map(|value| value.split_once(' ').unwrap().1.to_owned()).collect();
            assert_eq!(read, ["{\"a\":1}", "{\"b\":2}"], "{whole}");
        }
        assert_eq!(
            split("[\n  {\n    \"a\": [1, {}]\n  },\n  {}\n]"),
            ["2 {\n    \"a\": [1, {}]\n  }".to_owned(), "5 {}".to_owned()]
        );
        assert_eq!(split("[1,\"2,]\", true]"), ["1 1", "1 \"2,]\"", "1 true"]);
        assert_eq!(split("{\"a}\\\"{\":[\"]\"]}"), ["1 {\"a}\\\"{\":[\"]\"]}"]);
        assert_eq!(split(" \n[]\n"), Vec::<String>::new());
    }

    #[test]
    fn long_value_costs_none_of_others() {
        let long = format!("[\"{}\",\n2]", "x".repeat(30));
        assert_eq!(split(&long), ["1 more than 24 bytes (expected at most 24)", "2 2"]);
    }

    #[test]
    fn other_json_ends_the_reading() {
        for (text, problem) in [
            ("[1 2]", "1 1|1 malformed JSON: unexpected \"2\" (expected , or ]); the rest of the file was not read"),
            (
                "{}\n,{}",
                "1 {}|2 malformed JSON: unexpected \",\" (expected a value); the rest of the file was not read",
            ),
            ("[1,]", "1 1|1 malformed JSON: unexpected \"]\" (expected a value); the rest of the file was not read"),
        ] {
            assert_eq!(split(text).join("|"), problem);
        }
        for text in ["[1", "[", "[\n{\n", "{\"a"] {
            let read = split(text);
            assert!(read.last().unwrap().contains(" malformed JSON: the file ends before the value"), "{read:?}");
        }
    }

    #[test]
    fn files_of_packer_and_terraform_are_recognized() {
        let manifest = br#"{"builds":[{"artifact_id":"ap-tokyo:img-6pb6lrmy"}],"last_run_uuid":"8a1f"}"#;
        let output = br#"{"accounts":{"sensitive":false,"type":["list","string"],"value":["1038493875"]}}"#;
        assert_eq!(Foreign::of(manifest), Some(Foreign::PackerManifest));
        assert_eq!(Foreign::of(output), Some(Foreign::TerraformOutput));
        for other in [&b"{}"[..], b"{\"builds\":1}", b"[]", b"{\"a\":{\"value\":1}}", b"{"] {
            assert_eq!(Foreign::of(other), None);
        }
    }
}
