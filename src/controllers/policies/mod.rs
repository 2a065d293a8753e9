//! The policies in force: ConstraintTemplates and constraints of the cluster, and plain Rego files; and what they see of the
//! cluster (`synced`).
//!
//! Flow: watches feed one keeper task; whenever something changed it loads a new library (what no longer loads is kept in
//! its last good version), makes the CRDs of new kinds of constraints, watches those kinds, and publishes.
//!
//! Guarantees: nobody is told `ready` before everything that was there at start has been read; a library is published
//! whole or not at all; a template that does not load is named in its own status and in the log, and takes nothing down.

mod cluster;
mod files;
mod synced;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::apply::objects::Objects;
use crate::cluster::events::{NewEvent, Recorder, Severity};
use crate::policy::{Document, Inventory, Library, Problem, RegoFile, Settings, Sources};
use crate::telemetry::metrics::Metrics;

/// How many observations may wait for the keeper; each is one object, and watches wait when it is full.
const QUEUE: usize = 1024;
/// How long to gather observations before loading: a library applied at once arrives within it.
const GATHER: Duration = Duration::from_millis(50);

/// Who records events on policies.
const COMPONENT: &str = "weir";
/// Reason of the event on a policy that is not in force.
const NOT_LOADED: &str = "PolicyNotLoaded";

/// The policies in force.
#[derive(Debug, Clone)]
pub struct Policies {
    /// They themselves.
    pub library: Library,
    /// Which namespaces they leave out.
    pub settings: Arc<Settings>,
    /// Grows with every change.
    pub number: u64,
    /// Whether everything that was there at start has been read.
    pub ready: bool,
}

/// Something that was seen of the sources of policies.
#[derive(Debug)]
enum Seen {
    /// Whether the cluster knows ConstraintTemplates at all.
    NoTemplates,
    Template(Box<Value>),
    TemplateGone(String),
    TemplatesListed,
    Constraint(Box<Value>),
    ConstraintGone {
        kind: String,
        name: String,
    },
    ConstraintsListed(String),
    Files(Vec<RegoFile>),
    /// What Gatekeeper's Config and SyncSets say.
    Settings(Arc<Settings>),
    /// That everything they name has been read.
    Synced,
}

/// What the keeper needs.
pub struct Options {
    /// Reads and writes objects.
    pub objects: Objects,
    /// Connection to the cluster.
    pub client: kube::Client,
    /// Where Weir runs: a Config counts there too.
    pub namespace: String,
    /// `--policy-dir`.
    pub directory: Option<PathBuf>,
    /// Names this process in the status of templates.
    pub instance: String,
    /// Counts.
    pub metrics: Metrics,
    /// Takes events.
    pub events: Recorder,
}

/// Starts the keeper. Beside the policies there is what they see of the cluster, which changes more often.
#[must_use]
pub fn start(
    options: Options,
    shutdown: CancellationToken,
) -> (watch::Receiver<Policies>, watch::Receiver<Inventory>, JoinHandle<()>) {
    let first = Policies {
        library: Library::default(),
        settings: Arc::default(),
        number: 0,
        ready: false,
    };
    let (publish, published) = watch::channel(first);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (publish_inventory, inventory) = watch::channel(Inventory::default());
    let following = synced::Options {
        client: options.client.clone(),
        objects: options.objects.clone(),
        namespace: options.namespace.clone(),
        seen: sender.clone(),
        publish: publish_inventory,
        shutdown: shutdown.clone(),
    };
    tokio::spawn(synced::run(following));
    let keeper = Keeper {
        options,
        sender,
        shutdown: shutdown.clone(),
        templates: BTreeMap::new(),
        constraints: BTreeMap::new(),
        files: Vec::new(),
        settings: Arc::default(),
        listed: Listed::default(),
        watching: HashMap::new(),
        told: HashMap::new(),
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keeper.run(receiver, publish) => {}
        }
    });
    (published, inventory, task)
}

/// What of the beginning has been read.
#[derive(Default)]
struct Listed {
    files: bool,
    synced: bool,
    templates: bool,
    constraints: HashSet<String>,
}

