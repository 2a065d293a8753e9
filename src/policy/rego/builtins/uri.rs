//! `uri.parse` and `uri.is_valid` as Go's `net/url` reads references.

use std::collections::BTreeMap;

use regorus::Value;

use super::text;

/// The parts of a reference; empty ones are absent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    scheme: String,
    hostname: String,
    port: String,
    path: String,
    raw_path: String,
    raw_query: String,
    fragment: String,
}

pub(super) fn is_valid(args: &[Value]) -> Option<Value> {
    let valid = text(args, 0).is_some_and(|text| !text.is_empty() && parse(text).is_some());
    Some(Value::from(valid))
}

pub(super) fn parts(args: &[Value]) -> Option<Value> {
    let parts = parse(text(args, 0)?)?;
    let fields = [
        ("scheme", parts.scheme),
        ("hostname", parts.hostname),
        ("port", parts.port),
        ("path", parts.path),
        ("raw_path", parts.raw_path),
        ("raw_query", parts.raw_query),
        ("fragment", parts.fragment),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let fields: BTreeMap<Value, Value> = fields
        .map(|(name, value)| (Value::from(name), Value::from(value)))
        .collect();
    Some(Value::from(fields))
}

fn parse(text: &str) -> Option<Parts> {
    let mut parts = Parts::default();
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    parts.fragment = unescape(fragment, Where::Fragment)?;
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return None;
    }
    let rest = match scheme(text)? {
        Some((scheme, rest)) => {
            parts.scheme = scheme.to_ascii_lowercase();
            rest
        }
        None => text,
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    parts.raw_query = query.to_owned();
    if !rest.starts_with('/') {
        // An opaque reference has no path that could be spoken of.
        if !parts.scheme.is_empty() {
            return Some(parts);
        }
        // A colon in the first segment would be a scheme.
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return None;
        }
    }
    let mut path = rest;
    if let Some(behind) = rest
        .strip_prefix("//")
        .filter(|_| !parts.scheme.is_empty() || !rest.starts_with("///"))
    {
        let end = behind.find('/').unwrap_or(behind.len());
        let (authority, behind) = behind.split_at(end);
        path = behind;
        (parts.hostname, parts.port) = host(authority)?;
    }
    parts.path = unescape(path, Where::Path)?;
    if !parts.path.is_empty() {
        parts.raw_path = path.to_owned();
        // Go keeps the raw form only where it is not the usual escaping of the path.
        if escape_path(&parts.path) == path {
            parts.raw_path.clone_from(&parts.path);
        }
    }
    Some(parts)
}

/// The scheme and what follows; the inner `None` is no scheme, the outer one an error.
fn scheme(text: &str) -> Option<Option<(&str, &str)>> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return None,
            ':' => return Some(Some((text.get(..at)?, text.get(at + 1..)?))),
            _ => return Some(None),
        }
    }
    Some(None)
}

/// Name and port of `user@name:port`.
fn host(authority: &str) -> Option<(String, String)> {
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(allowed) {
                return None;
            }
            unescape(user, Where::User)?;
            host
        }
        None => authority,
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(inner) = host.strip_prefix('[') {
        let (address, behind) = inner.rsplit_once(']')?;
        let port = match behind.strip_prefix(':') {
            Some(port) => port,
            None if behind.is_empty() => "",
            None => return None,
        };
        let address = unescape(address, Where::Host)?;
        let plain = address.split('%').next().unwrap_or_default();
        plain.parse::<core::net::Ipv6Addr>().ok()?;
        return digits(port).then(|| (address, port.to_owned()));
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((_, port)) if !digits(port) => return None,
        Some((name, port)) => (name, port),
        None => (host, ""),
    };
    if name.contains([' ', '[', ']']) {
        return None;
    }
    Some((unescape(name, Where::Host)?, port.to_owned()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Path,
    Host,
    User,
    Fragment,
}

fn unescape(text: &str, place: Where) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let code = u8::try_from(digit()? * 16 + digit()?).ok()?;
            // A host is escaped only beyond ASCII.
            if place == Where::Host && code < 0x80 && !matches!(code, b'%' | b' ' | b'"' | b'<' | b'>') {
                return None;
            }
            bytes.push(code);
        } else {
            let forbidden = byte < 0x80 && !byte.is_ascii_alphanumeric() && !b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte);
            if place == Where::Host && forbidden {
                return None;
            }
            bytes.push(byte);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A path as Go escapes it.
fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
