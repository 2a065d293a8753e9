//! Modules that are evaluated together, compiled once and shared by all threads.
//!
//! Flow: [`Program::compile`] checks and prepares an engine; [`Program::session`] begins an evaluation (`session`).
//!
//! Preparing costs hundreds of microseconds and setting data undoes it. So a program that looks at the inventory keeps an
//! engine prepared with the last one; a new inventory costs one preparation, the same again none.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regorus::unstable::{Rule, RuleHead};
use regorus::{Engine, PolicyLengthConfig, Value};

use super::super::coverage::Coverage;
use super::super::inventory::Inventory;
use super::super::source::Problem;
use super::builtins;
use super::compiled::Compiled;
use super::measure::{MAX_COLUMNS, MAX_LINES};
use super::parse::{Parsed, Version};
use super::session::Session;
use super::{EngineError, fenced, guarded, lint, parse, walk};

/// Compiled modules.
pub(crate) struct Program {
    /// Prepared at load, to see that it can be, and kept where it is needed: it takes more memory than all else.
    base: OnceLock<Engine>,
    /// What the engine is made of, or why it cannot be.
    texts: Result<Vec<Text>, EngineError>,
    skeleton: Value,
    /// The rules that need no engine.
    pub(super) compiled: Compiled,
    /// The engine prepared with the last inventory, for programs that look at it.
    with_inventory: Option<Mutex<Option<(Inventory, Engine)>>>,
    /// What was evaluated, when somebody wants to know.
    coverage: OnceLock<Arc<Mutex<Coverage>>>,
}

/// What an engine is made of.
struct Text {
    origin: String,
    text: String,
    version: Version,
}

impl Program {
    /// Checks and prepares modules.
    pub(crate) fn compile(modules: &[&Parsed]) -> Result<Self, Vec<Problem>> {
        let beside: Vec<Option<Parsed>> = modules.iter().map(|parsed| parsed.beside(modules)).collect();
        let modules: Vec<&Parsed> = modules
            .iter()
            .zip(&beside)
            .map(|(parsed, beside)| beside.as_ref().unwrap_or(parsed))
            .collect();
        let modules = modules.as_slice();
        let problems = lint::lint(modules);
        if !problems.is_empty() {
            return Err(problems);
        }
        let origin = modules.first().map_or("", |parsed| parsed.origin());
        let skeleton = skeleton(modules);
        // As they were written, so that what the engine says of them has the right columns.
        let written: Vec<Text> = modules.iter().map(|parsed| Text::of(parsed)).collect();
        fenced(|| prepare(&written, &skeleton)).map_err(|error| vec![error.into_problem(origin)])?;
        let texts = modules
            .iter()
            .map(|parsed| Text::guarded(parsed))
            .collect::<Result<Vec<Text>, _>>();
        let compiled = Compiled::of(modules);
        let base = OnceLock::new();
        if !compiled.is_whole() {
            let engine = texts
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|texts| fenced(|| prepare(texts, &skeleton)));
            let engine = engine.map_err(|error| vec![error.into_problem(origin)])?;
            base.get_or_init(|| engine);
        }
        // Any mention will do: a needless preparation costs little, a missing inventory a wrong answer.
        let looks = modules
            .iter()
            .any(|parsed| parsed.text.contains("inventory") || parsed.text.contains("data["));
        Ok(Self {
            base,
            texts,
            skeleton,
            compiled,
            with_inventory: looks.then(|| Mutex::new(None)),
            coverage: OnceLock::new(),
        })
    }

    /// Notes from now on which lines are evaluated. Evaluations cost several times as much then.
    pub(crate) fn cover(&self) {
        self.coverage.get_or_init(Arc::default);
    }

    /// What was evaluated since.
    pub(crate) fn coverage(&self) -> Coverage {
        let lines = self.coverage.get();
        lines.map_or_else(Coverage::default, |lines| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    /// Whether a rule needs no engine.
    #[cfg(test)]
    pub(crate) fn is_compiled(&self, rule: &str) -> bool {
        self.compiled.entry(rule).is_some()
    }

    /// Begins an evaluation.
    pub(crate) fn session(&self, input: Value, inventory: &Inventory) -> Session<'_> {
        Session {
            program: self,
            input,
            inventory: inventory.clone(),
            engine: None,
            coverage: self.coverage.get().cloned(),
            #[cfg(test)]
            data: None,
        }
    }

    fn base(&self) -> Result<&Engine, EngineError> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let texts = self.texts.as_ref().map_err(Clone::clone)?;
        let prepared = fenced(|| prepare(texts, &self.skeleton))?;
        Ok(self.base.get_or_init(|| prepared))
    }

    pub(super) fn engine(&self, input: Value, inventory: &Inventory) -> Result<Engine, EngineError> {
        let mut engine = match &self.with_inventory {
            None => self.base()?.clone(),
            Some(cached) => self.prepared_with(inventory, cached)?,
        };
        engine.set_input(input);
        engine.set_enable_coverage(self.coverage.get().is_some());
        Ok(engine)
    }

    /// Begins an evaluation over any data.
    #[cfg(test)]
    pub(super) fn session_over(&self, input: Value, data: Value) -> Result<Session<'_>, EngineError> {
        let base = self.base()?;
        let engine = fenced(|| {
            let mut engine = base.clone();
            engine.add_data(data.clone())?;
            warm(&mut engine)?;
            engine.set_input(input.clone());
            Ok(engine)
        })?;
        Ok(Session {
            engine: Some(engine),
            data: Some(data),
            ..self.session(input, &Inventory::default())
        })
    }

    fn prepared_with(
        &self,
        inventory: &Inventory,
        cached: &Mutex<Option<(Inventory, Engine)>>,
    ) -> Result<Engine, EngineError> {
        {
            let cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, engine)) = cached.as_ref().filter(|(known, _)| known.is(inventory)) {
                return Ok(engine.clone());
            }
        }
        let base = self.base()?;
        let engine = fenced(|| {
            let mut engine = base.clone();
            engine.add_data(inventory.data())?;
            warm(&mut engine)?;
            Ok(engine)
        })?;
        let mut cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
        *cached = Some((inventory.clone(), engine.clone()));
        Ok(engine)
    }
}

