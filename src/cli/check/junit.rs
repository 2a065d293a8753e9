//! The answer as JUnit XML: a suite for each unit, a case for each object.

use std::io::{self, Write};

use super::report::{Item, Report};

pub(super) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let summary = &report.summary;
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(
        out,
        r#"<testsuites name="weir check" tests="{}" failures="{}" errors="{}">"#,
        summary.objects + summary.errors,
        summary.refused,
        summary.errors
    )?;
    for unit in &report.units {
        let of = |items: &'_ [Item], object: &_| -> Vec<Item> {
            let own = items
                .iter()
                .filter(|item| item.unit == unit.name && item.object == *object);
            own.cloned().collect()
        };
        let failures = unit
            .objects
            .iter()
            .filter(|object| !of(&report.denials, object).is_empty())
            .count();
        writeln!(
            out,
            r#"  <testsuite name="{}" tests="{}" failures="{failures}" errors="0">"#,
            attribute(&unit.name),
            unit.objects.len()
        )?;
        for object in &unit.objects {
            let (denials, warnings) = (of(&report.denials, object), of(&report.warnings, object));
            let name = attribute(&object.to_string());
            let class = attribute(&unit.name);
            let any = denials.first().or(warnings.first());
            let file = any.and_then(|item| item.file.as_ref());
            let file = file
                .map(|file| format!(r#" file="{}""#, attribute(file)))
                .unwrap_or_default();
            let line = any
                .and_then(|item| item.line)
                .map(|line| format!(r#" line="{line}""#))
                .unwrap_or_default();
            writeln!(out, r#"    <testcase classname="{class}" name="{name}"{file}{line}>"#)?;
            for item in &denials {
                writeln!(
                    out,
                    r#"      <failure type="{}" message="{}">{}</failure>"#,
                    attribute(&item.policy),
                    attribute(&item.message),
                    content(&body(item))
                )?;
            }
            if !warnings.is_empty() {
                let warnings: Vec<String> = warnings.iter().map(|item| format!("warning: {}", body(item))).collect();
                writeln!(out, "      <system-out>{}</system-out>", content(&warnings.join("\n")))?;
            }
            writeln!(out, "    </testcase>")?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    if !report.errors.is_empty() {
        let errors = report.errors.len();
        writeln!(
            out,
            r#"  <testsuite name="could not decide" tests="{errors}" failures="0" errors="{errors}">"#
        )?;
        for error in &report.errors {
            let message = attribute(&error.message);
            writeln!(
                out,
                r#"    <testcase classname="weir" name="{message}"><error message="{message}"/></testcase>"#
            )?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn body(item: &Item) -> String {
    let mut lines: Vec<String> = item.place().into_iter().collect();
    lines.push(format!("[{}] {}", item.policy, item.message));
    lines.extend(item.hint.as_ref().map(|hint| format!("fix: {hint}")));
    lines.join("\n")
}

fn content(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let text: String = text.chars().filter(allowed).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn attribute(text: &str) -> String {
    content(text)
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
        .replace('\t', "&#9;")
}
