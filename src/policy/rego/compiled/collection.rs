//! Collections as references and loops see them.

use std::borrow::Cow;
use std::ops::ControlFlow::{self, Break, Continue};

use regorus::Value;
use regorus::value::Object;

use super::run::{Answer, Stop};

/// Adds a field; another value for the same key is an error, as in OPA.
pub(super) fn put(fields: &mut Object, key: Value, value: Value) -> Answer<()> {
    if fields.get(&key).is_some_and(|known| *known != value) {
        return Err(Stop::Failed);
    }
    fields.insert(key, value);
    Ok(())
}

pub(super) fn is_collection(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Set(_) | Value::Object(_))
}

/// The element of a collection under a key; of a set the member itself.
pub(super) fn at<'v>(collection: &'v Value, key: &Value) -> Option<&'v Value> {
    match collection {
        Value::Object(fields) => fields.get(key),
        Value::Set(items) => items.get(key),
        Value::Array(items) => match key {
            Value::Number(_) => items.get(usize::try_from(key.as_u64().ok()?).ok()?),
            _ => None,
        },
        _ => None,
    }
}

/// What is done with a key and an element.
pub(super) type Visit<'v> = dyn FnMut(Cow<'_, Value>, &Value) -> Answer<ControlFlow<()>> + 'v;

/// Goes through a collection in order: numbers and items, keys and values, members and themselves.
pub(super) fn each(collection: &Value, visit: &mut Visit<'_>) -> Answer<ControlFlow<()>> {
    match collection {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if visit(Cow::Owned(Value::from(index)), item)?.is_break() {
                    return Ok(Break(()));
                }
            }
        }
        Value::Set(items) => {
            for item in items.iter_sorted() {
                if visit(Cow::Borrowed(item), item)?.is_break() {
                    return Ok(Break(()));
                }
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields.iter_sorted() {
                if visit(Cow::Borrowed(key), value)?.is_break() {
                    return Ok(Break(()));
                }
            }
        }
        _ => {}
    }
    Ok(Continue(()))
}
