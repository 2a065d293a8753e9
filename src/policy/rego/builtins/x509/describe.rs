//! What certificates, names and keys say, as JSON in Go's shape.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regorus::Value;
use serde_json::{Value as Json, json};
use x509_parser::asn1_rs::Oid;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

use super::super::{keys, meter};

pub(super) fn certificate(der: &[u8]) -> Option<Json> {
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
pub(super) fn names(extensions: &[&ParsedExtension<'_>], fields: &mut Json) {
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

pub(super) fn address(bytes: &[u8]) -> String {
    if let Ok(short) = <[u8; 4]>::try_from(bytes) {
        return core::net::Ipv4Addr::from(short).to_string();
    }
    <[u8; 16]>::try_from(bytes).map_or_else(|_| String::new(), |long| core::net::Ipv6Addr::from(long).to_string())
}

/// A distinguished name as Go's `pkix.Name`.
pub(super) fn name(name: &X509Name<'_>) -> Json {
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

pub(super) fn public_key(key: &PublicKey<'_>) -> Json {
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
pub(super) const USAGES: [(&str, &str); 14] = [
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
pub(super) fn extended(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> (Vec<usize>, Vec<Json>) {
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
pub(super) fn signature_algorithm(id: &Oid<'_>) -> u32 {
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
pub(super) fn key_algorithm(id: &Oid<'_>) -> u32 {
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
pub(super) fn made(json: &Json) -> Option<Value> {
    meter::charge("crypto.x509", json.to_string().len())?;
    Some(keys::value(json))
}
