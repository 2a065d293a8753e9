//! Version ranges in the notation that Flux's users write: that of the Go library Masterminds/semver.
//!
//! `||` separates alternatives; within one, conditions are joined by commas or spaces. A condition is an operator
//! (`= != > < >= => <= =< ~ ~> ^`, none meaning `=`) and a version whose parts may be missing or wildcards (`x`, `X`,
//! `*`); `A - B` is a range with both ends. A prerelease is only matched by an alternative that names one. Build
//! metadata never counts.

use std::cmp::Ordering;
use std::fmt;

use semver::{BuildMetadata, Prerelease, Version};

/// Longest range that is read: far above what anybody writes, and it bounds the work of parsing.
const MAX_LENGTH: usize = 1024;

/// A range that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{range:?} is not a version range: {reason}")]
pub struct RangeError {
    /// The whole range as it was given.
    pub range: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A set of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    text: String,
    alternatives: Vec<Vec<Condition>>,
}

impl Range {
    /// Reads a range.
    ///
    /// # Errors
    /// When it has not the form described above.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let fail = |reason: String| RangeError {
            range: text.chars().take(MAX_LENGTH).collect(),
            reason,
        };
        if text.len() > MAX_LENGTH {
            return Err(fail(format!("it is longer than {MAX_LENGTH} bytes")));
        }
        let alternatives = text.split("||").map(parse_alternative);
        Ok(Self {
            text: text.to_owned(),
            alternatives: alternatives.collect::<Result<_, _>>().map_err(fail)?,
        })
    }

    /// Whether a version is in the range.
    #[must_use]
    pub fn matches(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|conditions| {
            let prereleases = conditions.iter().any(|c| !c.base.pre.is_empty());
            (version.pre.is_empty() || prereleases) && conditions.iter().all(|c| c.holds(version))
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads a version as it stands in a tag: complete (`1.2.3`), with or without a leading `v`.
#[must_use]
pub fn parse_tag(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// How many parts of a version are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Any,
    Major,
    Minor,
    Patch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Tilde,
    Caret,
}

/// Longest first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    /// Missing parts are zero.
    base: Version,
    precision: Precision,
}

impl Condition {
    /// Whether the condition holds, prereleases aside: those are decided per alternative.
    fn holds(&self, version: &Version) -> bool {
        let order = version.cmp_precedence(&self.base);
        match self.operator {
            Operator::Equal if self.precision == Precision::Patch => order == Ordering::Equal,
            Operator::Equal => self.within_tilde(version),
            Operator::NotEqual if self.precision == Precision::Patch => order != Ordering::Equal,
            Operator::NotEqual => !self.same_parts(version),
            Operator::Greater if matches!(self.precision, Precision::Patch | Precision::Any) => {
                order == Ordering::Greater
            }
            // `>11` leaves out all of 11, so 11.1.0 does not match.
            Operator::Greater => order == Ordering::Greater && !self.same_parts(version),
            Operator::Less => order == Ordering::Less,
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater || self.is_partial() && self.same_parts(version),
            Operator::Tilde => self.within_tilde(version),
            Operator::Caret => order != Ordering::Less && self.within_caret(version),
        }
    }

    fn is_partial(&self) -> bool {
        self.precision != Precision::Patch
    }

    /// Whether the given parts are the same.
    fn same_parts(&self, version: &Version) -> bool {
        let parts = |v: &Version| match self.precision {
            Precision::Any => (0, 0, 0),
            Precision::Major => (v.major, 0, 0),
            Precision::Minor => (v.major, v.minor, 0),
            Precision::Patch => (v.major, v.minor, v.patch),
        };
        parts(version) == parts(&self.base)
    }

    /// `~1.2.3` and `~1.2` stay within 1.2, `~1` within 1. `~0.0.0` is everything, a rule of the Go library.
    fn within_tilde(&self, version: &Version) -> bool {
        if version.cmp_precedence(&self.base) == Ordering::Less {
            return false;
        }
        let zero = (self.base.major, self.base.minor, self.base.patch) == (0, 0, 0);
        match self.precision {
            Precision::Any => true,
            Precision::Patch if zero => true,
            Precision::Major => version.major == self.base.major,
            Precision::Minor | Precision::Patch => (version.major, version.minor) == (self.base.major, self.base.minor),
        }
    }

    /// The leftmost part that is not zero stays as it is.
    fn within_caret(&self, version: &Version) -> bool {
        let base = &self.base;
        match self.precision {
            Precision::Any => true,
            Precision::Major => version.major == base.major,
            _ if base.major > 0 => version.major == base.major,
            Precision::Patch if base.minor == 0 => (version.major, version.minor, version.patch) == (0, 0, base.patch),
            Precision::Minor | Precision::Patch => (version.major, version.minor) == (0, base.minor),
        }
    }
}

fn parse_alternative(text: &str) -> Result<Vec<Condition>, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Ok(vec![any()]);
    }
    let mut conditions = Vec::new();
    while !rest.is_empty() {
        let (operator, after) = split_operator(rest);
        let (token, tail) = split_version(after.trim_start());
        let mut condition = parse_condition(operator.unwrap_or(Operator::Equal), token)?;
        let (hyphen, tail) = split_hyphen(tail);
        rest = tail;
        if hyphen {
            if operator.is_some() {
                return Err(format!("a range \"{token} - …\" takes no operator"));
            }
            let (token, tail) = split_version(tail);
            condition.operator = Operator::GreaterOrEqual;
            conditions.push(condition);
            condition = parse_condition(Operator::LessOrEqual, token)?;
            rest = tail;
        }
        conditions.push(condition);
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
            if rest.is_empty() {
                return Err("it ends with a comma".to_owned());
            }
        }
    }
    Ok(conditions)
}

