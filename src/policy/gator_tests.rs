//! Weir's answers beside Gatekeeper's: templates, constraints and requests that were made to go wrong (`gator_cases.json`), and
//! what Gatekeeper's own client answers to them (`gator_answers.txt`, written by `hack/gator-answers`).
//!
//! Compared are actions, messages and details; of what is refused or cannot be evaluated only that it is. `gator_differ.txt`
//! lists what is different, each with its reason; a line that nothing needs fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::decision::{EnforcementPoint, Finding};
use super::inventory::Inventory;
use super::library::Library;
use super::review::Review;
use super::source::{Document, Sources};

/// Answers that have to be there at the least.
const AT_LEAST: usize = 2_500;

#[derive(Deserialize)]
struct Cases {
    templates: BTreeMap<String, Json>,
    requests: BTreeMap<String, Request>,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Request {
    request: Json,
    #[serde(default)]
    namespace: Option<Json>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    inventory: Vec<Json>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    template: String,
    #[serde(default)]
    point: String,
    constraints: Vec<Json>,
    requests: Vec<String>,
}

#[test]
fn the_answers_are_those_of_gatekeeper() {
    let [cases, answers, differ] = ["gator_cases.json", "gator_answers.txt", "gator_differ.txt"].map(|name| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy").join(name)).unwrap()
    });
    let differ: Vec<&str> = differ
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let cases: Cases = serde_json::from_str(&cases).unwrap();
    let gatekeeper: BTreeMap<&str, BTreeSet<String>> = answers
        .lines()
        .map(|line| {
            let (name, answers) = line.split_once('\t').unwrap();
            let answers: Vec<String> = serde_json::from_str(answers).unwrap();
            (name, gatekeepers(answers))
        })
        .collect();
    assert!(gatekeeper.len() >= AT_LEAST, "only {} answers", gatekeeper.len());
    let mut weir = BTreeMap::new();
    for group in &cases.groups {
        for (index, spec) in group.constraints.iter().enumerate() {
            cases.ask(group, &format!("{}/{index}", group.name), spec, &mut weir);
        }
    }
    let names: BTreeSet<&str> = gatekeeper
        .keys()
        .copied()
        .chain(weir.keys().map(String::as_str))
        .collect();
    let mut needless: BTreeSet<&str> = differ.iter().copied().collect();
    let mut unexpected = Vec::new();
    for name in names {
        let (theirs, ours) = (gatekeeper.get(name), weir.get(name));
        if theirs == ours {
            continue;
        }
        // A whole name, or its beginning up to a part.
        let listed = |known: &&&str| {
            name.strip_prefix(**known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match differ.iter().find(listed) {
            Some(known) => {
                needless.remove(known);
            }
            None => unexpected.push(format!("{name}\n  weir       {ours:?}\n  gatekeeper {theirs:?}")),
        }
    }
    let violated = gatekeeper.values().filter(|answers| !answers.is_empty()).count();
    println!("{} answers, {violated} with violations or errors", gatekeeper.len());
    assert!(
        unexpected.is_empty(),
        "{} differ:\n{}",
        unexpected.len(),
        unexpected.join("\n")
    );
    assert!(needless.is_empty(), "these do not differ: {needless:?}");
}

impl Cases {
    fn ask(&self, group: &Group, name: &str, spec: &Json, answers: &mut BTreeMap<String, BTreeSet<String>>) {
        let template = &self.templates[&group.template];
        let kind = &template["spec"]["crd"]["spec"]["names"]["kind"];
        let mut constraint =
            json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind, "metadata": {"name": "c"}});
        if !spec.is_null() {
            constraint["spec"] = spec.clone();
        }
        let document = |origin: &str, value: Json| Document {
            origin: origin.to_owned(),
            value,
        };
        let mut sources = Sources {
            templates: vec![document("template", template.clone())],
            ..Sources::default()
        };
        let mut refused = |what: &str| {
            answers.insert(name.to_owned(), BTreeSet::from([what.to_owned()]));
        };
        let loaded = Library::load(&sources);
        if loaded.problems.iter().any(|problem| problem.is_error()) {
            return refused("template refused");
        }
        // What the API server refuses, Gatekeeper's client refuses here.
        sources.constraints = vec![document("constraint", constraint)];
        let problems = sources.refused(&loaded.library.template_kinds());
        let loaded = Library::load(&sources);
        if problems
            .iter()
            .chain(&loaded.problems)
            .any(|problem| problem.is_error())
        {
            return refused("constraint refused");
        }
        let point = match group.point.as_str() {
            "validation.gatekeeper.sh" => EnforcementPoint::Validation,
            "audit.gatekeeper.sh" => EnforcementPoint::Audit,
            _ => EnforcementPoint::Check,
        };
        for asked in &group.requests {
            let request = &self.requests[asked];
            let namespace = request.namespace.clone().or_else(|| {
                // Gatekeeper finds it among what it was given.
                let wanted = request.request.get("namespace")?;
                let known = |other: &&Json| other["kind"] == "Namespace" && other["metadata"]["name"] == *wanted;
                request.inventory.iter().find(known).cloned()
            });
            let mut review = Review::from_admission(&request.request, namespace.as_ref()).unwrap();
            if request.source == "Generated" {
                review = review.generated();
            }
            let inventory = Inventory::from_objects(&request.inventory);
            let decision = loaded
                .library
                .evaluate_at(point, &review, &inventory, Duration::from_secs(20));
            answers.insert(format!("{name}/{asked}"), decision.findings.iter().map(ours).collect());
        }
    }
}

fn ours(finding: &Finding) -> String {
    let action = serde_json::to_value(finding.action).unwrap();
    let action = action.as_str().unwrap();
    if finding.failed {
        return if finding.message.contains("spec.match") {
            format!("{action}: it is not known whether it matches")
        } else {
            "error".to_owned()
        };
    }
    let details = match &finding.details {
        Json::Null => String::new(),
        details => format!(" {details}"),
    };
    resulted(format!("{action}: {}{details}", finding.message))
}

fn gatekeepers(answers: Vec<String>) -> BTreeSet<String> {
    match answers.first().map(String::as_str) {
        Some(refused @ ("template refused" | "constraint refused" | "error")) => BTreeSet::from([refused.to_owned()]),
        _ => answers
            .into_iter()
            .map(|answer| match answer.split_once(": unable to match constraints") {
                Some((action, _)) => format!("{action}: it is not known whether it matches"),
                // It makes a violation of an evaluation that fails.
                None if answer.contains(": eval_conflict_error: ") => "error".to_owned(),
                // Of several actions the strongest counts.
                None => resulted(answer.replace("deny+warn:", "deny:")),
            })
            .collect(),
    }
}

/// What went wrong in an expression, each evaluator has its own words for.
fn resulted(answer: String) -> String {
    const RESULTED: &str = "resulted in error: ";
    match answer.find(RESULTED) {
        Some(at) => answer[..at + RESULTED.len()].to_owned(),
        None => answer,
    }
}
