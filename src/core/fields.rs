//! Sets of fields, as the API server keeps them in `metadata.managedFields`, and what changed under them.
//!
//! A set says more than names: where it goes into a list by key (`k:`) the list has keyed items, where by value (`v:`) the
//! list is a set, and where it ends the field is taken as a whole. So no schema is needed to compare two objects under it.
//!
//! Guarantees: reading is bounded in depth and never panics; writing a set as text and listing its members is stable.

mod changes;
mod path;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use changes::{ChangeKind, FieldChange, changed_fields, value_at};
pub use path::{Path, Scalar, Step};

/// How deep a set may be. No JSON that is nested deeper than this is ever read (`serde_json` stops at 128), so no object
/// of a request has fields further down.
pub const MAX_DEPTH: usize = 128;

/// Why a `fieldsV1` could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// It goes deeper than it may.
    #[error("fieldsV1 is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A key has none of the known forms.
    #[error("fieldsV1 has a key {0:?} that is none of f:, k:, v:, i: and \".\"")]
    BadKey(String),
    /// Something other than an object stands where a set should.
    #[error("fieldsV1 is not an object at {0:?}")]
    NotASet(String),
}

/// A set of fields, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the field that leads here is itself in the set.
    member: bool,
    children: BTreeMap<Step, FieldSet>,
}

impl FieldSet {
    /// Reads a `fieldsV1`.
    ///
    /// # Errors
    /// When it does not have the form that the API server writes, or goes deeper than [`MAX_DEPTH`].
    pub fn parse(fields: &Value) -> Result<Self, FieldsError> {
        let mut set = read(fields, "", 0)?;
        // The root stands for the object itself, which nobody owns as a whole.
        set.member = false;
        Ok(set)
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Whether a field is in the set. Fields beneath it or above it do not count.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.at(path).is_some_and(|set| set.member)
    }

    /// Whether a field or anything beneath it is in the set.
    #[must_use]
    pub fn reaches(&self, path: &Path) -> bool {
        self.at(path).is_some()
    }

    /// Puts a field into the set.
    pub fn insert(&mut self, path: &Path) {
        let mut set = self;
        for step in &path.0 {
            set = set.children.entry(step.clone()).or_default();
        }
        set.member = true;
    }

    /// What is in one of the two.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.member |= other.member;
        for (step, theirs) in other.children {
            let ours = self.children.remove(&step).unwrap_or_default();
            self.children.insert(step, ours.union(theirs));
        }
        self
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(step, ours)| {
            let rest = match other.children.get(step) {
                Some(theirs) => ours.difference(theirs),
                None => ours.clone(),
            };
            (!rest.is_empty()).then(|| (step.clone(), rest))
        });
        Self {
            member: self.member && !other.member,
            children: children.collect(),
        }
    }

    /// The set without a field and everything beneath it.
    #[must_use]
    pub fn without(mut self, path: &Path) -> Self {
        if let Some((last, parents)) = path.0.split_last() {
            let mut set = Some(&mut self);
            for step in parents {
                set = set.and_then(|set| set.children.get_mut(step));
            }
            if let Some(set) = set {
                set.children.remove(last);
            }
        }
        self
    }

    /// Only what lies under a field.
    #[must_use]
    pub fn only(&self, path: &Path) -> Self {
        let Some(mut kept) = self.at(path).cloned() else {
            return Self::default();
        };
        for step in path.0.iter().rev() {
            kept = Self {
                member: false,
                children: BTreeMap::from([(step.clone(), kept)]),
            };
        }
        kept
    }

    /// The fields of the set, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        self.collect(&Path::default(), &mut found);
        found
    }

    fn collect(&self, here: &Path, found: &mut Vec<Path>) {
        if self.member {
            found.push(here.clone());
        }
        for (step, child) in &self.children {
            child.collect(&here.then(step), found);
        }
    }

    fn at(&self, path: &Path) -> Option<&Self> {
        path.0.iter().try_fold(self, |set, step| set.children.get(step))
    }
}

/// What is in one of two `fieldsV1`, as such a text again: for entries that are merged and sent back, keys that we do not
/// know kept.
#[must_use]
pub fn union_v1(one: &Value, other: &Value) -> Value {
    let empty = |value: &Value| value.as_object().is_none_or(Map::is_empty);
    match (empty(one), empty(other)) {
        (_, true) => one.clone(),
        (true, false) => other.clone(),
        (false, false) => union_below(one, other, 0),
    }
}

/// Beneath the root an empty object stands for the field itself, and a dot for it beside its children.
fn union_below(one: &Value, other: &Value, depth: usize) -> Value {
    let (Some(ours), Some(theirs)) = (one.as_object(), other.as_object()) else {
        return one.clone();
    };
    if depth > MAX_DEPTH {
        return one.clone();
    }
    let (mut union, itself) = (ours.clone(), ours.is_empty() != theirs.is_empty());
    for (key, value) in theirs {
        let merged = union.get(key).map(|ours| union_below(ours, value, depth + 1));
        union.insert(key.clone(), merged.unwrap_or_else(|| value.clone()));
    }
    if itself {
        union.insert(".".to_owned(), Value::Object(Map::new()));
    }
    Value::Object(union)
}

fn read(fields: &Value, name: &str, depth: usize) -> Result<FieldSet, FieldsError> {
    if depth > MAX_DEPTH {
        return Err(FieldsError::TooDeep);
    }
    let map = fields
        .as_object()
        .ok_or_else(|| FieldsError::NotASet(name.to_owned()))?;
    let mut set = FieldSet {
        // A field with nothing beneath it is in the set; one with something beneath it only when a dot says so.
        member: map.is_empty() || map.contains_key("."),
        children: BTreeMap::new(),
    };
    for (key, value) in map.iter().filter(|(key, _)| *key != ".") {
        let step = step_of(key).ok_or_else(|| FieldsError::BadKey(key.clone()))?;
        set.children.insert(step, read(value, key, depth + 1)?);
    }
    Ok(set)
}

fn step_of(key: &str) -> Option<Step> {
    let (form, rest) = key.split_once(':')?;
    Some(match form {
        "f" => Step::Field(rest.to_owned()),
        "v" => Step::Value(Scalar::of(&serde_json::from_str(rest).ok()?)?),
        "i" => Step::Index(rest.parse().ok()?),
        "k" => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
            let keys = keys.into_iter().map(|(name, value)| Some((name, Scalar::of(&value)?)));
            Step::Key(keys.collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
