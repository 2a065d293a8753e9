//! Variables of one rule: which name is which slot, and which slots have a value by now.

use std::collections::HashMap;

use regorus::unstable::{AssignOp, Expr as Ast, Literal, LiteralStmt};

use super::{Result, Slot, Why};

/// The variables in sight, innermost scope last.
#[derive(Debug, Default, Clone)]
pub(super) struct Scopes {
    names: Vec<HashMap<String, Slot>>,
    bound: Vec<bool>,
}

impl Scopes {
    pub(super) fn open(&mut self) {
        self.names.push(HashMap::new());
    }

    pub(super) fn close(&mut self) {
        self.names.pop();
    }

    /// A slot that no name stands for.
    pub(super) fn fresh(&mut self) -> Slot {
        self.bound.push(false);
        self.bound.len() - 1
    }

    /// A new variable of the innermost scope, which hides others of its name.
    pub(super) fn declare(&mut self, name: &str) -> Slot {
        let slot = self.fresh();
        if let Some(names) = self.names.last_mut() {
            names.insert(name.to_owned(), slot);
        }
        slot
    }

    pub(super) fn find(&self, name: &str) -> Option<Slot> {
        self.names.iter().rev().find_map(|names| names.get(name).copied())
    }

    /// Whether the innermost scope has a variable of this name.
    pub(super) fn has_own(&self, name: &str) -> bool {
        self.names.last().is_some_and(|names| names.contains_key(name))
    }

    /// A variable that may be bound here: a bare one of an enclosing scope must be bound there.
    pub(super) fn is_own(&self, slot: Slot) -> bool {
        self.names
            .last()
            .is_some_and(|names| names.values().any(|known| *known == slot))
    }

    pub(super) fn bind(&mut self, slot: Slot) {
        if let Some(bound) = self.bound.get_mut(slot) {
            *bound = true;
        }
    }

    pub(super) fn is_bound(&self, slot: Slot) -> bool {
        self.bound.get(slot) == Some(&true)
    }

    pub(super) fn len(&self) -> usize {
        self.bound.len()
    }

    /// What is bound, to come back to.
    pub(super) fn mark(&self) -> Vec<bool> {
        self.bound.clone()
    }

    /// Forgets what was bound since; slots stay taken.
    pub(super) fn reset(&mut self, mark: &[bool]) {
        for (index, bound) in self.bound.iter_mut().enumerate() {
            *bound = mark.get(index) == Some(&true);
        }
    }
}

/// Names that the statements of a body declare (`:=`, `some`), and all that stand in it outside of inner bodies.
pub(super) fn of_body<'a>(stmts: &'a [LiteralStmt], terms: &[&'a Ast]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut declared, mut used) = (Vec::new(), Vec::new());
    for stmt in stmts {
        if !stmt.with_mods.is_empty() {
            return Err(Why::Unsupported);
        }
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => declared.extend(vars.iter().map(|name| name.text().to_owned())),
            Literal::SomeIn {
                key, value, collection, ..
            } => {
                for pattern in key.iter().chain([value]) {
                    variables(pattern, &mut declared);
                }
                variables(collection, &mut used);
            }
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Ast::AssignExpr {
                    op: AssignOp::ColEq,
                    lhs,
                    rhs,
                    ..
                } => {
                    pattern(lhs, &mut declared);
                    variables(rhs, &mut used);
                }
                _ => variables(expr, &mut used),
            },
            Literal::NotExpr { expr, .. } => variables(expr, &mut used),
            Literal::Every { domain, .. } => variables(domain, &mut used),
        }
    }
    for term in terms {
        variables(term, &mut used);
    }
    Ok((declared, used))
}

/// Variables that `:=` makes: those of its left side that are not part of a reference or call.
fn pattern(node: &Ast, found: &mut Vec<String>) {
    match node {
        Ast::Var { span, .. } => found.push(span.text().to_owned()),
        Ast::Array { items, .. } => items.iter().for_each(|item| pattern(item, found)),
        Ast::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| pattern(value, found)),
        _ => {}
    }
}

/// All variables of an expression, not those of comprehensions.
fn variables(node: &Ast, found: &mut Vec<String>) {
    match node {
        Ast::Var { span, .. } => found.push(span.text().to_owned()),
        Ast::Array { items, .. } | Ast::Set { items, .. } => items.iter().for_each(|item| variables(item, found)),
        Ast::Object { fields, .. } => {
            for (_, key, value) in fields {
                variables(key, found);
                variables(value, found);
            }
        }
        Ast::Call { params, .. } => params.iter().for_each(|param| variables(param, found)),
        Ast::UnaryExpr { expr, .. } => variables(expr, found),
        Ast::RefDot { refr, .. } => variables(refr, found),
        Ast::RefBrack { refr, index, .. } => {
            variables(refr, found);
            variables(index, found);
        }
        Ast::BinExpr { lhs, rhs, .. }
        | Ast::BoolExpr { lhs, rhs, .. }
        | Ast::ArithExpr { lhs, rhs, .. }
        | Ast::AssignExpr { lhs, rhs, .. } => {
            variables(lhs, found);
            variables(rhs, found);
        }
        Ast::Membership {
            key, value, collection, ..
        } => {
            for part in key.iter().chain([value, collection]) {
                variables(part, found);
            }
        }
        _ => {}
    }
}
