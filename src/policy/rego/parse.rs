//! From a Rego text to a parsed module, behind the fence: measured before, rewritten on the way.

use std::collections::BTreeSet;

use regorus::Source;
use regorus::unstable::{Module, Parser, Ref};
use serde_json::Value as Json;

use super::super::source::Problem;
use super::measure::{self, MAX_COLUMNS};
use super::tokens::{Kind, Token, tokens};
use super::{annotated, dialect, lint, replaced, rewrite, walk};

/// Most rounds of rewriting negations; each goes one level of nesting deeper, and nesting is bounded before.
const MAX_ROUNDS: usize = measure::MAX_DEPTH;

/// Which Rego a text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Before OPA 1.0: no `if` and `contains` needed.
    V0,
    /// Since OPA 1.0.
    V1,
}

/// A module and the text that it was parsed from.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    /// The text as the engine gets it.
    pub(crate) text: String,
    /// The version it was read as.
    pub(crate) version: Version,
    /// The module as it was written, for checks that report columns: negations are as the author put them.
    pub(crate) module: Ref<Module>,
    /// The module of the text.
    pub(crate) current: Ref<Module>,
    /// Its package, without `data`.
    pub(crate) package: Vec<String>,
    /// Keywords with which names of its rules begin: these rules have other names in the engine.
    pub(crate) renamed: BTreeSet<String>,
    /// The text before it was resolved what `rego.metadata.chain` answers, if it asks.
    asks: Option<String>,
    /// What it says about its package, for others of the package that ask.
    says: Vec<Json>,
    negates_bodies: bool,
    origin: String,
}

impl Parsed {
    /// The module with what other modules say about its package; `None` where that is nothing to it.
    pub(crate) fn beside(&self, others: &[&Self]) -> Option<Self> {
        let text = self.asks.as_ref()?;
        let others = others
            .iter()
            .filter(|other| other.package == self.package && other.origin != self.origin);
        let foreign: Vec<Json> = others.flat_map(|other| other.says.clone()).collect();
        if foreign.is_empty() {
            return None;
        }
        let module = module(&self.origin, text, self.version).ok()?;
        let read = Read {
            origin: &self.origin,
            version: self.version,
            renamed: self.renamed.clone(),
            negates_bodies: self.negates_bodies,
        };
        read.rewritten(text.clone(), module, &foreign).ok()
    }

    /// What the text is called.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the text compares with an operation, and so decides itself what it says about it.
    pub(crate) fn mentions(&self, operation: &str) -> bool {
        self.text.contains(&format!("\"{operation}\""))
    }

    /// The path that a name means: through `data`, an import or, failing both, as it stands.
    pub(crate) fn absolute(&self, names: &[String]) -> Vec<String> {
        let Some((first, rest)) = names.split_first() else {
            return Vec::new();
        };
        if first == "data" {
            return rest.to_vec();
        }
        for import in &self.module.imports {
            let Some((target, true)) = walk::path(&import.refr) else {
                continue;
            };
            let alias = match &import.r#as {
                Some(alias) => Some(alias.text()),
                None => target.last().map(String::as_str),
            };
            if alias == Some(first) {
                return target.iter().skip(1).chain(rest).cloned().collect();
            }
        }
        names.to_vec()
    }

    /// The package as Rego writes it, with a final name: `data.a["b-c"].name`.
    pub(crate) fn rule_path(&self, name: &str) -> String {
        let mut path = String::from("data");
        for part in self.package.iter().map(String::as_str).chain([name]) {
            let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !part.starts_with(|c: char| c.is_ascii_digit());
            if plain {
                path.push('.');
                path.push_str(part);
            } else {
                path.push_str(&format!("[{}]", serde_json::Value::from(part)));
            }
        }
        path
    }
}

/// Parses a text.
pub(crate) fn parse(origin: &str, text: &str, version: Version) -> Result<Parsed, Problem> {
    let scanned = tokens(text);
    if let Some(problem) = measure::measure(origin, text, &scanned) {
        return Err(problem);
    }
    let (text, module, renamed) = readable(origin, text, version)?;
    let read = Read {
        origin,
        version,
        renamed,
        // Where whole bodies are negated, nothing is evaluated before a negation.
        negates_bodies: dialect::negates_bodies(&scanned),
    };
    read.rewritten(text, module, &[])
}

/// What is known of a text that was read.
struct Read<'a> {
    origin: &'a str,
    version: Version,
    renamed: BTreeSet<String>,
    negates_bodies: bool,
}

