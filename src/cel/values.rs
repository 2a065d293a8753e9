//! Values while an expression is evaluated: parts of documents are borrowed from them, and what is made is shared.
//!
//! Guarantees: a document is never copied, whatever is selected from it. Numbers are one line of numbers, as CEL compares them.
//! A value goes to the library's functions and comes back (`to_library`, `from_library`) without a change of meaning.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, Opaque, OptionalValue};
use serde_json::Value as Json;

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Val<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that says so: `2u`, or one that is too large for the other.
    Uint(u64),
    /// A fraction.
    Double(f64),
    /// A text of a document or of the expression.
    Text(&'a str),
    /// A text that was made.
    Made(Rc<str>),
    /// A list or an object of a document.
    Part(&'a Json),
    /// A list that was made.
    List(Rc<Vec<Val<'a>>>),
    /// A map that was made, in the order in which it was.
    Map(Rc<Vec<(Val<'a>, Val<'a>)>>),
    /// A value that may be absent.
    Optional(Option<Rc<Val<'a>>>),
    /// What only the library's functions know: bytes, durations, times, quantities.
    Other(Value),
}

impl<'a> Val<'a> {
    /// A document, or a part of one: objects are maps by name, whole numbers are integers.
    pub(crate) fn of(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(large)) => Self::Uint(large),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text),
            Json::Array(_) | Json::Object(_) => Self::Part(json),
        }
    }

    /// A text that was made.
    pub(super) fn made(text: &str) -> Self {
        Self::Made(text.into())
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub(super) fn items(&self) -> Option<Items<'_, 'a>> {
        match self {
            Self::Part(Json::Array(items)) => Some(Items::Part(items.iter())),
            Self::List(items) => Some(Items::Made(items.iter())),
            _ => None,
        }
    }

    /// How many elements or entries a list or map has.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Part(Json::Array(items)) => Some(items.len()),
            Self::Part(Json::Object(fields)) => Some(fields.len()),
            Self::List(items) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            _ => None,
        }
    }

    /// Whether it has entries by key.
    pub(super) fn is_map(&self) -> bool {
        matches!(self, Self::Part(Json::Object(_)) | Self::Map(_))
    }

    /// The keys, if it is a map.
    pub(super) fn keys(&self) -> Option<Vec<Val<'a>>> {
        match self {
            Self::Part(Json::Object(fields)) => Some(fields.keys().map(|name| Self::Text(name)).collect()),
            Self::Map(entries) => Some(entries.iter().map(|(key, _)| key.clone()).collect()),
            _ => None,
        }
    }

    /// The value of a field, if it is a map and has it.
    pub(super) fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::Part(Json::Object(fields)) => fields.get(name).map(Val::of),
            Self::Map(entries) => {
                let mut entries = entries.iter();
                entries
                    .find(|(key, _)| key.text() == Some(name))
                    .map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// The value of an entry by a key of any type.
    pub(super) fn entry(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key.text()) {
            (_, Some(name)) => self.field(name),
            (Self::Map(entries), None) => {
                let mut entries = entries.iter();
                entries
                    .find(|(known, _)| known.equals(key))
                    .map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// Whether both are the same, whatever they are: a number equals the same number of another type.
    pub(super) fn equals(&self, other: &Val<'_>) -> bool {
        if let (Some(one), Some(other)) = (self.text(), other.text()) {
            return one == other;
        }
        if let (Some(mut one), Some(mut other)) = (self.items(), other.items()) {
            return self_len(&one) == self_len(&other)
                && one.by_ref().zip(other.by_ref()).all(|(one, other)| one.equals(&other));
        }
        match (self, other) {
            (Self::Null, Val::Null) => true,
            (Self::Bool(one), Val::Bool(other)) => one == other,
            (Self::Optional(None), Val::Optional(None)) => true,
            (Self::Optional(Some(one)), Val::Optional(Some(other))) => one.equals(other),
            (Self::Other(one), Val::Other(other)) => one == other,
            (Self::Int(_) | Self::Uint(_) | Self::Double(_), _) => self.order(other) == Some(Ordering::Equal),
            _ if self.is_map() && other.is_map() => {
                self.len() == other.len()
                    && self.keys().unwrap_or_default().iter().all(|key| {
                        let (one, other) = (self.entry(key), other.entry(key));
                        one.zip(other).is_some_and(|(one, other)| one.equals(&other))
                    })
            }
            _ => false,
        }
    }

    /// Which comes first; `None` for what has no order among each other.
    pub(super) fn order(&self, other: &Val<'_>) -> Option<Ordering> {
        if let (Some(one), Some(other)) = (self.text(), other.text()) {
            return Some(one.cmp(other));
        }
        match (self, other) {
            (Self::Bool(one), Val::Bool(other)) => Some(one.cmp(other)),
            (Self::Int(one), Val::Int(other)) => Some(one.cmp(other)),
            (Self::Uint(one), Val::Uint(other)) => Some(one.cmp(other)),
            (Self::Int(one), Val::Uint(other)) => Some(i128::from(*one).cmp(&i128::from(*other))),
            (Self::Uint(one), Val::Int(other)) => Some(i128::from(*one).cmp(&i128::from(*other))),
            (Self::Double(one), _) => one.partial_cmp(&other.number()?),
            (_, Val::Double(other)) => self.number()?.partial_cmp(other),
            (Self::Other(one), Val::Other(other)) => one.partial_cmp(other),
            _ => None,
        }
    }

    /// A number as a fraction.
    #[expect(clippy::cast_precision_loss, reason = "fractions are what they are compared as")]
    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(whole) => Some(*whole as f64),
            Self::Uint(whole) => Some(*whole as f64),
            Self::Double(fraction) => Some(*fraction),
            _ => None,
        }
    }

    /// The value as the library's functions take it.
    pub(super) fn to_library(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::UInt(*value),
            Self::Double(value) => Value::Float(*value),
            Self::Text(text) => (*text).into(),
            Self::Made(text) => text.as_ref().into(),
            Self::Part(_) | Self::List(_) | Self::Map(_) => {
                if let Some(items) = self.items() {
                    return items.map(|item| item.to_library()).collect::<Vec<_>>().into();
                }
                let keys = self.keys().unwrap_or_default();
                let entries = keys.iter().filter_map(|key| {
                    let (key, value) = (key.to_library(), self.entry(key)?);
                    let key: Result<Key, Value> = key.try_into();
                    Some((key.ok()?, value.to_library()))
                });
                entries.collect::<HashMap<_, _>>().into()
            }
            Self::Optional(None) => optional(OptionalValue::none()),
            Self::Optional(Some(value)) => optional(OptionalValue::of(value.to_library())),
            Self::Other(value) => value.clone(),
        }
    }

    /// What one of the library's functions gave.
    pub(super) fn from_library(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::UInt(value) => Self::Uint(value),
            Value::Float(value) => Self::Double(value),
            Value::String(text) => Self::made(&text),
            Value::List(items) => Self::List(Rc::new(items.iter().cloned().map(Self::from_library).collect())),
            Value::Map(map) => {
                let entries = map.map.iter();
                let entries = entries.map(|(key, value)| {
                    let key = Self::from_library(Value::from(key));
                    (key, Self::from_library(value.clone()))
                });
                Self::Map(Rc::new(entries.collect()))
            }
            Value::Opaque(ref opaque) => match opaque.downcast_ref::<OptionalValue>() {
                Some(optional) => Self::Optional(optional.value().cloned().map(Self::from_library).map(Rc::new)),
                None => Self::Other(value),
            },
            other => Self::Other(other),
        }
    }
}

fn optional(value: OptionalValue) -> Value {
    let value: Arc<dyn Opaque> = Arc::new(value);
    Value::Opaque(value)
}

fn self_len(items: &Items<'_, '_>) -> usize {
    items.size_hint().0
}

/// The elements of a list.
pub(super) enum Items<'v, 'a> {
    /// Of a document.
    Part(std::slice::Iter<'a, Json>),
    /// Of one that was made.
    Made(std::slice::Iter<'v, Val<'a>>),
}

impl<'a> Iterator for Items<'_, 'a> {
    type Item = Val<'a>;

    fn next(&mut self) -> Option<Val<'a>> {
        match self {
            Self::Part(items) => items.next().map(Val::of),
            Self::Made(items) => items.next().cloned(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Part(items) => items.size_hint(),
            Self::Made(items) => items.size_hint(),
        }
    }
}
