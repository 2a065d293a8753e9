//! Classes in brackets.

use super::escapes::perl;
use super::{Reader, Refusal, UNICODE_CLASS};

impl Reader<'_> {
    /// A class in brackets, of which the first was read.
    pub(super) fn class(&mut self) -> Result<u64, Refusal> {
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
