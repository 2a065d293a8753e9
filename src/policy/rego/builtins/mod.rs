//! Builtin functions that OPA has and the engine lacks, has differently, or would let run without bounds.
//!
//! A builtin that meets a value it is not made for is undefined, as OPA's are when they are not strict. What would make too
//! much is refused before it is made, and fails the evaluation ([`meter`]).

mod collections;
mod crypto;
mod engine;
mod glob;
mod keys;
pub(super) mod meter;
mod net;
mod numbers;
pub(super) mod operators;
mod regex;
mod schema;
mod strings;
mod text_template;
mod uri;
mod x509;

use regorus::{Engine, Value};

use super::sprintf::sprintf;
use meter::ELEMENT;

pub(super) use engine::Bounded;

/// A builtin: arguments to value; `None` is undefined.
pub(super) type Builtin = fn(&[Value]) -> Option<Value>;

/// Name, number of arguments and function of each.
const BUILTINS: [(&str, u8, Builtin); 70] = [
    ("all", 1, |args| {
        let mut elements = elements(args.first()?)?;
        Some(Value::from(elements.all(|element| *element == Value::from(true))))
    }),
    ("any", 1, |args| {
        let mut elements = elements(args.first()?)?;
        Some(Value::from(elements.any(|element| *element == Value::from(true))))
    }),
    ("array.flatten", 1, collections::flatten),
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
    ("crypto.hmac.equal", 2, crypto::hmac_equal),
    ("crypto.hmac.md5", 2, crypto::hmac_md5),
    ("crypto.hmac.sha1", 2, crypto::hmac_sha1),
    ("crypto.hmac.sha256", 2, crypto::hmac_sha256),
    ("crypto.hmac.sha512", 2, crypto::hmac_sha512),
    ("crypto.md5", 1, crypto::md5),
    ("crypto.parse_private_keys", 1, keys::parse),
    ("crypto.sha1", 1, crypto::sha1),
    ("crypto.sha256", 1, crypto::sha256),
    ("crypto.x509.parse_and_verify_certificates", 1, x509::verified),
    (
        "crypto.x509.parse_and_verify_certificates_with_options",
        2,
        x509::verified_with,
    ),
    ("crypto.x509.parse_certificate_request", 1, x509::request),
    ("crypto.x509.parse_certificates", 1, x509::certificates),
    ("crypto.x509.parse_keypair", 2, x509::pair),
    ("crypto.x509.parse_rsa_private_key", 1, keys::rsa),
    ("glob.match", 3, glob::is_match),
    ("glob.quote_meta", 1, glob::quote_meta),
    ("graph.reachable_paths", 2, collections::reachable_paths),
    ("internal.divide", 2, operators::divide),
    ("internal.held", 1, operators::held),
    ("internal.intersection", 2, operators::intersection),
    ("internal.kept", 1, operators::kept),
    ("internal.minus", 2, operators::minus),
    ("internal.plus", 2, operators::plus),
    ("internal.remainder", 2, operators::remainder),
    ("internal.template_string", 1, strings::template),
    ("internal.times", 2, operators::times),
    ("internal.union", 2, operators::union),
    ("json.is_valid", 1, strings::is_json),
    ("json.match_schema", 2, schema::matches),
    ("json.verify_schema", 1, schema::verify),
    ("net.cidr_contains", 2, net::contains),
    ("net.cidr_contains_matches", 2, net::contains_matches),
    ("net.cidr_expand", 1, net::expand),
    ("net.cidr_intersects", 2, net::intersects),
    ("net.cidr_is_valid", 1, net::is_valid),
    ("net.cidr_merge", 1, net::merge),
    ("net.cidr_overlap", 2, net::contains),
    ("numbers.range", 2, numbers::range),
    ("numbers.range_step", 3, numbers::range_step),
    ("product", 1, operators::product),
    ("re_match", 2, regex::is_match),
    ("regex.find_all_string_submatch_n", 3, regex::find_all_submatches),
    ("regex.find_n", 3, regex::find_n),
    ("regex.globs_match", 2, glob::intersect),
    ("regex.is_valid", 1, regex::is_valid),
    ("regex.match", 2, regex::is_match),
    ("regex.replace", 3, regex::replace),
    ("regex.split", 2, regex::split),
    ("regex.template_match", 4, regex::template_match),
    ("set_diff", 2, |args| {
        let (left, right) = (args.first()?.as_set().ok()?, args.get(1)?.as_set().ok()?);
        Some(Value::from(left.difference(right)))
    }),
    ("sprintf", 2, |args| {
        let made = sprintf(text(args, 0)?, args.get(1)?.as_array().ok()?.as_slice());
        meter::charge("sprintf", made.len())?;
        Some(Value::from(made))
    }),
    ("strings.count", 2, strings::count),
    ("strings.render_template", 2, text_template::render),
    ("time.parse_duration_ns", 1, strings::duration),
    ("trace", 1, |args| {
        only(args, |value| value.as_string().is_ok()).map(|_| Value::from(true))
    }),
    ("union", 1, collections::union),
    ("uri.is_valid", 1, uri::is_valid),
    ("uri.parse", 1, uri::parts),
    ("walk", 1, collections::walk),
    ("yaml.is_valid", 1, strings::is_yaml),
];

