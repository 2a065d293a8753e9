//! `regex.*` and `re_match`, with RE2's dialect.

use std::sync::Arc;

use regorus::Value;

use super::{array, integer, meter, text};
use crate::core::regexes::{self, Compiled, Refused};

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
    match regexes::compiled(pattern, length) {
        Ok(compiled) => Some(compiled),
        Err(Refused::Invalid) => None,
        Err(Refused::TooLarge(why)) => meter::refuse(|| why),
    }
}
