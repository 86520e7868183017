//! The address of the broker, `amqp://user:password@host:port/vhost`, parsed once. It is a secret.

use std::{fmt, str::FromStr};

use imageshare_core::{disclosure::has_key, params::encode};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use zeroize::Zeroizing;

use super::mechanism::Mechanism;
use crate::{
    address::{Address, AddressError, percent_decoded},
    tls::Trust,
};

/// The longest user, password and virtual host, in bytes: short strings of AMQP.
const NAME_LEN_MAX: usize = 255;

/// The user and the password of an address without them: RabbitMQ's default, which works on the same machine only.
const DEFAULT_NAME: &str = "guest";

/// The virtual host of an address without one.
const DEFAULT_VHOST: &str = "/";

/// Shown in place of a user without a password, who may be a token.
const USER_NOT_SHOWN: &str = "[user not shown]";

/// The address of a broker. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    is_tls: bool,
    /// Whether the address names the user.
    names_user: bool,
    user: String,
    password: Zeroizing<String>,
    /// An IPv6 address has no brackets here.
    host: String,
    port: u16,
    vhost: String,
    trust: Trust,
}

impl Url {
    /// The form of the address, for errors.
    pub const EXPECTED: &str =
        "amqp://user:password@host:port/vhost or amqps://, with %2F for a slash and %40 for an @";

    /// Returns whether connections use TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns the name or address of the host, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the virtual host.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Returns the trusted authorities and our certificate.
    #[must_use]
    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Returns the address with these authorities and this certificate.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Returns how a connection logs in: with the client certificate, if there is one and the address names no user.
    pub(super) const fn mechanism(&self) -> Mechanism {
        if self.is_tls && self.trust.client.is_some() && !self.names_user {
            Mechanism::External
        } else {
            Mechanism::Plain
        }
    }

    /// Returns the user and the password.
    pub(super) fn login(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    /// Converts it for the client library. The heartbeat is in seconds, `frame_max` in bytes.
    pub(super) fn to_uri(&self, heartbeat: u16, frame_max: u32) -> AMQPUri {
        AMQPUri {
            scheme: if self.is_tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: self.user.clone(), password: self.password.to_string() },
                host: self.host.clone(),
                port: self.port,
            },
            vhost: self.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(heartbeat),
                frame_max: Some(frame_max),
                auth_mechanism: Some(self.mechanism().to_library()),
                ..AMQPQueryString::default()
            },
        }
    }
}

impl FromStr for Url {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Address { scheme, login, host, port, path } = Address::split(text, &["amqp", "amqps"])?;
        let is_tls = scheme.ok_or(AddressError("no scheme amqp:// or amqps://"))? == "amqps";
        let path = path.unwrap_or_default();
        if path.contains('/') {
            return Err(AddressError("slash in the virtual host; write %2F"));
        }
        let login = login.unwrap_or_default();
        let no_password = if login.is_empty() { DEFAULT_NAME } else { "" };
        let (user, password) = login.split_once(':').unwrap_or((login, no_password));
        let name = |text: &str, default: &str, problem| {
            let text = if text.is_empty() { Some(default.to_owned()) } else { percent_decoded(text) };
            let is_allowed = |text: &String| text.len() <= NAME_LEN_MAX && !text.contains(char::is_control);
            text.filter(is_allowed).ok_or(AddressError(problem))
        };
        Ok(Self {
            is_tls,
            names_user: !login.is_empty(),
            user: name(user, DEFAULT_NAME, "invalid user")?,
            password: Zeroizing::new(name(password, "", "invalid password")?),
            host: host.to_string().trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(if is_tls { 5671 } else { 5672 }),
            vhost: name(path, DEFAULT_VHOST, "invalid virtual host")?,
            trust: Trust::default(),
        })
    }
}

