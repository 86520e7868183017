//! Signing: from a typed action to headers and body, compared with the minimum of hashing.
//!
//! `cargo bench --package imageshare-core --bench sign`; `README.md` explains the figures.
#![allow(
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench is a program for people that reads a clock, and ends where a helper fails"
)]

mod timing;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::ModifyImageSharePermission,
    ids::AccountId,
    params::write_json,
    request::{Host, Prepared, SignedRequest, Signer, Target, prepare},
    tc3::{CredentialScope, HexDigest, SigningKey},
};
use serde::Serialize;
use sha2::block_api::compress256;

use timing::{Row, compare_with_first};

const HOST: &str = "cvm.intl.tencentcloudapi.com";
const ID: &str = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE";
const KEY: &str = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE";

/// The first timestamp, at noon, so that all timestamps are on the same day.
const NOON: u64 = 1_751_025_600;

/// SHA-256 compressions that a request of one account needs despite all caches: two for the body, two for the canonical
/// request after its constant blocks, three for the HMAC with the day's key.
const ONE_ACCOUNT: usize = 7;

/// Compressions of the HMAC, all that a new timestamp needs.
const HMAC: usize = 3;

fn main() {
    for accounts in [1, 50, 500] {
        whole(accounts);
    }
    stages();
}

/// Measures a request from its action with a new timestamp each time, signing it again, and aws-sigv4.
fn whole(accounts: u64) {
    let action = share(accounts);
    let target = target();
    let mut prepared = Prepared::new(&action, &target);
    let body = prepared.body().to_owned();
    let compressions = ONE_ACCOUNT - compressions(body_of(1).len()) + compressions(body.len());
    let mut signer = Signer::new(credential());
    let (mut second_signer, second_prepared) = (Signer::new(credential()), prepared.clone());
    let (mut clock, mut second_clock, mut aws_clock) = (clock(), clock(), clock());
    let ids: Vec<String> = action.account_ids.iter().map(AccountId::to_string).collect();
    let flat = Flat { image_id: "img-6pb6lrmy", account_ids: &ids, permission: "SHARE" };
    assert_eq!(serde_json::to_vec(&flat).unwrap(), body);
    let identity = Credentials::new(ID, KEY, None, None, "bench").into();
    let rows = vec![
        Row::new(format!("floor: {compressions} compressions"), floor(compressions)),
        Row::new("prepare and sign", move || {
            prepare(&action, &target, &mut prepared);
            sum(&signer.sign(&prepared, clock()))
        }),
        Row::new("sign again", move || sum(&second_signer.sign(&second_prepared, second_clock()))),
        Row::new("aws-sigv4, the same body by serde_json", move || {
            let body = serde_json::to_vec(&flat).unwrap();
            let settings = SigningSettings::default();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(aws_clock().get());
            let parameters = v4::SigningParams::builder()
                .identity(&identity)
                .region("ap-singapore")
                .name("cvm")
                .time(time)
                .settings(settings)
                .build()
                .unwrap()
                .into();
            let headers =
                [("content-type", "application/json"), ("host", HOST), ("x-tc-action", "ModifyImageSharePermission")];
            let request = SignableRequest::new(
                "POST",
                "https://cvm.intl.tencentcloudapi.com/",
                headers.into_iter(),
                SignableBody::Bytes(&body),
            );
            sign(request.unwrap(), &parameters).unwrap().into_parts().1
        }),
        Row::new("floor of one account: 7 compressions", floor(ONE_ACCOUNT)),
    ];
    let times = compare_with_first(&format!("{accounts} accounts"), rows);
    let [_, ours, again, aws, one] = &times[..] else { return };
    println!(
        "  {:>4.2} x the floor; signed again {:.2} x that of one account; aws-sigv4 {:.1} x ours\n",
        ours.nanos / times[0].nanos,
        again.nanos / one.nanos,
        aws.nanos / ours.nanos
    );
}

/// Measures the stages separately.
fn stages() {
    let scope = CredentialScope::new(UnixSeconds::new(NOON).unwrap(), "cvm");
    let mut key = SigningKey::derive(&credential().secret_key, scope.clone());
    let to_sign = format!("TC3-HMAC-SHA256\n{NOON}\n{scope}\n{}", HexDigest::sha256(b""));
    let secret_key = credential().secret_key;
    let mut rows = vec![Row::new(format!("floor: {HMAC} compressions"), floor(HMAC))];
    rows.push(Row::new("signature with the day's key", move || key.sign(to_sign.as_bytes())));
    rows.push(Row::new("key of a day", || SigningKey::derive(&secret_key, scope.clone())));
    rows.push(Row::new("hexadecimal digits", || HexDigest::new(std::hint::black_box([7; 32]))));
    for accounts in [1, 50, 500] {
        let (action, mut body) = (share(accounts), Vec::new());
        let bytes = body_of(accounts);
        rows.push(Row::new(format!("body of {accounts} accounts"), move || {
            body.clear();
            write_json(&action, &mut body);
            body.len()
        }));
        rows.push(Row::new(format!("its hash, {} compressions", compressions(bytes.len())), move || {
            HexDigest::sha256(&bytes)
        }));
    }
    compare_with_first("stages", rows);
}

/// The action as other libraries describe it, with preformatted ids.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Flat<'a> {
    image_id: &'a str,
    account_ids: &'a [String],
    permission: &'a str,
}

/// Returns a chain of compressions with the same hash crate.
fn floor(compressions: usize) -> impl FnMut() -> [u32; 8] {
    let blocks = vec![[7; 64]; compressions];
    let mut state = [1; 8];
    move || {
        compress256(&mut state, &blocks);
        state
    }
}

/// Returns the compressions of a message: the padding adds at least nine bytes.
const fn compressions(len: usize) -> usize {
    (len + 9).div_ceil(64)
}

fn share(accounts: u64) -> ModifyImageSharePermission {
    ModifyImageSharePermission {
        image_id: "img-6pb6lrmy".parse().unwrap(),
        account_ids: (0..accounts).map(|nth| AccountId::new(100_022_975_249 + nth * 7_919).unwrap()).collect(),
        permission: Permission::Share,
    }
}

fn body_of(accounts: u64) -> Vec<u8> {
    Prepared::new(&share(accounts), &target()).body().to_owned()
}

fn target() -> Target<'static> {
    Target { host: Host::new(HOST).unwrap(), region: Some("ap-singapore".parse().unwrap()), language: None }
}

fn credential() -> Credential {
    Credential { secret_id: ID.parse().unwrap(), secret_key: KEY.parse().unwrap(), token: None }
}

/// Returns a clock with a new second of the same day at each call.
fn clock() -> impl FnMut() -> UnixSeconds + Clone {
    let mut second = 0;
    move || {
        second = (second + 1) % 40_000;
        UnixSeconds::new(NOON + second).unwrap()
    }
}

/// Reads everything that an HTTP client would receive.
fn sum(request: &SignedRequest<'_>) -> usize {
    request.headers().map(|(name, value)| name.len() + value.len()).sum::<usize>() + request.body().len()
}
