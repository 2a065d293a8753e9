//! The answer for people: what is denied first, by file, then what is only warned about, what went wrong, and one line that
//! says what it comes to. Errors go to where errors go. Colours are taken off again where the output is no terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::report::{Explained, Item, Report, Verdict};

const BAD: Style = AnsiColor::Red.on_default().bold();
const CAREFUL: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const STRONG: Style = Style::new().bold();
const QUIET: Style = Style::new().dimmed();

/// Longest value that is shown, in characters: a line of a terminal less what stands before it.
const MAX_VALUE: usize = 80;

pub(super) fn write(out: &mut impl Write, err: &mut impl Write, report: &Report) -> io::Result<()> {
    let several = report.units.len() > 1;
    for item in &report.denials {
        finding(out, "denied", BAD, item, several)?;
    }
    for item in &report.warnings {
        finding(out, "warned", CAREFUL, item, several)?;
    }
    for one in report.explained.iter().flatten() {
        explained(out, one, several)?;
    }
    for skipped in &report.skipped {
        writeln!(out, "{CAREFUL}skipped{CAREFUL:#}  {}: {}", skipped.what, skipped.reason)?;
    }
    if !report.skipped.is_empty() {
        writeln!(out)?;
    }
    out.flush()?;
    for error in &report.errors {
        let message = error.message.replace('\n', "\n         ");
        writeln!(err, "{BAD}error{BAD:#}    {message}")?;
    }
    if !report.errors.is_empty() {
        writeln!(err)?;
    }
    summary(out, report)
}

fn finding(out: &mut impl Write, word: &str, style: Style, item: &Item, several: bool) -> io::Result<()> {
    let place = item.place().map_or_else(String::new, |place| format!("  {place}"));
    writeln!(out, "{style}{word}{style:#}   {STRONG}{}{STRONG:#}{place}", item.object)?;
    let message = item.message.replace('\n', "\n         ");
    writeln!(out, "         {message}")?;
    if let (Some(field), Some(value)) = (&item.field, &item.value) {
        row(out, "value", &format!("{field}: {}", shortened(value)))?;
    }
    match &item.title {
        Some(title) => row(out, "policy", &format!("{title} {QUIET}[{}]{QUIET:#}", item.policy))?,
        None => row(out, "policy", &item.policy)?,
    }
    if let Some(hint) = &item.hint {
        row(out, "fix", hint)?;
    }
    if several {
        row(out, "in", &item.unit)?;
    }
    writeln!(out)
}

fn row(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "         {QUIET}{name:<6}{QUIET:#}  {text}")
}

fn shortened(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    };
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn explained(out: &mut impl Write, one: &Explained, several: bool) -> io::Result<()> {
    let place = one
        .place
        .as_ref()
        .map_or_else(String::new, |place| format!("  {place}"));
    let unit = if several {
        format!("  in {}", one.unit)
    } else {
        String::new()
    };
    writeln!(
        out,
        "{STRONG}explain{STRONG:#}  {STRONG}{}{STRONG:#}{place}{unit}",
        one.object
    )?;
    let width = one
        .tried
        .iter()
        .map(|tried| tried.policy.len())
        .max()
        .unwrap_or_default();
    for tried in &one.tried {
        let (word, style) = match (tried.asked, tried.findings) {
            (false, _) => ("not asked", QUIET),
            (true, 0) => ("passed", GOOD),
            (true, _) => ("found", BAD),
        };
        let found = (tried.findings > 0).then(|| count(tried.findings, "finding"));
        let said = tried.reason.clone().or(found).unwrap_or_default();
        let line = format!("{style}{word:<9}{style:#}  {:<width$}  {said}", tried.policy);
        writeln!(out, "         {}", line.trim_end())?;
    }
    writeln!(out)
}

fn summary(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let summary = &report.summary;
    let warned = match summary.warnings {
        0 => String::new(),
        warnings => format!(", {}", count(warnings, "warning")),
    };
    let (objects, policies) = (count(summary.objects, "object"), count(summary.policies, "policy"));
    let denials = count(summary.denials, "denial");
    let refused = || {
        format!(
            "{} of {objects} refused by {policies}, {denials}{warned}",
            summary.refused
        )
    };
    match report.verdict {
        Verdict::Allowed => writeln!(out, "{GOOD}allowed{GOOD:#}: {objects} by {policies}{warned}"),
        Verdict::Denied => writeln!(out, "{BAD}denied{BAD:#}: {}", refused()),
        Verdict::Undecided => {
            let errors = count(summary.errors, "error");
            writeln!(out, "{BAD}could not decide{BAD:#}: {errors}; {}", refused())
        }
    }
}

fn count(number: usize, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {what}s"),
    }
}
