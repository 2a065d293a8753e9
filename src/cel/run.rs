//! Evaluates expressions.
//!
//! Guarantees: an evaluation ends soon after its time is over (each turn of a loop looks at the clock) and makes only so much
//! (`bounds`); what goes wrong is said in the words of Kubernetes' evaluator. Nothing of a document is copied.
//!
//! Assumes nodes that `code` has made: variables of loops are where their numbers say.

use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

use kube_cel::cel::Value;

use super::bounds;
use super::code::{Library, Loop, Node, Operator, Table};
use super::values::Val;
use super::{FUNCTIONS, is_over};

/// How often a loop turns between two looks at the clock, which costs as much as a short turn.
const TURNS: u32 = 8;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A field or an entry is not there.
    NoSuchKey(String),
    /// A variable is not there; its number.
    Unknown(usize),
    /// Something else, in words.
    Told(String),
}

impl Failure {
    /// The operation is not there for values of these types.
    pub(super) fn overload() -> Self {
        Self::Told("no such overload".to_owned())
    }

    pub(super) fn told(why: impl Display) -> Self {
        Self::Told(why.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchKey(key) => write!(f, "no such key: {key}"),
            Self::Unknown(_) => f.write_str("no such variable"),
            Self::Told(why) => f.write_str(why),
        }
    }
}

/// A value, or why there is none.
pub(crate) type Answer<'a> = Result<Val<'a>, Failure>;

/// Evaluations of expressions that share variables.
pub(crate) struct Run<'a> {
    outer: Vec<Option<Val<'a>>>,
    locals: Vec<Val<'a>>,
    /// When the time is over, in nanoseconds of the engine's clock.
    end: i64,
    turns: u32,
}

impl<'a> Run<'a> {
    /// With room for the variables of a table, none of which is there yet.
    pub(crate) fn new(table: &Table, end: i64) -> Self {
        Self {
            outer: vec![None; table.len()],
            locals: Vec::new(),
            end,
            turns: 0,
        }
    }

    /// Gives a variable its value.
    pub(crate) fn set(&mut self, number: usize, value: Val<'a>) {
        if let Some(slot) = self.outer.get_mut(number) {
            *slot = Some(value);
        }
    }

