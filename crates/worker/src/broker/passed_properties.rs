//! The properties of a message that another message passes on.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};

/// Bytes of headers of a message that are passed on with it. With more, they might not fit with ours in the shortest frame
/// that a broker may allow, and a message that cannot be published would be sent forever.
const HEADERS_LEN_MAX: usize = 3 * 1024;

/// The prefix of our own headers.
const OURS: &str = "imageshare-";

/// Headers that the broker acts on or writes. Passed on, these would route the message elsewhere, be refused, or count
/// deliveries of another message.
const ACTED_ON: [&str; 5] = ["BCC", "CC", "x-acquired-count", "x-delay", "x-delivery-count"];

/// Prefixes of the headers that the broker adds to what it drops. Passed on, they would make a dead letter of ours look like
/// one of the broker's.
const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];

/// Returns the properties of a message without those that the broker acts on, such as user, expiration and priority. The
/// message is passed on by another user, and has to stay.
pub(super) fn without_broker_properties(properties: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    let text = |value: &Option<ShortString>| value.clone();
    if let Some(value) = text(properties.content_type()) {
        kept = kept.with_content_type(value);
    }
    if let Some(value) = text(properties.content_encoding()) {
        kept = kept.with_content_encoding(value);
    }
    if let Some(value) = text(properties.correlation_id()) {
        kept = kept.with_correlation_id(value);
    }
    if let Some(value) = text(properties.message_id()) {
        kept = kept.with_message_id(value);
    }
    if let Some(value) = text(properties.kind()) {
        kept = kept.with_type(value);
    }
    if let Some(value) = text(properties.app_id()) {
        kept = kept.with_app_id(value);
    }
    if let Some(value) = *properties.timestamp() {
        kept = kept.with_timestamp(value);
    }
    if let Some(headers) = properties.headers().as_ref().filter(|headers| table_len(headers) <= HEADERS_LEN_MAX) {
        let is_passed = |name: &str| {
            !ACTED_ON.contains(&name) && !name.starts_with(OURS) && !DEATHS.iter().any(|death| name.starts_with(death))
        };
        let mut passed = FieldTable::default();
        for (name, value) in headers.inner().iter().filter(|(name, _)| is_passed(name.as_str())) {
            passed.insert(name.clone(), value.clone());
        }
        kept = kept.with_headers(passed);
    }
    kept
}

/// Returns an upper bound for the bytes of a table on the wire.
fn table_len(table: &FieldTable) -> usize {
    table.inner().iter().map(|(name, value)| name.as_str().len() + 1 + value_len(value)).sum::<usize>() + 4
}

fn array_len(array: &FieldArray) -> usize {
    array.as_slice().iter().map(value_len).sum::<usize>() + 4
}

/// The values of other types have at most eight bytes.
fn value_len(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::ShortString(text) => text.as_str().len() + 1,
        AMQPValue::LongString(text) => text.len() + 4,
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len() + 4,
        AMQPValue::FieldArray(array) => array_len(array),
        AMQPValue::FieldTable(table) => table_len(table),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_headers_are_dropped() {
        let with = |len: usize| {
            let mut headers = FieldTable::default();
            headers.insert("own".into(), AMQPValue::LongString("x".repeat(len).into()));
            without_broker_properties(&BasicProperties::default().with_headers(headers)).headers().is_some()
        };
        assert!(with(HEADERS_LEN_MAX - 100) && !with(HEADERS_LEN_MAX));
    }
}
