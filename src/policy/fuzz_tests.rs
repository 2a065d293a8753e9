//! Load, rewrite, match and evaluate, given what nobody would write.
//!
//! Texts are made from real policies by changing their tokens, and from patterns that are known to hurt; inputs from real
//! objects by changing their values. All of it follows from a seed, so that what was found can be found again:
//! `WEIR_FUZZ_SEED` sets it, `WEIR_FUZZ_ROUNDS` says how many rounds are made. A crash, an abort or an endless evaluation ends
//! the test program; what is wrong less loudly is asserted here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regorus::Value;
use serde_json::{Value as Json, json};

use super::inventory::Inventory;
use super::library::Library;
use super::rego::parse::{Version, parse, parse_either};
use super::rego::program::Program;
use super::rego::session::Deadline;
use super::review::Review;
use super::source::{Document, RegoFile, Sources};

/// Rounds of each target in a usual run: about ten seconds in all.
const ROUNDS: u64 = 400;
/// What an evaluation may take.
const BUDGET: Duration = Duration::from_millis(50);
/// What it may take on a machine that does ten other things, with one last builtin on its way. An endless one takes longer.
const SLACK: Duration = Duration::from_secs(30);
/// Most memory of the whole test program: the bounds of one evaluation on each processor, and what tests hold besides.
const MAX_RESIDENT: u64 = 3 << 30;

/// Patterns that hurt: recursion, nesting, products, builtins that make much of little.
const HOSTILE: [&str; 26] = [
    "f(x) = y { y := f(x) }\nviolation[{\"msg\": \"x\"}] { f(1) }",
    "f(x) = y { y := g(x) }\ng(x) = y { y := f(x) }\nviolation[{\"msg\": \"x\"}] { f(1) }",
    "a = b { b }\nb = a { a }\nviolation[{\"msg\": \"x\"}] { a }",
    "violation[{\"msg\": m}] { m := sprintf(\"%1000000d %1000000d\", [1, 2]) }",
    "violation[{\"msg\": m}] { m := sprintf(\"%*d\", [999999999, 1]) }",
    "violation[{\"msg\": \"x\"}] { count(numbers.range(1, 1000000000000)) > 0 }",
    "violation[{\"msg\": \"x\"}] { count(numbers.range_step(1, 1000000000000, 1)) > 0 }",
    "violation[{\"msg\": \"x\"}] { count(net.cidr_expand(\"10.0.0.0/0\")) > 0 }",
    "violation[{\"msg\": \"x\"}] { count(net.cidr_expand(\"::/0\")) > 0 }",
    "violation[{\"msg\": \"x\"}] { regex.match(\"((a{1000}){1000}){1000}\", \"a\") }",
    "violation[{\"msg\": \"x\"}] { regex.match(\"(a|a)*(a|a)*(a|a)*b\", input.review.text) }",
    "violation[{\"msg\": \"x\"}] { glob.match(\"{{{{{a,b},c},d},e},**}*\", [], input.review.text) }",
    "violation[{\"msg\": \"x\"}] { bits.lsh(1, 1000000000000) > 0 }",
    "violation[{\"msg\": \"x\"}] { to_number(concat(\"\", [d | numbers.range(1, 100000)[_]; d := \"9\"])) > 0 }",
    "violation[{\"msg\": m}] { m := replace(input.review.text, \"a\", input.review.text) }",
    "violation[{\"msg\": \"x\"}] { a := concat(\"\", [input.review.text, input.review.text]); b := concat(\"\", [a, a, a, a]); c := concat(\"\", [b, b, b, b]); d := concat(\"\", [c, c, c, c]); e := concat(\"\", [d, d, d, d]); count(concat(\"\", [e, e, e, e])) > 0 }",
    "violation[{\"msg\": \"x\"}] { a := [x | x := numbers.range(1, 4000)[_]]; count([1 | a[_]; a[_]; a[_]]) > 0 }",
    "violation[{\"msg\": \"x\"}] { count({[x, y] | x := numbers.range(1, 4000)[_]; y := numbers.range(1, 4000)[_]}) > 0 }",
    "violation[{\"msg\": \"x\"}] { [p, v] := walk(input); count(p) > 1000; v }",
    "violation[{\"msg\": \"x\"}] { json.patch(input, [{\"op\": \"copy\", \"from\": \"/\", \"path\": \"/a\"}, {\"op\": \"copy\", \"from\": \"/\", \"path\": \"/b\"}]) }",
    "violation[{\"msg\": \"x\"}] { yaml.unmarshal(\"a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\") }",
    "violation[{\"msg\": \"x\"}] { json.unmarshal(\"[1e1000000000, -1e-1000000000]\") }",
    "violation[{\"msg\": \"x\"}] { graph.reachable({n: [m | m := numbers.range(1, 500)[_]] | n := numbers.range(1, 500)[_]}, {1}) }",
    "violation[{\"msg\": \"x\"}] { semver.is_valid(input.review.text); time.parse_rfc3339_ns(input.review.text) > 0 }",
    "violation[{\"msg\": \"x\"}] { units.parse_bytes(\"9999999999999999999999999999999999999999Ei\") > 0 }",
    "violation[{\"msg\": \"x\"}] { strings.render_template(\"{{range .a}}{{range $.a}}{{range $.a}}x{{end}}{{end}}{{end}}\", {\"a\": numbers.range(1, 1000)}) }",
];

