//! One job's conversation, a build or a stream of documents to read, from Weir's side: send the request, answer questions from a tree, return the outcome.
//!
//! Blocking by design, pipes and tree alike; runs on a thread that may block. Stopping it is done by killing the worker,
//! which ends the pipes.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::protocol::{self, Build, Code, Decode, Done, Entry, Failed, FromWorker, ToWorker};
use super::reads::{Found, ReadSet, listing_digest};
use super::{Document, Place, RenderError, RenderRequest, Rendered, RenderedObject};
use crate::core::object::Object;
use crate::core::snapshot::{DirEntry, Files, FilesError};

/// What a worker is asked for.
#[derive(Debug, Clone)]
pub(super) enum Job {
    Build(Box<RenderRequest>),
    /// A YAML stream.
    Decode {
        content: Vec<u8>,
        /// Whether the line of each field is wanted.
        lines: bool,
    },
}

impl Job {
    /// The directory that is built.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Build(request) => &request.path,
            Self::Decode { .. } => "",
        }
    }

    fn message(&self) -> ToWorker<'_> {
        match self {
            Self::Build(request) => ToWorker::Build(Build::from(request.as_ref())),
            Self::Decode { content, lines } => ToWorker::Decode(Decode {
                content: BASE64.encode(content),
                lines: *lines,
            }),
        }
    }
}

/// What came of a job.
pub(super) enum Answer {
    Rendered(Rendered),
    Documents(Vec<Document>),
}

/// How a conversation ended.
pub(super) struct Ended {
    /// What goes to the caller, unless the pipes broke.
    pub(super) outcome: Result<Answer, Ending>,
    /// Whether the worker asked anything at all; one that did not may have been dead already.
    pub(super) answered: bool,
}

/// Why there is no `Rendered`.
#[derive(Debug)]
pub(super) enum Ending {
    /// The build failed. The worker lives on, unless `fatal`.
    Failed { error: RenderError, fatal: bool },
    /// The pipe ended or broke: the process is dead, or dying.
    Pipe,
    /// The worker said something that it may not say here.
    Breach(String),
}

/// Waits for the greeting of a fresh worker.
pub(super) fn greet(from: &mut impl Read) -> Result<(), Ending> {
    match protocol::read_frame(from).map_err(Ending::from)? {
        FromWorker::Hello(hello) if hello.protocol == protocol::VERSION => Ok(()),
        FromWorker::Hello(hello) => Err(Ending::Breach(format!(
            "it speaks version {} of the protocol and Weir version {}; install the worker that belongs to this Weir",
            hello.protocol,
            protocol::VERSION
        ))),
        other => Err(Ending::Breach(format!("expected its greeting and got {other:?}"))),
    }
}

/// Has one job done.
pub(super) fn converse(to: &mut impl Write, from: &mut impl Read, job: &Job, files: &dyn Files) -> Ended {
    let mut answering = Answering {
        files,
        reads: ReadSet::default(),
        error: None,
    };
    let mut answered = false;
    let outcome = (|| {
        protocol::write_frame(to, &job.message())?;
        loop {
            let message = protocol::read_frame(from)?;
            answered = true;
            let answer = match message {
                FromWorker::Done(done) => {
                    return match job {
                        Job::Build(_) => rendered(done, std::mem::take(&mut answering.reads)).map(Answer::Rendered),
                        Job::Decode { .. } => Ok(Answer::Documents(documents(done))),
                    };
                }
                FromWorker::Failed(failed) => return Err(answering.failed(failed)),
                FromWorker::Read(path) => answering.read(&path),
                FromWorker::Stat(path) => answering.stat(&path),
                FromWorker::List(path) => answering.list(&path),
                FromWorker::Hello(_) => return Err(Ending::Breach("it greeted twice".to_owned())),
            };
            protocol::write_frame(to, &answer)?;
        }
    })();
    Ended { outcome, answered }
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What decoding a frame fails with, as opposed to getting one.
            io::ErrorKind::InvalidData => Self::Breach(error.to_string()),
            _ => Self::Pipe,
        }
    }
}

struct Answering<'a> {
    files: &'a dyn Files,
    reads: ReadSet,
    /// The first error of the tree; the worker only gets to know its text.
    error: Option<RenderError>,
}

