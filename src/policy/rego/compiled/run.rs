//! Evaluates compiled rules.
//!
//! Every rule is evaluated once for an input. Statements are gone through depth first: one that holds goes on with those
//! behind it, one that has several answers does so for each. Nothing is undone on the way back, because it is known of every
//! place what is bound there, and what is not is overwritten before it is read.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::ops::ControlFlow::{self, Break, Continue};

use regorus::Value;
use regorus::value::Set;
use smallvec::{SmallVec, smallvec};

use super::super::builtins::meter;
use super::super::session::Deadline;
use super::collection::{each, is_collection};
use super::tree::Tree;
use super::{Clause, Compiled, Expr, Kind, Pattern, Rule, Slot, Stmt};

/// How many steps are made between two looks at the clock; a look costs as much as a few steps.
const CHECK_EVERY: u32 = 256;

/// Why an evaluation ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The time is up.
    Late,
    /// Something went wrong that the engine has words for.
    Failed,
}

pub(super) type Answer<T> = Result<T, Stop>;
/// Most rules have few variables; those need no memory of their own.
pub(super) type Frame = SmallVec<[Value; 8]>;

/// One evaluation: an input, and what was found out about it.
pub(crate) struct Run<'p> {
    program: &'p Compiled,
    pub(super) input: Value,
    pub(super) data: Value,
    values: Vec<OnceCell<Option<Value>>>,
    /// Rules under evaluation: one that needs itself has no value.
    busy: Vec<Cell<bool>>,
    steps: Cell<u32>,
    end: i64,
}

impl<'p> Run<'p> {
    pub(crate) fn new(program: &'p Compiled, input: Value, data: Value, deadline: Deadline) -> Self {
        let rules = program.rules.len();
        Self {
            program,
            input,
            data,
            values: (0..rules).map(|_| OnceCell::new()).collect(),
            busy: vec![Cell::new(false); rules],
            steps: Cell::new(0),
            end: deadline.end_nanos(),
        }
    }

    /// The value of a rule that [`Compiled::entry`] named; `None` when it is undefined.
    pub(crate) fn value(&self, rule: usize) -> Answer<Option<&Value>> {
        let cell = self.values.get(rule).ok_or(Stop::Failed)?;
        if let Some(known) = cell.get() {
            return Ok(known.as_ref());
        }
        let (Some(definition), Some(busy)) = (
            self.program.rules.get(rule).and_then(Option::as_ref),
            self.busy.get(rule),
        ) else {
            return Err(Stop::Failed);
        };
        if busy.replace(true) {
            return Err(Stop::Failed);
        }
        let value = self.rule(definition)?;
        busy.set(false);
        Ok(cell.get_or_init(|| value).as_ref())
    }

    fn rule(&self, rule: &Rule) -> Answer<Option<Value>> {
        match rule.kind {
            Kind::Complete | Kind::Function => {
                let mut found = None;
                for clause in &rule.clauses {
                    self.alternatives(clause, &mut frame(clause), &mut found)?;
                    if rule.same && found.is_some() {
                        break;
                    }
                }
                self.or_default(rule, found)
            }
            Kind::Set => {
                let mut set = Set::new();
                for clause in &rule.clauses {
                    for alternative in &clause.alternatives {
                        self.gather(&alternative.body, &mut frame(clause), &mut |run, frame| {
                            if let Some(value) = run.eval(&alternative.value, frame)? {
                                set.insert(held(value.into_owned())?);
                            }
                            Ok(())
                        })?;
                    }
                }
                Ok(Some(set.into_value()))
            }
            Kind::Object | Kind::Tree => {
                let mut tree = Tree::new(rule.kind);
                for clause in &rule.clauses {
                    for alternative in &clause.alternatives {
                        tree.ground(alternative)?;
                        self.gather(&alternative.body, &mut frame(clause), &mut |run, frame| {
                            let keys = run.all(&alternative.keys, frame)?;
                            if let (Some(keys), Some(value)) = (keys, run.eval(&alternative.value, frame)?) {
                                tree.plant(keys, held(value.into_owned())?, alternative.member)?;
                            }
                            Ok(())
                        })?;
                    }
                }
                Ok(Some(tree.object))
            }
        }
    }

    fn or_default(&self, rule: &Rule, found: Option<Value>) -> Answer<Option<Value>> {
        match (found, &rule.default) {
            (None, Some(default)) => Ok(self.eval(default, &[])?.map(Cow::into_owned)),
            (found, _) => Ok(found),
        }
    }

