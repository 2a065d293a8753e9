//! Expressions of compiled rules: none of them has more than one value.

use std::borrow::Cow;

use regorus::Value;
use regorus::unstable::{ArithOp, BinOp, BoolOp, numbers, sets};
use regorus::value::Set;

use super::collection::{at, put};
use super::function::place;
use super::run::{Answer, Frame, Run, Stop};
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
            Expr::Array(items) => self
                .all(items, frame)?
                .map(|items| Cow::Owned(Value::from(items.into_vec()))),
            Expr::Set(items) => self.all(items, frame)?.map(|items| {
                let mut set = Set::new();
                for item in items {
                    set.insert(item);
                }
                Cow::Owned(set.into_value())
            }),
            Expr::Object(fields) => {
                let mut object = Value::new_object();
                let into = object.as_object_mut().map_err(|_| Stop::Failed)?;
                for (key, value) in fields {
                    let (Some(key), Some(value)) = (self.eval(key, frame)?, self.eval(value, frame)?) else {
                        return Ok(None);
                    };
                    put(into, key.into_owned(), value.into_owned())?;
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
                Some((left, right)) => Self::arithmetic(op, left, right)?.map(Cow::Owned),
                None => None,
            },
            Expr::Sets(op, sides) => match self.both(sides, frame)? {
                Some((left, right)) => {
                    let (_, place) = place()?;
                    let made = match op {
                        BinOp::Union => sets::union(place, place, left, right),
                        BinOp::Intersection => sets::intersection(place, place, left, right),
                    };
                    Some(Cow::Owned(made.map_err(|_| Stop::Failed)?))
                }
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

    fn all(&self, exprs: &[Expr], frame: &[Value]) -> Answer<Option<Frame>> {
        let mut values = Frame::with_capacity(exprs.len());
        for expr in exprs {
            match self.eval(expr, frame)? {
                Some(value) => values.push(value.into_owned()),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    fn both(&self, sides: &[Expr; 2], frame: &[Value]) -> Answer<Option<(Value, Value)>> {
        let [left, right] = sides;
        let (left, right) = (self.eval(left, frame)?, self.eval(right, frame)?);
        Ok(left
            .zip(right)
            .map(|(left, right)| (left.into_owned(), right.into_owned())))
    }

    fn comprehension(&self, body: &[Stmt], term: &Term, frame: &[Value]) -> Answer<Value> {
        let mut frame = Frame::from(frame);
        match term {
            Term::Array(term) => {
                let mut items = Vec::new();
                self.gather(body, &mut frame, &mut |run, frame| {
                    items.extend(run.eval(term, frame)?.map(Cow::into_owned));
                    Ok(())
                })?;
                Ok(Value::from(items))
            }
            Term::Set(term) => {
                let mut set = Set::new();
                self.gather(body, &mut frame, &mut |run, frame| {
                    if let Some(value) = run.eval(term, frame)? {
                        set.insert(value.into_owned());
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
                        put(fields, key.into_owned(), value.into_owned())?;
                    }
                    Ok(())
                })?;
                Ok(object)
            }
        }
    }

    fn arithmetic(op: &ArithOp, left: Value, right: Value) -> Answer<Option<Value>> {
        let (span, place) = place()?;
        let sets = matches!(
            (op, &left, &right),
            (ArithOp::Sub, Value::Set(_), _) | (ArithOp::Sub, _, Value::Set(_))
        );
        let made = if sets {
            sets::difference(place, place, left, right)
        } else {
            numbers::arithmetic_operation(span, op, place, place, left, right, false)
        };
        match made {
            Ok(Value::Undefined) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Stop::Failed),
        }
    }
}