impl Answering<'_> {
    fn read(&mut self, path: &str) -> ToWorker<'static> {
        let path = in_tree(path);
        match self.try_read(path) {
            Ok(answer) => answer,
            Err(error) => self.broken(error),
        }
    }

    fn try_read(&mut self, path: &str) -> Result<ToWorker<'static>, RenderError> {
        let Some(content) = self.files.read(path)? else {
            return Ok(self.try_stat(path)?);
        };
        if content.len() > protocol::MAX_FILE {
            return Err(too_large_a_file(path));
        }
        let digest = self.files.digest(path)?.ok_or_else(|| FilesError {
            path: path.to_owned(),
            reason: "it has content and no digest".to_owned(),
        })?;
        self.reads.note(path, Found::File(digest));
        Ok(ToWorker::File(BASE64.encode(content)))
    }

    fn stat(&mut self, path: &str) -> ToWorker<'static> {
        match self.try_stat(in_tree(path)) {
            Ok(answer) => answer,
            Err(error) => self.broken(error.into()),
        }
    }

    fn try_stat(&mut self, path: &str) -> Result<ToWorker<'static>, FilesError> {
        Ok(match self.files.stat(path)? {
            None => {
                self.reads.note(path, Found::Missing);
                ToWorker::Missing(true)
            }
            Some(kind) => {
                self.reads.note(path, Found::Kind(kind));
                ToWorker::Kind(kind.into())
            }
        })
    }

    fn list(&mut self, path: &str) -> ToWorker<'static> {
        let path = in_tree(path);
        match self.try_list(path) {
            Ok(answer) => answer,
            Err(error) => self.broken(error.into()),
        }
    }

    fn try_list(&mut self, path: &str) -> Result<ToWorker<'static>, FilesError> {
        let Some(entries) = self.files.list(path)? else {
            return self.try_stat(path);
        };
        self.reads.note(path, Found::Dir(listing_digest(&entries)));
        let entry = |e: DirEntry| Entry {
            name: e.name,
            kind: e.kind.into(),
        };
        Ok(ToWorker::Dir(entries.into_iter().map(entry).collect()))
    }

    fn broken(&mut self, error: RenderError) -> ToWorker<'static> {
        let text = error.to_string();
        self.error.get_or_insert(error);
        ToWorker::Error(text)
    }

    fn failed(&mut self, failed: Failed) -> Ending {
        let place = Place {
            path: failed.path,
            line: failed.line.filter(|line| *line > 0),
        };
        let error = match failed.code {
            Code::Files => self.error.take().unwrap_or_else(|| RenderError::Worker {
                reason: failed.message,
                stderr: String::new(),
            }),
            Code::NotFound => RenderError::NotFound(place.path.unwrap_or_default()),
            Code::Invalid | Code::Remote | Code::Panic => RenderError::Invalid {
                message: failed.message,
                place,
                kustomize: failed.kustomize,
            },
            Code::TooLarge => RenderError::TooLarge {
                what: failed.what,
                limit: failed.limit,
                message: failed.message,
                place,
            },
        };
        Ending::Failed {
            error,
            fatal: failed.fatal,
        }
    }
}

/// The worker calls the root `.`; a tree calls it by the empty path.
fn in_tree(path: &str) -> &str {
    if path == "." { "" } else { path }
}

fn too_large_a_file(path: &str) -> RenderError {
    let limit = protocol::MAX_FILE;
    RenderError::TooLarge {
        what: "bytes of one file".to_owned(),
        limit: limit as u64,
        message: format!("too large: more than {limit} bytes in one file"),
        place: Place {
            path: Some(path.to_owned()),
            line: None,
        },
    }
}

fn rendered(done: Done, reads: ReadSet) -> Result<Rendered, Ending> {
    let mut objects = Vec::with_capacity(done.objects.len());
    for o in done.objects {
        let object =
            Object::new(o.object).map_err(|e| Ending::Breach(format!("it rendered what is no object: {e}")))?;
        objects.push(RenderedObject {
            object,
            file: o.path,
            line: o.line,
        });
    }
    let warning = |w: protocol::Warning| match w.path {
        Some(path) => format!("{path}: {}", w.message),
        None => w.message,
    };
    Ok(Rendered {
        objects,
        reads,
        warnings: done.warnings.into_iter().map(warning).collect(),
    })
}

fn documents(done: Done) -> Vec<Document> {
    let documents = done.objects.into_iter().map(|one| Document {
        value: one.object,
        line: one.line.unwrap_or(1),
        lines: one.lines,
    });
    documents.collect()
}
