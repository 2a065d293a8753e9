//! Expressions: names become numbers, constants are computed, and what has several values is taken out in front.

use regorus::Value;
use regorus::unstable::{ArithOp, Expr as Ast};

use super::super::builtins;
use super::body::{Body, WILDCARD};
use super::function::Function;
use super::symbols::Root;
use super::{Comprehension, Expr, Kind, Pattern, Result, Stmt, Term, Why, fixed};

/// A builtin whose values are gone through.
const WALK: &str = "walk";

/// What stands behind a name in a reference.
enum Step<'n> {
    Name(Value),
    Index(&'n Ast),
}

impl Body<'_> {
    /// An expression whose variables are all bound, or can be bound by going through collections in front of it.
    pub(super) fn expr(&mut self, node: &Ast) -> Result<Expr> {
        Ok(match node {
            Ast::String { value, .. }
            | Ast::RawString { value, .. }
            | Ast::Number { value, .. }
            | Ast::Bool { value, .. }
            | Ast::Null { value, .. } => Expr::Const(value.clone()),
            Ast::Var { .. } | Ast::RefDot { .. } | Ast::RefBrack { .. } => self.reference(node)?,
            Ast::Array { items, .. } => {
                let items = self.exprs(items)?;
                match constants(&items) {
                    Some(values) => Expr::Const(Value::from(values)),
                    None => Expr::Array(items),
                }
            }
            Ast::Set { items, .. } => {
                let items = self.exprs(items)?;
                match constants(&items) {
                    Some(values) => Expr::Const(Value::from(
                        values.into_iter().collect::<std::collections::BTreeSet<_>>(),
                    )),
                    None => Expr::Set(items),
                }
            }
            Ast::Object { fields, .. } => {
                let fields = fields
                    .iter()
                    .map(|(_, key, value)| Ok((self.expr(key)?, self.expr(value)?)));
                let fields: Vec<(Expr, Expr)> = fields.collect::<Result<_>>()?;
                let pair = |(key, value): &(Expr, Expr)| match (key, value) {
                    (Expr::Const(key), Expr::Const(value)) => Some((key.clone(), value.clone())),
                    _ => None,
                };
                match fields
                    .iter()
                    .map(pair)
                    .collect::<Option<std::collections::BTreeMap<_, _>>>()
                {
                    Some(constant) => Expr::Const(Value::from(constant)),
                    None => Expr::Object(fields),
                }
            }
            Ast::ArrayCompr { term, query, .. } => {
                self.comprehension(query, &[term], |body| body.expr(term).map(Term::Array))?
            }
            Ast::SetCompr { term, query, .. } => {
                self.comprehension(query, &[term], |body| body.expr(term).map(Term::Set))?
            }
            Ast::ObjectCompr { key, value, query, .. } => self.comprehension(query, &[key, value], |body| {
                Ok(Term::Object(body.expr(key)?, body.expr(value)?))
            })?,
            Ast::Call { fcn, params, .. } => self.call(fcn, params)?,
            Ast::UnaryExpr { expr, .. } => match expr.as_ref() {
                Ast::Number { value, span, .. } if !span.text().starts_with('-') => {
                    let sides = [Expr::Const(Value::from(0_u64)), Expr::Const(value.clone())];
                    Expr::Arithmetic(ArithOp::Sub, Box::new(sides))
                }
                _ => return Err(Why::Unsupported),
            },
            Ast::BinExpr { op, lhs, rhs, .. } => Expr::Sets(op.clone(), Box::new([self.expr(lhs)?, self.expr(rhs)?])),
            Ast::BoolExpr { op, lhs, rhs, .. } => {
                Expr::Compare(op.clone(), Box::new([self.expr(lhs)?, self.expr(rhs)?]))
            }
            Ast::ArithExpr { op, lhs, rhs, .. } => {
                Expr::Arithmetic(op.clone(), Box::new([self.expr(lhs)?, self.expr(rhs)?]))
            }
            Ast::Membership {
                key, value, collection, ..
            } => {
                let key = match key {
                    Some(key) => Some(Box::new(self.expr(key)?)),
                    None => None,
                };
                Expr::In(key, Box::new([self.expr(value)?, self.expr(collection)?]))
            }
            Ast::AssignExpr { .. } => return Err(Why::Unsupported),
        })
    }

    fn exprs<T: AsRef<Ast>>(&mut self, nodes: &[T]) -> Result<Vec<Expr>> {
        nodes.iter().map(|node| self.expr(node.as_ref())).collect()
    }

    fn comprehension<T: AsRef<Ast>>(
        &mut self,
        query: &regorus::unstable::Query,
        terms: &[&T],
        term: impl FnOnce(&mut Self) -> Result<Term>,
    ) -> Result<Expr> {
        let terms: Vec<&Ast> = terms.iter().map(|term| (*term).as_ref()).collect();
        let (body, term) = self.nested(query, &terms, term)?;
        Ok(Expr::Comprehension(Box::new(Comprehension { body, term })))
    }

    fn call<T: AsRef<Ast>>(&mut self, function: &Ast, parameters: &[T]) -> Result<Expr> {
        let names = fixed(function).ok_or(Why::Unsupported)?;
        if let Some(rule) = self.names.function(&names) {
            self.reaches.push(rule);
            let arity = self.names.arity(rule).ok_or(Why::Unsupported)?;
            if arity != parameters.len() {
                return Err(Why::Unsupported);
            }
            let arguments = self.exprs(parameters)?;
            return match self.names.symbols.kind(rule) {
                Some(Kind::Function) => Ok(Expr::Call(rule, arguments)),
                Some(Kind::Complete) if arity == 0 => Ok(Expr::Rule(rule)),
                _ => Err(Why::Unsupported),
            };
        }
        let name = names.join(".");
        let function = Function::find(&name, parameters.len()).ok_or(Why::Unsupported)?;
        let found = Expr::Builtin(function, self.exprs(parameters)?);
        if name != WALK {
            return Ok(found);
        }
        // The one builtin that has several values.
        let slot = self.scopes.fresh();
        self.scopes.bind(slot);
        self.out.push(Stmt::Each {
            collection: found,
            key: Pattern::Any,
            value: Pattern::Bind(slot),
        });
        Ok(Expr::Local(slot))
    }

    /// A call with one argument more than the function takes: that one names the result.
    pub(super) fn captured<'n>(&mut self, node: &'n Ast) -> Result<Option<(Expr, &'n Ast)>> {
        let Ast::Call { fcn, params, .. } = node else {
            return Ok(None);
        };
        let (Some(names), Some((result, arguments))) = (fixed(fcn), params.split_last()) else {
            return Ok(None);
        };
        let arity = match self.names.function(&names) {
            Some(rule) => self.names.arity(rule),
            None => builtins::arguments(&names.join(".")),
        };
        if arity != Some(arguments.len()) {
            return Ok(None);
        }
        Ok(Some((self.call(fcn, arguments)?, result)))
    }

    fn reference(&mut self, node: &Ast) -> Result<Expr> {
        let mut steps = Vec::new();
        let mut at = node;
        // References are chains to the left.
        loop {
            match at {
                Ast::RefDot { refr, field, .. } => {
                    steps.push(Step::Name(Value::from(field.0.text())));
                    at = refr;
                }
                Ast::RefBrack { refr, index, .. } => {
                    steps.push(match index.as_ref() {
                        Ast::String { value, .. } | Ast::RawString { value, .. } => Step::Name(value.clone()),
                        other => Step::Index(other),
                    });
                    at = refr;
                }
                _ => break,
            }
        }
        steps.reverse();
        let (base, path, taken) = self.base(at, &steps)?;
        let mut base = base;
        let mut path: Vec<Expr> = path.into_iter().map(|name| Expr::Const(Value::from(name))).collect();
        for step in steps.into_iter().skip(taken) {
            let index = match step {
                Step::Name(name) => {
                    path.push(Expr::Const(name));
                    continue;
                }
                Step::Index(index) => index,
            };
            if !self.is_open(index) {
                path.push(self.expr(index)?);
                continue;
            }
            let key = self.pattern(index)?;
            let slot = self.scopes.fresh();
            self.scopes.bind(slot);
            self.out.push(Stmt::Each {
                collection: along(base, path),
                key,
                value: Pattern::Bind(slot),
            });
            (base, path) = (Expr::Local(slot), Vec::new());
        }
        Ok(along(base, path))
    }

    /// What a reference begins with, the names that it goes through first, and how many of its steps that took.
    fn base(&mut self, node: &Ast, steps: &[Step<'_>]) -> Result<(Expr, Vec<String>, usize)> {
        let Ast::Var { span, .. } = node else {
            return Ok((self.expr(node)?, Vec::new(), 0));
        };
        let name = span.text();
        if name == WILDCARD {
            return Err(Why::Unsupported);
        }
        if let Some(slot) = self.scopes.find(name) {
            let bound = self.scopes.is_bound(slot);
            return if bound {
                Ok((Expr::Local(slot), Vec::new(), 0))
            } else {
                Err(Why::NotYet)
            };
        }
        let (root, mut path) = self.names.root(name).ok_or(Why::Unsupported)?;
        match root {
            Root::Input => Ok((Expr::Input, path, 0)),
            Root::Rule(rule) => Ok((self.rule(rule)?, path, 0)),
            Root::Virtual => Err(Why::Unsupported),
            Root::Data => {
                let given = path.len();
                let names = steps.iter().map_while(|step| match step {
                    Step::Name(Value::String(name)) => Some(name.to_string()),
                    _ => None,
                });
                path.extend(names);
                let taken = path.len() - given;
                match self.names.data(&path) {
                    (Root::Rule(rule), length) => {
                        let rest = path.split_off(length.min(path.len()));
                        Ok((self.rule(rule)?, rest, taken))
                    }
                    // The engine finds a text where a document has one for the number, as OPA does.
                    (Root::Data, _) if steps.iter().any(|step| matches!(step, Step::Index(Ast::Number { .. }))) => {
                        Err(Why::Unsupported)
                    }
                    (Root::Data, _) => Ok((Expr::Data, path, taken)),
                    _ => Err(Why::Unsupported),
                }
            }
        }
    }

    fn rule(&mut self, rule: usize) -> Result<Expr> {
        self.reaches.push(rule);
        match self.names.symbols.kind(rule) {
            Some(Kind::Function) | None => Err(Why::Unsupported),
            Some(_) => Ok(Expr::Rule(rule)),
        }
    }
}

fn along(base: Expr, path: Vec<Expr>) -> Expr {
    if path.is_empty() {
        base
    } else {
        Expr::Path(Box::new(base), path)
    }
}

fn constants(items: &[Expr]) -> Option<Vec<Value>> {
    let value = |item: &Expr| match item {
        Expr::Const(value) => Some(value.clone()),
        _ => None,
    };
    items.iter().map(value).collect()
}
