//! The object that a rule makes whose name has several parts, or that has keys: values and sets in objects in objects.

use std::collections::BTreeSet;

use regorus::Value;

use super::collection::put;
use super::run::{Answer, Frame, Stop};
use super::{Alternative, Expr, Kind};

/// Such an object under way.
pub(super) struct Tree {
    pub(super) object: Value,
    /// Where definitions put their values, into which nothing may be put; not asked for where all keys lie beside each other.
    ends: Option<BTreeSet<Vec<Value>>>,
}

impl Tree {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            object: Value::new_object(),
            ends: (kind == Kind::Tree).then(BTreeSet::new),
        }
    }

    /// Makes what a definition makes even where it does not hold: the objects on the way to its first variable.
    pub(super) fn ground(&mut self, alternative: &Alternative) -> Answer<()> {
        let fixed = alternative.keys.iter().map_while(|key| match key {
            Expr::Const(key) => Some(key.clone()),
            _ => None,
        });
        let mut fixed: Vec<Value> = fixed.collect();
        let whole = fixed.len() == alternative.keys.len();
        if whole && !alternative.member {
            fixed.pop();
        }
        self.at(&fixed, whole && alternative.member).map(|_| ())
    }

    /// Puts a value into it.
    pub(super) fn plant(&mut self, keys: Frame, value: Value, member: bool) -> Answer<()> {
        let mut keys = keys.into_vec();
        if member {
            let set = self.at(&keys, true)?;
            return set
                .as_set_mut()
                .map(|set| set.insert(value))
                .map(|_| ())
                .map_err(|_| Stop::Failed);
        }
        if let Some(ends) = &mut self.ends {
            ends.insert(keys.clone());
        }
        let Some(last) = keys.pop() else {
            return Err(Stop::Failed);
        };
        let object = self.at(&keys, false)?;
        put(object.as_object_mut().map_err(|_| Stop::Failed)?, last, value)
    }

    /// The object at a place, or the set.
    fn at(&mut self, keys: &[Value], set: bool) -> Answer<&mut Value> {
        if let Some(ends) = &self.ends {
            let taken = |length| keys.get(..length).is_some_and(|beginning| ends.contains(beginning));
            if (1..=keys.len()).any(taken) {
                return Err(Stop::Failed);
            }
        }
        let mut at = &mut self.object;
        for (index, key) in keys.iter().enumerate() {
            let empty = if set && index + 1 == keys.len() {
                Value::new_set
            } else {
                Value::new_object
            };
            let fields = at.as_object_mut().map_err(|_| Stop::Failed)?;
            at = fields.get_or_insert_with(key.clone(), empty);
        }
        Ok(at)
    }
}
