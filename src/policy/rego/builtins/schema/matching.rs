//! What of a document does not fit a schema that was checked.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::super::{meter, regex};
use super::{MAX_DEPTH, MAX_ERRORS};

/// Whether a number keeps a bound.
type Bound = fn(f64, f64) -> bool;

pub(super) struct Matching<'a> {
    pub(super) root: &'a Json,
    pub(super) errors: Vec<(&'static str, String, String)>,
}

impl<'a> Matching<'a> {
    fn error(&mut self, kind: &'static str, field: &str, text: String) {
        self.errors.push((kind, field.to_owned(), text));
    }

    /// Whether a value matches, without telling.
    fn quietly(&mut self, value: &Json, schema: &'a Json, field: &str, depth: usize) -> Option<bool> {
        let before = self.errors.len();
        self.value(value, schema, field, depth)?;
        let fits = self.errors.len() == before;
        self.errors.truncate(before);
        Some(fits)
    }

    /// Notes what is wrong; `None` when it cannot be found out.
    pub(super) fn value(&mut self, value: &Json, schema: &'a Json, field: &str, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH || self.errors.len() > MAX_ERRORS {
            return meter::refuse(|| format!("json.match_schema: the document is nested more than {MAX_DEPTH} deep"));
        }
        meter::in_time()?;
        let fields = match schema {
            Json::Object(fields) => fields,
            Json::Bool(false) => {
                self.error("false", field, "False always fails validation".to_owned());
                return Some(());
            }
            _ => return Some(()),
        };
        if let Some(reference) = fields.get("$ref").and_then(Json::as_str) {
            let target = self.root.pointer(reference.trim_start_matches('#'))?;
            return self.value(value, target, field, depth + 1);
        }
        self.kinds(value, fields, field);
        for (key, kind, text) in [
            ("anyOf", "number_any_of", "Must validate at least one schema (anyOf)"),
            (
                "oneOf",
                "number_one_of",
                "Must validate one and only one schema (oneOf)",
            ),
            ("allOf", "number_all_of", "Must validate all the schemas (allOf)"),
        ] {
            let Some(list) = fields.get(key).and_then(Json::as_array) else {
                continue;
            };
            let mut fitting = 0;
            for inner in list {
                fitting += usize::from(self.quietly(value, inner, field, depth + 1)?);
            }
            let holds = match key {
                "anyOf" => fitting > 0,
                "oneOf" => fitting == 1,
                _ => fitting == list.len(),
            };
            if !holds {
                self.error(kind, field, text.to_owned());
            }
        }
        if let Some(inner) = fields.get("not")
            && self.quietly(value, inner, field, depth + 1)?
        {
            self.error("number_not", field, "Must not validate the schema (not)".to_owned());
        }
        match value {
            Json::Object(object) => self.object(object, fields, field, depth),
            Json::Array(items) => self.array(items, fields, field, depth),
            Json::String(text) => self.text(text, fields, field),
            Json::Number(_) => {
                self.number(value, fields, field);
                Some(())
            }
            _ => Some(()),
        }
    }

    fn kinds(&mut self, value: &Json, fields: &Map<String, Json>, field: &str) {
        let given = kind(value);
        let expected: Vec<&str> = match fields.get("type") {
            Some(Json::String(one)) => vec![one.as_str()],
            Some(Json::Array(list)) => list.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        };
        let fits = |expected: &&str| *expected == given || (*expected == "number" && given == "integer");
        if !expected.is_empty() && !expected.iter().any(fits) {
            let text = format!("Invalid type. Expected: {}, given: {given}", expected.join("/"));
            self.error("invalid_type", field, text);
        }
        if let Some(list) = fields
            .get("enum")
            .and_then(Json::as_array)
            .filter(|list| !list.contains(value))
        {
            let allowed: Vec<String> = list.iter().map(ToString::to_string).collect();
            let text = format!("{field} must be one of the following: {}", allowed.join(", "));
            self.error("enum", field, text);
        }
        if let Some(constant) = fields.get("const").filter(|constant| *constant != value) {
            self.error("const", field, format!("{field} does not match: {constant}"));
        }
    }

    fn object(
        &mut self,
        object: &Map<String, Json>,
        fields: &'a Map<String, Json>,
        field: &str,
        depth: usize,
    ) -> Option<()> {
        for name in fields
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !object.contains_key(name) {
                self.error("required", field, format!("{name} is required"));
            }
        }
        for (key, too_few) in [("minProperties", true), ("maxProperties", false)] {
            let Some(bound) = fields.get(key).and_then(Json::as_u64) else {
                continue;
            };
            let size = u64::try_from(object.len()).ok()?;
            if too_few && size < bound {
                self.error(
                    "array_min_properties",
                    field,
                    format!("Must have at least {bound} properties"),
                );
            } else if !too_few && size > bound {
                self.error(
                    "array_max_properties",
                    field,
                    format!("Must have at most {bound} properties"),
                );
            }
        }
        let known = fields.get("properties").and_then(Json::as_object);
        let patterns = fields.get("patternProperties").and_then(Json::as_object);
        for (name, value) in object {
            let inner = if field == "(root)" {
                name.clone()
            } else {
                format!("{field}.{name}")
            };
            let mut covered = false;
            if let Some(schema) = known.and_then(|known| known.get(name)) {
                covered = true;
                self.value(value, schema, &inner, depth + 1)?;
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if regex::matches(pattern, name)? {
                    covered = true;
                    self.value(value, schema, &inner, depth + 1)?;
                }
            }
            match fields.get("additionalProperties").filter(|_| !covered) {
                Some(Json::Bool(false)) => {
                    let text = format!("Additional property {name} is not allowed");
                    self.error("additional_property_not_allowed", field, text);
                }
                Some(schema) => self.value(value, schema, &inner, depth + 1)?,
                None => {}
            }
        }
        Some(())
    }

    fn array(&mut self, items: &[Json], fields: &'a Map<String, Json>, field: &str, depth: usize) -> Option<()> {
        let size = u64::try_from(items.len()).ok()?;
        if let Some(least) = fields
            .get("minItems")
            .and_then(Json::as_u64)
            .filter(|least| size < *least)
        {
            self.error(
                "array_min_items",
                field,
                format!("Array must have at least {least} items"),
            );
        }
        if let Some(most) = fields
            .get("maxItems")
            .and_then(Json::as_u64)
            .filter(|most| size > *most)
        {
            self.error(
                "array_max_items",
                field,
                format!("Array must have at most {most} items"),
            );
        }
        if fields.get("uniqueItems") == Some(&Json::Bool(true)) {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (index, item) in items.iter().enumerate() {
                if let Some(first) = seen.insert(item.to_string(), index) {
                    self.error("unique", field, format!("array items[{first},{index}] must be unique"));
                }
            }
        }
        for (index, item) in items.iter().enumerate() {
            let inner = if field == "(root)" {
                index.to_string()
            } else {
                format!("{field}.{index}")
            };
            match fields.get("items") {
                Some(Json::Array(list)) => match (list.get(index), fields.get("additionalItems")) {
                    (Some(schema), _) => self.value(item, schema, &inner, depth + 1)?,
                    (None, Some(Json::Bool(false))) => {
                        let text = "No additional items allowed on array".to_owned();
                        self.error("array_no_additional_items", field, text);
                    }
                    (None, Some(schema)) => self.value(item, schema, &inner, depth + 1)?,
                    (None, None) => {}
                },
                Some(schema) => self.value(item, schema, &inner, depth + 1)?,
                None => {}
            }
        }
        Some(())
    }

    fn text(&mut self, text: &str, fields: &Map<String, Json>, field: &str) -> Option<()> {
        let size = u64::try_from(text.chars().count()).ok()?;
        if let Some(least) = fields
            .get("minLength")
            .and_then(Json::as_u64)
            .filter(|least| size < *least)
        {
            let text = format!("String length must be greater than or equal to {least}");
            self.error("string_gte", field, text);
        }
        if let Some(most) = fields
            .get("maxLength")
            .and_then(Json::as_u64)
            .filter(|most| size > *most)
        {
            let text = format!("String length must be less than or equal to {most}");
            self.error("string_lte", field, text);
        }
        if let Some(pattern) = fields.get("pattern").and_then(Json::as_str)
            && !regex::matches(pattern, text)?
        {
            self.error("pattern", field, format!("Does not match pattern '{pattern}'"));
        }
        Some(())
    }

    fn number(&mut self, value: &Json, fields: &Map<String, Json>, field: &str) {
        let Some(number) = value.as_f64() else { return };
        let bound = |key: &str| fields.get(key).filter(|bound| bound.is_number());
        let checks: [(&str, &'static str, Bound, &str); 5] = [
            (
                "minimum",
                "number_gte",
                |number, bound| number >= bound,
                "Must be greater than or equal to",
            ),
            (
                "exclusiveMinimum",
                "number_gt",
                |number, bound| number > bound,
                "Must be greater than",
            ),
            (
                "maximum",
                "number_lte",
                |number, bound| number <= bound,
                "Must be less than or equal to",
            ),
            (
                "exclusiveMaximum",
                "number_lt",
                |number, bound| number < bound,
                "Must be less than",
            ),
            (
                "multipleOf",
                "multiple_of",
                |number, bound| (number / bound).fract() == 0.0,
                "Must be a multiple of",
            ),
        ];
        for (key, kind, holds, words) in checks {
            if let Some(limit) = bound(key)
                && !limit.as_f64().is_some_and(|limit| holds(number, limit))
            {
                self.error(kind, field, format!("{words} {limit}"));
            }
        }
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_f64() && number.as_f64().is_none_or(|number| number.fract() != 0.0) => {
            "number"
        }
        Json::Number(_) => "integer",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}
