//! `glob.match` and `glob.quote_meta` with the globs that OPA knows (gobwas/glob), and `regex.globs_match`.

use std::collections::HashSet;

use regorus::Value;

use super::{meter, regex, text};

/// Most pairs of places that are looked at when two expressions are intersected.
const MAX_PAIRS: usize = 1 << 20;

pub(super) fn is_match(args: &[Value]) -> Option<Value> {
    let (pattern, value) = (text(args, 0)?, text(args, 2)?);
    let delimiters = match args.get(1)? {
        Value::Null => String::new(),
        Value::Array(items) if items.is_empty() => ".".to_owned(),
        Value::Array(items) => {
            let mut delimiters = String::new();
            for item in items.as_ref() {
                let item = item.as_string().ok()?;
                let mut chars = item.chars();
                delimiters.push(chars.next().filter(|_| chars.next().is_none())?);
            }
            delimiters
        }
        _ => return None,
    };
    regex::matches(&translate(pattern, &delimiters)?, value).map(Value::from)
}

pub(super) fn quote_meta(args: &[Value]) -> Option<Value> {
    let mut out = String::new();
    for c in text(args, 0)?.chars() {
        if "*?\\[]{}".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    meter::charge("glob.quote_meta", out.len())?;
    Some(Value::from(out))
}

/// A glob as a regular expression; `None` when it is malformed.
fn translate(glob: &str, delimiters: &str) -> Option<String> {
    let between = match delimiters {
        "" => "(?s:.)".to_owned(),
        some => format!("[^{}]", some.chars().map(code).collect::<String>()),
    };
    let mut out = String::from(r"\A(?:");
    let mut depth = 0_usize;
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                let mut both = false;
                while chars.next_if_eq(&'*').is_some() {
                    both = true;
                }
                out.push_str(if both { "(?s:.)" } else { &between });
                out.push('*');
            }
            '?' => out.push_str(&between),
            '\\' => out.push_str(&code(chars.next()?)),
            '[' => {
                out.push('[');
                if chars.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
                let mut inner: Vec<char> = Vec::new();
                loop {
                    match chars.next()? {
                        ']' => break,
                        '\\' => inner.push(chars.next()?),
                        c => inner.push(c),
                    }
                }
                match inner.as_slice() {
                    [] => return None,
                    [low, '-', high] if low <= high => {
                        out.push_str(&format!("{}-{}", code(*low), code(*high)));
                    }
                    [_, '-', ..] => return None,
                    list => out.extend(list.iter().map(|c| code(*c))),
                }
                out.push(']');
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            other => out.push_str(&code(other)),
        }
    }
    out.push_str(r")\z");
    (depth == 0).then_some(out)
}

/// A character in a form that means nothing else.
fn code(c: char) -> String {
    if c.is_ascii_alphanumeric() {
        c.to_string()
    } else {
        format!("\\x{{{:x}}}", u32::from(c))
    }
}

/// What one place of an expression accepts, and whether it may repeat.
struct Place {
    /// Ranges of characters.
    set: Vec<(char, char)>,
    repeats: bool,
    optional: bool,
}

/// Whether some text that is not empty matches both expressions, which know characters, `.`, classes, `*` and `+`.
pub(super) fn intersect(args: &[Value]) -> Option<Value> {
    let (left, right) = (places(text(args, 0)?)?, places(text(args, 1)?)?);
    if left.len().saturating_mul(right.len()) > MAX_PAIRS {
        return meter::refuse(|| "the expressions of regex.globs_match are too long".to_owned());
    }
    // What is left of both, and whether anything was read.
    let mut seen: HashSet<(usize, usize, bool)> = HashSet::new();
    let mut open = vec![(0, 0, false)];
    while let Some((i, j, read)) = open.pop() {
        if !seen.insert((i, j, read)) {
            continue;
        }
        if i == left.len() && j == right.len() && read {
            return Some(Value::from(true));
        }
        let (l, r) = (left.get(i), right.get(j));
        if l.is_some_and(|place| place.optional) {
            open.push((i + 1, j, read));
        }
        if r.is_some_and(|place| place.optional) {
            open.push((i, j + 1, read));
        }
        let (Some(l), Some(r)) = (l, r) else { continue };
        let meet = |(low, high): &(char, char)| r.set.iter().any(|(other, last)| low <= last && other <= high);
        if !l.set.iter().any(meet) {
            continue;
        }
        for next_i in steps(i, l) {
            for next_j in steps(j, r) {
                open.push((next_i, next_j, true));
            }
        }
    }
    Some(Value::from(false))
}

/// Where one may be after a character was read at a place.
fn steps(at: usize, place: &Place) -> Vec<usize> {
    if place.repeats { vec![at, at + 1] } else { vec![at + 1] }
}

fn places(expression: &str) -> Option<Vec<Place>> {
    let mut found: Vec<Place> = Vec::new();
    let mut chars = expression.chars().peekable();
    while let Some(c) = chars.next() {
        let set = match c {
            '*' | '+' => {
                let last = found.last_mut().filter(|last| !last.repeats)?;
                last.repeats = true;
                last.optional = c == '*';
                continue;
            }
            '.' => vec![('\0', char::MAX)],
            '[' => {
                let mut set = Vec::new();
                loop {
                    let low = match chars.next()? {
                        ']' => break,
                        '\\' => chars.next()?,
                        '-' | '[' => return None,
                        c => c,
                    };
                    let mut high = low;
                    if chars.next_if_eq(&'-').is_some() {
                        high = match chars.next()? {
                            ']' | '-' | '[' => return None,
                            '\\' => chars.next()?,
                            c => c,
                        };
                    }
                    if high < low {
                        return None;
                    }
                    set.push((low, high));
                }
                set
            }
            ']' => return None,
            '\\' => {
                let c = chars.next()?;
                vec![(c, c)]
            }
            c => vec![(c, c)],
        };
        found.push(Place {
            set,
            repeats: false,
            optional: false,
        });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_what_they_mean_in_opa() {
        for (glob, delimiters, value, expect) in [
            ("*.example.com", ".", "api.example.com", Some(true)),
            ("*.example.com", ".", "a.b.example.com", Some(false)),
            ("**.example.com", ".", "a.b.example.com", Some(true)),
            ("*", "", "a.b", Some(true)),
            ("[!a]", ".", ".", Some(true)),
            ("[a-z][0-9]", "", "b7", Some(true)),
            ("[a-z0-9]", "", "b", None),
            ("{a,b*}c", "", "bxc", Some(true)),
            ("\\*", "", "*", Some(true)),
            ("a,b", "", "a,b", Some(true)),
            ("a}", "", "a}", Some(true)),
            ("{a", "", "a", None),
            ("?at", "", "cat", Some(true)),
        ] {
            let found = translate(glob, delimiters).map(|pattern| regex::matches(&pattern, value).unwrap());
            assert_eq!(found, expect, "{glob} on {value}");
        }
    }
}
