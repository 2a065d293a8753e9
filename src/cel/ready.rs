//! `dependsOn[].readyExpr`: when a dependency is ready, as its dependent sees it. Variables are `self` and `dep`.

use serde_json::Value as Json;

use super::output::not_boolean;
use super::{Expression, Names};

/// Asks the expression about two objects.
///
/// # Errors
/// [`ReadyError::Invalid`] when it is no expression that could ever be answered, [`ReadyError::Failed`] when these objects
/// give no answer.
pub fn is_ready(text: &str, own: &Json, dependency: &Json) -> Result<bool, ReadyError> {
    let expression = compile(text).map_err(ReadyError::Invalid)?;
    let values = [("self", own), ("dep", dependency)];
    expression.is_true(values).map_err(ReadyError::Failed)
}

/// Checks the expression.
///
/// # Errors
/// Says what is wrong with it.
pub fn compile(text: &str) -> Result<Expression, String> {
    let expression = Expression::compile(text, &Names::new(&["self", "dep"], &[]))?;
    match not_boolean(&expression.parsed) {
        None => Ok(expression),
        Some(is) => Err(format!("CEL expression output type mismatch: expected bool, got {is}")),
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadyError {
    /// The expression is wrong; only another one helps.
    #[error("{0}")]
    Invalid(String),
    /// These objects give no answer; others may.
    #[error("{0}")]
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_objects_are_seen() {
        let own = json!({"metadata": {"annotations": {"version": "v1.2.0"}}});
        let dependency = json!({"metadata": {"annotations": {"version": "v1.2.0"}}, "status": {"conditions": []}});
        let check = |text: &str, expect: Result<bool, &str>| {
            let answer = is_ready(text, &own, &dependency).map_err(|error| error.to_string());
            assert_eq!(answer, expect.map_err(str::to_owned), "{text}");
        };
        check(
            "self.metadata.annotations['version'] == dep.metadata.annotations['version']",
            Ok(true),
        );
        check("dep.status.conditions.exists(c, c.type == 'Ready')", Ok(false));
        check(
            "dep.status.ready == true",
            Err("failed to evaluate the CEL expression 'dep.status.ready == true': no such key: ready"),
        );
    }

    #[test]
    fn what_can_never_be_answered_is_invalid() {
        let check = |text: &str, expect: &str| {
            let Err(ReadyError::Invalid(why)) = is_ready(text, &json!({}), &json!({})) else {
                panic!("{text} is taken");
            };
            assert!(why.contains(expect), "{why}");
        };
        check("other.status == 1", "there is no variable \"other\"");
        check("dep.", "failed to parse the CEL expression 'dep.': line 1");
        check("dep.status.ready", "output type mismatch: expected bool, got dyn");
        check("'yes'", "expected bool, got string");
        check("dep", "got map(string, dyn)");
        check("dep.a ? dep.b : true", "got dyn");
        check("[1].map(x, x)", "got list");
        check("1 + 1", "got dyn");
    }

    #[test]
    fn what_gives_a_boolean_is_taken() {
        for text in [
            "true",
            "has(dep.status)",
            "[1].all(x, x > 0)",
            "[1].exists_one(x, x > 0)",
            "'a'.startsWith('a')",
            "1 in [1] ? true : false",
            "!(1 == 2) || false",
        ] {
            assert!(compile(text).is_ok(), "{text}: {:?}", compile(text).err());
        }
    }
}
