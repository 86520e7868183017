//! Parses queries and forms: from text to flat pairs, and from flat pairs to the object that was flattened. The input
//! comes from any client, so number and depth are bounded.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use imageshare_core::{params::Pairs, text::excerpt};
use serde_json::Value;

/// The maximum number of pairs in a request: thirty times the documented cap of accounts per image.
pub const PAIRS_MAX: usize = 16_384;

/// The maximum number of parts in a name: `Filters.0.Values.0` has four, and no documented name has more than six.
pub const DEPTH_MAX: usize = 8;

/// Malformed pairs. Each variant holds the start of the name, safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlatError {
    /// Two values for one name.
    #[error("parameter {0}: duplicate (expected one value)")]
    Duplicate(String),
    /// `A..B`, `.A`, `A.` or no name at all.
    #[error("parameter {0}: empty part in its name (expected NAME.NAME or NAME.INDEX)")]
    EmptyPart(String),
    /// A list whose indexes leave some out.
    #[error("list {name}: invalid index {index} (expected {expected})")]
    Gap {
        /// The list.
        name: String,
        /// The index in the request.
        index: u32,
        /// The next index of the list.
        expected: u32,
    },
    /// An index with a leading zero or beyond 32 bits.
    #[error("parameter {0}: invalid index (expected a decimal number below 4294967296 without leading zeros)")]
    Index(String),
    /// A name that is a list and an object, or that has a value and parts below it.
    #[error("parameter {0}: conflicting uses (expected a value, a list of indexes or an object of names)")]
    Mixed(String),
    /// A truncated or invalid escape, or bytes that are not UTF-8.
    #[error("invalid encoding {0} (expected percent-encoded UTF-8)")]
    NotEncoded(String),
    /// A name with too many parts.
    #[error("parameter {0}: too many parts in its name (expected at most {DEPTH_MAX})")]
    TooDeep(String),
    /// Too many pairs.
    #[error("too many parameters (expected at most {PAIRS_MAX})")]
    TooMany,
}

/// Parses the pairs of a query or form. They are decoded and keep their order. A `+` is a space, a part without `=` has
/// an empty value, and empty parts are skipped.
///
/// # Errors
/// If there are more than [`PAIRS_MAX`] or one cannot be decoded.
pub fn parse(text: &[u8]) -> Result<Pairs, FlatError> {
    let mut pairs = Vec::new();
    for part in text.split(|&byte| byte == b'&').filter(|part| !part.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(FlatError::TooMany);
        }
        let mut sides = part.splitn(2, |&byte| byte == b'=');
        let mut side = || decode(sides.next().unwrap_or_default());
        let pair = side().zip(side());
        pairs.push(pair.ok_or_else(|| FlatError::NotEncoded(excerpt(&String::from_utf8_lossy(part))))?);
    }
    Ok(pairs.into_iter().collect())
}

/// Returns the object that was flattened. All its leaves are strings.
///
/// # Errors
/// If a name occurs twice, has an empty part or more than [`DEPTH_MAX`] parts, is both a value and the beginning of another
/// name, or if the indexes of a list do not run from 0 without a gap.
pub fn tree(pairs: Pairs) -> Result<Value, FlatError> {
    let mut root = Branch::new();
    for (count, (name, value)) in pairs.into_iter().enumerate() {
        if count == PAIRS_MAX {
            return Err(FlatError::TooMany);
        }
        insert(&mut root, &name, value)?;
    }
    match finish(root, "")? {
        Value::Array(_) => Err(FlatError::Index(excerpt("0"))),
        object => Ok(object),
    }
}

/// A part of a name. Indexes come before names, in numerical order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Index(u32),
    Name(String),
}

type Branch = BTreeMap<Part, Node>;

