//! Signature version 3, TC3-HMAC-SHA256: recomputes the header `Authorization` from the received request.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Caller, Keys, Received, SignedText, check_clock, mismatch, whole_number};
use crate::ledger::Refusal;

const ALGORITHM: &str = "TC3-HMAC-SHA256";

pub(super) fn verify(received: &Received<'_>, keys: &Keys, now: u64) -> Result<Caller, Refusal> {
    let authorization =
        Authorization::parse(received.header("authorization").ok_or_else(|| malformed("it is not ASCII"))?)?;
    let timestamp = received.header("x-tc-timestamp").ok_or_else(|| Refusal::missing_parameter("Timestamp"))?;
    let seconds = whole_number("Timestamp", timestamp)?;
    let key = keys.get(authorization.secret_id)?;
    check_clock(seconds, now)?;
    if utc_date(seconds).as_deref() != Some(authorization.date) {
        return Err(Refusal::new(
            "AuthFailure.SignatureFailure",
            "The date in the credential scope is not the UTC date of the timestamp.",
        ));
    }
    let mut is_valid = false;
    for host in received.signed_hosts() {
        let canonical_request = canonical_request(received, authorization.signed_headers, host)?;
        let string_to_sign = string_to_sign(timestamp, authorization.scope, &canonical_request);
        is_valid |= signature(&key.secret_key, &authorization, &string_to_sign) == authorization.signature;
        if is_valid {
            break;
        }
    }
    if !is_valid {
        return Err(mismatch());
    }
    key.check_token(received.header("x-tc-token"), now)?;
    Ok(Caller {
        secret_id: authorization.secret_id.to_owned(),
        account: key.account,
        service: Some(authorization.service.to_owned()),
    })
}

/// Returns canonical request and string to sign, with the host as sent.
pub(super) fn signed_text(received: &Received<'_>) -> Option<SignedText> {
    let authorization = Authorization::parse(received.header("authorization")?).ok()?;
    let host = received.header("host").unwrap_or_default();
    let canonical_request = canonical_request(received, authorization.signed_headers, host).ok()?;
    let timestamp = received.header("x-tc-timestamp")?;
    let string_to_sign = string_to_sign(timestamp, authorization.scope, &canonical_request);
    Some(SignedText { canonical_request: Some(canonical_request), string_to_sign })
}

/// The parts of the header `Authorization`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    secret_id: &'a str,
    scope: &'a str,
    date: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// `TC3-HMAC-SHA256 Credential=ID/DATE/SERVICE/tc3_request, SignedHeaders=LIST, Signature=HEX`
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let items = text
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(|| malformed("it does not begin with `TC3-HMAC-SHA256 `"))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for item in items.split(',') {
            let (name, value) = item.trim().split_once('=').ok_or_else(|| malformed("an item has no `=`"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("it has an unknown item")),
            };
            if place.replace(value).is_some() {
                return Err(malformed("it has a duplicate item"));
            }
        }
        let credential = credential.ok_or_else(|| malformed("`Credential` is missing"))?;
        let (secret_id, scope) = credential.split_once('/').ok_or_else(|| malformed("the scope is missing"))?;
        let mut parts = scope.split('/');
        let (Some(date), Some(service), Some("tc3_request"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("the scope is not DATE/SERVICE/tc3_request"));
        };
        Ok(Self {
            secret_id,
            scope,
            date,
            service,
            signed_headers: signed_headers.ok_or_else(|| malformed("`SignedHeaders` is missing"))?,
            signature: signature.ok_or_else(|| malformed("`Signature` is missing"))?,
        })
    }
}

/// Returns the canonical request. Its headers are sorted by name, regardless of the order of `signed_headers`.
pub(super) fn canonical_request(received: &Received<'_>, signed_headers: &str, host: &str) -> Result<String, Refusal> {
    let mut names: Vec<&str> = signed_headers.split(';').collect();
    names.sort_unstable();
    if !(names.contains(&"content-type") && names.contains(&"host")) {
        return Err(malformed("`SignedHeaders` must contain content-type and host"));
    }
    let mut headers = String::new();
    for name in names {
        let value = match received.header(name) {
            Some(_) if name == "host" => host,
            Some(value) => value,
            None => return Err(malformed("a signed header is missing")),
        };
        headers.push_str(&format!("{name}:{}\n", value.trim().to_lowercase()));
    }
    let payload: &[u8] = match received.header("x-tc-content-sha256") {
        Some(unsigned @ "UNSIGNED-PAYLOAD") => unsigned.as_bytes(),
        _ => received.body,
    };
    let (method, query) = (received.method, if received.method == "GET" { received.query } else { "" });
    Ok(format!("{method}\n/\n{query}\n{headers}\n{signed_headers}\n{}", sha256_hex(payload)))
}

pub(super) fn string_to_sign(timestamp: &str, scope: &str, canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{timestamp}\n{scope}\n{}", sha256_hex(canonical_request.as_bytes()))
}

fn signature(secret_key: &str, authorization: &Authorization<'_>, string_to_sign: &str) -> String {
    let date = hmac_sha256(format!("TC3{secret_key}").as_bytes(), authorization.date);
    let service = hmac_sha256(&date, authorization.service);
    let signing = hmac_sha256(&service, "tc3_request");
    hex(&hmac_sha256(&signing, string_to_sign))
}

fn utc_date(seconds: u64) -> Option<String> {
    let timestamp = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(timestamp.strftime("%Y-%m-%d").to_string())
}

fn hmac_sha256(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn malformed(why: &str) -> Refusal {
    Refusal::new("AuthFailure.InvalidAuthorization", format!("The header `Authorization` is not well formed: {why}."))
}

/// Signs with the code of the verifier, so that tests of the server depend on no other signer.
#[cfg(test)]
pub(crate) fn authorize(received: &Received<'_>, secret_id: &str, secret_key: &str, service: &str) -> String {
    let timestamp = received.header("x-tc-timestamp").unwrap();
    let date = utc_date(timestamp.parse().unwrap()).unwrap();
    let scope = format!("{date}/{service}/tc3_request");
    let signed_headers = "content-type;host;x-tc-action";
    let authorization = Authorization { secret_id, scope: &scope, date: &date, service, signed_headers, signature: "" };
    let host = received.header("host").unwrap();
    let canonical_request = canonical_request(received, signed_headers, host).unwrap();
    let signature = signature(secret_key, &authorization, &string_to_sign(timestamp, &scope, &canonical_request));
    format!("{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}")
}
