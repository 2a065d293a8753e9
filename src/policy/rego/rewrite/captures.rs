//! Calls that name their result the old way.

use regorus::unstable::{Expr, Literal, LiteralStmt, Module};

use super::super::builtins;
use super::super::tokens::tokens;
use super::super::walk::{self, TooDeep, Visitor};
use super::{Edit, apply, flat, offset};

/// Writes calls of our builtins that name their result, `f(x, y)`, as `y = f(x)`: the engine knows the old way for its own only.
pub(crate) fn captures(text: &str, module: &Module) -> Result<Option<String>, TooDeep> {
    let mut found = Captures {
        text,
        edits: Vec::new(),
    };
    walk::module(module, &mut found)?;
    let edits = found.edits;
    Ok(apply(text, edits))
}

struct Captures<'a> {
    text: &'a str,
    edits: Vec<Edit>,
}

impl Visitor for Captures<'_> {
    fn stmt(&mut self, stmt: &LiteralStmt) {
        let Literal::Expr { expr, .. } = &stmt.literal else {
            return;
        };
        let Expr::Call { fcn, params, .. } = expr.as_ref() else {
            return;
        };
        let Some((names, true)) = walk::path(fcn) else { return };
        let name = names.join(".");
        if !builtins::is_ours(&name) || builtins::arguments(&name) != params.len().checked_sub(1) {
            return;
        }
        let start = offset(stmt.span.start);
        let Some(rest) = self.text.get(start..) else { return };
        let (mut depth, mut from) = (0_usize, None);
        for token in tokens(rest) {
            if token.opens() {
                depth += 1;
                if depth == 1 {
                    from = Some((token.start, token.end()));
                }
            } else if token.closes() {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    // From behind the last comma to the end of the call is the result.
                    let Some((comma, result)) = from else { return };
                    let (Some(result), true) = (rest.get(result..token.start), rest.starts_with(names_first(&names)))
                    else {
                        return;
                    };
                    // What was on lines of its own leaves them.
                    let lines = "\n".repeat(result.matches('\n').count());
                    let keep = usize::from(params.len() == 1);
                    self.edits.push(Edit {
                        start,
                        end: start,
                        text: format!("{} = ", flat(result).trim()),
                    });
                    self.edits.push(Edit {
                        start: start + comma + keep,
                        end: start + token.start,
                        text: lines,
                    });
                    return;
                }
            } else if depth == 1 && token.is(",") {
                from = Some((token.start, token.end()));
            }
        }
    }
}

fn names_first(names: &[String]) -> &str {
    names.first().map_or("", String::as_str)
}
