//! Functions of collections that the engine lacks, or leaves without bounds.

use std::collections::BTreeSet;

use regorus::Value;
use regorus::value::{Object, Set};

use super::{ELEMENT, meter};

/// How many values `walk` visits between two looks at the clock.
const WALKED: usize = 1_024;

/// `array.flatten`: arrays in the array are taken apart, one level.
pub(super) fn flatten(args: &[Value]) -> Option<Value> {
    let outer = args.first()?.as_array().ok()?;
    let mut found = Vec::with_capacity(outer.len());
    for item in outer {
        match item {
            Value::Array(inner) => {
                meter::charge("array.flatten", inner.len().saturating_mul(ELEMENT))?;
                found.extend(inner.iter().cloned());
            }
            other => found.push(other.clone()),
        }
    }
    Some(Value::from(found))
}

/// `walk`: path and value of everything in a value, each a pair. What is called so is gone through by who asks.
pub(super) fn walk(args: &[Value]) -> Option<Value> {
    let (mut path, mut pairs) = (Vec::new(), Vec::new());
    visit(args.first()?, &mut path, &mut pairs)?;
    Some(Value::from(pairs))
}

fn visit(value: &Value, path: &mut Vec<Value>, pairs: &mut Vec<Value>) -> Option<()> {
    meter::charge("walk", (path.len() + 4).saturating_mul(ELEMENT))?;
    if pairs.len().is_multiple_of(WALKED) {
        meter::in_time()?;
    }
    pairs.push(Value::from(vec![Value::from(path.clone()), value.clone()]));
    let mut below = |key: Value, value: &Value| {
        path.push(key);
        let visited = visit(value, path, pairs);
        path.pop();
        visited
    };
    match value {
        Value::Array(items) => (0_usize..)
            .zip(items.iter())
            .try_for_each(|(index, item)| below(Value::from(index), item)),
        Value::Set(items) => items.iter_sorted().try_for_each(|item| below(item.clone(), item)),
        Value::Object(fields) => fields
            .iter_sorted()
            .try_for_each(|(key, value)| below(key.clone(), value)),
        _ => Some(()),
    }
}

/// `graph.reachable_paths`: of a graph in which everything is joined to everything there are more paths than anybody can
/// have, and the engine follows each by calling itself.
pub(super) fn reachable_paths(args: &[Value]) -> Option<Value> {
    let graph = args.first()?.as_object().ok()?;
    let mut paths = Paths::default();
    for root in super::elements(args.get(1)?)? {
        paths.enter(graph, root)?;
        while let Some(open) = paths.open.last_mut() {
            if let Some(next) = open.pop() {
                paths.enter(graph, &next)?;
            } else {
                paths.open.pop();
                if let Some(node) = paths.path.pop() {
                    paths.visited.remove(&node);
                }
            }
        }
    }
    Some(Value::from(paths.found))
}

#[derive(Default)]
struct Paths {
    found: BTreeSet<Value>,
    path: Vec<Value>,
    visited: BTreeSet<Value>,
    /// For each node of the path, where it can still go.
    open: Vec<Vec<Value>>,
    steps: usize,
}

impl Paths {
    fn enter(&mut self, graph: &Object, node: &Value) -> Option<()> {
        self.steps += 1;
        if self.steps.is_multiple_of(WALKED) {
            meter::in_time()?;
        }
        let next = graph.get(node).filter(|_| *node != Value::from(""));
        let Some(next) = next.filter(|_| !self.visited.contains(node)) else {
            return self.end();
        };
        let next: Vec<Value> = match next {
            Value::Null => Vec::new(),
            other => super::elements(other)?.cloned().collect(),
        };
        meter::charge("graph.reachable_paths", (next.len() + 2).saturating_mul(ELEMENT))?;
        self.path.push(node.clone());
        self.visited.insert(node.clone());
        if next.is_empty() {
            self.end()?;
        }
        self.open.push(next);
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        if !self.path.is_empty() {
            meter::charge("graph.reachable_paths", (self.path.len() + 2).saturating_mul(ELEMENT))?;
            self.found.insert(Value::from(self.path.clone()));
        }
        Some(())
    }
}

/// `union`: of a set of sets. The engine copies what it has for each of them.
pub(super) fn union(args: &[Value]) -> Option<Value> {
    let mut all = Set::new();
    for set in args.first()?.as_set().ok()? {
        let set = set.as_set().ok()?;
        meter::charge("union", set.len().saturating_mul(ELEMENT))?;
        meter::in_time()?;
        for item in set {
            all.insert(item.clone());
        }
    }
    Some(all.into_value())
}
