//! Tests that are written in Rego: rules named `test_…`, in the manner of `opa test`.
//!
//! A test passes when its rule is true. Rules named `todo_test_…` are not run.
//!
//! Flow: [`packages`] reads files and finds the packages with tests; each [`Package`] compiles what it needs and runs by
//! itself, so that many can run at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use regorus::Value;
use sha2::{Digest, Sha256};

use super::coverage::Coverage;
use super::inventory::Inventory;
use super::plain::{self, File};
use super::rego::program::Program;
use super::rego::session::Deadline;
use super::source::{Problem, RegoFile};

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its rule is true.
    Passed,
    /// Its rule is something else; the text says what.
    Failed(String),
    /// Its rule cannot be evaluated; the text says why.
    Errored(String),
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// The file that it stands in.
    pub file: String,
    /// The line on which its rule begins.
    pub line: Option<u32>,
    /// `package.rule`.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// What it printed.
    pub prints: Vec<String>,
}

/// A package with tests, and every file that it needs.
pub struct Package {
    name: Vec<String>,
    /// Rules and the files that they stand in.
    tests: Vec<(String, Arc<File>)>,
    members: Vec<Arc<File>>,
}

/// Finds the packages with tests. What does not load is a problem.
#[must_use]
pub fn packages(sources: &[RegoFile]) -> (Vec<Package>, Vec<Problem>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for source in sources {
        match File::read(source, Sha256::digest(source.text.as_bytes()).into()) {
            Ok(file) => files.push(Arc::new(file)),
            Err(problem) => problems.push(problem),
        }
    }
    let files: Vec<&Arc<File>> = files.iter().collect();
    let packages = plain::packages(&files).into_iter().filter_map(|name| {
        let mut seen = BTreeSet::new();
        let own = files.iter().filter(|file| file.parsed.package == name);
        let rules = own.flat_map(|file| file.rules().into_iter().map(|rule| (rule, Arc::clone(file))));
        let mut tests: Vec<(String, Arc<File>)> = rules
            .filter(|(rule, _)| rule.starts_with("test_") && seen.insert(rule.clone()))
            .collect();
        tests.sort_by(|(left, _), (right, _)| left.cmp(right));
        (!tests.is_empty()).then(|| Package {
            members: plain::closure(&files, &name).into_iter().map(Arc::clone).collect(),
            name,
            tests,
        })
    });
    (packages.collect(), problems)
}

impl Package {
    /// Names of its tests, as in `package.rule`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.tests.iter().map(|(rule, _)| self.full_name(rule))
    }

    /// Runs the tests that are wanted; `budget` is for each.
    ///
    /// # Errors
    /// What keeps the package from being compiled.
    pub fn run(
        &self,
        wanted: impl Fn(&str) -> bool,
        budget: Duration,
        coverage: Option<&mut Coverage>,
    ) -> Result<Vec<TestResult>, Vec<Problem>> {
        let modules: Vec<_> = self.members.iter().map(|file| &file.parsed).collect();
        let program = Program::compile(&modules)?;
        if coverage.is_some() {
            program.cover();
        }
        let tests = self.tests.iter().filter(|(rule, _)| wanted(&self.full_name(rule)));
        let results = tests
            .map(|(rule, file)| {
                let (outcome, prints) = ask(&program, &file.parsed.rule_path(rule), budget);
                TestResult {
                    file: file.name.clone(),
                    line: file.line(rule),
                    name: self.full_name(rule),
                    outcome,
                    prints,
                }
            })
            .collect();
        if let Some(coverage) = coverage {
            coverage.merge(&program.coverage());
        }
        Ok(results)
    }

    fn full_name(&self, rule: &str) -> String {
        format!("{}.{rule}", self.name.join("."))
    }
}

fn ask(program: &Program, path: &str, budget: Duration) -> (Outcome, Vec<String>) {
    let mut session = program.session(Value::new_object(), &Inventory::default());
    let outcome = match session.value(path, Deadline::after(budget)) {
        Ok(Some(Value::Bool(true))) => Outcome::Passed,
        Ok(Some(other)) => Outcome::Failed(other.to_string()),
        Ok(None) => Outcome::Failed("undefined".to_owned()),
        Err(error) => Outcome::Errored(error.to_string()),
    };
    (outcome, session.prints())
}

/// Runs every test of the files, one after the other.
#[must_use]
pub fn run(sources: &[RegoFile], budget: Duration) -> (Vec<TestResult>, Vec<Problem>) {
    let (packages, mut problems) = packages(sources);
    let mut results = Vec::new();
    for package in packages {
        match package.run(|_| true, budget, None) {
            Ok(found) => results.extend(found),
            Err(found) => problems.extend(found),
        }
    }
    (results, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_pass_fail_and_err() {
        let policy = "package p\ndeny contains \"x\" if input.review.name == \"bad\"";
        let tests = "package p_test\nimport data.p\n\
            test_bad if p.deny == {\"x\"} with input as {\"review\": {\"name\": \"bad\"}}\n\
            test_good if count(p.deny) == 1 with input as {\"review\": {\"name\": \"good\"}}\n\
            test_endless if count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a < b]) == 0\n\
            todo_test_later if false";
        let file = |name: &str, text: &str| RegoFile {
            name: name.into(),
            text: text.into(),
        };
        let (results, problems) = run(
            &[file("p.rego", policy), file("p_test.rego", tests)],
            Duration::from_millis(50),
        );
        assert_eq!(problems, []);
        let outcomes: Vec<(&str, &Outcome)> = results
            .iter()
            .map(|result| (result.name.as_str(), &result.outcome))
            .collect();
        assert_eq!(outcomes[0], ("p_test.test_bad", &Outcome::Passed));
        assert!(matches!(outcomes[1], ("p_test.test_endless", Outcome::Errored(said)) if said.contains("50ms")));
        assert_eq!(
            outcomes[2],
            ("p_test.test_good", &Outcome::Failed("undefined".to_owned()))
        );
    }
}
