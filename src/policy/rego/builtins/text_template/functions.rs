//! Values as templates see them, and the functions that templates call.

use std::cmp::Ordering;

use regorus::Value;

use super::super::super::sprintf::{rego_text, sprintf};
use super::Maybe;

pub(super) fn items(value: &Maybe) -> Option<Vec<(Value, Value)>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => {
            let items = items.iter().enumerate();
            Some(items.map(|(index, item)| (Value::from(index), item.clone())).collect())
        }
        Some(Value::Set(items)) => {
            let items = items.iter_sorted().enumerate();
            Some(items.map(|(index, item)| (Value::from(index), item.clone())).collect())
        }
        Some(Value::Object(fields)) => Some(
            fields
                .iter_sorted()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
        Some(_) => None,
    }
}

pub(super) fn truth(value: &Maybe) -> bool {
    match value {
        None | Some(Value::Null | Value::Undefined) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Set(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
    }
}

/// A value as Go prints it.
pub(super) fn shown(value: &Maybe) -> String {
    match value {
        None => "<undefined>".to_owned(),
        Some(value) => inner(value),
    }
}

fn inner(value: &Value) -> String {
    let join = |items: Vec<String>| items.join(" ");
    match value {
        Value::Null | Value::Undefined => "<undefined>".to_owned(),
        Value::String(text) => text.to_string(),
        Value::Array(items) => format!("[{}]", join(items.iter().map(inner).collect())),
        Value::Set(items) => format!("[{}]", join(items.iter_sorted().map(inner).collect())),
        Value::Object(fields) => {
            let fields = fields.iter_sorted();
            let fields = fields.map(|(key, value)| format!("{}:{}", inner(key), inner(value)));
            format!("map[{}]", join(fields.collect()))
        }
        other => rego_text(other),
    }
}

pub(super) fn function(name: &str, arguments: &[Maybe]) -> Option<Maybe> {
    let at = |index: usize| arguments.get(index).cloned().flatten();
    let order = || {
        let (left, right) = (at(0)?, at(1)?);
        let alike = std::mem::discriminant(&left) == std::mem::discriminant(&right);
        alike.then(|| left.cmp(&right))
    };
    let boolean = |value: bool| Some(Some(Value::from(value)));
    match name {
        "and" | "or" => {
            let decides = |value: &&Maybe| truth(value) == (name == "or");
            let found = arguments.iter().find(decides).or(arguments.last())?;
            Some(found.clone())
        }
        "not" => boolean(!truth(arguments.first()?)),
        "eq" => {
            let first = at(0)?;
            boolean(arguments.iter().skip(1).flatten().any(|other| *other == first))
        }
        "ne" => boolean(order()? != Ordering::Equal),
        "lt" => boolean(order()? == Ordering::Less),
        "le" => boolean(order()? != Ordering::Greater),
        "gt" => boolean(order()? == Ordering::Greater),
        "ge" => boolean(order()? != Ordering::Less),
        "len" => {
            let length = match at(0)? {
                Value::String(text) => text.len(),
                Value::Array(items) => items.len(),
                Value::Set(items) => items.len(),
                Value::Object(fields) => fields.len(),
                _ => return None,
            };
            Some(Some(Value::from(length)))
        }
        "index" => {
            let mut value = at(0)?;
            for key in arguments.iter().skip(1) {
                let key = key.clone()?;
                value = match &value {
                    Value::Array(items) => items.get(usize::try_from(key.as_i64().ok()?).ok()?)?.clone(),
                    Value::Object(fields) => match fields.get(&key) {
                        Some(value) => value.clone(),
                        None => return Some(None),
                    },
                    _ => return None,
                };
            }
            Some(Some(value))
        }
        "print" => Some(Some(Value::from(
            arguments.iter().map(shown).collect::<Vec<_>>().concat(),
        ))),
        "println" => Some(Some(Value::from(
            arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n",
        ))),
        "printf" => {
            let format = at(0)?;
            let rest: Vec<Value> = arguments.iter().skip(1).flatten().cloned().collect();
            Some(Some(Value::from(sprintf(format.as_string().ok()?, &rest))))
        }
        _ => None,
    }
}
