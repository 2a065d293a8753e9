//! How the stages record what they did: one method for each thing that can happen.

use std::time::Duration;

use super::metrics::Metrics;

impl Metrics {
    /// A reconciliation of one object ended. `controller` is the lower-case kind, as Flux's dashboards expect.
    pub fn reconciled(&self, kind: &str, namespace: &str, name: &str, result: ReconcileResult, took: Duration) {
        let controller = kind.to_ascii_lowercase();
        let seconds = took.as_secs_f64();
        self.0
            .reconcile_duration
            .with_label_values(&[kind, name, namespace])
            .observe(seconds);
        self.0.reconcile_time.with_label_values(&[&controller]).observe(seconds);
        self.0
            .reconcile_total
            .with_label_values(&[controller.as_str(), result.label()])
            .inc();
        if result == ReconcileResult::Error {
            self.0.reconcile_errors.with_label_values(&[&controller]).inc();
        }
    }

    /// An object is gone: its series go too.
    pub fn forget(&self, kind: &str, namespace: &str, name: &str) {
        // Absent is fine: it may never have been reconciled here.
        let _ = self.0.reconcile_duration.remove_label_values(&[kind, name, namespace]);
    }

    /// A fetch ended: `changed`, `unchanged` or `failed`.
    pub fn fetched(&self, kind: &str, result: &str) {
        self.0.source_fetch.with_label_values(&[kind, result]).inc();
    }

    /// A build ended: `success`, `failed` or `skipped`.
    pub fn rendered(&self, result: &str, took: Duration) {
        self.0.render.with_label_values(&[result]).inc();
        self.0
            .render_duration
            .with_label_values::<&str>(&[])
            .observe(took.as_secs_f64());
    }

    /// The gate decided: `allowed`, `denied` or `error`.
    pub fn gated(&self, verdict: &str) {
        self.0.gate.with_label_values(&[verdict]).inc();
    }

    /// Objects were applied, left alone, deleted or refused by the API server.
    pub fn applied(&self, action: &str, count: u64) {
        self.0.apply.with_label_values(&[action]).inc_by(count);
    }

    /// A health check ended: `healthy`, `failed`, `timeout` or `canceled`.
    pub fn health_checked(&self, result: &str) {
        self.0.health.with_label_values(&[result]).inc();
    }

    /// The guard refused a request.
    pub fn guard_denied(&self, kind: &str, manager: &str, user_class: &str) {
        self.0
            .guard
            .with_label_values(&[kind, known_manager(manager), user_class])
            .inc();
    }

    /// An Exemption let a change pass.
    pub fn guard_exempted(&self, kind: &str, manager: &str, user_class: &str) {
        self.0
            .exempted
            .with_label_values(&[kind, known_manager(manager), user_class])
            .inc();
    }

    /// How many Exemptions hold.
    pub fn exemptions(&self, active: usize) {
        self.0.exemptions.with_label_values::<&str>(&[]).set(count(active));
    }

    /// Drift was put back, or could not be.
    pub fn drift(&self, kind: &str, manager: &str, user_class: &str, reverted: bool) {
        let counter = if reverted { &self.0.drift } else { &self.0.drift_failed };
        counter
            .with_label_values(&[kind, known_manager(manager), user_class])
            .inc();
    }

    /// A field manager keeps changing what Git declares.
    pub fn drift_fight(&self, kind: &str, manager: &str, user_class: &str) {
        self.0
            .drift_fights
            .with_label_values(&[kind, known_manager(manager), user_class])
            .inc();
    }

    /// An admission request was answered.
    pub fn admitted(&self, path: &str, verdict: &str, took: Duration) {
        self.0.admission.with_label_values(&[path, verdict]).inc();
        self.0
            .admission_duration
            .with_label_values(&[path])
            .observe(took.as_secs_f64());
    }

    /// Whether a webhook configuration is as it must be.
    pub fn webhook_registered(&self, configuration: &str, registered: bool) {
        self.0
            .registered
            .with_label_values(&[configuration])
            .set(flag(registered));
    }

