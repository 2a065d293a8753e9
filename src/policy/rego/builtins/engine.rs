//! Builtins that the engine has, with bounds around them.
//!
//! Their arguments are measured before the call and what they made is counted after it. That is enough where the result is
//! about as large as the arguments; those that could make much more of little say how much before.

use std::sync::LazyLock;

use regorus::Value;
use regorus::unstable::{BUILTINS, BuiltinFcn, Expr, Ref, Span};

use super::{ELEMENT, integer, meter, text};

/// Longest text that is read as a number. Reading takes the square of it; nobody's number has more digits.
const MAX_DIGITS: usize = 1_000;
/// Longest text that a parser reads: the largest object that an API server accepts.
const MAX_PARSED: usize = 3 << 20;
/// Farthest that a number is shifted.
const MAX_SHIFT: i128 = 65_536;

/// How large the result of a call will be at the most; [`REFUSED`] where it must not be made. What has the wrong type
/// counts as nothing, for the builtin makes nothing of it.
type Estimate = fn(&[Value]) -> usize;

/// More than anybody may make.
const REFUSED: usize = usize::MAX;
/// What a value takes at the least when it is written down, with what stands around it.
const WRITTEN: usize = 4;
/// How many comparisons cost as much as a byte that is made.
const COMPARED: usize = 16;
/// What cannot be made at all: the builtin is undefined.
const UNDEFINED: usize = usize::MAX - 1;
/// Most digits of an exponent: OPA's own bound, beyond which a unit is undefined.
const MAX_EXPONENT: usize = 6;

/// The names and what they may make.
const BOUNDED: [(&str, Estimate); 45] = [
    ("array.concat", |args| length(args, 0) + length(args, 1)),
    ("array.reverse", |args| length(args, 0)),
    ("array.slice", |args| length(args, 0)),
    ("base64.decode", |args| length(args, 0)),
    ("base64.encode", |args| 2 * length(args, 0)),
    ("base64url.decode", |args| length(args, 0)),
    ("base64url.encode", |args| 2 * length(args, 0)),
    ("base64url.encode_no_pad", |args| 2 * length(args, 0)),
    ("bits.lsh", |args| {
        allowed(integer(args, 1).is_none_or(|by| by <= MAX_SHIFT))
    }),
    ("concat", |args| {
        let parts = args.get(1).and_then(super::elements).into_iter().flatten();
        let (sum, count) = parts.fold((0_usize, 0_usize), |(sum, count), part| (sum + size(part), count + 1));
        sum + count.saturating_mul(length(args, 0))
    }),
    ("format_int", |args| length(args, 0)),
    ("hex.decode", |args| length(args, 0)),
    ("hex.encode", |args| 2 * length(args, 0)),
    ("indexof_n", |args| {
        length(args, 0) + length(args, 0).saturating_mul(length(args, 1)) / COMPARED
    }),
    ("json.marshal", written),
    ("json.marshal_with_options", written),
    ("json.patch", |args| length(args, 0) + length(args, 1) * ELEMENT),
    ("json.unmarshal", parsed),
    ("lower", |args| 2 * length(args, 0)),
    ("object.subset", pairs),
    ("object.union", |args| length(args, 0) + length(args, 1)),
    ("object.union_n", |args| {
        let all = args.first().and_then(super::elements).into_iter().flatten();
        let (sum, count) = all.fold((0_usize, 0_usize), |(sum, count), one| (sum + size(one), count + 1));
        // Each is added to a copy of those before.
        sum.saturating_mul(count) / COMPARED
    }),
    ("replace", |args| {
        let (old, new) = (length(args, 1).max(1), length(args, 2));
        length(args, 0) + (length(args, 0) / old + 1).saturating_mul(new)
    }),
    ("split", |args| (length(args, 0) + 1) * ELEMENT),
    ("strings.any_prefix_match", pairs),
    ("strings.any_suffix_match", pairs),
    ("strings.replace_n", |args| {
        let patterns = args.first().and_then(|patterns| patterns.as_object().ok());
        let longest = patterns.and_then(|patterns| patterns.iter().map(|(_, new)| size(new)).max());
        (length(args, 1) + 1).saturating_mul(longest.unwrap_or_default().max(1))
    }),
    ("strings.reverse", |args| length(args, 0)),
    ("substring", |args| length(args, 0)),
    ("to_number", digits),
    ("trim", |args| length(args, 0)),
    ("trim_left", |args| length(args, 0)),
    ("trim_prefix", |args| length(args, 0)),
    ("trim_right", |args| length(args, 0)),
    ("trim_space", |args| length(args, 0)),
    ("trim_suffix", |args| length(args, 0)),
    ("units.parse", unit),
    ("units.parse_bytes", unit),
    ("upper", |args| 2 * length(args, 0)),
    ("urlquery.decode", |args| length(args, 0)),
    ("urlquery.decode_object", |args| 4 * length(args, 0)),
    ("urlquery.encode", |args| 3 * length(args, 0)),
    ("urlquery.encode_object", |_| 0),
    ("yaml.marshal", written),
    ("yaml.unmarshal", parsed),
];

