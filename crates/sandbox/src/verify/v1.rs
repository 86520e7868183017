//! Signature version 1, HmacSHA1 and HmacSHA256: recomputes the parameter `Signature` from the received request.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use imageshare_core::text::excerpt;
use sha1::Sha1;
use sha2::Sha256;

use super::{Caller, Keys, Received, SignedText, check_clock, mismatch, whole_number};
use crate::ledger::Refusal;

pub(super) fn verify(received: &Received<'_>, keys: &Keys, now: u64) -> Result<Caller, Refusal> {
    let parameter = |name: &str| received.pairs.get(name).ok_or_else(|| Refusal::missing_parameter(name));
    parameter("Action")?;
    parameter("Version")?;
    let secret_id = parameter("SecretId")?;
    let timestamp = whole_number("Timestamp", parameter("Timestamp")?)?;
    if whole_number("Nonce", parameter("Nonce")?)? == 0 {
        return Err(Refusal::new("InvalidParameter", "The parameter `Nonce` must be a positive whole number."));
    }
    let claimed = parameter("Signature")?;
    let key = keys.get(secret_id)?;
    check_clock(timestamp, now)?;
    let method = received.pairs.get("SignatureMethod").unwrap_or("HmacSHA1");
    // The Ruby SDK sends the line feed at the end of its Base64.
    let claimed = claimed.trim_ascii();
    let signature = |host| {
        let text = string_to_sign(received.method, host, received.pairs.iter());
        signature(method, &key.secret_key, &text)
    };
    let mut expected = received.signed_hosts().filter_map(signature).peekable();
    if expected.peek().is_none() {
        let value = excerpt(method);
        let message = format!("The value {value} of the parameter `SignatureMethod` is not HmacSHA1 or HmacSHA256.");
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    if !expected.any(|expected| expected == claimed) {
        return Err(mismatch());
    }
    key.check_token(received.pairs.get("Token"), now)?;
    Ok(Caller { secret_id: secret_id.to_owned(), account: key.account, service: None })
}

/// Returns the string to sign, with the host as sent.
pub(super) fn signed_text(received: &Received<'_>) -> SignedText {
    let host = received.header("host").unwrap_or_default();
    let string_to_sign = string_to_sign(received.method, host, received.pairs.iter());
    SignedText { canonical_request: None, string_to_sign }
}

/// Returns method, host, `/?` and all pairs except the signature, not encoded, sorted by name.
pub(super) fn string_to_sign<'a>(method: &str, host: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut signed: Vec<_> = pairs.filter(|(name, _)| *name != "Signature").collect();
    signed.sort_unstable();
    let joined: Vec<String> = signed.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{method}{host}/?{}", joined.join("&"))
}

/// Returns the signature, or `None` for an unknown method.
fn signature(method: &str, secret_key: &str, text: &str) -> Option<String> {
    match method {
        "HmacSHA1" => Some(mac::<Hmac<Sha1>>(secret_key, text)),
        "HmacSHA256" => Some(mac::<Hmac<Sha256>>(secret_key, text)),
        _ => None,
    }
}

fn mac<M: Mac + KeyInit>(key: &str, text: &str) -> String {
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Signs with the code of the verifier, so that tests of the server depend on no other signer.
#[cfg(test)]
pub(crate) fn sign<'a>(
    http_method: &str,
    host: &str,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    method: &str,
    secret_key: &str,
) -> String {
    signature(method, secret_key, &string_to_sign(http_method, host, pairs)).unwrap()
}
