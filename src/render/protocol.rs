//! The protocol between Weir and its render worker; `renderer/protocol.go` describes it and is its other side.
//!
//! A frame is a big-endian `u32` length followed by that many bytes of JSON. Both sides refuse longer frames than
//! `MAX_FRAME`, before they allocate.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::Keys;
use super::{RenderRequest, Substitution};
use crate::api::kustomize::{Image, Patch};
use crate::core::snapshot::FileKind;

/// Changes whenever one side would misread the other.
pub(super) const VERSION: u32 = 3;

/// Bounds one frame: `MAX_FILE` in base64 (4/3) is 21.4 MiB and the worker's output at most about 25 MiB; the next power
/// of two. The same on both sides.
pub(super) const MAX_FRAME: usize = 32 << 20;

/// Bounds one file, as the worker does; checked here too because more would not fit in a frame.
pub(super) const MAX_FILE: usize = 16 << 20;

/// What the worker says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FromWorker {
    Hello(Hello),
    Read(String),
    Stat(String),
    List(String),
    Done(Done),
    Failed(Failed),
}

#[derive(Debug, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Done {
    pub(super) objects: Vec<DoneObject>,
    pub(super) warnings: Vec<Warning>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DoneObject {
    pub(super) object: Value,
    pub(super) path: Option<String>,
    pub(super) line: Option<u32>,
    #[serde(default)]
    pub(super) lines: HashMap<String, u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Warning {
    pub(super) message: String,
    pub(super) path: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) path: Option<String>,
    pub(super) line: Option<u32>,
    #[serde(default)]
    pub(super) what: String,
    #[serde(default)]
    pub(super) limit: u64,
    #[serde(default)]
    pub(super) kustomize: bool,
    #[serde(default)]
    pub(super) fatal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Code {
    NotFound,
    Invalid,
    Remote,
    TooLarge,
    Files,
    Panic,
}

/// What Weir says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ToWorker<'a> {
    Build(Build<'a>),
    Decode(Decode),
    /// Base64.
    File(String),
    Dir(Vec<Entry>),
    Kind(Kind),
    /// Always true.
    Missing(bool),
    Error(String),
}

#[derive(Debug, Serialize)]
pub(super) struct Decode {
    /// Base64.
    pub(super) content: String,
    pub(super) lines: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    File,
    Dir,
}

impl From<FileKind> for Kind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::File => Self::File,
            FileKind::Dir => Self::Dir,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Build<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_suffix: Option<&'a str>,
    patches: &'a [Patch],
    images: &'a [Image],
    components: &'a [String],
    ignore_missing_components: bool,
    build_metadata: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    substitute: Option<Substitute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decrypt: Option<&'a Keys>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keep_encrypted: bool,
}

#[derive(Debug, Serialize)]
struct Substitute<'a> {
    vars: &'a std::collections::BTreeMap<String, String>,
    strict: bool,
    always: bool,
}

impl<'a> From<&'a RenderRequest> for Build<'a> {
    fn from(r: &'a RenderRequest) -> Self {
        let substitute = |s: &'a Substitution| Substitute {
            vars: &s.variables,
            strict: s.strict,
            always: s.always,
        };
        Self {
            path: &r.path,
            target_namespace: r.target_namespace.as_deref(),
            name_prefix: r.name_prefix.as_deref(),
            name_suffix: r.name_suffix.as_deref(),
            patches: &r.patches,
            images: &r.images,
            components: &r.components,
            ignore_missing_components: r.ignore_missing_components,
            build_metadata: &r.build_metadata,
            substitute: r.substitute.as_ref().map(substitute),
            decrypt: r.decrypt.as_ref(),
            keep_encrypted: r.keep_encrypted,
        }
    }
}

pub(super) fn write_frame(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let length = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_FRAME)
        .ok_or_else(|| too_long(length))?;
    if let Some(head) = frame.first_chunk_mut() {
        *head = length.to_be_bytes();
    }
    to.write_all(&frame)?;
    to.flush()
}

pub(super) fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(too_long(length));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a frame of {length} bytes, at most {MAX_FRAME} are allowed"),
    )
}
