//! Expressions as they are evaluated: names are numbers, what is known of a call is decided.
//!
//! Flow: [`Table`] gathers the names that a group of expressions shares; [`compile`] turns a checked expression into a
//! [`Node`]. `run` evaluates it.
//!
//! Assumes an expression that `check` has let through. What it does not know is refused here, never guessed.

use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use kube_cel::cel::{Context, ExecutionError};

use super::bounds::KEPT;
use super::calls::Native;

/// Deepest expression. Brackets are bounded by the parser, chains such as `1 + 1 + …` only here: each operator takes some
/// hundred bytes of stack, and the smallest stack that evaluates has two megabytes.
const MAX_NESTING: usize = 256;

/// Names of variables that come from outside, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    names: Vec<String>,
}

impl Table {
    /// The number of a name, which it has from now on.
    pub(crate) fn number(&mut self, name: &str) -> usize {
        self.find(name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    /// The number of a name, if an expression uses it.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// The name of a number.
    pub(super) fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("", String::as_str)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// A step of an evaluation.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number with a `u`.
    Uint(u64),
    /// A fraction.
    Double(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A variable from outside.
    Outer(usize),
    /// A variable of a loop, counted from the outermost.
    Local(usize),
    /// `operand.field`.
    Select(Box<Node>, String),
    /// `has(operand.field)`.
    Has(Box<Node>, String),
    /// `operand[index]`; whether what is missing is absent rather than wrong.
    Index(Box<(Node, Node)>, bool),
    /// `condition ? one : other`.
    If(Box<(Node, Node, Node)>),
    /// `&&`.
    And(Box<(Node, Node)>),
    /// `||`.
    Or(Box<(Node, Node)>),
    /// `!`.
    Not(Box<Node>),
    /// `-`.
    Negate(Box<Node>),
    /// Whether it is not false, errors included.
    NotFalse(Box<Node>),
    /// An operator with two sides.
    Binary(Operator, Box<(Node, Node)>),
    /// A loop adds an element to the list that it gathers.
    Gather(usize, Box<Node>),
    /// What becomes part of something larger is counted.
    Kept(Box<Node>),
    /// A list; whether an element is left out when it is absent.
    List(Vec<(Node, bool)>),
    /// A map, likewise.
    Map(Vec<(Node, Node, bool)>),
    /// A loop.
    Loop(Box<Loop>),
    /// A function that is ours; the target is its first argument.
    Native(Native, Vec<Node>),
    /// A function of the library.
    Library(Box<Library>),
}

/// An operator that asks nothing but its two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `==`
    Equal,
    /// `!=`
    Different,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
}

/// A loop over the elements of a list or the keys of a map.
#[derive(Debug, Clone)]
pub(crate) struct Loop {
    /// What it goes over.
    pub(super) range: Node,
    /// The number of the variable in which it gathers; the element's is the next.
    pub(super) gathers: usize,
    /// What it begins with.
    pub(super) first: Node,
    /// Whether it goes on.
    pub(super) condition: Node,
    /// What is gathered then.
    pub(super) step: Node,
    /// What comes of it.
    pub(super) result: Node,
}

/// A call of one of the library's functions.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    /// The target, when there is one, then the arguments.
    pub(super) operands: Vec<Node>,
    /// The names that the call has for them.
    pub(super) names: Vec<String>,
    /// The call, of variables with these names.
    pub(super) call: IdedExpr,
}

/// Turns an expression into what is evaluated.
pub(super) fn compile(expression: &IdedExpr, table: &mut Table, functions: &Context<'_>) -> Result<Node, String> {
    let mut compiler = Compiler {
        table,
        functions,
        locals: Vec::new(),
        depth: 0,
    };
    compiler.node(expression)
}

struct Compiler<'a> {
    table: &'a mut Table,
    functions: &'a Context<'a>,
    /// Variables of the loops around, innermost last.
    locals: Vec<String>,
    depth: usize,
}

