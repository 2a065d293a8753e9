//! Tables of objects and their health.

use super::*;
use serde_json::json;

/// Checks statuses of one kind: each row is the spec, the status and what is expected, as `Status: message`.
fn check(api_version: &str, kind: &str, rows: &[(Value, Value, &str)]) {
    for (spec, status, expect) in rows {
        let object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status});
        let found = health(&object);
        let line = format!("{}: {}", found.status, found.message);
        assert_eq!(&line, expect, "{kind} {spec} {status}");
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!([{"type": kind, "status": status, "reason": reason, "message": message}])
}

#[test]
fn what_is_absent_or_no_object_is_said_to_be_so() {
    assert_eq!(health(&Value::Null), Health::not_found());
    assert_eq!(health(&json!([1])).status, Status::Unknown);
    assert_eq!(health(&json!({})).status, Status::Unknown);
}

#[test]
fn an_object_under_deletion_is_terminating_whatever_else_it_says() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(
        health(&object),
        found(Status::Terminating, "Resource scheduled for deletion")
    );
}

#[test]
fn any_kind_is_judged_by_generation_then_stated_conditions_then_ready() {
    let c = condition;
    let both = json!([
        {"type": "Ready", "status": "True"},
        {"type": "Reconciling", "status": "True", "message": "fetching"},
    ]);
    let rows = [
        (json!({}), json!({}), "Current: Resource is current"),
        (json!({}), Value::Null, "Current: Resource is current"),
        (
            json!({}),
            json!({"observedGeneration": -1}),
            "InProgress: Widget generation is 2, but latest observed generation is -1",
        ),
        (
            json!({}),
            json!({"observedGeneration": 2}),
            "Current: Resource is current",
        ),
        (json!({}), json!({"conditions": both}), "InProgress: fetching"),
        (
            json!({}),
            json!({"conditions": c("Reconciling", "False", "", "no")}),
            "Current: Resource is current",
        ),
        (
            json!({}),
            json!({"conditions": c("Stalled", "True", "Bad", "wrong path")}),
            "Failed: wrong path",
        ),
        (
            json!({}),
            json!({"conditions": c("Ready", "True", "", "")}),
            "Current: Resource is Ready",
        ),
        (
            json!({}),
            json!({"conditions": c("Ready", "False", "", "not yet")}),
            "InProgress: not yet",
        ),
        (
            json!({}),
            json!({"conditions": c("Ready", "Unknown", "", "")}),
            "InProgress: Ready is Unknown",
        ),
        (
            json!({}),
            json!({"conditions": "nonsense"}),
            "Current: Resource is current",
        ),
    ];
    check("example.com/v1", "Widget", &rows);
}

#[test]
fn a_deployment_is_current_when_its_rollout_has_ended() {
    let done = json!([
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        {"type": "Available", "status": "True"},
    ]);
    let status = |replicas: i64, updated: i64, available: i64, ready: i64, conditions: &Value| {
        json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available, "readyReplicas": ready, "conditions": conditions})
    };
    let two = || json!({"replicas": 2, "progressDeadlineSeconds": 600});
    let rows = [
        (json!({"replicas": 2}), json!({}), "InProgress: Replicas: 0/2"),
        (json!({}), json!({}), "InProgress: Replicas: 0/1"),
        (
            two(),
            json!({"observedGeneration": 1}),
            "InProgress: Deployment generation is 2, but latest observed generation is 1",
        ),
        (two(), status(2, 1, 2, 2, &done), "InProgress: Updated: 1/2"),
        (two(), status(3, 2, 2, 2, &done), "InProgress: Pending termination: 1"),
        (two(), status(2, 2, 1, 2, &done), "InProgress: Available: 1/2"),
        (two(), status(2, 2, 2, 1, &done), "InProgress: Ready: 1/2"),
        (
            two(),
            status(2, 2, 2, 2, &condition("Available", "True", "", "")),
            "InProgress: ReplicaSet not Available",
        ),
        (
            json!({"replicas": 2}),
            status(2, 2, 2, 2, &json!([])),
            "InProgress: Deployment not Available",
        ),
        (
            json!({"replicas": 2, "progressDeadlineSeconds": i32::MAX}),
            status(2, 2, 2, 2, &condition("Available", "True", "", "")),
            "Current: Deployment is available. Replicas: 2",
        ),
        (
            two(),
            status(
                2,
                1,
                1,
                1,
                &condition("Progressing", "False", "ProgressDeadlineExceeded", ""),
            ),
            "Failed: Progress deadline exceeded",
        ),
        (
            two(),
            status(2, 2, 2, 2, &done),
            "Current: Deployment is available. Replicas: 2",
        ),
        (
            json!({"replicas": 0, "progressDeadlineSeconds": 600}),
            status(0, 0, 0, 0, &done),
            "Current: Deployment is available. Replicas: 0",
        ),
    ];
    check("apps/v1", "Deployment", &rows);
}