impl Text {
    fn of(parsed: &Parsed) -> Self {
        Self {
            origin: parsed.origin().to_owned(),
            text: parsed.text.clone(),
            version: parsed.version,
        }
    }

    /// With guards.
    fn guarded(parsed: &Parsed) -> Result<Self, EngineError> {
        let Some(text) = guarded::guarded(&parsed.text, &parsed.current) else {
            return Ok(Self::of(parsed));
        };
        parse::module(parsed.origin(), &text, parsed.version).map_err(|problem| {
            EngineError::new(format!("the bounds cannot be written into it: {}", problem.message))
        })?;
        Ok(Self {
            text,
            ..Self::of(parsed)
        })
    }
}

/// What is there even where no rule holds: a package is an object, and so is what the name of a rule goes through. The
/// engine would leave it out.
fn skeleton(modules: &[&Parsed]) -> Value {
    let mut skeleton = Value::new_object();
    for parsed in modules {
        plant(&mut skeleton, &parsed.package);
        for rule in &parsed.current.policy {
            let (refr, inner) = match rule.as_ref() {
                Rule::Default { refr, .. } => (refr, false),
                Rule::Spec { head, .. } => match head {
                    RuleHead::Compr { refr, .. } | RuleHead::Func { refr, .. } => (refr, false),
                    RuleHead::Set { refr, .. } => (refr, true),
                },
            };
            // Sets and what lies behind variables the engine makes itself.
            let Some((mut names, true)) = walk::path(refr) else {
                continue;
            };
            names.pop();
            if !inner && !names.is_empty() {
                names.splice(0..0, parsed.package.iter().cloned());
                plant(&mut skeleton, &names);
            }
        }
    }
    skeleton
}

fn plant(into: &mut Value, path: &[String]) {
    let mut at = into;
    for name in path {
        let Ok(fields) = at.as_object_mut() else { return };
        at = fields.get_or_insert_with(Value::from(name.as_str()), Value::new_object);
    }
}

fn prepare(texts: &[Text], skeleton: &Value) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    let limits = PolicyLengthConfig::default();
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: NonZeroU32::new(MAX_COLUMNS).unwrap_or(limits.max_col),
        // Rewriting adds to a text that was measured before, so the engine's own limits are wider.
        max_file_bytes: limits
            .max_file_bytes
            .saturating_mul(std::num::NonZeroUsize::new(4).unwrap_or(limits.max_lines)),
        max_lines: std::num::NonZeroUsize::new(usize::try_from(MAX_LINES)? + 1).unwrap_or(limits.max_lines),
    });
    // OPA's builtins are undefined when they fail, and so are ours.
    engine.set_strict_builtin_errors(false);
    // Otherwise `print` writes to standard error.
    engine.set_gather_prints(true);
    builtins::install(&mut engine).map_err(anyhow::Error::msg)?;
    for text in texts {
        engine.set_rego_v0(text.version == Version::V0);
        engine.add_policy(text.origin.clone(), text.text.clone())?;
    }
    engine.add_data(skeleton.clone())?;
    warm(&mut engine)?;
    Ok(engine)
}