    /// The value of an expression.
    pub(crate) fn value(&mut self, node: &'a Node) -> Answer<'a> {
        match node {
            Node::Null => Ok(Val::Null),
            Node::Bool(value) => Ok(Val::Bool(*value)),
            Node::Int(value) => Ok(Val::Int(*value)),
            Node::Uint(value) => Ok(Val::Uint(*value)),
            Node::Double(value) => Ok(Val::Double(*value)),
            Node::Text(text) => Ok(Val::Text(text)),
            Node::Bytes(bytes) => Ok(Val::Other(bytes.clone().into())),
            Node::Outer(number) => {
                let value = self.outer.get(*number).cloned().flatten();
                value.ok_or(Failure::Unknown(*number))
            }
            Node::Local(number) => self.locals.get(*number).cloned().ok_or_else(Failure::overload),
            Node::Select(operand, field) => select(&self.value(operand)?, field),
            Node::Has(operand, field) => Ok(Val::Bool(match self.value(operand)? {
                Val::Optional(None) => false,
                Val::Optional(Some(value)) => value.field(field).is_some(),
                value => value.field(field).is_some(),
            })),
            Node::Index(sides, absent) => {
                let value = self.value(&sides.0)?;
                let key = self.value(&sides.1)?;
                match value {
                    Val::Optional(None) => Ok(Val::Optional(None)),
                    Val::Optional(Some(value)) => Ok(Val::Optional(index(&value, &key).ok().map(Rc::new))),
                    value if *absent => Ok(Val::Optional(index(&value, &key).ok().map(Rc::new))),
                    value => index(&value, &key),
                }
            }
            Node::If(parts) => {
                if self.holds(&parts.0)? {
                    self.value(&parts.1)
                } else {
                    self.value(&parts.2)
                }
            }
            Node::And(sides) => self.either(sides, false),
            Node::Or(sides) => self.either(sides, true),
            Node::Not(operand) => Ok(Val::Bool(!self.holds(operand)?)),
            Node::Negate(operand) => match self.value(operand)? {
                Val::Int(value) => value.checked_neg().map(Val::Int).ok_or_else(overflow),
                Val::Double(value) => Ok(Val::Double(-value)),
                _ => Err(Failure::overload()),
            },
            Node::NotFalse(operand) => Ok(Val::Bool(self.holds(operand).unwrap_or(true))),
            Node::Binary(operator, sides) => {
                let one = self.value(&sides.0)?;
                let other = self.value(&sides.1)?;
                binary(*operator, one, other)
            }
            Node::Gather(number, element) => {
                let element = self.value(element)?;
                let gathered = self
                    .locals
                    .get_mut(*number)
                    .map(|slot| std::mem::replace(slot, Val::Null));
                let Some(Val::List(mut items)) = gathered else {
                    return Err(Failure::overload());
                };
                bounds::element()?;
                Rc::make_mut(&mut items).push(element);
                Ok(Val::List(items))
            }
            Node::Kept(operand) => {
                let value = self.value(operand)?;
                bounds::kept(&value)?;
                Ok(value)
            }
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Loop(each) => {
                let depth = self.locals.len();
                let answer = self.turn(each);
                // An error in it may be swallowed further out.
                self.locals.truncate(depth);
                answer
            }
            Node::Native(native, operands) => {
                let mut values = smallvec::SmallVec::<[Val<'a>; 3]>::new();
                for operand in operands {
                    values.push(self.value(operand)?);
                }
                match native.call(&values) {
                    Some(answer) => answer,
                    // Of other types; the library may know it.
                    None => Err(Failure::overload()),
                }
            }
            Node::Library(library) => self.library(library),
        }
    }

    /// Whether an expression that has to be one or the other is true.
    pub(crate) fn holds(&mut self, node: &'a Node) -> Result<bool, Failure> {
        match self.value(node)? {
            Val::Bool(value) => Ok(value),
            _ => Err(Failure::overload()),
        }
    }

    /// `||` where `decides` is true, `&&` where it is false: one side decides, even when the other fails.
    fn either(&mut self, sides: &'a (Node, Node), decides: bool) -> Answer<'a> {
        let one = self.holds(&sides.0);
        if one == Ok(decides) {
            return Ok(Val::Bool(decides));
        }
        let other = self.holds(&sides.1);
        if other == Ok(decides) {
            return Ok(Val::Bool(decides));
        }
        one.and(other).map(Val::Bool)
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Answer<'a> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match self.value(element)? {
                Val::Optional(None) if *optional => {}
                Val::Optional(Some(value)) if *optional => items.push(value.as_ref().clone()),
                value => items.push(value),
            }
        }
        Ok(Val::List(Rc::new(items)))
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)]) -> Answer<'a> {
        let mut made: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            if !matches!(key, Val::Bool(_) | Val::Int(_) | Val::Uint(_)) && key.text().is_none() {
                return Err(Failure::told("unsupported key type"));
            }
            let value = match self.value(value)? {
                Val::Optional(None) if *optional => continue,
                Val::Optional(Some(value)) if *optional => value.as_ref().clone(),
                value => value,
            };
            if made.iter().any(|(known, _)| known.equals(&key)) {
                return Err(Failure::told("a map has the same key twice"));
            }
            made.push((key, value));
        }
        Ok(Val::Map(Rc::new(made)))
    }

    fn turn(&mut self, each: &'a Loop) -> Answer<'a> {
        let range = self.value(&each.range)?;
        let first = self.value(&each.first)?;
        let keys = range.keys();
        let mut items = range.items();
        if keys.is_none() && items.is_none() {
            return Err(Failure::overload());
        }
        let mut keys = keys.unwrap_or_default().into_iter();
        let element = each.gathers + 1;
        self.locals.truncate(each.gathers);
        self.locals.extend([first, Val::Null]);
        while let Some(item) = items.as_mut().map_or_else(|| keys.next(), Iterator::next) {
            self.turns = self.turns.wrapping_add(1);
            if self.turns.is_multiple_of(TURNS) && is_over(self.end) {
                return Err(Failure::told("the time is up"));
            }
            if !self.holds(&each.condition)? {
                break;
            }
            if let Some(slot) = self.locals.get_mut(element) {
                *slot = item;
            }
            let gathered = self.value(&each.step)?;
            if let Some(slot) = self.locals.get_mut(each.gathers) {
                *slot = gathered;
            }
        }
        self.value(&each.result)
    }

    fn library(&mut self, library: &'a Library) -> Answer<'a> {
        let mut context = FUNCTIONS.new_inner_scope();
        for (name, operand) in library.names.iter().zip(&library.operands) {
            context.add_variable_from_value(name.as_str(), self.value(operand)?.to_library());
        }
        context
            .resolve(&library.call)
            .map(Val::from_library)
            .map_err(Failure::told)
    }
}

/// A field of a value. What has no fields has not this one.
fn select<'a>(value: &Val<'a>, field: &str) -> Answer<'a> {
    let missing = || Failure::NoSuchKey(field.to_owned());
    match value {
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(value)) => Ok(Val::Optional(value.field(field).map(Rc::new))),
        value if value.items().is_some() => Err(Failure::told("unsupported index type 'string' in list")),
        value => value.field(field).ok_or_else(missing),
    }
}

