//! Addresses, `scheme://login@host:port/path`, as endpoints, brokers, management interfaces and proxies have them.
//!
//! `url` parses the hosts. Its parser of whole addresses is not used, since it repairs what must be refused: line ends,
//! backslashes, a missing `//`.

use std::borrow::Cow;

use imageshare_core::disclosure::has_key;
use percent_encoding::percent_decode_str;
use url::Host;

/// The longest address, in bytes.
const LEN_MAX: usize = 2048;

/// Bytes that a host name may have (RFC 1035, section 2.3.4, without the root's dot).
const HOST_LEN_MAX: usize = 253;

/// Bytes that one label of a host name may have.
const LABEL_LEN_MAX: usize = 63;

/// An address, split.
pub(crate) struct Address<'a> {
    /// One of the allowed schemes, if the address names one.
    pub(crate) scheme: Option<&'static str>,
    /// User and password as they are written.
    pub(crate) login: Option<&'a str>,
    pub(crate) host: Host<String>,
    pub(crate) port: Option<u16>,
    /// What follows the first slash behind the host.
    pub(crate) path: Option<&'a str>,
}

/// Why a text is not an address. Never holds any of the text: a password may be anywhere in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub(crate) &'static str);

impl<'a> Address<'a> {
    /// Splits an address with one of these schemes, in lower case, or without a scheme.
    pub(crate) fn split(text: &'a str, schemes: &[&'static str]) -> Result<Self, AddressError> {
        if text.len() > LEN_MAX {
            return Err(AddressError("longer than 2048 bytes"));
        }
        if text.contains(char::is_control) {
            return Err(AddressError("control character"));
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) => {
                let known = schemes.iter().find(|known| scheme.eq_ignore_ascii_case(known));
                (Some(*known.ok_or(AddressError("unknown scheme"))?), rest)
            }
        };
        if rest.contains(['?', '#']) {
            return Err(AddressError("has a query or a fragment; write %3F for a ? and %23 for a # in a password"));
        }
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(before, path)| (before, Some(path)));
        // A slash that is not escaped in a password ends the authority too early: what follows is no path.
        if path.is_some_and(|path| path.contains('@')) {
            return Err(AddressError("an @ after a slash; write %2F for a slash and %40 for an @ in a password"));
        }
        // A password may contain an unescaped @, a host never does.
        let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let (host, port) = host_and_port(host).ok_or(AddressError("invalid host or port"))?;
        Ok(Self { scheme, login, host, port, path })
    }

    /// Returns whether there is something behind the slash that may end an address.
    pub(crate) fn has_path(&self) -> bool {
        self.path.is_some_and(|path| !path.is_empty())
    }
}

/// Returns the host and the port if there is one; `None` if the text is anything else.
pub(crate) fn host_and_port(text: &str) -> Option<(Host<String>, Option<u16>)> {
    // The colons inside the brackets of an IPv6 address are its own.
    let after_brackets = text.find(']').map_or(0, |end| end + 1);
    let Some(colon) = text.get(after_brackets..)?.find(':').map(|at| after_brackets + at) else {
        return Some((parse_host(text)?, None));
    };
    let (host, port) = (text.get(..colon)?, text.get(colon + 1..)?);
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| is_number && port != 0)?;
    Some((parse_host(host)?, Some(port)))
}

/// Parses a host: a name, which becomes lower case, an IPv4 address, or an IPv6 address in brackets.
///
/// `url` also reads `127.1` and `0x7f.1` as addresses, and decodes percent escapes and Unicode in names. These are refused:
/// others read them as names.
fn parse_host(text: &str) -> Option<Host<String>> {
    let host = Host::parse(text).ok()?;
    let is_allowed = match &host {
        Host::Ipv4(address) => address.to_string() == text,
        Host::Ipv6(_) => true,
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            // A key in place of an address would pass for a name.
            let is_plain = name.len() <= HOST_LEN_MAX && !name.starts_with('-') && !has_key(text);
            is_plain && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
        }
    };
    is_allowed.then_some(host)
}

/// Returns whether a text may be a label of a name that a resolver takes. Networks of containers use underscores, which
/// registered names may not have.
fn is_label(label: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_inner)
}

/// Returns whether a text would pass for the name of a host in a local network without proof that it is meant as one: it
/// may be a password in the wrong place.
pub(crate) fn is_bare_word(text: &str) -> bool {
    !text.contains(['.', ':']) && !text.eq_ignore_ascii_case("localhost")
}

/// Returns a text with its percent escapes decoded; `None` if one is incomplete or the result is not UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let are_whole = text.split('%').skip(1).all(is_escape);
    percent_decode_str(text).decode_utf8().ok().filter(|_| are_whole).map(Cow::into_owned)
}
