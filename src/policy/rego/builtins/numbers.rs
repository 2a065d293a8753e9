//! `numbers.range` and `numbers.range_step`, counted before they are made: one of thirty million numbers would take a
//! second and a gigabyte.

use regorus::Value;

use super::{ELEMENT, integer, meter};

pub(super) fn range(args: &[Value]) -> Option<Value> {
    enumerate("numbers.range", integer(args, 0)?, integer(args, 1)?, 1)
}

pub(super) fn range_step(args: &[Value]) -> Option<Value> {
    let step = integer(args, 2).filter(|step| *step > 0)?;
    enumerate("numbers.range_step", integer(args, 0)?, integer(args, 1)?, step)
}

/// From one number to another, both included, upwards or downwards.
fn enumerate(name: &str, from: i128, to: i128, step: i128) -> Option<Value> {
    let count = to.abs_diff(from) / step.unsigned_abs() + 1;
    let Ok(count) = usize::try_from(count) else {
        return meter::refuse(|| format!("{name}({from}, {to}) would make {count} numbers"));
    };
    meter::charge(&format!("{name}({from}, {to})"), count.saturating_mul(ELEMENT))?;
    let mut numbers = Vec::with_capacity(count);
    for index in 0..count {
        let distance = i128::try_from(index).ok()? * step;
        let number = if from <= to { from + distance } else { from - distance };
        numbers.push(Value::from(number));
    }
    Some(Value::from(numbers))
}
