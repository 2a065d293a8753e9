//! Where each field of a built object is written: pure, on the documents of the files that the build read.
//!
//! Kustomize keeps from which file an object came and not from which line a field did. So the field is looked for: in the
//! document that declares the object, in patches for it, and among the images and replicas of kustomizations. Guarantee: a
//! line is named only where the value stands that the build gave; what transformers made has its file only.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::core::fields::{Path, Step};
use crate::render::Document;

/// What an encrypted value begins with: it is another one than the build gave.
const ENCRYPTED: &str = "ENC[";
/// What a variable of `postBuild` begins with.
const VARIABLE: &str = "${";

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The file.
    pub(super) file: String,
    /// The line, where it is known.
    pub(super) line: Option<u32>,
}

/// One object in a file.
pub(super) struct Part {
    file: String,
    value: Value,
    /// Where it stands in its document.
    at: String,
    /// Line on which it begins.
    begins: u32,
    lines: Arc<HashMap<String, u32>>,
}

/// The objects of a file, those in lists too.
pub(super) fn parts(file: &str, documents: Vec<Document>) -> Vec<Part> {
    let mut found = Vec::new();
    for document in documents {
        let lines = Arc::new(document.lines);
        let part = |value: Value, at: String, begins: u32| Part {
            file: file.to_owned(),
            value,
            at,
            begins,
            lines: Arc::clone(&lines),
        };
        let is_list = text(&document.value, "/kind").is_some_and(|kind| kind.ends_with("List"));
        match document.value.get("items").and_then(Value::as_array) {
            Some(items) if is_list => {
                for (index, item) in items.iter().enumerate() {
                    let at = format!("/items/{index}");
                    let begins = lines.get(&at).copied().unwrap_or(document.line);
                    found.push(part(item.clone(), at, begins));
                }
            }
            _ => found.push(part(document.value, String::new(), document.line)),
        }
    }
    found
}

/// Where a field of an object is written, given all parts of the files that were read. `declared` is where the object is.
pub(super) fn written(path: &Path, object: &Value, declared: &Written, parts: &[Part]) -> Written {
    let line = || {
        let (value, _) = find(object, path)?;
        let here = |part: &&Part| part.file == declared.file && Some(part.begins) == declared.line;
        let declaring = parts.iter().find(here);
        if let Some(line) = declaring.and_then(|part| part.line_of(path, value)) {
            return Some((declared.file.clone(), line));
        }
        let all = parts.iter().filter_map(|part| {
            let line = part
                .patch(path, object, value)
                .or_else(|| part.set(path, object, value))?;
            Some((part.file.clone(), line))
        });
        let mut all: Vec<(String, u32)> = all.collect();
        all.dedup();
        // Two that say the same: which of them counted is not known.
        (all.len() == 1).then(|| all.pop()).flatten()
    };
    match line() {
        Some((file, line)) => Written { file, line: Some(line) },
        None => Written {
            file: declared.file.clone(),
            line: None,
        },
    }
}

impl Part {
    /// The line of a field, if it has the value.
    fn line_of(&self, path: &Path, value: &Value) -> Option<u32> {
        let (here, pointer) = find(&self.value, path)?;
        let stands_for = |text: &str| text.starts_with(ENCRYPTED) || text.contains(VARIABLE);
        (here == value || here.as_str().is_some_and(stands_for)).then(|| self.line(&pointer))?
    }

    fn line(&self, pointer: &str) -> Option<u32> {
        self.lines.get(&format!("{}{pointer}", self.at)).copied()
    }

    /// The line of a field in a patch of the object.
    fn patch(&self, path: &Path, object: &Value, value: &Value) -> Option<u32> {
        let kind = text(&self.value, "/kind").is_some_and(|kind| Some(kind) == text(object, "/kind"));
        (kind && is_of(text(&self.value, "/metadata/name")?, object)).then(|| self.line_of(path, value))?
    }

    /// The line of an image or of replicas that a kustomization sets.
    fn set(&self, path: &Path, object: &Value, value: &Value) -> Option<u32> {
        let Some(Step::Field(last)) = path.0.last() else {
            return None;
        };
        let entries = |field: &str| {
            self.value
                .get(field)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .enumerate()
        };
        match (last.as_str(), value) {
            ("image", Value::String(image)) => entries("images").find_map(|(index, entry)| {
                let name = entry.get("newName").or_else(|| entry.get("name"))?.as_str()?;
                let rest = image.strip_prefix(name)?;
                let by = |field: &'static str, mark: char| {
                    let set = entry.get(field)?.as_str()?;
                    (rest.strip_prefix(mark)? == set).then_some(field)
                };
                let field = by("newTag", ':').or_else(|| by("digest", '@'));
                let field =
                    field.or_else(|| (rest.is_empty() || entry.get("newName").is_some()).then_some("newName"))?;
                self.line(&format!("/images/{index}/{field}"))
            }),
            ("replicas", count) => entries("replicas").find_map(|(index, entry)| {
                let ours = is_of(entry.get("name")?.as_str()?, object) && entry.get("count") == Some(count);
                ours.then(|| self.line(&format!("/replicas/{index}/count")))?
            }),
            _ => None,
        }
    }
}

