//! Which value of an object a finding is about, and on which line it stands.
//!
//! A policy may say it in its details (`field`, a path such as `spec.replicas`). Most only quote the value in their message,
//! so what stands in quotes there is looked for among the values of the object. An answer is given only when there is
//! exactly one; a wrong one would be worse than none.

use serde_json::Value;

/// Longest file that is searched for a line: the most that one object can be in the cluster.
const MAX_FILE: u64 = 3 << 20;

/// A value and its path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offending {
    /// As in `spec.containers[0].image`.
    pub(super) path: String,
    /// The last key of the path; empty for an entry of a list.
    key: String,
    pub(super) value: Value,
}

/// The value that a finding is about.
pub(super) fn offending(object: &Value, message: &str, details: &Value) -> Option<Offending> {
    let leaves = leaves(object);
    if let Some(field) = details.get("field").and_then(Value::as_str) {
        return leaves
            .into_iter()
            .find(|leaf| leaf.found.path == field)
            .map(|leaf| leaf.found);
    }
    let mut words = quoted(message);
    // The longest is the most telling: an image rather than the name of its container.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    for word in &words {
        let fits = |leaf: &&Leaf| !leaf.names && text(&leaf.found.value).as_deref() == Some(word);
        let all: Vec<&Leaf> = leaves.iter().filter(fits).collect();
        let named: Vec<&Leaf> = all
            .iter()
            .filter(|leaf| leaf.within.iter().any(|name| name != word && words.contains(name)))
            .copied()
            .collect();
        for found in [all, named] {
            if let [only] = found.as_slice() {
                return Some(only.found.clone());
            }
        }
    }
    None
}

/// The line of a value in the document that begins at a line; `None` unless exactly one line has it.
pub(super) fn line(file: &str, begins: u32, offending: &Offending) -> Option<u32> {
    let small = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() <= MAX_FILE);
    let content = if small {
        std::fs::read_to_string(file).ok()?
    } else {
        return None;
    };
    line_in(&content, begins, offending)
}

fn line_in(content: &str, begins: u32, offending: &Offending) -> Option<u32> {
    let value = text(&offending.value)?;
    let lines = content
        .lines()
        .zip(1_u32..)
        .skip(usize::try_from(begins).ok()?.saturating_sub(1));
    let document = lines.take_while(|(line, number)| *number == begins || !line.starts_with("---"));
    let mut found = document.filter(|(line, _)| {
        let rest = entry(line);
        let rest = if offending.key.is_empty() {
            Some(rest)
        } else {
            let key = rest
                .trim_start_matches(['"', '\''])
                .strip_prefix(offending.key.as_str());
            key.and_then(|rest| rest.trim_start_matches(['"', '\'']).strip_prefix(':'))
        };
        let rest = rest.map(|rest| {
            rest.split(" #")
                .next()
                .unwrap_or_default()
                .trim()
                .trim_matches(['"', '\''])
        });
        rest == Some(value.as_str())
    });
    let (_, number) = found.next()?;
    found.next().is_none().then_some(number)
}

/// A line without the marks of the lists that it begins entries of.
fn entry(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some(inner) = rest.strip_prefix("- ") {
        rest = inner.trim_start();
    }
    rest
}

struct Leaf {
    found: Offending,
    /// Names of what it lies in.
    within: Vec<String>,
    /// Whether it identifies something rather than configuring it.
    names: bool,
}

fn leaves(object: &Value) -> Vec<Leaf> {
    fn walk(value: &Value, path: &str, key: &str, within: &[String], found: &mut Vec<Leaf>) {
        match value {
            Value::Object(fields) => {
                let mut within = within.to_vec();
                within.extend(fields.get("name").and_then(Value::as_str).map(str::to_owned));
                for (key, value) in fields {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    walk(value, &path, key, &within, found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(value, &format!("{path}[{index}]"), "", within, found);
                }
            }
            Value::Null => {}
            scalar => found.push(Leaf {
                names: matches!(key, "name" | "kind" | "apiVersion" | "namespace"),
                found: Offending {
                    path: path.to_owned(),
                    key: key.to_owned(),
                    value: scalar.clone(),
                },
                within: within.to_vec(),
            }),
        }
    }
    let mut found = Vec::new();
    walk(object, "", "", &[], &mut found);
    found
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// What stands in quotes of any kind.
fn quoted(message: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (open, close) in [('"', '"'), ('\'', '\''), ('`', '`'), ('<', '>')] {
        let mut rest = message;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((word, after)) = after.split_once(close) else {
                break;
            };
            if !word.is_empty() && !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
            rest = after;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "web", "labels": {"team": "a"}}, "spec": {"replicas": 3,
            "containers": [
                {"name": "web", "image": "nginx:latest", "args": ["--x", "--y"]},
                {"name": "side", "image": "nginx:latest", "tag": "b"}]}})
    }

    #[test]
    fn the_value_is_what_the_message_quotes_if_it_is_there_once() {
        let check = |message: &str, details: Value, expect: Option<&str>| {
            let found = offending(&object(), message, &details);
            assert_eq!(found.map(|found| found.path).as_deref(), expect, "{message}");
        };
        check("image \"nginx:latest\" is bad", Value::Null, None);
        check(
            "container \"side\" uses image \"nginx:latest\"",
            Value::Null,
            Some("spec.containers[1].image"),
        );
        check(
            "container <web> has <--y>",
            Value::Null,
            Some("spec.containers[0].args[1]"),
        );
        check("there are `3` of it", Value::Null, Some("spec.replicas"));
        check("name \"web\" is taken", Value::Null, None);
        check("nothing is quoted", Value::Null, None);
        check(
            "told",
            json!({"field": "metadata.labels.team"}),
            Some("metadata.labels.team"),
        );
        check("told wrong \"b\"", json!({"field": "nowhere"}), None);
    }

    #[test]
    fn the_line_is_told_only_when_it_is_sure() {
        let text = "a: 1\n---\nkind: X\nimage: nginx # why\nlist:\n  - image: \"other\"\n  - --y\nz: nginx\n---\nimage: nginx\n";
        let check = |path: &str, key: &str, value: &str, expect: Option<u32>| {
            let offending = Offending {
                path: path.to_owned(),
                key: key.to_owned(),
                value: json!(value),
            };
            assert_eq!(line_in(text, 3, &offending), expect, "{path}");
        };
        check("image", "image", "nginx", Some(4));
        check("list[0].image", "image", "other", Some(6));
        check("list[1]", "", "--y", Some(7));
        check("image", "image", "absent", None);
        check("kind", "kind", "nginx", None);
    }
}