impl Compiler<'_> {
    fn node(&mut self, expression: &IdedExpr) -> Result<Node, String> {
        if self.depth >= MAX_NESTING {
            return Err(format!("is nested more than {MAX_NESTING} deep; use variables"));
        }
        self.depth += 1;
        let node = self.part(expression);
        self.depth -= 1;
        node
    }

    fn part(&mut self, expression: &IdedExpr) -> Result<Node, String> {
        Ok(match &expression.expr {
            Expr::Unspecified | Expr::Struct(_) => return Err("has a part that cannot be evaluated here".to_owned()),
            Expr::Literal(literal) => match literal {
                LiteralValue::Null => Node::Null,
                LiteralValue::Boolean(value) => Node::Bool(*value.inner()),
                LiteralValue::Int(value) => Node::Int(*value.inner()),
                LiteralValue::UInt(value) => Node::Uint(*value.inner()),
                LiteralValue::Double(value) => Node::Double(*value.inner()),
                LiteralValue::String(value) => Node::Text(value.inner().to_owned()),
                LiteralValue::Bytes(value) => Node::Bytes(value.inner().to_vec()),
            },
            Expr::Ident(name) => match self.local(name) {
                Some(number) => Node::Local(number),
                None => Node::Outer(self.table.number(name)),
            },
            Expr::Select(select) => {
                let operand = Box::new(self.node(&select.operand)?);
                if select.test {
                    Node::Has(operand, select.field.clone())
                } else {
                    Node::Select(operand, select.field.clone())
                }
            }
            Expr::List(list) => {
                let elements = list.elements.iter().enumerate();
                let elements =
                    elements.map(|(index, element)| Ok((self.node(element)?, list.optional_indices.contains(&index))));
                Node::List(elements.collect::<Result<_, String>>()?)
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        Ok((self.node(&entry.key)?, self.node(&entry.value)?, entry.optional))
                    }
                    EntryExpr::StructField(_) => Err("messages cannot be made here".to_owned()),
                });
                Node::Map(entries.collect::<Result<_, _>>()?)
            }
            Expr::Comprehension(each) => self.comprehension(each)?,
            Expr::Call(call) => self.call(call)?,
        })
    }

    /// The innermost variable of a loop with this name.
    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().rposition(|local| local == name)
    }

    fn comprehension(&mut self, each: &ComprehensionExpr) -> Result<Node, String> {
        if each.iter_var2.is_some() {
            return Err("has a loop with two variables, which is not supported here".to_owned());
        }
        let (range, first) = (self.node(&each.iter_range)?, self.node(&each.accu_init)?);
        let gathers = self.locals.len();
        self.locals.extend([each.accu_var.clone(), each.iter_var.clone()]);
        let parts = [&each.loop_cond, &each.loop_step, &each.result].map(|part| self.node(part));
        self.locals.truncate(gathers);
        let [condition, step, result] = parts;
        Ok(Node::Loop(Box::new(Loop {
            range,
            gathers,
            first,
            condition: condition?,
            step: step?,
            result: result?,
        })))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Node, String> {
        if call.target.is_none()
            && let Some(node) = self.operator(call)?
        {
            return Ok(node);
        }
        let prefix = match call.target.as_ref().map(|target| &target.expr) {
            Some(Expr::Ident(prefix)) => Some(format!("{prefix}.{}", call.func_name)),
            _ => None,
        };
        let qualified = prefix.filter(|name| exists(self.functions, name));
        let target = call.target.as_ref().filter(|_| qualified.is_none());
        let operands = target.map(|target| &**target).into_iter().chain(&call.args);
        let operands: Vec<Node> = operands.map(|operand| self.node(operand)).collect::<Result<_, _>>()?;
        if qualified.is_none()
            && let Some(native) = Native::find(&call.func_name, target.is_some(), operands.len())
        {
            return Ok(Node::Native(native, operands));
        }
        let names: Vec<String> = (0..operands.len()).map(|index| format!("@{index}")).collect();
        let of = |expr: Expr| IdedExpr { id: 0, expr };
        let mut named = names.iter().map(|name| of(Expr::Ident(name.clone())));
        let target = match (&call.target, target) {
            (_, Some(_)) => named.next(),
            // The name of a group of functions, as in `sets.contains`.
            (group, None) => group.as_deref().cloned(),
        };
        let call = of(Expr::Call(CallExpr {
            func_name: call.func_name.clone(),
            target: target.map(Box::new),
            args: named.collect(),
        }));
        Ok(Node::Library(Box::new(Library { operands, names, call })))
    }

    fn operator(&mut self, call: &CallExpr) -> Result<Option<Node>, String> {
        Ok(match call.args.as_slice() {
            [operand] => match call.func_name.as_str() {
                operators::LOGICAL_NOT => Some(Node::Not(Box::new(self.node(operand)?))),
                operators::NEGATE => Some(Node::Negate(Box::new(self.node(operand)?))),
                operators::NOT_STRICTLY_FALSE => Some(Node::NotFalse(Box::new(self.node(operand)?))),
                KEPT => Some(Node::Kept(Box::new(self.node(operand)?))),
                _ => None,
            },
            [one, other] => {
                let name = call.func_name.as_str();
                if name == operators::ADD
                    && let Some(gathered) = self.gathered(one, other)?
                {
                    return Ok(Some(gathered));
                }
                if !name.starts_with('_') && name != operators::IN {
                    return Ok(None);
                }
                let sides = Box::new((self.node(one)?, self.node(other)?));
                Some(match name {
                    operators::LOGICAL_AND => Node::And(sides),
                    operators::LOGICAL_OR => Node::Or(sides),
                    operators::INDEX => Node::Index(sides, false),
                    operators::OPT_INDEX | operators::OPT_SELECT => Node::Index(sides, true),
                    _ => match Operator::find(name) {
                        Some(operator) => Node::Binary(operator, sides),
                        None => return Err(format!("has the operator {name}, which is not known here")),
                    },
                })
            }
            [condition, one, other] if call.func_name == operators::CONDITIONAL => {
                let parts = (self.node(condition)?, self.node(one)?, self.node(other)?);
                Some(Node::If(Box::new(parts)))
            }
            _ => None,
        })
    }

    /// `gathered + [element]`, as the macros write it. Without this each turn of a loop would copy the list.
    fn gathered(&mut self, one: &IdedExpr, other: &IdedExpr) -> Result<Option<Node>, String> {
        let (Expr::Ident(name), Expr::List(list)) = (&one.expr, &other.expr) else {
            return Ok(None);
        };
        // No expression can write this name.
        if !name.starts_with('@') || !list.optional_indices.is_empty() {
            return Ok(None);
        }
        match (self.local(name), list.elements.as_slice()) {
            (Some(number), [element]) => Ok(Some(Node::Gather(number, Box::new(self.node(element)?)))),
            _ => Ok(None),
        }
    }
}

