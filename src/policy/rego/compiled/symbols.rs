//! Which rule a name means: rules of all modules by package and name, imports of each module.

use std::collections::HashMap;

use regorus::unstable::{Expr as Ast, Rule as AstRule, RuleHead};

use super::super::parse::{Parsed, Version};
use super::{Kind, fixed};

/// All rules of the modules that are evaluated together.
pub(super) struct Symbols<'a> {
    pub(super) rules: Vec<Definitions<'a>>,
    by_name: HashMap<Vec<String>, usize>,
    packages: Vec<Vec<String>>,
}

/// Everything that defines one name of one package.
pub(super) struct Definitions<'a> {
    /// The rule as callers name it.
    pub(super) path: String,
    /// `None` when the definitions are of a form, or of different forms, that are not compiled.
    pub(super) kind: Option<Kind>,
    pub(super) parts: Vec<Part<'a>>,
}

/// One rule and the module that it stands in.
pub(super) struct Part<'a> {
    pub(super) module: usize,
    pub(super) rule: &'a AstRule,
}

/// What a module sees.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) symbols: &'a Symbols<'a>,
    pub(super) module: &'a Parsed,
}

/// What a reference begins with.
pub(super) enum Root {
    Input,
    Data,
    Rule(usize),
    /// Something that is made of several rules.
    Virtual,
}

