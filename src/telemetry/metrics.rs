//! Every metric of Weir, in one table.
//!
//! `TABLE` is the only place where a metric name is written; `Metrics` holds what the table describes, and `record`
//! offers it to the stages by typed methods, so that label values are spelled in one place too. Flux's and controller-runtime's names
//! are kept where its dashboards read them (`gotk_*`, `controller_runtime_*`); everything else begins with `weir_`.
//!
//! Guarantees: recording never fails and never blocks on I/O; the names of gone objects can be forgotten, so the number
//! of series stays within the number of objects.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Full name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence about it.
    pub help: &'static str,
}

/// The form of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution of seconds from a request's fraction of a millisecond to half an hour, as Flux's.
    Reconciles,
    /// Distribution of seconds from a tenth of a millisecond to ten seconds, the longest an admission may take.
    Requests,
}

macro_rules! table {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: Definition = Definition {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        };)*
        /// Every metric that Weir has.
        pub const TABLE: &[Definition] = &[$($ident),*];
    };
}

table! {
    RECONCILE_DURATION = Reconciles "gotk_reconcile_duration_seconds" ["kind", "name", "namespace"]
        "The duration in seconds of a reconciliation of one object.";
    RECONCILE_TOTAL = Counter "controller_runtime_reconcile_total" ["controller", "result"]
        "Reconciliations by controller and result (success, error, requeue, requeue_after).";
    RECONCILE_ERRORS = Counter "controller_runtime_reconcile_errors_total" ["controller"]
        "Failed reconciliations by controller.";
    RECONCILE_TIME = Reconciles "controller_runtime_reconcile_time_seconds" ["controller"]
        "The duration in seconds of reconciliations by controller.";
    SOURCE_FETCH = Counter "weir_source_fetch_total" ["kind", "result"]
        "Fetches from a source by kind and result (changed, unchanged, failed).";
    RENDER = Counter "weir_render_total" ["result"]
        "Builds by result (success, failed, skipped because nothing they read has changed).";
    RENDER_DURATION = Requests "weir_render_duration_seconds" []
        "The duration in seconds of a build.";
    GATE_DECISIONS = Counter "weir_gate_decisions_total" ["verdict"]
        "Decisions of the gate before apply by verdict (allowed, denied, error).";
    APPLY_OBJECTS = Counter "weir_apply_objects_total" ["action"]
        "Objects by what was done with them (created, configured, unchanged, skipped, deleted, failed).";
    HEALTH_CHECKS = Counter "weir_health_checks_total" ["result"]
        "Health checks of whole changes by result (healthy, failed, timeout, canceled).";
    GUARD_DENIED = Counter "weir_guard_denied_total" ["kind", "manager", "user_class"]
        "Requests that the guard refused because Git declares what they change, by kind of object, field manager \
         (other when it is none of the well-known) and class of user (person, service-account, controller, system).";
    GUARD_EXEMPTED = Counter "weir_guard_exempted_total" ["kind", "manager", "user_class"]
        "Changes of what Git declares that an Exemption let pass, by kind of object, field manager and class of user.";
    EXEMPTIONS = Gauge "weir_exemptions_active" []
        "Exemptions that hold now.";
    DRIFT_REVERTED = Counter "weir_drift_reverted_total" ["kind", "manager", "user_class"]
        "Objects put back to what Git declares after something else changed them, by kind of object, field manager and class \
         of user as far as the manager's name tells (person, controller, unknown).";
    DRIFT_FAILED = Counter "weir_drift_failed_total" ["kind", "manager", "user_class"]
        "Attempts to put an object back that failed, by kind of object, field manager and class of user.";
    DRIFT_FIGHTS = Counter "weir_drift_fights_total" ["kind", "manager", "user_class"]
        "Times that an object was put back while a field manager keeps changing the same fields, by kind of object, field \
         manager and class of user.";
    ADMISSION_REQUESTS = Counter "weir_admission_requests_total" ["path", "verdict"]
        "Admission requests by path and verdict (allowed, denied, malformed, overloaded, timeout, failed).";
    ADMISSION_DURATION = Requests "weir_admission_duration_seconds" ["path"]
        "The duration in seconds of an admission decision by path.";
    WEBHOOK_REGISTERED = Gauge "weir_webhook_registered" ["configuration"]
        "1 while a webhook configuration exists and holds our CA bundle, else 0.";
    POLICIES = Gauge "weir_policies" ["state"]
        "Policies by state (loaded, failed).";
    CERTIFICATE_EXPIRY = Gauge "weir_certificate_expiry_seconds" ["certificate"]
        "Unix time at which a certificate of the webhook expires (serving, ca).";
    CERTIFICATE_ERRORS = Counter "weir_certificate_errors_total" []
        "Failed attempts to create, renew or load the webhook's certificates.";
    WORKERS = Gauge "weir_workers" ["state"]
        "Render workers by state (idle, busy).";
    WORKER_EXITS = Counter "weir_worker_exits_total" ["reason"]
        "Render workers that ended by reason (idle, crash, deadline, memory, protocol, snapshot).";
    EVENTS_DROPPED = Counter "weir_events_dropped_total" []
        "Kubernetes events that were not written because too many were waiting or the API server refused them.";
    LEADER = Gauge "weir_leader" []
        "1 on the replica that holds the lease, else 0.";
    READY = Gauge "weir_ready" ["part"]
        "1 while a part of the process is ready, else 0.";
    BUILD_INFO = Gauge "weir_build_info" ["version"]
        "1, with the version of the program as a label.";
}