/// Whether a name in a file is the object's, which may have got a prefix or a suffix since.
fn is_of(name: &str, object: &Value) -> bool {
    text(object, "/metadata/name").is_some_and(|built| built.contains(name))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The value at a path and its JSON pointer. In a list the item counts that has the path's keys; of those that a file leaves
/// out, as a port's protocol, the API server has made the default.
fn find<'a>(object: &'a Value, path: &Path) -> Option<(&'a Value, String)> {
    let (mut value, mut pointer) = (object, String::new());
    for step in &path.0 {
        let token = match step {
            Step::Field(name) => name.replace('~', "~0").replace('/', "~1"),
            Step::Index(index) => index.to_string(),
            Step::Key(_) | Step::Value(_) => position(value, step)?.to_string(),
        };
        value = match (value, step) {
            (Value::Object(fields), Step::Field(name)) => fields.get(name)?,
            (Value::Array(items), Step::Index(_) | Step::Key(_) | Step::Value(_)) => {
                items.get(token.parse::<usize>().ok()?)?
            }
            _ => return None,
        };
        pointer.push('/');
        pointer.push_str(&token);
    }
    Some((value, pointer))
}

/// The only item of a list that a step leads to.
fn position(list: &Value, step: &Step) -> Option<usize> {
    let fits = |item: &Value| match step {
        Step::Key(keys) => {
            let has = |name: &String| item.get(name).is_some();
            keys.iter().any(|(name, _)| has(name))
                && keys
                    .iter()
                    .all(|(name, value)| item.get(name).is_none_or(|here| value.is(here)))
        }
        Step::Value(value) => value.is(item),
        Step::Field(_) | Step::Index(_) => false,
    };
    let items = list.as_array()?.iter().enumerate();
    let mut found = items.filter(|(_, item)| fits(item)).map(|(index, _)| index);
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fields::FieldSet;
    use serde_json::json;

    fn part(file: &str, line: u32, value: Value, lines: &[(&str, u32)]) -> Vec<Part> {
        let lines = lines
            .iter()
            .map(|(pointer, line)| ((*pointer).to_owned(), *line))
            .collect();
        parts(file, vec![Document { value, line, lines }])
    }

    /// `file:line` of each field.
    fn places(fields: Value, object: &Value, declared: (&str, u32), parts: &[Part]) -> Vec<String> {
        let declared = Written {
            file: declared.0.to_owned(),
            line: Some(declared.1),
        };
        let paths = FieldSet::parse(&fields).unwrap().paths();
        let shown = paths.iter().map(|path| {
            let Written { file, line } = written(path, object, &declared, parts);
            format!("{path} {file}{}", line.map_or(String::new(), |line| format!(":{line}")))
        });
        shown.collect()
    }

    #[test]
    fn a_field_is_where_its_value_stands() {
        let base = part(
            "base/web.yaml",
            3,
            json!({"kind": "Deployment", "metadata": {"name": "web", "labels": {"a/b": "c"}},
                "spec": {"replicas": 1, "paused": true, "text": "${TEXT}", "containers": [
                    {"name": "web", "image": "shop/web", "ports": [{"containerPort": 80}]}]}}),
            &[
                ("/metadata/labels/a~1b", 6),
                ("/spec/replicas", 8),
                ("/spec/paused", 9),
                ("/spec/text", 10),
                ("/spec/containers/0/image", 12),
                ("/spec/containers/0/ports/0/containerPort", 14),
            ],
        );
        let patch = part(
            "prod/scale.yaml",
            1,
            json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 3}}),
            &[("/spec/replicas", 6)],
        );
        let kustomization = part(
            "prod/kustomization.yaml",
            1,
            json!({"kind": "Kustomization", "images": [{"name": "other", "newTag": "1"}, {"name": "shop/web", "newTag": "1.2"}]}),
            &[("/images/1/newTag", 7)],
        );
        let parts: Vec<Part> = base.into_iter().chain(patch).chain(kustomization).collect();
        let object = json!({"kind": "Deployment", "metadata": {"name": "prod-web", "labels": {"a/b": "c"}},
            "spec": {"replicas": 3, "paused": false, "text": "filled in", "containers": [
                {"name": "web", "image": "shop/web:1.2", "ports": [{"containerPort": 80}]}]}});
        let fields = json!({"f:metadata": {"f:labels": {"f:a/b": {}}}, "f:spec": {"f:replicas": {}, "f:paused": {},
            "f:text": {}, "f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}, "f:ports": {
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {"f:containerPort": {}}}}}}});
        assert_eq!(
            places(fields, &object, ("base/web.yaml", 3), &parts),
            [
                "metadata.labels[\"a/b\"] base/web.yaml:6",
                "spec.containers[name=\"web\"].image prod/kustomization.yaml:7",
                "spec.containers[name=\"web\"].ports[containerPort=80,protocol=\"TCP\"].containerPort base/web.yaml:14",
                // Something made it, and nothing says what.
                "spec.paused base/web.yaml",
                "spec.replicas prod/scale.yaml:6",
                "spec.text base/web.yaml:10",
            ]
        );
    }

    #[test]
    fn what_two_files_say_has_no_line_and_lists_are_looked_into() {
        let config = |value: &str| json!({"kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"a": value}});
        let list = part(
            "all.yaml",
            1,
            json!({"kind": "List", "items": [config("1"), config("2")]}),
            &[("/items/0", 4), ("/items/1", 9), ("/items/1/data/a", 13)],
        );
        let fields = json!({"f:data": {"f:a": {}}});
        assert_eq!(
            places(fields.clone(), &config("2"), ("all.yaml", 9), &list),
            ["data.a all.yaml:13"]
        );
        let one = part("one.yaml", 1, config("3"), &[("/data/a", 5)]);
        let two = part("two.yaml", 1, config("3"), &[("/data/a", 5)]);
        let parts: Vec<Part> = list.into_iter().chain(one).chain(two).collect();
        assert_eq!(
            places(fields, &config("3"), ("all.yaml", 4), &parts),
            ["data.a all.yaml"]
        );
    }
}
