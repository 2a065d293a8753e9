//! Rego in a form that is evaluated many times faster than the engine does it: names are resolved to numbers, statements
//! stand in the order in which they can be asked, and what is bound where is known before anything runs.
//!
//! Flow: [`Compiled::of`] takes parsed modules (rewritten already, see `rewrite`) apart, a rule at a time →
//! [`Compiled::entry`] finds a rule → [`run::Run`] evaluates it. Values and builtins are the engine's own.
//!
//! Guarantees: a rule is compiled only if every construct that it reaches is one whose meaning is known here; for every other
//! rule there is no entry, and the engine answers. Whatever goes wrong while a compiled rule runs, other than time, the
//! engine is asked again, so that its answer counts. Nothing recurses deeper than the nesting of the text, which is bounded.

mod body;
mod collection;
mod eval;
mod expr;
mod function;
mod run;
mod scope;
mod symbols;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;

use regorus::Value;
use regorus::unstable::{ArithOp, BinOp, BoolOp, Expr as Ast, Rule as AstRule, RuleBody, RuleHead};

use super::parse::Parsed;
use super::walk;
use body::Body;
use function::Function;
pub(crate) use run::{Run, Stop};
use symbols::{Names, Symbols};

/// Where the value of a variable stands in the frame of its rule.
type Slot = usize;

/// An expression that has at most one value; what has several was taken out into an [`Stmt::Each`] before it.
#[derive(Debug, Clone)]
enum Expr {
    Const(Value),
    Local(Slot),
    Input,
    /// The documents that no rule makes.
    Data,
    /// The value of a rule, by number.
    Rule(usize),
    Path(Box<Expr>, Vec<Expr>),
    Array(Vec<Expr>),
    Set(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Comprehension(Box<Comprehension>),
    /// A function of the policy, by number.
    Call(usize, Vec<Expr>),
    Builtin(Function, Vec<Expr>),
    Compare(BoolOp, Box<[Expr; 2]>),
    Arithmetic(ArithOp, Box<[Expr; 2]>),
    Sets(BinOp, Box<[Expr; 2]>),
    In(Option<Box<Expr>>, Box<[Expr; 2]>),
}

#[derive(Debug, Clone)]
struct Comprehension {
    body: Vec<Stmt>,
    term: Term,
}

#[derive(Debug, Clone)]
enum Term {
    Array(Expr),
    Set(Expr),
    Object(Expr, Expr),
}

#[derive(Debug, Clone)]
enum Stmt {
    /// Goes on if the expression is neither undefined nor false.
    Test(Expr),
    /// Goes on if the value has the form of the pattern, with what that binds.
    Bind(Pattern, Expr),
    /// Goes on with every element of the collection that fits.
    Each {
        collection: Expr,
        key: Pattern,
        value: Pattern,
    },
    /// Goes on if the statements cannot be met.
    Not(Vec<Stmt>),
    /// Goes on if the statements can be met for every element.
    Every {
        domain: Expr,
        key: Option<Slot>,
        value: Slot,
        body: Vec<Stmt>,
    },
}

#[derive(Debug, Clone)]
enum Pattern {
    Any,
    Bind(Slot),
    Equal(Expr),
    Array(Vec<Pattern>),
    /// An object with exactly these keys.
    Object(Vec<(Expr, Pattern)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Complete,
    Set,
    Object,
    /// Objects in objects, with values or sets at their ends.
    Tree,
    Function,
}

/// All definitions of one name.
#[derive(Debug)]
struct Rule {
    kind: Kind,
    clauses: Vec<Clause>,
    default: Option<Expr>,
    /// Whether all definitions give the same constant, so that the first that holds decides.
    same: bool,
}

/// One definition; `else` adds alternatives, of which the first that holds counts.
#[derive(Debug)]
struct Clause {
    slots: usize,
    parameters: Vec<Pattern>,
    alternatives: Vec<Alternative>,
}

#[derive(Debug)]
struct Alternative {
    body: Vec<Stmt>,
    /// Where in an object or a tree the value goes.
    keys: Vec<Expr>,
    /// Whether the value is one of a set at that place.
    member: bool,
    value: Expr,
}

/// Why something is not compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A variable is not bound yet; another statement may do that.
    NotYet,
    /// Its meaning is the engine's business.
    Unsupported,
}

type Result<T> = std::result::Result<T, Why>;

/// Compiled modules.
pub(crate) struct Compiled {
    rules: Vec<Option<Rule>>,
    /// Rules that can be evaluated here with all that they reach, by path.
    entries: HashMap<String, usize>,
    whole: bool,
}

impl Compiled {
    /// Compiles what can be.
    pub(crate) fn of(modules: &[&Parsed]) -> Self {
        let symbols = Symbols::of(modules);
        let mut rules: Vec<Option<Rule>> = Vec::new();
        let mut reached: Vec<Vec<usize>> = Vec::new();
        for definitions in &symbols.rules {
            let mut reaches = Vec::new();
            let rule = definitions
                .kind
                .and_then(|kind| compile(&symbols, modules, kind, &definitions.parts, &mut reaches).ok());
            rules.push(rule);
            reached.push(reaches);
        }
        // What reaches something that was not compiled is not evaluated here either.
        let mut usable: Vec<bool> = rules.iter().map(Option::is_some).collect();
        while let Some(spoilt) = (0..rules.len()).find(|rule| {
            let can = |index: &usize| usable.get(*index) == Some(&true);
            can(rule) && !reached.get(*rule).is_some_and(|reached| reached.iter().all(can))
        }) {
            if let Some(usable) = usable.get_mut(spoilt) {
                *usable = false;
            }
        }
        let mut entries = HashMap::new();
        for (index, definitions) in symbols.rules.iter().enumerate() {
            let value = definitions.kind.is_some_and(|kind| kind != Kind::Function);
            if value && usable.get(index) == Some(&true) {
                entries.insert(definitions.path.clone(), index);
            }
        }
        let whole = usable.iter().all(|usable| *usable);
        Self { rules, entries, whole }
    }

