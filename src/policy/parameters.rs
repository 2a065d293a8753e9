//! What the API server does with a constraint before it stores it: checks it against the template's schema, and fills in the
//! defaults of parameters. The defaults are filled in wherever a constraint is loaded; the checks are for doors without an
//! API server.
//!
//! Guarantees: what the API server would refuse is refused, for the keywords that structural schemas have; a keyword that is
//! not known refuses nothing.

use serde_json::{Map, Value as Json, json};

use super::source::{Problem, Sources};
use super::template::TemplateKind;

/// Deepest nesting that is looked at; a value that nests deeper is read by nobody (see the render worker's own bound).
const MAX_DEPTH: usize = 128;

impl Sources {
    /// What of the constraints an API server would refuse, and which fields it would drop: Gatekeeper's own tools refuse
    /// those too, since nothing that stands in them has an effect.
    #[must_use]
    pub fn refused(&self, kinds: &[TemplateKind]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for document in &self.constraints {
            let kind = document.value.get("kind").and_then(Json::as_str).unwrap_or_default();
            let Some(template) = kinds.iter().find(|known| known.kind == kind) else {
                continue;
            };
            let mut constraint = document.value.clone();
            fill_parameters(&mut constraint, template);
            let Some(spec) = constraint.get("spec") else { continue };
            let schema = spec_schema(template);
            let mut found = Vec::new();
            check(&schema, spec, "spec", 0, &mut found);
            unknown(&schema, spec, "spec", 0, &mut found);
            problems.extend(found.into_iter().map(|message| Problem::new(&document.origin, message)));
        }
        problems
    }
}

/// Fills in what the template says of absent parameters.
pub(super) fn fill_parameters(constraint: &mut Json, template: &TemplateKind) {
    if let (Some(schema), Some(spec)) = (&template.schema, constraint.get_mut("spec")) {
        fill(&json!({"properties": {"parameters": schema}}), spec, 0);
    }
}

/// The schema of a constraint's `spec`, as Gatekeeper has it. What is in the parts of `match` is read elsewhere.
fn spec_schema(template: &TemplateKind) -> Json {
    let open = |of: &str| json!({"type": of, KEEP: true, "items": {KEEP: true}});
    let mut schema = json!({"type": "object", "properties": {
        "enforcementAction": {"type": "string"},
        "scopedEnforcementActions": open("array"),
        "match": {"type": "object", "properties": {
            "kinds": open("array"), "namespaces": open("array"), "excludedNamespaces": open("array"),
            "labelSelector": open("object"), "namespaceSelector": open("object"),
            "scope": {"type": "string"}, "name": {"type": "string"}, "source": {"type": "string"}}}}});
    if let (Some(parameters), Some(Json::Object(properties))) = (&template.schema, schema.get_mut("properties")) {
        properties.insert("parameters".to_owned(), parameters.clone());
    }
    schema
}

/// Where this is true, fields stay that the schema does not name.
const KEEP: &str = "x-kubernetes-preserve-unknown-fields";

/// Adds the fields that the schema does not have.
fn unknown(schema: &Json, value: &Json, path: &str, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Json::Object(fields) => {
            let rest = schema.get("additionalProperties");
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                match schema.pointer("/properties").and_then(|known| known.get(name)).or(rest) {
                    Some(Json::Bool(true)) => {}
                    Some(known @ Json::Object(_)) => unknown(known, field, &path, depth + 1, found),
                    _ if is_true(schema, KEEP) => {}
                    _ => found.push(format!(
                        "{path} is not in the schema of the template, so it has no effect"
                    )),
                }
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let schema = schema.get("items").unwrap_or(&Json::Null);
                unknown(schema, item, &format!("{path}[{index}]"), depth + 1, found);
            }
        }
        _ => {}
    }
}

