//! Gatekeeper's test suites (`test.gatekeeper.sh/v1alpha1`): what a template and a constraint must say about an object.
//!
//! Flow: whoever reads files makes a [`Suite`] of the parsed document, a [`Subject`] of the template and constraint that a
//! test names, and asks it about each case. Guarantees: nothing here reads a file; a case that proves nothing (no assertion,
//! no object) fails.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::coverage::Coverage;
use super::decision::{EnforcementPoint, Finding};
use super::expansion::Expansion;
use super::inventory::Inventory;
use super::library::Library;
use super::review::Review;
use super::source::{Document, Sources};
use crate::core::object::Gvk;

/// API group of suites.
pub const GROUP: &str = "test.gatekeeper.sh";

/// A suite.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Suite {
    /// Leaves out all of it.
    #[serde(default)]
    pub skip: bool,
    /// Its tests.
    #[serde(default)]
    pub tests: Vec<Test>,
}

/// A template with a constraint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Test {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// File of the ConstraintTemplate, relative to the suite.
    #[serde(default)]
    pub template: String,
    /// File of the constraint.
    #[serde(default)]
    pub constraint: String,
    /// File of an ExpansionTemplate.
    #[serde(default)]
    pub expansion: String,
    /// Passes when the template does not take the constraint.
    #[serde(default)]
    pub invalid: bool,
    /// Leaves it out.
    #[serde(default)]
    pub skip: bool,
    /// Its cases.
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// An object and what must be said about it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Case {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// File of the object, or of an AdmissionReview.
    #[serde(default)]
    pub object: String,
    /// Files of what else exists.
    #[serde(default)]
    pub inventory: Vec<String>,
    /// What must hold; all of it.
    #[serde(default)]
    pub assertions: Vec<Assertion>,
    /// Leaves it out.
    #[serde(default)]
    pub skip: bool,
}

/// How many violations there must be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Assertion {
    /// `yes` (the default), `no`, or a number.
    #[serde(default)]
    pub violations: Option<Json>,
    /// Counts only violations with a message that this regular expression matches.
    #[serde(default)]
    pub message: Option<String>,
}

/// What went another way than a case says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What should have come.
    pub expected: String,
    /// What came.
    pub got: Vec<String>,
}

impl Suite {
    /// Reads a suite; `None` for a document that is none.
    ///
    /// # Errors
    /// Says which field does not fit.
    pub fn read(document: &Json) -> Option<Result<Self, String>> {
        let text = |key: &str| document.get(key).and_then(Json::as_str).unwrap_or_default();
        let group = text("apiVersion").split('/').next().unwrap_or_default();
        (group == GROUP && text("kind") == "Suite")
            .then(|| Self::deserialize(document).map_err(|error| format!("the suite cannot be read: {error}")))
    }
}

/// Why a test cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whether it is the constraint that does not fit the template.
    pub constraint: bool,
    /// What is wrong, one line each.
    pub messages: Vec<String>,
}

impl Refused {
    /// Something else than the constraint.
    #[must_use]
    pub fn other(message: String) -> Self {
        Self {
            constraint: false,
            messages: vec![message],
        }
    }
}

/// A template and a constraint, ready to be asked.
pub struct Subject {
    library: Library,
    expansion: Option<Expansion>,
}

