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
        let raw = Raw::deserialize(value).map_err(|error| format!("{field} is malformed: {error}"))?;
        let labels = raw.match_labels.unwrap_or_default();
        let mut all: Vec<Requirement> = labels
            .into_iter()
            .map(|(key, value)| Requirement::In(key, vec![value]))
            .collect();
        for expression in raw.match_expressions.unwrap_or_default() {
            let values = expression.values.unwrap_or_default();
            let (key, operator) = (expression.key, expression.operator);
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
    }
}
