//! What one evaluation of expressions may make.
//!
//! Whatever an expression makes is made within one step: `a + a` of a variable that was made so, thirty times, is a thousand
//! million. So `check` marks what becomes part of something larger ([`KEPT`]), puts calls of the functions here around what
//! the library makes much of, and functions whose result may be much larger than their arguments are ours. A
//! breach cannot be caught by an expression: it is noted here, on the thread that evaluates.

use std::cell::RefCell;
use std::sync::Arc;

use kube_cel::cel::extractors::{Arguments, This};
use kube_cel::cel::{Context, ExecutionError, Value};
use serde_json::Value as Json;

use super::run::Failure;
use super::values::Val;
use crate::core::regexes::{self, Refused};

/// Most bytes that one evaluation may make, freed ones counted too: what a policy makes of an object of three megabytes, the
/// largest that an API server accepts, twenty times.
const MAX_MADE: usize = 64 << 20;
/// Deepest value that an expression makes; whatever copies or frees it needs stack for each level.
const MAX_LEVELS: usize = 256;
/// What a value costs, apart from what it holds.
const ELEMENT: usize = 32;
/// How many comparisons cost as much as a byte that is made.
const COMPARED: usize = 16;
/// Most digits that `%.3f` may ask for.
const MAX_PRECISION: usize = 100;

/// Around what becomes part of a list, a map, or a sum.
pub(super) const KEPT: &str = "@kept";
/// Around a text that is taken apart into a list.
const PARTED: &str = "@parted";
/// Around a list whose elements are compared with each other.
const COMPARES: &str = "@compares";
/// Around a number of elements.
const COUNTED: &str = "@counted";
/// Around the format of `format`.
const FORMAT: &str = "@format";

/// Functions whose target or arguments are guarded, and with what.
pub(super) const GUARDED: [(&str, &str); 8] = [
    ("split", PARTED),
    ("findAll", PARTED),
    ("distinct", COMPARES),
    ("sets.contains", COMPARES),
    ("sets.equivalent", COMPARES),
    ("sets.intersects", COMPARES),
    ("lists.range", COUNTED),
    ("format", FORMAT),
];

#[derive(Default)]
struct Meter {
    made: usize,
    breach: Option<String>,
}

thread_local! {
    static METER: RefCell<Meter> = RefCell::default();
}

/// Begins an evaluation on this thread.
pub(crate) fn begin() {
    METER.set(Meter::default());
}

/// Why the evaluation that began last must not count, if so.
pub(crate) fn breach() -> Option<String> {
    METER.with_borrow_mut(|meter| meter.breach.take())
}

/// Counts what is made.
pub(super) fn charge(bytes: usize) -> Result<(), Failure> {
    let made = METER.with_borrow_mut(|meter| {
        meter.made = meter.made.saturating_add(bytes);
        meter.made
    });
    if made > MAX_MADE {
        return refuse(format!("it would make {made} bytes, more than {MAX_MADE}"));
    }
    Ok(())
}

/// Counts an element that a loop adds to its list. What it holds was counted before.
pub(super) fn element() -> Result<(), Failure> {
    charge(ELEMENT)
}

/// Counts what becomes part of something larger.
pub(super) fn kept(value: &Val<'_>) -> Result<(), Failure> {
    charge(size(value, 0)?)
}

fn refuse<T>(why: String) -> Result<T, Failure> {
    METER.with_borrow_mut(|meter| meter.breach.get_or_insert_with(|| why.clone()).clone());
    Err(Failure::Told(why))
}

/// A failure as the library's functions say it.
fn failed(failure: Failure) -> ExecutionError {
    ExecutionError::function_error("evaluation", failure)
}

/// How many bytes a value takes.
fn size(value: &Val<'_>, level: usize) -> Result<usize, Failure> {
    if level > MAX_LEVELS {
        return refuse(format!("a value would be nested more than {MAX_LEVELS} deep"));
    }
    let within = |sum: usize, value: &Val<'_>| -> Result<usize, Failure> {
        let sum = sum.saturating_add(size(value, level + 1)?);
        // What is shared may be far larger than what holds it: no further than the bound.
        if sum > MAX_MADE {
            charge(sum)?;
        }
        Ok(sum)
    };
    Ok(match value {
        Val::Part(json) => part(json),
        Val::List(items) => items.iter().try_fold(ELEMENT, within)?,
        Val::Map(entries) => {
            let values = entries.iter().map(|(_, value)| value);
            values.into_iter().try_fold(2 * ELEMENT * entries.len(), within)?
        }
        Val::Optional(Some(value)) => within(ELEMENT, value)?,
        Val::Other(Value::Bytes(bytes)) => ELEMENT + bytes.len(),
        value => ELEMENT + value.text().map_or(0, str::len),
    })
}

