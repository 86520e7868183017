//! The host of a request.

use alloc::string::String;
use core::fmt;

use crate::disclosure::disclosed;

/// Bytes that a name may have (RFC 1035, section 2.3.4).
const NAME_LEN_MAX: usize = 255;

/// The header `Host`: a name or an address, with the port unless it is 443. An IPv6 address stands in brackets.
///
/// It is signed, so it must be the header that is sent, and no URL.
///
/// ```
/// use imageshare_core::request::Host;
///
/// assert_eq!(Host::new("cvm.tencentcloudapi.com")?.as_str(), "cvm.tencentcloudapi.com");
/// assert!(Host::new("127.0.0.1:9700").is_ok());
/// assert!(Host::new("https://cvm.tencentcloudapi.com/").is_err());
/// # Ok::<(), imageshare_core::request::HostError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host<'a>(&'a str);

/// A text that cannot be a host. Holds the text only if it cannot be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a host (expected a name or an address, and a port unless it is 443)")]
pub struct HostError(String);

impl<'a> Host<'a> {
    /// Checks a host.
    ///
    /// # Errors
    /// If the text is anything but a name of ASCII letters, digits, dots, hyphens and underscores, or an address, and
    /// optionally a colon and a port.
    pub fn new(text: &'a str) -> Result<Self, HostError> {
        // The colons of an IPv6 address stand before the bracket.
        let behind_address = text.rfind(']').unwrap_or(0);
        let (name, port) = match text.rfind(':').filter(|&colon| colon >= behind_address) {
            Some(colon) => text.split_at(colon),
            None => (text, ":443"),
        };
        let digits = port.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let is_port = digits.and_then(|digits| digits.parse::<u16>().ok()).is_some_and(|port| port > 0);
        let is_well_formed = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
            None => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
        };
        if is_well_formed && is_port && (1..=NAME_LEN_MAX).contains(&name.len()) {
            Ok(Self(text))
        } else {
            Err(HostError(disclosed(text)))
        }
    }

    /// Returns the text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_and_addresses_are_accepted_as_they_are() {
        for text in [
            "cvm.tencentcloudapi.com",
            "CVM.example.",
            "a_b-1:65535",
            "127.0.0.1:9700",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(Host::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:1:2",
            "::1",
            "[::1",
            "::1]",
            "[]80",
            "a/",
            "a b",
            "a\n",
            "ä",
            &long,
            "https://a",
            "user@a",
        ] {
            assert!(Host::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn error_shows_no_password() {
        assert_eq!(
            Host::new("https://cvm.example.com/").unwrap_err().to_string(),
            "\"https://cvm.example.com/\" is not a host (expected a name or an address, and a port unless it is 443)"
        );
        let error = Host::new("https://me:secret@cvm.example.com").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
