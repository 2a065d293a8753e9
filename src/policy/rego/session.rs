//! One evaluation of a program, and the time that it has.
//!
//! Flow: [`Session::value`] evaluates one rule: as it was compiled, or by a clone of the prepared engine (cheap: the compiled
//! form is shared).

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use regorus::utils::limits::{ExecutionTimerConfig, monotonic_now};
use regorus::{Engine, Value};

use super::super::coverage::Coverage;
use super::super::inventory::Inventory;
use super::builtins::meter;
use super::compiled::{Run, Stop};
use super::program::Program;
use super::{EngineError, fenced};

/// How much work the engine does between two looks at the clock: a look costs about as much as one unit of work.
const CHECK_EVERY: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// One evaluation.
pub(crate) struct Session<'p> {
    pub(super) program: &'p Program,
    pub(super) input: Value,
    pub(super) inventory: Inventory,
    /// Made when the first rule is asked for that needs one.
    pub(super) engine: Option<Engine>,
    pub(super) coverage: Option<Arc<Mutex<Coverage>>>,
    /// All of `data`, in tests that are about more than an inventory.
    #[cfg(test)]
    pub(super) data: Option<Value>,
}

/// Time that evaluations share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Option<Duration>,
    total: Duration,
}

impl Deadline {
    /// Begins now. The clock is the engine's own: the room has none.
    pub(crate) fn after(total: Duration) -> Self {
        let end = monotonic_now().map(|now| now.saturating_add(total));
        Self { end, total }
    }

    /// When it ends, in nanoseconds of the engine's clock; never, where there is no clock.
    pub(crate) fn end_nanos(self) -> i64 {
        self.end
            .map_or(i64::MAX, |end| i64::try_from(end.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Whether a time that [`Deadline::end_nanos`] gave is over.
    pub(crate) fn passed(end_nanos: i64) -> bool {
        monotonic_now().is_some_and(|now| i64::try_from(now.as_nanos()).is_ok_and(|now| now >= end_nanos))
    }

    /// What is left of it.
    pub(crate) fn remaining(self) -> Result<Duration, EngineError> {
        let now = monotonic_now().unwrap_or_default();
        let rest = self.end.map_or(self.total, |end| end.saturating_sub(now));
        if rest.is_zero() {
            return Err(EngineError::timed_out(self.total));
        }
        Ok(rest)
    }
}

impl Session<'_> {
    /// The value of a rule; `None` when it is undefined.
    pub(crate) fn value(&mut self, rule: &str, deadline: Deadline) -> Result<Option<Value>, EngineError> {
        let limit = deadline.remaining()?;
        meter::begin(deadline);
        if self.coverage.is_none() {
            let answer = self.compiled(rule, deadline);
            if let Some(breach) = meter::breach() {
                return Err(EngineError::new(breach));
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
        meter::begin(deadline);
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => self.program.engine(self.input.clone(), &self.inventory)?,
        };
        let value = fenced(|| {
            engine.set_execution_timer_config(ExecutionTimerConfig {
                limit,
                check_interval: CHECK_EVERY,
            });
            engine.eval_rule(rule.to_owned())
        });
        if let Some(coverage) = &self.coverage
            && let Ok(report) = fenced(|| engine.get_coverage_report())
        {
            coverage
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .merge(&Coverage::of(&report));
        }
        self.engine = Some(engine);
        if let Some(breach) = meter::breach() {
            return Err(EngineError::new(breach));
        }
        // What came too late may lack what the engine gave up on: it goes on with other bodies of a function. And what
        // counts is the budget that was set, not what was left of it.
        deadline.remaining()?;
        match value? {
            Value::Undefined => Ok(None),
            value => Ok(Some(value)),
        }
    }

    /// The value of a rule that needs no engine; `None` when it does after all.
    fn compiled(&self, rule: &str, deadline: Deadline) -> Option<Result<Option<Value>, EngineError>> {
        let entry = self.program.compiled.entry(rule)?;
        let answer = fenced(|| {
            let run = Run::new(&self.program.compiled, self.input.clone(), self.data(), deadline);
            let value = run.value(entry).map(|value| value.cloned());
            Ok(value)
        });
        match answer {
            // What a builtin gave up when the time was over is undefined, and so could be what asked for it.
            Ok(Ok(value)) => Some(deadline.remaining().map(|_| value)),
            Ok(Err(Stop::Late)) => Some(Err(EngineError::timed_out(deadline.total))),
            Ok(Err(Stop::Failed)) | Err(_) => None,
        }
    }

    /// The documents that no rule makes.
    fn data(&self) -> Value {
        #[cfg(test)]
        if let Some(data) = &self.data {
            return data.clone();
        }
        self.inventory.data()
    }

    /// All documents, of rules and others.
    #[cfg(test)]
    pub(super) fn everything(&mut self) -> Result<Value, EngineError> {
        let Some(engine) = &mut self.engine else {
            return Err(EngineError::new("there is no engine"));
        };
        fenced(|| {
            let found = engine.eval_query("data".to_owned(), false)?;
            Ok(found.result[0].expressions[0].value.clone())
        })
    }

    /// What `print` said.
    pub(crate) fn prints(&mut self) -> Vec<String> {
        let prints = self.engine.as_mut().map(Engine::take_prints);
        prints.and_then(Result::ok).unwrap_or_default()
    }
}
