//! Statements of a body: in which order they can be asked, and what each binds.
//!
//! A statement is taken as soon as everything that it needs is bound, in the order of the text otherwise, as OPA does it.

use regorus::Value;
use regorus::unstable::{AssignOp, BoolOp, Expr as Ast, Literal, LiteralStmt, Query};

use super::scope::{Scopes, of_body};
use super::symbols::Names;
use super::{Expr, Pattern, Result, Slot, Stmt, Why};

/// The name of what nobody wants to know.
pub(super) const WILDCARD: &str = "_";

/// One body under way.
pub(super) struct Body<'a> {
    pub(super) names: Names<'a>,
    pub(super) reaches: &'a mut Vec<usize>,
    pub(super) scopes: Scopes,
    pub(super) out: Vec<Stmt>,
    /// Within `not` nothing is bound.
    pub(super) negated: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(names: Names<'a>, reaches: &'a mut Vec<usize>) -> Self {
        let mut scopes = Scopes::default();
        scopes.open();
        Self {
            names,
            reaches,
            scopes,
            out: Vec::new(),
            negated: false,
        }
    }

    pub(super) fn finish(self) -> Vec<Stmt> {
        self.out
    }

    /// How many slots a frame needs.
    pub(super) fn slots(&self) -> usize {
        self.scopes.len()
    }

    /// The parameters of a function: every name in them is a variable.
    pub(super) fn parameters<T: AsRef<Ast>>(&mut self, nodes: &[T]) -> Result<Vec<Pattern>> {
        let mut names = Vec::new();
        for node in nodes {
            declared(node.as_ref(), &mut names);
        }
        for name in names {
            if name != WILDCARD && !self.scopes.has_own(&name) {
                self.scopes.declare(&name);
            }
        }
        nodes.iter().map(|node| self.pattern(node.as_ref())).collect()
    }

    /// Statements; `terms` is what is computed behind them.
    pub(super) fn query(&mut self, query: Option<&Query>, terms: &[&Ast]) -> Result<()> {
        let stmts = query.map_or(&[][..], |query| query.stmts.as_slice());
        let (declared, used) = of_body(stmts, terms)?;
        for name in &declared {
            if name != WILDCARD {
                self.scopes.declare(name);
            }
        }
        for name in &used {
            let known = name == WILDCARD || self.scopes.find(name).is_some() || self.names.root(name).is_some();
            if !known {
                self.scopes.declare(name);
            }
        }
        let mut pending: Vec<&LiteralStmt> = stmts.iter().collect();
        while !pending.is_empty() {
            let mut taken = None;
            for (index, stmt) in pending.iter().enumerate() {
                let (mark, length) = (self.scopes.mark(), self.out.len());
                match self.stmt(stmt) {
                    Ok(()) => {
                        taken = Some(index);
                        break;
                    }
                    Err(Why::NotYet) => {
                        self.scopes.reset(&mark);
                        self.out.truncate(length);
                    }
                    Err(Why::Unsupported) => return Err(Why::Unsupported),
                }
            }
            pending.remove(taken.ok_or(Why::NotYet)?);
        }
        Ok(())
    }

    /// Statements of their own scope, and what follows from them.
    pub(super) fn nested<T>(
        &mut self,
        query: &Query,
        terms: &[&Ast],
        then: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(Vec<Stmt>, T)> {
        self.apart(|body| {
            body.scopes.open();
            let negated = std::mem::replace(&mut body.negated, false);
            let found = body.query(Some(query), terms).and_then(|()| then(body));
            body.negated = negated;
            body.scopes.close();
            found
        })
    }

    /// Collects statements elsewhere; nothing that they bind is bound behind them.
    fn apart<T>(&mut self, make: impl FnOnce(&mut Self) -> Result<T>) -> Result<(Vec<Stmt>, T)> {
        let mark = self.scopes.mark();
        let outer = std::mem::take(&mut self.out);
        let made = make(self);
        let inner = std::mem::replace(&mut self.out, outer);
        self.scopes.reset(&mark);
        Ok((inner, made?))
    }

    fn stmt(&mut self, stmt: &LiteralStmt) -> Result<()> {
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key, value, collection, ..
            } => {
                let collection = self.expr(collection)?;
                let key = match key {
                    Some(key) => self.pattern(key)?,
                    None => Pattern::Any,
                };
                let value = self.pattern(value)?;
                self.out.push(Stmt::Each { collection, key, value });
            }
            Literal::Every {
                key,
                value,
                domain,
                query,
                ..
            } => {
                let domain = self.expr(domain)?;
                self.scopes.open();
                let mut variable = |name: &str| {
                    let slot = self.scopes.declare(name);
                    self.scopes.bind(slot);
                    slot
                };
                let (key, value) = (key.as_ref().map(|key| variable(key.text())), variable(value.text()));
                let body = self.nested(query, &[], |_| Ok(()));
                self.scopes.close();
                let (body, ()) = body?;
                self.out.push(Stmt::Every {
                    domain,
                    key,
                    value,
                    body,
                });
            }
            Literal::NotExpr { expr, .. } => {
                let (mut body, test) = self.apart(|body| {
                    let negated = std::mem::replace(&mut body.negated, true);
                    let test = match expr.as_ref() {
                        Ast::AssignExpr {
                            op: AssignOp::Eq,
                            lhs,
                            rhs,
                            ..
                        } => body.equal(lhs, rhs),
                        _ => body.expr(expr),
                    };
                    body.negated = negated;
                    test
                })?;
                body.push(Stmt::Test(test));
                self.out.push(Stmt::Not(body));
            }
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Ast::AssignExpr {
                    op: AssignOp::ColEq,
                    lhs,
                    rhs,
                    ..
                } => self.bind(lhs, rhs)?,
                Ast::AssignExpr { lhs, rhs, .. } => self.unify(lhs, rhs)?,
                _ => match self.captured(expr)? {
                    Some((value, result)) => {
                        let result = self.pattern(result)?;
                        self.out.push(Stmt::Bind(result, value));
                    }
                    None => match self.expr(expr)? {
                        Expr::Const(Value::Bool(true)) => {}
                        test => self.out.push(Stmt::Test(test)),
                    },
                },
            },
        }
        Ok(())
    }

    fn bind(&mut self, pattern: &Ast, value: &Ast) -> Result<()> {
        let value = self.expr(value)?;
        let pattern = self.pattern(pattern)?;
        self.out.push(Stmt::Bind(pattern, value));
        Ok(())
    }

    fn unify(&mut self, lhs: &Ast, rhs: &Ast) -> Result<()> {
        match (self.is_open(lhs), self.is_open(rhs)) {
            (false, false) => {
                let test = self.equal(lhs, rhs)?;
                self.out.push(Stmt::Test(test));
                Ok(())
            }
            (true, false) => self.bind(lhs, rhs),
            (false, true) => self.bind(rhs, lhs),
            (true, true) => match (lhs, rhs) {
                (Ast::Array { items: left, .. }, Ast::Array { items: right, .. }) if left.len() == right.len() => left
                    .iter()
                    .zip(right)
                    .try_for_each(|(left, right)| self.unify(left, right)),
                _ => Err(Why::NotYet),
            },
        }
    }

    fn equal(&mut self, lhs: &Ast, rhs: &Ast) -> Result<Expr> {
        Ok(Expr::Compare(BoolOp::Eq, Box::new([self.expr(lhs)?, self.expr(rhs)?])))
    }

    /// Whether an expression is a pattern in which something is not bound yet.
    pub(super) fn is_open(&self, node: &Ast) -> bool {
        match node {
            Ast::Var { span, .. } => {
                let name = span.text();
                name == WILDCARD || self.scopes.find(name).is_some_and(|slot| !self.scopes.is_bound(slot))
            }
            Ast::Array { items, .. } => items.iter().any(|item| self.is_open(item)),
            Ast::Object { fields, .. } => fields.iter().any(|(_, _, value)| self.is_open(value)),
            _ => false,
        }
    }

    /// A pattern; what was open in it is bound behind it.
    pub(super) fn pattern(&mut self, node: &Ast) -> Result<Pattern> {
        if !self.is_open(node) {
            return self.expr(node).map(Pattern::Equal);
        }
        match node {
            // OPA refuses it, so it has no meaning but the engine's.
            Ast::Var { span, .. } if span.text() == WILDCARD && self.negated => Err(Why::Unsupported),
            Ast::Var { span, .. } if span.text() == WILDCARD => Ok(Pattern::Any),
            Ast::Var { span, .. } => self.open_variable(span.text()).map(Pattern::Bind),
            Ast::Array { items, .. } => {
                let items = items.iter().map(|item| self.pattern(item));
                items.collect::<Result<_>>().map(Pattern::Array)
            }
            Ast::Object { fields, .. } => {
                let fields = fields.iter().map(|(_, key, value)| {
                    let key = self.expr(key)?;
                    Ok((key, self.pattern(value)?))
                });
                fields.collect::<Result<_>>().map(Pattern::Object)
            }
            _ => Err(Why::Unsupported),
        }
    }

    /// Binds a variable that has no value yet; only its own body may, and no negation.
    fn open_variable(&mut self, name: &str) -> Result<Slot> {
        let slot = self.scopes.find(name).ok_or(Why::Unsupported)?;
        if self.negated || !self.scopes.is_own(slot) {
            return Err(Why::NotYet);
        }
        self.scopes.bind(slot);
        Ok(slot)
    }
}

/// All variables of a parameter.
fn declared(node: &Ast, found: &mut Vec<String>) {
    match node {
        Ast::Var { span, .. } => found.push(span.text().to_owned()),
        Ast::Array { items, .. } => items.iter().for_each(|item| declared(item, found)),
        Ast::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| declared(value, found)),
        _ => {}
    }
}