/// Smallest and largest bound and number of buckets of Flux's `gotk_reconcile_duration_seconds`.
const RECONCILE_BUCKETS: (f64, f64, usize) = (0.01, 1800.0, 10);
/// A policy decision takes about a tenth of a millisecond; the API server waits at most ten seconds in steps that a p99
/// can be read from.
const REQUEST_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Why metrics could not be set up: a definition in the table is wrong, which a test rules out.
#[derive(Debug, thiserror::Error)]
#[error("metric {name} cannot be registered: {source}")]
pub struct MetricsError {
    name: &'static str,
    source: prometheus::Error,
}

/// All metrics of one process. Clones share the same values.
#[derive(Clone)]
pub struct Metrics(pub(super) Arc<Inner>);

macro_rules! metrics {
    ($($field:ident: $type:ident = $definition:ident;)*) => {
        pub(super) struct Inner {
            registry: Registry,
            $(pub(super) $field: $type,)*
        }

        impl Metrics {
            /// Makes all metrics of the table.
            ///
            /// # Errors
            /// When a definition is wrong.
            pub fn new() -> Result<Self, MetricsError> {
                let registry = Registry::new();
                $(let $field: $type = Build::build(&registry, &$definition)?;)*
                // The process collector knows its names itself; a registry without it is still useful.
                let _ = registry.register(Box::new(ProcessCollector::for_self()));
                let metrics = Self(Arc::new(Inner { registry, $($field,)* }));
                metrics.0.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
                Ok(metrics)
            }

            /// Gives every metric one value, so that a test sees all of them in the output.
            #[cfg(test)]
            fn touch(&self) {
                $(self.0.$field.touch(&$definition);)*
            }
        }
    };
}

metrics! {
    reconcile_duration: HistogramVec = RECONCILE_DURATION;
    reconcile_total: IntCounterVec = RECONCILE_TOTAL;
    reconcile_errors: IntCounterVec = RECONCILE_ERRORS;
    reconcile_time: HistogramVec = RECONCILE_TIME;
    source_fetch: IntCounterVec = SOURCE_FETCH;
    render: IntCounterVec = RENDER;
    render_duration: HistogramVec = RENDER_DURATION;
    gate: IntCounterVec = GATE_DECISIONS;
    apply: IntCounterVec = APPLY_OBJECTS;
    health: IntCounterVec = HEALTH_CHECKS;
    guard: IntCounterVec = GUARD_DENIED;
    exempted: IntCounterVec = GUARD_EXEMPTED;
    exemptions: GaugeVec = EXEMPTIONS;
    drift: IntCounterVec = DRIFT_REVERTED;
    drift_failed: IntCounterVec = DRIFT_FAILED;
    drift_fights: IntCounterVec = DRIFT_FIGHTS;
    admission: IntCounterVec = ADMISSION_REQUESTS;
    admission_duration: HistogramVec = ADMISSION_DURATION;
    registered: GaugeVec = WEBHOOK_REGISTERED;
    policies: GaugeVec = POLICIES;
    certificate_expiry: GaugeVec = CERTIFICATE_EXPIRY;
    certificate_errors: IntCounterVec = CERTIFICATE_ERRORS;
    workers: GaugeVec = WORKERS;
    worker_exits: IntCounterVec = WORKER_EXITS;
    events_dropped: IntCounterVec = EVENTS_DROPPED;
    leader: GaugeVec = LEADER;
    ready: GaugeVec = READY;
    build_info: GaugeVec = BUILD_INFO;
}

