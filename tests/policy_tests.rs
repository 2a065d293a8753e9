//! `weir test` as people run it: the real binary, the real render worker, whole output.
//!
//! The answers are snapshots in `tests/snapshots`; `INSTA_UPDATE=always cargo test --test policy_tests` writes them anew.

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/command.rs"]
mod command;

use std::path::{Path, PathBuf};

use command::{Fixture, run};

/// Cases and suites of Gatekeeper's library at hand; other numbers mean that some are no longer found.
const CASES: usize = 270;
const SUITES: usize = 49;

/// Suites of the library whose templates have CEL beside their Rego.
const CEL_SUITES: usize = 16;

fn gatekeepers_library() -> Option<PathBuf> {
    let root = std::env::var_os("WEIR_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let root = root.join("gatekeeper-library");
    if !root.is_dir() {
        eprintln!("skipped: {} is not there", root.display());
        return None;
    }
    Some(root)
}

#[test]
fn gatekeepers_library_decides_the_same_in_cel_alone() {
    let Some(root) = gatekeepers_library() else { return };
    let copy = tempfile::tempdir().unwrap();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let target = copy.path().join(path.strip_prefix(&root).unwrap());
            if path.is_dir() {
                std::fs::create_dir_all(target).unwrap();
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(target, cel_alone(&text).unwrap_or(text)).unwrap();
            }
        }
    }
    let ran = run(copy.path(), "test .", "");
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        format!("{CASES} passed, 0 failed"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    let changed = walk_templates(copy.path()).filter(|text| text.starts_with('{')).count();
    assert_eq!(changed, CEL_SUITES);
}

/// A template with CEL, without its Rego; `None` for everything else.
fn cel_alone(text: &str) -> Option<String> {
    if !text.contains("K8sNativeValidation") {
        return None;
    }
    let mut template: serde_json::Value = serde_saphyr::from_str(text).ok()?;
    let target = template.pointer_mut("/spec/targets/0")?.as_object_mut()?;
    target.remove("rego");
    target
        .get_mut("code")?
        .as_array_mut()?
        .retain(|code| code["engine"] == "K8sNativeValidation");
    Some(template.to_string())
}

fn walk_templates(root: &Path) -> impl Iterator<Item = String> {
    let groups = std::fs::read_dir(root)
        .unwrap()
        .flatten()
        .filter(|group| group.path().is_dir());
    let policies = groups.flat_map(|group| std::fs::read_dir(group.path()).unwrap().flatten());
    policies.filter_map(|policy| std::fs::read_to_string(policy.path().join("template.yaml")).ok())
}

