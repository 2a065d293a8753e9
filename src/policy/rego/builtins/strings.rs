//! Functions of texts that the engine lacks, or reads differently.

use regorus::Value;

use super::super::sprintf::rego_text;
use super::{ELEMENT, meter, text};

/// Longest text that is read as JSON or YAML: the largest object that an API server accepts.
const MAX_PARSED: usize = 3 << 20;

/// `internal.template_string`: texts, and for each expression between them the set of its values, of which there may be one.
pub(super) fn template(args: &[Value]) -> Option<Value> {
    let mut out = String::new();
    for part in args.first()?.as_array().ok()? {
        let piece = match part {
            Value::Set(values) if values.is_empty() => "<undefined>".to_owned(),
            Value::Set(values) if values.len() == 1 => shown(values.first()?),
            Value::Set(_) => {
                return meter::refuse(|| "template-strings must not produce multiple outputs".to_owned());
            }
            other => shown(other),
        };
        meter::charge("a template string", piece.len())?;
        out.push_str(&piece);
    }
    Some(Value::from(out))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => rego_text(other),
    }
}

/// How often a text occurs in another, without overlaps; an empty one between all characters.
pub(super) fn count(args: &[Value]) -> Option<Value> {
    let (search, wanted) = (text(args, 0)?, text(args, 1)?);
    let count = if wanted.is_empty() {
        search.chars().count() + 1
    } else {
        search.matches(wanted).count()
    };
    Some(Value::from(count))
}

pub(super) fn is_json(args: &[Value]) -> Option<Value> {
    parses(args, "json.is_valid", |text| Value::from_json_str(text).is_ok())
}

pub(super) fn is_yaml(args: &[Value]) -> Option<Value> {
    parses(args, "yaml.is_valid", |text| Value::from_yaml_str(text).is_ok())
}

fn parses(args: &[Value], name: &str, parse: fn(&str) -> bool) -> Option<Value> {
    let Some(text) = text(args, 0) else {
        return Some(Value::from(false));
    };
    if text.len() > MAX_PARSED {
        return meter::refuse(|| format!("the argument of {name} is too large ({} bytes)", text.len()));
    }
    meter::charge(name, text.len().saturating_add(ELEMENT))?;
    Some(Value::from(parse(text)))
}

/// `time.parse_duration_ns`: Go's durations, and days, weeks and years besides, which OPA knows.
pub(super) fn duration(args: &[Value]) -> Option<Value> {
    let written = text(args, 0)?;
    let (negative, mut rest) = match written.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, written.strip_prefix('+').unwrap_or(written)),
    };
    if rest == "0" {
        return Some(Value::from(0_i64));
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        rest = tail;
        const SECOND: i128 = 1_000_000_000;
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            "d" => 86_400 * SECOND,
            "w" => 7 * 86_400 * SECOND,
            "y" => 365 * 86_400 * SECOND,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        sum = sum.checked_add(whole.checked_mul(unit)?)?;
        let mut scale = unit;
        for digit in fraction.chars() {
            scale /= 10;
            sum = sum.checked_add(scale * i128::from(digit.to_digit(10)?))?;
        }
    }
    let sum = if negative { -sum } else { sum };
    i64::try_from(sum).ok().map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_opa_reads_them() {
        for (text, expect) in [
            ("1h30m", Some(5_400_000_000_000_i64)),
            ("1.5s", Some(1_500_000_000)),
            ("-1ms", Some(-1_000_000)),
            ("1d2h", Some(93_600_000_000_000)),
            ("0", Some(0)),
            ("1", None),
            ("", None),
            ("h", None),
            ("1.2.3s", None),
            ("999999999999h", None),
        ] {
            assert_eq!(duration(&[Value::from(text)]), expect.map(Value::from), "{text}");
        }
    }
}
