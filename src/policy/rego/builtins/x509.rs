//! `crypto.x509.*`: what certificates and requests say, in the shape that Go's `crypto/x509` has as JSON.
//!
//! Of a certificate everything is told that Go tells, except for what nobody decides by: `ExtraNames`, `PolicyMappings`,
//! constraints on names, and the numbers inside public keys other than RSA's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regorus::Value;
use serde_json::{Value as Json, json};
use x509_parser::asn1_rs::Oid;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

use super::keys::trimmed;
use super::{keys, meter, text};

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

fn certificate(der: &[u8]) -> Option<Json> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let time = |time: ASN1Time| rfc3339(time.timestamp());
    let encode = |bytes: &[u8]| STANDARD.encode(bytes);
    let mut fields = json!({
        "Raw": encode(der),
        "RawTBSCertificate": encode(parsed.tbs_certificate.as_ref()),
        "RawSubjectPublicKeyInfo": encode(parsed.public_key().raw),
        "RawSubject": encode(parsed.subject().as_raw()),
        "RawIssuer": encode(parsed.issuer().as_raw()),
        "Signature": encode(&parsed.signature_value.data),
        "SignatureAlgorithm": signature_algorithm(&parsed.signature_algorithm.algorithm),
        "PublicKeyAlgorithm": key_algorithm(&parsed.public_key().algorithm.algorithm),
        "PublicKey": public_key(&parsed.public_key().parsed().ok()?),
        "Version": parsed.version().0 + 1,
        "Issuer": name(parsed.issuer()),
        "Subject": name(parsed.subject()),
        "NotBefore": time(parsed.validity().not_before)?,
        "NotAfter": time(parsed.validity().not_after)?,
        "KeyUsage": 0, "ExtKeyUsage": null, "UnknownExtKeyUsage": null,
        "BasicConstraintsValid": false, "IsCA": false, "MaxPathLen": 0, "MaxPathLenZero": false,
        "SubjectKeyId": null, "AuthorityKeyId": null, "OCSPServer": null, "IssuingCertificateURL": null,
        "CRLDistributionPoints": null, "PolicyIdentifiers": null, "Policies": null,
        "UnhandledCriticalExtensions": null, "ExtraExtensions": null,
    });
    let map = fields.as_object_mut()?;
    // As a number, however long it is.
    map.insert("SerialNumber".to_owned(), keys::decimal_json(parsed.raw_serial())?);
    let extensions: Vec<Json> = parsed
        .extensions()
        .iter()
        .map(|one| json!({"Id": numbers(&one.oid), "Critical": one.critical, "Value": encode(one.value)}))
        .collect();
    map.insert("Extensions".to_owned(), extensions.into());
    let known: Vec<&ParsedExtension<'_>> = parsed.extensions().iter().map(|one| one.parsed_extension()).collect();
    for extension in &known {
        one_extension(extension, map);
    }
    names(&known, &mut fields);
    Some(fields)
}

