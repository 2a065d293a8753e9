//! The answer as workflow commands of GitHub Actions, which shows them at the line in a pull request.

use std::io::{self, Write};

use super::report::{Item, Report};

pub(super) fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for (level, items) in [("error", &report.denials), ("warning", &report.warnings)] {
        for item in items {
            writeln!(out, "::{level} {}::{}", properties(item), data(&text(item)))?;
        }
    }
    for error in &report.errors {
        writeln!(out, "::error title=weir could not decide::{}", data(&error.message))?;
    }
    for skipped in &report.skipped {
        writeln!(
            out,
            "::notice title=weir::{}",
            data(&format!("{} is skipped: {}", skipped.what, skipped.reason))
        )?;
    }
    Ok(())
}

fn text(item: &Item) -> String {
    let hint = item
        .hint
        .as_ref()
        .map(|hint| format!("\nfix: {hint}"))
        .unwrap_or_default();
    format!("{}: {}{hint}", item.object, item.message)
}

fn properties(item: &Item) -> String {
    let mut properties = Vec::new();
    if let Some(file) = &item.file {
        properties.push(format!("file={}", property(file)));
    }
    if let Some(line) = item.line {
        properties.push(format!("line={line}"));
    }
    properties.push(format!(
        "title={}",
        property(item.title.as_ref().unwrap_or(&item.policy))
    ));
    properties.join(",")
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
