//! `crypto.x509.*`: what certificates and requests say, in the shape that Go's `crypto/x509` has as JSON.
//!
//! Of a certificate everything is told that Go tells, except for what nobody decides by: `ExtraNames`, `PolicyMappings`,
//! constraints on names, and the numbers inside public keys other than RSA's.

mod describe;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regorus::Value;
use serde_json::{Value as Json, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::keys::trimmed;
use super::{keys, text};
use describe::{
    USAGES, address, certificate, extended, key_algorithm, made, name, names, public_key, signature_algorithm,
};

/// Most certificates in one text. A chain has four.
const MAX_CERTIFICATES: usize = 256;

pub(super) fn certificates(args: &[Value]) -> Option<Value> {
    let ders = ders(text(args, 0)?, "CERTIFICATE")?;
    let parsed = ders.iter().map(|der| certificate(der)).collect::<Option<Vec<Json>>>()?;
    made(&Json::from(parsed))
}

pub(super) fn request(args: &[Value]) -> Option<Value> {
    let der = ders(text(args, 0)?, "CERTIFICATE REQUEST")?.into_iter().next()?;
    let (_, request) = X509CertificationRequest::from_der(&der).ok()?;
    let info = &request.certification_request_info;
    let extensions: Vec<&ParsedExtension<'_>> = request.requested_extensions().into_iter().flatten().collect();
    let mut fields = json!({
        "Raw": STANDARD.encode(&der),
        "RawSubject": STANDARD.encode(info.subject.as_raw()),
        "RawSubjectPublicKeyInfo": STANDARD.encode(info.subject_pki.raw),
        "Version": info.version.0,
        "Signature": STANDARD.encode(&request.signature_value.data),
        "SignatureAlgorithm": signature_algorithm(&request.signature_algorithm.algorithm),
        "PublicKeyAlgorithm": key_algorithm(&info.subject_pki.algorithm.algorithm),
        "PublicKey": public_key(&info.subject_pki.parsed().ok()?),
        "Subject": name(&info.subject),
    });
    names(&extensions, &mut fields);
    made(&fields)
}

/// Verifies that a chain leads from the last certificate to the first, which is trusted.
pub(super) fn verified(args: &[Value]) -> Option<Value> {
    chain(text(args, 0)?, &Options::default(), true)
}

pub(super) fn verified_with(args: &[Value]) -> Option<Value> {
    let options = args.get(1)?.as_object().ok()?;
    let mut wanted = Options::default();
    for (key, value) in options {
        match key.as_string().ok()?.as_ref() {
            "DNSName" => wanted.host = Some(value.as_string().ok()?.to_string()),
            "CurrentTime" => wanted.seconds = Some(value.as_i64().ok()?.div_euclid(1_000_000_000)),
            "MaxConstraintComparisons" => {
                value.as_i64().ok()?;
            }
            "KeyUsages" => {
                for usage in super::elements(value)? {
                    let usage = usage.as_string().ok()?;
                    wanted
                        .usages
                        .push(USAGES.iter().position(|(_, known)| *known == usage.as_ref())?);
                }
            }
            _ => return None,
        }
    }
    chain(text(args, 0)?, &wanted, false)
}

/// The certificates of a pair whose key belongs to its first one.
pub(super) fn pair(args: &[Value]) -> Option<Value> {
    let certificates = ders(text(args, 0)?, "CERTIFICATE")?;
    let key = keys::private(text(args, 1)?)?.into_iter().next()?;
    let leaf = certificates.first()?;
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    if let (Some(modulus), PublicKey::RSA(public)) = (key.modulus(), parsed.public_key().parsed().ok()?)
        && trimmed(public.modulus) != trimmed(modulus)
    {
        return None;
    }
    let encoded: Vec<String> = certificates.iter().map(|der| STANDARD.encode(der)).collect();
    made(&json!({
        "Certificate": encoded,
        "PrivateKey": key.json(),
        "SupportedSignatureAlgorithms": null,
        "OCSPStaple": null,
        "SignedCertificateTimestamps": null,
        "Leaf": certificate(leaf)?,
    }))
}

#[derive(Default)]
struct Options {
    host: Option<String>,
    seconds: Option<i64>,
    usages: Vec<usize>,
}

fn chain(input: &str, options: &Options, uris: bool) -> Option<Value> {
    let found = ders(input, "CERTIFICATE").and_then(|ders| verify(&ders, options, uris));
    let (valid, certificates) = found.map_or((false, Vec::new()), |found| (true, found));
    made(&json!([valid, certificates]))
}

/// The chain from the leaf to the root.
fn verify(ders: &[Vec<u8>], options: &Options, uris: bool) -> Option<Vec<Json>> {
    let mut parsed = Vec::with_capacity(ders.len());
    for der in ders {
        parsed.push(X509Certificate::from_der(der).ok()?.1);
    }
    let (root, rest) = parsed.split_first()?;
    let (leaf, intermediates) = rest.split_last()?;
    let now = match options.seconds {
        Some(seconds) => ASN1Time::from_timestamp(seconds).ok()?,
        None => ASN1Time::now(),
    };
    if options.host.as_ref().is_some_and(|host| !covers(leaf, host)) {
        return None;
    }
    let usages = if options.usages.is_empty() {
        vec![1]
    } else {
        options.usages.clone()
    };
    let mut at = leaf;
    let mut path = vec![leaf];
    loop {
        if !at.validity().is_valid_at(now) || !serves(at, &usages) || path.len() > ders.len() {
            return None;
        }
        if at.as_raw() == root.as_raw() {
            break;
        }
        let candidates = std::iter::once(root).chain(intermediates);
        let depth = path.len() - 1;
        let issuer = candidates.into_iter().find(|issuer| {
            let authority = issuer.basic_constraints().ok().flatten();
            let may = authority.is_some_and(|constraints| {
                let limit = constraints.value.path_len_constraint;
                constraints.value.ca
                    && limit.is_none_or(|limit| usize::try_from(limit).is_ok_and(|limit| depth <= limit))
            });
            let signs = issuer
                .key_usage()
                .ok()
                .is_some_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
            may && signs
                && issuer.subject().as_raw() == at.issuer().as_raw()
                && !path.iter().any(|seen| seen.as_raw() == issuer.as_raw())
                && at.verify_signature(Some(issuer.public_key())).is_ok()
        })?;
        path.push(issuer);
        at = issuer;
    }
    path.into_iter()
        .map(|one| {
            let mut json = certificate(one.as_raw())?;
            if !uris {
                json.as_object_mut()?.remove("URIStrings");
            }
            Some(json)
        })
        .collect()
}

/// Whether a certificate may be used for one of the purposes; one that names none may be used for all.
fn serves(certificate: &X509Certificate<'_>, wanted: &[usize]) -> bool {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return true;
    };
    let granted = extended(usage.value).0;
    granted.contains(&0) || wanted.contains(&0) || wanted.iter().any(|wanted| granted.contains(wanted))
}

