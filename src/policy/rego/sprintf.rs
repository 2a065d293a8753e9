//! `sprintf` as Go's `fmt` does it, with the arguments that OPA hands to it.
//!
//! OPA gives `fmt` an integer, a float or a string, and every other value as its Rego text, so `%v` of an object prints
//! Rego and `%t` of a boolean complains about a string. A missing or superfluous argument is written into the text and
//! never an error: a message that is worded badly must not turn a denial into silence.

use regorus::Value;

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

#[derive(Default)]
struct Verb {
    letter: Option<char>,
    bad_index: bool,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Verb {
    /// Reads what follows a `%`, taking `*` and `[n]` from the arguments.
    fn parse<'a>(text: &'a str, args: &[Value], next: &mut usize, reordered: &mut bool) -> (Self, &'a str) {
        let mut verb = Self::default();
        let mut rest = text;
        while let Some(flag) = rest.chars().next() {
            match flag {
                '-' => verb.minus = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                '0' => verb.zero = true,
                _ => break,
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        rest = verb.index(rest, args, next, reordered);
        (verb.width, rest) = number(rest, args, next);
        if let Some(tail) = rest.strip_prefix('.') {
            rest = verb.index(tail, args, next, reordered);
            let (precision, tail) = number(rest, args, next);
            verb.precision = Some(precision.unwrap_or(0));
            rest = tail;
        }
        rest = verb.index(rest, args, next, reordered);
        verb.letter = rest.chars().next();
        let length = verb.letter.map_or(0, char::len_utf8);
        (verb, rest.get(length..).unwrap_or_default())
    }

    /// Reads an explicit argument index, `[n]`.
    fn index<'a>(&mut self, rest: &'a str, args: &[Value], next: &mut usize, reordered: &mut bool) -> &'a str {
        let Some(tail) = rest.strip_prefix('[') else {
            return rest;
        };
        *reordered = true;
        let Some((digits, tail)) = tail.split_once(']') else {
            self.bad_index = true;
            return tail;
        };
        match digits
            .parse::<usize>()
            .ok()
            .filter(|index| (1..=args.len()).contains(index))
        {
            Some(index) => *next = index - 1,
            None => self.bad_index = true,
        }
        tail
    }

    fn write(&self, out: &mut String, args: &[Value], next: &mut usize) {
        let Some(letter) = self.letter else {
            out.push_str("%!(NOVERB)");
            return;
        };
        if letter == '%' {
            out.push('%');
            return;
        }
        if self.bad_index {
            out.push_str(&format!("%!{letter}(BADINDEX)"));
            return;
        }
        let Some(arg) = args.get(*next) else {
            out.push_str(&format!("%!{letter}(MISSING)"));
            return;
        };
        *next += 1;
        let arg = Arg::of(arg);
        let body = match (letter, &arg) {
            ('T', _) => self.pad(arg.type_name(), false),
            ('v' | 'd', Arg::Int(value)) => self.integer(*value, 10, false),
            // Only small integers are an `int`; large ones know `%s` too.
            ('s', Arg::Int(value)) if arg.type_name() != "int" => self.integer(*value, 10, false),
            ('x', Arg::Int(value)) => self.integer(*value, 16, false),
            ('X', Arg::Int(value)) => self.integer(*value, 16, true),
            ('o' | 'O', Arg::Int(value)) => self.integer(*value, 8, false),
            ('b', Arg::Int(value)) => self.integer(*value, 2, false),
            ('c', Arg::Int(value)) => self.pad(&character(*value).to_string(), false),
            ('q', Arg::Int(value)) => self.pad(&format!("'{}'", character(*value)), false),
            ('U', Arg::Int(value)) => self.pad(&format!("U+{value:04X}"), false),
            ('v' | 'g' | 'G', Arg::Float(value)) => self.float(&general(*value, self.precision), letter),
            ('f' | 'F', Arg::Float(value)) => self.float(&format!("{value:.*}", self.precision.unwrap_or(6)), letter),
            ('e' | 'E', Arg::Float(value)) => self.float(&exponent(*value, self.precision.unwrap_or(6)), letter),
            ('v' | 's', Arg::Text(text)) if letter == 'v' && self.sharp => self.pad(&go_quote(text), false),
            ('v' | 's', Arg::Text(text)) => self.pad(&self.cut(text), false),
            ('q', Arg::Text(text)) => self.pad(&go_quote(&self.cut(text)), false),
            ('x', Arg::Text(text)) => self.pad(&self.hex(text, false), false),
            ('X', Arg::Text(text)) => self.pad(&self.hex(text, true), false),
            _ => format!("%!{letter}({}={})", arg.type_name(), arg.plain()),
        };
        out.push_str(&body);
    }