impl fmt::Display for Url {
    /// Printable, and without the password. The user is shown only if there is a password: alone it may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "amqps" } else { "amqp" };
        let is_shown = !self.password.is_empty() && !has_key(&self.user);
        let user = match (self.mechanism(), is_shown) {
            (Mechanism::External, _) => String::new(),
            (Mechanism::Plain, true) => format!("{}@", encode(&self.user)),
            (Mechanism::Plain, false) => format!("{USER_NOT_SHOWN}@"),
        };
        let (host, port, vhost) = (&self.host, self.port, encode(&self.vhost));
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{user}{open}{host}{close}:{port}/{vhost}")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use lapin::uri::SASLMechanism;

    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str, password: &str, vhost: &str) {
        let url: Url = text.parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.password.as_str(), url.vhost()), (shown, password, vhost));
        assert_eq!(format!("{url:?}"), shown);
    }

    #[test]
    fn addresses_are_read_and_shown_without_their_password() {
        check("amqp://a:topsecret@b.example/c", "amqp://a@b.example:5672/c", "topsecret", "c");
        check("AMQPS://a:b@c.example:1/%2f", "amqps://a@c.example:1/%2F", "b", "/");
        check("amqps://c.example", "amqps://guest@c.example:5671/%2F", "guest", "/");
        check("amqp://127.0.0.1:5673/", "amqp://guest@127.0.0.1:5673/%2F", "guest", "/");
        check("amqp://a:b%40%2f%3A@[::1]:5673/v%25h", "amqp://a@[::1]:5673/v%25h", "b@/:", "v%h");
        check("amqp://a:b@c@d.example", "amqp://a@d.example:5672/%2F", "b@c", "/");
        // Names of containers and of clusters.
        check("amqp://a:b@my_stack_rabbit_mq", "amqp://a@my_stack_rabbit_mq:5672/%2F", "b", "/");
        check("amqps://a:b@mq.default.svc.local.:1/", "amqps://a@mq.default.svc.local.:1/%2F", "b", "/");
        check("amqp://topsecret@d.example", "amqp://[user not shown]@d.example:5672/%2F", "", "/");
        let key = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE";
        check(&format!("amqp://{key}:b@d.example"), "amqp://[user not shown]@d.example:5672/%2F", "b", "/");
    }

    #[test]
    fn library_gets_password_and_heartbeat() {
        let url: Url = "amqp://a:topsecret@[::1]/c".parse().unwrap();
        let uri = url.to_uri(10, 8192);
        assert_eq!(uri.authority.userinfo.password, "topsecret");
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("::1", 5672));
        assert_eq!((uri.vhost.as_str(), uri.query.heartbeat, uri.query.frame_max), ("c", Some(10), Some(8192)));
    }

    #[test]
    fn certificate_logs_in_without_user() {
        let client = Some(crate::tls::ClientFiles { certificate: "a.pem".into(), key: "a.key".into() });
        let trust = Trust { client, ..Trust::default() };
        let of = |text: &str| text.parse::<Url>().unwrap().trusting(trust.clone());
        assert_eq!(of("amqps://a.example").mechanism(), Mechanism::External);
        assert_eq!(of("amqps://a.example").to_string(), "amqps://a.example:5671/%2F");
        assert_eq!(of("amqps://a.example").to_uri(10, 8192).query.auth_mechanism, Some(SASLMechanism::External));
        assert_eq!(of("amqps://guest:guest@a.example").mechanism(), Mechanism::Plain);
        assert_eq!(of("amqp://a.example").mechanism(), Mechanism::Plain);
        assert_eq!("amqps://a.example".parse::<Url>().unwrap().mechanism(), Mechanism::Plain);
    }

    #[test]
    fn anything_else_is_refused_and_not_shown() {
        for text in [
            "",
            "topsecret",
            "http://a:topsecret@b.example",
            "amqp://",
            "amqp://a:topsecret@",
            "amqp://a:topsecret@b.example:0",
            "amqp://a:topsecret@b.example:x",
            "amqp://a:topsecret%2@b.example",
            "amqp://a:topsecret%ff@b.example",
            "amqp://a:topsecret%0a@b.example",
            "amqp://a:topsecret@b example",
            "amqp://a:topsecret@b.example/c/d",
            "amqp://a:top/secret@b.example",
            "amqp://a:12/topsecret@b.example",
            "amqp://a:12/topsecret@b.example:5672/c",
            "amqp://a:12@topsecret/x@b.example",
            "amqp://a:topsecret@b.example/c@d",
            "amqp://a:topsecret@b.example/c?heartbeat=1",
            "amqp://a:topsecret@b.example/c#d",
        ] {
            let error = text.parse::<Url>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("topsecret"), "{text}: {shown}");
        }
        assert!(format!("amqp://{}", "a".repeat(2048)).parse::<Url>().is_err());
        assert!(format!("amqp://{}:b@c.example", "a".repeat(256)).parse::<Url>().is_err());
    }
}
