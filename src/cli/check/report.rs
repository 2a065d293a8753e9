//! The answer of `weir check`, as a value that every format prints. Its JSON form is what scripts rely on.

use serde::Serialize;
use serde_json::Value;

use crate::core::object::ObjectRef;
use crate::policy::Tried;

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Allowed,
    Denied,
    Undecided,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) summary: Summary,
    /// In the order of units, then of files.
    pub(super) denials: Vec<Item>,
    pub(super) warnings: Vec<Item>,
    /// Why something could not be decided.
    pub(super) errors: Vec<Failure>,
    /// What was not looked at, and why that is right.
    pub(super) skipped: Vec<Skipped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explained: Option<Vec<Explained>>,
    /// Everything that was judged.
    #[serde(skip)]
    pub(super) units: Vec<Judged>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) objects: usize,
    /// Objects with at least one denial.
    pub(super) refused: usize,
    pub(super) denials: usize,
    pub(super) warnings: usize,
    pub(super) errors: usize,
    /// Policies that were loaded, whether or not one looked at anything.
    pub(super) policies: usize,
}

/// One denial or warning.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Item {
    /// What was built: a path, or a Flux Kustomization.
    pub(super) unit: String,
    pub(super) object: ObjectRef,
    pub(super) file: Option<String>,
    /// The line of the offending value if it stands in that file, else where the object begins.
    pub(super) line: Option<u32>,
    /// `Kind/name` of a constraint, or a Rego package.
    pub(super) policy: String,
    pub(super) title: Option<String>,
    pub(super) message: String,
    /// Path of the offending value, as in `spec.replicas`.
    pub(super) field: Option<String>,
    pub(super) value: Option<Value>,
    pub(super) hint: Option<String>,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) details: Value,
    /// The file that the policy comes from.
    pub(super) source: String,
    /// Whether the policy could not be evaluated; the message says why.
    pub(super) failed: bool,
}

impl Item {
    pub(super) fn place(&self) -> Option<String> {
        place(self.file.as_deref(), self.line)
    }
}

/// `file:line`, as far as it is known.
pub(super) fn place(file: Option<&str>, line: Option<u32>) -> Option<String> {
    let file = file?;
    Some(line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
}

/// Something that could not be decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    /// What is wrong, where, and what to do.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Skipped {
    pub(super) what: String,
    pub(super) reason: String,
}

/// Which policies looked at an object.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    pub(super) unit: String,
    pub(super) object: ObjectRef,
    pub(super) place: Option<String>,
    pub(super) tried: Vec<Tried>,
}

/// A unit and its objects.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) name: String,
    pub(super) objects: Vec<ObjectRef>,
}
