//! TLS settings for the API and the broker, with one provider (ring): the trusted authorities, the client certificate, and
//! what an error of a handshake means.

use std::{
    env, fmt,
    fs::{self, File},
    io::Read as _,
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

/// Bytes of a file with certificates or a key. Those of all authorities of a system have less than a quarter of it.
const FILE_LEN_MAX: u64 = 2 * 1024 * 1024;

/// Characters of a foreign text that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Names of a certificate that are shown.
const NAMES_SHOWN_MAX: usize = 5;

/// The authorities to trust, and the client certificate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// A file with the authorities to trust; `None` for those of this machine.
    pub ca_file: Option<PathBuf>,
    /// The client certificate, for servers that ask for one.
    pub client: Option<ClientFiles>,
}

/// The files of a client certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate and the intermediate certificates of its chain, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No authority is trusted.
    #[error("no root certificates on this machine: {0}")]
    NoRoots(String),
    /// A file is invalid. Its content is not shown.
    #[error("{path}: {problem} (expected {expected})")]
    File {
        /// The file, safe to print.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// What is expected.
        expected: String,
    },
    /// The library refuses its own defaults, or a certificate and a key that do not match.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl fmt::Debug for Trust {
    /// Shows of the paths only what may be shown: a setting may hold a key in place of its path.
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
    /// Checks the files as they are now.
    ///
    /// # Errors
    /// With the first one that is invalid.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    /// Returns the settings of a connection, from the files as they are now.
    pub(crate) fn config(&self) -> Result<ClientConfig, TlsError> {
        self.config_with(self.roots()?)
    }

    /// Returns settings that trust no authority, so that every connection fails with that reason.
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
                let system = rustls_native_certs::load_native_certs();
                let (usable, _) = roots.add_parsable_certificates(system.certs);
                if usable == 0 {
                    let why = system.errors.first().map_or_else(|| "none found".to_owned(), without_path);
                    return Err(TlsError::NoRoots(printable(&why, SHOWN_CHARS_MAX)));
                }
            }
        }
        Ok(roots)
    }
}

/// Returns an error of the library, with the path only as far as it may be shown.
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

/// The usual places of root certificates.
const USUAL_FILES: [&str; 2] = ["/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];
const USUAL_FOLDER: &str = "/etc/ssl/certs";

/// Files of one folder that are listed.
const ROOTS_MAX: usize = 10_000;

/// Returns the files with root certificates of this machine.
pub(crate) fn system_files(environment: &Environment) -> Vec<PathBuf> {
    let folders = environment.path(ROOTS_FOLDERS).unwrap_or_else(|| USUAL_FOLDER.into());
    let in_folders = env::split_paths(&folders).filter_map(|folder| fs::read_dir(folder).ok());
    let in_folders = in_folders.flat_map(|files| files.take(ROOTS_MAX).flatten().map(|file| file.path()));
    let usual = USUAL_FILES.map(PathBuf::from);
    environment.path(ROOTS_FILE).into_iter().chain(usual).chain(in_folders).collect()
}

const CERTIFICATES: &str = "at least one certificate in PEM";
const KEY: &str = "a private key in PEM, without a password";

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, CERTIFICATES)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(refused(path, "no certificate".to_owned(), CERTIFICATES)),
        Err(_) => Err(refused(path, "malformed or incomplete PEM".to_owned(), CERTIFICATES)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, KEY)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| refused(path, "no private key".to_owned(), KEY))
}

fn read(path: &Path, expected: &str) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut text));
    read.map_err(|error| refused(path, format!("cannot read the file: {error}"), expected))?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(refused(path, "file is too long".to_owned(), &format!("at most {FILE_LEN_MAX} bytes")));
    }
    Ok(text)
}

fn refused(path: &Path, problem: String, expected: &str) -> TlsError {
    TlsError::File { path: shown_path(path), problem, expected: expected.to_owned() }
}

/// Returns what is wrong with a connection, and what to do about it.
pub(crate) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => explain_certificate(error),
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

