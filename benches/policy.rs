//! `hack/bench policy`: what it costs to load a policy, to match a constraint and to evaluate it, beside the bare Rego engine
//! that Weir stands on and beside OPA, in the same run on the same machine.
//!
//! Three templates of the kinds that libraries are made of: one loop over parameters, nested loops over containers with helper
//! functions, and a look at other objects. Each figure is the best of some rounds; the ratios are what counts.
//!
//! Without OPA (`WEIR_OPA`, the path of `hack/tool opa-eval`) its column is left out.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use weir::policy::{Document, Inventory, Library, Review, Sources};

/// How often a thing is measured; the best counts, because what disturbs a measurement only ever adds to it.
const ROUNDS: u32 = 7;
/// How long one round lasts, at the least.
const ROUND: Duration = Duration::from_millis(150);
/// Constraints that look at a review and do not match it.
const BESIDE: usize = 200;
/// Objects in the inventory.
const OTHERS: usize = 500;
/// What an evaluation may take; none comes near it.
const BUDGET: Duration = Duration::from_secs(60);

const LABELS: &str = r#"package labels
violation[{"msg": msg, "details": {"missing": missing}}] {
  provided := {label | input.review.object.metadata.labels[label]}
  required := {label | label := input.parameters.labels[_]}
  missing := required - provided
  count(missing) > 0
  msg := sprintf("you must provide labels: %v", [missing])
}"#;

const CONTAINERS: &str = r#"package containers
violation[{"msg": msg}] {
  container := containers[_]
  not exempt(container)
  not allowed(container.image)
  msg := sprintf("container <%v> has an image <%v> that is not allowed", [container.name, container.image])
}
violation[{"msg": msg}] {
  container := containers[_]
  limit := container.resources.limits.memory
  megabytes(limit) > megabytes(input.parameters.memory)
  msg := sprintf("container <%v> may use %v, more than %v", [container.name, limit, input.parameters.memory])
}
containers[c] { c := input.review.object.spec.containers[_] }
containers[c] { c := input.review.object.spec.initContainers[_] }
exempt(container) { startswith(container.name, input.parameters.exempt[_]) }
allowed(image) { prefix := input.parameters.repos[_]; startswith(image, prefix) }
megabytes(text) = n { endswith(text, "Mi"); n := to_number(trim_suffix(text, "Mi")) }
megabytes(text) = n { endswith(text, "Gi"); n := to_number(trim_suffix(text, "Gi")) * 1024 }"#;

const HOSTS: &str = r#"package hosts
violation[{"msg": msg}] {
  host := input.review.object.spec.rules[_].host
  other := data.inventory.namespace[_][version]["Ingress"][name]
  re_match("^(extensions|networking.k8s.io)/.+$", version)
  other.spec.rules[_].host == host
  not same(other)
  msg := sprintf("host <%v> conflicts with ingress <%v>", [host, name])
}
same(other) { other.metadata.namespace == input.review.object.metadata.namespace; other.metadata.name == input.review.object.metadata.name }"#;

fn main() {
    println!("microseconds each; a ratio above 1 says that Weir is faster");
    println!(
        "{:<12}{:>9}{:>13}{:>13}{:>13}{:>13}{:>13}",
        "", "load", "load, bare", "load, OPA", "evaluate", "bare engine", "OPA"
    );
    for (name, rego, parameters, object) in subjects() {
        let others = others();
        let inventory = Inventory::from_objects(&others);
        let document = template(name, rego);
        let sources = |beside: usize| Sources {
            templates: vec![document.clone()],
            constraints: std::iter::once(constraint(name, "the-one", &parameters, &json!({})))
                .chain((0..beside).map(|index| {
                    let elsewhere = json!({"labelSelector": {"matchLabels": {"app": format!("other-{index}")}}});
                    constraint(name, &format!("other-{index}"), &parameters, &elsewhere)
                }))
                .collect(),
            ..Sources::default()
        };
        let load = best(|| drop(black_box(Library::load(&sources(0)))));
        let bare_load = best(|| drop(black_box(engine(rego))));
        let library = Library::load(&sources(0)).library;
        let evaluate = best(|| {
            // A review of its own each time, so that nothing is remembered from the one before.
            let decision = library.evaluate(&review(&object), &inventory, BUDGET);
            assert!(!black_box(decision).findings.is_empty());
        });
        let input = json!({"review": {"object": object, "kind": {}}, "parameters": parameters});
        let data = serde_json::to_value(json!({"inventory": tree(&others)})).unwrap();
        let mut prepared = engine(rego);
        prepared.add_data(regorus::Value::from(data.clone())).unwrap();
        prepared.set_input(regorus::Value::new_object());
        prepared.eval_query("true".to_owned(), false).unwrap();
        let rule = format!("data.{}.violation", name.to_lowercase());
        let bare = best(|| {
            let mut engine = prepared.clone();
            engine.set_input(regorus::Value::from(input.clone()));
            black_box(engine.eval_rule(rule.clone()).unwrap());
        });
        let opa = opa(rego, &rule, &input, &data);
        let many = Library::load(&sources(BESIDE)).library;
        let with_others = best(|| {
            black_box(many.evaluate(&review(&object), &inventory, BUDGET));
        });
        let column = |time: Option<Duration>, ours: Duration| match time {
            Some(time) => format!("{:.0} {:>4.1}×", micros(time), micros(time) / micros(ours)),
            None => "–".to_owned(),
        };
        println!(
            "{name:<12}{:>9.0}{:>13}{:>13}{:>13.1}{:>13}{:>13}",
            micros(load),
            column(Some(bare_load), load),
            column(opa.map(|(load, _)| load), load),
            micros(evaluate),
            column(Some(bare), evaluate),
            column(opa.map(|(_, evaluate)| evaluate), evaluate),
        );
        let each = with_others.saturating_sub(evaluate) / u32::try_from(BESIDE).unwrap();
        println!(
            "{:<12}{:>9.3} to see that a constraint does not match",
            "",
            micros(each)
        );
    }
}

