//! Operations and patterns as tables: a source, what is asked for, and the files that come of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::pattern::requests;
use super::{Composed, Content, Tools, compose, directories};
use crate::api::extensions::{ArtifactGeneratorSpec, CopyOperation};
use crate::core::snapshot::{FileKind, Files};
use crate::source::artifact::join;

/// Merges by writing one after the other; an archive holds one file that says what it was made of.
struct Plain;

impl Tools for Plain {
    fn merge(&self, below: &[u8], above: &[u8]) -> Result<Vec<u8>, String> {
        if above.starts_with(b"!") {
            return Err("no YAML".to_owned());
        }
        Ok([below, b"+", above].concat())
    }

    fn extract(&self, archive: &[u8]) -> Result<Arc<dyn Files>, String> {
        Ok(Arc::new(tree(&[("inner/file", &String::from_utf8_lossy(archive))])))
    }
}

fn tree(files: &[(&str, &str)]) -> Composed {
    let mut tree = Composed::default();
    for (path, content) in files {
        tree.put(path, Content::Made(Arc::new(content.as_bytes().to_vec())))
            .unwrap();
    }
    tree.directories = directories(tree.files.keys());
    tree
}

fn sources() -> HashMap<String, Arc<dyn Files>> {
    let repo = tree(&[
        ("README.md", "r"),
        ("apps/API/prod/k.yaml", "api-prod"),
        ("apps/web/dev/k.yaml", "web-dev"),
        ("apps/web/prod/deep/x.yaml", "deep"),
        ("apps/web/prod/k.yaml", "web-prod"),
        ("charts/one.tgz", "one"),
        ("charts/two.txt", "two"),
        ("values.yaml", "base"),
    ]);
    let more = tree(&[("values.yaml", "more"), ("broken.yaml", "!")]);
    HashMap::from([
        ("repo".to_owned(), Arc::new(repo) as Arc<dyn Files>),
        ("more".to_owned(), Arc::new(more) as Arc<dyn Files>),
    ])
}

fn operation(value: Value) -> CopyOperation {
    serde_json::from_value(value).unwrap()
}

/// Path to content, by walking the tree from its root as a packer does.
fn shown(tree: &dyn Files, directory: &str, into: &mut BTreeMap<String, String>) {
    for entry in tree.list(directory).unwrap().unwrap() {
        let path = join(directory, &entry.name);
        match entry.kind {
            FileKind::Dir => shown(tree, &path, into),
            FileKind::File => {
                let content = tree.read(&path).unwrap().unwrap();
                into.insert(path, String::from_utf8(content).unwrap());
            }
        }
    }
}

fn made(operations: &[Value]) -> Result<String, String> {
    let operations: Vec<CopyOperation> = operations.iter().cloned().map(operation).collect();
    let composed = compose(&operations, &sources(), &Plain).map_err(|error| error.to_string())?;
    let mut files = BTreeMap::new();
    shown(&composed, "", &mut files);
    let lines = files.iter().map(|(path, content)| format!("{path}={content}"));
    Ok(lines.collect::<Vec<_>>().join(" "))
}

#[test]
fn files_and_directories_go_where_cp_would_put_them() {
    let check = |from: &str, to: &str, expect: &str| {
        let copied = made(&[json!({"from": from, "to": to})]);
        assert_eq!(copied.as_deref(), Ok(expect), "{from} {to}");
    };
    check("@repo/README.md", "@artifact/", "README.md=r");
    check("@repo/README.md", "@artifact/docs/", "docs/README.md=r");
    check("@repo/README.md", "@artifact/docs", "docs=r");
    check("@repo/apps/web/dev", "@artifact/", "dev/k.yaml=web-dev");
    check("@repo/apps/web/dev/", "@artifact/x", "x/dev/k.yaml=web-dev");
    check("@more/", "@artifact/m", "m/broken.yaml=! m/values.yaml=more");
    check("@repo/apps/web/dev/**", "@artifact/x/", "x/k.yaml=web-dev");
    check(
        "@repo/apps/web/prod/*",
        "@artifact/",
        "apps/web/prod/deep/x.yaml=deep apps/web/prod/k.yaml=web-prod",
    );
    check("@repo/apps/**/x.yaml", "@artifact/", "apps/web/prod/deep/x.yaml=deep");
    check("@more/**", "@artifact/", "broken.yaml=! values.yaml=more");
    check("@more/v?lues.{yaml,yml}", "@artifact/", "values.yaml=more");
}

