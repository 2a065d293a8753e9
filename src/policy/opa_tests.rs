//! Weir's decisions beside OPA's own: the sets of violations are equal on every case of Gatekeeper's library, and on
//! variations of its objects. So are those of compiled rules and of the engine.
//!
//! Needs OPA (`WEIR_OPA`, the path of `hack/tool opa-eval`) and the library (`WEIR_CORPUS`, or `../shared/corpus` beside the
//! repository), and is skipped with a note without either.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::constraint::input;
use super::decision::Action;
use super::inventory::Inventory;
use super::library::Library;
use super::rego::parse::{Version, parse};
use super::rego::session::Deadline;
use super::review::Review;
use super::source::{Document, Sources};
use super::suite::Suite;
use super::template;

/// Of all variations of an object every so many is asked: enough to meet each field of each template often, in seconds.
const EVERY: usize = 7;
/// Questions that have to be asked at the least; fewer would mean that the cases are no longer found.
const AT_LEAST: usize = 2_000;
/// Templates of the library whose rules need no engine, at the least: all of them.
const COMPILED: usize = 49;

/// One question and Weir's answer to it.
struct Asked {
    name: String,
    question: Json,
    /// Messages with their details; `None` for an error.
    weir: Option<BTreeSet<String>>,
    /// The engine's answer, when it is not asked by itself.
    engine: Option<BTreeSet<String>>,
}

#[test]
fn the_sets_of_violations_are_those_of_opa() {
    let Some(opa) = std::env::var_os("WEIR_OPA") else {
        println!("skipped: WEIR_OPA is not set; hack/tool opa-eval builds it");
        return;
    };
    let root = std::env::var_os("WEIR_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let root = root.join("gatekeeper-library");
    if !root.is_dir() {
        println!("skipped: {} is not there", root.display());
        return;
    }
    let (mut asked, mut compiled) = (Vec::new(), Vec::new());
    let suites = suites(&root);
    for suite in &suites {
        if questions(suite, &mut asked) {
            compiled.push(suite);
        }
    }
    let left: Vec<&PathBuf> = suites.iter().filter(|suite| !compiled.contains(suite)).collect();
    assert!(compiled.len() >= COMPILED, "not compiled: {left:#?}");
    assert!(asked.len() >= AT_LEAST, "only {} questions", asked.len());
    let mut differ = Vec::new();
    for (asked, opa) in asked.iter().zip(answers(Path::new(&opa), &asked)) {
        if asked.weir != opa || asked.engine != opa {
            differ.push(format!(
                "{}\n  weir {:?}\n  regorus {:?}\n  opa  {:?}\n  {}",
                asked.name, asked.weir, asked.engine, opa, asked.question["input"]
            ));
        }
    }
    let shown: Vec<&String> = differ.iter().take(10).collect();
    assert!(
        differ.is_empty(),
        "{} of {} differ: {shown:#?}",
        differ.len(),
        asked.len()
    );
    let violated = asked
        .iter()
        .filter(|one| one.weir.as_ref().is_some_and(|found| !found.is_empty()))
        .count();
    let failed = asked.iter().filter(|one| one.weir.is_none()).count();
    println!(
        "{} questions, all answered alike: {violated} with violations, {failed} with an error",
        asked.len()
    );
    // Otherwise nothing was compared.
    assert!(violated > asked.len() / 4 && failed < asked.len() / 10);
}

/// Collects the questions of a suite; says whether all of its templates are compiled.
fn questions(suite: &Path, asked: &mut Vec<Asked>) -> bool {
    let mut compiled = true;
    let folder = suite.parent().unwrap();
    let parsed = Suite::read(&document(suite)).unwrap().unwrap();
    for test in &parsed.tests {
        let origin = |name: &str| Document {
            origin: name.to_owned(),
            value: document(&folder.join(name)),
        };
        let (mut of_template, of_constraint) = (origin(&test.template), origin(&test.constraint));
        // What is asked here is Rego, also where CEL would answer.
        without_cel(&mut of_template.value);
        let parameters = of_constraint
            .value
            .pointer("/spec/parameters")
            .cloned()
            .unwrap_or(json!({}));
        let source = match template::source(&of_template.value) {
            Ok(template::Source::Rego(source)) => source,
            // There is nothing in it that OPA could decide.
            Ok(template::Source::Cel(_)) => continue,
            Err(error) => panic!("{}: {error}", suite.display()),
        };
        let package = parse("template.rego", source.rego, source.version)
            .unwrap()
            .package
            .join(".");
        let mut modules = serde_json::Map::from_iter([("template.rego".to_owned(), Json::from(source.rego))]);
        modules.extend(
            source
                .libs
                .iter()
                .enumerate()
                .map(|(index, lib)| (format!("lib{index}.rego"), Json::from(*lib))),
        );
        let head = json!({"modules": modules, "v0": source.version == Version::V0,
            "query": format!("data.{package}.violation")});
        let sources = Sources {
            templates: vec![of_template.clone()],
            constraints: vec![of_constraint.clone()],
            ..Sources::default()
        };
        let libraries = [Library::load(&sources).library, Library::load(&sources).library];
        // Coverage is the engine's business.
        libraries[1].cover();
        let rule = format!("data.{package}.violation");
        let template = &libraries[0].constraints()[0].template;
        compiled &= template.rego().is_some_and(|program| program.is_compiled(&rule));
        for case in &test.cases {
            let others: Vec<Json> = case.inventory.iter().map(|name| document(&folder.join(name))).collect();
            let object = document(&folder.join(&case.object));
            let name = format!("{}/{}/{}", suite.display(), test.name, case.name);
            let varied = variations(&object).into_iter().skip(asked.len() % EVERY).step_by(EVERY);
            for (index, object) in std::iter::once(object.clone()).chain(varied).enumerate() {
                if let Some(one) = ask(&libraries, &head, &object, &others, &parameters) {
                    asked.push(Asked {
                        name: format!("{name} variation {index}"),
                        ..one
                    });
                }
            }
        }
    }
    compiled
}

fn without_cel(template: &mut Json) {
    let code = template
        .pointer_mut("/spec/targets/0/code")
        .and_then(Json::as_array_mut);
    if let Some(code) = code.filter(|code| code.len() > 1) {
        code.retain(|entry| entry["engine"] == "Rego");
    }
}

/// `None` for what no request can hold.
fn ask(libraries: &[Library; 2], head: &Json, object: &Json, others: &[Json], parameters: &Json) -> Option<Asked> {
    let request = match object.get("request") {
        Some(request) => request.clone(),
        None => json!({"operation": "CREATE", "object": object, "name": object["metadata"]["name"].as_str()?,
            "namespace": object["metadata"]["namespace"].as_str().unwrap_or_default()}),
    };
    let review = Review::from_admission(&request, None).ok()?;
    let inventory = Inventory::from_objects(others);
    let [weir, engine] = libraries.each_ref().map(|library| answer(library, &review, &inventory));
    let parameters = regorus::Value::from_json_str(&parameters.to_string()).ok()?;
    let mut question = head.clone();
    question["input"] = serde_json::to_value(input(review.value(), parameters)).ok()?;
    question["data"] = serde_json::to_value(inventory.data()).ok()?;
    Some(Asked {
        name: String::new(),
        question,
        weir,
        engine,
    })
}

/// What the only constraint of a library says; `None` for an error.
fn answer(library: &Library, review: &Review, inventory: &Inventory) -> Option<BTreeSet<String>> {
    let linked = &library.constraints()[0];
    // Whether the constraint matches is not OPA's question.
    let findings = linked.constraint.evaluate(
        &linked.template,
        review,
        inventory,
        Action::Deny,
        Deadline::after(Duration::from_secs(10)),
    );
    let texts = findings
        .iter()
        .map(|finding| violation(&finding.message, &finding.details));
    (!findings.iter().any(|finding| finding.failed)).then(|| texts.collect())
}

fn violation(message: &str, details: &Json) -> String {
    // Gatekeeper gives empty details to a violation without any.
    let details = if details.is_null() { json!({}) } else { details.clone() };
    format!("{message} {}", sorted(&details))
}

/// The value with the keys of its objects in order.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            fields.sort_by(|(left, _), (right, _)| left.cmp(right));
            fields.into_iter().collect()
        }
        Json::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// What OPA says to each question, in order.
