//! Expressions of compiled rules: none of them has more than one value.

use std::borrow::Cow;

use regorus::Value;
use regorus::unstable::BoolOp;
use regorus::value::Set;

use super::super::builtins::{meter, operators};
use super::collection::{at, put};
use super::run::{Answer, Frame, Run, Stop, held};
use super::{Expr, Stmt, Term};

static UNDEFINED: Value = Value::Undefined;

impl Run<'_> {
    /// The value of an expression; `None` when it is undefined.
    pub(super) fn eval<'v>(&'v self, expr: &'v Expr, frame: &'v [Value]) -> Answer<Option<Cow<'v, Value>>> {
        Ok(match expr {
            Expr::Const(value) => Some(Cow::Borrowed(value)),
            Expr::Local(slot) => Some(Cow::Borrowed(frame.get(*slot).unwrap_or(&UNDEFINED))),
            Expr::Input => (self.input != Value::Undefined).then_some(Cow::Borrowed(&self.input)),
            Expr::Data => Some(Cow::Borrowed(&self.data)),
            Expr::Rule(rule) => self.value(*rule)?.map(Cow::Borrowed),
            Expr::Path(base, path) => match self.eval(base, frame)? {
                None => None,
                Some(Cow::Borrowed(base)) => self.walk(base, path, frame)?.map(Cow::Borrowed),
                Some(Cow::Owned(base)) => self.walk(&base, path, frame)?.cloned().map(Cow::Owned),
            },
            Expr::Array(items) => match self.all(items, frame)? {
                Some(items) => {
                    for item in &items {
                        meter::held(item).ok_or(Stop::Failed)?;
                    }
                    Some(Cow::Owned(Value::from(items.into_vec())))
                }
                None => None,
            },
            Expr::Set(items) => match self.all(items, frame)? {
                Some(items) => {
                    let mut set = Set::new();
                    for item in items {
                        set.insert(held(item)?);
                    }
                    Some(Cow::Owned(set.into_value()))
                }
                None => None,
            },
            Expr::Object(fields) => {
                let mut object = Value::new_object();
                let into = object.as_object_mut().map_err(|_| Stop::Failed)?;
                for (key, value) in fields {
                    let (Some(key), Some(value)) = (self.eval(key, frame)?, self.eval(value, frame)?) else {
                        return Ok(None);
                    };
                    put(into, held(key.into_owned())?, held(value.into_owned())?)?;
                }
                Some(Cow::Owned(object))
            }
            Expr::Comprehension(comprehension) => Some(Cow::Owned(self.comprehension(
                &comprehension.body,
                &comprehension.term,
                frame,
            )?)),
            Expr::Call(function, arguments) => match self.all(arguments, frame)? {
                Some(arguments) => self.call(*function, &arguments)?.map(Cow::Owned),
                None => None,
            },
            Expr::Builtin(function, arguments) => {
                self.step()?;
                match self.all(arguments, frame)? {
                    Some(arguments) => function.call(&arguments)?.map(Cow::Owned),
                    None => None,
                }
            }
            Expr::Compare(op, sides) => {
                let [left, right] = sides.as_ref();
                let (Some(left), Some(right)) = (self.eval(left, frame)?, self.eval(right, frame)?) else {
                    return Ok(None);
                };
                let (left, right) = (left.as_ref(), right.as_ref());
                Some(Cow::Owned(Value::Bool(match op {
                    BoolOp::Eq => left == right,
                    BoolOp::Ne => left != right,
                    BoolOp::Lt => left < right,
                    BoolOp::Le => left <= right,
                    BoolOp::Gt => left > right,
                    BoolOp::Ge => left >= right,
                })))
            }
            Expr::Arithmetic(op, sides) => match self.both(sides, frame)? {
                Some((left, right)) => operators::arithmetic(op, &left, &right).map(Cow::Owned),
                None => None,
            },
            Expr::Sets(op, sides) => match self.both(sides, frame)? {
                Some((left, right)) => operators::sets(op, &left, &right).map(Cow::Owned),
                None => None,
            },
            Expr::In(key, sides) => {
                let [value, collection] = sides.as_ref();
                let (Some(value), Some(collection)) = (self.eval(value, frame)?, self.eval(collection, frame)?) else {
                    return Ok(None);
                };
                let found = match key {
                    Some(key) => {
                        let Some(key) = self.eval(key, frame)? else {
                            return Ok(None);
                        };
                        let set = matches!(collection.as_ref(), Value::Set(_));
                        !set && at(&collection, &key).is_some_and(|found| *found == *value)
                    }
                    None => match collection.as_ref() {
                        Value::Array(items) => items.contains(&value),
                        Value::Set(items) => items.contains(&value),
                        Value::Object(fields) => fields.values().any(|field| *field == *value),
                        _ => false,
                    },
                };
                Some(Cow::Owned(Value::Bool(found)))
            }
        })
    }

    fn walk<'v>(&self, base: &'v Value, path: &[Expr], frame: &[Value]) -> Answer<Option<&'v Value>> {
        let mut here = base;
        for part in path {
            let Some(key) = self.eval(part, frame)? else {
                return Ok(None);
            };
            match at(here, &key) {
                Some(next) => here = next,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    pub(super) fn all(&self, exprs: &[Expr], frame: &[Value]) -> Answer<Option<Frame>> {
        let mut values = Frame::with_capacity(exprs.len());
        for expr in exprs {
            match self.eval(expr, frame)? {
                Some(value) => values.push(value.into_owned()),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    fn both<'v>(
        &'v self,
        sides: &'v [Expr; 2],
        frame: &'v [Value],
    ) -> Answer<Option<(Cow<'v, Value>, Cow<'v, Value>)>> {
        let [left, right] = sides;
        Ok(self.eval(left, frame)?.zip(self.eval(right, frame)?))
    }

    fn comprehension(&self, body: &[Stmt], term: &Term, frame: &[Value]) -> Answer<Value> {
        let mut frame = Frame::from(frame);
        match term {
            Term::Array(term) => {
                let mut items = Vec::new();
                self.gather(body, &mut frame, &mut |run, frame| {
                    if let Some(value) = run.eval(term, frame)? {
                        items.push(held(value.into_owned())?);
                    }
                    Ok(())
                })?;
                Ok(Value::from(items))
            }
            Term::Set(term) => {
                let mut set = Set::new();
                self.gather(body, &mut frame, &mut |run, frame| {
                    if let Some(value) = run.eval(term, frame)? {
                        set.insert(held(value.into_owned())?);
                    }
                    Ok(())
                })?;
                Ok(set.into_value())
            }
            Term::Object(key, value) => {
                let mut object = Value::new_object();
                let fields = object.as_object_mut().map_err(|_| Stop::Failed)?;
                self.gather(body, &mut frame, &mut |run, frame| {
                    if let (Some(key), Some(value)) = (run.eval(key, frame)?, run.eval(value, frame)?) {
                        put(fields, held(key.into_owned())?, held(value.into_owned())?)?;
                    }
                    Ok(())
                })?;
                Ok(object)
            }
        }
    }
}
