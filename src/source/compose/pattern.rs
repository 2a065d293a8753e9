//! `pathPattern`: which directories of a source match `apps/{app}/{env}`, and what stands in for the names in braces.
//!
//! Guarantees: names and labels get what was captured in small letters, paths as it is; a name that is used and not
//! captured, and names that come out twice or are no Kubernetes names, are errors that only a change of the spec or of the
//! source mends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ComposeError;
use crate::api::extensions::{ArtifactGeneratorSpec, OutputArtifact};
use crate::core::snapshot::{FileKind, Files};
use crate::source::artifact::{MAX_DEPTH, join};

/// Longest value of a label.
const MAX_LABEL: usize = 63;
/// Longest name of an object.
const MAX_NAME: usize = 253;

/// An artifact to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What the spec says, braces filled in.
    pub artifact: OutputArtifact,
    /// What was captured, for labels.
    pub labels: BTreeMap<String, String>,
}

/// Why there are no requests.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The spec and the source do not go together.
    #[error("pathPattern '{pattern}': {reason}")]
    Invalid {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// The source could not be read.
    #[error(transparent)]
    Files(#[from] ComposeError),
}

/// The artifacts that a spec asks for.
///
/// # Errors
/// When the pattern does not fit, or the source cannot be read.
pub fn requests(
    spec: &ArtifactGeneratorSpec,
    sources: &HashMap<String, Arc<dyn Files>>,
) -> Result<Vec<Request>, PatternError> {
    let Some(pattern) = spec.path_pattern.as_deref().filter(|pattern| !pattern.is_empty()) else {
        let plain = spec.artifacts.iter().map(|artifact| Request {
            artifact: artifact.clone(),
            labels: BTreeMap::new(),
        });
        return Ok(plain.collect());
    };
    let invalid = |reason: String| PatternError::Invalid {
        pattern: pattern.to_owned(),
        reason,
    };
    let (alias, path) = pattern
        .strip_prefix('@')
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(|| invalid("it is written as '@alias/directory'".to_owned()))?;
    let files = sources
        .get(alias)
        .ok_or_else(|| invalid(format!("source alias '{alias}' not found")))?;
    let parts: Vec<Vec<Piece>> = path
        .trim_end_matches('/')
        .split('/')
        .map(pieces)
        .collect::<Result<_, _>>()
        .map_err(invalid)?;
    let mut names: Vec<&str> = Vec::new();
    for name in parts.iter().flatten().filter_map(Piece::name) {
        if names.contains(&name) {
            return Err(invalid(format!("{{{name}}} is there twice")));
        }
        names.push(name);
    }
    let mut matched = Vec::new();
    search(files.as_ref(), "", &parts, &BTreeMap::new(), &mut matched)?;
    let mut requests = Vec::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    for (directory, captured) in matched {
        let small = lowered(&captured).map_err(invalid)?;
        for artifact in &spec.artifacts {
            let artifact = filled_in(artifact, &small, &captured).map_err(invalid)?;
            if !is_name(&artifact.name) {
                return Err(invalid(format!("'{}' is no name of an object", artifact.name)));
            }
            if let Some(other) = seen.insert(artifact.name.clone(), directory.clone()) {
                let reason = format!("'{other}' and '{directory}' both make an artifact '{}'", artifact.name);
                return Err(invalid(reason));
            }
            requests.push(Request {
                artifact,
                labels: small.clone(),
            });
        }
    }
    Ok(requests)
}

/// A part of a name: as it stands, or captured.
enum Piece {
    Text(String),
    Capture(String),
}

impl Piece {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Capture(name) => Some(name),
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        let inside = from
            .strip_prefix('{')
            .ok_or_else(|| format!("'{text}' has a closing brace without an opening one"))?;
        let (name, after) = inside
            .split_once('}')
            .ok_or_else(|| format!("'{text}' has an opening brace without a closing one"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
            return Err(format!("{{{name}}} must be letters, digits and underscores"));
        }
        if !before.is_empty() {
            found.push(Piece::Text(before.to_owned()));
        }
        found.push(Piece::Capture(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest.to_owned()));
    }
    Ok(found)
}

/// Directories that match, with what was captured.
fn search(
    files: &dyn Files,
    directory: &str,
    parts: &[Vec<Piece>],
    captured: &BTreeMap<String, String>,
    found: &mut Vec<(String, BTreeMap<String, String>)>,
) -> Result<(), ComposeError> {
    let Some((part, rest)) = parts.split_first() else {
        found.push((directory.to_owned(), captured.clone()));
        return Ok(());
    };
    if parts.len() > MAX_DEPTH {
        return Ok(());
    }
    for entry in files.list(directory)?.unwrap_or_default() {
        if entry.kind != FileKind::Dir {
            continue;
        }
        if let Some(more) = fits(&entry.name, part) {
            let mut captured = captured.clone();
            captured.extend(more);
            search(files, &join(directory, &entry.name), rest, &captured, found)?;
        }
    }
    Ok(())
}

/// What of a name is captured, when it fits. As much as possible goes to the first of two captures.
fn fits(name: &str, part: &[Piece]) -> Option<BTreeMap<String, String>> {
    let Some((first, rest)) = part.split_first() else {
        return name.is_empty().then(BTreeMap::new);
    };
    match first {
        Piece::Text(text) => fits(name.strip_prefix(text.as_str())?, rest),
        Piece::Capture(capture) => name.char_indices().rev().find_map(|(at, c)| {
            let (taken, left) = name.split_at(at + c.len_utf8());
            let mut captured = fits(left, rest)?;
            captured.insert(capture.clone(), taken.to_owned());
            Some(captured)
        }),
    }
}

fn lowered(captured: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut small = BTreeMap::new();
    for (name, value) in captured {
        let value = value.to_lowercase();
        if !is_label(&value) {
            return Err(format!("'{value}' for {{{name}}} is no value of a label"));
        }
        small.insert(name.clone(), value);
    }
    Ok(small)
}

fn filled_in(
    artifact: &OutputArtifact,
    small: &BTreeMap<String, String>,
    captured: &BTreeMap<String, String>,
) -> Result<OutputArtifact, String> {
    let mut filled = artifact.clone();
    filled.name = fill(&artifact.name, small)?;
    for operation in &mut filled.copy {
        operation.from = fill(&operation.from, captured)?;
        operation.to = fill(&operation.to, captured)?;
    }
    Ok(filled)
}

fn fill(text: &str, captured: &BTreeMap<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => filled.push_str(&text),
            Piece::Capture(name) => {
                let value = captured.get(&name);
                filled.push_str(value.ok_or_else(|| format!("'{text}' uses {{{name}}}, which is not captured"))?);
            }
        }
    }
    Ok(filled)
}

fn is_label(value: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    value.len() <= MAX_LABEL
        && value.starts_with(end)
        && value.ends_with(end)
        && value.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

fn is_name(name: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= MAX_NAME
        && name
            .split('.')
            .all(|part| part.starts_with(end) && part.ends_with(end) && part.chars().all(|c| end(c) || c == '-'))
}
