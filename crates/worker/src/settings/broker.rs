//! The broker: where it is and how it is consumed.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    error::SettingsProblem,
    resolver::{SettingsResolver, section},
    values::{duration, file_path, parsed, whole, whole_seconds},
};
use crate::{
    address::AddressError,
    broker::{Url, management::ManagementUrl},
    paths::shown_path,
    tls::{ClientFiles, Trust},
};

/// The variable of the address.
const URL: &str = "IMAGESHARE_BROKER_URL";

/// The variable of the address of the management interface.
const MANAGEMENT_URL: &str = "IMAGESHARE_MANAGEMENT_URL";

/// Bytes that a file with the address may have.
const FILE_LEN_MAX: u64 = 4096;

const SECOND: Duration = Duration::from_secs(1);

section! {
    /// How the broker is reached and consumed.
    BrokerSettings from RawBroker () {
        /// `%2F` is a slash in a name, `%23` a `#` and `%3F` a `?` in a password. With `broker.client_certificate` and no
        /// user, the certificate logs in (EXTERNAL). Shown without its password
        url: Option<Url> = None, parsed(Url::EXPECTED).optional(), variables &[URL];
        /// A file with that address, which is read at the start
        url_file: Option<PathBuf> = None, file_path("a file with the address").optional();
        /// The broker's management interface, by which `check --connect` and a worker inspect policies. Shown without user
        /// and password. Over TLS the files `broker.ca_file` and `broker.client_certificate` count
        management_url: Option<ManagementUrl> = None, parsed(ManagementUrl::EXPECTED).optional(),
            variables &[MANAGEMENT_URL];
        /// A file with that address
        management_url_file: Option<PathBuf> = None, file_path("a file with the address").optional();
        /// The most jobs that a lane holds at once. It builds requests from these jobs. The maximum is that of AMQP
        prefetch: u16 = 10_000, whole(1..=65_535, "jobs"), variables &["IMAGESHARE_PREFETCH"];
        /// The interval of heartbeats. Broker and worker consider each other dead after twice this time without data. A
        /// worker releases a lane after this time without data
        heartbeat: Duration = 10 * SECOND, whole_seconds(SECOND..=60 * SECOND);
        /// How long a job may be held before its lane is requeued. It must be shorter than the broker's `consumer_timeout`, 30m by default
        lease: Duration = 20 * 60 * SECOND, duration(SECOND..=25 * 60 * SECOND);
        /// Authorities to trust, with `amqps://`; default as for `http.ca_file`
        ca_file: Option<PathBuf> = None, file_path("a PEM file with certificates").optional();
        /// The certificate to present, and those between it and its authority; with `amqps://`
        client_certificate: Option<PathBuf> = None, file_path("a PEM file with certificates").optional();
        /// Its private key, without a password
        client_key: Option<PathBuf> = None, file_path("a PEM file with a private key").optional();
    }
}

/// How the broker is reached and consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Where its address is; `None` if it is not set.
    pub url: Option<UrlSource>,
    /// Where the address of its management interface is; `None` if policies are not inspected.
    pub management: Option<UrlSource<ManagementUrl>>,
    /// Messages that a lane holds at most: the window from which requests are formed.
    pub prefetch: u16,
    /// The heartbeat to negotiate, in whole seconds. A peer that is silent for twice as long is dead.
    pub heartbeat: Duration,
    /// How long a job may be held before its lane is requeued. Below the 30 minutes after which the broker closes the
    /// channel.
    pub lease: Duration,
    /// The authorities to trust there, and the certificate to present, over TLS.
    pub trust: Trust,
}

/// Where the broker's address is.
#[derive(Clone, PartialEq, Eq)]
pub enum UrlSource<U = Url> {
    /// In a file, which is read at the start.
    File(PathBuf),
    /// Here.
    Given(U),
}

/// Why there is no address of the broker. Never holds any of what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum NoBroker {
    /// No setting has it.
    #[error("broker.url: missing (expected the address of a RabbitMQ in {URL} or in the settings file)")]
    Missing,
    /// Files for TLS are set, and the address in the file has none.
    #[error(
        "broker.url_file: an amqp:// address beside broker.ca_file or broker.client_certificate (expected an amqps:// address)"
    )]
    Plain,
    /// The file cannot be read.
    #[error("{key}: {path}: cannot read the file: {error} (expected a file with the address)")]
    Unreadable {
        /// The key of the file.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("{key}: {path}: {error} (expected {expected})")]
    Malformed {
        /// The key of the file.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        error: AddressError,
        /// What an address looks like.
        expected: &'static str,
    },
}

