//! `json.match_schema` and `json.verify_schema`: JSON Schema as OPA checks it, with its words.
//!
//! Known are the keywords of draft 4 to 7 that say something about values, and references within the schema. A schema with
//! a reference elsewhere, or with `if`, `contains`, `dependencies` or `propertyNames`, is refused: the evaluation fails,
//! rather than that a document passes that should not.

mod matching;

use std::collections::BTreeMap;

use regorus::Value;
use serde_json::{Map, Value as Json};

use super::meter;
use matching::Matching;

/// Deepest nesting of schemas and documents that are gone through.
const MAX_DEPTH: usize = 64;
/// Most errors that are told.
const MAX_ERRORS: usize = 1_000;

const TYPES: [&str; 7] = ["array", "boolean", "integer", "number", "null", "object", "string"];
const UNKNOWN: [&str; 6] = ["if", "then", "else", "contains", "dependencies", "propertyNames"];

/// Why a schema is not used.
enum Refusal {
    /// It is no schema; OPA's words.
    Invalid(String),
    /// It is one, and not one that is known here.
    Unknown(String),
}

pub(super) fn verify(args: &[Value]) -> Option<Value> {
    let said = match document(args.first()?) {
        Err(error) => Err(Refusal::Invalid(error.to_owned())),
        Ok(schema) => check(&schema, 0),
    };
    let (valid, message) = match said {
        Ok(()) => (true, Value::Null),
        Err(Refusal::Invalid(error)) => (false, Value::from(format!("jsonschema: {error}"))),
        Err(Refusal::Unknown(error)) => return meter::refuse(|| format!("json.verify_schema: {error}")),
    };
    Some(Value::from(vec![Value::from(valid), message]))
}

pub(super) fn matches(args: &[Value]) -> Option<Value> {
    let (document, schema) = (document(args.first()?).ok()?, document(args.get(1)?).ok()?);
    match check(&schema, 0) {
        Ok(()) => {}
        Err(Refusal::Invalid(_)) => return None,
        Err(Refusal::Unknown(error)) => return meter::refuse(|| format!("json.match_schema: {error}")),
    }
    let mut matching = Matching {
        root: &schema,
        errors: Vec::new(),
    };
    matching.value(&document, &schema, "(root)", 0)?;
    let errors = matching.errors.into_iter().take(MAX_ERRORS).map(|(kind, field, text)| {
        let fields = [
            ("desc", text.clone()),
            ("error", format!("{field}: {text}")),
            ("field", field),
            ("type", kind.to_owned()),
        ];
        let fields = fields
            .into_iter()
            .map(|(name, text)| (Value::from(name), Value::from(text)));
        Value::from(fields.collect::<BTreeMap<_, _>>())
    });
    let errors: Vec<Value> = errors.collect();
    Some(Value::from(vec![Value::from(errors.is_empty()), Value::from(errors)]))
}

/// A document: JSON in a text, or an object or array.
fn document(value: &Value) -> Result<Json, &'static str> {
    match value {
        Value::String(text) => serde_json::from_str(text).map_err(|_| "invalid JSON string"),
        Value::Object(_) | Value::Array(_) => serde_json::to_value(value).map_err(|_| "the document is no JSON"),
        _ => Err("wrong type, expected string or object"),
    }
}

/// Whether a schema is one.
fn check(schema: &Json, depth: usize) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::Unknown(format!(
            "the schema is nested more than {MAX_DEPTH} deep"
        )));
    }
    let fields = match schema {
        Json::Bool(_) => return Ok(()),
        Json::Object(fields) => fields,
        _ => return Err(Refusal::Invalid("schema is invalid".to_owned())),
    };
    if let Some(name) = UNKNOWN.iter().find(|name| fields.contains_key(**name)) {
        return Err(Refusal::Unknown(format!("the keyword {name} is not known here")));
    }
    if let Some(reference) = fields
        .get("$ref")
        .and_then(Json::as_str)
        .filter(|reference| !reference.starts_with('#'))
    {
        return Err(Refusal::Unknown(format!(
            "the reference {reference} leads out of the schema"
        )));
    }
    if ["exclusiveMinimum", "exclusiveMaximum"]
        .iter()
        .any(|key| fields.get(*key).is_some_and(Json::is_boolean))
    {
        return Err(Refusal::Unknown(
            "exclusive bounds that are true or false are not known here; give the number".to_owned(),
        ));
    }
    let types = match fields.get("type") {
        Some(Json::Array(types)) => types.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    for name in types {
        let known = name.as_str().is_some_and(|name| TYPES.contains(&name));
        if !known {
            let given = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            return Err(Refusal::Invalid(format!(
                "has a primitive type that is NOT VALID -- given: /{given}/ Expected valid values are:[{}]",
                TYPES.join(" ")
            )));
        }
    }
    for key in ["properties", "patternProperties", "definitions", "$defs"] {
        for inner in fields
            .get(key)
            .and_then(Json::as_object)
            .into_iter()
            .flat_map(Map::values)
        {
            check(inner, depth + 1)?;
        }
    }
    for key in [
        "items",
        "additionalProperties",
        "additionalItems",
        "not",
        "allOf",
        "anyOf",
        "oneOf",
    ] {
        match fields.get(key) {
            Some(Json::Array(list)) => list.iter().try_for_each(|inner| check(inner, depth + 1))?,
            Some(inner @ Json::Object(_)) => check(inner, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;
    use serde_json::json;

    fn errors(document: Json, schema: Json) -> Option<Vec<String>> {
        let found = matches(&[keys::value(&document), keys::value(&schema)])?;
        let errors = serde_json::to_value(&found[1_usize]).unwrap();
        let errors = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["error"].as_str().unwrap().to_owned());
        Some(errors.collect())
    }

    #[test]
    fn what_does_not_fit_is_told_in_opas_words() {
        let schema = json!({"type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"items": {"enum": ["x"]}}, "c": {"$ref": "#/definitions/c"}},
            "definitions": {"c": {"type": "string", "pattern": "^[a-z]+$"}}});
        assert_eq!(
            errors(json!({"a": 3, "b": ["x"], "c": "q"}), schema.clone()),
            Some(vec![])
        );
        assert_eq!(
            errors(json!({"a": 1, "b": ["y"], "c": "Q", "d": 1}), schema.clone()),
            Some(vec![
                "a: Must be greater than or equal to 3".to_owned(),
                "b.0: b.0 must be one of the following: \"x\"".to_owned(),
                "c: Does not match pattern '^[a-z]+$'".to_owned(),
                "(root): Additional property d is not allowed".to_owned(),
            ])
        );
        assert_eq!(
            errors(json!({}), schema),
            Some(vec!["(root): a is required".to_owned()])
        );
        assert_eq!(errors(json!({}), json!({"type": "nope"})), None);
        assert_eq!(errors(json!({}), json!({"if": {}})), None);
    }
}