impl Subject {
    /// Compiles them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(
        template: Document,
        constraint: Document,
        expansion: Option<&Document>,
        cover: bool,
    ) -> Result<Self, Refused> {
        let (of_template, of_constraint) = (template.origin.clone(), constraint.origin.clone());
        let sources = Sources {
            templates: vec![template],
            constraints: vec![constraint],
            ..Sources::default()
        };
        let mut loaded = Library::load(&sources);
        loaded
            .problems
            .extend(sources.refused(&loaded.library.template_kinds()));
        let errors = loaded.problems.iter().filter(|problem| problem.is_error());
        // A constraint without its template is only what follows from the template's own problem.
        let (constraint, template): (Vec<_>, Vec<_>) =
            errors.partition(|problem| problem.origin == of_constraint && of_constraint != of_template);
        let refuses = template.is_empty();
        let told = if refuses { constraint } else { template };
        if !told.is_empty() {
            return Err(Refused {
                constraint: refuses,
                messages: told.into_iter().map(|problem| problem.line()).collect(),
            });
        }
        if cover {
            loaded.library.cover();
        }
        let expansion = expansion.map(Expansion::read).transpose();
        Ok(Self {
            library: loaded.library,
            expansion: expansion.map_err(Refused::other)?,
        })
    }

    /// The findings about an object, with what else exists.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn judge(&self, object: &Json, others: &[Json], budget: Duration) -> Result<Vec<Finding>, String> {
        let inventory = Inventory::from_objects(others);
        let mut findings = self.ask(&review(object, others)?, &inventory, budget);
        if let Some(expansion) = &self.expansion
            && let Some(made) = expansion.expand(object)?
        {
            let implied = self.ask(&review(&made, others)?.generated(), &inventory, budget);
            findings.extend(implied.into_iter().map(|finding| expansion.implied(finding)));
        }
        Ok(findings)
    }

    /// What cannot be evaluated is a violation, as for Gatekeeper's own runner: it would deny as well.
    fn ask(&self, review: &Review, inventory: &Inventory, budget: Duration) -> Vec<Finding> {
        self.library
            .evaluate_at(EnforcementPoint::Check, review, inventory, budget)
            .findings
    }

    /// What was evaluated so far.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.library.coverage()
    }
}

fn review(object: &Json, others: &[Json]) -> Result<Review, String> {
    let namespace_of = |name: &Json| {
        let is = |other: &&Json| {
            other.get("kind").and_then(Json::as_str) == Some("Namespace")
                && other.pointer("/metadata/name").is_some_and(|known| known == name)
        };
        others.iter().find(is)
    };
    let text = |key: &str| object.get(key).and_then(Json::as_str).unwrap_or_default();
    let metadata = |key: &str| object.pointer(&format!("/metadata/{key}")).cloned().unwrap_or_default();
    let gvk = Gvk::new(text("apiVersion"), text("kind"));
    if gvk.kind == "AdmissionReview" && gvk.group == "admission.k8s.io" {
        let request = object.get("request").ok_or("the AdmissionReview holds no request")?;
        let namespace = request.get("namespace").and_then(namespace_of);
        return Review::from_admission(request, namespace).map_err(|error| error.to_string());
    }
    if gvk.kind.is_empty() || gvk.version.is_empty() {
        return Err("the object has no apiVersion or no kind".to_owned());
    }
    let (name, namespace) = (metadata("name"), metadata("namespace"));
    let request = json!({"operation": "CREATE", "name": name, "namespace": namespace,
        "kind": {"group": gvk.group, "version": gvk.version, "kind": gvk.kind}, "object": object});
    Review::from_admission(&request, namespace_of(&namespace)).map_err(|error| error.to_string())
}

/// A number of violations.
enum Wanted {
    Some,
    None,
    Exactly(u64),
}