impl Read<'_> {
    /// Rewrites a text that was read, where the engine would decide otherwise than OPA.
    fn rewritten(self, mut text: String, mut module: Ref<Module>, foreign: &[Json]) -> Result<Parsed, Problem> {
        let (origin, version) = (self.origin, self.version);
        let too_deep = |walk::TooDeep(line, column)| lint::too_deep(origin, line, column);
        let package = walk::path(&module.package.refr)
            .map(|(names, _)| names)
            .unwrap_or_default();
        let asks = text.contains("rego.metadata.chain").then(|| text.clone());
        let says = annotated::of_package(&text, &package);
        if let Some(edited) = annotated::resolve(&text, &module, foreign) {
            module = self::module(origin, &edited, version)?;
            text = edited;
        }
        let (mut current, mut counter) = (module.clone(), 0);
        for _ in 0..if self.negates_bodies { 0 } else { MAX_ROUNDS } {
            let Some(edited) = rewrite::negations(&text, &current, &mut counter).map_err(too_deep)? else {
                break;
            };
            current = self::module(origin, &edited, version)?;
            text = edited;
        }
        for rewrite in [rewrite::captures, replaced::replacements] {
            if let Some(edited) = rewrite(&text, &current).map_err(too_deep)? {
                current = self::module(origin, &edited, version)?;
                text = edited;
            }
        }
        Ok(Parsed {
            text,
            version,
            module,
            current,
            package,
            renamed: self.renamed,
            asks,
            says,
            negates_bodies: self.negates_bodies,
            origin: origin.to_owned(),
        })
    }
}

/// A text that the engine's parser can read, and what it reads.
fn readable(origin: &str, text: &str, version: Version) -> Result<(String, Ref<Module>, BTreeSet<String>), Problem> {
    let expanded = dialect::templates(text);
    let text = expanded.as_deref().unwrap_or(text);
    let negated = dialect::bodies(text, &tokens(text));
    let text = negated.as_deref().unwrap_or(text);
    let scanned = tokens(text);
    if let Some(problem) = measure::measure(origin, text, &scanned).filter(|_| expanded.is_some()) {
        return Err(problem);
    }
    let prepared = rewrite::before_parsing(text, &scanned).unwrap_or_else(|| text.to_owned());
    let error = match module(origin, &prepared, version) {
        Ok(module) => return Ok((prepared, module, BTreeSet::new())),
        Err(error) => error,
    };
    // Words that are keywords to the parser may be names to the author.
    let Some(renamed) = dialect::keywords(&prepared) else {
        return Err(error);
    };
    let Ok(module) = module(origin, &renamed.text, version) else {
        return Err(error);
    };
    Ok((renamed.text, module, renamed.rules))
}

/// Parses a text of unknown version: as v1, and as v0 when it is that and only that.
pub(crate) fn parse_either(origin: &str, text: &str) -> Result<Parsed, Problem> {
    let error = match parse(origin, text, Version::V1) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    // A file in the style of v1 has an error in v1, even if v0 would read something into it.
    if looks_like_v1(&tokens(text)) {
        return Err(error);
    }
    parse(origin, text, Version::V0).map_err(|_| error)
}

/// Whether a text asks for v1, or uses its `if` without importing it.
fn looks_like_v1(tokens: &[Token<'_>]) -> bool {
    let code: Vec<&str> = tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment)
        .map(|token| token.text)
        .collect();
    let imports = |path: &[&str]| code.windows(path.len()).any(|window| window == path);
    imports(&["import", "rego", ".", "v1"])
        || (code.contains(&"if") && !imports(&["import", "future", ".", "keywords"]))
}

/// What the engine's parser reads in a text.
pub(super) fn module(origin: &str, text: &str, version: Version) -> Result<Ref<Module>, Problem> {
    let parsed = super::fenced(|| {
        let source = Source::from_contents(origin.to_owned(), text.to_owned())?;
        let mut parser = Parser::new(&source)?;
        parser.set_max_col(std::num::NonZeroU32::new(MAX_COLUMNS).unwrap_or(std::num::NonZeroU32::MAX));
        if version == Version::V1 {
            parser.enable_rego_v1()?;
        }
        Ok(Ref::new(parser.parse()?))
    });
    parsed.map_err(|error| error.into_problem(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_out() {
        let version = |text: &str| parse_either("x.rego", text).map(|parsed| parsed.version);
        assert_eq!(version("package a\ndeny contains \"x\" if true"), Ok(Version::V1));
        assert_eq!(version("package a\ndeny[\"x\"] { true }"), Ok(Version::V0));
        let said = version("package a\nimport rego.v1\ndeny[\"x\"] { true }")
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("x.rego:3:11: "), "{said}");
    }

    #[test]
    fn errors_have_positions() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse("x.rego", text, Version::V1).unwrap_err().to_string(), expect);
        };
        check(
            "package a\np if {\n  x := 1\n  y := \n}",
            "x.rego:5:1: expecting expression",
        );
        check("", "x.rego:1:1: expecting `package` Missing package declaration.");
    }

    #[test]
    fn packages_with_strange_names_are_addressed() {
        let parsed = parse("x", "package a[\"b-c\"].d", Version::V1).unwrap();
        assert_eq!(parsed.rule_path("deny"), "data.a[\"b-c\"].d.deny");
    }
}