impl Operator {
    fn find(name: &str) -> Option<Self> {
        Some(match name {
            operators::EQUALS => Self::Equal,
            operators::NOT_EQUALS => Self::Different,
            operators::LESS => Self::Less,
            operators::LESS_EQUALS => Self::LessOrEqual,
            operators::GREATER => Self::Greater,
            operators::GREATER_EQUALS => Self::GreaterOrEqual,
            operators::IN => Self::In,
            operators::ADD => Self::Add,
            operators::SUBSTRACT => Self::Subtract,
            operators::MULTIPLY => Self::Multiply,
            operators::DIVIDE => Self::Divide,
            operators::MODULO => Self::Modulo,
            _ => return None,
        })
    }
}

/// Whether the library has a function. A call without arguments tells by its error.
pub(super) fn exists(functions: &Context<'_>, function: &str) -> bool {
    let call = Expr::Call(CallExpr {
        func_name: function.to_owned(),
        target: None,
        args: Vec::new(),
    });
    let answer = functions.resolve(&IdedExpr { id: 0, expr: call });
    !matches!(answer, Err(ExecutionError::UndeclaredReference(_)))
}

/// Every variable from outside that a node asks.
pub(crate) fn outer(node: &Node, found: &mut Vec<usize>) {
    match node {
        Node::Outer(number) => {
            if !found.contains(number) {
                found.push(*number);
            }
        }
        Node::Null | Node::Bool(_) | Node::Int(_) | Node::Uint(_) | Node::Double(_) | Node::Text(_) => {}
        Node::Bytes(_) | Node::Local(_) => {}
        Node::Select(one, _) | Node::Has(one, _) | Node::Not(one) | Node::Negate(one) => outer(one, found),
        Node::NotFalse(one) | Node::Gather(_, one) | Node::Kept(one) => outer(one, found),
        Node::Index(two, _) | Node::And(two) | Node::Or(two) | Node::Binary(_, two) => {
            outer(&two.0, found);
            outer(&two.1, found);
        }
        Node::If(parts) => [&parts.0, &parts.1, &parts.2]
            .into_iter()
            .for_each(|part| outer(part, found)),
        Node::List(elements) => elements.iter().for_each(|(element, _)| outer(element, found)),
        Node::Map(entries) => entries.iter().for_each(|(key, value, _)| {
            outer(key, found);
            outer(value, found);
        }),
        Node::Loop(each) => [&each.range, &each.first, &each.condition, &each.step, &each.result]
            .into_iter()
            .for_each(|part| outer(part, found)),
        Node::Native(_, operands) => operands.iter().for_each(|operand| outer(operand, found)),
        Node::Library(library) => library.operands.iter().for_each(|operand| outer(operand, found)),
    }
}