#[test]
fn what_is_excluded_is_left_out_wherever_it_is_named_from() {
    let check = |from: &str, exclude: &[&str], expect: &str| {
        let copied = made(&[json!({"from": from, "to": "@artifact/", "exclude": exclude})]);
        assert_eq!(copied.as_deref(), Ok(expect), "{from} {exclude:?}");
    };
    check(
        "@repo/apps/web/**",
        &["dev"],
        "prod/deep/x.yaml=deep prod/k.yaml=web-prod",
    );
    check("@repo/apps/web/**", &["k.yaml"], "prod/deep/x.yaml=deep");
    check(
        "@repo/apps/web/**",
        &["prod/deep/**"],
        "dev/k.yaml=web-dev prod/k.yaml=web-prod",
    );
    check("@repo/apps/web/**", &["apps/web/prod/**"], "dev/k.yaml=web-dev");
    check("@repo/apps/web", &["prod"], "web/dev/k.yaml=web-dev");
    check("@repo/*.md", &["*.txt"], "README.md=r");
}

#[test]
fn later_operations_lie_over_earlier_ones() {
    let (base, more) = ("@repo/values.yaml", "@more/values.yaml");
    let to = "@artifact/values.yaml";
    let two = |strategy: Value| {
        let mut above = json!({"from": more, "to": to});
        if !strategy.is_null() {
            above["strategy"] = strategy;
        }
        made(&[json!({"from": base, "to": to}), above])
    };
    assert_eq!(two(Value::Null).as_deref(), Ok("values.yaml=more"));
    assert_eq!(two(json!("Overwrite")).as_deref(), Ok("values.yaml=more"));
    assert_eq!(two(json!("Merge")).as_deref(), Ok("values.yaml=base+more"));
    // With nothing to merge into, it is a copy.
    let alone = made(&[json!({"from": more, "to": to, "strategy": "Merge"})]);
    assert_eq!(alone.as_deref(), Ok("values.yaml=more"));
    // A file in place of a directory, and a directory in place of a file.
    let first = json!({"from": "@repo/apps/web/dev", "to": "@artifact/"});
    let file = made(&[first.clone(), json!({"from": base, "to": "@artifact/dev/k.yaml/x"})]);
    assert_eq!(file.as_deref(), Ok("dev/k.yaml/x=base"));
    let into = made(&[first, json!({"from": base, "to": "@artifact/dev"})]);
    assert_eq!(into.as_deref(), Ok("dev/k.yaml=web-dev dev/values.yaml=base"));
}

#[test]
fn archives_are_extracted_and_other_files_passed_over() {
    let extract = |from: &str| made(&[json!({"from": from, "to": "@artifact/c", "strategy": "Extract"})]);
    assert_eq!(extract("@repo/charts/one.tgz").as_deref(), Ok("c/inner/file=one"));
    assert_eq!(extract("@repo/charts/*").as_deref(), Ok("c/inner/file=one"));
    assert_eq!(extract("@repo/**").as_deref(), Ok("c/inner/file=one"));
    assert!(
        extract("@repo/charts/two.txt")
            .unwrap_err()
            .contains("'charts/two.txt' is no .tar.gz or .tgz")
    );
    assert!(extract("@repo/charts").unwrap_err().contains("'charts' is a directory"));
}

