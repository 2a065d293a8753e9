//! OPA's own collection of cases, run through the fence: our rewriting, our builtins, our bounds.
//!
//! Needs OPA (`WEIR_OPA`, the path of `hack/tool opa-eval`) and the cases in OPA's module (`WEIR_OPA_CASES`, which
//! `hack/test` finds), and is skipped with a note without either. What is left out stands in `opa_cases.txt` with its reason.
//!
//! A case asks a query and compares the values of its variables. Here the query is the body of a rule in a package of its
//! own, so several results are a set. Cases about errors ask for an error, at load or at evaluation, whatever its words.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use regorus::Value;
use serde::Deserialize;

use super::parse::{Parsed, Version, parse};
use super::program::Program;
use super::session::Deadline;

/// Cases that have to be there at the least; fewer would mean that they are no longer found.
const AT_LEAST: usize = 4_000;
/// For one case, on a loaded machine.
const BUDGET: Duration = Duration::from_secs(20);
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    v0: bool,
    #[serde(default)]
    modules: Option<Vec<String>>,
    query: String,
    vars: Vec<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    input_term: Option<String>,
    sort: bool,
    want: Vec<String>,
    #[serde(default)]
    error: Option<String>,
}

#[test]
fn the_cases_of_opa_are_answered_as_opa_answers_them() {
    let (Some(opa), Some(folder)) = (std::env::var_os("WEIR_OPA"), std::env::var_os("WEIR_OPA_CASES")) else {
        println!("skipped: WEIR_OPA and WEIR_OPA_CASES are not set; hack/test sets them");
        return;
    };
    let mut child = Command::new(opa)
        .arg("cases")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let cases: Vec<Case> = lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert!(child.wait().unwrap().success());
    assert!(cases.len() >= AT_LEAST, "only {} cases", cases.len());

    let outcomes = answered(&cases);
    let mut left_out = LeftOut::read();
    let (mut passed, mut unexpected) = (0, Vec::new());
    for (case, outcome) in cases.iter().zip(outcomes) {
        match (outcome, left_out.of(&case.name)) {
            (Ok(()), None) => passed += 1,
            (Ok(()), Some(entry)) => entry.passing += 1,
            (Err(_), Some(entry)) => entry.failing += 1,
            (Err(difference), None) => unexpected.push(format!("{}\t{difference}", case.name)),
        }
    }
    println!("{passed} of {} cases are answered as OPA answers them", cases.len());
    for class in left_out.classes() {
        println!("  left out: {class}");
    }
    assert!(
        unexpected.is_empty(),
        "{} cases differ:\n{}",
        unexpected.len(),
        unexpected.join("\n")
    );
    let stale = left_out.stale();
    assert!(stale.is_empty(), "these need not be left out: {stale:?}");
}

/// The outcome of each case, worked out on as many threads as there are processors.
fn answered(cases: &[Case]) -> Vec<Result<(), String>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = cases.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let handles: Vec<_> = cases
            .chunks(share)
            .map(|chunk| {
                std::thread::Builder::new()
                    .stack_size(crate::policy::STACK)
                    .spawn_scoped(scope, move || chunk.iter().map(Case::check).collect::<Vec<_>>())
                    .unwrap()
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    })
}

impl Case {
    fn version(&self) -> Version {
        if self.v0 { Version::V0 } else { Version::V1 }
    }

    fn check(&self) -> Result<(), String> {
        let found = self.results();
        match (&self.error, found) {
            (Some(_), Err(_)) => Ok(()),
            (Some(error), Ok(found)) => Err(format!("no error but {found:?}; OPA says {error}")),
            (None, Err(error)) => Err(error),
            (None, Ok(found)) => {
                let wanted: BTreeSet<Value> = self.want.iter().map(|want| self.sorted(&json(want))).collect();
                if found == wanted {
                    return Ok(());
                }
                let show = |set: &BTreeSet<Value>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                Err(format!("weir {}; OPA {}", show(&found), show(&wanted)))
            }
        }
    }

