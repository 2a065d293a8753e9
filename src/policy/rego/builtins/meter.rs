//! What one evaluation may make.
//!
//! The engine looks at the clock between steps, and a builtin is one step. So what a builtin makes is counted before it is
//! made, and a builtin that works for long looks at the clock itself. A breach cannot be caught by the policy: it is noted
//! here, on the thread that evaluates, and the evaluation fails whatever it went on to answer.

use std::cell::RefCell;

use regorus::Value;

use super::super::session::Deadline;

/// Most bytes that one evaluation may make, freed ones counted too. The largest object that an API server accepts has 3 MiB; this
/// is a policy that makes something of that size from each of its eighty parts.
pub(crate) const MAX_MADE: usize = 256 << 20;
/// Deepest value that a policy makes. Readers of JSON and YAML end at 128; whatever compares, prints or frees a value goes
/// into it and needs stack for each level.
const MAX_LEVELS: usize = 512;
/// Collections that may become parts of others before each is looked into. Nobody gets far with so few, and most policies
/// make no more.
const UNSEEN: usize = 16;
/// What a part of a value costs that is only shared: the time to go over it once.
const SHARED: usize = 8;
/// How many parts are gone over between two looks at the clock.
const CHECK_EVERY: usize = 4_096;
/// What an element of a collection costs, apart from what it holds.
pub(super) const ELEMENT: usize = 32;

#[derive(Default)]
struct Meter {
    made: usize,
    /// Collections that became parts of others.
    held: usize,
    end_nanos: Option<i64>,
    breach: Option<String>,
}

thread_local! {
    static METER: RefCell<Meter> = RefCell::default();
}

/// Begins an evaluation on this thread.
pub(crate) fn begin(deadline: Deadline) {
    METER.set(Meter {
        made: 0,
        held: 0,
        end_nanos: Some(deadline.end_nanos()),
        breach: None,
    });
}

/// Why the evaluation that began last must not count, if so.
pub(crate) fn breach() -> Option<String> {
    METER.with_borrow_mut(|meter| meter.breach.take())
}

/// Counts an element that a comprehension or a rule gathers.
pub(in super::super) fn gathered() -> Option<()> {
    charge("a comprehension", ELEMENT)
}

/// Counts bytes that a builtin is about to make; `None` when there must be no more.
pub(super) fn charge(builtin: &str, bytes: usize) -> Option<()> {
    METER.with_borrow_mut(|meter| {
        meter.made = meter.made.saturating_add(bytes);
        if meter.breach.is_some() {
            return None;
        }
        if meter.made > MAX_MADE {
            meter.breach = Some(format!(
                "{builtin} would bring what one evaluation makes to {} bytes, more than {MAX_MADE}",
                meter.made
            ));
            return None;
        }
        Some(())
    })
}

/// Counts a value that becomes a part of another. Parts are shared, so a few steps could make a value that has more parts than
/// can ever be gone over, or one so deep that freeing it overflows the stack.
pub(in super::super) fn held(value: &Value) -> Option<()> {
    if !nests(value) {
        return Some(());
    }
    let seen = METER.with_borrow_mut(|meter| {
        meter.held = meter.held.saturating_add(1);
        meter.held <= UNSEEN
    });
    if seen { Some(()) } else { measured(value) }
}

/// Goes over a value, within what may be made and the time that there is.
pub(in super::super) fn measured(value: &Value) -> Option<()> {
    let mut parts = 0;
    go_over(value, 0, &mut parts)?;
    charge("a value", parts.saturating_mul(SHARED))
}

fn go_over(value: &Value, level: usize, parts: &mut usize) -> Option<()> {
    *parts += 1;
    if level > MAX_LEVELS {
        return refuse(|| format!("a value would be nested more than {MAX_LEVELS} deep"));
    }
    if parts.is_multiple_of(CHECK_EVERY) {
        charge("a value", CHECK_EVERY * SHARED)?;
        *parts = 0;
        in_time()?;
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| go_over(item, level + 1, parts)),
        Value::Set(items) => items.iter().try_for_each(|item| go_over(item, level + 1, parts)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            go_over(key, level + 1, parts)?;
            go_over(value, level + 1, parts)
        }),
        _ => Some(()),
    }
}

/// Whether there is something in a value.
fn nests(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Set(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    }
}

/// Fails the evaluation.
pub(super) fn refuse<T>(why: impl FnOnce() -> String) -> Option<T> {
    METER.with_borrow_mut(|meter| {
        if meter.breach.is_none() {
            meter.breach = Some(why());
        }
    });
    None
}

/// Whether a builtin may go on; asked every thousand steps or so.
pub(super) fn in_time() -> Option<()> {
    METER.with_borrow(|meter| match meter.end_nanos {
        Some(end) if Deadline::passed(end) => None,
        _ => Some(()),
    })
}