enum Node {
    Leaf(String),
    Branch(Branch),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => fmt::Display::fmt(index, f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Inserts a value at the path of its name.
fn insert(root: &mut Branch, name: &str, value: String) -> Result<(), FlatError> {
    if name.split('.').nth(DEPTH_MAX).is_some() {
        return Err(FlatError::TooDeep(excerpt(name)));
    }
    let (parents, last) = name.rsplit_once('.').map_or((None, name), |(parents, last)| (Some(parents), last));
    let mut branch = root;
    for parent in parents.into_iter().flat_map(|parents| parents.split('.')) {
        let node = branch.entry(part(parent, name)?).or_insert_with(|| Node::Branch(Branch::new()));
        branch = match node {
            Node::Branch(below) => below,
            Node::Leaf(_) => return Err(FlatError::Mixed(excerpt(name))),
        };
    }
    match branch.entry(part(last, name)?) {
        Entry::Vacant(free) => {
            free.insert(Node::Leaf(value));
            Ok(())
        }
        Entry::Occupied(taken) => Err(match taken.get() {
            Node::Leaf(_) => FlatError::Duplicate(excerpt(name)),
            Node::Branch(_) => FlatError::Mixed(excerpt(name)),
        }),
    }
}

fn part(text: &str, name: &str) -> Result<Part, FlatError> {
    if text.is_empty() {
        return Err(FlatError::EmptyPart(excerpt(name)));
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Part::Name(text.to_string()));
    }
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| !has_leading_zero).map(Part::Index).ok_or_else(|| FlatError::Index(excerpt(name)))
}

/// Converts a branch to a list or an object. The depth is bounded by [`insert`].
fn finish(branch: Branch, path: &str) -> Result<Value, FlatError> {
    let is_list = matches!(branch.first_key_value(), Some((Part::Index(_), _)));
    let mut list = Vec::new();
    let mut object = serde_json::Map::new();
    for (part, node) in branch {
        let value = match node {
            Node::Leaf(text) => Value::String(text),
            Node::Branch(below) if path.is_empty() => finish(below, &part.to_string())?,
            Node::Branch(below) => finish(below, &format!("{path}.{part}"))?,
        };
        match part {
            Part::Index(index) => {
                let expected = u32::try_from(list.len()).unwrap_or(u32::MAX);
                if index != expected {
                    return Err(FlatError::Gap { name: excerpt(path), index, expected });
                }
                list.push(value);
            }
            Part::Name(_) if is_list => return Err(FlatError::Mixed(excerpt(path))),
            Part::Name(name) => {
                object.insert(name, value);
            }
        }
    }
    Ok(if is_list { Value::Array(list) } else { Value::Object(object) })
}

