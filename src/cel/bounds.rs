//! What one evaluation of expressions may make.
//!
//! The evaluator copies values where Go shares them and knows no bound, and whatever an expression makes is made within one step:
//! `a + a` of a variable that was made so, thirty times, is a thousand million. So `check` puts calls of the functions here around
//! what becomes part of something larger, and functions whose result may be much larger than their arguments are ours. A
//! breach cannot be caught by an expression: it is noted here, on the thread that evaluates.

use std::cell::RefCell;
use std::sync::Arc;

use kube_cel::cel::extractors::{Arguments, This};
use kube_cel::cel::{Context, ExecutionError, Value};

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

fn charge(bytes: usize) -> Result<(), ExecutionError> {
    let made = METER.with_borrow_mut(|meter| {
        meter.made = meter.made.saturating_add(bytes);
        meter.made
    });
    if made > MAX_MADE {
        return refuse(format!("it would make {made} bytes, more than {MAX_MADE}"));
    }
    Ok(())
}

fn refuse<T>(why: String) -> Result<T, ExecutionError> {
    METER.with_borrow_mut(|meter| meter.breach.get_or_insert_with(|| why.clone()).clone());
    Err(ExecutionError::function_error("evaluation", why))
}

/// How many bytes a value takes.
fn size(value: &Value, level: usize) -> Result<usize, ExecutionError> {
    if level > MAX_LEVELS {
        return refuse(format!("a value would be nested more than {MAX_LEVELS} deep"));
    }
    let within = |sum: usize, value: &Value| Ok(sum.saturating_add(size(value, level + 1)?));
    Ok(match value {
        Value::String(text) => ELEMENT + text.len(),
        Value::Bytes(bytes) => ELEMENT + bytes.len(),
        Value::List(items) => items.iter().try_fold(ELEMENT, within)?,
        Value::Map(map) => map.map.values().try_fold(2 * ELEMENT * map.map.len(), within)?,
        _ => ELEMENT,
    })
}

/// Gives a context these functions.
pub(super) fn install(context: &mut Context<'_>) {
    type Answer = Result<Value, ExecutionError>;
    context.add_function(KEPT, |value: Value| -> Answer {
        charge(size(&value, 0)?)?;
        Ok(value)
    });
    context.add_function(PARTED, |value: Value| -> Answer {
        if let Value::String(text) = &value {
            charge(text.len().saturating_mul(ELEMENT))?;
        }
        Ok(value)
    });
    context.add_function(COMPARES, |value: Value| -> Answer {
        if let Value::List(items) = &value {
            charge(items.len().saturating_mul(items.len()) / COMPARED)?;
        }
        Ok(value)
    });
    context.add_function(COUNTED, |value: Value| -> Answer {
        if let Value::Int(count) = value {
            charge(usize::try_from(count).unwrap_or(0).saturating_mul(ELEMENT))?;
        }
        Ok(value)
    });
    context.add_function(FORMAT, |value: Value| -> Answer {
        if let Value::String(text) = &value {
            precise(text)?;
        }
        Ok(value)
    });
    context.add_function("replace", replace);
    context.add_function("join", join);
    context.add_function("matches", |This(this): This<Arc<String>>, pattern: Arc<String>| {
        compiled("matches", &pattern, &this).map(|compiled| compiled.regex.is_match(&this))
    });
    context.add_function(
        "find",
        |This(this): This<Arc<String>>, pattern: Arc<String>| -> Answer {
            let compiled = compiled("find", &pattern, &this)?;
            Ok(compiled.regex.find(&this).map_or("", |found| found.as_str()).into())
        },
    );
    context.add_function("findAll", find_all);
}

/// Refuses a format that asks for very many digits.
fn precise(format: &str) -> Result<(), ExecutionError> {
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
    charge(this.len().saturating_add(places.saturating_mul(to.len())))?;
    Ok(this.replacen(from.as_str(), &to, most).into())
}

fn join(This(this): This<Arc<Vec<Value>>>, Arguments(arguments): Arguments) -> Result<Value, ExecutionError> {
    let separator = match arguments.first() {
        Some(Value::String(separator)) => Arc::clone(separator),
        _ => Arc::default(),
    };
    let mut out = String::new();
    for (index, part) in this.iter().enumerate() {
        let Value::String(part) = part else {
            return Err(ExecutionError::function_error("join", "expected a list of strings"));
        };
        charge(part.len() + separator.len())?;
        if index > 0 {
            out.push_str(&separator);
        }
        out.push_str(part);
    }
    Ok(out.into())
}

fn find_all(This(this): This<Arc<String>>, Arguments(arguments): Arguments) -> Result<Value, ExecutionError> {
    let compiled = compiled("findAll", text("findAll", &arguments, 0)?.as_str(), &this)?;
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
fn compiled(function: &str, pattern: &str, text: &str) -> Result<Arc<regexes::Compiled>, ExecutionError> {
    regexes::compiled(pattern, text.len()).map_err(|refused| match refused {
        Refused::Invalid => ExecutionError::function_error(function, format!("{pattern:?} is no regular expression")),
        Refused::TooLarge(why) => refuse::<()>(why).err().unwrap_or(ExecutionError::NoSuchOverload),
    })
}
