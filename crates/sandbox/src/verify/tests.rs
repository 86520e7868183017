//! The vendor's vectors, and requests that fail verification.

use http::{HeaderName, HeaderValue};
use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::ModifyImageSharePermission,
    request::{Host, Prepared, Signer, Target},
};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::flat;

const VECTORS: &str = include_str!("../../../core/tests/vectors/signing.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    algorithm: String,
    secret_id: String,
    secret_key: String,
    token: Option<String>,
    host: String,
    method: String,
    timestamp: u64,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    query_string: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    authorization: String,
    #[serde(default)]
    signed_headers: String,
    #[serde(default)]
    canonical_request: String,
    #[serde(default)]
    credential_scope: String,
    #[serde(default)]
    encoded_params_as_sent: Option<String>,
    #[serde(default)]
    all_params: std::collections::BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    signature: String,
    string_to_sign: String,
}

/// A request that a test changes before it is verified.
struct Request {
    method: String,
    query: String,
    body: String,
    headers: HeaderMap,
    pairs: Pairs,
    keys: Keys,
    now: u64,
}

impl Request {
    fn of(vector: &Vector) -> Self {
        let account = AccountId::new(100_009_999_999).unwrap();
        let temporary = vector.token.clone().map(|token| (token, u64::MAX));
        let mut keys = Keys::default();
        keys.insert(vector.secret_id.clone(), Key { secret_key: vector.secret_key.clone(), account, temporary });
        let mut request = Self {
            method: vector.method.clone(),
            query: vector.query_string.clone(),
            body: vector.body.clone(),
            headers: HeaderMap::new(),
            pairs: Pairs::default(),
            keys,
            now: vector.timestamp,
        };
        if vector.algorithm == "TC3-HMAC-SHA256" {
            for (name, value) in &vector.headers {
                request.set(name, value);
            }
            request.set("authorization", &vector.authorization);
        } else {
            request.set("host", &vector.host);
            request.pairs = match &vector.encoded_params_as_sent {
                Some(sent) => flat::parse(sent.as_bytes()).unwrap(),
                None => {
                    let raw =
                        |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
                    let mut pairs: Pairs =
                        vector.all_params.iter().map(|(name, value)| (name.clone(), raw(value))).collect();
                    pairs.push("Signature", vector.signature.clone());
                    pairs
                }
            };
        }
        request
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }

    fn received(&self) -> Received<'_> {
        Received {
            method: &self.method,
            query: &self.query,
            headers: &self.headers,
            body: self.body.as_bytes(),
            pairs: &self.pairs,
        }
    }

    fn verify(&self) -> Result<Caller, Refusal> {
        verify(&self.received(), &self.keys, self.now)
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(VECTORS).unwrap()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

#[track_caller]
fn check(name: &str, change: impl FnOnce(&mut Request), code: &str) {
    let mut request = Request::of(&vector(name));
    change(&mut request);
    assert_eq!(request.verify().map_err(|refusal| refusal.code.into_owned()), Err(code.to_owned()));
}

const SHARE: &str = "tc3-signed-action-post";
const FORM: &str = "v1-sha256-post-token";

#[test]
fn every_vector_is_accepted_stage_by_stage() {
    let vectors = vectors();
    assert!(vectors.len() >= 44);
    for vector in &vectors {
        let request = Request::of(vector);
        let caller = request.verify();
        assert_eq!(caller.as_ref().map(|caller| &*caller.secret_id), Ok(&*vector.secret_id), "{}", vector.name);
        let received = request.received();
        if vector.algorithm == "TC3-HMAC-SHA256" {
            let canonical = tc3::canonical_request(&received, &vector.signed_headers, &vector.host).unwrap();
            assert_eq!(canonical, vector.canonical_request, "{}", vector.name);
            let timestamp = vector.timestamp.to_string();
            let text = tc3::string_to_sign(&timestamp, &vector.credential_scope, &canonical);
            assert_eq!(text, vector.string_to_sign, "{}", vector.name);
        } else {
            let text = v1::string_to_sign(received.method, &vector.host, received.pairs.iter());
            assert_eq!(text, vector.string_to_sign, "{}", vector.name);
        }
    }
}

#[test]
fn changed_request_fails_the_signature() {
    let failure = "AuthFailure.SignatureFailure";
    check(SHARE, |request| request.body.push(' '), failure);
    check(SHARE, |request| request.set("x-tc-action", "DescribeImages"), failure);
    check(SHARE, |request| request.set("host", "cvm.tencentcloudapi.com"), failure);
    check(SHARE, |request| request.set("content-type", "application/json"), failure);
    check("tc3-get-share-1", |request| request.query = request.query.replace("SHARE", "CANCEL"), failure);
    check(FORM, |request| request.pairs.push("Limit", "1"), failure);
    check(FORM, |request| request.set("host", "127.0.0.1:9700"), failure);
    check(FORM, |request| request.method = "GET".to_owned(), failure);
}

#[test]
fn host_may_be_signed_without_its_port() {
    for name in [SHARE, FORM] {
        let vector = vector(name);
        let mut request = Request::of(&vector);
        request.set("host", &format!("{}:9700", vector.host));
        assert!(request.verify().is_ok(), "{name}");
        check(name, |request| request.set("host", "127.0.0.1:9700"), "AuthFailure.SignatureFailure");
    }
}

#[test]
fn signed_text_is_what_vector_signs() {
    for name in [SHARE, FORM, "tc3-post-token"] {
        let vector = vector(name);
        let mut request = Request::of(&vector);
        let text = signed_text(&request.received()).unwrap();
        let token = vector.token.clone().unwrap_or_default();
        if token.is_empty() || !vector.string_to_sign.contains(&token) {
            assert_eq!(text.string_to_sign, vector.string_to_sign, "{name}");
        } else {
            assert_eq!(text.string_to_sign, vector.string_to_sign.replace(&token, HIDDEN), "{name}");
        }
        assert_eq!(text.canonical_request.is_some(), name != FORM, "{name}");
        request.pairs.push("Filler", "é".repeat(SIGNED_TEXT_BYTES_MAX));
        assert!(signed_text(&request.received()).unwrap().string_to_sign.len() <= SIGNED_TEXT_BYTES_MAX);
    }
}

#[test]
fn line_feed_after_v1_signature_is_ignored() {
    let mut request = Request::of(&vector(FORM));
    let signature = request.pairs.take("Signature").unwrap();
    request.pairs.push("Signature", format!("{signature}\n"));
    assert!(request.verify().is_ok());
}

#[test]
fn clock_may_differ_by_five_minutes() {
    let expired = "AuthFailure.SignatureExpire";
    for name in [SHARE, FORM] {
        check(name, |request| request.now += 301, expired);
        check(name, |request| request.now -= 301, expired);
        for change in [-300, 300] {
            let mut request = Request::of(&vector(name));
            request.now = request.now.saturating_add_signed(change);
            assert!(request.verify().is_ok());
        }
    }
}

#[test]
fn keys_and_tokens_must_match() {
    for name in [SHARE, FORM] {
        check(name, |request| request.keys = Keys::default(), "AuthFailure.SecretIdNotFound");
    }
    let token = "AuthFailure.TokenFailure";
    check(SHARE, |request| request.set("x-tc-token", "surplus"), token);
    check("tc3-post-token", |request| request.set("x-tc-token", "other"), token);
    check("tc3-post-token", |request| drop(request.headers.remove("x-tc-token")), token);
    let expire = |request: &mut Request, vector: &Vector| {
        let account = AccountId::new(100_009_999_999).unwrap();
        let temporary = vector.token.clone().map(|token| (token, request.now));
        let key = Key { secret_key: vector.secret_key.clone(), account, temporary };
        request.keys.insert(vector.secret_id.clone(), key);
    };
    for name in ["tc3-post-token", FORM] {
        check(name, |request| expire(request, &vector(name)), token);
    }
}

#[test]
fn malformed_authorization_has_its_own_code() {
    let malformed = "AuthFailure.InvalidAuthorization";
    let good = vector(SHARE).authorization;
    for bad in [
        String::new(),
        good.replace("TC3-HMAC-SHA256", "TC3-HMAC-SHA1"),
        good.replace("Credential=", "Credentials="),
        good.replace("/tc3_request", "/aws4_request"),
        good.replace("/cvm/", "/cvm/x/"),
        good.replace("content-type;", ""),
        good.replace(", SignedHeaders", ", Signature=0, SignedHeaders"),
        good.replace("SignedHeaders=", "SignedHeaders=x-absent;"),
    ] {
        check(SHARE, |request| request.set("authorization", &bad), malformed);
    }
    let wrong_date = good.replace(&vector(SHARE).credential_scope, "2025-06-28/cvm/tc3_request");
    check(SHARE, |request| request.set("authorization", &wrong_date), "AuthFailure.SignatureFailure");
    check(SHARE, |request| drop(request.headers.remove("x-tc-timestamp")), "MissingParameter");
    check(SHARE, |request| request.set("x-tc-timestamp", "soon"), "InvalidParameter");
}

#[test]
fn version_1_needs_its_parameters() {
    for name in ["Action", "Version", "SecretId", "Timestamp", "Nonce", "Signature"] {
        check(FORM, |request| drop(request.pairs.take(name)), "MissingParameter");
    }
    let nonce = |request: &mut Request, value: &str| {
        request.pairs.take("Nonce");
        request.pairs.push("Nonce", value);
    };
    check(FORM, |request| nonce(request, "0"), "InvalidParameter");
    check(FORM, |request| nonce(request, "-5"), "InvalidParameter");
    let method = |request: &mut Request| {
        request.pairs.take("SignatureMethod");
        request.pairs.push("SignatureMethod", "HmacMD5");
    };
    check(FORM, method, "InvalidParameterValue");
}

proptest! {
    /// The signer in core and this verifier share no code. (Core refuses a key in quotation marks.)
    #[test]
    fn signatures_of_core_are_accepted(
        secret_key in "[!#-&(-_a-~]{1,64}",
        accounts in prop::collection::vec(10_000_u64..1_000_000_000_000, 1..60),
        seconds in 0_u64..4_000_000_000,
        host in "[a-z]{1,10}(\\.[a-z]{1,10}){1,3}(:[1-9][0-9]{1,3})?",
        flipped in 0_usize..64,
    ) {
        let action = ModifyImageSharePermission {
            image_id: "img-6pb6lrmy".parse().unwrap(),
            account_ids: accounts.into_iter().map(|id| AccountId::new(id).unwrap()).collect(),
            permission: Permission::Share,
        };
        let prepared = Prepared::new(&action, &Target { host: Host::new(&host).unwrap(), region: None, language: None });
        let credential = Credential {
            secret_id: "AKIDEXAMPLE".parse().unwrap(), secret_key: secret_key.parse().unwrap(), token: None,
        };
        let mut signer = Signer::new(credential);
        let signed = signer.sign(&prepared, UnixSeconds::new(seconds).unwrap());
        let mut keys = Keys::default();
        let account = AccountId::new(100_009_999_999).unwrap();
        keys.insert("AKIDEXAMPLE".into(), Key { secret_key, account, temporary: None });
        let mut request = Request {
            method: signed.method().into(),
            query: String::new(),
            body: String::from_utf8(signed.body().to_vec()).unwrap(),
            headers: HeaderMap::new(),
            pairs: Pairs::default(),
            keys,
            now: seconds,
        };
        for (name, value) in signed.headers() {
            request.set(name, value);
        }
        prop_assert!(request.verify().is_ok());

        let mut authorization = request.headers["authorization"].to_str().unwrap().to_owned();
        let at = authorization.len() - 64 + flipped;
        let other = if authorization.as_bytes()[at] == b'0' { "1" } else { "0" };
        authorization.replace_range(at..=at, other);
        request.set("authorization", &authorization);
        prop_assert_eq!(&*request.verify().unwrap_err().code, "AuthFailure.SignatureFailure");
    }
}

#[test]
fn debug_of_key_hides_secret_and_token() {
    let account = AccountId::new(100_009_999_999).unwrap();
    let key = Key { secret_key: "top".into(), account, temporary: Some(("token".into(), 1)) };
    assert_eq!(format!("{key:?}"), "Key { account: 100009999999, .. }");
}