struct Keeper {
    options: Options,
    sender: mpsc::Sender<Seen>,
    shutdown: CancellationToken,
    templates: BTreeMap<String, Value>,
    constraints: BTreeMap<(String, String), Value>,
    files: Vec<RegoFile>,
    settings: Arc<Settings>,
    listed: Listed,
    /// Watches of kinds of constraints.
    watching: HashMap<String, JoinHandle<()>>,
    /// Problems that were told already, by origin.
    told: HashMap<String, Vec<String>>,
}

impl Keeper {
    async fn run(mut self, mut receiver: mpsc::Receiver<Seen>, publish: watch::Sender<Policies>) {
        tokio::spawn(files::watch(
            self.options.directory.clone(),
            self.sender.clone(),
            self.shutdown.clone(),
        ));
        tokio::spawn(cluster::watch_templates(
            self.options.client.clone(),
            self.options.objects.clone(),
            self.sender.clone(),
            self.shutdown.clone(),
        ));
        while let Some(first) = receiver.recv().await {
            let mut changed = self.take(first);
            tokio::time::sleep(GATHER).await;
            while let Ok(more) = receiver.try_recv() {
                changed |= self.take(more);
            }
            let before = publish.borrow().clone();
            let library = if changed {
                self.load(&before.library).await
            } else {
                before.library.clone()
            };
            self.follow_kinds(&library).await;
            // Once everything that was there at start has been read it stays so: a new kind of constraint does not stop all
            // others from being judged until its CRD stands.
            let ready = before.ready || self.ready(&library);
            if changed || ready != before.ready {
                let number = before.number + 1;
                let policies = library.len();
                tracing::info!(policies, ready, number, "policies loaded");
                let settings = Arc::clone(&self.settings);
                publish.send_replace(Policies {
                    library,
                    settings,
                    number,
                    ready,
                });
            }
        }
    }