/// Gives an engine the builtins.
///
/// # Errors
/// When the engine has one of the names already, which only a change of the engine could bring about.
pub(crate) fn install(engine: &mut Engine) -> Result<(), String> {
    let failed = |name: &str, error: anyhow::Error| format!("cannot supply builtin {name}: {error}");
    for (name, arguments, function) in BUILTINS {
        let extension = move |args: Vec<Value>| Ok(function(&args).unwrap_or(Value::Undefined));
        engine
            .add_extension(name.to_owned(), arguments, Box::new(extension))
            .map_err(|error| failed(name, error))?;
    }
    for bounded in engine::bounded() {
        let (name, arguments) = (bounded.name, bounded.arguments);
        let extension = move |args: Vec<Value>| Ok(bounded.call(&args).unwrap_or(Value::Undefined));
        engine
            .add_extension(name.to_owned(), arguments, Box::new(extension))
            .map_err(|error| failed(name, error))?;
    }
    Ok(())
}

/// A builtin that is not the engine's, or the engine's with bounds around it.
#[derive(Clone, Copy)]
pub(super) enum Supplied {
    Ours(Builtin),
    Bounded(&'static Bounded),
}

impl Supplied {
    /// The result; `None` when it is undefined.
    pub(super) fn call(self, arguments: &[Value]) -> Option<Value> {
        match self {
            Self::Ours(function) => function(arguments),
            Self::Bounded(function) => function.call(arguments),
        }
    }
}

/// The builtin that an engine is given under this name, and how many arguments it takes.
pub(super) fn supplied(name: &str) -> Option<(u8, Supplied)> {
    let found = BUILTINS.iter().find(|(known, _, _)| *known == name);
    let ours = found.map(|(_, arguments, function)| (*arguments, Supplied::Ours(*function)));
    ours.or_else(|| {
        let bounded = engine::bounded().iter().find(|bounded| bounded.name == name)?;
        Some((bounded.arguments, Supplied::Bounded(bounded)))
    })
}

/// Whether a function of this name exists in every policy.
pub(crate) fn exists(name: &str) -> bool {
    arguments(name).is_some() || name == "print"
}

/// How many arguments a builtin takes; `None` where there is none of this name, or it takes any number.
pub(crate) fn arguments(name: &str) -> Option<usize> {
    let ours = BUILTINS.iter().find(|(known, _, _)| *known == name);
    let ours = ours.map(|(_, arguments, _)| *arguments);
    ours.or_else(|| regorus::unstable::BUILTINS.get(name).map(|(_, arguments)| *arguments))
        .map(usize::from)
}

/// Whether a builtin is one that the engine does not have.
pub(crate) fn is_ours(name: &str) -> bool {
    let ours = BUILTINS.iter().any(|(known, _, _)| *known == name);
    ours && !regorus::unstable::BUILTINS.contains_key(name)
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

fn text(args: &[Value], index: usize) -> Option<&str> {
    args.get(index)?.as_string().ok().map(AsRef::as_ref)
}

fn integer(args: &[Value], index: usize) -> Option<i128> {
    let number = args.get(index)?.as_number().ok()?;
    number.as_i128().filter(|_| number.is_integer())
}

/// An array, counted while it grows.
fn array(builtin: &str, items: impl Iterator<Item = Value>) -> Option<Value> {
    let mut found = Vec::new();
    for item in items {
        let inner = if let Value::String(text) = &item { text.len() } else { 0 };
        meter::charge(builtin, ELEMENT + inner)?;
        found.push(item);
    }
    Some(Value::from(found))
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
