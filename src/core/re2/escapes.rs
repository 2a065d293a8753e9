//! What stands behind a backslash.

use super::{Reader, Refusal, UNICODE_CLASS};

impl Reader<'_> {
    pub(super) fn escape(&mut self) -> Result<Option<u64>, Refusal> {
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
    pub(super) fn property(&mut self) -> Result<String, Refusal> {
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
    pub(super) fn character(&mut self) -> Result<char, Refusal> {
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
}

/// The classes of Perl, which are ASCII in RE2.
pub(super) fn perl(c: char) -> Option<&'static str> {
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
