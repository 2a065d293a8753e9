//! JSON logs in the form that Flux's controllers write and `flux logs` reads.
//!
//! Each line is one object: `ts` (RFC 3339, milliseconds), `level`, `msg`, `error`, then the fields of the event and of
//! the spans around it, all at the top level. A controller enters one span per reconciliation with the fields
//! `controllerKind`, `name` and `namespace`; every line within it then carries them.
//!
//! Guarantees: a line is written with one call, so lines of several threads never mix; a failure to write is ignored,
//! because there is nowhere left to tell it.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// What to log and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub encoding: LogEncoding,
}

/// Levels, by the names of Flux's flag `--log-level`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happened.
    #[default]
    Info,
    /// What somebody should look at.
    Warn,
    /// What went wrong.
    Error,
}

/// Forms, by the names of Flux's flag `--log-encoding`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogEncoding {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people, in colour on a terminal.
    Console,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A flag has a value that is not one of its own.
    #[error("{value:?} is no {what}; use one of {allowed}")]
    Unknown {
        /// What was to be given.
        what: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// The process has a logger already.
    #[error("logging is set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process.
///
/// `RUST_LOG` has the last word about levels when it is set, for finding faults in a library.
///
/// # Errors
/// When it was set up before.
pub fn init(options: LogOptions) -> Result<(), LogError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(options.level)));
    let registry = Registry::default().with(filter);
    match options.encoding {
        LogEncoding::Json => registry.with(JsonLines::new(Stderr)).try_init()?,
        LogEncoding::Console => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(io::stderr)
                    .with_ansi(io::stderr().is_terminal())
                    .with_target(false),
            )
            .try_init()?,
    }
    Ok(())
}

/// Libraries are heard only when something is wrong: at `debug` their chatter would hide ours.
fn directives(level: LogLevel) -> String {
    format!("warn,weir={level}")
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

impl FromStr for LogLevel {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|level| level.to_string() == text)
            .ok_or_else(|| LogError::Unknown {
                what: "log level",
                value: text.to_owned(),
                allowed: "trace, debug, info, warn, error",
            })
    }
}

impl fmt::Display for LogEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Console => "console",
        })
    }
}

impl FromStr for LogEncoding {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "json" => Ok(Self::Json),
            "console" => Ok(Self::Console),
            _ => Err(LogError::Unknown {
                what: "log encoding",
                value: text.to_owned(),
                allowed: "json, console",
            }),
        }
    }
}

/// Where finished lines go; tests collect them.
trait Lines: Send + Sync + 'static {
    fn line(&self, line: &[u8]);
}

struct Stderr;

impl Lines for Stderr {
    fn line(&self, line: &[u8]) {
        let _ = io::stderr().lock().write_all(line);
    }
}

struct JsonLines<W> {
    out: W,
}

impl<W: Lines> JsonLines<W> {
    fn new(out: W) -> Self {
        Self { out }
    }
}

/// Fields of a span, kept with it until it closes.
struct SpanFields(Map<String, Value>);

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Lines,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Map::new();
        attributes.record(&mut Collect(&mut fields));
        span.extensions_mut().insert(SpanFields(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut() {
            values.record(&mut Collect(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Map::new();
        event.record(&mut Collect(&mut own));
        let mut line = Map::new();
        line.insert("level".to_owned(), level_name(*event.metadata().level()).into());
        let now = jiff::Timestamp::now();
        line.insert("ts".to_owned(), format!("{now:.3}").into());
        line.insert("msg".to_owned(), own.remove("message").unwrap_or_default());
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                line.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        line.extend(own);
        let mut text = Value::Object(line).to_string().into_bytes();
        text.push(b'\n');
        self.out.line(&text);
    }
}

/// Names as zap writes them, which `flux logs --level` compares with.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    }
}

struct Collect<'a>(&'a mut Map<String, Value>);

impl Collect<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Collect<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The chain of sources is what tells the cause.
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        self.put(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<Vec<u8>>>);

    impl Lines for Collected {
        fn line(&self, line: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(line);
        }
    }

    fn logged(work: impl FnOnce()) -> Vec<Value> {
        let out = Collected::default();
        let subscriber = Registry::default().with(JsonLines::new(out.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = out.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_the_keys_that_flux_logs_reads() {
        let lines = logged(|| {
            let span = tracing::info_span!(
                "reconcile",
                controllerKind = "Kustomization",
                name = "apps",
                namespace = "flux-system",
                revision = tracing::field::Empty
            );
            let _entered = span.enter();
            span.record("revision", "main@sha1:1");
            tracing::error!(error = "broken \"pipe\"", count = 3, "apply failed\nbadly");
        });
        let mut line = lines[0].clone();
        let ts: jiff::Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
        assert!(ts.as_second() > 1_600_000_000);
        line.as_object_mut().unwrap().remove("ts");
        assert_eq!(
            line,
            serde_json::json!({"level": "error", "msg": "apply failed\nbadly", "error": "broken \"pipe\"", "count": 3,
                "controllerKind": "Kustomization", "name": "apps", "namespace": "flux-system", "revision": "main@sha1:1"})
        );
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        let lines = logged(|| {
            let error = io::Error::other(LogError::Unknown {
                what: "thing",
                value: "x".into(),
                allowed: "y",
            });
            tracing::warn!(error = &error as &dyn std::error::Error, "no");
        });
        assert_eq!(lines[0]["error"], "\"x\" is no thing; use one of y");
        assert_eq!(lines[0]["level"], "warn");
    }

    #[test]
    fn an_unknown_level_names_those_that_exist() {
        let error = LogLevel::from_str("loud").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"loud\" is no log level; use one of trace, debug, info, warn, error"
        );
        assert_eq!(LogLevel::from_str("debug").unwrap(), LogLevel::Debug);
        assert_eq!(LogEncoding::from_str("console").unwrap(), LogEncoding::Console);
    }
}