/// An element of a list or an entry of a map.
fn index<'a>(value: &Val<'a>, key: &Val<'_>) -> Answer<'a> {
    if let Some(mut items) = value.items() {
        let place = match key {
            Val::Int(place) => i128::from(*place),
            Val::Uint(place) => i128::from(*place),
            _ => return Err(Failure::overload()),
        };
        let item = usize::try_from(place).ok().and_then(|place| items.nth(place));
        return item.ok_or_else(|| Failure::Told(format!("index out of bounds: {place}")));
    }
    if !value.is_map() {
        return Err(Failure::overload());
    }
    value.entry(key).ok_or_else(|| {
        Failure::NoSuchKey(match key {
            Val::Bool(key) => key.to_string(),
            Val::Int(key) => key.to_string(),
            Val::Uint(key) => key.to_string(),
            key => key.text().unwrap_or_default().to_owned(),
        })
    })
}

fn overflow() -> Failure {
    Failure::told("integer overflow")
}

fn binary<'a>(operator: Operator, one: Val<'a>, other: Val<'a>) -> Answer<'a> {
    let order = |holds: fn(std::cmp::Ordering) -> bool| {
        one.order(&other)
            .map(|order| Val::Bool(holds(order)))
            .ok_or_else(Failure::overload)
    };
    match operator {
        Operator::Equal => Ok(Val::Bool(one.equals(&other))),
        Operator::Different => Ok(Val::Bool(!one.equals(&other))),
        Operator::Less => order(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order(std::cmp::Ordering::is_le),
        Operator::Greater => order(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order(std::cmp::Ordering::is_ge),
        Operator::In => match other.items() {
            Some(mut items) => Ok(Val::Bool(items.any(|item| item.equals(&one)))),
            None if other.is_map() => Ok(Val::Bool(other.entry(&one).is_some())),
            None => Err(Failure::overload()),
        },
        Operator::Add => add(one, other),
        Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
            arithmetic(operator, one, other)
        }
    }
}

fn add<'a>(one: Val<'a>, other: Val<'a>) -> Answer<'a> {
    if let (Some(one), Some(other)) = (one.text(), other.text()) {
        return Ok(Val::Made([one, other].concat().into()));
    }
    if let (Some(first), Some(second)) = (one.items(), other.items()) {
        if second.size_hint().0 == 0 {
            return Ok(one);
        }
        return Ok(Val::List(Rc::new(first.chain(second).collect())));
    }
    arithmetic(Operator::Add, one, other)
}

/// Whole numbers of both kinds are reckoned alike; `None` for what has no place in theirs.
macro_rules! checked {
    ($operator:expr, $one:expr, $other:expr) => {
        match $operator {
            Operator::Subtract => $one.checked_sub($other),
            Operator::Multiply => $one.checked_mul($other),
            Operator::Divide => $one.checked_div($other),
            Operator::Modulo => $one.checked_rem($other),
            _ => $one.checked_add($other),
        }
    };
}

fn arithmetic<'a>(operator: Operator, one: Val<'a>, other: Val<'a>) -> Answer<'a> {
    match (one, other) {
        (Val::Int(one), Val::Int(other)) => {
            zero(operator, other == 0)?;
            checked!(operator, one, other).map(Val::Int).ok_or_else(overflow)
        }
        (Val::Uint(one), Val::Uint(other)) => {
            zero(operator, other == 0)?;
            checked!(operator, one, other)
                .map(Val::Uint)
                .ok_or_else(|| Failure::told("unsigned integer overflow"))
        }
        (Val::Double(one), Val::Double(other)) => Ok(Val::Double(match operator {
            Operator::Subtract => one - other,
            Operator::Multiply => one * other,
            Operator::Divide => one / other,
            Operator::Modulo => return Err(Failure::overload()),
            _ => one + other,
        })),
        (Val::Other(one), Val::Other(other)) => {
            let result = match operator {
                Operator::Subtract => one - other,
                Operator::Add if !matches!((&one, &other), (Value::Bytes(_), _)) => one + other,
                Operator::Add => return bytes(&one, &other),
                _ => return Err(Failure::overload()),
            };
            result.map(Val::from_library).map_err(Failure::told)
        }
        _ => Err(Failure::overload()),
    }
}

fn bytes<'a>(one: &Value, other: &Value) -> Answer<'a> {
    match (one, other) {
        (Value::Bytes(one), Value::Bytes(other)) => Ok(Val::Other([one.as_slice(), other.as_slice()].concat().into())),
        _ => Err(Failure::overload()),
    }
}

fn zero(operator: Operator, is_zero: bool) -> Result<(), Failure> {
    match operator {
        Operator::Divide if is_zero => Err(Failure::told("division by zero")),
        Operator::Modulo if is_zero => Err(Failure::told("modulus by zero")),
        _ => Ok(()),
    }
}
