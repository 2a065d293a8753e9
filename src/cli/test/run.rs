//! Runs tests on all cores. Each test of a suite and each Rego package is a job; jobs know nothing of each other.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use super::gather::{Files, Gathered, beside};
use crate::api::gatekeeper::CONSTRAINTS_GROUP;
use crate::cli::BLOCKING_STACK;
use crate::policy::suite::{Case, Mismatch, Refused, Subject, Suite, Test};
use crate::policy::testing::{Outcome, Package};
use crate::policy::{Coverage, Document};

/// Longest evaluation of one test. The webhook allows 3 s; tests of the largest public libraries take milliseconds.
const BUDGET: Duration = Duration::from_secs(10);

/// What came of a run.
#[derive(Default)]
pub(super) struct Tested {
    /// In the order of their names.
    pub(super) units: Vec<Unit>,
    pub(super) coverage: Option<Coverage>,
    pub(super) errors: Vec<String>,
}

/// A suite, or a Rego file with tests.
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) results: Vec<Tried>,
}

/// One test.
pub(super) struct Tried {
    pub(super) name: String,
    pub(super) state: State,
}

pub(super) enum State {
    Passed,
    Skipped,
    Failed(Failed),
}

/// Why a test failed.
#[derive(Debug, Default)]
pub(super) struct Failed {
    pub(super) expected: String,
    pub(super) got: Vec<String>,
    /// The input's file, or where the rule stands.
    pub(super) place: String,
    /// What it printed.
    pub(super) prints: Vec<String>,
}

impl Tested {
    pub(super) fn passed(&self) -> usize {
        self.count(|state| matches!(state, State::Passed))
    }

    pub(super) fn failed(&self) -> usize {
        self.count(|state| matches!(state, State::Failed(_)))
    }

    pub(super) fn skipped(&self) -> usize {
        self.count(|state| matches!(state, State::Skipped))
    }

    fn count(&self, is: impl Fn(&State) -> bool) -> usize {
        self.units
            .iter()
            .flat_map(|unit| &unit.results)
            .filter(|one| is(&one.state))
            .count()
    }
}

/// Runs everything that is wanted.
pub(super) fn run(gathered: Gathered, wanted: Option<&Regex>, cover: bool) -> Tested {
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (path, suite) in &gathered.suites {
        jobs.extend(suite.tests.iter().map(|test| Job::Test { path, suite, test }));
    }
    jobs.extend(gathered.packages.iter().map(Job::Package));
    let mut done = in_parallel(&jobs, |job| job.run(&gathered.files, wanted, cover));
    let mut tested = Tested {
        errors: gathered.errors,
        ..Tested::default()
    };
    let mut coverage = Coverage::default();
    // The order of the jobs, not of their ends.
    done.sort_by_key(|(index, _)| *index);
    for (_, outcome) in done {
        coverage.merge(&outcome.coverage);
        tested.errors.extend(outcome.errors);
        for (unit, one) in outcome.results {
            match tested.units.iter_mut().find(|known| known.name == unit) {
                Some(known) => known.results.push(one),
                None => tested.units.push(Unit {
                    name: unit,
                    results: vec![one],
                }),
            }
        }
    }
    if tested.units.is_empty() && tested.errors.is_empty() {
        let pattern = wanted.map(Regex::as_str).unwrap_or_default();
        tested
            .errors
            .push(format!("no test has a name that matches --run {pattern}"));
    }
    tested.units.sort_by(|left, right| left.name.cmp(&right.name));
    tested.coverage = cover.then_some(coverage);
    tested
}

/// Does jobs on as many threads as there are cores, each with the stack that evaluation may need.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<(usize, R)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let take = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            let result = work(job);
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((index, result));
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..cores.min(jobs.len()) {
            // A thread less is only slower.
            let _ = std::thread::Builder::new()
                .stack_size(BLOCKING_STACK)
                .spawn_scoped(scope, take);
        }
        take();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

