//! Rego behind a fence: what may be parsed, how it is evaluated, and what happens when it goes wrong.
//!
//! Guarantees: a text is bounded before it is parsed, functions are checked before they run, an evaluation ends within
//! its budget, and whatever the engine does (an error, a panic) comes back as a value with a position.

mod annotated;
mod builtins;
#[cfg(test)]
mod cases_tests;
mod compiled;
mod dialect;
mod guarded;
mod heads;
mod lint;
mod measure;
pub(crate) mod metadata;
pub(crate) mod parse;
pub(crate) mod program;
mod recursion;
mod replaced;
mod rewrite;
#[cfg(test)]
mod safety_tests;
pub(crate) mod session;
mod sprintf;
mod tokens;
mod walk;

pub(crate) use walk::{Visitor, module as walk_module, path};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::source::Problem;

/// What the engine reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineError {
    line: Option<u32>,
    column: Option<u32>,
    message: String,
}

impl EngineError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            line: None,
            column: None,
            message: message.into(),
        }
    }

    pub(crate) fn into_problem(self, origin: &str) -> Problem {
        Problem {
            line: self.line,
            column: self.column,
            ..Problem::new(origin, self.message)
        }
    }

    /// Takes apart the engine's several lines of text: `--> file:line:column`, the source, `error: message`.
    fn from_engine(error: &anyhow::Error) -> Self {
        if let Some(regorus::LimitError::TimeLimitExceeded { limit, .. }) = error.downcast_ref() {
            return Self::timed_out(*limit);
        }
        let text = error.to_string();
        let framed = text.lines().find_map(|line| line.strip_prefix("--> "));
        // Some errors stand in one line: `file:line:column error: message`.
        let single = text.lines().find_map(|line| line.split_once(" error: "));
        let position = framed.or(single.map(|(position, _)| position));
        let mut parts = position.unwrap_or_default().rsplitn(3, ':');
        let column = parts.next().and_then(|column| column.trim().parse().ok());
        let line = parts.next().and_then(|line| line.parse().ok());
        let message = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
        let message = message.or(single.filter(|_| line.is_some()).map(|(_, message)| message));
        Self {
            line,
            column: line.and(column),
            message: message.unwrap_or(text.trim()).to_owned(),
        }
    }

    /// An evaluation that took too long.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::new(format!(
            "the evaluation did not end within its budget of {}ms",
            limit.as_millis()
        ))
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Runs the engine and turns everything it can do into a value.
pub(crate) fn fenced<T>(run: impl FnOnce() -> anyhow::Result<T>) -> Result<T, EngineError> {
    // The engine is cloned before or thrown away after a panic, so nothing half-done is seen again.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(EngineError::from_engine(&error)),
        Err(_) => Err(EngineError::new(
            "the Rego engine failed in itself; the policy cannot be evaluated",
        )),
    }
}