impl Broker {
    /// Returns the address, read from its file if the settings name one, with the authorities to trust.
    ///
    /// # Errors
    /// If no address is set, its file cannot be read or contains no address, or files for TLS are set and it has none.
    pub fn url(&self) -> Result<Url, NoBroker> {
        let source = self.url.as_ref().ok_or(NoBroker::Missing)?;
        let url = source.read("broker.url_file", Url::EXPECTED)?;
        // The management interface may use them.
        let has_use = || self.management_url().is_ok_and(|management| management.is_some_and(|url| url.is_tls()));
        if !url.is_tls() && self.trust != Trust::default() && !has_use() {
            return Err(NoBroker::Plain);
        }
        Ok(url.trusting(self.trust.clone()))
    }

    /// The address of the management interface, read from its file where it stands in one; `None` if none is set.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something else.
    pub fn management_url(&self) -> Result<Option<ManagementUrl>, NoBroker> {
        let read = |source: &UrlSource<_>| source.read("broker.management_url_file", ManagementUrl::EXPECTED);
        self.management.as_ref().map(read).transpose()
    }
}

impl<U: Clone + FromStr<Err = AddressError>> UrlSource<U> {
    /// Returns the address, from the file that `key` names if it is in one.
    fn read(&self, key: &'static str, expected: &'static str) -> Result<U, NoBroker> {
        let path = match self {
            Self::Given(url) => return Ok(url.clone()),
            Self::File(path) => path,
        };
        let shown = || shown_path(path);
        let text = contents(path).map_err(|error| NoBroker::Unreadable { key, path: shown(), error })?;
        // Editors end a file with a line end.
        text.trim_end().parse().map_err(|error| NoBroker::Malformed { key, path: shown(), error, expected })
    }
}

/// What a file with an address holds.
fn contents(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_LEN_MAX).unwrap_or(0)));
    File::open(path)?.take(FILE_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

impl BrokerSettings {
    /// Returns the broker of these settings, and records settings that contradict each other.
    pub(super) fn broker(&self, resolver: &mut SettingsResolver<'_>) -> Broker {
        let client = match (&self.client_certificate.value, &self.client_key.value) {
            (Some(certificate), Some(key)) => Some(ClientFiles { certificate: certificate.clone(), key: key.clone() }),
            (None, None) => None,
            (certificate, _) => {
                let (set, origin, missing) = match certificate {
                    Some(_) => ("client_certificate", &self.client_certificate.origin, "client_key"),
                    None => ("client_key", &self.client_key.origin, "client_certificate"),
                };
                let fault = format!("set without broker.{missing}");
                resolver.report(SettingsProblem::of_key(
                    origin.clone(),
                    format!("broker.{set}"),
                    fault,
                    "both or neither",
                ));
                None
            }
        };
        let trust = Trust { ca_file: self.ca_file.value.clone(), client };
        // The management interface may use them.
        let management = self.management_url.value.as_ref();
        let has_management = management.is_some_and(ManagementUrl::is_tls) || self.management_url_file.value.is_some();
        if !has_management && self.url.value.as_ref().is_some_and(|url| !url.is_tls()) {
            let files = [
                ("ca_file", &self.ca_file),
                ("client_certificate", &self.client_certificate),
                ("client_key", &self.client_key),
            ];
            for (key, setting) in files.into_iter().filter(|(_, setting)| setting.value.is_some()) {
                let fault = "set beside an amqp:// address".to_owned();
                let key = format!("broker.{key}");
                resolver.report(SettingsProblem::of_key(setting.origin.clone(), key, fault, "an amqps:// address"));
            }
        }
        Broker {
            url: source(&self.url.value, &self.url_file.value),
            management: source(&self.management_url.value, &self.management_url_file.value),
            prefetch: self.prefetch.value,
            heartbeat: self.heartbeat.value,
            lease: self.lease.value,
            trust,
        }
    }
}

impl RawBroker {
    /// Leaves one of an address and its file: a variable takes precedence over both. Records the two beside each other.
    pub(super) fn without_replaced(mut self, resolver: &mut SettingsResolver<'_>) -> Self {
        let pairs = [
            (URL, "url", self.url.is_some(), &mut self.url_file),
            (MANAGEMENT_URL, "management_url", self.management_url.is_some(), &mut self.management_url_file),
        ];
        for (variable, key, is_set, in_file) in pairs {
            if resolver.environment.text(variable) != Ok(None) {
                *in_file = None;
            } else if is_set && in_file.is_some() {
                let path = ["broker".to_owned(), format!("{key}_file")];
                resolver.refuse(&path, format!("set beside broker.{key}"), "one of them");
            }
        }
        self
    }
}

fn source<U: Clone>(url: &Option<U>, file: &Option<PathBuf>) -> Option<UrlSource<U>> {
    let given = url.clone().map(UrlSource::Given);
    given.or_else(|| file.clone().map(UrlSource::File))
}

impl<U> UrlSource<U> {
    /// Returns the file that holds the address, if one does.
    #[must_use]
    pub const fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Given(_) => None,
        }
    }
}

impl<U: fmt::Display> fmt::Debug for UrlSource<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<U: fmt::Display> fmt::Display for UrlSource<U> {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&shown_path(path)),
            Self::Given(url) => url.fmt(f),
        }
    }
}