fn one_extension(extension: &ParsedExtension<'_>, map: &mut serde_json::Map<String, Json>) {
    let mut set = |key: &str, value: Json| map.insert(key.to_owned(), value);
    match extension {
        ParsedExtension::KeyUsage(usage) => {
            set("KeyUsage", usage.flags.into());
        }
        ParsedExtension::BasicConstraints(constraints) => {
            set("BasicConstraintsValid", true.into());
            set("IsCA", constraints.ca.into());
            let length = constraints.path_len_constraint;
            set("MaxPathLen", length.map_or(json!(-1), Json::from));
            set("MaxPathLenZero", (length == Some(0)).into());
        }
        ParsedExtension::SubjectKeyIdentifier(id) => {
            set("SubjectKeyId", STANDARD.encode(id.0).into());
        }
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            if let Some(id) = &id.key_identifier {
                set("AuthorityKeyId", STANDARD.encode(id.0).into());
            }
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let (known, unknown) = extended(usage);
            set("ExtKeyUsage", known.into());
            if !unknown.is_empty() {
                set("UnknownExtKeyUsage", unknown.into());
            }
        }
        ParsedExtension::CertificatePolicies(policies) => {
            let ids: Vec<Json> = policies.iter().map(|policy| numbers(&policy.policy_id)).collect();
            set("PolicyIdentifiers", ids.into());
            let texts: Vec<Json> = policies
                .iter()
                .map(|policy| policy.policy_id.to_id_string().into())
                .collect();
            set("Policies", texts.into());
        }
        ParsedExtension::AuthorityInfoAccess(access) => {
            let uris = |method: &str| {
                let of_method = access
                    .accessdescs
                    .iter()
                    .filter(|one| one.access_method.to_id_string() == method);
                let uris = of_method.filter_map(|one| match &one.access_location {
                    GeneralName::URI(uri) => Some(Json::from(*uri)),
                    _ => None,
                });
                let uris: Vec<Json> = uris.collect();
                if uris.is_empty() { Json::Null } else { uris.into() }
            };
            let (ocsp, issuers) = (uris("1.3.6.1.5.5.7.48.1"), uris("1.3.6.1.5.5.7.48.2"));
            set("OCSPServer", ocsp);
            set("IssuingCertificateURL", issuers);
        }
        ParsedExtension::CRLDistributionPoints(points) => {
            let uris = points.iter().flat_map(|point| match &point.distribution_point {
                Some(DistributionPointName::FullName(names)) => names.as_slice(),
                _ => &[],
            });
            let uris = uris.filter_map(|name| match name {
                GeneralName::URI(uri) => Some(Json::from(*uri)),
                _ => None,
            });
            set("CRLDistributionPoints", uris.collect::<Vec<_>>().into());
        }
        _ => {}
    }
}

/// The alternative names, sorted by their kind; a kind without names is null.
fn names(extensions: &[&ParsedExtension<'_>], fields: &mut Json) {
    let (mut dns, mut mail, mut addresses, mut uris) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for extension in extensions {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push(Json::from(*name)),
                GeneralName::RFC822Name(name) => mail.push(Json::from(*name)),
                GeneralName::IPAddress(bytes) => addresses.push(Json::from(address(bytes))),
                GeneralName::URI(uri) => uris.push(Json::from(*uri)),
                _ => {}
            }
        }
    }
    let or_null = |list: Vec<Json>| if list.is_empty() { Json::Null } else { list.into() };
    if let Some(map) = fields.as_object_mut() {
        map.insert("DNSNames".to_owned(), or_null(dns));
        map.insert("EmailAddresses".to_owned(), or_null(mail));
        map.insert("IPAddresses".to_owned(), or_null(addresses));
        map.insert("URIStrings".to_owned(), or_null(uris));
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(short) = <[u8; 4]>::try_from(bytes) {
        return core::net::Ipv4Addr::from(short).to_string();
    }
    <[u8; 16]>::try_from(bytes).map_or_else(|_| String::new(), |long| core::net::Ipv6Addr::from(long).to_string())
}

/// A distinguished name as Go's `pkix.Name`.
fn name(name: &X509Name<'_>) -> Json {
    const FIELDS: [(&str, &str); 7] = [
        ("2.5.4.6", "Country"),
        ("2.5.4.10", "Organization"),
        ("2.5.4.11", "OrganizationalUnit"),
        ("2.5.4.7", "Locality"),
        ("2.5.4.8", "Province"),
        ("2.5.4.9", "StreetAddress"),
        ("2.5.4.17", "PostalCode"),
    ];
    let mut fields = json!({"SerialNumber": "", "CommonName": "", "ExtraNames": null});
    let mut all = Vec::new();
    let Some(map) = fields.as_object_mut() else {
        return Json::Null;
    };
    for (_, field) in FIELDS {
        map.insert(field.to_owned(), Json::Null);
    }
    for attribute in name.iter_attributes() {
        let (id, value) = (attribute.attr_type(), attribute.as_str().unwrap_or_default());
        all.push(json!({"Type": numbers(id), "Value": value}));
        match id.to_id_string().as_str() {
            "2.5.4.3" => {
                map.insert("CommonName".to_owned(), value.into());
            }
            "2.5.4.5" => {
                map.insert("SerialNumber".to_owned(), value.into());
            }
            other => {
                let field = FIELDS.iter().find(|(id, _)| *id == other);
                let list = field.and_then(|(_, field)| map.get_mut(*field));
                match list {
                    Some(Json::Array(list)) => list.push(value.into()),
                    Some(empty) => *empty = json!([value]),
                    None => {}
                }
            }
        }
    }
    let all = if all.is_empty() { Json::Null } else { all.into() };
    map.insert("Names".to_owned(), all);
    fields
}

