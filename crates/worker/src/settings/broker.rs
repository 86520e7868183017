//! The broker: where it is and how it is consumed.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    choices::{Choices, Shown},
    file::Section,
    origin::Setting,
    values::{FilePath, duration, file_path, path_problem, shown_path, whole},
};
use crate::{
    broker::{
        Url, UrlError,
        management::{ManagementUrl, ManagementUrlError},
    },
    tls::{ClientFiles, Trust},
};

/// The variable of the address.
const URL: &str = "IMAGESHARE_BROKER_URL";

/// The variable of the address of the management interface.
const MANAGEMENT_URL: &str = "IMAGESHARE_MANAGEMENT_URL";

/// Bytes that a file with the address may have.
const FILE_LEN_MAX: u64 = 4096;

/// Messages that a lane may hold: AMQP has two bytes for them, and means another number by 0.
const PREFETCHES: std::ops::RangeInclusive<u32> = 1..=65_535;

const SECOND: Duration = Duration::from_secs(1);

/// How the broker is reached and consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Where its address is; `None` if nobody says.
    pub url: Option<UrlSource>,
    /// Where the address of its management interface is; `None` if policies are not to be inspected.
    pub management: Option<UrlSource<ManagementUrl>>,
    /// Messages that a lane holds at most: its coalescing window.
    pub prefetch: u16,
    /// The heartbeat that is asked for, in whole seconds. A peer that is silent for twice as long is dead.
    pub heartbeat: Duration,
    /// How long a job may be held before its lane is given back. Below the half hour after which the broker ends the
    /// channel.
    pub lease: Duration,
    /// Whom to trust there and what to show, over TLS.
    pub trust: Trust,
}

/// Where the broker's address is.
#[derive(Clone, PartialEq, Eq)]
pub enum UrlSource<U = Url> {
    /// In a file, which is read when it is needed, as other secrets are.
    File(PathBuf),
    /// Here.
    Given(U),
}

/// Why there is no address of the broker. Never holds any of what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum NoBroker {
    /// Nobody says where it is.
    #[error("broker.url: found nothing, allowed is the address of a RabbitMQ in {URL} or in the settings file")]
    Missing,
    /// The file cannot be read.
    #[error("broker.url_file: {path}: found that it cannot be read ({error}), allowed is a file with the address")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("broker.url_file: {path}: {error}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        error: UrlError,
    },
}

/// Why the address of the management interface cannot be read. Never holds any of what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum NoManagement {
    /// The file cannot be read.
    #[error("broker.management_url_file: {path}: cannot read the file: {error} (expected a file with the address)")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("broker.management_url_file: {path}: {error}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        error: ManagementUrlError,
    },
}

impl Default for Broker {
    fn default() -> Self {
        let (heartbeat, lease) = (Duration::from_secs(10), Duration::from_mins(20));
        Self { url: None, management: None, prefetch: 10_000, heartbeat, lease, trust: Trust::default() }
    }
}

impl Broker {
    /// The address, read from its file where it stands in one, and whom to trust there.
    ///
    /// # Errors
    /// If there is none.
    pub fn url(&self) -> Result<Url, NoBroker> {
        let path = match &self.url {
            None => return Err(NoBroker::Missing),
            Some(UrlSource::Given(url)) => return Ok(url.clone().trusting(self.trust.clone())),
            Some(UrlSource::File(path)) => path,
        };
        let shown = || shown_path(path);
        let text = contents(path).map_err(|error| NoBroker::Unreadable { path: shown(), error })?;
        // Editors end a file with a line end.
        let url: Url = text.trim_end().parse().map_err(|error| NoBroker::Malformed { path: shown(), error })?;
        Ok(url.trusting(self.trust.clone()))
    }

    /// The address of the management interface, read from its file where it stands in one; `None` if none is set.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something else.
    pub fn management_url(&self) -> Result<Option<ManagementUrl>, NoManagement> {
        let path = match &self.management {
            None => return Ok(None),
            Some(UrlSource::Given(url)) => return Ok(Some(url.clone())),
            Some(UrlSource::File(path)) => path,
        };
        let shown = || shown_path(path);
        let text = contents(path).map_err(|error| NoManagement::Unreadable { path: shown(), error })?;
        text.trim_end().parse().map(Some).map_err(|error| NoManagement::Malformed { path: shown(), error })
    }
}

