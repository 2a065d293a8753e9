//! Builtin functions as compiled rules call them: ours where there is one, else the engine's.

use std::sync::LazyLock;

use regorus::unstable::{BUILTINS, BuiltinFcn, Expr as Ast, Ref, Span};
use regorus::{Source, Value};

use super::super::builtins::{self, Supplied};
use super::Stop;

/// Builtins that are the engine's business: they are remembered for a whole query, or write.
const LEFT_OUT: [&str; 6] = [
    "print",
    "trace",
    "opa.runtime",
    "rand.intn",
    "time.now_ns",
    "uuid.rfc4122",
];
/// Most arguments of a builtin of the engine.
const MAX_ARGUMENTS: usize = 8;

/// What builtins of the engine want to know for their errors, which nobody sees: a failed builtin is undefined.
static PLACE: LazyLock<Option<(Span, Vec<Ref<Ast>>)>> = LazyLock::new(|| {
    let source = Source::from_contents("builtin".to_owned(), "null".to_owned()).ok()?;
    let span = Span {
        source,
        line: 1,
        col: 1,
        start: 0,
        end: 4,
    };
    let node = Ref::new(Ast::Null {
        span: span.clone(),
        value: Value::Null,
        eidx: 0,
    });
    Some((span, vec![node; MAX_ARGUMENTS]))
});

/// A builtin.
#[derive(Clone, Copy)]
pub(super) enum Function {
    Ours(Supplied),
    Engine(BuiltinFcn),
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Function")
    }
}

impl Function {
    /// Finds a builtin that takes so many arguments.
    pub(super) fn find(name: &str, arguments: usize) -> Option<Self> {
        if LEFT_OUT.contains(&name) {
            return None;
        }
        if let Some((arity, function)) = builtins::supplied(name) {
            return (usize::from(arity) == arguments).then_some(Self::Ours(function));
        }
        let function = BUILTINS.get(name)?;
        (usize::from(function.1) == arguments).then_some(Self::Engine(*function))
    }

    /// The result; `None` when it is undefined.
    pub(super) fn call(&self, arguments: &[Value]) -> Result<Option<Value>, Stop> {
        let result = match self {
            Self::Ours(function) => return Ok(function.call(arguments)),
            Self::Engine(function) => {
                let (span, places) = PLACE.as_ref().ok_or(Stop::Failed)?;
                let places = places.get(..arguments.len()).ok_or(Stop::Failed)?;
                (function.0)(span, places, arguments, false)
            }
        };
        match result {
            Ok(Value::Undefined) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is::<regorus::LimitError>() => Err(Stop::Failed),
            Err(_) => Ok(None),
        }
    }
}