fn explain_certificate(error: &CertificateError) -> String {
    let problem = match error {
        CertificateError::Expired => "the certificate has expired; renew it",
        CertificateError::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            return format!("the certificate has expired {} ago by this machine's clock; renew it", days(ago));
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet, by this machine's clock; check that clock"
        }
        CertificateError::NotValidForName => "the certificate is for another name",
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "the certificate names no host; make one with a subjectAltName for the host"
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().take(NAMES_SHOWN_MAX).map(|name| shown_name(name)).collect();
            return format!("the certificate is not for {}, but for {}", expected.to_str(), names.join(", "));
        }
        CertificateError::UnknownIssuer => "the certificate is from an authority that is not trusted here",
        CertificateError::Revoked => "the certificate was revoked; replace it",
        CertificateError::BadEncoding => "the certificate is not one of X.509; replace it",
        CertificateError::BadSignature => {
            "the certificate is not signed by the authority that it names; make one with that authority's key"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers; make one with extendedKeyUsage serverAuth"
        }
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(error) => return explain_form(error),
            None => return invalid(&other.0),
        },
        other => return invalid(other),
    };
    problem.to_owned()
}

/// Returns what is wrong with the form of a certificate, and how to make another one. (`openssl req -x509` makes the
/// certificate of an authority unless configured otherwise, and an old `openssl x509 -req` one of version 1.)
fn explain_form(error: &webpki::Error) -> String {
    let problem = match error {
        webpki::Error::CaUsedAsEndEntity => {
            "the server shows the certificate of an authority (CA:TRUE); make one with basicConstraints CA:FALSE and a \
             subjectAltName"
        }
        webpki::Error::EndEntityUsedAsCa => {
            "the certificate was issued with a certificate that is not one of an authority (CA:FALSE); issue it with one \
             that has basicConstraints CA:TRUE"
        }
        webpki::Error::UnsupportedCertVersion => {
            "the certificate is of X.509 version 1; make one of version 3, with a subjectAltName"
        }
        other => return invalid(other),
    };
    problem.to_owned()
}

fn invalid(error: &impl fmt::Display) -> String {
    printable(&format!("the certificate is not valid: {error}"), SHOWN_CHARS_MAX)
}

/// Returns a name of a certificate, which the library gives as `DnsName("name")` or the like.
fn shown_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    printable(inner.trim_matches('"'), SHOWN_CHARS_MAX)
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{seconds} s"),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    /// Made by `openssl x509 -req -signkey` of OpenSSL 3.0, which writes version 1 unless it is given extensions.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBJDCBywIUQWykPG2ioy+UjP+C7DzAa+6HDZIwCgYIKoZIzj0EAwIwFDESMBAG\n\
        A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDIxMTQ0M1oYDzIxMjYxMTA2MjExNDQz\n\
        WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
        AAR3zAkZiiSLxU4WdmA5G4h8LDsJuvBLDq5mANlZt+xM8Z///KiHMiTiIKR5AGDk\n\
        O67DrvpVRiWUEnRcpE4HBGBUMAoGCCqGSM49BAMCA0gAMEUCIDWmZ/I9ouq3UAT+\n\
        dGQ/oH/ICDnKABSe4UAuTPZHKQf8AiEA4POUP9KlyL4TmHc8p6K0O+bgNfeykPN8\n\
        lZz2uhEgSUo=\n\
        -----END CERTIFICATE-----";

    /// Returns the explanation of a verifier that trusts another authority.
    fn explained(certificate: &CertificateDer<'_>) -> String {
        let mut roots = RootCertStore::empty();
        let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
        roots.add(other.cert.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        explain(&verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).unwrap_err())
    }

    #[test]
    fn certificate_of_version_1_is_named() {
        let certificate = CertificateDer::from_pem_slice(VERSION_1.as_bytes()).unwrap();
        let expected = "the certificate is of X.509 version 1; make one of version 3, with a subjectAltName";
        assert_eq!(explained(&certificate), expected);
    }

    #[test]
    fn self_signed_certificate_of_authority_is_named() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let explained = explained(certificate.der());
        assert!(explained.contains("(CA:TRUE); make one with basicConstraints CA:FALSE"), "{explained}");
    }
}
