//! Rules and functions that need themselves. OPA refuses them when it compiles; here a function would overflow the stack and
//! end the process, and a rule would fail whenever it is asked.
//!
//! Guarantees: time and memory grow with the text, not with its square: who asks for a package depends on a node for the
//! package, not on each of its rules.

use std::collections::{BTreeMap, HashSet};

use regorus::unstable::{Expr, Literal, LiteralStmt, Rule, RuleHead};

use super::super::source::Problem;
use super::heads;
use super::parse::Parsed;
use super::walk::{self, Visitor};

/// Most circles that are told; one is enough to know what to do.
const TOLD: usize = 10;

/// What needs what.
pub(super) struct Graph {
    nodes: BTreeMap<Path, Node>,
    /// For each number of a node what it needs.
    needs: Vec<Vec<usize>>,
}

type Path = Vec<String>;

/// A path at which rules stand, or that leads to some.
#[derive(Clone, Copy)]
struct Node {
    /// Everything at this path and below.
    all: usize,
    /// The rule at this path.
    rule: Option<Definition>,
}

#[derive(Clone, Copy)]
struct Definition {
    number: usize,
    module: usize,
    line: u32,
    column: u32,
    function: bool,
}

impl Graph {
    /// The rules of modules, without what they need.
    pub(super) fn of(modules: &[&Parsed]) -> Self {
        let mut graph = Self {
            nodes: BTreeMap::new(),
            needs: Vec::new(),
        };
        for (module, parsed) in modules.iter().enumerate() {
            for rule in &parsed.module.policy {
                let path = name(parsed, rule);
                let all = graph.node(&path);
                let (span, number) = (rule.span(), graph.needs.len());
                let definition = Definition {
                    number,
                    module,
                    line: span.line,
                    column: span.col,
                    function: is_function(rule),
                };
                let Some(node) = graph.nodes.get_mut(&path).filter(|node| node.rule.is_none()) else {
                    continue;
                };
                node.rule = Some(definition);
                graph.needs.push(Vec::new());
                graph.edge(all, number);
            }
        }
        graph
    }

    /// Makes the nodes of a path, each of which holds the next.
    fn node(&mut self, path: &[String]) -> usize {
        let mut above = None;
        for length in 0..=path.len() {
            let part = path.get(..length).unwrap_or_default();
            let all = match self.nodes.get(part) {
                Some(node) => node.all,
                None => {
                    let all = self.needs.len();
                    self.needs.push(Vec::new());
                    self.nodes.insert(part.to_vec(), Node { all, rule: None });
                    if let Some(above) = above {
                        self.edge(above, all);
                    }
                    all
                }
            };
            above = Some(all);
        }
        above.unwrap_or_default()
    }

    fn edge(&mut self, from: usize, to: usize) {
        if let Some(needs) = self.needs.get_mut(from) {
            needs.push(to);
        }
    }

    fn rule(&self, path: &[String]) -> Option<Definition> {
        self.nodes.get(path)?.rule
    }

    /// Notes that a rule calls a function.
    pub(super) fn calls(&mut self, rule: &[String], function: &[String]) {
        if let (Some(from), Some(to)) = (self.rule(rule), self.rule(function)) {
            self.edge(from.number, to.number);
        }
    }

    /// Notes that a rule reads what stands at a path: the rules on the way to it, and all below.
    fn reads(&mut self, rule: &[String], path: &[String]) {
        let Some(from) = self.rule(rule) else { return };
        for length in 1..path.len() {
            let above = path.get(..length).and_then(|part| self.rule(part));
            if let Some(above) = above.filter(|above| !above.function) {
                self.edge(from.number, above.number);
            }
        }
        if let Some(node) = self.nodes.get(path) {
            self.edge(from.number, node.all);
        }
    }

