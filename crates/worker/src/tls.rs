//! Whom we trust in TLS, and what we show of ourselves: the same for the API and the broker, with one provider (ring).

use std::{
    env,
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use imageshare_core::text::printable;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use zeroize::Zeroizing;

use crate::{environment::Environment, paths::shown_path};

/// Bytes that a file with certificates or a key may have: all authorities of a system have less than a quarter of it.
const FILE_LEN_MAX: u64 = 2 * 1024 * 1024;

/// Characters of a foreign text that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Names of a certificate that are shown.
const NAMES_SHOWN_MAX: usize = 5;

/// Whom to trust, and what to show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// A file with the authorities to trust, in place of those of this machine.
    pub ca_file: Option<PathBuf>,
    /// What shows who we are, where the other side asks.
    pub client: Option<ClientFiles>,
}

/// The files of a client certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate, and those of the authorities between it and one that the other side trusts, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nobody is trusted.
    #[error("no root certificates on this machine: {0}")]
    NoRoots(String),
    /// A file is not what it should be. Nothing of it is shown.
    #[error("{path}: found {found}, allowed is {allowed}")]
    File {
        /// The file, safe to print.
        path: String,
        /// What was found.
        found: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// The library refuses its own defaults, or a certificate and a key that do not belong together.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl fmt::Debug for Trust {
    /// Shows what the paths may show: a setting may hold a key in place of its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ca_file = self.ca_file.as_deref().map(shown_path);
        f.debug_struct("Trust").field("ca_file", &ca_file).field("client", &self.client).finish()
    }
}

impl fmt::Debug for ClientFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (certificate, key) = (shown_path(&self.certificate), shown_path(&self.key));
        f.debug_struct("ClientFiles").field("certificate", &certificate).field("key", &key).finish()
    }
}

impl Trust {
    /// Whether the files are what they should be now.
    ///
    /// # Errors
    /// With the first that is not.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    /// The settings of a connection, by what the files hold now.
    pub(crate) fn config(&self) -> Result<ClientConfig, TlsError> {
        self.config_with(self.roots()?)
    }

    /// Those that trust nobody, so that a connection fails and says so.
    pub(crate) fn config_without_roots(&self) -> Result<ClientConfig, TlsError> {
        self.config_with(RootCertStore::empty())
    }

    fn config_with(&self, roots: RootCertStore) -> Result<ClientConfig, TlsError> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let Some(ClientFiles { certificate, key }) = &self.client else { return Ok(config.with_no_client_auth()) };
        let chain = certificates(certificate)?;
        Ok(config.with_client_auth_cert(chain, private_key(key)?)?)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| refused(path, explain(&error), CERTIFICATES))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                let (usable, _) = roots.add_parsable_certificates(found.certs);
                if usable == 0 {
                    let why = found.errors.first().map_or_else(|| "none found".to_owned(), without_path);
                    return Err(TlsError::NoRoots(printable(&why, SHOWN_CHARS_MAX)));
                }
            }
        }
        Ok(roots)
    }
}

/// An error of the library, without a path that may be something else.
fn without_path(error: &rustls_native_certs::Error) -> String {
    match &error.kind {
        rustls_native_certs::ErrorKind::Io { inner, path } => {
            format!("{}: {inner} at {}", error.context, shown_path(path))
        }
        _ => error.to_string(),
    }
}

/// The variables that name the root certificates of this machine.
const ROOTS_FILE: &str = "SSL_CERT_FILE";
const ROOTS_FOLDERS: &str = "SSL_CERT_DIR";

