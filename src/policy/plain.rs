//! Plain Rego policies: packages with `deny`, `violation`, `warn` and `mutate` rules, as conftest knows them.
//!
//! A package with such rules and everything that it refers to make a [`Unit`]: compiled and evaluated by itself, so that a
//! file that is broken spoils only what needs it. Rules may have a suffix, as in `deny_latest_tag`. They get the same
//! `input` as Gatekeeper's policies, `input.review.object` and so on; with the annotation `custom: {input: object}` they
//! get the bare object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regorus::Value;
use regorus::unstable::{Expr, Rule, RuleHead};
use sha2::{Digest, Sha256};

use super::constraint::input;
use super::decision::Action;
use super::inventory::Inventory;
use super::rego::metadata::{Annotations, Metadata, annotations};
use super::rego::parse::{Parsed, Version, parse_either};
use super::rego::program::Program;
use super::rego::session::Session;
use super::rego::{Visitor, path, walk_module};
use super::review::{Operation, Review};
use super::source::{Problem, RegoFile};

/// Files with this ending hold tests and are no policies.
pub(crate) const TEST_SUFFIX: &str = "_test.rego";

/// A parsed file.
pub(crate) struct File {
    digest: [u8; 32],
    pub(crate) name: String,
    pub(crate) parsed: Parsed,
    annotations: Annotations,
    notes: Vec<Problem>,
    /// Paths below `data` that the file refers to.
    references: BTreeSet<Vec<String>>,
}

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It judges.
    Judge(Action),
    /// It changes.
    Mutate,
}

/// A rule that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) purpose: Purpose,
    /// `data.package.rule`.
    pub(crate) path: String,
    pub(crate) metadata: Metadata,
    /// The file that it stands in.
    pub(crate) source: String,
}

impl Entry {
    /// Whether the rule is asked about objects of a kind.
    pub(crate) fn looks_at(&self, kind: &str) -> bool {
        self.metadata.kinds.is_empty() || self.metadata.kinds.iter().any(|known| known == kind)
    }
}

/// A package with what it needs.
pub(crate) struct Unit {
    /// The package, as in `images.pinned`.
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry>,
    program: Program,
    digest: [u8; 32],
}

impl Unit {
    /// The entries that look at what is reviewed.
    pub(crate) fn entries_for<'a>(&'a self, review: &'a Review) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|entry| {
            let wanted = |operation| entry.metadata.operations.iter().any(|known| known == operation);
            entry.looks_at(&review.gvk().kind) && review.unusual_operation().is_none_or(wanted)
        })
    }

    /// Begins an evaluation of an entry.
    pub(crate) fn session(&self, entry: &Entry, review: &Review, inventory: &Inventory) -> Session<'_> {
        let value = review.value();
        let value = if entry.metadata.bare_input {
            let object = value
                .as_object()
                .ok()
                .and_then(|fields| fields.get(&Value::from("object")).cloned());
            object.unwrap_or(Value::Null)
        } else {
            input(value, Value::new_object())
        };
        self.program.session(value, inventory)
    }
}

/// Files and the units that they make.
#[derive(Default, Clone)]
pub(crate) struct Plain {
    pub(crate) files: Vec<Arc<File>>,
    pub(crate) units: Vec<Arc<Unit>>,
}

impl Plain {
    /// Loads files. Files and units that are as before are taken over, and the last good version of one that is broken
    /// stays in force.
    pub(crate) fn load(previous: &Self, sources: &[RegoFile], problems: &mut Vec<Problem>) -> Self {
        let mut files: Vec<Arc<File>> = Vec::new();
        for source in sources.iter().filter(|source| !source.name.ends_with(TEST_SUFFIX)) {
            let before = previous.files.iter().find(|file| file.name == source.name);
            let digest: [u8; 32] = Sha256::digest(source.text.as_bytes()).into();
            let file = match before.filter(|file| file.digest == digest) {
                Some(same) => Ok(Arc::clone(same)),
                None => File::read(source, digest).map(Arc::new),
            };
            match file {
                Ok(file) => {
                    problems.extend(file.notes.iter().cloned());
                    files.push(file);
                }
                Err(problem) => {
                    problems.push(kept(problem, before.is_some()));
                    files.extend(before.cloned());
                }
            }
        }
        let policies: Vec<&Arc<File>> = files.iter().collect();
        let mut units = Vec::new();
        for package in packages(&policies) {
            let members = closure(&policies, &package);
            let entries = entries(&members, &package);
            if entries.is_empty() {
                continue;
            }
            let digest = digest(&members);
            let name = package.join(".");
            let before = previous.units.iter().find(|unit| unit.name == name);
            if let Some(same) = before.filter(|unit| unit.digest == digest) {
                units.push(Arc::clone(same));
                continue;
            }
            let modules: Vec<&Parsed> = members.iter().map(|file| &file.parsed).collect();
            match Program::compile(&modules) {
                Ok(program) => units.push(Arc::new(Unit {
                    name,
                    entries,
                    program,
                    digest,
                })),
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| kept(problem, before.is_some())));
                    units.extend(before.cloned());
                }
            }
        }
        Self { files, units }
    }
}

