//! Templates and inputs that were made to hang, abort or fill the memory of whoever loads or asks them: each is refused when it
//! is loaded, or fails within its budget, or is harmless.
//!
//! What a test program cannot survive, an overflowing stack or memory that runs out, shows as its end.

mod amounts;
mod expressions;
mod texts;

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::constraint::tests::constraint;
use super::inventory::Inventory;
use super::library::Library;
use super::review::Review;
use super::source::{Document, Sources};
use super::template::tests::template;

/// What an evaluation may take.
const BUDGET: Duration = Duration::from_millis(300);
/// What loading and evaluating take together on a machine that does ten other things; what is not bounded takes longer.
const SLACK: Duration = Duration::from_secs(40);

/// What comes of a template.
fn outcome(document: Document, object: Json) -> String {
    outcome_of(document, object, false)
}

/// The same; `engine` has the engine answer where compiled rules could.
fn outcome_of(document: Document, object: Json, engine: bool) -> String {
    let kind = document.value["spec"]["crd"]["spec"]["names"]["kind"]
        .as_str()
        .unwrap()
        .to_owned();
    let sources = Sources {
        templates: vec![document],
        constraints: vec![constraint(&kind, "c", json!({}))],
        ..Sources::default()
    };
    // As the threads of the runtime are made.
    let work = std::thread::Builder::new().stack_size(super::STACK).spawn(move || {
        let start = Instant::now();
        let loaded = Library::load(&sources);
        if let Some(problem) = loaded.problems.iter().find(|problem| problem.is_error()) {
            return format!("refused: {problem}");
        }
        if engine {
            loaded.library.cover();
        }
        let request = json!({"operation": "CREATE", "object": object});
        let review = Review::from_admission(&request, None).unwrap();
        let decision = loaded.library.evaluate(&review, &Inventory::default(), BUDGET);
        assert!(start.elapsed() < SLACK, "it took {:?}", start.elapsed());
        let told: Vec<String> = decision
            .findings
            .iter()
            .map(|finding| finding.message.clone())
            .collect();
        told.join("; ")
    });
    work.unwrap().join().unwrap()
}

fn rego(body: &str) -> Document {
    template("A", &format!("package a\n{body}"))
}

/// A body of the rule that answers.
fn body(text: &str) -> Document {
    rego(&format!("violation[{{\"msg\": \"found\"}}] {{ {text} }}"))
}

#[track_caller]
fn check(document: Document, expect: &str) {
    let said = outcome(document, json!({"kind": "Pod", "text": "a".repeat(100_000)}));
    assert!(said.contains(expect), "{said:.400} instead of {expect}");
}

/// Compiled rules and the engine both fail with one of these, or with the time.
#[track_caller]
fn bounded(document: &Document, expect: &[&str]) {
    for engine in [false, true] {
        let said = outcome_of(
            document.clone(),
            json!({"kind": "Pod", "text": "a".repeat(100_000)}),
            engine,
        );
        let known = expect.iter().chain(&["did not end within its budget"]);
        assert!(
            known.clone().any(|expect| said.contains(expect)),
            "engine {engine}: {said:.400} is none of {expect:?}"
        );
    }
}
