//! The answer as SARIF 2.1.0, which code scanning reads.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::report::{Item, Report, Verdict};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &log(report))?;
    writeln!(out)
}

fn log(report: &Report) -> Value {
    let all = || report.denials.iter().chain(&report.warnings);
    let policies: BTreeMap<&str, &Item> = all().map(|item| (item.policy.as_str(), item)).collect();
    let rules: Vec<Value> = policies.values().map(|item| rule(item)).collect();
    let result = |level: &str, item: &Item| {
        let index = policies.keys().position(|policy| *policy == item.policy);
        result(level, index, item)
    };
    let denials = report.denials.iter().map(|item| result("error", item));
    let warnings = report.warnings.iter().map(|item| result("warning", item));
    let results: Vec<Value> = denials.chain(warnings).collect();
    let notifications: Vec<Value> = report
        .errors
        .iter()
        .map(|error| json!({"level": "error", "message": {"text": error.message}}))
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "weir", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "invocations": [{
                "executionSuccessful": report.verdict != Verdict::Undecided,
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    })
}

fn rule(item: &Item) -> Value {
    let mut rule =
        json!({"id": item.policy, "shortDescription": {"text": item.title.as_ref().unwrap_or(&item.policy)}});
    if let (Some(fields), Some(hint)) = (rule.as_object_mut(), &item.hint) {
        fields.insert("help".to_owned(), json!({"text": hint}));
    }
    rule
}

fn result(level: &str, index: Option<usize>, item: &Item) -> Value {
    let mut location =
        json!({"logicalLocations": [{"fullyQualifiedName": item.object.to_string(), "kind": "resource"}]});
    if let (Some(fields), Some(file)) = (location.as_object_mut(), &item.file) {
        fields.insert(
            "physicalLocation".to_owned(),
            json!({"artifactLocation": {"uri": uri(file)}, "region": {"startLine": item.line.unwrap_or(1)}}),
        );
    }
    json!({
        "ruleId": item.policy,
        "ruleIndex": index,
        "level": level,
        "message": {"text": format!("{}: {}", item.object, item.message)},
        "locations": [location],
    })
}

/// A path as a relative reference: only what a URI cannot hold is escaped.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