    /// The values of the first alternative that holds; all of them, and those found before, must be equal.
    fn alternatives(&self, clause: &Clause, frame: &mut Frame, found: &mut Option<Value>) -> Answer<()> {
        for alternative in &clause.alternatives {
            let mut held = false;
            let _ = self.solve(&alternative.body, frame, &mut |run, frame| {
                let Some(value) = run.eval(&alternative.value, frame)? else {
                    return Ok(Continue(()));
                };
                held = true;
                match found {
                    Some(known) if *known != *value => return Err(Stop::Failed),
                    Some(_) => {}
                    None => *found = Some(value.into_owned()),
                }
                Ok(if matches!(alternative.value, Expr::Const(_)) {
                    Break(())
                } else {
                    Continue(())
                })
            })?;
            if held {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn call(&self, function: usize, arguments: &[Value]) -> Answer<Option<Value>> {
        self.step()?;
        let function = self
            .program
            .rules
            .get(function)
            .and_then(Option::as_ref)
            .ok_or(Stop::Failed)?;
        let mut found = None;
        'clauses: for clause in &function.clauses {
            let mut frame = frame(clause);
            for (parameter, argument) in clause.parameters.iter().zip(arguments) {
                if !self.fits(parameter, argument, &mut frame)? {
                    continue 'clauses;
                }
            }
            self.alternatives(clause, &mut frame, &mut found)?;
            if function.same && found.is_some() {
                break;
            }
        }
        self.or_default(function, found)
    }

    /// Calls back for every way in which the statements hold, until that says `Break`.
    fn solve(
        &self,
        stmts: &[Stmt],
        frame: &mut Frame,
        found: &mut dyn FnMut(&Self, &mut Frame) -> Answer<ControlFlow<()>>,
    ) -> Answer<ControlFlow<()>> {
        let mut rest = stmts;
        while let Some((stmt, behind)) = rest.split_first() {
            rest = behind;
            self.step()?;
            match stmt {
                Stmt::Test(test) => match self.eval(test, frame)?.as_deref() {
                    None | Some(Value::Bool(false)) => return Ok(Continue(())),
                    Some(_) => {}
                },
                Stmt::Bind(pattern, value) => {
                    let Some(value) = self.eval(value, frame)?.map(Cow::into_owned) else {
                        return Ok(Continue(()));
                    };
                    if let Pattern::Bind(slot) = pattern {
                        set(frame, *slot, value);
                    } else if !self.fits(pattern, &value, frame)? {
                        return Ok(Continue(()));
                    }
                }
                Stmt::Not(body) => {
                    if self.holds(body, frame)? {
                        return Ok(Continue(()));
                    }
                }
                Stmt::Every {
                    domain,
                    key,
                    value,
                    body,
                } => {
                    let Some(domain) = self.eval(domain, frame)?.map(Cow::into_owned) else {
                        return Ok(Continue(()));
                    };
                    if !is_collection(&domain) {
                        return Ok(Continue(()));
                    }
                    let all = each(&domain, &mut |name, element| {
                        if let Some(key) = key {
                            set(frame, *key, name.into_owned());
                        }
                        set(frame, *value, element.clone());
                        Ok(if self.holds(body, frame)? {
                            Continue(())
                        } else {
                            Break(())
                        })
                    })?;
                    if all.is_break() {
                        return Ok(Continue(()));
                    }
                }
                Stmt::Each { collection, key, value } => {
                    let Some(collection) = self.eval(collection, frame)?.map(Cow::into_owned) else {
                        return Ok(Continue(()));
                    };
                    return each(&collection, &mut |name, element| {
                        self.step()?;
                        let fits = match key {
                            Pattern::Any => true,
                            key => self.fits(key, &name, frame)?,
                        };
                        if fits && self.fits(value, element, frame)? {
                            self.solve(behind, frame, found)
                        } else {
                            Ok(Continue(()))
                        }
                    });
                }
            }
        }
        found(self, frame)
    }

    /// Calls back for every way in which the statements hold.
    pub(super) fn gather(
        &self,
        stmts: &[Stmt],
        frame: &mut Frame,
        found: &mut dyn FnMut(&Self, &mut Frame) -> Answer<()>,
    ) -> Answer<()> {
        let mut go_on = |run: &Self, frame: &mut Frame| {
            // What is gathered is kept, so it is counted.
            meter::gathered().ok_or(Stop::Failed)?;
            found(run, frame).map(Continue)
        };
        self.solve(stmts, frame, &mut go_on).map(|_| ())
    }

    /// Whether statements hold in any way.
    fn holds(&self, stmts: &[Stmt], frame: &mut Frame) -> Answer<bool> {
        let found = self.solve(stmts, frame, &mut |_, _| Ok(Break(())))?;
        Ok(found.is_break())
    }

    /// Whether a value has the form of a pattern; binds what is open in it.
    fn fits(&self, pattern: &Pattern, value: &Value, frame: &mut Frame) -> Answer<bool> {
        Ok(match pattern {
            Pattern::Any => true,
            Pattern::Bind(slot) => {
                set(frame, *slot, value.clone());
                true
            }
            Pattern::Equal(expr) => self.eval(expr, frame)?.is_some_and(|wanted| *wanted == *value),
            Pattern::Array(patterns) => {
                let Value::Array(items) = value else { return Ok(false) };
                if items.len() != patterns.len() {
                    return Ok(false);
                }
                for (pattern, item) in patterns.iter().zip(items.iter()) {
                    if !self.fits(pattern, item, frame)? {
                        return Ok(false);
                    }
                }
                true
            }
            Pattern::Object(patterns) => {
                let Value::Object(fields) = value else { return Ok(false) };
                if fields.len() != patterns.len() {
                    return Ok(false);
                }
                for (key, pattern) in patterns {
                    let Some(key) = self.eval(key, frame)?.map(Cow::into_owned) else {
                        return Ok(false);
                    };
                    match fields.get(&key) {
                        Some(field) if self.fits(pattern, field, frame)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
        })
    }

    pub(super) fn step(&self) -> Answer<()> {
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(CHECK_EVERY) && Deadline::passed(self.end) {
            return Err(Stop::Late);
        }
        Ok(())
    }
}

/// A value that becomes part of another, unless that would go too far.
pub(super) fn held(value: Value) -> Answer<Value> {
    meter::held(&value).map(|()| value).ok_or(Stop::Failed)
}

fn frame(clause: &Clause) -> Frame {
    smallvec![Value::Undefined; clause.slots]
}

fn set(frame: &mut Frame, slot: Slot, value: Value) {
    if let Some(place) = frame.get_mut(slot) {
        *place = value;
    }
}