    /// How many policies are loaded and how many could not be.
    pub fn policies(&self, loaded: usize, failed: usize) {
        self.0.policies.with_label_values(&["loaded"]).set(count(loaded));
        self.0.policies.with_label_values(&["failed"]).set(count(failed));
    }

    /// When the certificates expire, as Unix time.
    #[allow(clippy::cast_precision_loss)] // Unix time in seconds is exact in a double for 285 million years.
    pub fn certificates(&self, serving: i64, ca: i64) {
        self.0
            .certificate_expiry
            .with_label_values(&["serving"])
            .set(serving as f64);
        self.0.certificate_expiry.with_label_values(&["ca"]).set(ca as f64);
    }

    /// Certificates could not be created, renewed or loaded.
    pub fn certificate_error(&self) {
        self.0.certificate_errors.with_label_values::<&str>(&[]).inc();
    }

    /// How many render workers wait and how many work.
    pub fn workers(&self, idle: usize, busy: usize) {
        self.0.workers.with_label_values(&["idle"]).set(count(idle));
        self.0.workers.with_label_values(&["busy"]).set(count(busy));
    }

    /// A render worker ended.
    pub fn worker_exited(&self, reason: &str) {
        self.0.worker_exits.with_label_values(&[reason]).inc();
    }

    /// A Kubernetes event was dropped.
    pub fn event_dropped(&self) {
        self.0.events_dropped.with_label_values::<&str>(&[]).inc();
    }

    /// Whether this replica leads.
    pub fn leader(&self, leads: bool) {
        self.0.leader.with_label_values::<&str>(&[]).set(flag(leads));
    }

    /// Whether a part of the process is ready.
    pub fn ready(&self, part: &str, ready: bool) {
        self.0.ready.with_label_values(&[part]).set(flag(ready));
    }
}

/// Field managers that have a series of their own. Clients choose these names freely, so all others share one: the number
/// of series stays bounded whoever writes.
const MANAGERS: &[&str] = &[
    "kubectl",
    "kubectl-annotate",
    "kubectl-client-side-apply",
    "kubectl-create",
    "kubectl-edit",
    "kubectl-label",
    "kubectl-patch",
    "kubectl-replace",
    "kubectl-rollout",
    "kubectl-set",
    "kubectl-taint",
    "helm",
    "helm-controller",
    "kustomize-controller",
    "flux",
    "argocd-controller",
    "terraform-provider-kubernetes",
    "Terraform",
    "kube-controller-manager",
    "kubelet",
    "cainjector",
    "vpa-recommender",
    "vpa-updater",
    "k9s",
    "dashboard",
];

/// The label of a field manager: its name when it is well known, `unknown` when there is none, else `other`.
fn known_manager(name: &str) -> &'static str {
    if name.is_empty() {
        return "unknown";
    }
    MANAGERS
        .iter()
        .find(|known| **known == name)
        .copied()
        .unwrap_or("other")
}

/// How a reconciliation ended, by controller-runtime's label values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Done.
    Success,
    /// Failed; tried again with back-off.
    Error,
    /// Again at once.
    Requeue,
    /// Again after a while; how most reconciliations end.
    RequeueAfter,
}

impl ReconcileResult {
    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
        }
    }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[allow(clippy::cast_precision_loss)] // Counts of things that exist in memory are exact in a double.
fn count(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_object_leaves_no_series() {
        let metrics = Metrics::new().unwrap();
        metrics.reconciled(
            "Kustomization",
            "a",
            "b",
            ReconcileResult::Error,
            Duration::from_secs(1),
        );
        assert!(
            metrics
                .text()
                .contains(r#"kind="Kustomization",name="b",namespace="a""#)
        );
        assert!(
            metrics
                .text()
                .contains(r#"controller_runtime_reconcile_errors_total{controller="kustomization"} 1"#)
        );
        metrics.forget("Kustomization", "a", "b");
        assert!(!metrics.text().contains(r#"name="b""#));
    }
}
