//! What is sent, and that what is kept from earlier requests does not show.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use proptest::prelude::*;

use super::*;
use crate::{
    Credential, Permission, UnixSeconds,
    actions::{GetCallerIdentity, ModifyImageSharePermission},
    ids::AccountId,
    tc3::{self, CanonicalRequest, HexDigest, SignedHeaders},
};

fn share(account_ids: Vec<AccountId>) -> ModifyImageSharePermission {
    let image_id = "img-6pb6lrmy".parse().unwrap();
    ModifyImageSharePermission { image_id, account_ids, permission: Permission::Share }
}

fn credential(token: Option<&str>) -> Credential {
    Credential {
        secret_id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE".parse().unwrap(),
        secret_key: "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE".parse().unwrap(),
        token: token.map(|token| token.parse().unwrap()),
    }
}

const HOST: &str = "cvm.intl.tencentcloudapi.com";

fn target() -> Target<'static> {
    Target { host: Host::new(HOST).unwrap(), region: None, language: None }
}

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds).unwrap()
}

#[test]
fn optional_headers_are_sent_only_when_given() {
    let prepared = Prepared::new(&GetCallerIdentity, &target());
    let mut signer = Signer::new(credential(None));
    let request = signer.sign(&prepared, at(1_751_000_000));
    assert_eq!((request.method(), request.path(), request.body()), ("POST", "/", b"{}".as_slice()));
    let (authorization, rest): (Vec<_>, Vec<_>) = request.headers().partition(|(name, _)| *name == "Authorization");
    assert_eq!(
        rest,
        [
            ("Content-Type", "application/json"),
            ("Host", "cvm.intl.tencentcloudapi.com"),
            ("X-TC-Action", "GetCallerIdentity"),
            ("X-TC-Version", "2018-08-13"),
            ("X-TC-Timestamp", "1751000000"),
        ]
    );
    assert!(authorization[0].1.starts_with(
        "TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2025-06-27/sts/tc3_request, \
         SignedHeaders=content-type;host;x-tc-action, Signature="
    ));

    let region = Some("ap-singapore".parse().unwrap());
    let prepared = Prepared::new(&GetCallerIdentity, &Target { region, language: Some(Language::English), ..target() });
    let mut signer = Signer::new(credential(Some("fake+Token/x==")));
    let request = signer.sign(&prepared, at(1_751_000_000));
    let optional: Vec<_> = request.headers().skip(6).collect();
    assert_eq!(
        optional,
        [("X-TC-Region", "ap-singapore"), ("X-TC-Language", "en-US"), ("X-TC-Token", "fake+Token/x==")]
    );
}

#[test]
fn unsigned_request_has_no_signature_and_no_token() {
    let prepared = Prepared::new(&GetCallerIdentity, &target());
    let mut stamp = Stamp::default();
    let request = prepared.unsigned(at(1_551_113_065), &mut stamp);
    let header = |name| request.headers().find(|(each, _)| *each == name).map(|(_, value)| value);
    assert_eq!(header("Authorization"), Some("SKIP"));
    assert_eq!(header("X-TC-Timestamp"), Some("1551113065"));
    assert_eq!(header("X-TC-Token"), None);
}

#[test]
fn debug_hides_authorization_token_and_body() {
    let prepared = Prepared::new(&share(["1038493875".parse().unwrap()].into()), &target());
    let mut signer = Signer::new(credential(Some("fakeToken")));
    let request = signer.sign(&prepared, at(1_751_000_000));
    assert_eq!(
        alloc::format!("{request:?}"),
        r#"{"Authorization": "[secret]", "Content-Type": "application/json", "Host": "cvm.intl.tencentcloudapi.com", "X-TC-Action": "ModifyImageSharePermission", "X-TC-Version": "2017-03-12", "X-TC-Timestamp": "1751000000", "X-TC-Token": "[secret]", "body_len": 75}"#
    );
    assert_eq!(
        alloc::format!("{prepared:?}"),
        "Prepared { action: \"ModifyImageSharePermission\", host: \"cvm.intl.tencentcloudapi.com\", region: None, \
         body_len: 75, .. }"
    );
    assert_eq!(
        alloc::format!("{signer:?}"),
        "Signer { credential: Credential { secret_id: AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE, secret_key: [secret], \
         token: Some([secret]) }, .. }"
    );
}

/// The `Authorization` of a prepared request by stages that keep nothing.
fn by_stages(prepared: &Prepared, action: &str, host: &str, service: &str, now: UnixSeconds) -> String {
    let headers = [("Host", host), ("X-TC-Action", action), ("Content-Type", CONTENT_TYPE)];
    let headers = SignedHeaders::select(SIGNED_HEADERS, &headers).unwrap();
    let hashed_payload = HexDigest::sha256(prepared.body());
    let request = CanonicalRequest { method: Method::Post, query: "", headers: &headers, hashed_payload };
    tc3::sign(&request, service, &credential(None), now).authorization
}

fn authorization(signer: &mut Signer, prepared: &Prepared, now: UnixSeconds) -> String {
    let request = signer.sign(prepared, now);
    request.headers().find(|(name, _)| *name == "Authorization").unwrap().1.to_string()
}

#[test]
fn kept_key_follows_day_and_service() {
    let mut signer = Signer::new(credential(None));
    let caller = Prepared::new(&GetCallerIdentity, &target());
    let share = Prepared::new(&share(Vec::new()), &target());
    let last_second = 1_751_068_799;
    for seconds in [last_second, last_second, last_second + 1, last_second] {
        for (prepared, service) in [(&caller, "sts"), (&share, "cvm"), (&share, "cvm")] {
            let expected = by_stages(prepared, prepared.action(), HOST, service, at(seconds));
            assert_eq!(authorization(&mut signer, prepared, at(seconds)), expected);
        }
    }
}

proptest! {
    /// One signer and one set of buffers for everything, as in production.
    #[test]
    fn any_sequence_is_signed_independently(
        calls in proptest::collection::vec(
            (
                proptest::collection::vec(10_000..=9_999_999_999_999_999_999_u64, 0..60),
                "[a-zA-Z0-9.-]{1,40}(:[1-9][0-9]{0,3})?",
                prop_oneof![0..=UnixSeconds::MAX.get(), 1_751_000_000..1_751_200_000_u64],
                any::<bool>(),
            ),
            1..8,
        ),
    ) {
        let mut signer = Signer::new(credential(None));
        let mut prepared = Prepared::new(&GetCallerIdentity, &target());
        for (ids, host, seconds, is_share) in calls {
            let target = Target { host: Host::new(&host).unwrap(), ..target() };
            let (action, service) = if is_share {
                prepare(&share(ids.iter().map(|id| AccountId::new(*id).unwrap()).collect()), &target, &mut prepared);
                ("ModifyImageSharePermission", "cvm")
            } else {
                prepare(&GetCallerIdentity, &target, &mut prepared);
                ("GetCallerIdentity", "sts")
            };
            for now in [at(seconds), at(seconds / 2)] {
                prop_assert_eq!(
                    authorization(&mut signer, &prepared, now),
                    by_stages(&prepared, action, &host, service, now)
                );
            }
        }
    }
}