/// What a value can be.
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Says where a schema names a type that does not exist, and which.
pub(super) fn malformed(schema: &Json) -> Option<String> {
    fn within(schema: &Json, path: &str, depth: usize) -> Option<String> {
        let fields = schema.as_object().filter(|_| depth <= MAX_DEPTH)?;
        if let Some(name) = fields
            .get("type")
            .filter(|name| !name.as_str().is_some_and(|name| TYPES.contains(&name)))
        {
            return Some(format!(
                "{path}.type is {} and must be one of {}",
                shown(name),
                TYPES.join(", ")
            ));
        }
        let properties = fields.get("properties").and_then(Json::as_object).into_iter().flatten();
        let properties = properties.map(|(name, inner)| (format!("{path}.properties[{name}]"), inner));
        let others = ["items", "additionalProperties"];
        let others = others
            .into_iter()
            .filter_map(|key| Some((format!("{path}.{key}"), fields.get(key)?)));
        properties
            .chain(others)
            .find_map(|(path, inner)| within(inner, &path, depth + 1))
    }
    within(schema, "", 0)
}

/// Fills in defaults of absent fields.
fn fill(schema: &Json, value: &mut Json, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Json::Object(fields) => {
            let properties = schema.get("properties").and_then(Json::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    fill(schema, field, depth + 1);
                }
            }
            if let Some(schema) = schema.get("additionalProperties").filter(|schema| schema.is_object()) {
                let known = |name: &str| properties.is_some_and(|properties| properties.contains_key(name));
                for (_, field) in fields.iter_mut().filter(|(name, _)| !known(name)) {
                    fill(schema, field, depth + 1);
                }
            }
        }
        Json::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    fill(schema, item, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// Adds what does not fit.
fn check(schema: &Json, value: &Json, path: &str, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH || (value.is_null() && is_true(schema, "nullable")) {
        return;
    }
    let Some(schema) = schema.as_object() else { return };
    if !has_type(schema, value) {
        let wanted = schema.get("type").and_then(Json::as_str);
        let wanted = wanted.map_or("an integer or a string".to_owned(), |wanted| {
            format!("of type {wanted}")
        });
        found.push(format!("{path} is {} and must be {wanted}", shown(value)));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Json::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Json::to_string).collect();
        found.push(format!(
            "{path} is {} and must be one of {}",
            shown(value),
            allowed.join(", ")
        ));
    }
    match value {
        Json::Object(fields) => check_object(schema, fields, path, depth, found),
        Json::Array(items) => {
            bound(schema, "minItems", "maxItems", items.len(), path, "items", found);
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    check(schema, item, &format!("{path}[{index}]"), depth + 1, found);
                }
            }
        }
        Json::String(text) => {
            bound(
                schema,
                "minLength",
                "maxLength",
                text.chars().count(),
                path,
                "characters",
                found,
            );
            let pattern = schema.get("pattern").and_then(Json::as_str);
            if let Some(pattern) = pattern
                && regex::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
            {
                found.push(format!("{path} is {text:?} and must match {pattern:?}"));
            }
        }
        Json::Number(number) => {
            let limit = |key: &str| schema.get(key).and_then(Json::as_f64);
            let exclusive = |key: &str| schema.get(key).and_then(Json::as_bool) == Some(true);
            let number = number.as_f64().unwrap_or_default();
            if limit("minimum").is_some_and(|limit| number < limit || exclusive("exclusiveMinimum") && number == limit)
                || limit("maximum")
                    .is_some_and(|limit| number > limit || exclusive("exclusiveMaximum") && number == limit)
            {
                found.push(format!("{path} is {number}, which is out of bounds"));
            }
        }
        Json::Null | Json::Bool(_) => {}
    }
    check_combinations(schema, value, path, depth, found);
}

fn check_object(
    schema: &Map<String, Json>,
    fields: &Map<String, Json>,
    path: &str,
    depth: usize,
    found: &mut Vec<String>,
) {
    bound(
        schema,
        "minProperties",
        "maxProperties",
        fields.len(),
        path,
        "fields",
        found,
    );
    let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
    for name in required
        .filter_map(Json::as_str)
        .filter(|name| !fields.contains_key(*name))
    {
        found.push(format!("{path}.{name} is missing"));
    }
    let properties = schema.get("properties").and_then(Json::as_object);
    for (name, value) in fields {
        let known = properties.and_then(|properties| properties.get(name));
        if let Some(schema) = known.or_else(|| schema.get("additionalProperties")) {
            check(schema, value, &format!("{path}.{name}"), depth + 1, found);
        }
    }
}