    /// Notes what was seen; says whether policies may have changed.
    fn take(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::NoTemplates => {
                self.listed.templates = true;
                !std::mem::take(&mut self.templates).is_empty()
            }
            Seen::Template(template) => match name(&template) {
                Some(name) if self.templates.get(&name).and_then(|old| old.get("spec")) == template.get("spec") => {
                    false
                }
                Some(name) => {
                    self.templates.insert(name, *template);
                    true
                }
                None => false,
            },
            Seen::TemplateGone(name) => self.templates.remove(&name).is_some(),
            Seen::TemplatesListed => {
                self.listed.templates = true;
                false
            }
            Seen::Constraint(constraint) => match (kind(&constraint), name(&constraint)) {
                (Some(kind), Some(name)) => {
                    let key = (kind, name);
                    let same = self.constraints.get(&key).and_then(|old| old.get("spec")) == constraint.get("spec");
                    self.constraints.insert(key, *constraint);
                    !same
                }
                _ => false,
            },
            Seen::ConstraintGone { kind, name } => self.constraints.remove(&(kind, name)).is_some(),
            Seen::ConstraintsListed(kind) => {
                self.listed.constraints.insert(kind);
                false
            }
            Seen::Settings(settings) => {
                let changed = self.settings != settings;
                self.settings = settings;
                changed
            }
            Seen::Synced => {
                self.listed.synced = true;
                false
            }
            Seen::Files(files) => {
                let first = !self.listed.files;
                self.listed.files = true;
                let changed = self.files != files;
                self.files = files;
                changed || first
            }
        }
    }

    async fn load(&mut self, previous: &Library) -> Library {
        let document = |kind: &str, name: &str, value: &Value| Document {
            origin: format!("{kind}/{name}"),
            value: value.clone(),
        };
        let sources = Sources {
            rego: self.files.clone(),
            templates: self
                .templates
                .iter()
                .map(|(name, value)| document("ConstraintTemplate", name, value))
                .collect(),
            constraints: self
                .constraints
                .iter()
                .map(|((kind, name), value)| document(kind, name, value))
                .collect(),
        };
        let before = previous.clone();
        let loaded = tokio::task::spawn_blocking(move || Library::reload(&before, &sources)).await;
        match loaded {
            Ok(loaded) => {
                self.options.metrics.policies(
                    loaded.library.len(),
                    loaded.problems.iter().filter(|problem| problem.is_error()).count(),
                );
                self.tell(&loaded.problems).await;
                loaded.library
            }
            Err(error) => {
                tracing::error!(error = %error, "loading policies ended unexpectedly; the policies in force stay");
                previous.clone()
            }
        }
    }

    /// Logs new problems and writes them into the status of templates.
    async fn tell(&mut self, problems: &[Problem]) {
        let mut by_origin: HashMap<String, Vec<String>> = HashMap::new();
        for problem in problems.iter().filter(|problem| problem.is_error()) {
            by_origin
                .entry(problem.origin.clone())
                .or_default()
                .push(problem.to_string());
        }
        for (origin, messages) in &by_origin {
            if self.told.get(origin) != Some(messages) {
                let message = messages.join("; ");
                tracing::error!(policy = %origin, error = %message, "policy does not load");
                if let Some(object) = self.object(origin) {
                    self.options.events.record(not_loaded(object, message));
                }
            }
        }
        for (name, template) in &self.templates {
            let origin = format!("ConstraintTemplate/{name}");
            let errors: Vec<&Problem> = problems
                .iter()
                .filter(|problem| problem.is_error() && problem.origin == origin)
                .collect();
            cluster::template_status(&self.options.client, template, &errors, &self.options.instance).await;
        }
        self.told = by_origin;
    }

    /// The template or constraint that an origin names; files are no objects.
    fn object(&self, origin: &str) -> Option<&Value> {
        match origin.split_once('/')? {
            ("ConstraintTemplate", name) => self.templates.get(name),
            (kind, name) => self.constraints.get(&(kind.to_owned(), name.to_owned())),
        }
    }

    /// Makes CRDs for new kinds of constraints and watches those kinds; stops watching what is gone.
    async fn follow_kinds(&mut self, library: &Library) {
        let kinds = library.template_kinds();
        let wanted: HashSet<&str> = kinds.iter().map(|kind| kind.kind.as_str()).collect();
        let gone: Vec<String> = self
            .watching
            .keys()
            .filter(|kind| !wanted.contains(kind.as_str()))
            .cloned()
            .collect();
        for kind in gone {
            if let Some(watch) = self.watching.remove(&kind) {
                watch.abort();
            }
            self.listed.constraints.remove(&kind);
            self.constraints.retain(|(of, _), _| *of != kind);
        }
        for kind in kinds {
            if self.watching.contains_key(&kind.kind) {
                continue;
            }
            let uid = self
                .templates
                .get(&kind.template_name)
                .and_then(|template| template.pointer("/metadata/uid"));
            let watch = cluster::watch_constraints(
                self.options.client.clone(),
                self.options.objects.clone(),
                kind.clone(),
                uid.and_then(Value::as_str).map(str::to_owned),
                self.sender.clone(),
                self.shutdown.clone(),
            );
            self.watching.insert(kind.kind.clone(), tokio::spawn(watch));
        }
    }

    fn ready(&self, library: &Library) -> bool {
        let kinds = library.template_kinds();
        self.listed.files
            && self.listed.synced
            && self.listed.templates
            && kinds.iter().all(|kind| self.listed.constraints.contains(&kind.kind))
    }
}

fn name(value: &Value) -> Option<String> {
    value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn kind(value: &Value) -> Option<String> {
    value.get("kind").and_then(Value::as_str).map(str::to_owned)
}

/// The event on a template or constraint that is not in force.
fn not_loaded(object: &Value, message: String) -> NewEvent {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    NewEvent {
        involved: ObjectReference {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
            ..ObjectReference::default()
        },
        severity: Severity::Warning,
        reason: NOT_LOADED.to_owned(),
        message,
        annotations: BTreeMap::new(),
        component: COMPONENT,
    }
}
