//! Signature version 1, HmacSHA1 and HmacSHA256: for compatibility. The signature is one more parameter of the request.
//!
//! The vendor describes the algorithm on the page
//! [Signature v1 (1007/31325)](https://cloud.tencent.com/document/api/1007/31325). Its example has no `SignatureMethod`, so the
//! server takes HmacSHA1:
//!
//! ```
//! use imageshare_core::{
//!     params::Pairs,
//!     request::Host,
//!     tc3::Method,
//!     v1::{self, Algorithm},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pairs: Pairs = [
//!     ("Action", "DescribeInstances"),
//!     ("InstanceIds.0", "ins-09dx96dg"),
//!     ("Limit", "20"),
//!     ("Nonce", "11886"),
//!     ("Offset", "0"),
//!     ("Region", "ap-guangzhou"),
//!     ("SecretId", "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"),
//!     ("Timestamp", "1465185768"),
//!     ("Version", "2017-03-12"),
//! ]
//! .into_iter()
//! .collect();
//! let host = Host::new("cvm.tencentcloudapi.com")?;
//! let string_to_sign = v1::string_to_sign(Method::Get, host, &pairs);
//! let key = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE".parse()?;
//! let signature = v1::signature(Algorithm::HmacSha1, &key, &string_to_sign);
//! assert_eq!(signature, "EliP9YW3pW28FpsEdkXt/+WcGeI=");
//! let url = format!("https://cvm.tencentcloudapi.com/?{}", v1::query(&pairs, &signature));
//! assert!(url.contains("&Signature=EliP9YW3pW28FpsEdkXt%2F%2BWcGeI%3D&"));
//! # Ok(())
//! # }
//! ```

use alloc::string::{String, ToString};
use core::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::{Credential, UnixSeconds, credential::SecretKey, params::Pairs, request::Host, tc3::Method};

/// The hash of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// What the server takes if the request has no `SignatureMethod`.
    HmacSha1,
    /// The stronger one.
    HmacSha256,
}

/// The parameters that every request has.
#[derive(Clone, Debug)]
pub struct Common<'a> {
    /// The action's exact name.
    pub action: &'a str,
    /// The API's version.
    pub version: &'a str,
    /// The region, if the action wants one.
    pub region: Option<&'a str>,
    /// The time of the call.
    pub timestamp: UnixSeconds,
    /// A number that no other request of this time has; a request that is sent again needs another one.
    pub nonce: u64,
    /// The hash of the signature.
    pub algorithm: Algorithm,
}

impl Algorithm {
    /// The parameter `SignatureMethod`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "HmacSHA1",
            Self::HmacSha256 => "HmacSHA256",
        }
    }
}

impl Common<'_> {
    /// Adds the common parameters, which are signed like all others: the token too, unlike in version 3.
    pub fn push_to(&self, pairs: &mut Pairs, credential: &Credential) {
        pairs.push("Action", self.action);
        pairs.push("Version", self.version);
        pairs.push("Timestamp", self.timestamp.get().to_string());
        pairs.push("Nonce", self.nonce.to_string());
        pairs.push("SecretId", credential.secret_id.as_str());
        pairs.push("SignatureMethod", self.algorithm.as_str());
        if let Some(region) = self.region {
            pairs.push("Region", region);
        }
        if let Some(token) = &credential.token {
            pairs.push("Token", token.expose());
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Method, host, `/?` and all parameters but the signature, sorted by name in byte order, values raw. The caller sees
/// to it that the method is the one used: the other one is a known mistake.
#[must_use]
pub fn string_to_sign(method: Method, host: Host<'_>, pairs: &Pairs) -> String {
    let mut sorted = pairs.clone();
    sorted.sort();
    let mut text = alloc::format!("{method}{host}/?");
    for (index, (name, value)) in sorted.iter().enumerate() {
        if index > 0 {
            text.push('&');
        }
        text.extend([name, "=", value]);
    }
    text
}

/// The signature in base64.
#[must_use]
pub fn signature(algorithm: Algorithm, key: &SecretKey, string_to_sign: &str) -> String {
    let key = key.expose().as_bytes();
    match algorithm {
        Algorithm::HmacSha1 => BASE64_STANDARD.encode(keyed::<Hmac<Sha1>>(key, string_to_sign)),
        Algorithm::HmacSha256 => BASE64_STANDARD.encode(keyed::<Hmac<Sha256>>(key, string_to_sign)),
    }
}

/// The text for a URL or a form: all parameters and the signature, percent-encoded.
#[must_use]
pub fn query(pairs: &Pairs, signature: &str) -> String {
    let mut signed = pairs.clone();
    signed.push("Signature", signature);
    signed.to_query()
}

fn keyed<M: Mac + KeyInit>(key: &[u8], message: &str) -> impl AsRef<[u8]> {
    <M as KeyInit>::new_from_slice(key)
        .expect("HMAC takes a key of any length")
        .chain_update(message)
        .finalize()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vendor's documented example, with an explicit method.
    #[test]
    fn common_parameters_are_signed_once() {
        let credential = Credential {
            secret_id: "AKIDEXAMPLE".parse().unwrap(),
            secret_key: "KEYEXAMPLE".parse().unwrap(),
            token: Some("a+b".parse().unwrap()),
        };
        let common = Common {
            action: "DescribeInstances",
            version: "2017-03-12",
            region: Some("ap-guangzhou"),
            timestamp: UnixSeconds::new(1_465_185_768).unwrap(),
            nonce: 11_886,
            algorithm: Algorithm::HmacSha256,
        };
        let mut pairs: Pairs = (0..12).map(|n| (alloc::format!("InstanceIds.{n}"), "ins-09dx96dg")).collect();
        common.push_to(&mut pairs, &credential);
        let text = string_to_sign(Method::Get, Host::new("cvm.tencentcloudapi.com").unwrap(), &pairs);
        let start = "GETcvm.tencentcloudapi.com/?Action=DescribeInstances&InstanceIds.0=ins-09dx96dg&\
                     InstanceIds.1=ins-09dx96dg&InstanceIds.10=ins-09dx96dg&InstanceIds.11=ins-09dx96dg&InstanceIds.2=";
        let end = "&Nonce=11886&Region=ap-guangzhou&SecretId=AKIDEXAMPLE&SignatureMethod=HmacSHA256&\
                   Timestamp=1465185768&Token=a+b&Version=2017-03-12";
        assert!(text.starts_with(start) && text.ends_with(end), "{text}");
    }

    #[test]
    fn only_wire_form_is_percent_encoded() {
        let pairs: Pairs = [("Token", "a+b/c=")].into_iter().collect();
        assert_eq!(query(&pairs, "x+/="), "Signature=x%2B%2F%3D&Token=a%2Bb%2Fc%3D");
    }
}