enum Job<'a> {
    Test {
        path: &'a Path,
        suite: &'a Suite,
        test: &'a Test,
    },
    Package(&'a Package),
}

#[derive(Default)]
struct Ended {
    /// With the unit that each belongs to.
    results: Vec<(String, Tried)>,
    coverage: Coverage,
    errors: Vec<String>,
}

impl Job<'_> {
    fn run(&self, files: &Files, wanted: Option<&Regex>, cover: bool) -> Ended {
        let matches = |name: &str| wanted.is_none_or(|wanted| wanted.is_match(name));
        match self {
            Self::Test { path, suite, test } => {
                let mut ended = Ended::default();
                let results = run_test(
                    path,
                    test,
                    suite.skip || test.skip,
                    files,
                    &matches,
                    cover,
                    &mut ended.coverage,
                );
                let unit = path.display().to_string();
                ended.results = results.into_iter().map(|one| (unit.clone(), one)).collect();
                ended
            }
            Self::Package(package) => run_package(package, &matches, cover),
        }
    }
}

fn run_package(package: &Package, matches: &impl Fn(&str) -> bool, cover: bool) -> Ended {
    let mut ended = Ended::default();
    if !package.names().any(|name| matches(&name)) {
        return ended;
    }
    let coverage = cover.then_some(&mut ended.coverage);
    match package.run(matches, BUDGET, coverage) {
        Ok(results) => {
            for result in results {
                let got = match result.outcome {
                    Outcome::Passed => None,
                    Outcome::Failed(value) => Some(value),
                    Outcome::Errored(error) => Some(format!("error: {error}")),
                };
                let place = result.line.map(|line| format!("{}:{line}", result.file));
                let state = got.map_or(State::Passed, |got| {
                    State::Failed(Failed {
                        expected: "true".to_owned(),
                        got: vec![got],
                        place: place.unwrap_or_else(|| result.file.clone()),
                        prints: result.prints,
                    })
                });
                let tried = Tried {
                    name: result.name,
                    state,
                };
                ended.results.push((result.file, tried));
            }
        }
        Err(problems) => ended.errors.extend(problems.iter().map(ToString::to_string)),
    }
    ended
}

/// Runs the cases of a test. A test that cannot be set up fails all of them.
fn run_test(
    path: &Path,
    test: &Test,
    skip: bool,
    files: &Files,
    matches: &impl Fn(&str) -> bool,
    cover: bool,
    coverage: &mut Coverage,
) -> Vec<Tried> {
    let named = |case: &Case| format!("{}/{}", test.name, case.name);
    let cases: Vec<&Case> = test.cases.iter().filter(|case| matches(&named(case))).collect();
    if cases.is_empty() && !(test.cases.is_empty() && matches(&test.name)) {
        return Vec::new();
    }
    let one = |name: String, state: State| Tried { name, state };
    if skip {
        let names = cases.into_iter().map(named);
        return names.map(|name| one(name, State::Skipped)).collect();
    }
    let subject = subject(path, test, files, cover);
    if test.invalid || test.cases.is_empty() {
        return vec![one(test.name.clone(), refused(path, test, subject.err()))];
    }
    let subject = match subject {
        Ok(subject) => subject,
        Err(said) => {
            let failed = |case: &Case| {
                State::Failed(Failed {
                    expected: "a template and a constraint that load".to_owned(),
                    got: said.messages.clone(),
                    place: input(path, case),
                    ..Failed::default()
                })
            };
            return cases.into_iter().map(|case| one(named(case), failed(case))).collect();
        }
    };
    let results = cases.into_iter().map(|case| {
        if case.skip {
            return one(named(case), State::Skipped);
        }
        let state = match run_case(path, case, files, &subject) {
            Ok(()) => State::Passed,
            Err(mismatch) => State::Failed(Failed {
                expected: mismatch.expected,
                got: mismatch.got,
                place: input(path, case),
                ..Failed::default()
            }),
        };
        one(named(case), state)
    });
    let results = results.collect();
    coverage.merge(&subject.coverage());
    results
}