fn subjects() -> [(&'static str, &'static str, Json, Json); 3] {
    let containers: Vec<Json> = (0..4)
        .map(|index| {
            json!({"name": format!("c{index}"), "image": format!("example.com/app:{index}"),
            "resources": {"limits": {"memory": "2Gi", "cpu": "1"}, "requests": {"memory": "1Gi"}}})
        })
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "labels": {"app": "web"}},
        "spec": {"containers": containers}});
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "new", "namespace": "n"},
        "spec": {"rules": [{"host": "host-7.example.com"}]}});
    [
        (
            "Labels",
            LABELS,
            json!({"labels": ["owner", "app", "team"]}),
            pod.clone(),
        ),
        (
            "Containers",
            CONTAINERS,
            json!({"repos": ["registry.internal/", "mirror.internal/"], "exempt": ["istio-"], "memory": "1Gi"}),
            pod,
        ),
        ("Hosts", HOSTS, json!({}), ingress),
    ]
}

fn others() -> Vec<Json> {
    (0..OTHERS)
        .map(|index| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": format!("i{index}"), "namespace": format!("n{}", index % 20)},
                "spec": {"rules": [{"host": format!("host-{index}.example.com")}]}})
        })
        .collect()
}

/// The inventory as Gatekeeper has it.
fn tree(others: &[Json]) -> Json {
    let mut tree = json!({"namespace": {}, "cluster": {}});
    for other in others {
        let namespace = other["metadata"]["namespace"].as_str().unwrap();
        let (version, name) = (
            other["apiVersion"].as_str().unwrap(),
            other["metadata"]["name"].as_str().unwrap(),
        );
        tree["namespace"][namespace][version]["Ingress"][name] = other.clone();
    }
    tree
}

fn template(name: &str, rego: &str) -> Document {
    let value = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
        "metadata": {"name": name.to_lowercase()},
        "spec": {"crd": {"spec": {"names": {"kind": name}}}, "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}]}});
    Document {
        origin: "template".to_owned(),
        value,
    }
}

fn constraint(kind: &str, name: &str, parameters: &Json, matching: &Json) -> Document {
    let value = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind, "metadata": {"name": name},
        "spec": {"parameters": parameters, "match": matching}});
    Document {
        origin: name.to_owned(),
        value,
    }
}

fn review(object: &Json) -> Review {
    let request = json!({"operation": "CREATE", "namespace": "n", "name": object["metadata"]["name"],
        "kind": {"group": "", "version": "v1", "kind": object["kind"]}, "object": object});
    Review::from_admission(&request, None).unwrap()
}

/// The Rego engine with nothing around it but the one builtin that it lacks.
fn engine(rego: &str) -> regorus::Engine {
    let mut engine = regorus::Engine::new();
    engine.set_rego_v0(true);
    engine.set_strict_builtin_errors(false);
    let re_match = |args: Vec<regorus::Value>| {
        let pattern = regex::Regex::new(args[0].as_string()?)?;
        Ok(regorus::Value::from(pattern.is_match(args[1].as_string()?)))
    };
    engine
        .add_extension("re_match".to_owned(), 2, Box::new(re_match))
        .unwrap();
    engine.add_policy("x.rego".to_owned(), rego.to_owned()).unwrap();
    engine
}

/// How long OPA takes to load and to evaluate; `None` where there is no OPA.
fn opa(rego: &str, rule: &str, input: &Json, data: &Json) -> Option<(Duration, Duration)> {
    let mut child = Command::new(std::env::var_os("WEIR_OPA")?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let milliseconds = (ROUND * ROUNDS).as_millis();
    let question = json!({"modules": {"x.rego": rego}, "v0": true, "query": rule, "input": input, "data": data,
        "measure": u64::try_from(milliseconds).unwrap()});
    writeln!(child.stdin.take().unwrap(), "{question}").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(child.wait().unwrap().success());
    let answer: Json = serde_json::from_str(&line).unwrap();
    let nanos = |key: &str| answer[key].as_u64().map(Duration::from_nanos);
    Some((nanos("loadNanos").unwrap(), nanos("evaluateNanos").unwrap()))
}

/// The best time of some rounds.
fn best(mut run: impl FnMut()) -> Duration {
    run();
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < ROUND {
            run();
            count += 1;
        }
        best = best.min(start.elapsed() / count);
    }
    best
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