fn check_combinations(schema: &Map<String, Json>, value: &Json, path: &str, depth: usize, found: &mut Vec<String>) {
    let fits = |schema: &Json| {
        let mut errors = Vec::new();
        check(schema, value, path, depth + 1, &mut errors);
        errors.is_empty()
    };
    let list = |key: &str| schema.get(key).and_then(Json::as_array).map(Vec::as_slice);
    for schema in list("allOf").unwrap_or_default() {
        check(schema, value, path, depth + 1, found);
    }
    if list("anyOf").is_some_and(|schemas| !schemas.iter().any(fits)) {
        found.push(format!("{path} fits none of the forms that it may have"));
    }
    if list("oneOf").is_some_and(|schemas| schemas.iter().filter(|schema| fits(schema)).count() != 1) {
        found.push(format!("{path} must fit exactly one of the forms that it may have"));
    }
    if schema.get("not").is_some_and(fits) {
        found.push(format!("{path} has a form that it must not have"));
    }
}

fn bound(
    schema: &Map<String, Json>,
    least: &str,
    most: &str,
    count: usize,
    path: &str,
    what: &str,
    found: &mut Vec<String>,
) {
    let limit = |key: &str| {
        schema
            .get(key)
            .and_then(Json::as_u64)
            .and_then(|limit| usize::try_from(limit).ok())
    };
    if let Some(limit) = limit(least).filter(|limit| count < *limit) {
        found.push(format!("{path} has {count} {what} and must have at least {limit}"));
    }
    if let Some(limit) = limit(most).filter(|limit| count > *limit) {
        found.push(format!("{path} has {count} {what} and may have at most {limit}"));
    }
}

fn has_type(schema: &Map<String, Json>, value: &Json) -> bool {
    if schema.get("x-kubernetes-int-or-string").and_then(Json::as_bool) == Some(true) {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn is_true(schema: &Json, key: &str) -> bool {
    schema.get(key).and_then(Json::as_bool) == Some(true)
}

/// Enough of a value to recognise it.
fn shown(value: &Json) -> String {
    const SHOWN: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_as_the_api_server_checks_them() {
        let schema = json!({"type": "object", "required": ["wanted"], "properties": {
            "wanted": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}},
            "mode": {"type": "string", "enum": ["all", "any"]},
            "limit": {"type": "integer", "minimum": 0, "maximum": 3, "exclusiveMaximum": true},
            "port": {"x-kubernetes-int-or-string": true},
            "none": {"type": "string", "nullable": true},
            "either": {"oneOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]}}, "additionalProperties": {"type": "boolean"}});
        let check = |value: Json, expect: &[&str]| {
            let mut found = Vec::new();
            super::check(&schema, &value, "p", 0, &mut found);
            assert_eq!(found, expect, "{value}");
        };
        check(
            json!({"wanted": ["a"], "mode": "all", "limit": 2, "port": "x", "none": null, "other": true}),
            &[],
        );
        check(json!({"wanted": ["a"], "limit": 2.0, "port": 1, "either": "x"}), &[]);
        check(json!({}), &["p.wanted is missing"]);
        check(json!([]), &["p is [] and must be of type object"]);
        check(
            json!({"wanted": []}),
            &["p.wanted has 0 items and must have at least 1"],
        );
        check(
            json!({"wanted": ["A", 1, "long"]}),
            &[
                "p.wanted[0] is \"A\" and must match \"^[a-z]+$\"",
                "p.wanted[1] is 1 and must be of type string",
                "p.wanted[2] has 4 characters and may have at most 3",
            ],
        );
        check(
            json!({"wanted": ["a"], "mode": "some", "limit": 3, "port": true, "more": 1, "either": {"b": 1}}),
            &[
                "p.mode is \"some\" and must be one of \"all\", \"any\"",
                "p.limit is 3, which is out of bounds",
                "p.port is true and must be an integer or a string",
                "p.more is 1 and must be of type boolean",
                "p.either must fit exactly one of the forms that it may have",
            ],
        );
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let schema = json!({"properties": {"a": {"default": 1}, "b": {"properties": {"c": {"default": "x"}}},
            "d": {"items": {"properties": {"e": {"default": true}}}}, "f": {"default": {}, "properties": {"g": {"default": 2}}}}});
        let mut value = json!({"a": 5, "b": {}, "d": [{}, {"e": false}]});
        fill(&schema, &mut value, 0);
        assert_eq!(
            value,
            json!({"a": 5, "b": {"c": "x"}, "d": [{"e": true}, {"e": false}], "f": {"g": 2}})
        );
    }
}
