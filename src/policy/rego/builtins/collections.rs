//! Functions of arrays that the engine lacks.

use regorus::Value;

use super::{ELEMENT, meter};

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
