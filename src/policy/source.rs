//! What a library is loaded from, and what is said about sources that do not load.
//!
//! Guarantees: nothing here reads a file; texts and parsed documents are handed in by whoever read them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Everything that a [`Library`](super::Library) is made of.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Plain Rego files.
    pub rego: Vec<RegoFile>,
    /// ConstraintTemplates.
    pub templates: Vec<Document>,
    /// Constraints.
    pub constraints: Vec<Document>,
}

/// A Rego file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegoFile {
    /// What problems and findings call it: a path as the user wrote it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A parsed document and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What problems and findings call it: a path with a line, or an object of the cluster.
    pub origin: String,
    /// The document.
    pub value: Value,
}

/// How much a [`Problem`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something works, but not in the way that is best.
    Note,
    /// The source is not used, or an older version of it is.
    Error,
}

/// Why a source is not used, or what should be known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which source.
    pub origin: String,
    /// Line in the Rego text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in that line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong, where and what to do.
    pub message: String,
    /// Whether the source is unusable.
    pub severity: Severity,
}

impl Problem {
    /// An error that concerns a whole source.
    pub(crate) fn new(origin: &str, message: impl Into<String>) -> Self {
        Self {
            origin: origin.to_owned(),
            line: None,
            column: None,
            message: message.into(),
            severity: Severity::Error,
        }
    }

    /// An error at a position.
    pub(crate) fn at(origin: &str, line: u32, column: u32, message: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            column: Some(column),
            ..Self::new(origin, message)
        }
    }

    /// Turns an error into a remark.
    pub(crate) fn into_note(self) -> Self {
        Self {
            severity: Severity::Note,
            ..self
        }
    }

    /// The problem in a line. What is wrong in the Rego of a template is told by its line there, since the origin names the
    /// file that the template stands in.
    #[must_use]
    pub fn line(&self) -> String {
        match self.line {
            Some(line) if !self.origin.ends_with(".rego") => {
                let column = self.column.unwrap_or(1);
                format!("{}: line {line}:{column} of its Rego: {}", self.origin, self.message)
            }
            _ => self.to_string(),
        }
    }

    /// Whether the source is unusable.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    /// `origin:line:column: message`, as editors like to read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_a_position_and_a_sentence() {
        assert_eq!(Problem::new("a.rego", "is empty").to_string(), "a.rego: is empty");
        assert_eq!(
            Problem::at("a.rego", 3, 7, "unknown").to_string(),
            "a.rego:3:7: unknown"
        );
    }
}
