//! The CRDs of Flux's kinds say what Flux's own say, field by field.
//!
//! `manifests/flux/*.txt` are facts about Flux 2.9's CRDs, a line for each: `*` marks what is required. They were gathered
//! from Flux's API, not from Weir's, so a difference is a mistake of ours.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

#[test]
fn the_crds_of_flux_kinds_are_flux_own() {
    let mut checked = Vec::new();
    for crd in weir::api::schema::crds().unwrap() {
        let names = &crd["spec"]["names"];
        if !crd["spec"]["group"].as_str().unwrap().ends_with("fluxcd.io") {
            continue;
        }
        let kind = names["kind"].as_str().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/manifests/flux/{kind}.txt"));
        let wanted = std::fs::read_to_string(&file).unwrap();
        let wanted: Vec<&str> = wanted.lines().filter(|line| !line.starts_with('#')).collect();
        let ours = facts(&crd);
        let lacking = wanted.iter().filter(|line| !ours.iter().any(|one| one == *line));
        let surplus = ours.iter().filter(|line| !wanted.contains(&line.as_str()));
        let differences: Vec<String> = lacking
            .map(|line| format!("- {line}"))
            .chain(surplus.map(|line| format!("+ {line}")))
            .collect();
        assert!(
            differences.is_empty(),
            "{kind}: Flux has (-), src/api has (+):\n{}",
            differences.join("\n")
        );
        checked.push(kind.to_owned());
    }
    checked.sort();
    assert_eq!(
        checked,
        [
            "ArtifactGenerator",
            "ExternalArtifact",
            "GitRepository",
            "Kustomization"
        ]
    );
}

/// All that a CRD says, descriptions aside.
fn facts(crd: &Value) -> Vec<String> {
    let (spec, text) = (&crd["spec"], |value: &Value| value.as_str().unwrap().to_owned());
    let list = |value: &Value| {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(text).collect::<Vec<_>>().join(",")
    };
    let names = &spec["names"];
    let mut lines = vec![
        format!(
            "kind {}.{} {}",
            text(&names["plural"]),
            text(&spec["group"]),
            text(&spec["scope"])
        ),
        format!(
            "names {} {} short={} categories={}",
            text(&names["kind"]),
            text(&names["singular"]),
            list(&names["shortNames"]),
            list(&names["categories"])
        ),
    ];
    for (key, value) in crd["metadata"]["annotations"].as_object().unwrap() {
        lines.push(format!("annotation {key}={}", text(value)));
    }
    for version in spec["versions"].as_array().unwrap() {
        let subresources = version["subresources"].as_object().unwrap().keys().cloned();
        lines.push(format!(
            "version {} served={} storage={} subresources={}",
            text(&version["name"]),
            version["served"],
            version["storage"],
            subresources.collect::<Vec<_>>().join(",")
        ));
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let (name, kind, path) = (&column["name"], &column["type"], &column["jsonPath"]);
            lines.push(format!("column {} {} {}", text(name), text(kind), text(path)));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        for (name, of) in fields(schema) {
            field(&name, of, schema, &mut lines);
        }
    }
    lines
}

fn fields(schema: &Value) -> Vec<(String, &Value)> {
    let properties = schema["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, of)| (name.clone(), of))
        .collect()
}

fn field(path: &str, schema: &Value, parent: &Value, lines: &mut Vec<String>) {
    let last = path.rsplit('.').next().unwrap_or(path);
    let required = parent["required"]
        .as_array()
        .is_some_and(|names| names.iter().any(|name| name == last));
    let mut line = format!("{path}{}", if required { "*" } else { "" });
    describe(schema, &mut line);
    lines.push(line);
    below(path, schema, lines);
}

fn below(path: &str, schema: &Value, lines: &mut Vec<String>) {
    for (name, of) in fields(schema) {
        field(&format!("{path}.{name}"), of, schema, lines);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(of) = schema.get(key).filter(|of| of.is_object()) {
            let path = format!("{path}{mark}");
            let mut line = path.clone();
            describe(of, &mut line);
            lines.push(line);
            below(&path, of, lines);
        }
    }
}

/// Type and bounds; every keyword of a schema that is not looked into elsewhere, so none can be overlooked.
fn describe(schema: &Value, line: &mut String) {
    line.push(' ');
    line.push_str(schema["type"].as_str().unwrap_or("-"));
    let sorted: BTreeMap<&String, &Value> = schema.as_object().unwrap().iter().collect();
    for (key, value) in sorted {
        match key.as_str() {
            "type" | "description" | "properties" | "items" | "additionalProperties" | "required" => {}
            "x-kubernetes-validations" => {
                for rule in value.as_array().unwrap() {
                    line.push_str(&format!(" cel={} says={}", rule["rule"], rule["message"]));
                }
            }
            _ => line.push_str(&format!(" {key}={value}")),
        }
    }
}
