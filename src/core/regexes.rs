//! Regular expressions of policies: read as RE2 reads them ([`super::re2`]), compiled once, in one table for all threads.
//!
//! Guarantees: what is compiled is bounded in size, and so is the work of a match, by the length of the text.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use regex::{Regex, RegexBuilder};

use super::re2::{self, Refusal};

/// Most compiled expressions that are kept; one takes some tens of kilobytes. Meeting it empties the table: a policy that
/// makes new expressions for every object has no use for old ones.
const MAX_KEPT: usize = 1024;
/// Largest compiled expression; the translation refuses larger ones first, but for large classes of Unicode.
const MAX_BYTES: usize = 16 << 20;
/// Most steps of a match in the worst case: instructions times bytes of text. About two seconds of the slowest engine; the
/// usual one needs a hundredth of it.
const MAX_STEPS: u64 = 1 << 30;

/// Why an expression is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Go would refuse it too.
    Invalid,
    /// It, or what it would have to do, is too large; with words for it.
    TooLarge(String),
}

/// A compiled expression and about how many instructions it has.
pub(crate) struct Compiled {
    /// Not cloned, for a clone begins with no memory to work in.
    pub(crate) regex: Regex,
    size: u64,
}

type Known = Result<Arc<Compiled>, Refused>;

static TABLE: LazyLock<RwLock<HashMap<String, Known>>> = LazyLock::new(RwLock::default);

/// The expression, for a text of some length.
///
/// # Errors
/// When it is none, or too large.
pub(crate) fn compiled(pattern: &str, length: usize) -> Result<Arc<Compiled>, Refused> {
    let known = {
        let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
        table.get(pattern).cloned()
    };
    let found = match known {
        Some(known) => known,
        None => {
            let made = compile(pattern);
            let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= MAX_KEPT {
                table.clear();
            }
            table.insert(pattern.to_owned(), made.clone());
            made
        }
    }?;
    let steps = found.size.saturating_mul(u64::try_from(length).unwrap_or(u64::MAX));
    if steps > MAX_STEPS {
        return Err(Refused::TooLarge(format!(
            "the regular expression {} is too large for a text of {length} bytes",
            shown(pattern)
        )));
    }
    Ok(found)
}

fn compile(pattern: &str) -> Known {
    let too_large = || Refused::TooLarge(format!("the regular expression {} is too large", shown(pattern)));
    let translated = re2::translate(pattern).map_err(|refusal| match refusal {
        Refusal::Invalid => Refused::Invalid,
        Refusal::TooLarge => too_large(),
    })?;
    match RegexBuilder::new(&translated.pattern).size_limit(MAX_BYTES).build() {
        Ok(regex) => Ok(Arc::new(Compiled {
            regex,
            size: translated.size,
        })),
        Err(regex::Error::CompiledTooBig(_)) => Err(too_large()),
        Err(_) => Err(Refused::Invalid),
    }
}

/// The beginning of an expression, enough to recognise it.
fn shown(pattern: &str) -> String {
    let short: String = pattern.chars().take(60).collect();
    let more = if short.len() < pattern.len() { "…" } else { "" };
    format!("{short:?}{more}")
}
