//! Private keys as policies may look at them: `crypto.parse_private_keys` and `crypto.x509.parse_rsa_private_key`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use regorus::Value;
use serde_json::{Value as Json, json};

use super::text;

/// Longest integer that is read, in bytes: a modulus of 16384 bits.
const MAX_INTEGER: usize = 2048;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;

/// A private key.
pub(super) enum Key {
    /// The numbers of PKCS #1 behind its version: n, e, d, p, q, dp, dq, qi.
    Rsa(Vec<Vec<u8>>),
    /// Any other, of which only is told that it is there.
    Other,
}

impl Key {
    pub(super) fn modulus(&self) -> Option<&[u8]> {
        match self {
            Self::Rsa(numbers) => numbers.first().map(Vec::as_slice),
            Self::Other => None,
        }
    }

    /// The shape that Go's key has as JSON.
    pub(super) fn json(&self) -> Json {
        let Self::Rsa(numbers) = self else {
            return json!({});
        };
        let number = |index: usize| {
            numbers
                .get(index)
                .and_then(|bytes| decimal_json(bytes))
                .unwrap_or_default()
        };
        json!({
            "N": number(0), "E": number(1), "D": number(2), "Primes": [number(3), number(4)],
            "Precomputed": {"Dp": number(5), "Dq": number(6), "Qinv": number(7), "CRTValues": []},
        })
    }
}

pub(super) fn parse(args: &[Value]) -> Option<Value> {
    let input = text(args, 0)?;
    if input.is_empty() {
        return Some(Value::Null);
    }
    let keys: Vec<Json> = private(input)?.iter().map(Key::json).collect();
    Some(value(&Json::from(keys)))
}

/// The first RSA key of a text as a JSON Web Key.
pub(super) fn rsa(args: &[Value]) -> Option<Value> {
    let keys = private(text(args, 0)?)?;
    let Key::Rsa(numbers) = keys.first()? else { return None };
    let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
    let mut fields: serde_json::Map<String, Json> = names
        .iter()
        .zip(numbers)
        .map(|(name, number)| ((*name).to_owned(), URL_SAFE_NO_PAD.encode(trimmed(number)).into()))
        .collect();
    fields.insert("kty".to_owned(), "RSA".into());
    Some(value(&Json::Object(fields)))
}

/// The private keys of a text: PEM, PEM in base64, or DER in base64.
pub(super) fn private(input: &str) -> Option<Vec<Key>> {
    let plain = STANDARD.decode(input.replace(['\n', '\r'], ""));
    let decoded = plain.unwrap_or_else(|_| input.as_bytes().to_vec());
    let Some(text) = std::str::from_utf8(&decoded)
        .ok()
        .filter(|text| text.contains("-----BEGIN"))
    else {
        return Some(pkcs8(&decoded).into_iter().collect());
    };
    let mut found = Vec::new();
    for (label, der) in pem(text) {
        match label.as_str() {
            "RSA PRIVATE KEY" => found.push(pkcs1(&der)?),
            "PRIVATE KEY" => found.push(pkcs8(&der)?),
            "EC PRIVATE KEY" => {
                Reader(&der).take(SEQUENCE)?;
                found.push(Key::Other);
            }
            _ => {}
        }
    }
    Some(found)
}

fn pkcs1(der: &[u8]) -> Option<Key> {
    let mut numbers = Reader(Reader(der).take(SEQUENCE)?);
    numbers.take(INTEGER)?;
    let read: Option<Vec<Vec<u8>>> = (0..8)
        .map(|_| {
            numbers
                .take(INTEGER)
                .filter(|bytes| bytes.len() <= MAX_INTEGER)
                .map(<[u8]>::to_vec)
        })
        .collect();
    read.map(Key::Rsa)
}

fn pkcs8(der: &[u8]) -> Option<Key> {
    /// The identifier of RSA, 1.2.840.113549.1.1.1.
    const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let mut outer = Reader(Reader(der).take(SEQUENCE)?);
    outer.take(INTEGER)?;
    let algorithm = Reader(outer.take(SEQUENCE)?).take(0x06)?;
    let key = outer.take(OCTETS)?;
    if algorithm == RSA { pkcs1(key) } else { Some(Key::Other) }
}

/// Reads DER from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of an element of a kind.
    fn take(&mut self, kind: u8) -> Option<&'a [u8]> {
        if self.0.first() != Some(&kind) {
            return None;
        }
        let (whole, rest) = self.0.split_at_checked(length(self.0)?)?;
        self.0 = rest;
        whole.get(header(whole)?..)
    }
}

/// Length of the first element of DER, with its header.
pub(super) fn length(der: &[u8]) -> Option<usize> {
    let header = header(der)?;
    let content = match *der.get(1)? {
        short @ ..0x80 => usize::from(short),
        _ => der.get(2..header)?.iter().try_fold(0_usize, |sum, byte| {
            sum.checked_mul(256)?.checked_add(usize::from(*byte))
        })?,
    };
    header.checked_add(content)
}

fn header(der: &[u8]) -> Option<usize> {
    match *der.get(1)? {
        ..0x80 => Some(2),
        long => Some(2 + usize::from(long & 0x7f)).filter(|length| *length <= 6),
    }
}

/// The blocks of a PEM text: label and content. What cannot be decoded is passed over.
pub(super) fn pem(text: &str) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find("-----BEGIN ")?;
            let behind = rest.get(start + 11..)?;
            let (label, body) = behind.split_once("-----")?;
            let end = format!("-----END {label}-----");
            let (body, tail) = body.split_once(end.as_str())?;
            rest = tail;
            let plain: String = body.split_whitespace().collect();
            if let Ok(der) = STANDARD.decode(plain) {
                return Some((label.to_owned(), der));
            }
        }
    })
}

/// Begins a text that stands for a number of any length, which JSON has no place for; [`value`] makes it one.
const NUMBER: char = '\0';

/// Bytes as a number.
pub(super) fn decimal_json(bytes: &[u8]) -> Option<Json> {
    if bytes.len() > MAX_INTEGER {
        return None;
    }
    let base = Value::from(256_u64);
    let mut number = Value::from(0_u64);
    for byte in bytes {
        let digit = Value::from(u64::from(*byte));
        let shifted = number.as_number().ok()?.mul(base.as_number().ok()?).ok()?;
        number = Value::from(shifted.add(digit.as_number().ok()?).ok()?);
    }
    Some(format!("{NUMBER}{}", number.as_number().ok()?.format_decimal()).into())
}

/// A value from JSON, with its numbers.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::String(text) => match text.strip_prefix(NUMBER) {
            Some(digits) => Value::from_numeric_string(digits).unwrap_or(Value::Null),
            None => Value::from(text.as_str()),
        },
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, inner)| (Value::from(name.as_str()), value(inner)));
            Value::from(fields.collect::<BTreeMap<_, _>>())
        }
        other => Value::from(other.clone()),
    }
}

pub(super) fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
