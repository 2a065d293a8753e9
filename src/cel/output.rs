//! What an expression gives, as far as its text tells: Flux's compiler refuses a `readyExpr` whose result it cannot tell to
//! be a boolean, so that a field of unknown type has to be compared (`dep.status.ok == true`).

use kube_cel::cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

/// Operators that give a boolean.
const BOOLEAN: [&str; 11] = [
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
];
/// Operators that give a number, a text, a list: never a boolean.
const OTHER: [&str; 6] = [
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
];

/// The type of the result when it cannot be a boolean for certain, in CEL's words; `None` when it can. Functions are
/// trusted: what they really give shows when they are asked.
pub(super) fn not_boolean(expression: &IdedExpr) -> Option<&'static str> {
    match &expression.expr {
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => None,
            LiteralValue::Bytes(_) => Some("bytes"),
            LiteralValue::Double(_) => Some("double"),
            LiteralValue::Int(_) => Some("int"),
            LiteralValue::Null => Some("null"),
            LiteralValue::String(_) => Some("string"),
            LiteralValue::UInt(_) => Some("uint"),
        },
        Expr::Ident(_) => Some("map(string, dyn)"),
        Expr::Select(select) => (!select.test).then_some("dyn"),
        Expr::List(_) => Some("list"),
        Expr::Map(_) => Some("map"),
        Expr::Comprehension(each) => match &each.result.expr {
            Expr::Ident(name) if *name == each.accu_var => not_boolean(&each.accu_init),
            _ => not_boolean(&each.result),
        },
        Expr::Call(call) => match call.func_name.as_str() {
            name if BOOLEAN.contains(&name) => None,
            name if OTHER.contains(&name) => Some("dyn"),
            operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => Some("dyn"),
            operators::CONDITIONAL => call.args.iter().skip(1).find_map(not_boolean),
            _ => None,
        },
        Expr::Struct(_) | Expr::Unspecified => Some("dyn"),
    }
}
