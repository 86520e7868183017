//! Every published and official vector, stage by stage: a difference names the vector and the stage.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Credential, Permission, UnixSeconds,
    actions::ModifyImageSharePermission,
    params::{Pairs, encode},
    request::{CONTENT_TYPE, Host, Prepared, SIGNED_HEADERS, Signer, Target},
    tc3::{self, CanonicalRequest, CredentialScope, DerivedKey, HexDigest, Method, SignedHeaders, SigningKey},
    v1,
};
use serde::Deserialize;
use serde_json::Value;

const VECTORS: &str = include_str!("vectors/signing.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    algorithm: String,
    secret_id: String,
    secret_key: String,
    token: Option<String>,
    service: String,
    host: String,
    method: String,
    action: String,
    version: String,
    region: Option<String>,
    timestamp: u64,
    params: Value,
    signature: String,
    string_to_sign: String,
    documented_fields: Option<Vec<String>>,
    #[serde(flatten)]
    tc3: Option<Tc3>,
    #[serde(flatten)]
    v1: Option<V1>,
}

#[derive(Deserialize)]
struct Tc3 {
    date: String,
    headers: BTreeMap<String, String>,
    query_string: String,
    query_equals_sorted_rfc3986_of_params: Option<bool>,
    body: String,
    signed_headers: String,
    hashed_request_payload: String,
    canonical_request: String,
    hashed_canonical_request: String,
    credential_scope: String,
    secret_date_hex: String,
    secret_service_hex: String,
    secret_signing_hex: String,
    authorization: String,
}

#[derive(Deserialize)]
struct V1 {
    nonce: u64,
    all_params: BTreeMap<String, String>,
    signature_urlencoded: String,
    encoded_params_as_sent: Option<String>,
}

impl Vector {
    #[track_caller]
    fn check(&self, stage: &str, ours: &str, expected: &str) {
        assert_eq!(ours, expected, "vector {}, stage {stage}", self.name);
    }

    fn method(&self) -> Method {
        match self.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            other => panic!("vector {}: method {other}", self.name),
        }
    }

    fn host(&self) -> Host<'_> {
        Host::new(&self.host).unwrap()
    }

    fn now(&self) -> UnixSeconds {
        UnixSeconds::new(self.timestamp).unwrap()
    }

    fn credential(&self) -> Credential {
        Credential {
            secret_id: self.secret_id.parse().unwrap(),
            secret_key: self.secret_key.parse().unwrap(),
            token: self.token.as_ref().map(|token| token.parse().unwrap()),
        }
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(VECTORS).unwrap()
}

/// What is hashed for the payload: the body, or the text of the header for an unsigned body.
fn payload(tc3: &Tc3) -> &str {
    tc3.headers.get("X-TC-Content-SHA256").map_or(&tc3.body, String::as_str)
}