#[test]
fn what_cannot_be_copied_says_why() {
    let check = |value: Value, expect: &str| {
        let error = made(&[value]).unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    let to = "@artifact/";
    check(json!({"from": "@none/x", "to": to}), "source alias 'none' not found");
    check(json!({"from": "@repo/none", "to": to}), "source 'none' does not exist");
    check(
        json!({"from": "@repo/none/*.yaml", "to": to}),
        "nothing matches 'none/*.yaml'",
    );
    check(
        json!({"from": "@repo/*.md", "to": to, "exclude": ["*.md"]}),
        "everything that matches '*.md' is excluded",
    );
    check(json!({"from": "@repo/../x", "to": to}), "'../x' leads out of it");
    check(
        json!({"from": "@repo/README.md", "to": "@artifact/../x"}),
        "'../x' leads out of it",
    );
    check(json!({"from": "@repo/[", "to": to}), "invalid pattern '['");
    let many = format!("@repo/{{{}}}", "a,".repeat(21));
    check(json!({"from": many, "to": to}), "at most 20 are taken");
    let first = operation(json!({"from": "@repo/values.yaml", "to": "@artifact/values.yaml"}));
    let merge = json!({"from": "@more/broken.yaml", "to": "@artifact/values.yaml", "strategy": "Merge"});
    let error = compose(&[first, operation(merge)], &sources(), &Plain)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.ends_with("'broken.yaml' cannot be merged into 'values.yaml': no YAML"),
        "{error}"
    );
}

fn expanded(pattern: Value, name: &str, from: &str) -> Result<Vec<String>, String> {
    let mut spec = json!({
        "sources": [{"alias": "repo", "kind": "GitRepository", "name": "r"}],
        "artifacts": [{"name": name, "copy": [{"from": from, "to": "@artifact/"}]}],
    });
    if !pattern.is_null() {
        spec["pathPattern"] = pattern;
    }
    let spec: ArtifactGeneratorSpec = serde_json::from_value(spec).unwrap();
    let requests = requests(&spec, &sources()).map_err(|error| error.to_string())?;
    let line =
        |one: &super::pattern::Request| format!("{} {} {:?}", one.artifact.name, one.artifact.copy[0].from, one.labels);
    Ok(requests.iter().map(line).collect())
}

#[test]
fn a_pattern_makes_an_artifact_for_each_directory_that_matches() {
    let made = expanded(
        json!("@repo/apps/{app}/{env}"),
        "{app}-{env}",
        "@repo/apps/{app}/{env}/**",
    )
    .unwrap();
    assert_eq!(
        made,
        [
            r#"api-prod @repo/apps/API/prod/** {"app": "api", "env": "prod"}"#,
            r#"web-dev @repo/apps/web/dev/** {"app": "web", "env": "dev"}"#,
            r#"web-prod @repo/apps/web/prod/** {"app": "web", "env": "prod"}"#,
        ]
    );
    let part = expanded(json!("@repo/apps/w{rest}"), "w-{rest}", "@repo/apps/w{rest}/**").unwrap();
    assert_eq!(part, [r#"w-eb @repo/apps/web/** {"rest": "eb"}"#]);
    assert_eq!(expanded(json!("@repo/none/{x}"), "{x}", "@repo/{x}"), Ok(Vec::new()));
    assert_eq!(
        expanded(Value::Null, "plain", "@repo/x"),
        Ok(vec!["plain @repo/x {}".to_owned()])
    );
}

#[test]
fn a_pattern_that_does_not_fit_says_why() {
    let check = |pattern: &str, name: &str, expect: &str| {
        let error = expanded(json!(pattern), name, "@repo/x").unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    check("@none/{x}", "{x}", "source alias 'none' not found");
    check("@repo/apps/{a}/{a}", "{a}", "{a} is there twice");
    check("@repo/apps/{a", "x", "an opening brace without a closing one");
    check("@repo/apps/a}", "x", "a closing brace without an opening one");
    check("@repo/apps/{1a}", "x", "{1a} must be letters, digits and underscores");
    check(
        "@repo/apps/{app}",
        "{other}",
        "'{other}' uses {other}, which is not captured",
    );
    check(
        "@repo/apps/{app}",
        "same",
        "'apps/API' and 'apps/web' both make an artifact 'same'",
    );
    check("@repo/apps/{app}", "Big-{app}", "'Big-api' is no name of an object");
}