    /// The problem of each circle, at the first of its rules.
    pub(super) fn circles(&self, modules: &[&Parsed]) -> Vec<Problem> {
        let circle = components(&self.needs);
        let mut seen = HashSet::new();
        let mut found: Vec<(&Path, Definition)> = self
            .nodes
            .iter()
            .filter_map(|(path, node)| Some((path, node.rule?)))
            .collect();
        // A function is what the author has to look at first.
        found.sort_by_key(|(_, rule)| (!rule.function, rule.module, rule.line, rule.column));
        let mut problems = Vec::new();
        for (path, rule) in found {
            let Some(Some(circle)) = circle.get(rule.number) else {
                continue;
            };
            if !seen.insert(*circle) || problems.len() >= TOLD {
                continue;
            }
            let name = path.last().map_or("?", String::as_str);
            let message = if rule.function {
                format!("function {name} calls itself, directly or through others; Rego forbids recursion")
            } else {
                format!("rule {name} needs its own value, directly or through others; Rego forbids recursion")
            };
            let origin = modules.get(rule.module).map_or("?", |parsed| parsed.origin());
            problems.push(Problem::at(origin, rule.line, rule.column, message));
        }
        problems
    }
}

/// The circle that each node lies on, if it does (Tarjan's algorithm, with a stack of its own).
fn components(needs: &[Vec<usize>]) -> Vec<Option<usize>> {
    let count = needs.len();
    let (mut index, mut low) = (vec![usize::MAX; count], vec![usize::MAX; count]);
    let (mut circle, mut open) = (vec![None; count], vec![false; count]);
    let (mut stack, mut next) = (Vec::new(), 0);
    let get = |list: &[usize], at: usize| list.get(at).copied().unwrap_or(usize::MAX);
    let put = |list: &mut [usize], at: usize, value: usize| {
        if let Some(place) = list.get_mut(at) {
            *place = value;
        }
    };
    for start in 0..count {
        if get(&index, start) != usize::MAX {
            continue;
        }
        // A node, and which of its needs comes next.
        let mut work = vec![(start, 0)];
        while let Some((node, step)) = work.pop() {
            if step == 0 {
                put(&mut index, node, next);
                put(&mut low, node, next);
                next += 1;
                stack.push(node);
                if let Some(open) = open.get_mut(node) {
                    *open = true;
                }
            }
            let own: &[usize] = needs.get(node).map_or(&[], Vec::as_slice);
            if let Some(&to) = own.get(step) {
                work.push((node, step + 1));
                if get(&index, to) == usize::MAX {
                    work.push((to, 0));
                } else if open.get(to) == Some(&true) {
                    let lowest = get(&low, node).min(get(&index, to));
                    put(&mut low, node, lowest);
                }
                continue;
            }
            if let Some(&(above, _)) = work.last() {
                let lowest = get(&low, above).min(get(&low, node));
                put(&mut low, above, lowest);
            }
            if get(&low, node) != get(&index, node) {
                continue;
            }
            let from = stack.iter().rposition(|known| *known == node).unwrap_or_default();
            let members = stack.split_off(from);
            let round = members.len() > 1 || own.contains(&node);
            for member in members {
                if let Some(open) = open.get_mut(member) {
                    *open = false;
                }
                if let Some(place) = circle.get_mut(member).filter(|_| round) {
                    *place = Some(node);
                }
            }
        }
    }
    circle
}

/// What a rule is called, as far as its name is fixed, with its package.
pub(super) fn name(parsed: &Parsed, rule: &Rule) -> Path {
    let names = walk::path(reference(rule)).map(|(names, _)| names).unwrap_or_default();
    parsed.package.iter().cloned().chain(names).collect()
}

/// What a rule is called, as it is written.
pub(super) fn reference(rule: &Rule) -> &Expr {
    match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    }
}

fn is_function(rule: &Rule) -> bool {
    match rule {
        Rule::Default { args, .. } => !args.is_empty(),
        Rule::Spec { head, .. } => matches!(head, RuleHead::Func { .. }),
    }
}

