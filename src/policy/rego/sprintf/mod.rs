//! `sprintf` as Go's `fmt` does it, with the arguments that OPA hands to it.
//!
//! OPA gives `fmt` an integer, a float or a string, and every other value as its Rego text, so `%v` of an object prints
//! Rego and `%t` of a boolean complains about a string. A missing or superfluous argument is written into the text and
//! never an error: a message that is worded badly must not turn a denial into silence.

mod numbers;
mod verb;

use regorus::Value;

use numbers::general;
use verb::Verb;

/// Widest padding and longest precision: what `fmt` allows too; beyond it `fmt` writes `%!(BADWIDTH)`.
const MAX_WIDTH: usize = 1_000_000;
/// Longest text that is built; formats come from policies, which are trusted, arguments from objects, which are not.
const MAX_OUTPUT: usize = 1 << 20;

/// Formats.
pub(crate) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len() + 32);
    let (mut next, mut reordered) = (0_usize, false);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        let (verb, tail) = Verb::parse(rest, args, &mut next, &mut reordered);
        rest = tail;
        verb.write(&mut out, args, &mut next);
        if out.len() > MAX_OUTPUT {
            break;
        }
    }
    out.push_str(rest);
    if !reordered && next < args.len() {
        out.push_str("%!(EXTRA ");
        let extra: Vec<String> = args
            .iter()
            .skip(next)
            .map(|arg| {
                let arg = Arg::of(arg);
                format!("{}={}", arg.type_name(), arg.plain())
            })
            .collect();
        out.push_str(&extra.join(", "));
        out.push(')');
    }
    if out.len() > MAX_OUTPUT {
        let end = (0..=MAX_OUTPUT)
            .rev()
            .find(|end| out.is_char_boundary(*end))
            .unwrap_or(0);
        out.truncate(end);
    }
    out
}

/// The text of a value as OPA writes it.
pub(crate) fn rego_text(value: &Value) -> String {
    fn join<'a>(items: impl Iterator<Item = &'a Value>) -> String {
        items.map(rego_text).collect::<Vec<_>>().join(", ")
    }
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.format_decimal(),
        Value::String(text) => go_quote(text),
        Value::Array(items) => format!("[{}]", join(items.iter())),
        Value::Set(items) if items.is_empty() => "set()".to_owned(),
        Value::Set(items) => format!("{{{}}}", join(items.iter_sorted())),
        Value::Object(fields) => {
            let fields = fields.iter_sorted();
            let fields: Vec<String> = fields
                .map(|(key, value)| format!("{}: {}", rego_text(key), rego_text(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Undefined => "<undefined>".to_owned(),
    }
}

/// What `fmt` is given.
enum Arg {
    Int(i128),
    Float(f64),
    Text(String),
}

impl Arg {
    fn of(value: &Value) -> Self {
        match value {
            Value::Number(number) => match number.as_i128().filter(|_| number.is_integer()) {
                Some(integer) => Self::Int(integer),
                None => number
                    .as_f64()
                    .map_or_else(|| Self::Text(number.format_decimal()), Self::Float),
            },
            Value::String(text) => Self::Text(text.to_string()),
            other => Self::Text(rego_text(other)),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Int(value) if i64::try_from(*value).is_ok() => "int",
            Self::Int(_) => "*big.Int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
        }
    }

    /// What `%v` writes.
    fn plain(&self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Float(value) => general(*value, None),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A string as Go quotes it.
fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, args: &str, expect: &str) {
        let args = Value::from_json_str(args).unwrap();
        assert_eq!(
            sprintf(format, args.as_array().unwrap().as_slice()),
            expect,
            "{format} {args}"
        );
    }

    #[test]
    fn values_are_written_as_opa_writes_them() {
        check("%v %s", r#"["a", "b"]"#, "a b");
        check("%v", r#"[{"b": [1, "x"], "a": null}]"#, r#"{"a": null, "b": [1, "x"]}"#);
        check("%v %v %v", "[1, 2.5, true]", "1 2.5 true");
        check(
            "%v %v %v",
            "[1e21, 1e20, 0.00001]",
            "1000000000000000000000 100000000000000000000 1e-05",
        );
        check("%d%%", "[90]", "90%");
        check("%5d|%-5d|%05d|%+d", "[1, 2, -3, 4]", "    1|2    |-0003|+4");
        check("%x %X %#x %x", r#"[255, 255, 255, "hi"]"#, "ff FF 0xff 6869");
        check(
            "%q %5s|%-5s|%.2s",
            r#"["a\"b", "x", "y", "abc"]"#,
            r#""a\"b"     x|y    |ab"#,
        );
        check(
            "%f %.2f %e %g",
            "[1.5, 2.345, 1234.5678, 0.5]",
            "1.500000 2.35 1.234568e+03 0.5",
        );
        check("%c %U %b %o", "[65, 65, 5, 8]", "A U+0041 101 10");
        check("%[2]v %[1]v", r#"["a", "b"]"#, "b a");
        check("%*d", "[4, 7]", "   7");
    }

    #[test]
    fn what_does_not_fit_is_said_in_the_text() {
        check("%s and %s", r#"["a"]"#, "a and %!s(MISSING)");
        check("%s", r#"["a", 3, "b"]"#, "a%!(EXTRA int=3, string=b)");
        check("none", "[1]", "none%!(EXTRA int=1)");
        check("%d", r#"["a"]"#, "%!d(string=a)");
        check("%s %s", "[3, 2.5]", "%!s(int=3) %!s(float64=2.5)");
        check("%t", "[true]", "%!t(string=true)");
        check("100%", "[]", "100%!(NOVERB)");
        check("%z %[9]d %[x]d", "[1]", "%!z(int=1) %!d(BADINDEX) %!d(BADINDEX)");
        check("%é", "[1]", "%!é(int=1)");
    }

    #[test]
    fn a_hostile_width_is_bounded() {
        assert!(
            sprintf(
                "%999999s%999999s%999999s",
                &[Value::from("a"), Value::from("b"), Value::from("c")]
            )
            .len()
                <= MAX_OUTPUT
        );
        assert_eq!(sprintf("%99999999999d", &[Value::from(1)]), "1");
    }
}