/// Where root certificates are otherwise, on the usual systems.
const USUAL_FILES: [&str; 2] = ["/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];
const USUAL_FOLDER: &str = "/etc/ssl/certs";

/// Files of one folder with root certificates.
const ROOTS_MAX: usize = 10_000;

/// Returns the files with root certificates of this machine, as far as they are there.
pub(crate) fn system_files(environment: &Environment) -> Vec<PathBuf> {
    let folders = environment.path(ROOTS_FOLDERS).unwrap_or_else(|| USUAL_FOLDER.into());
    let in_folders = env::split_paths(&folders).filter_map(|folder| fs::read_dir(folder).ok());
    let in_folders = in_folders.flat_map(|files| files.take(ROOTS_MAX).flatten().map(|file| file.path()));
    let usual = USUAL_FILES.map(PathBuf::from);
    environment.path(ROOTS_FILE).into_iter().chain(usual).chain(in_folders).collect()
}

const CERTIFICATES: &str = "a file with at least one certificate in PEM";
const KEY: &str = "a file with a private key in PEM, without a password";

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, CERTIFICATES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(refused(path, "no certificate".to_owned(), CERTIFICATES)),
        Err(_) => Err(refused(path, "something else, or a part of one".to_owned(), CERTIFICATES)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, KEY)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| refused(path, "no private key".to_owned(), KEY))
}

fn read(path: &Path, allowed: &'static str) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut text));
    read.map_err(|error| refused(path, format!("that it cannot be read ({error})"), allowed))?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(refused(path, format!("more than {FILE_LEN_MAX} bytes"), allowed));
    }
    Ok(text)
}

fn refused(path: &Path, found: String, allowed: &'static str) -> TlsError {
    TlsError::File { path: shown_path(path), found, allowed }
}

/// What is wrong with a connection, in words that say where to look.
pub(crate) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate),
        ) => format!("the other side refuses our certificate, or the lack of one: {alert:?}"),
        other => printable(&other.to_string(), SHOWN_CHARS_MAX),
    }
}

fn certificate(error: &CertificateError) -> String {
    let names = |names: &[String]| {
        // They come as `DnsName("name")` and the like.
        let bare = |name: &str| {
            let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
            printable(inner.trim_matches('"'), SHOWN_CHARS_MAX)
        };
        let names = names.iter().take(NAMES_SHOWN_MAX).map(|name| bare(name));
        names.collect::<Vec<_>>().join(", ")
    };
    match error {
        CertificateError::Expired => "the certificate has expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("the certificate has expired {} ago by this machine's clock", days(ago))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet, by this machine's clock".to_owned()
        }
        CertificateError::NotValidForName => "the certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "the certificate names no host; make one with a subjectAltName for the host".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("the certificate is not for {}, but for {}", expected.to_str(), names(presented))
        }
        CertificateError::UnknownIssuer => "the certificate is from an authority that is not trusted here".to_owned(),
        CertificateError::Revoked => "the certificate was revoked".to_owned(),
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(error) => form(error),
            None => printable(&format!("the certificate is not valid: {}", other.0), SHOWN_CHARS_MAX),
        },
        other => format!("the certificate is not valid: {}", words(other)),
    }
}

/// What is wrong with the form of a certificate, and how to make another one. (`openssl req -x509` makes a certificate of
/// an authority unless it is told otherwise, and an old `openssl x509 -req` one of version 1.)
fn form(error: &webpki::Error) -> String {
    let problem = match error {
        webpki::Error::CaUsedAsEndEntity => {
            "the server shows the certificate of an authority (CA:TRUE); make one with basicConstraints CA:FALSE and a \
             subjectAltName"
        }
        webpki::Error::EndEntityUsedAsCa => {
            "the certificate was issued with a certificate that is not one of an authority (CA:FALSE)"
        }
        webpki::Error::UnsupportedCertVersion => {
            "the certificate is of X.509 version 1; make one of version 3, with a subjectAltName"
        }
        other => return format!("the certificate is not valid: {}", words(other)),
    };
    problem.to_owned()
}

/// The words of the name that a library gives to an error, of which it has no other.
fn words(error: &impl fmt::Debug) -> String {
    let name = format!("{error:?}");
    let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{seconds} s"),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// The error of the TLS library among the causes of another one. An `io::Error` made of another error hides that one
/// from `source`.
pub(crate) fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    // No chain of causes is that long.
    for _ in 0..16 {
        let error = next?;
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