/// Says that an older version stays, when it does.
pub(crate) fn kept(mut problem: Problem, kept: bool) -> Problem {
    if kept {
        problem.message.push_str("; the last good version stays in force");
    }
    problem
}

impl File {
    /// Reads a file.
    pub(crate) fn read(source: &RegoFile, digest: [u8; 32]) -> Result<Self, Problem> {
        let parsed = parse_either(&source.name, &source.text)?;
        let (annotations, mut notes) = annotations(&source.name, &source.text);
        if parsed.version == Version::V0 {
            let message = "this is Rego v0; `opa fmt --rego-v1` makes it v1, which is checked more strictly";
            notes.push(Problem::new(&source.name, message).into_note());
        }
        let references = references(&parsed);
        Ok(Self {
            digest,
            name: source.name.clone(),
            parsed,
            annotations,
            notes,
            references,
        })
    }

    /// The line on which a rule begins.
    pub(crate) fn line(&self, rule: &str) -> Option<u32> {
        let rules = self.parsed.module.policy.iter();
        let named = rules.filter(|candidate| match candidate.as_ref() {
            Rule::Spec {
                head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. },
                ..
            } => path(refr).is_some_and(|(names, _)| names.first().is_some_and(|name| name == rule)),
            _ => false,
        });
        named.map(|found| found.span().line).min()
    }

    /// Names of the rules that take no arguments, in the order of the text.
    pub(crate) fn rules(&self) -> Vec<String> {
        let names = self.parsed.module.policy.iter().filter_map(|rule| {
            let refr = match rule.as_ref() {
                Rule::Spec {
                    head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. },
                    ..
                } => refr,
                Rule::Default { refr, args, .. } if args.is_empty() => refr,
                _ => return None,
            };
            path(refr).and_then(|(names, _)| names.into_iter().next())
        });
        let mut seen = BTreeSet::new();
        names.filter(|name| seen.insert(name.clone())).collect()
    }
}

/// The packages of files, in order.
pub(crate) fn packages(files: &[&Arc<File>]) -> BTreeSet<Vec<String>> {
    files.iter().map(|file| file.parsed.package.clone()).collect()
}

/// The files of a package and of every package that it reaches.
pub(crate) fn closure<'a>(files: &[&'a Arc<File>], package: &[String]) -> Vec<&'a Arc<File>> {
    let mut wanted: BTreeSet<usize> = BTreeSet::new();
    let mut open: Vec<Vec<String>> = vec![package.to_vec()];
    while let Some(path) = open.pop() {
        for (index, file) in files.iter().enumerate() {
            let own = &file.parsed.package;
            // A reference into a package, or to something that packages lie in.
            let meets = if path == package {
                *own == path
            } else {
                own.starts_with(&path) || path.starts_with(own)
            };
            if meets && wanted.insert(index) {
                open.extend(file.references.iter().cloned());
            }
        }
    }
    wanted
        .into_iter()
        .filter_map(|index| files.get(index).copied())
        .collect()
}

fn entries(members: &[&Arc<File>], package: &[String]) -> Vec<Entry> {
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    let own = || members.iter().filter(|file| file.parsed.package == package);
    let of_package = own()
        .map(|file| &file.annotations.package)
        .find(|metadata| **metadata != Metadata::default());
    for file in own() {
        for name in file.rules() {
            let Some(purpose) = purpose(&name) else { continue };
            let metadata = file.annotations.rules.get(&name).cloned().unwrap_or_default();
            let mut metadata = of_package.map_or_else(|| metadata.clone(), |package| metadata.over(package));
            let unusual = [Operation::Delete, Operation::Connect]
                .map(Operation::as_str)
                .into_iter();
            let mentioned = unusual.filter(|operation| file.parsed.mentions(operation));
            metadata.operations.extend(mentioned.map(str::to_owned));
            found.entry(name.clone()).or_insert_with(|| Entry {
                purpose,
                path: file.parsed.rule_path(&name),
                metadata,
                source: file.name.clone(),
            });
        }
    }
    found.into_values().collect()
}