/// For what writes a value down with all its parts, shared ones too.
fn written(args: &[Value]) -> usize {
    fn bytes(value: &Value, sum: &mut usize) {
        // Beyond what may be made it does not matter how much it is.
        if *sum > meter::MAX_MADE {
            return;
        }
        *sum += WRITTEN;
        match value {
            Value::String(text) => *sum += text.len(),
            Value::Array(items) => items.iter().for_each(|item| bytes(item, sum)),
            Value::Set(items) => items.iter().for_each(|item| bytes(item, sum)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                bytes(key, sum);
                bytes(value, sum);
            }),
            _ => {}
        }
    }
    let mut sum = 0;
    args.first().into_iter().for_each(|value| bytes(value, &mut sum));
    sum
}

/// For what compares everything in one list with everything in another.
fn pairs(args: &[Value]) -> usize {
    let count = |index| args.get(index).and_then(super::elements).map_or(1, Iterator::count);
    count(0).saturating_mul(count(1)) / COMPARED
}

/// A builtin of the engine.
pub(crate) struct Bounded {
    pub(super) name: &'static str,
    pub(super) arguments: u8,
    estimate: Estimate,
    function: BuiltinFcn,
    /// What the engine wants to know of the call, for messages that nobody sees.
    span: Span,
    params: Vec<Ref<Expr>>,
}

impl Bounded {
    /// The result; `None` when it is undefined.
    pub(super) fn call(&self, args: &[Value]) -> Option<Value> {
        let estimate = (self.estimate)(args);
        if estimate == REFUSED {
            let longest = args.iter().map(size).max().unwrap_or_default();
            return meter::refuse(|| format!("the argument of {} is too large ({longest} bytes)", self.name));
        }
        if estimate == UNDEFINED {
            return None;
        }
        meter::charge(self.name, estimate)?;
        match (self.function.0)(&self.span, &self.params, args, false) {
            Ok(Value::Undefined) => None,
            Ok(value) => {
                let made = size(&value).saturating_sub(estimate);
                if made > 0 {
                    meter::charge(self.name, made)?;
                }
                Some(value)
            }
            Err(error) if error.downcast_ref::<regorus::LimitError>().is_some() => {
                meter::refuse(|| format!("{}: {error}", self.name))
            }
            Err(_) => None,
        }
    }
}

/// The builtins that the engine has, each with its bounds.
pub(super) fn bounded() -> &'static [Bounded] {
    static ALL: LazyLock<Vec<Bounded>> = LazyLock::new(|| {
        let source = regorus::Source::from_contents("builtin".to_owned(), "?".to_owned());
        let span = source.ok().map(|source| Span {
            source,
            line: 1,
            col: 1,
            start: 0,
            end: 1,
        });
        let known = BOUNDED.iter().filter_map(|(name, estimate)| {
            let (function, span) = (BUILTINS.get(name)?, span.clone()?);
            let param = || {
                Ref::new(Expr::Null {
                    span: span.clone(),
                    value: Value::Null,
                    eidx: 0,
                })
            };
            Some(Bounded {
                name,
                arguments: function.1,
                estimate: *estimate,
                function: *function,
                params: (0..function.1).map(|_| param()).collect(),
                span: span.clone(),
            })
        });
        known.collect()
    });
    &ALL
}

/// About how many bytes a value takes, without looking into its elements.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len().saturating_mul(ELEMENT),
        Value::Set(items) => items.len().saturating_mul(2 * ELEMENT),
        Value::Object(fields) => fields.len().saturating_mul(4 * ELEMENT),
        _ => 0,
    }
}

fn length(args: &[Value], index: usize) -> usize {
    args.get(index).map_or(0, size)
}

fn allowed(allowed: bool) -> usize {
    if allowed { ELEMENT } else { REFUSED }
}

fn digits(args: &[Value]) -> usize {
    allowed(length(args, 0) <= MAX_DIGITS || text(args, 0).is_none())
}

fn unit(args: &[Value]) -> usize {
    let exponent = text(args, 0).and_then(|text| text.split_once(['e', 'E']));
    let digits_of = |rest: &str| {
        let rest = rest.trim_start_matches(['+', '-']);
        rest.bytes().take_while(u8::is_ascii_digit).count()
    };
    match exponent {
        Some((_, rest)) if digits_of(rest) > MAX_EXPONENT => UNDEFINED,
        _ => digits(args),
    }
}

fn parsed(args: &[Value]) -> usize {
    let length = length(args, 0);
    if length > MAX_PARSED { REFUSED } else { length }
}
