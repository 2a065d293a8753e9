//! Whether a live object does what its spec says: the rules that `kubectl`, Flux and its CLI follow (kstatus).
//!
//! Flow: deletion, then observed generation, then the conditions `Reconciling` and `Stalled`, then rules of the kind, then
//! the condition `Ready`; an object that says nothing of the sort is current once it exists.
//!
//! Guarantees: pure, total, and the same answer for the same object. One rule of Flux differs from kstatus: a job is
//! current only when it is complete or suspended. One rule needs a clock and is left out: a pod that cannot be scheduled
//! stays in progress, as a new node may yet come, and the caller's timeout ends the wait.

use std::fmt;

use serde_json::Value;

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It does what its spec says.
    Current,
    /// It is on its way.
    InProgress,
    /// It will not get there by itself.
    Failed,
    /// It is being deleted.
    Terminating,
    /// It does not exist.
    NotFound,
    /// What was read is not an object.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "Current",
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::NotFound => "NotFound",
            Self::Unknown => "Unknown",
        })
    }
}

/// Where an object stands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Where it stands.
    pub status: Status,
    /// Why, in a few words.
    pub message: String,
}

impl Health {
    /// The health of an object that does not exist.
    #[must_use]
    pub fn not_found() -> Self {
        found(Status::NotFound, "Resource not found")
    }

    /// Whether waiting for the object is over, well or badly.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.status, Status::Current | Status::Failed)
    }
}

/// The health of a live object; `null` stands for one that does not exist.
#[must_use]
pub fn health(object: &Value) -> Health {
    if object.is_null() {
        return Health::not_found();
    }
    let kind = text(object, "/kind");
    if kind.is_empty() {
        return found(Status::Unknown, "not a Kubernetes object: it has no kind");
    }
    let of_any_kind = deletion(object)
        .or_else(|| generation(object, kind))
        .or_else(|| stated(object));
    of_any_kind
        .or_else(|| of_kind(object, kind))
        .or_else(|| ready(object))
        .unwrap_or_else(|| found(Status::Current, "Resource is current"))
}

fn deletion(object: &Value) -> Option<Health> {
    (!text(object, "/metadata/deletionTimestamp").is_empty())
        .then(|| found(Status::Terminating, "Resource scheduled for deletion"))
}

fn generation(object: &Value, kind: &str) -> Option<Health> {
    let generation = object.pointer("/metadata/generation")?.as_i64()?;
    let observed = object.pointer("/status/observedGeneration")?.as_i64()?;
    (generation != observed).then(|| {
        progress(format!(
            "{kind} generation is {generation}, but latest observed generation is {observed}"
        ))
    })
}

/// What the object says of itself by the two conditions made for this.
fn stated(object: &Value) -> Option<Health> {
    conditions(object)
        .filter(|c| c.status == "True")
        .find_map(|condition| match condition.kind {
            "Reconciling" => Some(progress(condition.message)),
            "Stalled" => Some(failed(condition.message)),
            _ => None,
        })
}

fn ready(object: &Value) -> Option<Health> {
    let condition = conditions(object).find(|condition| condition.kind == "Ready")?;
    Some(match condition.status {
        "True" => current("Resource is Ready"),
        _ if condition.message.is_empty() => progress(format!("Ready is {}", condition.status)),
        _ => progress(condition.message),
    })
}