fn any() -> Condition {
    Condition {
        operator: Operator::Equal,
        base: Version::new(0, 0, 0),
        precision: Precision::Any,
    }
}

fn split_operator(text: &str) -> (Option<Operator>, &str) {
    let found = OPERATORS.iter().find_map(|(sign, operator)| {
        let rest = text.strip_prefix(sign)?;
        Some((Some(*operator), rest))
    });
    found.unwrap_or((None, text))
}

fn split_version(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || ",<>=!~^".contains(c));
    text.split_at(end.unwrap_or(text.len()))
}

/// Takes ` - ` off; the hyphen of a range has white space on both sides.
fn split_hyphen(text: &str) -> (bool, &str) {
    let after = text.trim_start().strip_prefix('-');
    match after {
        Some(after) if text.starts_with(char::is_whitespace) && after.starts_with(char::is_whitespace) => {
            (true, after.trim_start())
        }
        _ => (false, text),
    }
}

fn parse_condition(operator: Operator, token: &str) -> Result<Condition, String> {
    let bad = || match token {
        "" => "an operator is not followed by a version".to_owned(),
        _ => format!("{token:?} is not a version"),
    };
    let text = token.strip_prefix('v').unwrap_or(token);
    let (text, build) = cut(text, '+');
    let (numbers, pre) = cut(text, '-');
    if pre == Some("") || build == Some("") {
        return Err(bad());
    }
    BuildMetadata::new(build.unwrap_or_default()).map_err(|_| bad())?;
    let pre = Prerelease::new(pre.unwrap_or_default()).map_err(|_| bad())?;
    let mut parts = Vec::new();
    let mut wild = false;
    for part in numbers.split('.') {
        if matches!(part, "x" | "X" | "*") {
            wild = true;
        } else if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        } else if !wild {
            parts.push(part.parse::<u64>().map_err(|_| bad())?);
        }
    }
    if numbers.split('.').count() > 3 {
        return Err(bad());
    }
    let (precision, base) = match *parts.as_slice() {
        [] => (Precision::Any, Version::new(0, 0, 0)),
        [major] => (Precision::Major, Version::new(major, 0, 0)),
        [major, minor] => (Precision::Minor, Version::new(major, minor, 0)),
        [major, minor, patch, ..] => (Precision::Patch, Version::new(major, minor, patch)),
    };
    Ok(Condition {
        operator,
        base: Version { pre, ..base },
        precision,
    })
}

fn cut(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests;
