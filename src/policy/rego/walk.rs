//! Visits every expression and statement of a parsed module.
//!
//! Guarantees: bounded recursion. A chain that is longer than [`MAX_CHAIN`] ends the walk with its position, before the
//! engine, which recurses without such a bound, sees it.

use regorus::unstable::{Expr, Literal, LiteralStmt, Module, Query, Rule, RuleHead};

/// Longest chain of operators or references in one expression. Deeper ones are generated, and overflow the engine's stack.
pub(crate) const MAX_CHAIN: usize = 256;

/// What is done with the parts of a module.
pub(crate) trait Visitor {
    /// Called for each expression, outermost first.
    fn expr(&mut self, _expr: &Expr) {}
    /// Called for each statement of a body before its expressions.
    fn stmt(&mut self, _stmt: &LiteralStmt) {}
    /// Called when the walk comes to a rule.
    fn rule(&mut self, _rule: &Rule) {}
}

/// A chain that is too long: line and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooDeep(pub(crate) u32, pub(crate) u32);

/// Visits a module.
pub(crate) fn module(module: &Module, visitor: &mut dyn Visitor) -> Result<(), TooDeep> {
    for rule in &module.policy {
        visitor.rule(rule);
        match rule.as_ref() {
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        expr(refr, visitor, 0)?;
                        if let Some(assign) = assign {
                            expr(&assign.value, visitor, 0)?;
                        }
                    }
                    RuleHead::Set { refr, key, .. } => {
                        expr(refr, visitor, 0)?;
                        if let Some(key) = key {
                            expr(key, visitor, 0)?;
                        }
                    }
                    RuleHead::Func { refr, args, assign, .. } => {
                        expr(refr, visitor, 0)?;
                        exprs(args, visitor, 0)?;
                        if let Some(assign) = assign {
                            expr(&assign.value, visitor, 0)?;
                        }
                    }
                }
                for body in bodies {
                    if let Some(assign) = &body.assign {
                        expr(&assign.value, visitor, 0)?;
                    }
                    query(&body.query, visitor, 0)?;
                }
            }
            Rule::Default { refr, args, value, .. } => {
                expr(refr, visitor, 0)?;
                exprs(args, visitor, 0)?;
                expr(value, visitor, 0)?;
            }
        }
    }
    Ok(())
}

/// Visits an expression.
pub(crate) fn expr(node: &Expr, visitor: &mut dyn Visitor, depth: usize) -> Result<(), TooDeep> {
    if depth > MAX_CHAIN {
        return Err(TooDeep(node.span().line, node.span().col));
    }
    visitor.expr(node);
    let depth = depth + 1;
    match node {
        Expr::Array { items, .. } | Expr::Set { items, .. } => exprs(items, visitor, depth),
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                expr(key, visitor, depth)?;
                expr(value, visitor, depth)?;
            }
            Ok(())
        }
        Expr::ArrayCompr { term, query: body, .. } | Expr::SetCompr { term, query: body, .. } => {
            expr(term, visitor, depth)?;
            query(body, visitor, depth)
        }
        Expr::ObjectCompr {
            key,
            value,
            query: body,
            ..
        } => {
            expr(key, visitor, depth)?;
            expr(value, visitor, depth)?;
            query(body, visitor, depth)
        }
        Expr::Call { fcn, params, .. } => {
            expr(fcn, visitor, depth)?;
            exprs(params, visitor, depth)
        }
        Expr::UnaryExpr { expr: inner, .. } => expr(inner, visitor, depth),
        Expr::RefDot { refr, .. } => expr(refr, visitor, depth),
        Expr::RefBrack { refr, index, .. } => {
            expr(refr, visitor, depth)?;
            expr(index, visitor, depth)
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            expr(lhs, visitor, depth)?;
            expr(rhs, visitor, depth)
        }
        Expr::Membership {
            key, value, collection, ..
        } => {
            if let Some(key) = key {
                expr(key, visitor, depth)?;
            }
            expr(value, visitor, depth)?;
            expr(collection, visitor, depth)
        }
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => Ok(()),
    }
}

/// The names of a reference as far as they are fixed, `data.lib["x"].y[_]` giving `data`, `lib`, `x`, `y`; and whether
/// that is all of it. `None` for what is no reference.
pub(crate) fn path(node: &Expr) -> Option<(Vec<String>, bool)> {
    // References are chains to the left, so walk down and turn around.
    let (mut names, mut whole, mut at) = (Vec::new(), true, node);
    loop {
        match at {
            Expr::Var { span, .. } => {
                names.push(span.text().to_owned());
                names.reverse();
                return Some((names, whole));
            }
            Expr::RefDot { refr, field, .. } => {
                names.push(field.0.text().to_owned());
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => {
                        names.push(value.as_string().map(ToString::to_string).unwrap_or_default());
                    }
                    _ => {
                        names.clear();
                        whole = false;
                    }
                }
                at = refr;
            }
            _ => return None,
        }
    }
}

fn exprs<T: AsRef<Expr>>(nodes: &[T], visitor: &mut dyn Visitor, depth: usize) -> Result<(), TooDeep> {
    nodes.iter().try_for_each(|node| expr(node.as_ref(), visitor, depth))
}

fn query(query: &Query, visitor: &mut dyn Visitor, depth: usize) -> Result<(), TooDeep> {
    for stmt in &query.stmts {
        visitor.stmt(stmt);
        literal(&stmt.literal, visitor, depth)?;
        for with in &stmt.with_mods {
            expr(&with.refr, visitor, depth)?;
            expr(&with.r#as, visitor, depth)?;
        }
    }
    Ok(())
}

fn literal(literal: &Literal, visitor: &mut dyn Visitor, depth: usize) -> Result<(), TooDeep> {
    match literal {
        Literal::SomeVars { .. } => Ok(()),
        Literal::SomeIn {
            key, value, collection, ..
        } => {
            if let Some(key) = key {
                expr(key, visitor, depth)?;
            }
            expr(value, visitor, depth)?;
            expr(collection, visitor, depth)
        }
        Literal::Expr { expr: inner, .. } | Literal::NotExpr { expr: inner, .. } => expr(inner, visitor, depth),
        Literal::Every {
            domain, query: body, ..
        } => {
            expr(domain, visitor, depth)?;
            query(body, visitor, depth + 1)
        }
    }
}
