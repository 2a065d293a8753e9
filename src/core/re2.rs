//! Regular expressions as Go's `regexp` (RE2) reads them, translated for the `regex` crate.
//!
//! Both have the same semantics and nearly the same syntax. Where they differ a policy would match something else, or not
//! load: `\d`, `\w`, `\s` and `\b` are ASCII here, `\Q…\E` quotes, `\<` is a character, a brace that counts nothing is a
//! character, octal escapes exist, classes have no set operations, and `a**` is an error.
//!
//! Guarantees: an expression is refused before it is compiled when it would be large, and says how large it is, so that
//! the work of a match can be estimated.

/// Longest expression. Larger ones are generated, and belong into data.
const MAX_LENGTH: usize = 64 << 10;
/// Most that a counted repetition may ask for: Go's own bound.
const MAX_REPEAT: u32 = 1000;
/// Deepest nesting of groups: Go's own bound.
const MAX_DEPTH: usize = 1000;
/// Most instructions, after repetitions are written out. An expression for host names has some thousands; the engine needs
/// about 100 bytes for one.
const MAX_SIZE: u64 = 100_000;
/// What a class of Unicode costs in instructions, about.
const UNICODE_CLASS: u64 = 200;

/// A translated expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    /// For the `regex` crate.
    pub(crate) pattern: String,
    /// About how many instructions it has.
    pub(crate) size: u64,
}

/// Why an expression is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Go would refuse it too.
    Invalid,
    /// It is well-formed and too large.
    TooLarge,
}