    /// Whether no rule needs the engine.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The number of a rule that can be evaluated, by its path as in `data.a.b`.
    pub(crate) fn entry(&self, path: &str) -> Option<usize> {
        self.entries.get(path).copied()
    }
}

/// Compiles the definitions of one name. `reaches` gets the numbers of the rules that they refer to.
fn compile(
    symbols: &Symbols<'_>,
    modules: &[&Parsed],
    kind: Kind,
    parts: &[symbols::Part<'_>],
    reaches: &mut Vec<usize>,
) -> Result<Rule> {
    let mut rule = Rule {
        kind,
        clauses: Vec::new(),
        default: None,
        same: false,
    };
    for part in parts {
        let module = modules.get(part.module).ok_or(Why::Unsupported)?;
        let names = Names { symbols, module };
        match part.rule {
            AstRule::Default { args, value, .. } => {
                // The parameters of a default are names that its value cannot use.
                let plain = args.iter().all(|arg| matches!(arg.as_ref(), Ast::Var { .. }));
                if !plain || args.is_empty() == (kind == Kind::Function) || rule.default.is_some() {
                    return Err(Why::Unsupported);
                }
                let mut body = Body::new(names, reaches);
                let value = body.expr(value)?;
                if body.slots() > 0 || !body.finish().is_empty() {
                    return Err(Why::Unsupported);
                }
                rule.default = Some(value);
            }
            AstRule::Spec { head, bodies, .. } => {
                rule.clauses.push(clause(names, head, bodies, reaches)?);
            }
        }
    }
    let mut values = rule
        .clauses
        .iter()
        .flat_map(|clause| &clause.alternatives)
        .map(|alternative| &alternative.value);
    rule.same = match values.next() {
        Some(Expr::Const(first)) => values.all(|other| matches!(other, Expr::Const(value) if value == first)),
        _ => false,
    };
    Ok(rule)
}

fn clause(names: Names<'_>, head: &RuleHead, bodies: &[RuleBody], reaches: &mut Vec<usize>) -> Result<Clause> {
    let (parameters, keys, value) = match head {
        RuleHead::Compr { refr, assign, .. } => {
            (&[][..], keys(refr), assign.as_ref().map(|assign| assign.value.as_ref()))
        }
        RuleHead::Set { refr, key, .. } => (
            &[][..],
            keys(refr),
            Some(key.as_ref().ok_or(Why::Unsupported)?.as_ref()),
        ),
        RuleHead::Func { args, assign, .. } => (
            args.as_slice(),
            Vec::new(),
            assign.as_ref().map(|assign| assign.value.as_ref()),
        ),
    };
    let member = matches!(head, RuleHead::Set { .. });
    let parts: Vec<(Option<&RuleBody>, Option<&Ast>)> = match bodies {
        [] => vec![(None, value)],
        [first, rest @ ..] => {
            if rest.iter().any(|body| !body.is_else) {
                return Err(Why::Unsupported);
            }
            let rest = rest.iter().map(|body| {
                let own = body.assign.as_ref().map(|assign| assign.value.as_ref());
                (Some(body), own)
            });
            let first_value = first.assign.as_ref().map(|assign| assign.value.as_ref()).or(value);
            std::iter::once((Some(first), first_value)).chain(rest).collect()
        }
    };
    if parts.len() > 1 && (!keys.is_empty() || member) {
        return Err(Why::Unsupported);
    }
    let mut slots = 0;
    let mut compiled = Clause {
        slots: 0,
        parameters: Vec::new(),
        alternatives: Vec::new(),
    };
    for (source, value) in parts {
        // Every alternative numbers the parameters alike, for it begins with them.
        let mut body = Body::new(names, reaches);
        let patterns = body.parameters(parameters)?;
        if !body.out.is_empty() {
            return Err(Why::Unsupported);
        }
        let indexes = keys.iter().filter_map(|key| match key {
            Key::Index(index) => Some(*index),
            Key::Name(_) => None,
        });
        let terms: Vec<&Ast> = indexes.chain(value).collect();
        body.query(source.map(|source| source.query.as_ref()), &terms)?;
        let keys = keys.iter().map(|key| match key {
            Key::Index(index) => body.expr(index),
            Key::Name(name) => Ok(Expr::Const(Value::from(name.as_str()))),
        });
        let keys = keys.collect::<Result<_>>()?;
        let value = match value {
            Some(value) => body.expr(value)?,
            None => Expr::Const(Value::Bool(true)),
        };
        slots = slots.max(body.slots());
        compiled.parameters = patterns;
        compiled.alternatives.push(Alternative {
            keys,
            member,
            value,
            body: body.finish(),
        });
    }
    compiled.slots = slots;
    Ok(compiled)
}

/// A part of the head of a rule behind its name.
enum Key<'a> {
    Name(String),
    Index(&'a Ast),
}

fn keys(head: &Ast) -> Vec<Key<'_>> {
    let (mut found, mut at) = (Vec::new(), head);
    loop {
        match at {
            Ast::RefDot { refr, field, .. } => {
                found.push(Key::Name(field.0.text().to_owned()));
                at = refr;
            }
            Ast::RefBrack { refr, index, .. } => {
                found.push(Key::Index(index));
                at = refr;
            }
            _ => break,
        }
    }
    found.reverse();
    found
}

/// The names of a reference that is fixed as a whole.
fn fixed(node: &Ast) -> Option<Vec<String>> {
    walk::path(node).filter(|(_, whole)| *whole).map(|(names, _)| names)
}