/// Values that are put where others were.
const ODD: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e300",
    "18446744073709551615",
    "\"\"",
    "\"a\"",
    "\"%s\"",
    "\"\\u0000\"",
    "\"é😀\"",
    "[]",
    "{}",
    "[[[[[[[[1]]]]]]]]",
    "{\"a\": {\"a\": {\"a\": {\"a\": {}}}}}",
];

/// Tokens that are put where others were.
const TOKENS: [&str; 40] = [
    "(", ")", "[", "]", "{", "}", ",", ";", "\n", ":=", "=", "==", "!=", "<", "|", "&", "+", "-", "*", "/", "%", ".",
    ":", "not", "some", "every", "in", "with", "as", "else", "if", "contains", "default", "import", "package", "input",
    "data", "_", "\"", "`",
];

/// A generator of numbers, xorshift64*: enough for choices, the same everywhere.
struct Dice(u64);

impl Dice {
    fn new(target: &str, round: u64) -> Self {
        let seed = std::env::var("WEIR_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
        let name = target.bytes().fold(14_695_981_039_346_656_037_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
        });
        let state = seed.unwrap_or(1_u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ name
            ^ round.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(state.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn rounds() -> u64 {
    let rounds = std::env::var("WEIR_FUZZ_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    rounds.unwrap_or(ROUNDS)
}

/// Real policies: those of the starter library and of the tests.
fn policies() -> Vec<String> {
    let mut found: Vec<String> = HOSTILE.iter().map(|body| format!("package fuzz\n{body}\n")).collect();
    let mut open: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")];
    while let Some(folder) = open.pop() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rego") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(
        found.len() > HOSTILE.len() + 10,
        "the starter policies are no longer found"
    );
    found
}

/// A text with some tokens changed, repeated, dropped, or taken from another one.
fn mutated(dice: &mut Dice, texts: &[String]) -> String {
    let mut pieces = pieces(dice.of::<String>(texts));
    let others = self::pieces(dice.of::<String>(texts));
    for _ in 0..dice.below(6) {
        if pieces.is_empty() {
            break;
        }
        let at = dice.below(pieces.len());
        match dice.below(8) {
            0 => pieces[at] = (*dice.of(&TOKENS)).to_owned(),
            1 => pieces[at] = (*dice.of(&ODD)).to_owned(),
            2 => {
                pieces.remove(at);
            }
            3 => pieces.insert(at, (*dice.of(&TOKENS)).to_owned()),
            4 => {
                let with = dice.below(pieces.len());
                pieces.swap(at, with);
            }
            5 => {
                // A stretch of another policy.
                let from = dice.below(others.len());
                let stretch = others.iter().skip(from).take(dice.below(40)).cloned();
                pieces.splice(at..at, stretch);
            }
            6 => {
                let stretch: Vec<String> = pieces.iter().skip(at).take(dice.below(20)).cloned().collect();
                for _ in 0..dice.below(30) {
                    pieces.splice(at..at, stretch.iter().cloned());
                }
            }
            _ => {
                let (open, close) = *dice.of(&[
                    ("(", ")"),
                    ("[", "]"),
                    ("{", "}"),
                    ("{\"a\": ", "}"),
                    ("not ", ""),
                    ("count(", ")"),
                ]);
                let depth = dice.below(40);
                pieces[at] = format!("{}{}{}", open.repeat(depth), pieces[at], close.repeat(depth));
            }
        }
    }
    pieces.concat()
}

/// A text in pieces: words, strings, and every other character by itself.
fn pieces(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut word = false;
    for c in text.chars() {
        let now = c.is_alphanumeric() || c == '_';
        match found.last_mut().filter(|_| word && now) {
            Some(last) => last.push(c),
            None => found.push(c.to_string()),
        }
        word = now;
    }
    found
}

/// An object with some values changed.
fn object(dice: &mut Dice) -> Json {
    let container = json!({"name": "c", "image": "registry.example/app:1.2@sha256:abc", "ports": [{"containerPort": 80, "hostPort": 80}],
        "securityContext": {"privileged": true, "runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
        "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}, "requests": {"cpu": 1}}});
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "n", "labels": {"app": "a"}, "annotations": {"x": "y"}},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [container], "hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}}});
    for _ in 0..dice.below(8) {
        let pointers = pointers(&object);
        let pointer = dice.of(&pointers).clone();
        let odd: Json = serde_json::from_str(dice.of::<&str>(&ODD)).unwrap();
        let long = Json::from("a".repeat(dice.below(200_000)));
        let many = Json::from(vec![object.pointer(&pointer).cloned().unwrap(); dice.below(50)]);
        let deep = (0..dice.below(60)).fold(json!(1), |inner, _| json!({"a": [inner]}));
        let value = match dice.below(6) {
            0 => long,
            1 => many,
            2 => deep,
            _ => odd,
        };
        *object.pointer_mut(&pointer).unwrap() = value;
    }
    object
}

fn pointers(value: &Json) -> Vec<String> {
    fn collect(value: &Json, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Json::Object(fields) => {
                for (key, value) in fields {
                    collect(
                        value,
                        &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                        found,
                    );
                }
            }
            Json::Array(items) => {
                for (index, value) in items.iter().enumerate().take(8) {
                    collect(value, &format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(value, "", &mut found);
    // The whole object stays an object.
    found.remove(0);
    found
}

/// Runs a round with the stack that evaluations have, and says which one it was when it fails.
fn each(target: &'static str, run: impl Fn(&mut Dice) + Send + Sync) {
    std::thread::scope(|scope| {
        let run = &run;
        std::thread::Builder::new()
            .stack_size(crate::policy::STACK)
            .spawn_scoped(scope, move || {
                for round in 0..rounds() {
                    let mut dice = Dice::new(target, round);
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut dice)));
                    assert!(outcome.is_ok(), "target {target}, round {round}");
                }
            })
            .unwrap();
    });
    let resident = resident();
    assert!(resident < MAX_RESIDENT, "{resident} bytes");
}

/// Most memory that this process ever had.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

/// The engine's own failures are caught, and must not happen.
fn sound(message: &str, text: &str) {
    assert!(!message.contains("failed in itself"), "{message}\n{text}");
}

#[test]
fn loading_ends_and_says_where_it_failed() {
    let texts = policies();
    each("load", |dice| {
        let text = mutated(dice, &texts);
        let start = Instant::now();
        match parse_either("x.rego", &text) {
            Ok(parsed) => {
                if let Err(problems) = Program::compile(&[&parsed]) {
                    for problem in problems {
                        sound(&problem.message, &text);
                    }
                }
            }
            Err(problem) => {
                sound(&problem.message, &text);
                assert!(
                    problem.line.is_some() || problem.message.contains("bytes"),
                    "{problem}\n{text}"
                );
            }
        }
        assert!(start.elapsed() < SLACK, "{:?}\n{text}", start.elapsed());
    });
}

#[test]
fn what_is_rewritten_still_parses() {
    let texts = policies();
    each("rewrite", |dice| {
        let text = mutated(dice, &texts);
        for version in [Version::V0, Version::V1] {
            let Ok(parsed) = parse("x.rego", &text, version) else {
                continue;
            };
            assert_eq!(
                parsed.text.matches('\n').count(),
                text.matches('\n').count(),
                "{text}\n{}",
                parsed.text
            );
            // Nothing is left to rewrite.
            let again = parse("x.rego", &parsed.text, version);
            let again = again.unwrap_or_else(|problem| panic!("{problem}\n{text}\n---\n{}", parsed.text));
            assert_eq!(again.text, parsed.text, "{text}");
        }
    });
}

#[test]
fn evaluating_ends_within_its_budget() {
    let texts = policies();
    each("evaluate", |dice| {
        let text = mutated(dice, &texts);
        let Ok(parsed) = parse_either("x.rego", &text) else {
            return;
        };
        let Ok(program) = Program::compile(&[&parsed]) else {
            return;
        };
        let text_input = "a".repeat(dice.below(300_000));
        let input = json!({"review": {"object": object(dice), "text": text_input}, "parameters": {}});
        let input = Value::from(input);
        let inventory = Inventory::from_objects([&object(dice)]);
        for rule in ["violation", "deny", "warn"] {
            let start = Instant::now();
            let path = parsed.rule_path(rule);
            let mut session = program.session(input.clone(), &inventory);
            if let Err(error) = session.value(&path, Deadline::after(BUDGET)) {
                sound(&error.to_string(), &text);
            }
            assert!(start.elapsed() < SLACK, "{:?}\n{text}", start.elapsed());
        }
    });
}

#[test]
fn matching_never_fails() {
    let fields = [
        "kinds",
        "scope",
        "namespaces",
        "excludedNamespaces",
        "labelSelector",
        "namespaceSelector",
        "name",
        "source",
    ];
    let template = super::template::tests::template("Fuzz", "package fuzz\nviolation[{\"msg\": \"x\"}] { true }");
    let base = Library::load(&Sources {
        templates: vec![template.clone()],
        ..Sources::default()
    });
    each("match", |dice| {
        let mut matching = json!({"kinds": [{"apiGroups": ["*"], "kinds": ["Deployment"]}], "scope": "Namespaced", "namespaces": ["n*"],
            "excludedNamespaces": ["*-x"], "labelSelector": {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]},
            "namespaceSelector": {"matchLabels": {"env": "prod"}}, "name": "a*", "source": "All"});
        for field in fields {
            match dice.below(3) {
                0 => {
                    matching.as_object_mut().unwrap().remove(field);
                }
                1 => matching[field] = serde_json::from_str(dice.of::<&str>(&ODD)).unwrap(),
                _ => {}
            }
        }
        let constraint = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "Fuzz", "metadata": {"name": "x"},
            "spec": {"match": matching, "enforcementAction": *dice.of(&["deny", "warn", "dryrun", "scoped", "", "nonsense"])}});
        let loaded = Library::reload(
            &base.library,
            &Sources {
                templates: vec![template.clone()],
                constraints: vec![Document {
                    origin: "c".to_owned(),
                    value: constraint,
                }],
                rego: vec![RegoFile {
                    name: "x.rego".to_owned(),
                    text: "package x\ndeny contains \"x\" if input.review.name == \"b\"".to_owned(),
                }],
            },
        );
        let (object, old) = (object(dice), object(dice));
        let mut request = json!({"operation": *dice.of(&["CREATE", "UPDATE", "DELETE", "CONNECT", "x"]), "namespace": "n",
            "object": object, "oldObject": old});
        if dice.below(2) == 0 {
            let at = dice.of(&["operation", "namespace", "object", "oldObject", "kind", "userInfo"]);
            request[*at] = serde_json::from_str(dice.of::<&str>(&ODD)).unwrap();
        }
        if let Ok(review) = Review::from_admission(&request, None) {
            let _ = loaded.library.evaluate(&review, &Inventory::default(), SLACK);
        }
    });
}