#[test]
fn a_replica_set_is_current_when_its_pods_are_there() {
    let status = |labelled: i64, available: i64, ready: i64, replicas: i64| json!({"fullyLabeledReplicas": labelled, "availableReplicas": available, "readyReplicas": ready, "replicas": replicas});
    let two = || json!({"replicas": 2});
    let rows = [
        (two(), status(1, 2, 2, 2), "InProgress: Labelled: 1/2"),
        (two(), status(2, 1, 2, 2), "InProgress: Available: 1/2"),
        (two(), status(2, 2, 1, 2), "InProgress: Ready: 1/2"),
        (two(), status(2, 2, 2, 3), "InProgress: Pending termination: 1"),
        (
            two(),
            json!({"conditions": condition("ReplicaFailure", "True", "FailedCreate", "")}),
            "InProgress: Replica Failure condition. Check Pods",
        ),
        (
            two(),
            status(2, 2, 2, 2),
            "Current: ReplicaSet is available. Replicas: 2",
        ),
    ];
    check("apps/v1", "ReplicaSet", &rows);
}

#[test]
fn a_stateful_set_follows_its_update_strategy() {
    let status = |replicas: i64, ready: i64, current: i64, updated: i64, revision: &str| {
        json!({"replicas": replicas, "readyReplicas": ready, "currentReplicas": current, "updatedReplicas": updated,
            "currentRevision": "a", "updateRevision": revision})
    };
    let three = || json!({"replicas": 3});
    let partition = |at: i64| json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": at}}});
    let rows = [
        (
            json!({"updateStrategy": {"type": "OnDelete"}}),
            json!({}),
            "Current: StatefulSet is using the ondelete update strategy",
        ),
        (three(), status(2, 2, 2, 2, "a"), "InProgress: Replicas: 2/3"),
        (three(), status(3, 2, 3, 3, "a"), "InProgress: Ready: 2/3"),
        (three(), status(4, 4, 3, 3, "a"), "InProgress: Pending termination: 1"),
        (partition(1), status(3, 3, 0, 1, "b"), "InProgress: updated: 1/2"),
        (
            partition(1),
            status(3, 3, 0, 2, "b"),
            "Current: Partition rollout complete. updated: 2",
        ),
        (three(), status(3, 3, 1, 2, "b"), "InProgress: current: 1/3"),
        (
            three(),
            status(3, 3, 3, 3, "b"),
            "InProgress: Waiting for updated revision to match current",
        ),
        (
            three(),
            status(3, 3, 3, 3, "a"),
            "Current: All replicas scheduled as expected. Replicas: 3",
        ),
    ];
    check("apps/v1", "StatefulSet", &rows);
}

#[test]
fn a_daemon_set_must_have_been_seen_by_its_controller() {
    let status = |current: i64, updated: i64, available: i64, ready: i64| {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": current,
            "updatedNumberScheduled": updated, "numberAvailable": available, "numberReady": ready})
    };
    let rows = [
        (
            json!({}),
            json!({}),
            "InProgress: DaemonSet status.observedGeneration not found",
        ),
        (
            json!({}),
            json!({"observedGeneration": 2}),
            "InProgress: Missing .status.desiredNumberScheduled",
        ),
        (json!({}), status(2, 3, 3, 3), "InProgress: Current: 2/3"),
        (json!({}), status(3, 2, 3, 3), "InProgress: Updated: 2/3"),
        (json!({}), status(3, 3, 2, 3), "InProgress: Available: 2/3"),
        (json!({}), status(3, 3, 3, 2), "InProgress: Ready: 2/3"),
        (
            json!({}),
            status(3, 3, 3, 3),
            "Current: All replicas scheduled as expected. Replicas: 3",
        ),
    ];
    check("apps/v1", "DaemonSet", &rows);
}