#[test]
fn gatekeepers_library_decides_as_its_suites_say() {
    let Some(root) = gatekeepers_library() else { return };
    let ran = run(&root, "test .", "");
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        format!("{CASES} passed, 0 failed"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    let suites = ran.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!((ran.code, suites), (0, SUITES));
}

#[test]
fn the_starter_policies_pass_their_tests() {
    let ran = run(Path::new(env!("CARGO_MANIFEST_DIR")), "test policies --coverage", "");
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert!(
        ran.code == 0 && last.ends_with(" passed, 0 failed"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    let all = ran
        .stdout
        .lines()
        .find(|line| line.starts_with("  all "))
        .unwrap_or_default();
    assert!(
        all.ends_with(" 100.0%"),
        "every line of a starter policy is tested: {}",
        ran.stdout
    );
}

const TEMPLATE: &str = r#"apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: labels}
spec:
  crd:
    spec:
      names: {kind: Labels}
      validation:
        openAPIV3Schema:
          type: object
          required: [wanted]
          properties:
            wanted: {type: array, minItems: 1, items: {type: string, pattern: "^[a-z]+$"}}
            mode: {type: string, enum: [all, any]}
            limit: {type: integer, maximum: 3}
  targets:
    - target: admission.k8s.gatekeeper.sh
      rego: |
        package labels
        violation[{"msg": msg}] {
          label := input.parameters.wanted[_]
          not has(label)
          msg := sprintf("label <%v> is missing", [label])
        }
        violation[{"msg": "the name is taken"}] {
          data.inventory.namespace[_][_].Pod[input.review.object.metadata.name]
        }
        has(label) { input.review.object.metadata.labels[label] }
        never { input.review.operation == "NEVER" }
"#;

const CONSTRAINT: &str = "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Labels\nmetadata: {name: two}\n\
                          spec: {parameters: {wanted: [team, tier]}}\n";

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\n";

/// A suite with one test, around its cases.
fn suite(cases: &str) -> String {
    format!(
        "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: Suite\ntests:\n- name: labels\n  template: template.yaml\n  constraint: \
         constraint.yaml\n  cases:\n{cases}"
    )
}

fn fixture(cases: &str) -> Fixture {
    Fixture::new(&[
        ("p/suite.yaml", &suite(cases)),
        ("p/template.yaml", TEMPLATE),
        ("p/constraint.yaml", CONSTRAINT),
        ("p/pod.yaml", POD),
        (
            "p/labelled.yaml",
            &POD.replace("shop}", "shop, labels: {team: a, tier: b}}"),
        ),
    ])
}

#[test]
fn cases_that_hold_pass() {
    let review = "kind: AdmissionReview\napiVersion: admission.k8s.io/v1\nrequest:\n  operation: UPDATE\n  name: web\n  kind: {group: '', \
                  version: v1, kind: Pod}\n  object: {kind: Pod, metadata: {name: web, labels: {team: a}}}\n";
    let fixture = fixture(
        "  - {name: two, object: pod.yaml, assertions: [{violations: 2}]}\n  \
         - {name: default, object: pod.yaml, assertions: [{message: 'label <t[a-z]+> is'}]}\n  \
         - {name: none, object: labelled.yaml, assertions: [{violations: no}]}\n  \
         - {name: inventory, object: labelled.yaml, inventory: [pod.yaml], assertions: [{violations: yes, message: taken}]}\n  \
         - {name: review, object: review.yaml, assertions: [{violations: 1, message: tier}]}\n  \
         - {name: later, skip: true, object: nowhere.yaml}\n",
    );
    fixture.write("p/review.yaml", review);
    insta::assert_snapshot!(fixture.weir("test p --verbose --coverage"));
    let some = fixture.weir("test p/suite.yaml --run labels/(two|none)$");
    assert!(some.ends_with("\n2 passed, 0 failed\n"), "{some}");
}

#[test]
fn failures_say_what_was_expected_what_came_and_from_which_file() {
    let fixture = fixture(
        "  - {name: some, object: labelled.yaml, assertions: [{violations: yes}]}\n  \
         - {name: none, object: pod.yaml, assertions: [{violations: no}]}\n  \
         - {name: number, object: pod.yaml, assertions: [{violations: 2}, {violations: 1, message: missing}]}\n  \
         - {name: silent, object: pod.yaml}\n  \
         - {name: empty, assertions: [{violations: no}]}\n  \
         - {name: gone, object: nowhere.yaml, assertions: [{violations: no}]}\n  \
         - {name: broken, object: broken.yaml, assertions: [{violations: no}]}\n  \
         - {name: several, object: several.yaml, assertions: [{violations: no}]}\n  \
         - {name: odd, object: pod.yaml, assertions: [{violations: perhaps}]}\n",
    );
    fixture.write("p/broken.yaml", "a: 1\nb: [\n");
    fixture.write("p/several.yaml", &format!("{POD}---\n{POD}"));
    fixture.write(
        "q/suite.yaml",
        &suite("  - {name: a, object: pod.yaml, assertions: [{violations: no}]}\n"),
    );
    fixture.write("q/template.yaml", &TEMPLATE.replace("sprintf(", "printf("));
    fixture.write("q/constraint.yaml", CONSTRAINT);
    fixture.write(
        "r/x_test.rego",
        "package x\n\ntest_right if true\n\ntest_wrong if {\n\tprint(\"one is\", 1)\n\t1 == 2\n}\n\ntest_number := 7\n",
    );
    insta::assert_snapshot!(fixture.weir("test ."));
}

#[test]
fn a_test_may_want_its_constraint_refused_or_judge_what_is_generated() {
    let suite = "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: Suite\ntests:\n\
                 - {name: refused, template: template.yaml, constraint: bad.yaml, invalid: true}\n\
                 - {name: taken, template: template.yaml, constraint: constraint.yaml, invalid: true}\n\
                 - {name: not-asked-for, template: template.yaml, constraint: bad.yaml, cases: [{name: a, object: pod.yaml, \
                 assertions: [{violations: no}]}]}\n\
                 - name: expanded\n  template: template.yaml\n  constraint: constraint.yaml\n  expansion: expansion.yaml\n  cases:\n  \
                 - {name: both, object: deployment.yaml, assertions: [{violations: 3}, {message: '^label <team>'}, {message: '^label <tier>'}, \
                 {violations: 1, message: '^.Implied by pods. label <tier> is missing$'}]}\n";
    let fixture = fixture("");
    fixture.write("p/suite.yaml", suite);
    fixture.write(
        "p/bad.yaml",
        &CONSTRAINT.replace("[team, tier]", "[TEAM], mode: some, limit: 4"),
    );
    fixture.write(
        "p/expansion.yaml",
        "apiVersion: expansion.gatekeeper.sh/v1beta1\nkind: ExpansionTemplate\nmetadata: {name: pods}\nspec:\n  applyTo: [{groups: \
         [apps], versions: [v1], kinds: [Deployment]}]\n  templateSource: spec.template\n  generatedGVK: {version: v1, kind: Pod}\n",
    );
    fixture.write(
        "p/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {template: {metadata: {labels: {team: \
         a}}}}\n",
    );
    insta::assert_snapshot!(fixture.weir("test p --verbose"));
}

#[test]
fn what_cannot_be_run_is_an_error() {
    let fixture = Fixture::new(&[
        ("none/readme.md", ""),
        ("rego/x_test.rego", "package x\ntest_a if nope(1)\n"),
        ("rego/y_test.rego", "package y\ntest_a if\n"),
        ("rego/z_test.rego", "package z\ntest_a if true\n"),
        (
            "suite/suite.yaml",
            "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: Suite\ntests: {name: x}\n",
        ),
        (
            "suite/broken.yaml",
            "apiVersion: test.gatekeeper.sh/v1alpha1\nkind: [\n",
        ),
    ]);
    let mut all = String::new();
    for arguments in [
        "test none",
        "test nowhere",
        "test rego",
        "test suite",
        "test rego/z_test.rego --run other",
        "test rego/z_test.rego --run (",
        "test suite --renderer nowhere",
        "test",
    ] {
        all.push_str(&format!("$ weir {arguments}\n{}\n", fixture.weir(arguments)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn help_says_what_a_test_is() {
    insta::assert_snapshot!(fixture("").weir("test --help"));
}