/// The file of a case's object; the suite, when it names none.
fn input(suite: &Path, case: &Case) -> String {
    let file = if case.object.is_empty() {
        suite.to_owned()
    } else {
        beside(suite, &case.object)
    };
    file.display().to_string()
}

/// A test that wants its constraint refused, or that has no case and only wants it to load.
fn refused(path: &Path, test: &Test, error: Option<Refused>) -> State {
    let place = beside(path, &test.constraint).display().to_string();
    let failed = |expected: &str, got: Vec<String>| {
        State::Failed(Failed {
            expected: expected.to_owned(),
            got,
            place,
            ..Failed::default()
        })
    };
    const WANTED: &str = "a constraint that the template refuses";
    match (test.invalid, error) {
        (true, Some(Refused { constraint: true, .. })) | (false, None) => State::Passed,
        (true, None) => failed(WANTED, vec!["it is taken".to_owned()]),
        (true, Some(refused)) => failed(WANTED, refused.messages),
        (false, Some(refused)) => failed("a template and a constraint that load", refused.messages),
    }
}

fn subject(path: &Path, test: &Test, files: &Files, cover: bool) -> Result<Subject, Refused> {
    let one = Refused::other;
    let template = pick(path, &test.template, files, "template", |document| {
        document.get("kind").and_then(Value::as_str) == Some("ConstraintTemplate")
    })
    .map_err(one)?;
    let constraint = pick(path, &test.constraint, files, "constraint", |document| {
        let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        version.split('/').next() == Some(CONSTRAINTS_GROUP)
    })
    .map_err(one)?;
    let expansion = match test.expansion.as_str() {
        "" => None,
        name => Some(
            pick(path, name, files, "ExpansionTemplate", |document| {
                document.get("kind").and_then(Value::as_str) == Some("ExpansionTemplate")
            })
            .map_err(one)?,
        ),
    };
    Subject::new(template, constraint, expansion.as_ref(), cover)
}

/// The one document of a file that is what it should be.
fn pick(suite: &Path, name: &str, files: &Files, what: &str, is: impl Fn(&Value) -> bool) -> Result<Document, String> {
    if name.is_empty() {
        return Err(format!("the test names no {what}"));
    }
    let path = beside(suite, name);
    let documents = documents(&path, files)?;
    let mut found = documents.iter().filter(|document| is(document));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(Document {
            origin: path.display().to_string(),
            value: only.clone(),
        }),
        (None, _) => Err(format!("{}: holds no {what}", path.display())),
        (Some(_), Some(_)) => Err(format!("{}: holds more than one {what}", path.display())),
    }
}

fn documents<'a>(path: &Path, files: &'a Files) -> Result<&'a [Value], String> {
    match files.get(path) {
        Some(Ok(documents)) => Ok(documents),
        Some(Err(error)) => Err(error.clone()),
        None => Err(format!("{}: was not read", path.display())),
    }
}

fn run_case(path: &Path, case: &Case, files: &Files, subject: &Subject) -> Result<(), Mismatch> {
    let wrong = |got: String| Mismatch {
        expected: "a case that can be run".to_owned(),
        got: vec![got],
    };
    if case.object.is_empty() {
        return Err(wrong("the case names no object".to_owned()));
    }
    if case.assertions.is_empty() {
        return Err(wrong("the case asserts nothing".to_owned()));
    }
    let file = beside(path, &case.object);
    let object = match documents(&file, files).map_err(wrong)? {
        [object] => object,
        several => {
            return Err(wrong(format!(
                "{}: holds {} objects, not one",
                file.display(),
                several.len()
            )));
        }
    };
    let mut others = Vec::new();
    for name in &case.inventory {
        others.extend_from_slice(documents(&beside(path, name), files).map_err(wrong)?);
    }
    let findings = subject.judge(object, &others, BUDGET).map_err(|error| Mismatch {
        expected: "a decision".to_owned(),
        got: vec![error],
    })?;
    case.assertions
        .iter()
        .try_for_each(|assertion| assertion.check(&findings))
}
