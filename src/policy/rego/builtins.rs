//! Builtin functions that OPA has and the engine lacks, or has differently.
//!
//! A builtin that meets a value it is not made for is undefined, as OPA's are when they are not strict.

use regorus::{Engine, Value};
use sha2::{Digest, Sha256};

use super::sprintf::sprintf;

/// A builtin: arguments to value; `None` is undefined.
pub(super) type Builtin = fn(&[Value]) -> Option<Value>;

/// Name, number of arguments and function of each.
const BUILTINS: [(&str, u8, Builtin); 13] = [
    ("all", 1, |args| {
        let mut elements = elements(args.first()?)?;
        Some(Value::from(elements.all(|element| *element == Value::from(true))))
    }),
    ("any", 1, |args| {
        let mut elements = elements(args.first()?)?;
        Some(Value::from(elements.any(|element| *element == Value::from(true))))
    }),
    ("cast_array", 1, |args| {
        Some(Value::from(elements(args.first()?)?.cloned().collect::<Vec<_>>()))
    }),
    ("cast_boolean", 1, |args| only(args, |value| value.as_bool().is_ok())),
    ("cast_null", 1, |args| only(args, |value| *value == Value::Null)),
    ("cast_object", 1, |args| only(args, |value| value.as_object().is_ok())),
    ("cast_set", 1, |args| {
        let set: std::collections::BTreeSet<Value> = elements(args.first()?)?.cloned().collect();
        Some(Value::from(set))
    }),
    ("cast_string", 1, |args| only(args, |value| value.as_string().is_ok())),
    ("crypto.sha256", 1, |args| {
        let text = args.first()?.as_string().ok()?;
        let digest = Sha256::digest(text.as_bytes());
        Some(Value::from(
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        ))
    }),
    ("re_match", 2, |args| {
        let (pattern, value) = (args.first()?.as_string().ok()?, args.get(1)?.as_string().ok()?);
        let pattern = regex::Regex::new(pattern).ok()?;
        Some(Value::from(pattern.is_match(value)))
    }),
    ("set_diff", 2, |args| {
        let (left, right) = (args.first()?.as_set().ok()?, args.get(1)?.as_set().ok()?);
        Some(Value::from(left.difference(right)))
    }),
    ("sprintf", 2, |args| {
        let format = args.first()?.as_string().ok()?;
        Some(Value::from(sprintf(format, args.get(1)?.as_array().ok()?.as_slice())))
    }),
    ("trace", 1, |args| {
        only(args, |value| value.as_string().is_ok()).map(|_| Value::from(true))
    }),
];

/// Gives an engine the builtins.
///
/// # Errors
/// When the engine has one of the names already, which only a change of the engine could bring about.
pub(crate) fn install(engine: &mut Engine) -> Result<(), String> {
    for (name, arguments, function) in BUILTINS {
        let extension = move |args: Vec<Value>| Ok(function(&args).unwrap_or(Value::Undefined));
        engine
            .add_extension(name.to_owned(), arguments, Box::new(extension))
            .map_err(|error| format!("cannot supply builtin {name}: {error}"))?;
    }
    Ok(())
}

/// The builtin that an engine is given under this name, and how many arguments it takes.
pub(super) fn supplied(name: &str) -> Option<(u8, Builtin)> {
    let found = BUILTINS.iter().find(|(known, _, _)| *known == name);
    found.map(|(_, arguments, function)| (*arguments, *function))
}

/// Whether a function of this name exists in every policy.
pub(crate) fn exists(name: &str) -> bool {
    name == "print"
        || BUILTINS.iter().any(|(known, _, _)| *known == name)
        || regorus::unstable::BUILTINS.contains_key(name)
}

fn elements(value: &Value) -> Option<Box<dyn Iterator<Item = &Value> + '_>> {
    match value {
        Value::Array(array) => Some(Box::new(array.iter())),
        Value::Set(set) => Some(Box::new(set.iter())),
        _ => None,
    }
}

fn only(args: &[Value], accept: fn(&Value) -> bool) -> Option<Value> {
    args.first().filter(|value| accept(value)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expect: &str) {
        let mut engine = Engine::new();
        engine.set_rego_v0(true);
        engine.set_strict_builtin_errors(false);
        install(&mut engine).unwrap();
        engine
            .add_policy("x.rego".into(), format!("package x\nr = v {{ v := {expression} }}"))
            .unwrap();
        let value = engine.eval_rule("data.x.r".into()).unwrap();
        assert_eq!(value.to_string(), expect, "{expression}");
    }

    #[test]
    fn what_opa_has_is_supplied() {
        check("all([true, true])", "true");
        check("all([true, 1])", "false");
        check("all([])", "true");
        check("any({false})", "false");
        check("any([false, true])", "true");
        check(r#"re_match("^a.c$", "abc")"#, "true");
        check(r#"re_match("(", "abc")"#, "\"<undefined>\"");
        check("set_diff({1, 2}, {2})", "[1]");
        check("cast_array({2, 1})", "[1,2]");
        check("cast_boolean(1)", "\"<undefined>\"");
        check(
            r#"crypto.sha256("")"#,
            "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
        );
        check(r#"sprintf("%v of %d", ["a"])"#, "\"a of %!d(MISSING)\"");
        assert!(exists("startswith") && exists("any") && exists("print") && !exists("http.send"));
    }
}
