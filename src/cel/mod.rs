//! CEL behind a fence, for whoever has expressions to ask: templates of policies, `healthCheckExprs`, `readyExpr`.
//!
//! Flow: [`Names`] says what an expression may name; [`Expression::compile`] parses and checks it; [`Expression::is_true`]
//! asks it with values for the names.
//!
//! Guarantees: text and nesting are bounded before anything is parsed; an evaluation ends within its budget (loops look at the clock) and makes only so much (`bounds`); whatever the evaluator does, an error or a panic, comes back as
//! words.
//!
//! The library parses, and knows Kubernetes' functions. Evaluating (`code`, `run`, `values`, `calls`) is ours: the library copies
//! what it selects, and a policy selects from whole objects all the time.

pub(crate) mod bounds;
mod calls;
mod check;
mod code;
pub mod health;
mod output;
pub mod ready;
mod run;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::Duration;

use kube_cel::KubeCelExt;
use kube_cel::cel::extractors::This;
use kube_cel::cel::{Context, ResolveResult, Value, parser};
use regorus::utils::limits::monotonic_now;
use serde_json::Value as Json;

use check::looked_for;
pub(crate) use check::{Names, variable};
pub(crate) use code::{Node, Table, outer};
pub(crate) use run::{Failure, Run};
pub(crate) use values::Val;

/// Longest time for one expression. It looks at one object, which takes microseconds; a loop within loops over a large one
/// may take milliseconds.
const BUDGET: Duration = Duration::from_millis(200);

/// Functions of CEL and of Kubernetes.
static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(|| {
    let mut context = Context::default().with_all();
    bounds::install(&mut context);
    // Known by name; `calls` answers it.
    context.add_function("dyn", |This(value): This<Value>| -> ResolveResult { Ok(value) });
    context
});

/// An expression that was checked.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    parsed: parser::Expression,
    table: Table,
    node: Node,
}

/// Parses and checks one expression of several that share variables.
pub(crate) fn parse(text: &str, names: &Names, table: &mut Table) -> Result<Node, String> {
    let parsed = check::parse(text, names, &FUNCTIONS)?;
    code::compile(&parsed, table, &FUNCTIONS)
}

impl Expression {
    /// Parses and checks an expression.
    ///
    /// # Errors
    /// Quotes the expression and says what is wrong with it.
    pub(crate) fn compile(text: &str, names: &Names) -> Result<Self, String> {
        let refused = |why: String| format!("failed to parse the CEL expression '{text}': {why}");
        let mut table = Table::default();
        let read = || {
            let parsed = check::parse(text, names, &FUNCTIONS)?;
            let node = code::compile(&parsed, &mut table, &FUNCTIONS)?;
            Ok((parsed, node))
        };
        let read = quietly(read).unwrap_or_else(|| Err("the parser gave up".to_owned()));
        let (parsed, node) = read.map_err(refused)?;
        Ok(Self {
            text: text.to_owned(),
            parsed,
            table,
            node,
        })
    }

    /// Asks it.
    ///
    /// # Errors
    /// Quotes the expression and says why it gives neither yes nor no.
    pub(crate) fn is_true<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a Json)>) -> Result<bool, String> {
        let failed = |why: &str| Err(format!("failed to evaluate the CEL expression '{}': {why}", self.text));
        let end = monotonic_now().map_or(i64::MAX, |now| nanos(now.saturating_add(BUDGET)));
        let mut run = Run::new(&self.table, end);
        for (name, value) in values {
            if let Some(number) = self.table.find(name) {
                run.set(number, Val::of(value));
            }
        }
        bounds::begin();
        let answer = quietly(|| run.value(&self.node));
        // An error may be swallowed by the other side of an `||`; the clock is not.
        if is_over(end) {
            return failed(&format!("it did not end within {} ms", BUDGET.as_millis()));
        }
        if let Some(breach) = bounds::breach() {
            return failed(&breach);
        }
        match answer {
            Some(Ok(Val::Bool(answer))) => Ok(answer),
            Some(Ok(_)) => failed("the result is not a boolean"),
            Some(Err(failure)) => failed(&self.words(&failure)),
            None => failed("the evaluator failed in itself"),
        }
    }

    /// What went wrong, in the words of Flux's evaluator where it has some: what `has` looks for is named as a whole.
    fn words(&self, failure: &Failure) -> String {
        match failure {
            Failure::NoSuchKey(key) => match looked_for(&self.parsed, key) {
                Some(path) => format!("no such attribute(s): {path}"),
                None => format!("no such key: {key}"),
            },
            Failure::Unknown(number) => format!("no such attribute(s): {}", self.table.name(*number)),
            Failure::Told(why) => why.clone(),
        }
    }
}

