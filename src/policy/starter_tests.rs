//! The starter library in `policies/`: every test of it passes, and it judges what people deploy as its README says.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::testing::{self, Outcome};
use super::*;
use crate::core::object::Object;

const BUDGET: Duration = Duration::from_secs(5);

/// The Rego files below a folder of `policies/`.
fn files(folder: &str) -> Vec<RegoFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let (mut found, mut open) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rego") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(RegoFile { name, text });
            }
        }
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

fn library(folder: &str) -> Library {
    let loaded = Library::load(&Sources {
        rego: files(folder),
        ..Sources::default()
    });
    assert_eq!(loaded.problems, []);
    loaded.library
}

fn deployment() -> Json {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "shop"}},
        "spec": {"replicas": 2, "template": {"spec": {
            "securityContext": {"runAsNonRoot": true},
            "containers": [{"name": "web", "image": "nginx:1.27.3", "securityContext": {"readOnlyRootFilesystem": true},
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}}}]}}}})
}

fn judge(operation: Operation, object: Json) -> Decision {
    let object = Object::new(object).unwrap();
    let review = Review::planned(operation, Some(&object), Some(&object), None);
    library("baseline").evaluate(&review, &Inventory::default(), BUDGET)
}

#[test]
fn every_test_of_the_starter_policies_passes() {
    let (results, problems) = testing::run(&files(""), BUDGET);
    assert_eq!(problems, []);
    let failed: Vec<_> = results
        .iter()
        .filter(|result| result.outcome != Outcome::Passed)
        .collect();
    assert_eq!(failed, [] as [&testing::TestResult; 0]);
    assert!(results.len() >= 90, "only {} tests were found", results.len());
}

#[test]
fn every_starter_policy_says_what_it_is_and_has_tests() {
    let all = files("");
    let policies: Vec<&RegoFile> = all
        .iter()
        .filter(|file| !file.name.ends_with("_test.rego") && !file.name.contains("/lib/"))
        .collect();
    assert_eq!(policies.len(), 21);
    for policy in policies {
        for word in ["# title: ", "# description: ", "#   kinds:"] {
            assert!(policy.text.contains(word), "{} has no {word}", policy.name);
        }
        let test = policy.name.replace(".rego", "_test.rego");
        assert!(all.iter().any(|file| file.name == test), "{test} is missing");
    }
}

#[test]
fn a_decent_application_passes() {
    assert_eq!(judge(Operation::Create, deployment()).findings, []);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}});
    let decision = judge(Operation::Create, service);
    assert_eq!((decision.findings.len(), decision.evaluated), (0, 1));
}

#[test]
fn a_careless_one_is_refused_with_a_way_out() {
    let mut object = deployment();
    object["metadata"]["labels"] = json!({});
    object["spec"]["template"]["spec"] =
        json!({"hostPID": true, "containers": [{"name": "web", "image": "nginx:latest"}]});
    let decision = judge(Operation::Update, object.clone());
    assert_eq!(
        decision.denial_message(),
        "[baseline.images_pinned] container \"web\" uses image \"nginx:latest\", which has the moving tag latest\n\
         [baseline.no_privileges] the pod shares the node's processes (hostPID is true)\n\
         [baseline.owner_label] Deployment web has no label team\n\
         [baseline.resources_set] container \"web\" has no resources.limits.memory\n\
         [baseline.resources_set] container \"web\" has no resources.requests.cpu\n\
         [baseline.resources_set] container \"web\" has no resources.requests.memory\n\
         [baseline.run_as_non_root] container \"web\" may run as root: runAsNonRoot is not true"
    );
    assert!(
        decision
            .denials()
            .all(|finding| finding.title.is_some() && finding.hint.is_some())
    );
    // What should never have come must still be free to go.
    assert!(!judge(Operation::Delete, object).denied());
}

#[test]
fn the_example_mutation_changes_what_nobody_set() {
    let library = library("examples");
    let object = Object::new(deployment()).unwrap();
    let review = Review::planned(Operation::Create, Some(&object), None, None);
    let mutation = library.mutate(&review, &Inventory::default(), BUDGET).unwrap();
    let pod = "/spec/template/spec/automountServiceAccountToken";
    assert_eq!(mutation.object.pointer(pod), Some(&json!(false)));
    let again = library
        .mutate(&review.with_object(mutation.object), &Inventory::default(), BUDGET)
        .unwrap();
    assert!(again.patch.0.is_empty());
}
