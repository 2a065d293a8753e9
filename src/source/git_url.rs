//! Addresses of Git repositories: what is usable, and how they are shown. Pure.

use hyper::Uri;

/// Longest address that is shown.
const MAX_SHOWN: usize = 300;

/// What Git is spoken over.
const SCHEMES: [&str; 3] = ["https", "http", "ssh"];

/// A URL without user, password and query, for people to read.
#[must_use]
pub fn redact(url: &str) -> String {
    let shown = match user_info(url) {
        Some((info, _)) => url.replacen(&format!("{info}@"), "", 1),
        None => url.to_owned(),
    };
    let shown = shown.split(['?', '#']).next().unwrap_or_default();
    shown.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// What stands between `://` and `@`, and what comes after.
pub(super) fn user_info(url: &str) -> Option<(&str, &str)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (info, _) = authority.rsplit_once('@')?;
    Some((info, rest.get(info.len() + 1..)?))
}

/// Reads `spec.url`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(url: &str) -> Result<Uri, &'static str> {
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it holds white space or control characters");
    }
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !scheme.is_some_and(|scheme| SCHEMES.contains(&scheme.as_str())) {
        return Err("only https, http and ssh are supported");
    }
    let plain: String = url.split('#').next().unwrap_or_default().to_owned();
    match plain.parse::<Uri>() {
        Ok(parsed) if parsed.host().is_some_and(|host| !host.is_empty()) => Ok(parsed),
        Ok(_) => Err("it names no host"),
        Err(_) => Err("it is no URL with a host and a path"),
    }
}

/// A part of a URL with `%20` and its like resolved.
pub(super) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_user_and_query() {
        let check = |url: &str, expect: &str| assert_eq!(redact(url), expect);
        check("https://a:b@h/p", "https://h/p");
        check("https://a@b:c@h:1/p@x", "https://h:1/p@x");
        check("https://h/p?access_token=x#y", "https://h/p");
        check("http://h", "http://h");
        check("nonsense", "nonsense");
    }

    #[test]
    fn only_addresses_of_servers_are_usable() {
        for good in [
            "https://h/a",
            "HTTP://h:1/a",
            "ssh://git@h:22/~a/b",
            "http://[::1]:80/a",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "file:///etc",
            "/etc",
            "http://",
            "http:///x",
            "https://h/a b",
            "git@h:a",
            "git://h/a",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percent_signs_are_resolved_where_they_mean_something() {
        assert_eq!(percent_decoded("a%20b%2Fc%zz%"), "a b/c%zz%");
    }
}