/// Decodes percent-encoded text. Returns `None` if a `%` is not followed by two hexadecimal digits or the bytes are not
/// UTF-8.
///
/// The official SDKs write a space as `+` in queries as well as in forms, so `+` is a space in both.
fn decode(encoded: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(*rest.next()?)? << 4 | digit(*rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use imageshare_core::params::encode;

    use super::*;

    fn read(text: &str) -> Result<Value, FlatError> {
        parse(text.as_bytes()).and_then(tree)
    }

    #[test]
    fn names_become_lists_and_objects() {
        assert_eq!(
            read("Filters.0.Values.1=b&Filters.0.Name=image-name&Filters.0.Values.0=a+b&Limit=20&Empty=&Bare"),
            Ok(json!({
                "Filters": [{"Name": "image-name", "Values": ["a b", "b"]}], "Limit": "20", "Empty": "", "Bare": "",
            }))
        );
        assert_eq!(read(""), Ok(json!({})));
        assert_eq!(read("&A=1&&B=a=b&"), Ok(json!({"A": "1", "B": "a=b"})));
    }

    #[test]
    fn twelve_entries_keep_their_order() {
        let pairs: Pairs = (0..12).map(|n| (format!("A.{n}"), n.to_string())).collect();
        let listed: Vec<_> = (0..12).map(|n| n.to_string()).collect();
        assert_eq!(read(&pairs.to_query()), Ok(json!({ "A": listed })));
    }

    #[track_caller]
    fn check(text: &str, message: &str) {
        assert_eq!(read(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn ambiguous_pairs_are_refused() {
        check("A=1&A=1", r#"parameter "A": duplicate (expected one value)"#);
        check("A.0=1&A.0=1", r#"parameter "A.0": duplicate (expected one value)"#);
        check("A.0=1&A.2=1", r#"list "A": invalid index 2 (expected 1)"#);
        check("A.1=1", r#"list "A": invalid index 1 (expected 0)"#);
        let mixed = "conflicting uses (expected a value, a list of indexes or an object of names)";
        check("A=1&A.0=1", &format!("parameter \"A.0\": {mixed}"));
        check("A.0=1&A=1", &format!("parameter \"A\": {mixed}"));
        check("A.0=1&A.B=1", &format!("parameter \"A\": {mixed}"));
        let index = "invalid index (expected a decimal number below 4294967296 without leading zeros)";
        check("A.00=1", &format!("parameter \"A.00\": {index}"));
        check("A.4294967296=1", &format!("parameter \"A.4294967296\": {index}"));
        check("0=1", &format!("parameter \"0\": {index}"));
        let empty = "empty part in its name (expected NAME.NAME or NAME.INDEX)";
        for name in ["", "A.", ".A", "A..B"] {
            check(&format!("{name}=1"), &format!("parameter \"{name}\": {empty}"));
        }
        check("A=%zz\u{1b}", r#"invalid encoding "A=%zz\u{1b}" (expected percent-encoded UTF-8)"#);
        assert_eq!(
            parse(b"A=\xff").unwrap_err().to_string(),
            r#"invalid encoding "A=\u{fffd}" (expected percent-encoded UTF-8)"#
        );
    }

    #[test]
    fn depth_and_count_are_bounded() {
        assert!(read("A.0.B.0.C.0.D.0=1").is_ok());
        check(
            "A.0.B.0.C.0.D.0.E=1",
            r#"parameter "A.0.B.0.C.0.D.0.E": too many parts in its name (expected at most 8)"#,
        );
        let many = |count: usize| (0..count).map(|n| (format!("A.{n}"), "x")).collect::<Pairs>();
        assert!(read(&many(PAIRS_MAX).to_query()).is_ok());
        assert_eq!(read(&many(PAIRS_MAX + 1).to_query()), Err(FlatError::TooMany));
        assert_eq!(tree(many(PAIRS_MAX + 1)), Err(FlatError::TooMany));
    }

    /// The same value with every leaf as a string, as in a query.
    fn texts(value: &Value) -> Value {
        match value {
            Value::Array(entries) => entries.iter().map(texts).collect(),
            Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), texts(member))).collect(),
            Value::String(text) => text.as_str().into(),
            other => other.to_string().into(),
        }
    }

    #[test]
    fn queries_of_official_clients_are_parsed() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../core/tests/vectors/signing.json")).unwrap();
        let mut queries = 0;
        for vector in &vectors {
            let query = vector["query_string"].as_str().unwrap_or_default();
            if !query.is_empty() {
                queries += 1;
                assert_eq!(read(query), Ok(texts(&vector["params"])), "{}", vector["name"]);
            }
            let Some(sent) = vector["encoded_params_as_sent"].as_str() else { continue };
            let pairs = parse(sent.as_bytes()).unwrap();
            assert_eq!(pairs.get("Signature"), vector["signature"].as_str(), "{}", vector["name"]);
        }
        assert_eq!(queries, 9);
    }

    /// Objects of strings with nonempty lists and objects: the values that have a flat form.
    fn any_tree() -> impl Strategy<Value = Value> {
        let name = || "[A-Za-z_][A-Za-z0-9_]{0,6}";
        let text = proptest::collection::vec(any::<char>(), 0..10).prop_map(String::from_iter);
        let below = text.prop_map(Value::String).prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..5).prop_map(Value::Array),
                proptest::collection::btree_map(name(), inner, 1..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map(name(), below, 0..5)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    #[test]
    fn broken_escapes_and_invalid_utf8_are_refused() {
        for bad in ["%", "%1", "a%", "%zz", "%+1", "%ff", "%E6%9C"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(b"a+b%2f%2F").as_deref(), Some("a b//"));
    }

    proptest! {
        #[test]
        fn any_text_survives_encoding(chars in proptest::collection::vec(any::<char>(), 0..40)) {
            let text = String::from_iter(chars);
            prop_assert_eq!(decode(encode(&text).as_bytes()), Some(text));
        }

        #[test]
        fn flattened_object_is_restored(tree in any_tree()) {
            prop_assert_eq!(read(&Pairs::flatten(&tree).to_query()), Ok(tree));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(tree) = parse(&text).and_then(tree) {
                prop_assert_eq!(read(&Pairs::flatten(&tree).to_query()), Ok(tree));
            }
        }

        #[test]
        fn any_few_parts_are_parsed_or_refused(text in "([A.01=&%+]{0,6}&){0,8}") {
            if let Ok(tree) = read(&text) {
                prop_assert!(tree.is_object());
                prop_assert_eq!(read(&Pairs::flatten(&tree).to_query()), Ok(tree));
            }
        }
    }
}
