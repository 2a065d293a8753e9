//! One verb of a format: read, and written with its argument.

use regorus::Value;

use super::numbers::{exponent, general};
use super::{Arg, MAX_WIDTH, go_quote};

/// A verb with its flags.
#[derive(Default)]
pub(super) struct Verb {
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
    pub(super) fn parse<'a>(text: &'a str, args: &[Value], next: &mut usize, reordered: &mut bool) -> (Self, &'a str) {
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

    pub(super) fn write(&self, out: &mut String, args: &[Value], next: &mut usize) {
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