fn public_key(key: &PublicKey<'_>) -> Json {
    match key {
        PublicKey::RSA(rsa) => {
            let exponent = rsa.try_exponent().unwrap_or_default();
            keys::decimal_json(rsa.modulus).map_or(Json::Null, |modulus| json!({"N": modulus, "E": exponent}))
        }
        _ => json!({}),
    }
}

/// The numbers of an identifier.
fn numbers(id: &Oid<'_>) -> Json {
    let parts: Vec<u64> = id.iter().into_iter().flatten().collect();
    parts.into()
}

/// Purposes in the order of Go's constants.
const USAGES: [(&str, &str); 14] = [
    ("2.5.29.37.0", "KeyUsageAny"),
    ("1.3.6.1.5.5.7.3.1", "KeyUsageServerAuth"),
    ("1.3.6.1.5.5.7.3.2", "KeyUsageClientAuth"),
    ("1.3.6.1.5.5.7.3.3", "KeyUsageCodeSigning"),
    ("1.3.6.1.5.5.7.3.4", "KeyUsageEmailProtection"),
    ("1.3.6.1.5.5.7.3.5", "KeyUsageIPSECEndSystem"),
    ("1.3.6.1.5.5.7.3.6", "KeyUsageIPSECTunnel"),
    ("1.3.6.1.5.5.7.3.7", "KeyUsageIPSECUser"),
    ("1.3.6.1.5.5.7.3.8", "KeyUsageTimeStamping"),
    ("1.3.6.1.5.5.7.3.9", "KeyUsageOCSPSigning"),
    ("1.3.6.1.4.1.311.10.3.3", "KeyUsageMicrosoftServerGatedCrypto"),
    ("2.16.840.1.113730.4.1", "KeyUsageNetscapeServerGatedCrypto"),
    ("1.3.6.1.4.1.311.2.1.22", "KeyUsageMicrosoftCommercialCodeSigning"),
    ("1.3.6.1.4.1.311.61.1.1", "KeyUsageMicrosoftKernelCodeSigning"),
];

/// The purposes that Go knows, by number, and the others.
fn extended(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> (Vec<usize>, Vec<Json>) {
    let flags = [
        usage.any,
        usage.server_auth,
        usage.client_auth,
        usage.code_signing,
        usage.email_protection,
        false,
        false,
        false,
        usage.time_stamping,
        usage.ocsp_signing,
    ];
    let mut known: Vec<usize> = flags
        .iter()
        .enumerate()
        .filter(|(_, set)| **set)
        .map(|(index, _)| index)
        .collect();
    let mut unknown = Vec::new();
    for id in &usage.other {
        match USAGES.iter().position(|(known, _)| *known == id.to_id_string()) {
            Some(index) => known.push(index),
            None => unknown.push(numbers(id)),
        }
    }
    (known, unknown)
}

/// Go's number of an algorithm of signatures.
fn signature_algorithm(id: &Oid<'_>) -> u32 {
    match id.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" => 2,
        "1.2.840.113549.1.1.5" => 3,
        "1.2.840.113549.1.1.11" => 4,
        "1.2.840.113549.1.1.12" => 5,
        "1.2.840.113549.1.1.13" => 6,
        "1.2.840.10045.4.1" => 9,
        "1.2.840.10045.4.3.2" => 10,
        "1.2.840.10045.4.3.3" => 11,
        "1.2.840.10045.4.3.4" => 12,
        "1.3.101.112" => 16,
        _ => 0,
    }
}

/// Go's number of an algorithm of keys.
fn key_algorithm(id: &Oid<'_>) -> u32 {
    match id.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => 1,
        "1.2.840.10045.2.1" => 3,
        "1.3.101.112" => 4,
        _ => 0,
    }
}

fn rfc3339(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// A value from JSON, counted.
fn made(json: &Json) -> Option<Value> {
    meter::charge("crypto.x509", json.to_string().len())?;
    Some(keys::value(json))
}
