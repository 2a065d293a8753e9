//! `regex.*` and `re_match`, with RE2's dialect and one table of compiled expressions for all threads.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use regex::{Regex, RegexBuilder};
use regorus::Value;

use super::re2::{self, Refusal};
use super::{array, integer, meter, text};

/// Most compiled expressions that are kept; one takes some tens of kilobytes. Meeting it empties the table: a policy that
/// makes new expressions for every object has no use for old ones.
const MAX_KEPT: usize = 1024;
/// Largest compiled expression; the translation refuses larger ones first, but for large classes of Unicode.
const MAX_BYTES: usize = 16 << 20;
/// Most steps of a match in the worst case: instructions times bytes of text. About two seconds of the slowest engine; the
/// usual one needs a hundredth of it.
const MAX_STEPS: u64 = 1 << 30;

/// A compiled expression.
struct Compiled {
    regex: Regex,
    size: u64,
}

/// The compiled expressions; `None` for what does not compile.
static TABLE: LazyLock<RwLock<HashMap<String, Option<Arc<Compiled>>>>> = LazyLock::new(RwLock::default);

pub(super) fn is_valid(args: &[Value]) -> Option<Value> {
    let Some(pattern) = text(args, 0) else {
        return Some(Value::from(false));
    };
    let valid = compiled(pattern, 0).is_some();
    Some(Value::from(valid))
}

pub(super) fn is_match(args: &[Value]) -> Option<Value> {
    let value = text(args, 1)?;
    Some(Value::from(
        compiled(text(args, 0)?, value.len())?.regex.is_match(value),
    ))
}

/// Whether an expression that somebody else made matches.
pub(super) fn matches(pattern: &str, value: &str) -> Option<bool> {
    Some(compiled(pattern, value.len())?.regex.is_match(value))
}

pub(super) fn find_n(args: &[Value]) -> Option<Value> {
    let (value, most) = (text(args, 1)?, most(args, 2)?);
    let compiled = compiled(text(args, 0)?, value.len())?;
    let found = compiled.regex.find_iter(value).take(most);
    array("regex.find_n", found.map(|found| Value::from(found.as_str())))
}

pub(super) fn find_all_submatches(args: &[Value]) -> Option<Value> {
    let name = "regex.find_all_string_submatch_n";
    let (value, most) = (text(args, 1)?, most(args, 2)?);
    let compiled = compiled(text(args, 0)?, value.len())?;
    let found = compiled.regex.captures_iter(value).take(most);
    let groups = found.map(|found| {
        let groups = found
            .iter()
            .map(|group| Value::from(group.map_or("", |group| group.as_str())));
        array(name, groups)
    });
    array(name, groups.collect::<Option<Vec<_>>>()?.into_iter())
}

pub(super) fn replace(args: &[Value]) -> Option<Value> {
    let (value, with) = (text(args, 0)?, text(args, 2)?);
    let compiled = compiled(text(args, 1)?, value.len())?;
    let mut out = String::new();
    let mut end = 0;
    for found in compiled.regex.captures_iter(value) {
        let whole = found.get(0)?;
        let before = out.len();
        out.push_str(value.get(end..whole.start())?);
        found.expand(with, &mut out);
        meter::charge("regex.replace", out.len() - before)?;
        end = whole.end();
    }
    out.push_str(value.get(end..)?);
    Some(Value::from(out))
}

/// As Go splits: an empty match at the very end makes no part.
pub(super) fn split(args: &[Value]) -> Option<Value> {
    let (pattern, value) = (text(args, 0)?, text(args, 1)?);
    let compiled = compiled(pattern, value.len())?;
    if !pattern.is_empty() && value.is_empty() {
        return array("regex.split", std::iter::once(Value::from("")));
    }
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in compiled.regex.find_iter(value) {
        end = found.start();
        if found.end() != 0 {
            parts.push(Value::from(value.get(begin..end)?));
        }
        begin = found.end();
    }
    if end != value.len() {
        parts.push(Value::from(value.get(begin..)?));
    }
    array("regex.split", parts.into_iter())
}

/// A template of literal text and expressions between delimiters of one byte each.
pub(super) fn template_match(args: &[Value]) -> Option<Value> {
    let (template, value) = (text(args, 0)?, text(args, 1)?);
    let delimiter = |index| match text(args, index)?.as_bytes() {
        [one] => Some(char::from(*one)),
        _ => None,
    };
    let (open, close) = (delimiter(2)?, delimiter(3)?);
    let (mut pattern, mut level, mut from) = (String::from("^"), 0_usize, 0);
    for (at, c) in template.char_indices() {
        if c == open {
            level += 1;
            if level == 1 {
                pattern.push_str(&regex::escape(template.get(from..at)?));
                from = at + 1;
            }
        } else if c == close {
            level = level.checked_sub(1)?;
            if level == 0 {
                let inner = template.get(from..at)?;
                compiled(inner, 0)?;
                pattern.push_str(&format!("({inner})"));
                from = at + 1;
            }
        }
    }
    if level != 0 {
        return None;
    }
    pattern.push_str(&regex::escape(template.get(from..)?));
    pattern.push('$');
    Some(Value::from(compiled(&pattern, value.len())?.regex.is_match(value)))
}

/// How many matches are wanted; a negative number is all.
fn most(args: &[Value], index: usize) -> Option<usize> {
    Some(usize::try_from(integer(args, index)?).unwrap_or(usize::MAX))
}

/// The compiled form of an expression, for a text of so many bytes.
fn compiled(pattern: &str, length: usize) -> Option<Arc<Compiled>> {
    let known = {
        let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
        table.get(pattern).cloned()
    };
    let found = match known {
        Some(known) => known,
        None => {
            let made = compile(pattern)?;
            let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= MAX_KEPT {
                table.clear();
            }
            table.insert(pattern.to_owned(), made.clone());
            made
        }
    }?;
    let steps = found.size.saturating_mul(u64::try_from(length).unwrap_or(u64::MAX));
    if steps > MAX_STEPS {
        return meter::refuse(|| {
            format!(
                "the regular expression {} is too large for a text of {length} bytes",
                shown(pattern)
            )
        });
    }
    Some(found)
}

/// Compiles; the inner `None` is an expression that Go refuses too, the outer one a breach.
fn compile(pattern: &str) -> Option<Option<Arc<Compiled>>> {
    let too_large = || format!("the regular expression {} is too large", shown(pattern));
    let translated = match re2::translate(pattern) {
        Ok(translated) => translated,
        Err(Refusal::Invalid) => return Some(None),
        Err(Refusal::TooLarge) => return meter::refuse(too_large),
    };
    match RegexBuilder::new(&translated.pattern).size_limit(MAX_BYTES).build() {
        Ok(regex) => Some(Some(Arc::new(Compiled {
            regex,
            size: translated.size,
        }))),
        Err(regex::Error::CompiledTooBig(_)) => meter::refuse(too_large),
        Err(_) => Some(None),
    }
}

/// The beginning of an expression, enough to recognise it.
fn shown(pattern: &str) -> String {
    let short: String = pattern.chars().take(60).collect();
    let more = if short.len() < pattern.len() { "…" } else { "" };
    format!("{short:?}{more}")
}