/// Notes what the rules of a module read. Its chains were bounded before.
pub(super) fn references(parsed: &Parsed, graph: &mut Graph) {
    let names = Declared::of(parsed);
    let mut visitor = References {
        parsed,
        graph,
        rule: Vec::new(),
        imported: heads::imported(parsed).collect(),
        declared: names.into_iter(),
        own: HashSet::new(),
        parts: HashSet::new(),
    };
    let _ = walk::module(&parsed.module, &mut visitor);
}

struct References<'a> {
    parsed: &'a Parsed,
    graph: &'a mut Graph,
    rule: Path,
    imported: HashSet<String>,
    declared: std::vec::IntoIter<HashSet<String>>,
    /// Names that are variables somewhere in the rule; what they hide is not looked for.
    own: HashSet<String>,
    /// Parts of references that were seen as a whole, and what is only named: heads, and what `with` replaces.
    parts: HashSet<*const Expr>,
}

impl References<'_> {
    /// Marks the parts of a reference, as the walk is going to see them.
    fn seen(&mut self, mut node: &Expr) {
        loop {
            self.parts.insert(node);
            match node {
                Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => node = refr,
                _ => return,
            }
        }
    }
}

impl Visitor for References<'_> {
    fn rule(&mut self, rule: &Rule) {
        self.rule = name(self.parsed, rule);
        self.own = self.declared.next().unwrap_or_default();
        self.parts.clear();
        self.seen(reference(rule));
    }

    fn stmt(&mut self, stmt: &LiteralStmt) {
        for with in &stmt.with_mods {
            self.seen(&with.refr);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        // What is called is a function, and noted where calls are.
        if let Expr::Call { fcn, .. } = expr {
            self.seen(fcn);
        }
        if self.parts.contains(&std::ptr::from_ref(expr)) {
            return;
        }
        let Some((names, _)) = walk::path(expr) else { return };
        self.seen(expr);
        let Some(first) = names
            .first()
            .filter(|first| *first != "input" && !self.own.contains(*first))
        else {
            return;
        };
        let path = if first == "data" || self.imported.contains(first) {
            self.parsed.absolute(&names)
        } else {
            self.parsed.package.iter().cloned().chain(names).collect()
        };
        if !path.is_empty() {
            self.graph.reads(&self.rule, &path);
        }
    }
}

/// Names that a rule declares anywhere in it, for each rule of a module.
struct Declared(Vec<HashSet<String>>);

impl Declared {
    fn of(parsed: &Parsed) -> Vec<HashSet<String>> {
        let mut declared = Self(Vec::new());
        let _ = walk::module(&parsed.module, &mut declared);
        declared.0
    }

    fn add(&mut self, name: &str) {
        if let Some(names) = self.0.last_mut() {
            names.insert(name.to_owned());
        }
    }

    /// All variables of a pattern.
    fn pattern(&mut self, node: &Expr) {
        struct Variables<'a>(&'a mut Declared);
        impl Visitor for Variables<'_> {
            fn expr(&mut self, expr: &Expr) {
                if let Expr::Var { span, .. } = expr {
                    self.0.add(span.text());
                }
            }
        }
        let _ = walk::expr(node, &mut Variables(self), 0);
    }
}

impl Visitor for Declared {
    fn rule(&mut self, rule: &Rule) {
        self.0.push(HashSet::new());
        if let Rule::Spec {
            head: RuleHead::Func { args, .. },
            ..
        } = rule
        {
            args.iter().for_each(|arg| self.pattern(arg));
        }
    }

    fn stmt(&mut self, stmt: &LiteralStmt) {
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => vars.iter().for_each(|name| self.add(name.text())),
            Literal::SomeIn { key, value, .. } => key.iter().chain([value]).for_each(|part| self.pattern(part)),
            Literal::Every { key, value, .. } => {
                key.iter().chain([value]).for_each(|name| self.add(name.text()));
            }
            Literal::Expr { .. } | Literal::NotExpr { .. } => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        if let Expr::AssignExpr {
            op: regorus::unstable::AssignOp::ColEq,
            lhs,
            ..
        } = expr
        {
            self.pattern(lhs);
        }
    }
}