/// Translates an expression.
pub(crate) fn translate(text: &str) -> Result<Translated, Refusal> {
    if text.len() > MAX_LENGTH {
        return Err(Refusal::TooLarge);
    }
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader {
        chars: &chars,
        at: 0,
        out: String::with_capacity(text.len() + 16),
    };
    let size = reader.alternatives(0)?;
    if reader.at < chars.len() {
        return Err(Refusal::Invalid);
    }
    Ok(Translated {
        pattern: reader.out,
        size,
    })
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    out: String,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        Some(c)
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.out.push_str(&regex::escape(c.encode_utf8(&mut buffer)));
    }

    /// Everything up to the end of the group, which is left to read.
    fn alternatives(&mut self, depth: usize) -> Result<u64, Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::Invalid);
        }
        let mut total = 1_u64;
        // The size of what a repetition would repeat; `None` where there is nothing to.
        let mut last: Option<u64> = None;
        let mut repeated = false;
        while let Some(c) = self.peek(0) {
            if c == ')' {
                break;
            }
            let repetition = self.repetition()?;
            if let Some((text, times)) = repetition {
                let size = last.filter(|_| !repeated).ok_or(Refusal::Invalid)?;
                self.out.push_str(&text);
                repeated = true;
                // One is counted already.
                total = total.saturating_add(size.saturating_mul(times.saturating_sub(1)).saturating_add(1));
            } else {
                let size = self.atom(depth)?;
                last = (c != '|').then_some(size.unwrap_or(1)).filter(|_| size.is_some());
                repeated = false;
                total = total.saturating_add(size.unwrap_or(1));
            }
            if total > MAX_SIZE {
                return Err(Refusal::TooLarge);
            }
        }
        Ok(total)
    }

    /// A repetition and how often it may repeat, if one stands here.
    fn repetition(&mut self) -> Result<Option<(String, u64)>, Refusal> {
        let (text, times) = match self.peek(0) {
            Some(c @ ('*' | '+' | '?')) => {
                self.at += 1;
                (c.to_string(), 2)
            }
            Some('{') => match self.counts() {
                Some((length, low, high)) => {
                    let most = high.flatten().unwrap_or(low);
                    if low > MAX_REPEAT || most > MAX_REPEAT || most < low {
                        return Err(Refusal::Invalid);
                    }
                    self.at += length;
                    let text = match high {
                        None => format!("{{{low}}}"),
                        Some(None) => format!("{{{low},}}"),
                        Some(Some(high)) => format!("{{{low},{high}}}"),
                    };
                    (text, u64::from(most.max(1)) + 1)
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if self.peek(0) == Some('?') {
            self.at += 1;
            return Ok(Some((text + "?", times)));
        }
        Ok(Some((text, times)))
    }

    /// `{2}`, `{2,}` or `{2,3}`: its length and numbers. Anything else in braces is characters.
    fn counts(&self) -> Option<(usize, u32, Option<Option<u32>>)> {
        let rest = self.chars.get(self.at + 1..)?;
        let end = rest.iter().position(|c| *c == '}')?;
        let inner: String = rest.get(..end)?.iter().collect();
        let number = |text: &str| {
            let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            plain.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let counts = match inner.split_once(',') {
            None => (number(&inner)?, None),
            Some((low, "")) => (number(low)?, Some(None)),
            Some((low, high)) => (number(low)?, Some(Some(number(high)?))),
        };
        Some((end + 2, counts.0, counts.1))
    }

    /// One thing that can be repeated, and its size; `None` for what cannot.
    fn atom(&mut self, depth: usize) -> Result<Option<u64>, Refusal> {
        let Some(c) = self.next() else { return Ok(None) };
        match c {
            '(' => return self.group(depth),
            '[' => return self.class().map(Some),
            '\\' => return self.escape(),
            '|' => {
                self.out.push('|');
                return Ok(None);
            }
            '.' | '^' | '$' => self.out.push(c),
            other => self.literal(other),
        }
        Ok(Some(1))
    }

    fn group(&mut self, depth: usize) -> Result<Option<u64>, Refusal> {
        self.out.push('(');
        if self.peek(0) == Some('?') {
            self.at += 1;
            let named = matches!((self.peek(0), self.peek(1)), (Some('P'), Some('<')))
                || (self.peek(0) == Some('<') && !matches!(self.peek(1), Some('=' | '!')));
            self.out.push('?');
            if named {
                self.out.push_str("P<");
                self.at += if self.peek(0) == Some('P') { 2 } else { 1 };
                loop {
                    match self.next() {
                        Some('>') => break,
                        Some(c) if c.is_alphanumeric() || c == '_' => self.out.push(c),
                        _ => return Err(Refusal::Invalid),
                    }
                }
                self.out.push('>');
            } else {
                let mut any = false;
                loop {
                    match self.next() {
                        Some(c @ ('i' | 'm' | 's' | 'U' | '-')) => {
                            self.out.push(c);
                            any = true;
                        }
                        Some(':') => {
                            self.out.push(':');
                            break;
                        }
                        // Flags for the rest of the group around it.
                        Some(')') if any => {
                            self.out.push(')');
                            return Ok(None);
                        }
                        _ => return Err(Refusal::Invalid),
                    }
                }
            }
        }
        let size = self.alternatives(depth + 1)?;
        if self.next() != Some(')') {
            return Err(Refusal::Invalid);
        }
        self.out.push(')');
        Ok(Some(size + 2))
    }

    fn escape(&mut self) -> Result<Option<u64>, Refusal> {
        let c = self.peek(0).ok_or(Refusal::Invalid)?;
        match c {
            'Q' => {
                self.at += 1;
                let mut size = 0;
                while let Some(c) = self.next() {
                    if c == '\\' && self.peek(0) == Some('E') {
                        self.at += 1;
                        break;
                    }
                    self.literal(c);
                    size += 1;
                }
                return Ok((size > 0).then_some(size));
            }
            'A' | 'z' => self.out.push_str(if c == 'A' { "\\A" } else { "\\z" }),
            'b' => self.out.push_str("(?-u:\\b)"),
            // The crate has no ASCII form of this one for text.
            'B' => self.out.push_str("\\B"),
            _ => {
                if let Some(set) = perl(c) {
                    self.out.push_str(set);
                } else if matches!(c, 'p' | 'P') {
                    let name = self.property()?;
                    self.out.push_str(&name);
                    return Ok(Some(UNICODE_CLASS));
                } else {
                    let c = self.character()?;
                    self.literal(c);
                    return Ok(Some(1));
                }
            }
        }
        self.at += 1;
        Ok(Some(1))
    }

    /// `p` or `P` with its name, behind a backslash.
    fn property(&mut self) -> Result<String, Refusal> {
        let mut negated = self.next() == Some('P');
        let mut name = String::new();
        match self.next() {
            Some('{') => loop {
                match self.next() {
                    Some('}') => break,
                    Some('^') if name.is_empty() => negated = !negated,
                    Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                    _ => return Err(Refusal::Invalid),
                }
            },
            Some(c) if c.is_ascii_alphabetic() => name.push(c),
            _ => return Err(Refusal::Invalid),
        }
        if name.is_empty() {
            return Err(Refusal::Invalid);
        }
        Ok(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// The character that an escape stands for, behind a backslash.
    fn character(&mut self) -> Result<char, Refusal> {
        let c = self.next().ok_or(Refusal::Invalid)?;
        let octal = |c: Option<char>| c.and_then(|c| c.to_digit(8));
        Ok(match c {
            'a' => '\u{7}',
            'f' => '\u{c}',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\u{b}',
            '0'..='7' => {
                // A single digit from 1 would refer back to a group.
                if c != '0' && octal(self.peek(0)).is_none() {
                    return Err(Refusal::Invalid);
                }
                let mut code = octal(Some(c)).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = octal(self.peek(0)) else { break };
                    self.at += 1;
                    code = code * 8 + digit;
                }
                char::from_u32(code).ok_or(Refusal::Invalid)?
            }
            'x' => self.hex()?,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(Refusal::Invalid),
        })
    }

    fn hex(&mut self) -> Result<char, Refusal> {
        let mut digits = String::new();
        if self.peek(0) == Some('{') {
            self.at += 1;
            loop {
                match self.next() {
                    Some('}') => break,
                    Some(c) if c.is_ascii_hexdigit() && digits.len() < 8 => digits.push(c),
                    _ => return Err(Refusal::Invalid),
                }
            }
        } else {
            for _ in 0..2 {
                digits.push(self.next().filter(char::is_ascii_hexdigit).ok_or(Refusal::Invalid)?);
            }
        }
        let code = u32::from_str_radix(&digits, 16).map_err(|_| Refusal::Invalid)?;
        char::from_u32(code).ok_or(Refusal::Invalid)
    }

    /// A class in brackets, of which the first was read.
    fn class(&mut self) -> Result<u64, Refusal> {
        let mut size = 1;
        self.out.push('[');
        if self.peek(0) == Some('^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.peek(0).ok_or(Refusal::Invalid)?;
            if c == ']' && !first {
                self.at += 1;
                break;
            }
            first = false;
            if c == '[' && self.peek(1) == Some(':') {
                let name = self.named()?;
                self.out.push_str(&name);
                continue;
            }
            if c == '\\' {
                let after = self.peek(1).ok_or(Refusal::Invalid)?;
                if let Some(set) = perl(after) {
                    self.at += 2;
                    self.out.push_str(set);
                    continue;
                }
                if matches!(after, 'p' | 'P') {
                    self.at += 1;
                    let name = self.property()?;
                    self.out.push_str(&name);
                    size = UNICODE_CLASS;
                    continue;
                }
            }
            let low = self.class_character()?;
            if self.peek(0) == Some('-') && self.peek(1).is_some_and(|after| after != ']') {
                self.at += 1;
                let high = self.class_character()?;
                if high < low {
                    return Err(Refusal::Invalid);
                }
                self.code(low);
                self.out.push('-');
                self.code(high);
                if !high.is_ascii() {
                    size = size.max(8);
                }
            } else {
                self.code(low);
            }
        }
        self.out.push(']');
        Ok(size)
    }

    fn class_character(&mut self) -> Result<char, Refusal> {
        match self.next() {
            Some('\\') => self.character(),
            Some(c) => Ok(c),
            None => Err(Refusal::Invalid),
        }
    }

    /// A character of a class, in a form that means nothing else.
    fn code(&mut self, c: char) {
        if c.is_ascii_alphanumeric() {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
        }
    }

    /// `[:alpha:]` and its like, which are the same in both.
    fn named(&mut self) -> Result<String, Refusal> {
        let rest = self.chars.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|c| *c == ']').ok_or(Refusal::Invalid)?;
        let name: String = rest.get(..=end).unwrap_or_default().iter().collect();
        let plain = name.strip_prefix("[:").and_then(|name| name.strip_suffix(":]"));
        let plain = plain.map(|name| name.strip_prefix('^').unwrap_or(name));
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        if !plain.is_some_and(|name| known.contains(&name)) {
            return Err(Refusal::Invalid);
        }
        self.at += end + 1;
        Ok(name)
    }
}

/// The classes of Perl, which are ASCII in RE2.
fn perl(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0c\\r ]",
        'S' => "[^\\t\\n\\x0c\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these is what Go's `regexp.MatchString` answers; `None` where it does not compile.
    fn check(pattern: &str, text: &str, expect: Option<bool>) {
        let translated = translate(pattern);
        let found = translated.ok().map(|translated| {
            regex::Regex::new(&translated.pattern)
                .unwrap_or_else(|error| panic!("{pattern} became {}: {error}", translated.pattern))
                .is_match(text)
        });
        assert_eq!(found, expect, "{pattern} on {text}");
    }

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        check(r"^\d$", "٣", Some(false));
        check(r"^\d$", "3", Some(true));
        check(r"^\w+$", "é", Some(false));
        check(r"^\W$", "é", Some(true));
        check(r"^[\d\w]+$", "a3_", Some(true));
        check(r"^[^\D]$", "3", Some(true));
        check(r"^\s$", "\u{a0}", Some(false));
        check(r"a\b", "aé", Some(true));
        check(r"^\Qa.b*\E$", "a.b*", Some(true));
        check(r"^\Qa.b*\E$", "axb", Some(false));
        check(r"\<", "<", Some(true));
        check(r"^a{,2}$", "a{,2}", Some(true));
        check(r"^a{,2}$", "aa", Some(false));
        check(r"^{}$", "{}", Some(true));
        check(r"^\b{start}$", "{start}", Some(false));
        check(r"^\101$", "A", Some(true));
        check(r"^\x41\x{42}$", "AB", Some(true));
        check(r"^[[]$", "[", Some(true));
        check(r"^[a&&b]+$", "&", Some(true));
        check(r"^[]a]+$", "]a", Some(true));
        check(r"^[^]a]$", "b", Some(true));
        check(r"^[a-]+$", "-a", Some(true));
        check(r"^[-a]+$", "-a", Some(true));
        check(r"^[[:alpha:]]+$", "ab", Some(true));
        check(r"^[[:^alpha:]]+$", "12", Some(true));
        check(r"^\p{^Greek}$", "a", Some(true));
        check(r"^\pL+$", "aé", Some(true));
        check(r"(?i)straße", "STRAßE", Some(true));
        check(r"^(?P<x>a)(?<y>b)$", "ab", Some(true));
        check(r"^(?s:.)$", "\n", Some(true));
        check(r"^a{2,3}?$", "aaa", Some(true));
        check(r"^$|x", "", Some(true));
        check(r"(|a)+", "", Some(true));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            "(",
            ")",
            "a**",
            "a*+",
            "*a",
            "(?x)a",
            r"\1",
            r"\8",
            r"\h",
            r"\Z",
            "[b-a]",
            "[a",
            r"\p{",
            "(?=a)",
            "(?<=a)",
            "(?<!a)",
            "a{1001}",
            "a{2,1}",
            "[[:nope:]]",
            "(?P<a",
            "a|*",
            "(?)",
            r"\",
        ] {
            check(pattern, "", None);
        }
    }

    #[test]
    fn large_expressions_are_refused() {
        assert_eq!(translate("((a{1000}){1000}){1000}"), Err(Refusal::TooLarge));
        assert_eq!(translate(r"\pL{1000}"), Err(Refusal::TooLarge));
        assert!(translate(r"([a-z0-9]{1,63}\.){1,10}[a-z]{2,63}").is_ok());
        assert_eq!(translate(&"a".repeat(70_000)), Err(Refusal::TooLarge));
    }
}
