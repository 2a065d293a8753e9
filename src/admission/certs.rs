//! The webhook's certificates: made with rcgen, read with x509-parser, served with rustls.
//!
//! A CA of our own signs one serving certificate, because the API server trusts whatever stands in `caBundle`. Both have
//! names of their own: a leaf that carries the CA's name looks self-signed and is refused.
//!
//! Guarantees: keys are never logged; a certificate and key that do not belong together are never served.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Life of a CA: long against a leaf's, so that its rotation is rare, short enough that rotation is a habit.
pub const CA_LIFE: SignedDuration = SignedDuration::from_hours(24 * 730);
/// Life of a serving certificate; renewed at one third left, so two months run before and one month is left for trouble.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// How far before now a certificate begins, so that a client whose clock is behind accepts it.
pub const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// What is wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A certificate or key could not be made.
    #[error("certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Something that should be PEM is not.
    #[error("{what} cannot be read: {message}")]
    Read {
        /// What it was to be, as in `tls.crt`.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
    /// rustls refuses the pair.
    #[error("tls.crt and tls.key cannot be served: {0}")]
    Serve(#[from] rustls::Error),
    /// No crypto provider is installed, which is `main`'s first act.
    #[error("no TLS crypto provider is installed")]
    NoProvider,
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Makes a CA.
///
/// # Errors
/// When the random source fails.
pub fn make_ca(now: Timestamp) -> Result<Pair, CertError> {
    let mut params = CertificateParams::default();
    // The moment makes the name unique: during a rotation two CAs of ours are trusted side by side.
    name(&mut params, &format!("weir webhook CA {}", now.as_nanosecond()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    live(&mut params, now, CA_LIFE);
    let key = KeyPair::generate()?;
    Ok(Pair {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a serving certificate for DNS names and IP addresses.
///
/// # Errors
/// When the CA cannot be read or a name is no name.
pub fn make_leaf(ca: &Pair, names: &[String], now: Timestamp) -> Result<Pair, CertError> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let mut params = CertificateParams::new(names)?;
    name(&mut params, "weir webhook");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, now, LEAF_LIFE);
    let key = KeyPair::generate()?;
    Ok(Pair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Valid from.
    pub begins: Timestamp,
    /// Valid until.
    pub expires: Timestamp,
    /// Whose it is, DER.
    pub subject: Vec<u8>,
    /// Who signed it, DER.
    pub issuer: Vec<u8>,
    /// DNS names and IP addresses, sorted.
    pub names: Vec<String>,
}

/// Reads every certificate of a PEM text. `what` names it in errors.
///
/// # Errors
/// When there is none or one cannot be read.
pub fn read_all(what: &'static str, pem: &str) -> Result<Vec<(CertificateDer<'static>, Facts)>, CertError> {
    let bad = |message: String| CertError::Read { what, message };
    let mut found = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|error| bad(error.to_string()))?;
        let facts = facts(&der).map_err(bad)?;
        found.push((der, facts));
    }
    if found.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    Ok(found)
}

/// Makes what rustls serves of a certificate chain and its key.
///
/// # Errors
/// When they cannot be read or do not belong together.
pub fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, CertError> {
    let chain = read_all("tls.crt", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| CertError::Read {
        what: "tls.key",
        message: error.to_string(),
    })?;
    let provider = CryptoProvider::get_default().ok_or(CertError::NoProvider)?;
    let chain = chain.into_iter().map(|(der, _)| der).collect();
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// Serves the certificate that was put last; handshakes before the first one fail.
#[derive(Debug, Default)]
pub struct Resolver(ArcSwapOption<CertifiedKey>);

impl Resolver {
    /// Replaces the certificate; connections that stand keep theirs.
    pub fn put(&self, key: CertifiedKey) {
        self.0.store(Some(Arc::new(key)));
    }

    /// A server configuration that asks this resolver at every handshake.
    #[must_use]
    pub fn server_config(self: Arc<Self>) -> ServerConfig {
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(self)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

fn name(params: &mut CertificateParams, common_name: &str) {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(DnType::CommonName, common_name);
    params.distinguished_name = distinguished;
}

fn live(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |moment: SignedDuration| epoch + moment.unsigned_abs();
    let now = now.duration_since(Timestamp::UNIX_EPOCH);
    params.not_before = at(now.saturating_sub(BACKDATE));
    params.not_after = at(now.saturating_add(life));
}

fn facts(der: &[u8]) -> Result<Facts, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let moment = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let validity = certificate.validity();
    let alternative = certificate
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    names.sort();
    Ok(Facts {
        begins: moment(validity.not_before.timestamp())?,
        expires: moment(validity.not_after.timestamp())?,
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        names,
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::IpAddr::from(sixteen).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn a_leaf_is_signed_by_its_ca_and_named_otherwise() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = make_ca(now()).unwrap();
        let names = [
            "weir-webhook.flux-system.svc".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let leaf = make_leaf(&ca, &names, now()).unwrap();
        let ca_facts = read_all("ca.crt", &ca.certificate).unwrap().remove(0).1;
        let facts = read_all("tls.crt", &leaf.certificate).unwrap().remove(0).1;
        assert_eq!(facts.issuer, ca_facts.subject);
        assert_ne!(facts.subject, ca_facts.subject);
        assert_eq!(facts.names, ["127.0.0.1", "::1", "weir-webhook.flux-system.svc"]);
        assert_eq!(facts.expires, now() + LEAF_LIFE);
        assert_eq!(facts.begins, now() - BACKDATE);
        certified(&leaf.certificate, &leaf.key).unwrap();
    }

    #[test]
    fn a_pair_that_does_not_belong_together_is_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (one, other) = (make_ca(now()).unwrap(), make_ca(now()).unwrap());
        let error = certified(&one.certificate, &other.key).unwrap_err().to_string();
        assert!(error.starts_with("tls.crt and tls.key cannot be served: "), "{error}");
        assert_eq!(
            certified("nothing", &one.key).unwrap_err().to_string(),
            "tls.crt cannot be read: it holds no certificate"
        );
        assert!(
            certified(&one.certificate, "x")
                .unwrap_err()
                .to_string()
                .starts_with("tls.key cannot be read: ")
        );
    }

    #[test]
    fn keys_are_not_in_debug_output() {
        let ca = make_ca(now()).unwrap();
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