fn purpose(rule: &str) -> Option<Purpose> {
    let known = [
        ("deny", Purpose::Judge(Action::Deny)),
        ("violation", Purpose::Judge(Action::Deny)),
        ("warn", Purpose::Judge(Action::Warn)),
        ("mutate", Purpose::Mutate),
    ];
    let fits = |name: &str| {
        rule.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    known
        .into_iter()
        .find(|(name, _)| fits(name))
        .map(|(_, purpose)| purpose)
}

pub(crate) fn digest(members: &[&Arc<File>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in members {
        digest.update(file.name.as_bytes());
        digest.update(file.digest);
    }
    digest.finalize().into()
}

/// Paths below `data` that a module refers to, each as long as it is fixed.
fn references(parsed: &Parsed) -> BTreeSet<Vec<String>> {
    #[derive(Default)]
    struct References {
        found: BTreeSet<Vec<String>>,
        /// Beginnings of references that were seen as a whole: `data.a` in `data.a.b`.
        beginnings: BTreeSet<*const Expr>,
    }
    impl References {
        fn add(&mut self, expr: &Expr) {
            let Some((names, _)) = path(expr) else { return };
            if let Some((_, rest)) = names.split_first().filter(|(first, _)| *first == "data") {
                self.found.insert(rest.to_vec());
            }
        }
    }
    impl Visitor for References {
        fn expr(&mut self, expr: &Expr) {
            let (Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. }) = expr else {
                return;
            };
            let part: *const Expr = refr.as_ref();
            self.beginnings.insert(part);
            if !self.beginnings.contains(&std::ptr::from_ref(expr)) {
                self.add(expr);
            }
        }
    }
    let mut references = References::default();
    for import in &parsed.module.imports {
        references.add(&import.refr);
    }
    // The chain was bounded when the module was parsed.
    let _ = walk_module(&parsed.module, &mut references);
    references.found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(previous: &Plain, files: &[(&str, &str)]) -> (Plain, Vec<String>) {
        let files: Vec<RegoFile> = files
            .iter()
            .map(|(name, text)| RegoFile {
                name: (*name).into(),
                text: (*text).into(),
            })
            .collect();
        let mut problems = Vec::new();
        let plain = Plain::load(previous, &files, &mut problems);
        (plain, problems.iter().map(ToString::to_string).collect())
    }

    fn units(plain: &Plain) -> Vec<&str> {
        plain.units.iter().map(|unit| unit.name.as_str()).collect()
    }

    const LIB: &str = "package lib.names\nok(x) if x != \"\"";
    const USES: &str = "package a.uses\nimport data.lib.names\ndeny contains \"x\" if not names.ok(input.review.name)";
    const ALONE: &str = "package a.alone\nwarn_old contains \"y\" if true";

    #[test]
    fn a_broken_file_spoils_only_what_needs_it() {
        let (plain, problems) = load(
            &Plain::default(),
            &[
                ("l", LIB),
                ("u", USES),
                ("a", ALONE),
                ("t_test.rego", "package t\ndeny := []"),
            ],
        );
        assert_eq!((units(&plain), problems.len()), (vec!["a.alone", "a.uses"], 0));
        let (plain, problems) = load(
            &Plain::default(),
            &[("l", "package lib.names\nok(x) if"), ("u", USES), ("a", ALONE)],
        );
        assert_eq!(units(&plain), ["a.alone"]);
        assert_eq!(problems.len(), 2);
        assert!(
            problems[1].starts_with("u:3:26: function names.ok does not exist here"),
            "{problems:?}"
        );
    }

    #[test]
    fn what_did_not_change_is_taken_over_and_the_last_good_version_stays() {
        let (first, _) = load(&Plain::default(), &[("l", LIB), ("u", USES), ("a", ALONE)]);
        let (second, problems) = load(
            &first,
            &[("l", "package lib.names\nok(x) if nope(x)"), ("u", USES), ("a", ALONE)],
        );
        assert!(
            first
                .units
                .iter()
                .zip(&second.units)
                .all(|(before, after)| Arc::ptr_eq(before, after))
        );
        assert_eq!(
            problems,
            ["l:2:10: function nope does not exist here; the last good version stays in force"]
        );
        let (third, problems) = load(&second, &[("l", LIB), ("u", USES), ("a", "package a.alone\n!")]);
        assert!(Arc::ptr_eq(&third.units[0], &first.units[0]));
        assert!(
            problems[0].ends_with("the last good version stays in force"),
            "{problems:?}"
        );
        let (last, _) = load(&third, &[]);
        assert!(last.units.is_empty());
    }

    #[test]
    fn old_rego_is_understood_and_noted() {
        let (plain, problems) = load(
            &Plain::default(),
            &[("v0.rego", "package old\ndeny[msg] { msg := \"x\" }")],
        );
        assert_eq!(units(&plain), ["old"]);
        assert_eq!(
            problems,
            ["v0.rego: this is Rego v0; `opa fmt --rego-v1` makes it v1, which is checked more strictly"]
        );
    }

    #[test]
    fn names_say_what_a_rule_is_for() {
        assert_eq!(purpose("deny_latest"), Some(Purpose::Judge(Action::Deny)));
        assert_eq!(purpose("warn"), Some(Purpose::Judge(Action::Warn)));
        assert_eq!(purpose("mutate_labels"), Some(Purpose::Mutate));
        assert_eq!(purpose("denylist"), None);
    }
}
