//! Label selectors, as the API server reads them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

/// A label selector that was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

/// What the API server knows.
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    match_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    match_expressions: Option<Vec<RawExpression>>,
}

#[derive(Deserialize)]
struct RawExpression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Option<Vec<String>>,
}

impl Selector {
    /// Reads a selector; the error names what is wrong with the field.
    pub(crate) fn read(field: &str, value: &Json) -> Result<Self, String> {
        if !value.is_object() {
            return Err(format!("{field} is malformed: it must be an object"));
        }
        let raw = Raw::deserialize(value).map_err(|error| format!("{field} is malformed: {error}"))?;
        let labels = raw.match_labels.unwrap_or_default();
        for (key, value) in &labels {
            is_key(key)
                .then_some(())
                .ok_or_else(|| format!("{field}.matchLabels: {key:?} is no key of a label"))?;
            is_value(value)
                .then_some(())
                .ok_or_else(|| format!("{field}.matchLabels: {value:?} is no value of a label"))?;
        }
        let mut all: Vec<Requirement> = labels
            .into_iter()
            .map(|(key, value)| Requirement::In(key, vec![value]))
            .collect();
        for expression in raw.match_expressions.unwrap_or_default() {
            let values = expression.values.unwrap_or_default();
            let (key, operator) = (expression.key, expression.operator);
            if !is_key(&key) {
                return Err(format!("{field}.matchExpressions: {key:?} is no key of a label"));
            }
            if !OPERATORS.contains(&operator.as_str()) {
                let known = OPERATORS.join(", ");
                return Err(format!(
                    "{field}.matchExpressions: operator {operator:?} is none of {known}"
                ));
            }
            let needs = matches!(operator.as_str(), "In" | "NotIn");
            if needs == values.is_empty() {
                let should = if needs { "must have" } else { "must not have" };
                return Err(format!(
                    "{field}.matchExpressions: operator {operator} of key {key} {should} values"
                ));
            }
            if let Some(value) = values.iter().find(|value| !is_value(value)) {
                return Err(format!("{field}.matchExpressions: {value:?} is no value of a label"));
            }
            all.push(match operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                _ => Requirement::DoesNotExist(key),
            });
        }
        Ok(Self(all))
    }

    /// Whether the labels of an object fit.
    pub(crate) fn matches(&self, object: &Json) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Json::as_str);
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|found| values.iter().all(|value| value != found)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::DoesNotExist(key) => label(key).is_none(),
        })
    }
}

/// Longest value of a label, and longest name in its key, as the API server has it.
const MAX_NAME: usize = 63;
/// Longest prefix of a key: a DNS name.
const MAX_PREFIX: usize = 253;

/// Whether a label can have this key: a name, or a DNS name, a slash and a name.
fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let part = |part: &str| {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || c == '-')
    };
    !name.is_empty()
        && is_value(name)
        && prefix.is_none_or(|prefix| prefix.len() <= MAX_PREFIX && prefix.split('.').all(part))
}

/// Whether a label can have this value.
fn is_value(value: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    value.is_empty()
        || value.len() <= MAX_NAME
            && value.starts_with(outer)
            && value.ends_with(outer)
            && value.chars().all(|c| outer(c) || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_match_as_the_api_servers_do() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": ""}}});
        let check = |selector: Json, expect: bool| {
            assert_eq!(
                Selector::read("s", &selector).unwrap().matches(&object),
                expect,
                "{selector}"
            );
        };
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "web", "tier": ""}}), true);
        check(json!({"matchLabels": {"app": "db"}}), false);
        check(
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
            false,
        );
        check(
            json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
            false,
        );
    }

    #[test]
    fn malformed_selectors_are_refused() {
        let check = |selector: Json, expect: &str| {
            let said = Selector::read("labelSelector", &selector).unwrap_err();
            assert!(said.contains(expect), "{said}");
        };
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
            "operator \"Is\" is none of In, NotIn, Exists, DoesNotExist",
        );
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "operator In of key a must have values",
        );
        check(
            json!({"matchLabels": {"a": 1}}),
            "labelSelector is malformed: invalid type",
        );
        check(json!([]), "labelSelector is malformed: it must be an object");
        check(
            json!({"matchLabels": {"a b": "c"}}),
            "labelSelector.matchLabels: \"a b\" is no key of a label",
        );
        check(
            json!({"matchLabels": {"a.b/c": "not a label!"}}),
            "labelSelector.matchLabels: \"not a label!\" is no value of a label",
        );
        for key in ["", "/a", "A/b", "a/", "a/b/c", "-a"] {
            check(
                json!({"matchExpressions": [{"key": key, "operator": "Exists"}]}),
                "is no key of a label",
            );
        }
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c."]}]}),
            "labelSelector.matchExpressions: \"c.\" is no value of a label",
        );
    }
}