impl Assertion {
    /// Compares with what came.
    ///
    /// # Errors
    /// Says what was expected, when it did not come.
    pub fn check(&self, findings: &[Finding]) -> Result<(), Mismatch> {
        let wanted = self.wanted()?;
        let pattern = match self.message.as_deref().map(regex::Regex::new) {
            None => None,
            Some(Ok(pattern)) => Some(pattern),
            Some(Err(error)) => return Err(self.unusable(&format!("message is no regular expression: {error}"))),
        };
        let fits = |finding: &&Finding| {
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&finding.message))
        };
        let count = findings.iter().filter(fits).count();
        let holds = match wanted {
            Wanted::Some => count > 0,
            Wanted::None => count == 0,
            Wanted::Exactly(number) => u64::try_from(count) == Ok(number),
        };
        if holds {
            return Ok(());
        }
        Err(Mismatch {
            expected: self.to_string(),
            got: findings.iter().map(|finding| finding.message.clone()).collect(),
        })
    }

    fn wanted(&self) -> Result<Wanted, Mismatch> {
        Ok(match &self.violations {
            // YAML 1.1 takes yes and no for booleans.
            None | Some(Json::Null | Json::Bool(true)) => Wanted::Some,
            Some(Json::Bool(false)) => Wanted::None,
            Some(Json::String(text)) if text == "yes" => Wanted::Some,
            Some(Json::String(text)) if text == "no" => Wanted::None,
            Some(other) => match other.as_u64() {
                Some(number) => Wanted::Exactly(number),
                None => return Err(self.unusable(&format!("violations is {other} and must be yes, no or a number"))),
            },
        })
    }

    fn unusable(&self, why: &str) -> Mismatch {
        Mismatch {
            expected: "an assertion that can be checked".to_owned(),
            got: vec![why.to_owned()],
        }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wanted() {
            Ok(Wanted::Some) => f.write_str("at least 1 violation")?,
            Ok(Wanted::None) => f.write_str("no violation")?,
            Ok(Wanted::Exactly(1)) => f.write_str("exactly 1 violation")?,
            Ok(Wanted::Exactly(number)) => write!(f, "exactly {number} violations")?,
            Err(_) => f.write_str("a number of violations")?,
        }
        match &self.message {
            Some(message) => write!(f, " with a message that matches {message:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::template::tests::template;
    use super::*;

    fn assertion(json: Json) -> Assertion {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn cases_hold_or_say_what_was_expected() {
        let rego = "package named\nviolation[{\"msg\": msg}] { msg := sprintf(\"bad <%v>\", [input.review.object.metadata.name]) }\n\
                    violation[{\"msg\": \"taken\"}] { data.inventory.namespace[_][_][_][input.review.object.metadata.name] }";
        let constraint =
            json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "Named", "metadata": {"name": "n"}});
        let constraint = Document {
            origin: "c.yaml".to_owned(),
            value: constraint,
        };
        let subject = Subject::new(template("Named", rego), constraint, None, true)
            .ok()
            .unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"}});
        let findings = subject
            .judge(&pod, std::slice::from_ref(&pod), Duration::from_secs(5))
            .unwrap();
        assert_eq!(findings.len(), 2);
        let alone = subject.judge(&pod, &[], Duration::from_secs(5)).unwrap();
        let check = |findings: &[Finding], json: Json, expect: Option<&str>| {
            let found = assertion(json.clone())
                .check(findings)
                .err()
                .map(|mismatch| mismatch.expected);
            assert_eq!(found.as_deref(), expect, "{json}");
        };
        check(&findings, json!({}), None);
        check(&findings, json!({"violations": 2}), None);
        check(&findings, json!({"violations": "yes", "message": "^bad <a>$"}), None);
        check(&findings, json!({"violations": false, "message": "other"}), None);
        check(&findings, json!({"violations": "no"}), Some("no violation"));
        check(
            &alone,
            json!({"violations": 1, "message": "taken"}),
            Some("exactly 1 violation with a message that matches \"taken\""),
        );
        check(&[], json!({}), Some("at least 1 violation"));
        check(&[], json!({"violations": -1}), Some("an assertion that can be checked"));
        check(&[], json!({"message": "("}), Some("an assertion that can be checked"));
        assert!(
            (subject.coverage().percent() - 100.0).abs() < 0.01,
            "{:?}",
            subject.coverage()
        );
        let admission =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"object": pod}});
        assert_eq!(subject.judge(&admission, &[], Duration::from_secs(5)).unwrap().len(), 1);
        assert!(
            subject
                .judge(&json!({"kind": "Pod"}), &[], Duration::from_secs(5))
                .is_err()
        );
    }

    #[test]
    fn only_suites_are_suites() {
        assert!(Suite::read(&json!({"apiVersion": "v1", "kind": "Pod"})).is_none());
        let suite = json!({"apiVersion": "test.gatekeeper.sh/v1alpha1", "kind": "Suite", "tests": [{"name": "t", "cases": "x"}]});
        assert!(
            Suite::read(&suite)
                .unwrap()
                .unwrap_err()
                .starts_with("the suite cannot be read: ")
        );
    }
}
