//! Parsing responses: from the body to a typed response or API error, compared with bare serde_json.
//!
//! `cargo bench --package imageshare-core --bench parse`; `README.md` explains the figures.
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench is a program for people that reads a clock, and ends where a helper fails"
)]

mod timing;

use std::fmt::Write as _;

use imageshare_core::{
    actions::{DescribeImageSharePermission, ModifyImageSharePermission},
    response::{Failure, parse},
};
use serde::Deserialize;

use timing::{Row, compare_with_first};

const SUCCESS: &str = r#"{"Response":{"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;

const REFUSAL: &str = r#"{"Response":{"Error":{"Code":"InvalidAccountId.NotFound","Message":"The specified account `1038493875` does not exist."},"RequestId":"ed93f3cb-f35e-473f-b9f3-0d451b8b79c6"}}"#;

/// Entries of the listing: the API's limit of accounts per image.
const ENTRIES: u64 = 500;

/// Minimal types: borrowed texts, no optional members, no validation or conversion.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BareEnvelope<T> {
    response: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BareSuccess<'a> {
    request_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BareRefusal<'a> {
    #[serde(borrow)]
    error: BareError<'a>,
    request_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BareError<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BareListing<'a> {
    #[serde(borrow)]
    share_permission_set: Vec<BareEntry<'a>>,
    request_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BareEntry<'a> {
    created_time: &'a str,
    account_id: &'a str,
}

fn main() {
    let listing = listing();
    let rows = vec![
        Row::new("bare serde_json", || bare::<BareSuccess<'_>>(SUCCESS).request_id.len()),
        Row::new("parse", || parse::<ModifyImageSharePermission>(200, SUCCESS.as_bytes()).unwrap()),
    ];
    compare_with_first("success", rows);
    let rows = vec![
        Row::new("bare serde_json", || {
            let BareRefusal { error: BareError { code, message }, request_id } = bare(REFUSAL);
            code.len() + message.len() + request_id.len()
        }),
        Row::new("parse", || match parse::<ModifyImageSharePermission>(200, REFUSAL.as_bytes()) {
            Err(Failure::Api(error)) => error,
            other => panic!("{other:?}"),
        }),
    ];
    compare_with_first("refusal", rows);
    let rows = vec![
        Row::new("bare serde_json", || {
            let BareListing { share_permission_set, request_id } = bare(&listing);
            let texts = share_permission_set.iter().map(|entry| entry.created_time.len() + entry.account_id.len());
            texts.sum::<usize>() + request_id.len()
        }),
        Row::new("parse", || parse::<DescribeImageSharePermission>(200, listing.as_bytes()).unwrap()),
    ];
    compare_with_first(&format!("listing of {ENTRIES}, {} bytes", listing.len()), rows);
}

fn bare<'a, T: Deserialize<'a>>(body: &'a str) -> T {
    serde_json::from_slice::<BareEnvelope<T>>(body.as_bytes()).unwrap().response
}

fn listing() -> String {
    let mut set = String::new();
    for nth in 0..ENTRIES {
        let comma = if nth == 0 { "" } else { "," };
        let (minute, second, account) = (nth / 60, nth % 60, 100_022_975_249 + nth * 7_919);
        write!(set, r#"{comma}{{"CreatedTime":"2026-11-24T07:{minute:02}:{second:02}Z","AccountId":"{account}"}}"#)
            .unwrap();
    }
    format!(r#"{{"Response":{{"SharePermissionSet":[{set}],"RequestId":"9a1b7f0e-6a0f-4a0c-8f6f-1d7f2a0f3a11"}}}}"#)
}
