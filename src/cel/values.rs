//! JSON as CEL sees it: objects are maps by name, whole numbers are integers.

use std::collections::HashMap;

use kube_cel::cel::Value;
use serde_json::Value as Json;

/// Converts a value.
pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(large)) => Value::UInt(large),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => text.clone().into(),
        Json::Array(items) => items.iter().map(from_json).collect::<Vec<_>>().into(),
        Json::Object(fields) => map(fields.iter()),
    }
}

/// An object without some of its fields, which have variables of their own.
pub(crate) fn without_fields(object: &Json, without: &[&str]) -> Value {
    let fields = object.as_object().into_iter().flatten();
    map(fields.filter(|(name, _)| !without.contains(&name.as_str())))
}

fn map<'a>(fields: impl Iterator<Item = (&'a String, &'a Json)>) -> Value {
    let fields: HashMap<String, Value> = fields.map(|(name, value)| (name.clone(), from_json(value))).collect();
    fields.into()
}
