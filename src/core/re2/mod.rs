//! Regular expressions as Go's `regexp` (RE2) reads them, translated for the `regex` crate.
//!
//! Both have the same semantics and nearly the same syntax. Where they differ a policy would match something else, or not
//! load: `\d`, `\w`, `\s` and `\b` are ASCII here, `\Q…\E` quotes, `\<` is a character, a brace that counts nothing is a
//! character, octal escapes exist, classes have no set operations, and `a**` is an error.
//!
//! Guarantees: an expression is refused before it is compiled when it would be large, and says how large it is, so that
//! the work of a match can be estimated.

mod classes;
mod escapes;

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
