//! What one evaluation may make.
//!
//! The engine looks at the clock between steps, and a builtin is one step. So what a builtin makes is counted before it is
//! made, and a builtin that works for long looks at the clock itself. A breach cannot be caught by the policy: it is noted
//! here, on the thread that evaluates, and the evaluation fails whatever it went on to answer.

use std::cell::RefCell;

use super::super::program::Deadline;

/// Most bytes that one evaluation may make, freed ones counted too. The largest object that an API server accepts has 3 MiB; this
/// is a policy that makes something of that size from each of its eighty parts.
pub(crate) const MAX_MADE: usize = 256 << 20;
/// What an element of a collection costs, apart from what it holds.
pub(super) const ELEMENT: usize = 32;

#[derive(Default)]
struct Meter {
    made: usize,
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