#[test]
fn a_pod_is_judged_by_its_phase_and_containers() {
    let looping = json!({"phase": "Running", "containerStatuses": [
        {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        {"name": "ok", "state": {"running": {}}},
        {"name": "proxy", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
    ]});
    let rows = [
        (json!({}), json!({}), "InProgress: Pod phase not available"),
        (
            json!({}),
            json!({"phase": "Succeeded"}),
            "Current: Pod has completed successfully",
        ),
        (
            json!({}),
            json!({"phase": "Failed"}),
            "Current: Pod has completed, but not successfully",
        ),
        (
            json!({}),
            json!({"phase": "Running", "conditions": condition("Ready", "True", "", "")}),
            "Current: Pod is Ready",
        ),
        (
            json!({}),
            json!({"phase": "Running"}),
            "InProgress: Pod is running but is not Ready",
        ),
        (json!({}), looping, "Failed: Containers in CrashLoop state: app,proxy"),
        (
            json!({}),
            json!({"phase": "Pending"}),
            "InProgress: Pod is in the Pending phase",
        ),
        (
            json!({}),
            json!({"phase": "Pending", "conditions": condition("PodScheduled", "False", "Unschedulable", "")}),
            "InProgress: Pod has not been scheduled",
        ),
        (json!({}), json!({"phase": "Odd"}), "Unknown: unknown phase Odd"),
    ];
    check("v1", "Pod", &rows);
}

#[test]
fn a_job_is_current_only_when_complete_or_suspended() {
    let ended = |kind: &str| json!({"succeeded": 2, "failed": 1, "conditions": condition(kind, "True", "", "")});
    let rows = [
        (json!({}), json!({}), "InProgress: Job not started"),
        (
            json!({}),
            json!({"startTime": "2026-01-01T00:00:00Z", "active": 1}),
            "InProgress: Job in progress. success:0, active: 1, failed: 0",
        ),
        (
            json!({"completions": 2}),
            ended("Complete"),
            "Current: Job Completed. succeeded: 2/2",
        ),
        (
            json!({"parallelism": 3}),
            ended("Failed"),
            "Failed: Job Failed. failed: 1/3",
        ),
        (json!({}), ended("Suspended"), "Current: Job is suspended"),
        (json!({}), ended("FailureTarget"), "InProgress: Job not started"),
    ];
    check("batch/v1", "Job", &rows);
}

#[test]
fn kinds_with_a_simple_rule_follow_it() {
    let none = || json!({});
    check(
        "v1",
        "ConfigMap",
        &[(none(), none(), "Current: Resource is always ready")],
    );
    check("v1", "Secret", &[(none(), none(), "Current: Resource is always ready")]);
    check(
        "batch/v1",
        "CronJob",
        &[(none(), none(), "Current: Resource is always ready")],
    );
    check(
        "v1",
        "Namespace",
        &[(none(), json!({"phase": "Active"}), "Current: Resource is current")],
    );
    let budget = [(
        none(),
        json!({"observedGeneration": 2}),
        "Current: AllowedDisruptions has been computed.",
    )];
    check("policy/v1", "PodDisruptionBudget", &budget);
    let claims = [
        (none(), none(), "InProgress: PVC is not Bound. phase: unknown"),
        (
            none(),
            json!({"phase": "Pending"}),
            "InProgress: PVC is not Bound. phase: Pending",
        ),
        (none(), json!({"phase": "Bound"}), "Current: PVC is Bound"),
    ];
    check("v1", "PersistentVolumeClaim", &claims);
    let services = [
        (none(), none(), "Current: Service is ready"),
        (
            json!({"type": "LoadBalancer"}),
            none(),
            "InProgress: ClusterIP not set. Service type: LoadBalancer",
        ),
        (
            json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
            none(),
            "Current: Service is ready",
        ),
    ];
    check("v1", "Service", &services);
    // A kind of the same name in another group has no rule of its own.
    check(
        "serving.knative.dev/v1",
        "Service",
        &[(none(), none(), "Current: Resource is current")],
    );
}

#[test]
fn a_definition_is_current_when_it_is_established() {
    let status = |c: Value| json!({"conditions": c});
    let rows = [
        (json!({}), json!({}), "InProgress: Install in progress"),
        (
            json!({}),
            status(condition("NamesAccepted", "False", "Conflict", "name taken")),
            "Failed: name taken",
        ),
        (
            json!({}),
            status(condition("Established", "False", "Installing", "wait")),
            "InProgress: Install in progress",
        ),
        (
            json!({}),
            status(condition("Established", "False", "NotAccepted", "no")),
            "Failed: no",
        ),
        (
            json!({}),
            status(condition("Established", "True", "", "")),
            "Current: CRD is established",
        ),
    ];
    check("apiextensions.k8s.io/v1", "CustomResourceDefinition", &rows);
}

#[test]
fn waiting_ends_with_success_or_failure_only() {
    for (status, settled) in [
        (Status::Current, true),
        (Status::Failed, true),
        (Status::InProgress, false),
        (Status::Terminating, false),
        (Status::NotFound, false),
        (Status::Unknown, false),
    ] {
        assert_eq!(found(status, "").is_settled(), settled, "{status}");
    }
}