fn check_tc3(vector: &Vector, expected: &Tc3) {
    let hashed_payload = HexDigest::sha256(payload(expected).as_bytes());
    vector.check("hashed payload", hashed_payload.as_str(), &expected.hashed_request_payload);

    let headers: Vec<_> = expected.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let headers = SignedHeaders::select(&expected.signed_headers, &headers).unwrap();
    let request =
        CanonicalRequest { method: vector.method(), query: &expected.query_string, headers: &headers, hashed_payload };
    let mut canonical_request = Vec::new();
    request.write(&mut canonical_request);
    vector.check("canonical request", str::from_utf8(&canonical_request).unwrap(), &expected.canonical_request);

    let hashed_canonical_request = HexDigest::sha256(expected.canonical_request.as_bytes());
    vector.check("hashed canonical request", hashed_canonical_request.as_str(), &expected.hashed_canonical_request);

    let scope = CredentialScope::new(vector.now(), &vector.service);
    vector.check("date", &scope.date().to_string(), &expected.date);
    vector.check("credential scope", &scope.to_string(), &expected.credential_scope);

    let mut string_to_sign = Vec::new();
    tc3::string_to_sign(&vector.timestamp.to_string(), &scope, &hashed_canonical_request, &mut string_to_sign);
    vector.check("string to sign", str::from_utf8(&string_to_sign).unwrap(), &vector.string_to_sign);

    let credential = vector.credential();
    let hex = |key: &DerivedKey| HexDigest::new(**key).to_string();
    let secret_date = tc3::secret_date(&credential.secret_key, scope.date());
    vector.check("secret date", &hex(&secret_date), &expected.secret_date_hex);
    let secret_service = tc3::secret_service(&secret_date, &vector.service);
    vector.check("secret service", &hex(&secret_service), &expected.secret_service_hex);
    let secret_signing = tc3::secret_signing(&secret_service);
    vector.check("secret signing", &hex(&secret_signing), &expected.secret_signing_hex);

    let mut key = SigningKey::derive(&credential.secret_key, scope);
    let signature = key.sign(vector.string_to_sign.as_bytes());
    vector.check("signature", signature.as_str(), &vector.signature);

    let mut authorization = String::new();
    tc3::authorization(&credential.secret_id, key.scope(), &expected.signed_headers, &signature, &mut authorization);
    vector.check("authorization", &authorization, &expected.authorization);

    let stages = tc3::sign(&request, &vector.service, &credential, vector.now());
    vector.check("all: canonical request", &stages.canonical_request, &expected.canonical_request);
    vector.check("all: credential scope", &stages.credential_scope, &expected.credential_scope);
    vector.check("all: string to sign", &stages.string_to_sign, &vector.string_to_sign);
    vector.check("all: signature", stages.signature.as_str(), &vector.signature);
    vector.check("all: authorization", &stages.authorization, &expected.authorization);

    check_query(vector, expected);
}

/// A query may be sent in another order, or with another form of a space. It is signed as it is sent.
fn check_query(vector: &Vector, expected: &Tc3) {
    if vector.method() == Method::Post {
        return assert_eq!(expected.query_string, "", "vector {}", vector.name);
    }
    let ours = Pairs::flatten(&vector.params).to_query();
    match expected.query_equals_sorted_rfc3986_of_params.unwrap() {
        true => vector.check("query", &ours, &expected.query_string),
        false => assert_ne!(ours, expected.query_string, "vector {}", vector.name),
    }
}

fn check_v1(vector: &Vector, expected: &V1) {
    let algorithm = match vector.algorithm.as_str() {
        "HmacSHA1" => v1::Algorithm::HmacSha1,
        "HmacSHA256" => v1::Algorithm::HmacSha256,
        other => panic!("vector {}: algorithm {other}", vector.name),
    };
    let credential = vector.credential();
    let pairs: Pairs = expected.all_params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();

    let string_to_sign = v1::string_to_sign(vector.method(), vector.host(), &pairs);
    vector.check("string to sign", &string_to_sign, &vector.string_to_sign);
    let signature = v1::signature(algorithm, &credential.secret_key, &vector.string_to_sign);
    vector.check("signature", &signature, &vector.signature);
    vector.check("signature on the wire", &encode(&signature), &expected.signature_urlencoded);

    let query = v1::query(&pairs, &signature);
    if let Some(sent) = &expected.encoded_params_as_sent {
        assert_eq!(parts(&query), parts(sent), "vector {}, stage query", vector.name);
    }
    check_v1_common(vector, expected, algorithm, &pairs);
}

/// The pairs of a query in one order. The vendor's SDK sends them in another one than ours.
fn parts(query: &str) -> BTreeSet<&str> {
    query.split('&').collect()
}