impl<'a> Symbols<'a> {
    pub(super) fn of(modules: &[&'a Parsed]) -> Self {
        let mut symbols = Self {
            rules: Vec::new(),
            by_name: HashMap::new(),
            packages: modules.iter().map(|parsed| parsed.package.clone()).collect(),
        };
        for (module, parsed) in modules.iter().enumerate() {
            for rule in &parsed.current.policy {
                let (names, form) = head(rule, parsed.version);
                let Some(name) = names.first() else { continue };
                let mut full = parsed.package.clone();
                full.extend(names.iter().cloned());
                let next = symbols.rules.len();
                let index = *symbols.by_name.entry(full).or_insert(next);
                if index == next {
                    symbols.rules.push(Definitions {
                        path: parsed.rule_path(name),
                        kind: None,
                        parts: Vec::new(),
                    });
                }
                if let Some(definitions) = symbols.rules.get_mut(index) {
                    definitions.add(Part { module, rule }, form);
                }
            }
        }
        // A tree into which another package grows is made of more than its own definitions.
        for (full, index) in &symbols.by_name {
            let grown = symbols.packages.iter().any(|package| package.starts_with(full));
            if let Some(definitions) = symbols.rules.get_mut(*index).filter(|_| grown) {
                definitions.kind = None;
            }
        }
        symbols
    }

    pub(super) fn kind(&self, rule: usize) -> Option<Kind> {
        self.rules.get(rule).and_then(|definitions| definitions.kind)
    }

    fn find(&self, package: &[String], name: &str) -> Option<usize> {
        let mut full = package.to_vec();
        full.push(name.to_owned());
        self.by_name.get(&full).copied()
    }
}

impl<'a> Definitions<'a> {
    fn add(&mut self, part: Part<'a>, form: Form) {
        let kind = match form {
            Form::Of(kind) => Some(kind),
            Form::Other => None,
        };
        self.kind = if self.parts.is_empty() {
            kind
        } else {
            self.kind.zip(kind).and_then(|(known, kind)| match (known, kind) {
                (known, kind) if known == kind => Some(kind),
                // An object is a tree of one level.
                (Kind::Object | Kind::Tree, Kind::Object | Kind::Tree) => Some(Kind::Tree),
                _ => None,
            })
        };
        self.parts.push(part);
    }
}

#[derive(Clone, Copy)]
enum Form {
    Of(Kind),
    Other,
}

/// Name and form of a rule. A function may have a name of several parts; other rules go by the first.
fn head(rule: &AstRule, version: Version) -> (Vec<String>, Form) {
    let (node, form) = match rule {
        AstRule::Default { refr, args, .. } if args.is_empty() => (refr, Form::Of(Kind::Complete)),
        AstRule::Default { refr, .. } => (refr, Form::Of(Kind::Function)),
        AstRule::Spec { head, .. } => match head {
            RuleHead::Set { refr, key: Some(_), .. } if is_name(refr) => (refr, Form::Of(Kind::Set)),
            RuleHead::Set { refr, key: Some(_), .. } => (refr, Form::Of(Kind::Tree)),
            RuleHead::Set { refr, .. } => (refr, Form::Other),
            RuleHead::Func { refr, args, .. } if args.is_empty() => (refr, Form::Of(Kind::Complete)),
            RuleHead::Func { refr, .. } => (refr, Form::Of(Kind::Function)),
            RuleHead::Compr { refr, assign, .. } => {
                let form = match refr.as_ref() {
                    Ast::RefBrack { refr, .. } if is_name(refr) => Form::Of(Kind::Object),
                    // Without a value such a head has another meaning in v0.
                    Ast::RefBrack { .. } | Ast::RefDot { .. } if assign.is_some() || version == Version::V1 => {
                        Form::Of(Kind::Tree)
                    }
                    Ast::Var { .. } => Form::Of(Kind::Complete),
                    _ => Form::Other,
                };
                (refr, form)
            }
        },
    };
    let (mut names, whole) = super::walk::path(node).unwrap_or_default();
    let form = match form {
        Form::Of(Kind::Function) if whole => return (names, form),
        // A default within a tree, or a function behind a variable.
        Form::Of(Kind::Complete | Kind::Function) if !is_name(node) => Form::Other,
        form => form,
    };
    names.truncate(1);
    (names, form)
}

fn is_name(node: &Ast) -> bool {
    matches!(node, Ast::Var { .. })
}

impl Names<'_> {
    /// What a name means that is no variable, and the rest of the path that it stands for; `None` for a variable.
    pub(super) fn root(&self, name: &str) -> Option<(Root, Vec<String>)> {
        match name {
            "input" => return Some((Root::Input, Vec::new())),
            "data" => return Some((Root::Data, Vec::new())),
            _ => {}
        }
        if let Some(rule) = self.symbols.find(&self.module.package, name) {
            return Some((Root::Rule(rule), Vec::new()));
        }
        let import = self.module.current.imports.iter().find_map(|import| {
            let target = fixed(&import.refr)?;
            let alias = match &import.r#as {
                Some(alias) => alias.text(),
                None => target.last().map(String::as_str)?,
            };
            (alias == name).then_some(target)
        })?;
        let (first, rest) = import.split_first()?;
        match first.as_str() {
            "input" => Some((Root::Input, rest.to_vec())),
            "data" => Some((Root::Data, rest.to_vec())),
            // `future.keywords` and `rego.v1` name nothing.
            _ => None,
        }
    }

    /// What a path below `data` begins with: the rule that it names, or goes through, and how many names that takes.
    pub(super) fn data(&self, path: &[String]) -> (Root, usize) {
        for length in 1..=path.len() {
            let (package, name) = (path.get(..length - 1).unwrap_or_default(), path.get(length - 1));
            if let Some(rule) = name.and_then(|name| self.symbols.find(package, name)) {
                return (Root::Rule(rule), length);
            }
        }
        let within = |package: &Vec<String>| package.starts_with(path) || path.starts_with(package);
        if self.symbols.packages.iter().any(within) {
            return (Root::Virtual, 0);
        }
        (Root::Data, 0)
    }

    /// How many arguments a rule takes; `None` when its definitions do not agree.
    pub(super) fn arity(&self, rule: usize) -> Option<usize> {
        let parts = &self.symbols.rules.get(rule)?.parts;
        let mut found = parts.iter().map(|part| match part.rule {
            AstRule::Spec {
                head: RuleHead::Func { args, .. },
                ..
            } => args.len(),
            AstRule::Spec { .. } => 0,
            AstRule::Default { args, .. } => args.len(),
        });
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)
    }

    /// The function of the policy that a call names; `None` when it names a builtin.
    pub(super) fn function(&self, names: &[String]) -> Option<usize> {
        let path = self.module.absolute(names);
        if names.first()? == "data" || path != names {
            let (name, package) = path.split_last()?;
            return self.symbols.find(package, name);
        }
        let local: Vec<String> = self.module.package.iter().chain(names).cloned().collect();
        self.symbols.by_name.get(&local).copied()
    }
}
