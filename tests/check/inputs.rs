//! What may be given, and what is said when it cannot be used.

use std::path::Path;

use super::command::{Fixture, run};
use super::{LATEST, overlay};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: nginx}]}\n";
const TEMPLATE: &str = r#"apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: hosts}
spec:
  crd: {spec: {names: {kind: Hosts}}}
  targets:
    - target: admission.k8s.gatekeeper.sh
      rego: |
        package hosts
        violation[{"msg": msg}] {
          other := data.inventory.namespace[_][_].Ingress[name]
          name != input.review.name
          other.spec.rules[_].host == input.review.object.spec.rules[_].host
          msg := sprintf("host <%v> is taken by <%v>", [input.review.object.spec.rules[_].host, name])
        }
"#;
const CONSTRAINT: &str = "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: Hosts\nmetadata: {name: unique-hosts}\n\
                          spec: {match: {kinds: [{apiGroups: [networking.k8s.io], kinds: [Ingress]}]}}\n";

fn ingress(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  rules:\n    \
         - host: {host}\n"
    )
}

#[test]
fn gatekeepers_policies_see_the_other_objects() {
    let fixture = Fixture::new(&[
        ("policies/template.yaml", TEMPLATE),
        ("policies/constraint.yaml", CONSTRAINT),
        ("policies/values.yaml", "not: {an: object"),
        ("app/a.yaml", &ingress("a", "shop.example")),
        ("app/deep/b.yml", &ingress("b", "shop.example")),
        ("app/c.yaml", &ingress("c", "other.example")),
    ]);
    insta::assert_snapshot!(fixture.weir("check app --policies policies"));
    // The same when the policies are among the objects.
    fixture.write("app/policies.yaml", &format!("{TEMPLATE}---\n{CONSTRAINT}"));
    let without = fixture.weir("check app");
    assert!(
        without.ends_with("denied: 2 of 5 objects refused by 1 policy, 2 denials\n"),
        "{without}"
    );
}

#[test]
fn constraints_are_what_an_api_server_would_have_stored() {
    let template = TEMPLATE.replace(
        "names: {kind: Hosts}}}",
        "names: {kind: Hosts}, validation: {openAPIV3Schema: {type: object, properties: {say: {type: string, default: hello}}}}}}",
    );
    let rego = "        package hosts\n        violation[{\"msg\": msg}] { msg := input.parameters.say }\n";
    let template = format!("{}{rego}", template.split_once("        package").unwrap().0);
    let with = |parameters: &str| {
        let constraint = CONSTRAINT.replace("spec: {", &format!("spec: {{parameters: {parameters}, "));
        let fixture = Fixture::new(&[
            ("policies/all.yaml", &format!("{template}---\n{constraint}")),
            ("a.yaml", &ingress("a", "x")),
        ]);
        fixture.weir("check a.yaml --policies policies")
    };
    assert!(with("{}").contains("\n         hello\n"), "{}", with("{}"));
    let refused = with("{say: 1}");
    assert!(
        refused.contains("policies/all.yaml:12: spec.parameters.say is 1 and must be of type string"),
        "{refused}"
    );
}

#[test]
fn files_are_one_change_and_standard_input_is_a_file() {
    let fixture = Fixture::new(&[
        ("policies/template.yaml", &format!("{TEMPLATE}---\n{CONSTRAINT}")),
        ("a.yaml", &ingress("a", "shop.example")),
        ("list.json", r#"{"apiVersion": "v1", "kind": "List", "items": []}"#),
    ]);
    let input = format!("{POD}---\n{}", ingress("b", "shop.example"));
    insta::assert_snapshot!(fixture.weir_with_input("check a.yaml - --policies policies", &input));
}

#[test]
fn what_policies_complete_is_what_is_judged() {
    let fixture = Fixture::new(&[
        ("pod.yaml", POD),
        (
            "policies/p.rego",
            "package p\nmutate contains {\"op\": \"add\", \"path\": \"/spec/nodeName\", \"value\": \"n1\"} if not \
             input.review.object.spec.nodeName\ndeny contains \"node \\\"n1\\\"\" if input.review.object.spec.nodeName == \"n1\"\n",
        ),
    ]);
    insta::assert_snapshot!(fixture.weir("check pod.yaml --policies policies"));
}

#[test]
fn the_sample_passes_the_starter_policies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran = run(root, "check hack/sample --policies policies/baseline", "");
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert!(
        ran.code == 0 && last.starts_with("allowed: 10 objects by "),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
}

#[test]
fn what_cannot_be_used_is_told_with_its_place() {
    let fixture = overlay();
    fixture.write("bad/malformed.yaml", "a: [1\nb: 2\n");
    fixture.write("bad/kustomization.yaml", "resources: [nowhere.yaml]\n");
    fixture.write("odd/object.yaml", "kind: Pod\nmetadata: {name: x}\n");
    fixture.write("none/readme.md", "nothing here");
    fixture.write("broken/x.rego", "package x\ndeny contains \"a\" if nope(1)\n");
    fixture.write("broken/t.yaml", &TEMPLATE.replace("sprintf(", "printf("));
    fixture.write("lonely/c.yaml", CONSTRAINT);
    fixture.write("idle/t.yaml", TEMPLATE);
    fixture.write("pod.yaml", POD);
    let mut all = String::new();
    for arguments in [
        "check bad/malformed.yaml --policies policies",
        "check bad --policies policies",
        "check odd --policies policies",
        "check none --policies policies",
        "check nowhere --policies policies",
        "check pod.yaml --policies none",
        "check pod.yaml --policies nowhere",
        "check pod.yaml --policies broken",
        "check pod.yaml --policies lonely",
        "check pod.yaml --policies idle",
        "check pod.yaml",
        "check apps/production --root apps/production --policies policies",
        "check apps/production --root bad --policies policies",
        "check --policies policies",
        "check pod.yaml --policies policies --renderer nowhere",
    ] {
        all.push_str(&format!("$ weir {arguments}\n{}\n", fixture.weir(arguments)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn an_error_does_not_hide_denials_nor_they_it() {
    let fixture = overlay();
    fixture.write("malformed.yaml", "a: [1\n");
    let json = fixture.weir("check apps/production malformed.yaml --policies policies -o json");
    assert!(json.starts_with("exit 2\n"), "{json}");
    for part in [
        "\"verdict\": \"undecided\"",
        "\"denials\": 2",
        "\"errors\": 1",
        "weir: malformed.yaml:2: malformed",
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
}

#[test]
fn what_a_source_leaves_out_is_not_there() {
    let fixture = Fixture::new(&[
        (".git/HEAD", ""),
        (".sourceignore", "/skipped/\n"),
        ("skipped/pod.yaml", POD),
        ("policies/latest.rego", LATEST),
    ]);
    let answer = fixture.weir("check skipped --policies policies");
    assert!(
        answer.contains("skipped: is left out by a .sourceignore file"),
        "{answer}"
    );
}
