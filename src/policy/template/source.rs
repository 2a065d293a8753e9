//! The code of a template: where it stands, and what it may refer to.

use regorus::unstable::Expr;
use serde_json::Value as Json;

use super::super::cel;
use super::super::rego::parse::{Parsed, Version};
use super::super::rego::{Visitor, path, walk_module};
use super::super::source::Problem;
use super::TARGET;

/// What a template decides with.
pub(in crate::policy) enum Source<'a> {
    Rego(RegoSource<'a>),
    Cel(&'a Json),
}

/// The Rego of a template.
pub(in crate::policy) struct RegoSource<'a> {
    pub(in crate::policy) rego: &'a str,
    pub(in crate::policy) libs: Vec<&'a str>,
    pub(in crate::policy) version: Version,
}

/// Finds the code of a template; the error says why there is none.
pub(in crate::policy) fn source(value: &Json) -> Result<Source<'_>, String> {
    let targets = value
        .pointer("/spec/targets")
        .and_then(Json::as_array)
        .map_or(&[][..], Vec::as_slice);
    let [target] = targets else {
        return Err(format!(
            "spec.targets must have exactly one entry, {TARGET}, and has {}",
            targets.len()
        ));
    };
    let name = target.get("target").and_then(Json::as_str).unwrap_or_default();
    if name != TARGET {
        return Err(format!("spec.targets[0].target is {name:?} and must be {TARGET:?}"));
    }
    let code = target
        .get("code")
        .and_then(Json::as_array)
        .map_or(&[][..], Vec::as_slice);
    let engine = |entry: &Json| {
        entry
            .get("engine")
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if let Some(entry) = code.iter().find(|entry| engine(entry) == cel::ENGINE) {
        return Ok(Source::Cel(entry.get("source").unwrap_or(&Json::Null)));
    }
    let of_code = code
        .iter()
        .find(|entry| engine(entry) == "Rego")
        .and_then(|entry| entry.get("source"));
    // What stands in `rego` comes before what stands in `code`, as for Gatekeeper.
    let candidates = [Some(target), of_code].into_iter().flatten();
    let written = |source| {
        let rego = Json::get(source, "rego")?.as_str()?;
        (!rego.trim().is_empty()).then_some((source, rego))
    };
    let Some((source, rego)) = candidates.into_iter().find_map(written) else {
        return Err("spec.targets[0] has no Rego, neither in rego nor in code, and no CEL".to_owned());
    };
    let libs = source.get("libs").and_then(Json::as_array).into_iter().flatten();
    Ok(Source::Rego(RegoSource {
        rego,
        libs: libs.filter_map(Json::as_str).collect(),
        version: match source.get("version").and_then(Json::as_str) {
            Some("v1") => Version::V1,
            _ => Version::V0,
        },
    }))
}

/// References to data that a template cannot have: Gatekeeper gives it `data.inventory` and its own `data.lib`.
pub(super) fn foreign_data(parsed: &Parsed) -> Vec<Problem> {
    struct Data<'a>(&'a Parsed, Vec<Problem>);
    impl Visitor for Data<'_> {
        fn expr(&mut self, expr: &Expr) {
            let (Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. }) = expr else {
                return;
            };
            let Expr::Var { span, .. } = refr.as_ref() else { return };
            let first = path(expr).and_then(|(names, _)| names.get(1).cloned());
            if span.text() == "data" && first.as_ref().is_some_and(|first| !known(first)) {
                let name = first.unwrap_or_default();
                let message =
                    format!("data.{name} does not exist for a template; it has data.inventory and its data.lib");
                self.1.push(Problem::at(self.0.origin(), span.line, span.col, message));
            }
        }
    }
    fn known(name: &str) -> bool {
        matches!(name, "lib" | "inventory")
    }
    let mut data = Data(parsed, Vec::new());
    for import in &parsed.module.imports {
        let names = path(&import.refr).map(|(names, _)| names).unwrap_or_default();
        let allowed = match names.first().map(String::as_str) {
            Some("data") => names.get(1).is_some_and(|name| known(name)),
            Some("future") => true,
            _ => false,
        };
        if !allowed {
            let message = format!(
                "a template may import data.lib, data.inventory and future.keywords, not {}",
                names.join(".")
            );
            data.1
                .push(Problem::at(parsed.origin(), import.span.line, import.span.col, message));
        }
    }
    // The chain was bounded when the module was parsed.
    let _ = walk_module(&parsed.module, &mut data);
    data.1
}