/// Has the engine analyse its modules now rather than at the first evaluation of every clone.
fn warm(engine: &mut Engine) -> anyhow::Result<()> {
    engine.set_rego_v0(false);
    engine.eval_query("true".to_owned(), false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::session::Deadline;
    use super::*;
    use std::time::Duration;

    fn eval(version: Version, text: &str, budget: Duration) -> Result<Option<Value>, String> {
        let parsed = parse("x.rego", text, version).map_err(|problem| problem.to_string())?;
        let program = Program::compile(&[&parsed]).map_err(|problems| problems[0].to_string())?;
        let input = Value::from_json_str(r#"{"a": 1}"#).unwrap();
        program
            .session(input, &Inventory::default())
            .value("data.x.p", Deadline::after(budget))
            .map_err(|error| error.to_string())
    }

    fn check(version: Version, text: &str, expect: &str) {
        let found = eval(version, &format!("package x\n{text}"), Duration::from_secs(10));
        let found = match found {
            Ok(Some(value)) => value.to_string(),
            Ok(None) => "undefined".to_owned(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(found, expect, "{text}");
    }

    // Each of these is what OPA 1.17.1 answers.
    #[test]
    fn negations_decide_as_opa_does() {
        let f = "f(a) { a == \"never\" }\ng(a) = a { true }\nlst = [\"a\"]\n";
        for (body, expect) in [
            ("not input.m", "true"),
            ("not input.m == 1", "true"),
            ("not input.m = 1", "true"),
            ("not (input.m == 1)", "true"),
            ("x := 1; not x == input.m", "true"),
            ("not input.m != 1", "undefined"),
            ("not input.m > 1", "undefined"),
            ("not f(input.m)", "undefined"),
            ("not f(input.a)", "true"),
            ("not g(input.m) == 1", "undefined"),
            ("not f(g(input.m))", "undefined"),
            ("not startswith(input.m, \"a\")", "undefined"),
            ("not lst[input.m]", "undefined"),
            ("not [input.m] == [1]", "undefined"),
            ("not input.m + 1 == 2", "undefined"),
            ("not f(input.a) with input as {\"b\": 1}", "undefined"),
            ("not f(input.b) with input as {\"b\": 1}", "true"),
            ("not {input.m} == {1}", "undefined"),
            ("not -input.m == 1", "undefined"),
        ] {
            check(Version::V0, &format!("{f}p {{ {body} }}"), expect);
        }
        for body in [
            "not input.m in {\"a\"}",
            "not 1 in input.m",
            "not \"k\", input.m in {\"a\": 1}",
        ] {
            check(Version::V1, &format!("p if {{ {body} }}"), "undefined");
        }
    }

    #[test]
    fn rules_with_several_bodies_decide_as_opa_does() {
        check(Version::V0, "p[x] { x := 1 } { x := 2 }", "[1,2]");
        check(
            Version::V0,
            "f(x) = y { x == 2; y := 1 } { x == 1; y := 5 }\np = f(1) { true }",
            "5",
        );
        check(Version::V0, "p {\n  x := 1\n  x\n  (x + 1) >= 2\n}", "true");
    }

    #[test]
    fn builtins_that_fail_are_undefined() {
        check(Version::V1, "p if { x := 1 / 0 }", "undefined");
        check(Version::V1, "p := to_number(\"a\")", "undefined");
        check(Version::V1, "p := sprintf(\"%d of %s\", [1])", "\"1 of %!s(MISSING)\"");
    }

    #[test]
    fn an_endless_policy_ends_with_its_budget() {
        let text =
            "package x\np := count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a != b])";
        let error = eval(Version::V1, text, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error, "the evaluation did not end within its budget of 20ms");
    }

    #[test]
    fn what_the_engine_refuses_has_a_position() {
        let error = eval(Version::V1, "package x\np if {\n  y > 1\n}", Duration::from_secs(1)).unwrap_err();
        assert!(error.starts_with("x.rego:3:3: "), "{error}");
    }
}