/// What a file with an address holds.
fn contents(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_LEN_MAX).unwrap_or(0)));
    File::open(path)?.take(FILE_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

pub(super) fn read(mut section: Section, choices: &mut Choices<'_>) -> (Broker, Vec<Setting>) {
    let mut take = |key: &str| section.take(key, &mut choices.problems).into_iter().collect::<Vec<_>>();
    let (url, url_file) = (take("url"), take("url_file"));
    let (management, management_file) = (take("management_url"), take("management_url_file"));
    let (mut prefetch, heartbeat, lease) = (take("prefetch"), take("heartbeat"), take("lease"));
    let (ca_file, certificate, client_key) = (take("ca_file"), take("client_certificate"), take("client_key"));
    section.finish(
        "url, url_file, management_url, management_url_file, prefetch, heartbeat, lease, ca_file, client_certificate, \
         client_key",
        &mut choices.problems,
    );
    if let ([_, ..], [file, ..]) = (url.as_slice(), url_file.as_slice()) {
        choices.problems.push(format!("{}: found it beside broker.url, allowed is one of them", file.origin));
    }
    if let ([_, ..], [file, ..]) = (management.as_slice(), management_file.as_slice()) {
        choices.problems.push(format!("{}: set beside broker.management_url (expected one of them)", file.origin));
    }
    prefetch.extend(choices.variable("IMAGESHARE_PREFETCH"));
    let of_variable = choices.variable(URL).into_iter().collect();
    let management_of_variable = choices.variable(MANAGEMENT_URL).into_iter().collect();

    let default = Broker::default();
    let key = |key: &str| format!("broker.{key}");
    let in_file = choices.choose_any(&key("url_file"), url_file, |text| {
        let path = PathBuf::from(text);
        let problem = path_problem(&path).map(|problem| format!("{problem}, allowed is the path of a file with it"));
        problem.map_or(Ok(UrlSource::<Url>::File(path)), Err)
    });
    let parse = |text: &str| text.parse().map(UrlSource::Given).map_err(|error: UrlError| error.to_string());
    let given = choices.choose_any(&key("url"), url, parse);
    let of_variable = choices.choose_any(&key("url"), of_variable, parse);
    let (url, of_url) = of_variable.or(given).or(in_file).unzip();

    let in_file = choices.choose_any(&key("management_url_file"), management_file, |text| {
        file_path(text, "a file with the address").map(|FilePath(path)| UrlSource::File(path))
    });
    let parse = |text: &str| text.parse().map(UrlSource::Given).map_err(|error: ManagementUrlError| error.to_string());
    let given = choices.choose_any(&key("management_url"), management, parse);
    let of_variable = choices.choose_any(&key("management_url"), management_of_variable, parse);
    let (management, of_management) = of_variable.or(given).or(in_file).unzip();
    let prefetch = choices
        .choose(key("prefetch"), u32::from(default.prefetch), prefetch, |text| whole(text, PREFETCHES, "messages"));
    let heartbeat = choices.choose(key("heartbeat"), default.heartbeat, heartbeat, |text| {
        let heartbeat = duration(text, SECOND..=60 * SECOND)?;
        let is_whole = heartbeat.subsec_nanos() == 0;
        is_whole.then_some(heartbeat).ok_or_else(|| format!("found {heartbeat:?}, allowed are whole seconds"))
    });
    let lease = choices.choose(key("lease"), default.lease, lease, |text| duration(text, SECOND..=25 * 60 * SECOND));

    let mut file =
        |name: &str, given, what| choices.choose_any(&key(name), given, |text| file_path(text, what)).unzip();
    let (ca_file, of_ca_file) = file("ca_file", ca_file, "a file with certificates");
    let (certificate, of_certificate) = file("client_certificate", certificate, "a file with certificates");
    let (client_key, of_client_key) = file("client_key", client_key, "a file with a private key");
    let client = match (certificate, client_key) {
        (Some(FilePath(certificate)), Some(FilePath(key))) => Some(ClientFiles { certificate, key }),
        (None, None) => None,
        _ => {
            let half = of_certificate.as_ref().map(|setting| (setting, "broker.client_key"));
            let half = half.or_else(|| Some((of_client_key.as_ref()?, "broker.client_certificate")));
            if let Some((found, missing)) = half {
                choices
                    .problems
                    .push(format!("{}: found it without {missing}, allowed are both or none", found.origin));
            }
            None
        }
    };
    let trust = Trust { ca_file: ca_file.map(|FilePath(path)| path), client };
    if let Some(UrlSource::Given(given)) = &url
        && !given.is_tls()
        && trust != Trust::default()
    {
        let set = [&of_ca_file, &of_certificate, &of_client_key].into_iter().flatten();
        for setting in set {
            choices.problems.push(format!(
                "{}: found it beside an address with amqp://, allowed is it with amqps://",
                setting.origin
            ));
        }
    }

    let of_files = [of_ca_file, of_certificate, of_client_key].into_iter().flatten();
    let settings =
        of_url.into_iter().chain(of_management).chain([prefetch.1, heartbeat.1, lease.1]).chain(of_files).collect();
    let prefetch = u16::try_from(prefetch.0).expect("it was checked to be at most 65,535");
    (Broker { url, management, prefetch, heartbeat: heartbeat.0, lease: lease.0, trust }, settings)
}

impl<U: fmt::Display> Shown for UrlSource<U> {
    fn shown(&self) -> String {
        self.to_string()
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