fn answers(opa: &Path, asked: &[Asked]) -> Vec<Option<BTreeSet<String>>> {
    let mut child = Command::new(opa)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, from) = (
        child.stdin.take().unwrap(),
        BufReader::new(child.stdout.take().unwrap()),
    );
    let found = std::thread::scope(|scope| {
        scope.spawn(move || {
            for one in asked {
                writeln!(to, "{}", one.question).unwrap();
            }
        });
        let lines = from
            .lines()
            .map(|line| read(&serde_json::from_str(&line.unwrap()).unwrap()));
        lines.collect::<Vec<_>>()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(found.len(), asked.len());
    found
}

fn read(answer: &Json) -> Option<BTreeSet<String>> {
    if answer.get("error").is_some() {
        return None;
    }
    let items = answer.get("value").and_then(Json::as_array).into_iter().flatten();
    items
        .map(|item| {
            Some(violation(
                item.get("msg")?.as_str()?,
                item.get("details").unwrap_or(&Json::Null),
            ))
        })
        .collect()
}

/// The object without each of its fields and entries, and with another value in place of each, but for what identifies it.
fn variations(object: &Json) -> Vec<Json> {
    let mut found = Vec::new();
    let mut pointers = Vec::new();
    collect(object, String::new(), &mut pointers);
    for pointer in pointers {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        let mut without = object.clone();
        match without.pointer_mut(parent) {
            Some(Json::Object(fields)) => {
                fields.remove(&key);
            }
            Some(Json::Array(items)) => {
                items.remove(key.parse().unwrap());
            }
            _ => {}
        }
        found.push(without);
        let now = object.pointer(&pointer).unwrap();
        for other in [
            json!(null),
            json!(""),
            json!("x:y/z"),
            json!(0),
            json!(-1.5),
            json!(true),
            json!([]),
            json!({}),
            json!([now]),
        ] {
            let mut changed = object.clone();
            *changed.pointer_mut(&pointer).unwrap() = other;
            found.push(changed);
        }
    }
    found
}

fn collect(value: &Json, at: String, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.clone());
    }
    match value {
        Json::Object(fields) => {
            for (key, value) in fields {
                collect(
                    value,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn document(path: &Path) -> Json {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn suites(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|name| name == "suite.yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
