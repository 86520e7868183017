//! Parameters of a call: JSON values, pairs of a URL, actions.

use imageshare_core::{
    Permission,
    actions::{AssumeRole, DescribeImages, DescribeOrganizationMembers, ModifyImageSharePermission, Tag},
    ids::{AccountId, ImageId},
    params::{Pairs, Parameters, json},
};
use imageshare_sandbox::flat::{self, DEPTH_MAX, PAIRS_MAX};
use serde_json::{Map, Value};

use crate::{
    assert_shown,
    source::{Source, documents},
};

/// Maximum length of an error in characters.
const REASON_CHARS_MAX: usize = 1_000;

/// Checks parameters. Flattening, URL encoding and parsing are lossless, pairs agree with `form_urlencoded`, and an action has
/// the same parameters in body and URL.
///
/// # Panics
/// If a property does not hold.
pub fn params(data: &[u8]) {
    documents(data).for_each(check_document);
}

fn check_document(data: &[u8]) {
    check_text(data);
    if let Ok(value) = serde_json::from_slice(data) {
        check_value(&value);
    }
    check_actions(Source::new(data));
}

fn check_text(text: &[u8]) {
    let pairs = match flat::parse(text) {
        Ok(pairs) => pairs,
        Err(error) => return assert_shown(&error.to_string(), REASON_CHARS_MAX),
    };
    // The other parser replaces invalid bytes; this one rejects them.
    assert!(pairs.iter().eq(form_urlencoded::parse(text).collect::<Vec<_>>().iter().map(|(n, v)| (&**n, &**v))));
    assert_eq!(sorted(&read(&pairs)), sorted(&pairs));
    match flat::tree(pairs) {
        Ok(tree) => assert_eq!(flat::tree(read(&Pairs::flatten(&tree))), Ok(tree)),
        Err(error) => assert_shown(&error.to_string(), REASON_CHARS_MAX),
    }
}

fn check_value(value: &Value) {
    let pairs = Pairs::flatten(value);
    if pairs.iter().count() > PAIRS_MAX {
        return;
    }
    assert_eq!(sorted(&read(&pairs)), sorted(&pairs));
    match (flat::tree(pairs), has_flat_form(value, 0).then(|| flat_form(value)).flatten()) {
        (Ok(tree), Some(Value::Object(members))) => assert_eq!(tree, Value::Object(members)),
        (tree, Some(Value::Object(members))) => panic!("{members:?} comes back as {tree:?}"),
        _ => {}
    }
}

/// Returns a value after flattening and parsing: leaves are texts, and values without a flat form are absent.
fn flat_form(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) => Some(Value::String(value.to_string())),
        Value::String(text) => Some(Value::String(text.clone())),
        Value::Array(entries) => Some(Value::Array(entries.iter().filter_map(flat_form).collect()))
            .filter(|list| list != &Value::Array(vec![])),
        Value::Object(members) => {
            let kept = members.iter().filter_map(|(name, member)| Some((name.clone(), flat_form(member)?)));
            Some(Value::Object(kept.collect::<Map<_, _>>())).filter(|object| object != &Value::Object(Map::new()))
        }
    }
}

/// Whether a value comes back when it was made flat: names are no indexes and have no dots, lists have no entry that has
/// no flat form, and nothing lies too deep.
fn has_flat_form(value: &Value, depth: usize) -> bool {
    match value {
        _ if depth > DEPTH_MAX => false,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(entries) => {
            entries.iter().all(|entry| flat_form(entry).is_some() && has_flat_form(entry, depth + 1))
        }
        Value::Object(members) => members.iter().all(|(name, member)| {
            let is_plain = !name.is_empty() && !name.contains('.') && !name.starts_with(|c: char| c.is_ascii_digit());
            is_plain && has_flat_form(member, depth + 1)
        }),
    }
}

fn check_actions(mut source: Source<'_>) {
    check_action(&AssumeRole {
        role_arn: source.text(),
        role_session_name: source.text(),
        duration_seconds: (source.byte() > 0).then(|| source.number()),
        external_id: (source.byte() > 0).then(|| source.text()),
    });
    let image_id: ImageId = source.parsed("img-6pb6lrmy");
    let permission = if source.byte().is_multiple_of(2) { Permission::Share } else { Permission::Cancel };
    check_action(&DescribeImages { image_ids: vec![image_id; source.byte().into()] });
    check_action(&DescribeOrganizationMembers {
        offset: source.number(),
        node_id: (source.byte() > 0).then(|| source.number()),
        tags: vec![Tag { key: source.text(), value: source.text() }],
    });
    let mut account_ids = Vec::new();
    while let Some(number) = source.take().map(u64::from_be_bytes) {
        account_ids.extend(AccountId::new(number));
    }
    check_action(&ModifyImageSharePermission { image_id, account_ids, permission });
}

fn check_action(action: &impl Parameters) {
    let body: Value = serde_json::from_str(&json(action)).expect("a body is JSON");
    let pairs = Pairs::of(action);
    assert_eq!(sorted(&pairs), sorted(&Pairs::flatten(&body)));
    let flat_form = flat_form(&body).unwrap_or_else(|| Value::Object(Map::new()));
    assert_eq!(flat::tree(read(&pairs)), Ok(flat_form));
}

/// The pairs as they come out of a URL's text.
fn read(pairs: &Pairs) -> Pairs {
    let query = pairs.to_query();
    flat::parse(query.as_bytes()).unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Of one name in their order.
fn sorted(pairs: &Pairs) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    pairs
}