    fn cut(&self, text: &str) -> String {
        match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.to_owned(),
        }
    }

    fn hex(&self, text: &str, upper: bool) -> String {
        let bytes = text.as_bytes().iter().take(self.precision.unwrap_or(usize::MAX));
        let digits = bytes.map(|byte| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        });
        let joined = digits.collect::<Vec<_>>().join(if self.space { " " } else { "" });
        match (self.sharp, upper) {
            (true, true) => format!("0X{joined}"),
            (true, false) => format!("0x{joined}"),
            _ => joined,
        }
    }

    fn integer(&self, value: i128, base: u32, upper: bool) -> String {
        let size = value.unsigned_abs();
        let mut digits = match (base, upper) {
            (2, _) => format!("{size:b}"),
            (8, _) => format!("{size:o}"),
            (16, false) => format!("{size:x}"),
            (16, true) => format!("{size:X}"),
            _ => size.to_string(),
        };
        if let Some(precision) = self.precision {
            digits = format!("{}{digits}", "0".repeat(precision.saturating_sub(digits.len())));
        }
        if self.sharp {
            let prefix = match (base, upper) {
                (16, false) => "0x",
                (16, true) => "0X",
                (8, _) => "0",
                (2, _) => "0b",
                _ => "",
            };
            digits = format!("{prefix}{digits}");
        }
        self.sign(value < 0, &digits, self.precision.is_none())
    }

    fn float(&self, text: &str, letter: char) -> String {
        let text = if letter.is_uppercase() {
            text.to_uppercase()
        } else {
            text.to_owned()
        };
        match text.strip_prefix('-') {
            Some(digits) => self.sign(true, digits, true),
            None => self.sign(false, &text, true),
        }
    }

    fn sign(&self, negative: bool, digits: &str, may_zero: bool) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        };
        if self.zero && !self.minus && may_zero {
            let missing = self.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        self.pad(&format!("{sign}{digits}"), false)
    }

    fn pad(&self, text: &str, zero: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let fill = if zero { "0" } else { " " }.repeat(missing);
        if self.minus {
            format!("{text}{fill}")
        } else {
            format!("{fill}{text}")
        }
    }
}

/// A width or a precision: digits, or `*` for the next argument.
fn number<'a>(rest: &'a str, args: &[Value], next: &mut usize) -> (Option<usize>, &'a str) {
    if let Some(tail) = rest.strip_prefix('*') {
        let width = args.get(*next).and_then(|arg| arg.as_i64().ok());
        *next += 1;
        let width = width
            .and_then(|width| usize::try_from(width).ok())
            .filter(|width| *width <= MAX_WIDTH);
        return (width, tail);
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, tail) = rest.split_at(end);
    (digits.parse().ok().filter(|width| *width <= MAX_WIDTH), tail)
}

fn character(value: i128) -> char {
    u32::try_from(value)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// `%e`: Go writes at least two digits of exponent.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    go_exponent(&text)
}

fn go_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%v` and `%g`: the shortest text that reads back, with an exponent below 1e-4 and from 1e21.
fn general(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value < 0.0 {
            "-Inf"
        } else {
            "+Inf"
        }
        .to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = match precision {
        Some(digits) => format!("{value:.*e}", digits.max(1) - 1),
        None => format!("{value:e}"),
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let limit = precision.map_or(21, |digits| i64::try_from(digits.max(1)).unwrap_or(i64::MAX));
    let mantissa = if precision.is_some() && mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    if power < -4 || power >= limit {
        return go_exponent(&format!("{mantissa}e{power}"));
    }
    let value: f64 = format!("{mantissa}e{power}").parse().unwrap_or(value);
    value.to_string()
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
