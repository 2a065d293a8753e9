//! What came of a run, for people: a line for each suite and file, and all about what failed.

use std::collections::BTreeSet;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::run::{Failed, State, Tested, Tried, Unit};
use crate::policy::Coverage;

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// How many messages of a failure are shown; the rest is counted.
const SHOWN: usize = 10;

pub(super) fn write(out: &mut impl Write, err: &mut impl Write, tested: &Tested, verbose: bool) -> io::Result<()> {
    for one in &tested.units {
        unit(out, one, verbose)?;
    }
    if let Some(covered) = &tested.coverage {
        coverage(out, covered)?;
    }
    out.flush()?;
    for error in &tested.errors {
        writeln!(err, "{BAD}error{BAD:#}  {}", error.replace('\n', "\n       "))?;
    }
    if !tested.units.is_empty() {
        writeln!(out)?;
    }
    if tested.skipped() > 0 {
        writeln!(out, "{} skipped", tested.skipped())?;
    }
    writeln!(out, "{} passed, {} failed", tested.passed(), tested.failed())?;
    out.flush()
}

fn unit(out: &mut impl Write, unit: &Unit, verbose: bool) -> io::Result<()> {
    let failed = unit
        .results
        .iter()
        .filter(|one| matches!(one.state, State::Failed(_)))
        .count();
    let (word, style) = if failed > 0 { ("FAIL", BAD) } else { ("ok", GOOD) };
    let total = unit.results.len();
    let counts = if failed > 0 {
        format!("{failed} of {total} failed")
    } else {
        total.to_string()
    };
    writeln!(
        out,
        "{style}{word:<4}{style:#}  {}  {QUIET}{counts}{QUIET:#}",
        unit.name
    )?;
    for one in &unit.results {
        match &one.state {
            State::Failed(failed) => failure(out, one, failed)?,
            State::Passed if verbose => writeln!(out, "      {GOOD}passed{GOOD:#}   {}", one.name)?,
            State::Skipped if verbose => writeln!(out, "      {QUIET}skipped{QUIET:#}  {}", one.name)?,
            State::Passed | State::Skipped => {}
        }
    }
    Ok(())
}

fn failure(out: &mut impl Write, one: &Tried, failed: &Failed) -> io::Result<()> {
    writeln!(out, "      {BAD}failed{BAD:#}   {}", one.name)?;
    writeln!(out, "        {QUIET}expected{QUIET:#}  {}", failed.expected)?;
    let mut label = "got";
    if failed.got.is_empty() {
        writeln!(out, "        {QUIET}got{QUIET:#}       no violation")?;
    }
    for message in failed.got.iter().take(SHOWN) {
        let message = message.replace('\n', "\n                  ");
        writeln!(out, "        {QUIET}{label:<8}{QUIET:#}  {message}")?;
        label = "";
    }
    if failed.got.len() > SHOWN {
        writeln!(out, "                  and {} more", failed.got.len() - SHOWN)?;
    }
    for line in &failed.prints {
        writeln!(out, "        {QUIET}printed{QUIET:#}   {line}")?;
    }
    writeln!(out, "        {QUIET}input{QUIET:#}     {}", failed.place)
}

fn coverage(out: &mut impl Write, coverage: &Coverage) -> io::Result<()> {
    let tests = |file: &str| file.ends_with("_test.rego");
    let policies = Coverage(
        coverage
            .0
            .iter()
            .filter(|(file, _)| !tests(file))
            .map(|(f, l)| (f.clone(), l.clone()))
            .collect(),
    );
    let width = policies
        .0
        .keys()
        .map(String::len)
        .max()
        .unwrap_or_default()
        .max("all".len());
    writeln!(out, "\ncoverage")?;
    for (file, lines) in &policies.0 {
        let missed = if lines.missed.is_empty() {
            String::new()
        } else {
            format!("  not evaluated: {}", ranges(&lines.missed))
        };
        writeln!(out, "  {file:<width$}  {:>5.1}%{missed}", lines.percent())?;
    }
    writeln!(out, "  {:<width$}  {:>5.1}%", "all", policies.percent())
}

/// `1-3, 7`.
fn ranges(lines: &BTreeSet<u32>) -> String {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => found.push((*line, *line)),
        }
    }
    let shown = found.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}
