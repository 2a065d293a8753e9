//! `with f as count`: a builtin in the place of a function.
//!
//! The engine puts only functions of the policy there, so each builtin that is used so gets one, which calls it. They stand
//! behind the last line, where no position points to.

use std::collections::BTreeMap;

use regorus::unstable::{Expr, LiteralStmt, Module};

use super::builtins;
use super::walk::{self, TooDeep, Visitor};

/// Begins the names of these functions; no author writes it.
const PREFIX: &str = "__weir_with_";

/// Names functions where builtins replace others; `None` when there are none.
pub(crate) fn replacements(text: &str, module: &Module) -> Result<Option<String>, TooDeep> {
    let mut found = Replacements {
        functions: BTreeMap::new(),
        edits: Vec::new(),
    };
    walk::module(module, &mut found)?;
    found.edits.sort_unstable();
    let (mut out, mut at) = (String::with_capacity(text.len() + 128), 0);
    for (start, end, name) in &found.edits {
        out.push_str(text.get(at..*start).unwrap_or_default());
        out.push_str(name);
        at = *end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    for (name, (builtin, arguments)) in &found.functions {
        let arguments: Vec<String> = (1..=*arguments).map(|index| format!("a{index}")).collect();
        let arguments = arguments.join(", ");
        out.push_str(&format!("\n{name}({arguments}) := {builtin}({arguments})"));
    }
    Ok((!found.edits.is_empty()).then_some(out))
}

struct Replacements {
    /// The builtin that each function calls, and its arguments.
    functions: BTreeMap<String, (String, usize)>,
    /// Start, end and the name that goes there.
    edits: Vec<(usize, usize, String)>,
}

impl Visitor for Replacements {
    fn stmt(&mut self, stmt: &LiteralStmt) {
        for with in &stmt.with_mods {
            let Some((names, true)) = walk::path(&with.r#as) else {
                continue;
            };
            // What replaces a document is a value, and a variable may be called like a builtin.
            let document = matches!(root(&with.refr), "input" | "data");
            let builtin = names.join(".");
            let Some(arguments) = builtins::arguments(&builtin).filter(|arguments| *arguments > 0) else {
                continue;
            };
            if document && names.len() == 1 {
                continue;
            }
            let span = with.r#as.span();
            let (Ok(start), Ok(end)) = (usize::try_from(span.start), usize::try_from(span.end)) else {
                continue;
            };
            let name = format!("{PREFIX}{}", names.join("_"));
            self.functions.insert(name.clone(), (builtin, arguments));
            self.edits.push((start, end, name));
        }
    }
}

fn root(mut node: &Expr) -> &str {
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = node {
        node = refr;
    }
    match node {
        Expr::Var { span, .. } => span.text(),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Version, parse};

    #[test]
    fn builtins_that_replace_functions_get_a_name() {
        let check = |body: &str, expect: &str, appended: &str| {
            let text = format!("package x\nf(x) := x\np if {{ {body} }}");
            let parsed = parse("x.rego", &text, Version::V1).unwrap();
            assert_eq!(
                parsed.text,
                format!("package x\nf(x) := x\np if {{ {expect} }}{appended}")
            );
        };
        let same = "f(1) with f as 1 with input as count with input.x as f";
        check(same, same, "");
        check(
            "f(1) with f as count with startswith as strings.any_prefix_match",
            "f(1) with f as __weir_with_count with startswith as __weir_with_strings_any_prefix_match",
            "\n__weir_with_count(a1) := count(a1)\n\
             __weir_with_strings_any_prefix_match(a1, a2) := strings.any_prefix_match(a1, a2)",
        );
    }
}