/// Whether a certificate is for a host.
fn covers(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let host = host.trim_end_matches('.').to_lowercase();
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(pattern) => {
            let pattern = pattern.to_lowercase();
            match pattern.strip_prefix("*.") {
                Some(rest) => host
                    .split_once('.')
                    .is_some_and(|(first, behind)| !first.is_empty() && behind == rest),
                None => pattern == host,
            }
        }
        GeneralName::IPAddress(bytes) => address(bytes) == host.trim_matches(['[', ']']),
        _ => false,
    })
}

/// The DER of each block of a text: PEM, PEM in base64, or DER in base64.
fn ders(input: &str, label: &str) -> Option<Vec<Vec<u8>>> {
    let begin = "-----BEGIN";
    let decoded = if input.starts_with(begin) {
        input.as_bytes().to_vec()
    } else {
        STANDARD.decode(input.replace(['\n', '\r'], "")).ok()?
    };
    if decoded.starts_with(begin.as_bytes()) {
        let blocks = keys::pem(std::str::from_utf8(&decoded).ok()?);
        let found: Option<Vec<Vec<u8>>> = blocks.map(|(found, der)| (found == label).then_some(der)).collect();
        return found.filter(|found| !found.is_empty() && found.len() <= MAX_CERTIFICATES);
    }
    let (mut found, mut rest) = (Vec::new(), decoded.as_slice());
    while !rest.is_empty() && found.len() < MAX_CERTIFICATES {
        let length = keys::length(rest)?;
        let (one, tail) = rest.split_at_checked(length)?;
        found.push(one.to_vec());
        rest = tail;
    }
    (!found.is_empty()).then_some(found)
}
