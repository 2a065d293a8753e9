//! `rego.metadata.rule()` and `rego.metadata.chain()`: what the METADATA blocks of a text say about the rule that asks.
//!
//! As in OPA the answer is known before anything is evaluated, so the calls become constants. Blocks of the package may stand in
//! other files of it: whoever knows these files gives their entries ([`of_package`]).

use regorus::unstable::{Module, Rule, RuleHead};
use serde_json::{Map, Value as Json, json};

use super::tokens::{Kind, Token, tokens};
use super::walk;

/// A block and where it stands.
struct Block {
    annotations: Json,
    scope: String,
    /// Line of what it belongs to.
    line: u32,
}

/// Replaces the calls; `None` when there are none.
pub(crate) fn resolve(text: &str, module: &Module, foreign: &[Json]) -> Option<String> {
    if !text.contains("rego.metadata.") {
        return None;
    }
    let tokens = tokens(text);
    let blocks = blocks(&tokens);
    let package = walk::path(&module.package.refr)
        .map(|(names, _)| names)
        .unwrap_or_default();
    let mut rules: Vec<(usize, Vec<String>)> = module
        .policy
        .iter()
        .map(|rule| {
            (
                usize::try_from(rule.span().start).unwrap_or(usize::MAX),
                path(rule, &package),
            )
        })
        .collect();
    rules.sort_by_key(|(start, _)| *start);
    let code: Vec<&Token<'_>> = tokens.iter().filter(|token| token.kind != Kind::Comment).collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for window in code.windows(7) {
        let words: Vec<&str> = window.iter().map(|token| token.text).collect();
        let ["rego", ".", "metadata", ".", function @ ("rule" | "chain"), "(", ")"] = words.as_slice() else {
            continue;
        };
        let (Some(first), Some(last)) = (window.first(), window.last()) else {
            continue;
        };
        // The rule that the call stands in is the last one that began before it.
        let Some((start, rule)) = rules.iter().rfind(|(start, _)| *start <= first.start) else {
            continue;
        };
        let begins = code.iter().find(|token| token.start >= *start);
        let Some(line) = begins.map(|token| token.line) else {
            continue;
        };
        let own = blocks.iter().find(|block| block.scope == "rule" && block.line == line);
        let answer = if *function == "rule" {
            own.map_or_else(|| json!({}), |block| block.annotations.clone())
        } else {
            let mut chain = chain(&blocks, own, rule, &package, &rules, &code);
            chain.extend(foreign.iter().cloned());
            Json::from(chain)
        };
        out.push_str(text.get(at..first.start)?);
        out.push_str(&format!("json.unmarshal({})", Json::from(answer.to_string())));
        at = last.end();
    }
    out.push_str(text.get(at..)?);
    (at > 0).then_some(out)
}

fn chain(
    blocks: &[Block],
    own: Option<&Block>,
    rule: &[String],
    package: &[String],
    rules: &[(usize, Vec<String>)],
    code: &[&Token<'_>],
) -> Vec<Json> {
    let mut found = vec![entry(rule, own)];
    for block in blocks.iter().filter(|block| block.scope == "document") {
        let begins = code
            .iter()
            .find(|token| token.line == block.line)
            .map(|token| token.start);
        if rules.iter().any(|(start, path)| Some(*start) == begins && path == rule) {
            found.push(entry(rule, Some(block)));
        }
    }
    found.extend(entries(blocks, package));
    found
}

/// What the blocks of a text say about its package.
pub(crate) fn of_package(text: &str, package: &[String]) -> Vec<Json> {
    if !text.contains("METADATA") {
        return Vec::new();
    }
    entries(&blocks(&tokens(text)), package).collect()
}

fn entries<'a>(blocks: &'a [Block], package: &'a [String]) -> impl Iterator<Item = Json> + 'a {
    let of_scope = |scope| blocks.iter().filter(move |block| block.scope == scope);
    let found = of_scope("package").chain(of_scope("subpackages"));
    found.map(|block| entry(package, Some(block)))
}

fn entry(path: &[String], block: Option<&Block>) -> Json {
    let mut fields = Map::from_iter([("path".to_owned(), json!(path))]);
    if let Some(block) = block {
        fields.insert("annotations".to_owned(), block.annotations.clone());
    }
    Json::Object(fields)
}

fn path(rule: &Rule, package: &[String]) -> Vec<String> {
    let refr = match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    };
    let names = walk::path(refr).map(|(names, _)| names).unwrap_or_default();
    package.iter().cloned().chain(names).collect()
}

fn blocks(tokens: &[Token<'_>]) -> Vec<Block> {
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        index += 1;
        if token.kind != Kind::Comment || token.text.trim_end() != "# METADATA" {
            continue;
        }
        let rest = tokens.get(index..).unwrap_or_default();
        let lines = rest.iter().zip(token.line + 1..);
        let lines = lines.take_while(|(next, line)| next.kind == Kind::Comment && next.line == *line);
        let yaml: Vec<&str> = lines
            .map(|(next, _)| next.text.trim_start_matches('#').trim_end())
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect();
        index += yaml.len();
        let Some(target) = tokens
            .get(index..)
            .and_then(|rest| rest.iter().find(|next| next.kind != Kind::Comment))
        else {
            continue;
        };
        let Ok(Json::Object(mut fields)) = serde_saphyr::from_str::<Json>(&yaml.join("\n")) else {
            continue;
        };
        let usual = if target.is_word("package") { "package" } else { "rule" };
        let scope = fields.get("scope").and_then(Json::as_str).unwrap_or(usual).to_owned();
        fields.insert("scope".to_owned(), scope.clone().into());
        if let Some(authors) = fields.get_mut("authors").and_then(Json::as_array_mut) {
            authors.iter_mut().for_each(author);
        }
        found.push(Block {
            annotations: Json::Object(fields),
            scope,
            line: target.line,
        });
    }
    found
}

/// An author may be written as `name <mail>`.
fn author(author: &mut Json) {
    let Some(text) = author.as_str() else { return };
    let (name, mail) = match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        Some((name, mail)) => (name.trim(), mail.trim()),
        None => (text.trim(), ""),
    };
    let mut fields = Map::new();
    for (key, value) in [("name", name), ("email", mail)] {
        if !value.is_empty() {
            fields.insert(key.to_owned(), value.into());
        }
    }
    *author = Json::Object(fields);
}