/// How many bytes a part of a document takes, which is no deeper than documents may be.
fn part(json: &Json) -> usize {
    match json {
        Json::String(text) => ELEMENT + text.len(),
        Json::Array(items) => items.iter().map(part).fold(ELEMENT, usize::saturating_add),
        Json::Object(fields) => {
            let values = fields.values().map(part);
            values.fold(2 * ELEMENT * fields.len(), usize::saturating_add)
        }
        _ => ELEMENT,
    }
}

/// Gives a context these functions.
pub(super) fn install(context: &mut Context<'_>) {
    type Answer = Result<Value, ExecutionError>;
    context.add_function(PARTED, |value: Value| -> Answer {
        if let Value::String(text) = &value {
            charge(text.len().saturating_mul(ELEMENT)).map_err(failed)?;
        }
        Ok(value)
    });
    context.add_function(COMPARES, |value: Value| -> Answer {
        if let Value::List(items) = &value {
            charge(items.len().saturating_mul(items.len()) / COMPARED).map_err(failed)?;
        }
        Ok(value)
    });
    context.add_function(COUNTED, |value: Value| -> Answer {
        if let Value::Int(count) = value {
            charge(usize::try_from(count).unwrap_or(0).saturating_mul(ELEMENT)).map_err(failed)?;
        }
        Ok(value)
    });
    context.add_function(FORMAT, |value: Value| -> Answer {
        if let Value::String(text) = &value {
            precise(text).map_err(failed)?;
        }
        Ok(value)
    });
    context.add_function("replace", replace);
    context.add_function(
        "find",
        |This(this): This<Arc<String>>, pattern: Arc<String>| -> Answer {
            let compiled = compiled("find", &pattern, &this).map_err(failed)?;
            Ok(compiled.regex.find(&this).map_or("", |found| found.as_str()).into())
        },
    );
    context.add_function("findAll", find_all);
}

/// Refuses a format that asks for very many digits.
fn precise(format: &str) -> Result<(), Failure> {
    for rest in format.split("%.").skip(1) {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        if digits.parse::<usize>().is_ok_and(|digits| digits > MAX_PRECISION) || digits.len() > 3 {
            return refuse(format!("a format asks for {digits} digits, more than {MAX_PRECISION}"));
        }
    }
    Ok(())
}

fn text(function: &str, arguments: &[Value], index: usize) -> Result<Arc<String>, ExecutionError> {
    match arguments.get(index) {
        Some(Value::String(text)) => Ok(Arc::clone(text)),
        _ => Err(ExecutionError::function_error(function, "expected string argument")),
    }
}

fn replace(This(this): This<Arc<String>>, Arguments(arguments): Arguments) -> Result<Value, ExecutionError> {
    let (from, to) = (text("replace", &arguments, 0)?, text("replace", &arguments, 1)?);
    let most = match arguments.get(2) {
        // As many as there are, as in Go.
        Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let places = (this.len() / from.len().max(1) + 1).min(most);
    charge(this.len().saturating_add(places.saturating_mul(to.len()))).map_err(failed)?;
    Ok(this.replacen(from.as_str(), &to, most).into())
}

fn find_all(This(this): This<Arc<String>>, Arguments(arguments): Arguments) -> Result<Value, ExecutionError> {
    let compiled = compiled("findAll", text("findAll", &arguments, 0)?.as_str(), &this).map_err(failed)?;
    let most = match arguments.get(1) {
        Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let found = compiled.regex.find_iter(&this).take(most);
    Ok(found
        .map(|found| Value::from(found.as_str()))
        .collect::<Vec<_>>()
        .into())
}

/// The compiled form of a pattern, as Go reads it.
pub(super) fn compiled(function: &str, pattern: &str, text: &str) -> Result<Arc<regexes::Compiled>, Failure> {
    regexes::compiled(pattern, text.len()).map_err(|refused| match refused {
        Refused::Invalid => Failure::Told(format!("{function}: {pattern:?} is no regular expression")),
        Refused::TooLarge(why) => refuse::<()>(why).err().unwrap_or_else(Failure::overload),
    })
}
