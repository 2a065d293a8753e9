//! Functions that policies call all the time, answered without a detour: the library's take and give copies.
//!
//! Guarantees: a function answers here as CEL's specification says, and what it makes is counted (`bounds`).

use std::sync::LazyLock;

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{CallExpr, Expr};

use super::run::{Answer, Failure};
use super::values::Val;
use super::{FUNCTIONS, bounds};

/// The variable of [`STRING`].
const VALUE: &str = "@value";
/// The library's `string`, which knows bytes, times and durations.
static STRING: LazyLock<IdedExpr> = LazyLock::new(|| {
    let of = |expr: Expr| IdedExpr { id: 0, expr };
    of(Expr::Call(CallExpr {
        func_name: "string".to_owned(),
        target: None,
        args: vec![of(Expr::Ident(VALUE.to_owned()))],
    }))
});

/// A function that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    /// `size(list)`, `list.size()`.
    Size,
    /// `text.startsWith(text)`.
    StartsWith,
    /// `text.endsWith(text)`.
    EndsWith,
    /// `text.contains(text)`.
    Contains,
    /// `text.matches(pattern)`, `matches(text, pattern)`.
    Matches,
    /// `text.lowerAscii()`.
    LowerAscii,
    /// `text.replace(text, text)`.
    Replace,
    /// `list.join()`, `list.join(separator)`.
    Join,
    /// `string(value)`.
    String,
    /// `dyn(value)`.
    Dyn,
    /// `optional.orValue(value)`.
    OrValue,
    /// `optional.hasValue()`.
    HasValue,
}

impl Native {
    /// By name, by whether it is called on a target, and by how many operands there are, the target included.
    pub(super) fn find(name: &str, method: bool, operands: usize) -> Option<Self> {
        Some(match (name, method, operands) {
            ("size", _, 1) => Self::Size,
            ("startsWith", true, 2) => Self::StartsWith,
            ("endsWith", true, 2) => Self::EndsWith,
            ("contains", true, 2) => Self::Contains,
            ("matches", _, 2) => Self::Matches,
            ("lowerAscii", true, 1) => Self::LowerAscii,
            ("replace", true, 3) => Self::Replace,
            ("join", true, 1 | 2) => Self::Join,
            ("string", false, 1) => Self::String,
            ("dyn", false, 1) => Self::Dyn,
            ("orValue", true, 2) => Self::OrValue,
            ("hasValue", true, 1) => Self::HasValue,
            _ => return None,
        })
    }

    /// What it gives; `None` where it does not take values of these types.
    pub(super) fn call<'a>(self, operands: &[Val<'a>]) -> Option<Answer<'a>> {
        let yes = |value: bool| Some(Ok(Val::Bool(value)));
        match (self, operands) {
            (Self::Size, [value]) => size(value).map(|size| Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))),
            (Self::StartsWith, [text, start]) => yes(text.text()?.starts_with(start.text()?)),
            (Self::EndsWith, [text, end]) => yes(text.text()?.ends_with(end.text()?)),
            (Self::Contains, [text, part]) => yes(text.text()?.contains(part.text()?)),
            (Self::Matches, [text, pattern]) => {
                let (text, pattern) = (text.text()?, pattern.text()?);
                let compiled = bounds::compiled("matches", pattern, text);
                Some(compiled.map(|compiled| Val::Bool(compiled.regex.is_match(text))))
            }
            (Self::LowerAscii, [text]) => {
                let text = text.text()?;
                Some(bounds::charge(text.len()).map(|()| Val::made(&text.to_ascii_lowercase())))
            }
            (Self::Replace, [text, from, to]) => Some(replace(text.text()?, from.text()?, to.text()?)),
            (Self::Join, [list]) => join(list, ""),
            (Self::Join, [list, separator]) => join(list, separator.text()?),
            (Self::String, [value]) => string(value),
            (Self::Dyn, [value]) => Some(Ok(value.clone())),
            (Self::OrValue, [Val::Optional(Some(value)), _]) => Some(Ok(value.as_ref().clone())),
            (Self::OrValue, [Val::Optional(None), other]) => Some(Ok(other.clone())),
            (Self::HasValue, [Val::Optional(value)]) => yes(value.is_some()),
            _ => None,
        }
    }
}

fn string<'a>(value: &Val<'a>) -> Option<Answer<'a>> {
    Some(Ok(match value {
        Val::Text(_) | Val::Made(_) => value.clone(),
        Val::Bool(value) => Val::made(&value.to_string()),
        Val::Int(value) => Val::made(&value.to_string()),
        Val::Uint(value) => Val::made(&value.to_string()),
        Val::Double(value) => Val::made(&value.to_string()),
        Val::Other(other) => {
            let mut context = FUNCTIONS.new_inner_scope();
            context.add_variable_from_value(VALUE, other.clone());
            return Some(context.resolve(&STRING).map(Val::from_library).map_err(Failure::told));
        }
        _ => return None,
    }))
}

/// Characters, elements, entries.
fn size(value: &Val<'_>) -> Option<usize> {
    match value {
        Val::Other(kube_cel::cel::Value::Bytes(bytes)) => Some(bytes.len()),
        value => value.text().map(|text| text.chars().count()).or_else(|| value.len()),
    }
}

fn replace<'a>(text: &str, from: &str, to: &str) -> Answer<'a> {
    let places = text.len() / from.len().max(1) + 1;
    bounds::charge(text.len().saturating_add(places.saturating_mul(to.len())))?;
    Ok(Val::made(&text.replace(from, to)))
}

fn join<'a>(list: &Val<'a>, separator: &str) -> Option<Answer<'a>> {
    let mut out = String::new();
    for (index, part) in list.items()?.enumerate() {
        let Some(part) = part.text() else {
            return Some(Err(Failure::overload()));
        };
        if let Err(breach) = bounds::charge(part.len() + separator.len()) {
            return Some(Err(breach));
        }
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(part);
    }
    Some(Ok(Val::made(&out)))
}
