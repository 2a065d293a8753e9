//! METADATA annotations: the comment blocks above packages and rules in which a policy says what it is.
//!
//! Read are `title`, `description` and, under `custom`, `fix` (what to do about a finding), `kinds` (the kinds that the
//! policy looks at; it is not asked about others), `operations` (`DELETE` and `CONNECT`, if it wants to see them) and `input: object` (the rules get the bare object as `input`, as
//! conftest gives it).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::source::Problem;
use super::tokens::{Kind, Token, tokens};

/// What an annotation says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// A short name for people.
    pub(crate) title: Option<String>,
    /// Why the policy exists.
    pub(crate) description: Option<String>,
    /// What to do about a finding.
    pub(crate) fix: Option<String>,
    /// Kinds that the policy looks at; empty for all.
    pub(crate) kinds: Vec<String>,
    /// Operations that the policy wants to be asked about besides creation and change.
    pub(crate) operations: Vec<String>,
    /// Whether `input` is the bare object.
    pub(crate) bare_input: bool,
}

impl Metadata {
    /// What a rule says, completed by what its package says.
    pub(crate) fn over(&self, package: &Self) -> Self {
        Self {
            title: self.title.clone().or_else(|| package.title.clone()),
            description: self.description.clone().or_else(|| package.description.clone()),
            fix: self.fix.clone().or_else(|| package.fix.clone()),
            kinds: if self.kinds.is_empty() {
                package.kinds.clone()
            } else {
                self.kinds.clone()
            },
            operations: self.operations.iter().chain(&package.operations).cloned().collect(),
            bare_input: self.bare_input || package.bare_input,
        }
    }
}

/// The annotations of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Annotations {
    /// Of its package.
    pub(crate) package: Metadata,
    /// Of its rules, by the name they begin with; the first block of a name counts.
    pub(crate) rules: BTreeMap<String, Metadata>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Block {
    title: Option<String>,
    description: Option<String>,
    scope: Option<String>,
    custom: Custom,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Custom {
    fix: Option<String>,
    kinds: Vec<String>,
    operations: Vec<String>,
    input: Option<String>,
}

/// Reads the annotations of a text. A block that cannot be read is a problem and is left out.
pub(crate) fn annotations(origin: &str, text: &str) -> (Annotations, Vec<Problem>) {
    let (mut found, mut problems) = (Annotations::default(), Vec::new());
    let tokens = tokens(text);
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        index += 1;
        if token.kind != Kind::Comment || token.text.trim_end() != "# METADATA" {
            continue;
        }
        let rest = tokens.get(index..).unwrap_or_default();
        let lines: Vec<&Token<'_>> = rest
            .iter()
            .zip(token.line + 1..)
            .take_while(|(next, line)| next.kind == Kind::Comment && next.line == *line)
            .map(|(next, _)| next)
            .collect();
        index += lines.len();
        let yaml: Vec<&str> = lines
            .iter()
            .map(|line| line.text.trim_start_matches('#').trim_end())
            .collect();
        let block = match serde_saphyr::from_str::<Block>(&dedent(&yaml)) {
            Ok(block) => block,
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().next().unwrap_or("malformed YAML");
                let message = format!("the METADATA block cannot be read: {reason}");
                problems.push(Problem::at(origin, token.line, token.column, message).into_note());
                continue;
            }
        };
        let scope = block.scope.clone();
        let metadata = Metadata {
            title: block.title,
            description: block.description.map(|text| text.trim().to_owned()),
            fix: block.custom.fix.map(|text| text.trim().to_owned()),
            kinds: block.custom.kinds,
            operations: block.custom.operations,
            bare_input: block.custom.input.as_deref() == Some("object"),
        };
        let target = tokens
            .get(index..)
            .unwrap_or_default()
            .iter()
            .find(|next| next.kind == Kind::Word);
        match (scope.as_deref(), target) {
            (Some("package"), _) => found.package = metadata,
            (_, Some(next)) if next.text == "package" => found.package = metadata,
            (_, Some(next)) => {
                found.rules.entry(next.text.to_owned()).or_insert(metadata);
            }
            (_, None) => {}
        }
    }
    (found, problems)
}

fn dedent(lines: &[&str]) -> String {
    let lines = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_belong_to_what_follows_them() {
        let text = "# METADATA\n# title: Pinned\n# custom:\n#   fix: >-\n#     name a\n#     digest\n#   kinds: [Pod, Deployment]\npackage a\n\n\
                    # METADATA\n# title: Rule\n# custom: {input: object}\n# scope: rule\ndeny contains \"x\" if true\n# just a comment";
        let (found, problems) = annotations("x", text);
        assert_eq!(problems, []);
        assert_eq!(found.package.title.as_deref(), Some("Pinned"));
        assert_eq!(found.package.fix.as_deref(), Some("name a digest"));
        let rule = found.rules["deny"].over(&found.package);
        assert_eq!(
            (rule.title.as_deref(), rule.kinds.len(), rule.bare_input),
            (Some("Rule"), 2, true)
        );
    }

    #[test]
    fn a_malformed_block_is_noted_with_its_line() {
        let (_, problems) = annotations("x.rego", "package a\n# METADATA\n# title: [\ndeny := []");
        assert_eq!(problems.len(), 1);
        let said = problems[0].to_string();
        assert!(
            said.starts_with("x.rego:2:1: the METADATA block cannot be read: "),
            "{said}"
        );
        assert!(!problems[0].is_error());
    }
}
