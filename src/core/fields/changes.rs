//! What changed between two forms of an object, under a set of fields.
//!
//! Guarantees: only fields of the set are reported; items of keyed lists are found by key, so that an item that is not in the
//! set is no change, wherever it stands; that items of the set change places among themselves is one (init containers run in
//! their order); the topmost field that went away is reported, not all that was in it.
//!
//! One thing a set cannot say: whether a field that was declared as `{}` or `[]` is taken as a whole or is merely empty.
//! It is taken as empty, so what others put into it is theirs. Where the API server thinks otherwise the field leaves its
//! owner's set, and whoever watches that set can put it back.

use serde_json::Value;

use super::{FieldSet, Path, Scalar, Step};

/// What happened to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there and is now.
    Added,
    /// It has another value.
    Modified,
    /// It was there and is not now.
    Removed,
}

/// A field and its values before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// Which field.
    pub path: Path,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its value before; `None` when it was absent.
    pub old: Option<Value>,
    /// Its value after; `None` when it is absent.
    pub new: Option<Value>,
}

impl FieldChange {
    /// A field that has one value and would have another.
    #[must_use]
    pub fn new(path: Path, old: Option<&Value>, new: Option<&Value>) -> Self {
        let kind = match (old, new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Modified,
        };
        Self {
            path,
            kind,
            old: old.cloned(),
            new: new.cloned(),
        }
    }
}

/// The value at a path; of several items with one key the first. Null is the same as absent.
#[must_use]
pub fn value_at<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    let step = |value: &'a Value, step: &Step| match step {
        Step::Field(name) => value.get(name),
        Step::Index(index) => value.as_array()?.get(*index),
        Step::Key(_) | Step::Value(_) => matching(Some(value), step).first().copied(),
    };
    present(path.0.iter().try_fold(object, step))
}

/// The fields of `declared` that differ between two forms of one object, in the order of their paths.
#[must_use]
pub fn changed_fields(old: &Value, new: &Value, declared: &FieldSet) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(Some(old), Some(new), declared, None, &mut found);
    found
}

/// The way to a field, as steps back. A path is made of it only where something changed: a large object has thousands.
#[derive(Clone, Copy)]
struct Trail<'a> {
    before: Option<&'a Trail<'a>>,
    step: &'a Step,
}

fn path_of(trail: Option<&Trail<'_>>) -> Path {
    let mut steps: Vec<Step> = std::iter::successors(trail, |trail| trail.before)
        .map(|trail| trail.step.clone())
        .collect();
    steps.reverse();
    Path(steps)
}

fn compare(
    old: Option<&Value>,
    new: Option<&Value>,
    declared: &FieldSet,
    trail: Option<&Trail<'_>>,
    found: &mut Vec<FieldChange>,
) {
    let (old, new) = (present(old), present(new));
    if declared.children.is_empty() {
        if declared.member && !same_or_filled(old, new) {
            found.push(FieldChange::new(path_of(trail), old, new));
        }
        return;
    }
    match (old, new) {
        (None, None) => {}
        (Some(was), Some(is)) if std::mem::discriminant(was) != std::mem::discriminant(is) => {
            found.push(FieldChange::new(path_of(trail), old, new));
        }
        (Some(_), None) => {
            let mut beneath = Vec::new();
            descend(old, new, declared, trail, &mut beneath);
            if declared.member || !beneath.is_empty() {
                found.push(FieldChange::new(path_of(trail), old, new));
            }
        }
        (_, Some(_)) => descend(old, new, declared, trail, found),
    }
}

fn descend(
    old: Option<&Value>,
    new: Option<&Value>,
    declared: &FieldSet,
    trail: Option<&Trail<'_>>,
    found: &mut Vec<FieldChange>,
) {
    if let Some((was, is)) = reordered(old, new, declared) {
        found.push(FieldChange::new(path_of(trail), Some(&was), Some(&is)));
    }
    for (step, child) in &declared.children {
        let here = Trail { before: trail, step };
        let here = Some(&here);
        match step {
            Step::Field(name) => compare(get(old, name), get(new, name), child, here, found),
            Step::Index(index) => {
                let item = |list: Option<_>| items(list).nth(*index);
                compare(item(old), item(new), child, here, found);
            }
            Step::Key(_) => keyed(&matching(old, step), &matching(new, step), child, here, found),
            Step::Value(_) => {
                // That a declared value comes back to its set is what was declared, so only its loss is a change.
                let (was, is) = (matching(old, step), matching(new, step));
                if let (Some(lost), None) = (was.first().copied(), is.first()) {
                    found.push(FieldChange::new(path_of(here), Some(lost), None));
                }
            }
        }
    }
}

