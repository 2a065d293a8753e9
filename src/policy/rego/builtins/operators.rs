//! Operators between two values: undefined for values of the wrong type, as OPA's are, and bounded in what they make.
//!
//! Compiled rules call them as they are. The engine's own fail where OPA's are undefined, so in the text that the engine gets
//! they are calls of the builtins here (see `guarded`).

use regorus::Value;
use regorus::unstable::{ArithOp, BinOp};

use super::{ELEMENT, meter};

/// Most bits of a number that is computed: more than any quantity, key or address has, few enough to be printed in a moment.
const MAX_BITS: u64 = 131_072;

/// `+`, `-`, `*`, `/` and `%`; also the difference of sets.
pub(in super::super) fn arithmetic(op: &ArithOp, left: &Value, right: &Value) -> Option<Value> {
    let (left, right) = match (left, right) {
        (Value::Number(left), Value::Number(right)) => (left, right),
        (Value::Set(left), Value::Set(right)) if matches!(op, ArithOp::Sub) => {
            meter::charge("a difference of sets", left.len().saturating_mul(ELEMENT))?;
            return Some(Value::from(left.difference(right)));
        }
        _ => return None,
    };
    let made = match op {
        ArithOp::Add => left.add(right),
        ArithOp::Sub => left.sub(right),
        ArithOp::Mul => left.mul(right),
        ArithOp::Div | ArithOp::Mod if right.as_u64() == Some(0) => return None,
        ArithOp::Div => left.clone().divide(right),
        ArithOp::Mod if left.is_integer() && right.is_integer() => left.clone().modulo(right),
        ArithOp::Mod => return None,
    };
    match made {
        // Each factor is bounded, so even the product that is refused here is no longer than two of them.
        Ok(number) => bounded(Value::from(number)),
        // OPA computes on with numbers of any size, so an answer without this one could be another one.
        Err(error) => meter::refuse(|| format!("a number cannot be computed: {error}")),
    }
}

/// Counts a number that fits into no word, and refuses one that is too long.
fn bounded(value: Value) -> Option<Value> {
    if value.as_i64().is_ok() || value.as_u64().is_ok() {
        return Some(value);
    }
    let number = value.as_number().ok().filter(|number| number.is_integer());
    let Some(bits) = number.and_then(|number| number.as_big()).map(|big| big.bits()) else {
        return Some(value);
    };
    if bits > MAX_BITS {
        return meter::refuse(|| format!("a number would have {bits} bits, more than {MAX_BITS}"));
    }
    meter::charge("arithmetic", usize::try_from(bits / 8).unwrap_or(usize::MAX))?;
    Some(value)
}

/// `|` and `&`.
pub(in super::super) fn sets(op: &BinOp, left: &Value, right: &Value) -> Option<Value> {
    let (Value::Set(left), Value::Set(right)) = (left, right) else {
        return None;
    };
    let most = match op {
        BinOp::Union => left.len().saturating_add(right.len()),
        BinOp::Intersection => left.len().min(right.len()),
    };
    meter::charge("an operation on sets", most.saturating_mul(ELEMENT))?;
    Some(Value::from(match op {
        BinOp::Union => left.union(right),
        BinOp::Intersection => left.intersection(right),
    }))
}

/// `product`, each step bounded.
pub(super) fn product(args: &[Value]) -> Option<Value> {
    let mut product = Value::from(1_u64);
    for factor in super::elements(args.first()?)? {
        product = arithmetic(&ArithOp::Mul, &product, factor)?;
        meter::in_time()?;
    }
    Some(product)
}

/// `internal.kept`: counts what a comprehension gathers.
pub(super) fn kept(args: &[Value]) -> Option<Value> {
    meter::gathered()?;
    let value = args.first()?;
    meter::held(value)?;
    Some(value.clone())
}

/// `internal.held`: true, but counts a value that may become a part of others.
pub(super) fn held(args: &[Value]) -> Option<Value> {
    meter::held(args.first()?)?;
    Some(Value::from(true))
}

pub(super) fn plus(args: &[Value]) -> Option<Value> {
    arithmetic(&ArithOp::Add, args.first()?, args.get(1)?)
}

pub(super) fn minus(args: &[Value]) -> Option<Value> {
    arithmetic(&ArithOp::Sub, args.first()?, args.get(1)?)
}

pub(super) fn times(args: &[Value]) -> Option<Value> {
    arithmetic(&ArithOp::Mul, args.first()?, args.get(1)?)
}

pub(super) fn divide(args: &[Value]) -> Option<Value> {
    arithmetic(&ArithOp::Div, args.first()?, args.get(1)?)
}

pub(super) fn remainder(args: &[Value]) -> Option<Value> {
    arithmetic(&ArithOp::Mod, args.first()?, args.get(1)?)
}

pub(super) fn union(args: &[Value]) -> Option<Value> {
    sets(&BinOp::Union, args.first()?, args.get(1)?)
}

pub(super) fn intersection(args: &[Value]) -> Option<Value> {
    sets(&BinOp::Intersection, args.first()?, args.get(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regorus::unstable::ArithOp::{Add, Div, Mod, Mul, Sub};

    fn value(json: &str) -> Value {
        Value::from_json_str(json).unwrap()
    }

    #[test]
    fn values_of_the_wrong_type_make_nothing() {
        let check = |op: ArithOp, left: Value, right: Value, expect: Option<Value>| {
            assert_eq!(arithmetic(&op, &left, &right), expect, "{left} {op:?} {right}");
        };
        let set = |items: &[u64]| {
            Value::from(
                items
                    .iter()
                    .map(|item| Value::from(*item))
                    .collect::<std::collections::BTreeSet<_>>(),
            )
        };
        check(Add, value("1"), value("2"), Some(value("3")));
        check(Add, value("1"), value("\"a\""), None);
        check(Sub, set(&[1, 2]), set(&[2]), Some(set(&[1])));
        check(Sub, set(&[1]), value("1"), None);
        check(Sub, value("1"), set(&[1]), None);
        check(Add, set(&[1]), set(&[2]), None);
        check(Div, value("1"), value("0"), None);
        check(Div, value("1"), value("2"), Some(value("0.5")));
        check(Mod, value("1"), value("0"), None);
        check(Mod, value("1.1"), value("1"), None);
        check(Mod, value("7"), value("4"), Some(value("3")));
        check(Mul, value("1.5"), value("2"), Some(value("3")));
        assert_eq!(sets(&BinOp::Union, &set(&[1]), &value("[1]")), None);
        assert_eq!(
            sets(&BinOp::Intersection, &set(&[1, 2]), &set(&[2, 3])),
            Some(set(&[2]))
        );
    }

    #[test]
    fn numbers_end_somewhere() {
        let mut number = value("9223372036854775807");
        let mut steps = 0;
        while let Some(next) = arithmetic(&Mul, &number, &number) {
            (number, steps) = (next, steps + 1);
        }
        assert_eq!(steps, 11);
        assert!(meter::breach().is_some_and(|breach| breach.starts_with("a number would have 258048 bits")));
        assert_eq!(arithmetic(&Mul, &value("1e300"), &value("1e300")), None);
        assert!(meter::breach().is_some_and(|breach| breach.starts_with("a number cannot be computed: ")));
    }
}