fn of_kind(object: &Value, kind: &str) -> Option<Health> {
    let api_version = text(object, "/apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Some(match (group, kind) {
        ("", "ConfigMap" | "Secret") | ("batch", "CronJob") => current("Resource is always ready"),
        ("", "Service") => service(object),
        ("", "Pod") => pod(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("apps" | "extensions", "Deployment") => deployment(object),
        ("apps" | "extensions", "ReplicaSet") => replica_set(object),
        ("apps" | "extensions", "DaemonSet") => daemon_set(object),
        ("apps", "StatefulSet") => stateful_set(object),
        // The disruption controller tells what it saw by the observed generation alone, which has been compared already.
        ("policy", "PodDisruptionBudget") => current("AllowedDisruptions has been computed."),
        ("batch", "Job") => job(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        _ => return None,
    })
}

fn deployment(object: &Value) -> Health {
    let progressing = conditions(object).find(|condition| condition.kind == "Progressing");
    if progressing
        .as_ref()
        .is_some_and(|c| c.reason == "ProgressDeadlineExceeded")
    {
        return failed("Progress deadline exceeded");
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let replicas = count(object, "/status/replicas");
    let updated = count(object, "/status/updatedReplicas");
    // The controller writes no Progressing condition for a deployment without a deadline; the largest number means none.
    let deadline = number(object, "/spec/progressDeadlineSeconds").filter(|seconds| *seconds < i64::from(i32::MAX));
    let rolled_out =
        deadline.is_none() || progressing.is_some_and(|c| c.status == "True" && c.reason == "NewReplicaSetAvailable");
    short("Replicas", replicas, wanted)
        .or_else(|| short("Updated", updated, wanted))
        .or_else(|| surplus(replicas, wanted))
        .or_else(|| short("Available", count(object, "/status/availableReplicas"), updated))
        .or_else(|| short("Ready", count(object, "/status/readyReplicas"), wanted))
        .or_else(|| (!rolled_out).then(|| progress("ReplicaSet not Available")))
        .or_else(|| (!is_true(object, "Available")).then(|| progress("Deployment not Available")))
        .unwrap_or_else(|| current(format!("Deployment is available. Replicas: {replicas}")))
}

fn replica_set(object: &Value) -> Health {
    if is_true(object, "ReplicaFailure") {
        return progress("Replica Failure condition. Check Pods");
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let replicas = count(object, "/status/replicas");
    short("Labelled", count(object, "/status/fullyLabeledReplicas"), wanted)
        .or_else(|| short("Available", count(object, "/status/availableReplicas"), wanted))
        .or_else(|| short("Ready", count(object, "/status/readyReplicas"), wanted))
        .or_else(|| surplus(replicas, wanted))
        .unwrap_or_else(|| current(format!("ReplicaSet is available. Replicas: {replicas}")))
}

fn daemon_set(object: &Value) -> Health {
    // Without these fields no controller has seen the object: absent must not pass for equal here.
    for (pointer, name) in [
        ("/metadata/generation", "metadata.generation"),
        ("/status/observedGeneration", "status.observedGeneration"),
    ] {
        if number(object, pointer).is_none() {
            return progress(format!("DaemonSet {name} not found"));
        }
    }
    let Some(wanted) = number(object, "/status/desiredNumberScheduled") else {
        return progress("Missing .status.desiredNumberScheduled");
    };
    short("Current", count(object, "/status/currentNumberScheduled"), wanted)
        .or_else(|| short("Updated", count(object, "/status/updatedNumberScheduled"), wanted))
        .or_else(|| short("Available", count(object, "/status/numberAvailable"), wanted))
        .or_else(|| short("Ready", count(object, "/status/numberReady"), wanted))
        .unwrap_or_else(|| current(format!("All replicas scheduled as expected. Replicas: {wanted}")))
}

fn stateful_set(object: &Value) -> Health {
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return current("StatefulSet is using the ondelete update strategy");
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let replicas = count(object, "/status/replicas");
    let updated = count(object, "/status/updatedReplicas");
    let unsettled = short("Replicas", replicas, wanted)
        .or_else(|| short("Ready", count(object, "/status/readyReplicas"), wanted))
        .or_else(|| surplus(replicas, wanted));
    if let Some(health) = unsettled {
        return health;
    }
    if let Some(partition) = number(object, "/spec/updateStrategy/rollingUpdate/partition") {
        return short("updated", updated, wanted.saturating_sub(partition))
            .unwrap_or_else(|| current(format!("Partition rollout complete. updated: {updated}")));
    }
    if let Some(health) = short("current", count(object, "/status/currentReplicas"), wanted) {
        return health;
    }
    if text(object, "/status/currentRevision") == text(object, "/status/updateRevision") {
        current(format!("All replicas scheduled as expected. Replicas: {replicas}"))
    } else {
        progress("Waiting for updated revision to match current")
    }
}

fn pod(object: &Value) -> Health {
    match text(object, "/status/phase") {
        "Succeeded" => current("Pod has completed successfully"),
        "Failed" => current("Pod has completed, but not successfully"),
        "Running" if is_true(object, "Ready") => current("Pod is Ready"),
        "Running" => {
            let looping = crash_looping(object);
            if looping.is_empty() {
                progress("Pod is running but is not Ready")
            } else {
                failed(format!("Containers in CrashLoop state: {}", looping.join(",")))
            }
        }
        "Pending" => {
            let unschedulable = |c: &Condition<'_>| c.kind == "PodScheduled" && c.reason == "Unschedulable";
            if conditions(object).any(|c| c.status == "False" && unschedulable(&c)) {
                progress("Pod has not been scheduled")
            } else {
                progress("Pod is in the Pending phase")
            }
        }
        "" => progress("Pod phase not available"),
        other => found(Status::Unknown, format!("unknown phase {other}")),
    }
}

fn crash_looping(pod: &Value) -> Vec<&str> {
    let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .filter(|container| text(container, "/state/waiting/reason") == "CrashLoopBackOff")
        .map(|container| text(container, "/name"))
        .collect()
}

fn claim(object: &Value) -> Health {
    match text(object, "/status/phase") {
        "Bound" => current("PVC is Bound"),
        "" => progress("PVC is not Bound. phase: unknown"),
        phase => progress(format!("PVC is not Bound. phase: {phase}")),
    }
}

/// Like kstatus, this does not wait for the address of a load balancer: many clusters never give one.
fn service(object: &Value) -> Health {
    if text(object, "/spec/type") == "LoadBalancer" && text(object, "/spec/clusterIP").is_empty() {
        progress("ClusterIP not set. Service type: LoadBalancer")
    } else {
        current("Service is ready")
    }
}

fn job(object: &Value) -> Health {
    let completions = number(object, "/spec/completions")
        .or_else(|| number(object, "/spec/parallelism"))
        .unwrap_or(1);
    let (succeeded, failures) = (count(object, "/status/succeeded"), count(object, "/status/failed"));
    let ended = conditions(object)
        .filter(|c| c.status == "True")
        .find_map(|condition| match condition.kind {
            "Complete" => Some(current(format!("Job Completed. succeeded: {succeeded}/{completions}"))),
            "Failed" => Some(failed(format!("Job Failed. failed: {failures}/{completions}"))),
            "Suspended" => Some(current("Job is suspended")),
            _ => None,
        });
    ended.unwrap_or_else(|| {
        if text(object, "/status/startTime").is_empty() {
            progress("Job not started")
        } else {
            let active = count(object, "/status/active");
            progress(format!(
                "Job in progress. success:{succeeded}, active: {active}, failed: {failures}"
            ))
        }
    })
}

fn definition(object: &Value) -> Health {
    let settled = conditions(object).find_map(|c| match (c.kind, c.status) {
        ("NamesAccepted", "False") => Some(failed(c.message)),
        ("Established", "False") if c.reason != "Installing" => Some(failed(c.message)),
        ("Established", "True") => Some(current("CRD is established")),
        _ => None,
    });
    settled.unwrap_or_else(|| progress("Install in progress"))
}

struct Condition<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

fn conditions(object: &Value) -> impl Iterator<Item = Condition<'_>> {
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    list.into_iter().flatten().map(|condition| Condition {
        kind: text(condition, "/type"),
        status: text(condition, "/status"),
        reason: text(condition, "/reason"),
        message: text(condition, "/message"),
    })
}

fn is_true(object: &Value, kind: &str) -> bool {
    conditions(object).any(|condition| condition.kind == kind && condition.status == "True")
}

fn short(what: &str, have: i64, want: i64) -> Option<Health> {
    (have < want).then(|| progress(format!("{what}: {have}/{want}")))
}

fn surplus(have: i64, want: i64) -> Option<Health> {
    (have > want).then(|| progress(format!("Pending termination: {}", have.saturating_sub(want))))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer)?.as_i64()
}

fn count(object: &Value, pointer: &str) -> i64 {
    number(object, pointer).unwrap_or(0)
}

fn current(message: impl Into<String>) -> Health {
    found(Status::Current, message)
}

fn progress(message: impl Into<String>) -> Health {
    found(Status::InProgress, message)
}

fn failed(message: impl Into<String>) -> Health {
    found(Status::Failed, message)
}

fn found(status: Status, message: impl Into<String>) -> Health {
    let message = message.into();
    Health { status, message }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