/// Our own common parameters, with those that only the SDK sends, are the parameters of the vector.
fn check_v1_common(vector: &Vector, expected: &V1, algorithm: v1::Algorithm, pairs: &Pairs) {
    let mut ours = Pairs::flatten(&vector.params);
    let common = v1::Common {
        action: &vector.action,
        version: &vector.version,
        region: vector.region.as_deref(),
        timestamp: vector.now(),
        nonce: expected.nonce,
        algorithm,
    };
    common.push_to(&mut ours, &vector.credential());
    for name in ["Language", "RequestClient"] {
        pairs.get(name).into_iter().for_each(|value| ours.push(name, value));
    }
    if !expected.all_params.contains_key("SignatureMethod") {
        assert_eq!(ours.take("SignatureMethod").as_deref(), Some("HmacSHA1"), "vector {}", vector.name);
    }
    vector.check("parameters", &ours.to_query(), &pairs.to_query());
}

#[test]
fn every_vector_agrees_in_every_stage() {
    let mut seen = BTreeSet::new();
    let vectors = vectors();
    assert_eq!(vectors.len(), 44);
    for vector in &vectors {
        let mut see = |kind: &str| seen.insert(format!("{} {}{kind}", vector.algorithm, vector.method));
        see("");
        if vector.documented_fields.is_some() {
            see(" documented");
        }
        if vector.token.is_some() {
            see(" token");
        }
        match (vector.algorithm.as_str(), &vector.tc3, &vector.v1) {
            ("TC3-HMAC-SHA256", Some(tc3), None) => {
                if tc3.signed_headers == SIGNED_HEADERS {
                    see(" signed action");
                }
                if tc3.headers.contains_key("X-TC-Content-SHA256") {
                    see(" unsigned payload");
                }
                if tc3.query_equals_sorted_rfc3986_of_params == Some(false) {
                    see(" query as it is");
                }
                check_tc3(vector, tc3);
            }
            ("HmacSHA1" | "HmacSHA256", None, Some(v1)) => check_v1(vector, v1),
            (algorithm, _, _) => panic!("vector {}: members do not fit {algorithm}", vector.name),
        }
    }
    let all = [
        "HmacSHA1 GET",
        "HmacSHA1 GET documented",
        "HmacSHA1 POST",
        "HmacSHA256 GET",
        "HmacSHA256 POST",
        "HmacSHA256 POST token",
        "TC3-HMAC-SHA256 GET",
        "TC3-HMAC-SHA256 GET documented",
        "TC3-HMAC-SHA256 GET query as it is",
        "TC3-HMAC-SHA256 GET signed action",
        "TC3-HMAC-SHA256 POST",
        "TC3-HMAC-SHA256 POST documented",
        "TC3-HMAC-SHA256 POST signed action",
        "TC3-HMAC-SHA256 POST token",
        "TC3-HMAC-SHA256 POST unsigned payload",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// The request that production sends. The vector's content type has a charset, which we never send; without it the
/// signature was computed by a program that shares nothing with this crate, from the vector's signing key.
#[test]
fn prepare_and_sign_match_the_vector() {
    const SIGNATURE: &str = "6ad2c934559e7e0d7427af9ec89cad3258461bced11e57092b6b41b2a665ca72";

    let vectors = vectors();
    let vector = vectors.iter().find(|vector| vector.name == "tc3-signed-action-post").unwrap();
    let expected = vector.tc3.as_ref().unwrap();
    let action = ModifyImageSharePermission {
        image_id: "img-6pb6lrmy".parse().unwrap(),
        account_ids: vec!["1038493875".parse().unwrap()],
        permission: Permission::Share,
    };
    let region = Some(vector.region.as_ref().unwrap().parse().unwrap());
    let prepared = Prepared::new(&action, &Target { host: vector.host(), region, language: None });
    vector.check("body", str::from_utf8(prepared.body()).unwrap(), &expected.body);

    let mut signer = Signer::new(vector.credential());
    let request = signer.sign(&prepared, vector.now());
    let mut headers = expected.headers.clone();
    headers.insert("Content-Type".into(), CONTENT_TYPE.into());
    headers.insert("Authorization".into(), expected.authorization.replace(&vector.signature, SIGNATURE));
    let ours: BTreeMap<_, _> = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(ours, headers);
    assert_eq!((request.method(), request.body()), ("POST", expected.body.as_bytes()));
}