/// Whether a time, in nanoseconds of the policy engine's clock, is over: the rooms that only decide have no clock of their own.
fn is_over(end: i64) -> bool {
    monotonic_now().is_some_and(|now| nanos(now) >= end)
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// `None` when the library panics. It works on copies, so nothing half-done is seen again.
fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(text: &str, object: &Json) -> Result<bool, String> {
        Expression::compile(text, &Names::any()).and_then(|expression| {
            let fields = object.as_object().into_iter().flatten();
            expression.is_true(fields.map(|(name, value)| (name.as_str(), value)))
        })
    }

    #[test]
    fn an_expression_is_yes_or_no_or_says_why_it_is_neither() {
        let object = json!({"status": {"ready": true, "replicas": 2, "share": 0.5, "phase": "Up", "labels": {"a": "b"},
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let check = |text: &str, expect: Result<bool, &str>| {
            let quoted = |why: &str| format!("failed to evaluate the CEL expression '{text}': {why}");
            assert_eq!(ask(text, &object), expect.map_err(quoted), "{text}");
        };
        check("status.ready", Ok(true));
        check(
            "status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            Ok(true),
        );
        check(
            "status.conditions.filter(c, c.type == 'Odd').all(c, c.status == 'True')",
            Ok(true),
        );
        check(
            "status.replicas == 2 && status.share < 1.0 && status.replicas > 1",
            Ok(true),
        );
        check("status.replicas == 2.0 && 2.0 == status.replicas && 2u == 2", Ok(true));
        check(
            "status.replicas != 2.0 || status.replicas == 2.5 || status.share == 1",
            Ok(false),
        );
        check("[1, {'a': 2}] == [1.0, {'a': 2.0}]", Ok(true));
        check("2 in [2.0] && 2.0 in [1, 2u] && !(2 in ['2'])", Ok(true));
        check(
            "status.phase == 2 || status.labels == 2 || status.conditions == {}",
            Ok(false),
        );
        check("status.?other == optional.none()", Ok(true));
        check("status.missing == 2", Err("no such key: missing"));
        check(
            "has(status.missing.deep)",
            Err("no such attribute(s): status.missing.deep"),
        );
        check("has(status.ready) && !has(status.other)", Ok(true));
        check("status.?ready.orValue(false)", Ok(true));
        check("status.?other.orValue('none') == 'none'", Ok(true));
        check(
            "status.?labels.a.orValue('x') == 'b' && status.?other.deep.orValue('x') == 'x'",
            Ok(true),
        );
        check("status[?'other'].hasValue()", Ok(false));
        check("status.phase.lowerAscii() == 'up'", Ok(true));
        check("sets.contains([1, 2], [2])", Ok(true));
        check("status.missing", Err("no such key: missing"));
        check("spec.missing", Err("no such attribute(s): spec"));
        check("status.replicas", Err("the result is not a boolean"));
    }

    #[test]
    fn what_cannot_be_read_is_quoted() {
        let error = ask("status.", &json!({})).unwrap_err();
        assert!(
            error.starts_with("failed to parse the CEL expression 'status.': line 1, column "),
            "{error}"
        );
        assert_eq!(
            ask("fetch(status)", &json!({})).unwrap_err(),
            "failed to parse the CEL expression 'fetch(status)': there is no function \"fetch\""
        );
    }

    #[test]
    fn a_long_chain_is_asked_on_a_small_stack_or_refused() {
        let chain = |links: usize| "1 + ".repeat(links) + "1 > 0";
        assert_eq!(ask(&chain(100), &json!({})), Ok(true));
        let error = ask(&chain(300), &json!({})).unwrap_err();
        assert!(
            error.ends_with("is nested more than 256 deep; use variables"),
            "{error}"
        );
        let sides = vec!["status.a == 1"; 300].join(" || ");
        assert_eq!(ask(&sides, &json!({"status": {"a": 1}})), Ok(true));
    }

    #[test]
    fn a_loop_within_loops_ends() {
        let items: Vec<u32> = (0..300).collect();
        let text = "items.all(a, items.all(b, items.all(c, items.all(d, a + b + c + d >= 0)))) || true";
        let error = ask(text, &json!({"items": items})).unwrap_err();
        assert!(error.ends_with("it did not end within 200 ms"), "{error}");
    }
}