impl Metrics {
    /// The Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Encoding into memory fails only for a broken family; the rest of the output is worth more than the error.
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut out) {
            tracing::warn!(%error, "metrics could not be encoded");
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

trait Build: Sized {
    fn build(registry: &Registry, definition: &Definition) -> Result<Self, MetricsError>;
    #[cfg(test)]
    fn touch(&self, definition: &Definition);
}

macro_rules! build {
    ($type:ident, |$definition:ident| $make:expr, |$vec:ident, $values:ident| $touch:expr) => {
        impl Build for $type {
            fn build(registry: &Registry, $definition: &Definition) -> Result<Self, MetricsError> {
                register(registry, $definition, $make)
            }

            #[cfg(test)]
            fn touch(&self, definition: &Definition) {
                let $values: Vec<&str> = definition.labels.iter().map(|_| "x").collect();
                let $vec = self;
                $touch;
            }
        }
    };
}

build!(
    IntCounterVec,
    |definition| Self::new(Opts::new(definition.name, definition.help), definition.labels),
    |vec, values| vec.with_label_values(&values).inc()
);
build!(
    GaugeVec,
    |definition| Self::new(Opts::new(definition.name, definition.help), definition.labels),
    |vec, values| vec.with_label_values(&values).set(1.0)
);
build!(
    HistogramVec,
    |definition| {
        let options = HistogramOpts::new(definition.name, definition.help).buckets(buckets(definition.kind));
        Self::new(options, definition.labels)
    },
    |vec, values| vec.with_label_values(&values).observe(1.0)
);

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    definition: &Definition,
    made: prometheus::Result<C>,
) -> Result<C, MetricsError> {
    let registered = made.and_then(|metric| registry.register(Box::new(metric.clone())).map(|()| metric));
    registered.map_err(|source| MetricsError {
        name: definition.name,
        source,
    })
}

fn buckets(kind: Kind) -> Vec<f64> {
    if kind == Kind::Requests {
        return REQUEST_BUCKETS.to_vec();
    }
    let (first, last, count) = RECONCILE_BUCKETS;
    let steps = i32::try_from(count).unwrap_or(i32::MAX) - 1;
    let factor = (last / first).powf(1.0 / f64::from(steps));
    (0..=steps).map(|step| first * factor.powi(step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_in_the_output_and_no_other() {
        let metrics = Metrics::new().unwrap();
        metrics.touch();
        let text = metrics.text();
        let mut written: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .filter(|name| !name.starts_with("process_"))
            .collect();
        let mut table: Vec<&str> = TABLE.iter().map(|definition| definition.name).collect();
        written.sort_unstable();
        table.sort_unstable();
        assert_eq!(written, table);
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[test]
    fn names_say_what_kind_they_are() {
        for definition in TABLE {
            assert_eq!(
                definition.name.ends_with("_total"),
                definition.kind == Kind::Counter,
                "{}",
                definition.name
            );
            assert!(definition.help.ends_with('.'), "{}", definition.name);
        }
    }

    #[test]
    fn reconcile_buckets_are_flux_s() {
        let buckets = buckets(Kind::Reconciles);
        assert_eq!(buckets.len(), 10);
        assert!(
            (buckets[0] - 0.01).abs() < 1e-12 && (buckets[9] - 1800.0).abs() < 1e-6,
            "{buckets:?}"
        );
    }
}
