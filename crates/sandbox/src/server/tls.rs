//! A certificate authority for one run. It lives in memory only, so that a killed sandbox leaves no file behind.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan, tz::Offset};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{PrivateKeyDer, ServerName},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use super::hosts;

/// How long certificates are valid, in days. Apple's systems refuse certificates of servers beyond 825 days.
const VALIDITY_DAYS: i64 = 397;

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A certificate could not be created.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate was not accepted by the TLS library.
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
    /// The clock is outside of the years that a certificate can express.
    #[error("clock: out of range (expected a year before 9999)")]
    Clock,
}

/// The authority, which issues certificates for the names of servers.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    provider: Arc<CryptoProvider>,
}

impl Authority {
    pub(super) fn new() -> Result<Self, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "imageshare sandbox authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params)?;
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, provider: Arc::new(ring::default_provider()) })
    }

    /// Returns the certificate of the authority, which clients must trust.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns an acceptor for a server with these names. When a client requests a name of the API or of the metadata
    /// service, it issues a certificate for that name: regional names are in no list.
    pub(super) fn acceptor(self: &Arc<Self>, names: Vec<String>) -> Result<TlsAcceptor, CertificateError> {
        let resolver = Resolver { default: self.certificate(names)?, authority: Arc::clone(self) };
        let config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Issues a certificate for at least one name.
    fn certificate(&self, names: Vec<String>) -> Result<Arc<CertifiedKey>, CertificateError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "imageshare sandbox");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Arc::new(CertifiedKey::from_der(vec![certificate.into()], key, &self.provider)?))
    }
}

/// Whether a certificate can contain a name: a DNS name without a wildcard, or an IP address.
#[must_use]
pub fn is_certificate_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

/// Selects the certificate by the name that a client requests.
#[derive(Debug)]
struct Resolver {
    authority: Arc<Authority>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name().filter(|name| hosts::is_service(name)) {
            Some(name) => self.authority.certificate(vec![name.to_owned()]).ok(),
            None => Some(Arc::clone(&self.default)),
        }
    }
}

/// Sets the time from yesterday, for clocks that are behind, to [`VALIDITY_DAYS`] after that.
fn set_validity(params: &mut CertificateParams) -> Result<(), CertificateError> {
    let today = Offset::UTC.to_datetime(Timestamp::now()).date();
    let first = today.checked_sub(1.day()).map_err(|_| CertificateError::Clock)?;
    let last = first.checked_add(VALIDITY_DAYS.days()).map_err(|_| CertificateError::Clock)?;
    let date = |date: jiff::civil::Date| {
        let part = |part: i8| u8::try_from(part).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (date(first), date(last));
    Ok(())
}