/// The keys of declared items that are in both lists, in the order of each, if the orders differ. Two items are needed for
/// that, so most lists cost nothing.
fn reordered(old: Option<&Value>, new: Option<&Value>, declared: &FieldSet) -> Option<(Value, Value)> {
    let keys: Vec<&Step> = declared
        .children
        .keys()
        .filter(|step| matches!(step, Step::Key(_)))
        .collect();
    if keys.len() < 2 {
        return None;
    }
    let order = |list| -> Vec<&Step> {
        items(list)
            .filter_map(|item| keys.iter().copied().find(|step| is_item(item, step)))
            .collect()
    };
    let (mut was, mut is) = (order(old), order(new));
    if was == is {
        return None;
    }
    was.retain(|step| is.contains(step));
    is.retain(|step| was.contains(step));
    // A repeated key is told as a change of its item.
    if was == is || was.len() != is.len() {
        return None;
    }
    let shown = |order: &[&Step]| order.iter().map(|step| shown_key(step)).collect();
    Some((Value::Array(shown(&was)), Value::Array(shown(&is))))
}

/// A key for people: its value when it has one part, else its parts.
fn shown_key(step: &Step) -> Value {
    match step {
        Step::Key(keys) => match keys.as_slice() {
            [(_, Scalar::Text(value))] => Value::from(value.as_str()),
            _ => Value::from(Path(vec![step.clone()]).to_string()),
        },
        _ => Value::Null,
    }
}

/// Compares the items with one key. The API server lets some lists repeat a key (environment variables, of which the last
/// one counts), so a second item with a declared key is a change of that item.
fn keyed(old: &[&Value], new: &[&Value], declared: &FieldSet, trail: Option<&Trail<'_>>, found: &mut Vec<FieldChange>) {
    match (old, new) {
        ([], []) => {}
        ([was], [is]) => compare(Some(*was), Some(*is), declared, trail, found),
        ([was, ..], []) => found.push(FieldChange::new(path_of(trail), Some(*was), None)),
        ([], [is, ..]) => found.push(FieldChange::new(path_of(trail), None, Some(*is))),
        ([was, ..], [.., is]) => {
            if old != new {
                found.push(FieldChange::new(path_of(trail), Some(*was), Some(*is)));
            }
        }
    }
}

fn matching<'a>(list: Option<&'a Value>, step: &Step) -> Vec<&'a Value> {
    items(list).filter(|item| is_item(item, step)).collect()
}

/// Whether a step into a list leads to this item.
fn is_item(item: &Value, step: &Step) -> bool {
    match step {
        Step::Key(keys) => keys
            .iter()
            .all(|(name, value)| value.is(item.get(name).unwrap_or(&Value::Null))),
        Step::Value(value) => value.is(item),
        Step::Field(_) | Step::Index(_) => false,
    }
}

/// Whether a field taken as a whole is unchanged, or was empty and has merely been filled by somebody.
fn same_or_filled(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old, new) {
        (Some(Value::Object(was)), Some(Value::Object(_))) if was.is_empty() => true,
        (Some(Value::Array(was)), Some(Value::Array(_))) if was.is_empty() => true,
        // The API server drops empty lists and objects when it stores an object; a plain value that is absent was
        // declared as its zero, and giving it another value changes it.
        (None, Some(Value::Object(_) | Value::Array(_))) => true,
        // Its loss is no change for a list; for an object it is one: `emptyDir: {}` gone makes room for another volume.
        (Some(Value::Array(was)), None) => was.is_empty(),
        _ => old == new,
    }
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn get<'a>(value: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    value?.get(name)
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}