    /// The values of the variables, an object for each result.
    fn results(&self) -> Result<BTreeSet<Value>, String> {
        let fields: Vec<String> = self.vars.iter().map(|name| format!("\"{name}\": {name}")).collect();
        let result = format!("{{{}}}", fields.join(", "));
        let query = match self.version() {
            Version::V0 => format!(
                "package weir_case\nresults[result] {{ {}\nresult := {result} }}",
                self.query
            ),
            Version::V1 => format!(
                "package weir_case\nresults contains result if {{ {}\nresult := {result} }}",
                self.query
            ),
        };
        // A rule that asks for all documents would be a part of its own answer.
        let everything = self.query == "data = x";
        let asking = std::iter::once(&query).filter(|_| !everything);
        let texts = asking.chain(self.modules.iter().flatten());
        let modules: Vec<Parsed> = texts
            .enumerate()
            .map(|(index, text)| parse(&format!("{index}.rego"), text, self.version()))
            .collect::<Result<_, _>>()
            .map_err(|problem| format!("parse: {problem}"))?;
        let program = Program::compile(&modules.iter().collect::<Vec<_>>()).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("load: {}", problems.join("; "))
        })?;
        let input = match (&self.input, &self.input_term) {
            (Some(text), _) => json(text),
            (None, Some(term)) => self.term(term)?,
            (None, None) => Value::Undefined,
        };
        let data = self.data.as_deref().map_or_else(Value::new_object, json);
        let mut session = program
            .session_over(input, data)
            .map_err(|error| format!("data: {error}"))?;
        if everything {
            let value = session.everything().map_err(|error| format!("evaluation: {error}"))?;
            let text = format!("{{\"x\": {}}}", value.to_json_str().unwrap());
            return Ok(BTreeSet::from([self.sorted(&json(&text))]));
        }
        let value = session
            .value("data.weir_case.results", Deadline::after(BUDGET))
            .map_err(|error| format!("evaluation: {error}"))?;
        let Some(Value::Set(results)) = value else {
            return Err(format!("evaluation: results are {value:?}"));
        };
        // As JSON, where sets are arrays and keys are strings.
        Ok(results
            .iter_sorted()
            .map(|result| self.sorted(&json(&result.to_json_str().unwrap())))
            .collect())
    }

    /// The input, when it is written in Rego.
    fn term(&self, term: &str) -> Result<Value, String> {
        let parsed = parse(
            "input.rego",
            &format!("package weir_input\nvalue := {term}"),
            Version::V1,
        )
        .map_err(|problem| problem.to_string())?;
        let program = Program::compile(&[&parsed]).map_err(|problems| format!("{problems:?}"))?;
        let mut session = program
            .session_over(Value::Undefined, Value::new_object())
            .map_err(|error| error.to_string())?;
        let value = session.value("data.weir_input.value", Deadline::after(BUDGET));
        value
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "the input is undefined".to_owned())
    }

    /// With the order of arrays taken out, where it does not matter.
    fn sorted(&self, result: &Value) -> Value {
        let Value::Object(fields) = result else {
            return result.clone();
        };
        let fields = fields.iter_sorted().map(|(name, value)| match value {
            Value::Array(items) if self.sort => {
                let mut items = items.to_vec();
                items.sort();
                (name.clone(), Value::from(items))
            }
            other => (name.clone(), other.clone()),
        });
        Value::from(fields.collect::<std::collections::BTreeMap<_, _>>())
    }
}

fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The cases that are left out.
struct LeftOut(Vec<Entry>);

struct Entry {
    class: String,
    /// A whole name, or the beginning of names when it ends with `*`.
    pattern: String,
    passing: usize,
    failing: usize,
}

impl LeftOut {
    fn read() -> Self {
        let (mut entries, mut class) = (Vec::new(), String::new());
        for line in include_str!("opa_cases.txt").lines().map(str::trim_end) {
            if let Some(title) = line.strip_prefix("## ") {
                class = title.to_owned();
            } else if !line.is_empty() && !line.starts_with('#') {
                entries.push(Entry {
                    class: class.clone(),
                    pattern: line.to_owned(),
                    passing: 0,
                    failing: 0,
                });
            }
        }
        Self(entries)
    }

    fn of(&mut self, name: &str) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| match entry.pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == entry.pattern,
        })
    }

    /// How many cases there are in each class.
    fn classes(&self) -> Vec<String> {
        let titles: BTreeSet<&str> = self.0.iter().map(|entry| entry.class.as_str()).collect();
        titles
            .into_iter()
            .map(|title| {
                let of_class = self.0.iter().filter(|entry| entry.class == title);
                let (failing, passing) = of_class.fold((0, 0), |(failing, passing), entry| {
                    (failing + entry.failing, passing + entry.passing)
                });
                format!("{title}: {failing} differ, {passing} pass all the same")
            })
            .collect()
    }

    fn stale(&self) -> Vec<&str> {
        let stale = self.0.iter().filter(|entry| entry.failing == 0);
        stale.map(|entry| entry.pattern.as_str()).collect()
    }
}
