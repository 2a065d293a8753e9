//! `weir run`: reconcilers and webhook in one process.

mod arguments;
mod of_flux;
mod reconcilers;
mod webhook;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::renderer;
use crate::admission::rotate;
use crate::apply::objects::Objects;
use crate::cluster::client::{self, ClientOptions};
use crate::cluster::discovery::Discovery;
use crate::cluster::forward::{self, Forwarder};
use crate::cluster::{events, lease};
use crate::controllers::exemptions::Exemptions;
use crate::controllers::foreign::Foreign;
use crate::controllers::{Settings, Shared, Watched, drift, freeze, kustomization, policies, snapshots};
use crate::core::duration::parse_duration;
use crate::core::gates::Gates;
use crate::core::identity::Identity;
use crate::core::selector::LabelSelector;
use crate::render::keys::SecretName;
use crate::render::{Decrypting, Options as PoolOptions, Pool};
use crate::serve::health::{Offer, Readiness};
use crate::serve::{artifacts, health, server};
use crate::source::git::GitFetcher;
use crate::source::store::{ArtifactStore, Retention};
use crate::telemetry::logs::{self, LogOptions};
use crate::telemetry::metrics::Metrics;
use arguments::KINDS;
pub use arguments::Run;
use reconcilers::Reconcilers;

/// How long stopping may take: Kubernetes' default grace period is 30 s.
const STOP: Duration = Duration::from_secs(25);

/// Runs until it is told to stop.
///
/// # Errors
/// When it cannot start: no cluster, a port that is taken, no render worker.
pub async fn run(arguments: Run) -> anyhow::Result<()> {
    logs::init(LogOptions {
        level: arguments.log_level,
        encoding: arguments.log_encoding,
    })?;
    let requeue_dependency = parse_duration(&arguments.requeue_dependency).context("--requeue-dependency")?;
    let source_retry = (
        parse_duration(&arguments.min_retry_delay).context("--min-retry-delay")?,
        parse_duration(&arguments.max_retry_delay).context("--max-retry-delay")?,
    );
    let retention = Retention {
        records: usize::from(arguments.artifact_retention_records),
        ttl: parse_duration(&arguments.artifact_retention_ttl).context("--artifact-retention-ttl")?,
    };
    let custom_stage = custom_stage(&arguments.custom_apply_stage_kinds)?;
    let (gates, notes) =
        Gates::parse(&arguments.feature_gates).map_err(|error| anyhow::anyhow!("--feature-gates: {error}"))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    for note in arguments.of_flux.without_effect() {
        tracing::warn!("{note}");
    }
    if arguments.default_decryption_service_account.is_some()
        && !(arguments.sops_vault_configmap.is_some() && gates.object_level_workload_identity)
    {
        tracing::warn!(
            "--default-decryption-service-account changes nothing without --sops-vault-configmap and the gate \
             ObjectLevelWorkloadIdentity: other key management services are asked with credentials of the Secret of \
             spec.decryption"
        );
    }
    for kind in &arguments.reconcilers {
        anyhow::ensure!(
            KINDS.contains(&kind.as_str()),
            "--reconcilers: {kind:?} is not a kind that this version reconciles; use {}",
            KINDS.join(", ")
        );
    }
    let program = renderer::locate(arguments.renderer.as_deref())?;
    let decrypting = renderer::locate_decrypting(arguments.sops_renderer.as_deref())?;
    // The second is for what those that still work at the stop need: the lead, and somebody who writes events.
    let (shutdown, worked_off) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(stop_on_signal(shutdown.clone()));

    let metrics = Metrics::new()?;
    let readiness = Readiness::new(metrics.clone());
    let (cluster_ready, policies_ready) = (readiness.part("cluster"), readiness.part("policies"));
    let webhook_ready = arguments.webhook.then(|| readiness.part("webhook"));
    let storage = server::bind("--storage-addr", &arguments.storage_addr)?;
    let advertised = arguments
        .storage_adv_addr
        .clone()
        .unwrap_or_else(|| reachable(&storage, &arguments.storage_addr));
    let mut servers = vec![
        artifacts::start(
            storage,
            arguments.storage_path.clone(),
            shutdown.clone().cancelled_owned(),
        )
        .await?,
    ];
    servers.extend(serve_health(&arguments, &readiness, &metrics, &shutdown).await?);

    let client = client::connect(&ClientOptions {
        kubeconfig: arguments.kubeconfig.clone(),
    })
    .await?;
    let identity = until_answered(&client, &cluster_ready, &shutdown).await;
    let Some(identity) = identity else { return Ok(()) };
    cluster_ready.ready();
    tracing::info!(identity = %identity.username, "connected to the API server");
    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| "weir".to_owned());
    let (forwarder, notices_task) = notices(&arguments, &instance, &metrics, &worked_off)?;
    let (recorder, events_task) = events::start(
        client.clone(),
        instance.clone(),
        metrics.clone(),
        forwarder,
        worked_off.clone().cancelled_owned(),
    );
    let discovery = Discovery::new(client.clone());
    let objects = Objects::new(client.clone(), discovery);
    let (policies, inventory, _) = policies::start(
        policies::Options {
            objects: objects.clone(),
            client: client.clone(),
            namespace: arguments.runtime_namespace.clone(),
            directory: arguments.policy_dir.clone(),
            instance: instance.clone(),
            metrics: metrics.clone(),
            events: recorder.clone(),
        },
        shutdown.clone(),
    );
    tokio::spawn(report_policies(policies.clone(), policies_ready));
    let (namespaces, namespaces_listed) = follow_namespaces(&client, &shutdown);
    let snapshots = snapshots::Snapshots::default();
    std::fs::create_dir_all(&arguments.storage_path).context("--storage-path")?;
    let watched = if arguments.watch_all_namespaces {
        Watched::All
    } else {
        Watched::Only(arguments.runtime_namespace.clone())
    };
    let own_labels = arguments.watch_label_selector.as_deref().map(LabelSelector::parse);
    let own_labels = own_labels
        .transpose()
        .map_err(|error| anyhow::anyhow!("--watch-label-selector: {error}"))?;
    let foreign = Foreign::new(
        &client,
        &watched,
        (&arguments.reconcilers, own_labels),
        snapshots.clone(),
        arguments.storage_path.clone(),
        &shutdown,
    );
    let beside = |name: &str| SecretName {
        namespace: arguments.runtime_namespace.clone(),
        name: name.to_owned(),
    };
    let shared = Arc::new(Shared {
        pool: Pool::observed(PoolOptions::new(program), metrics.clone()),
        decrypting: Decrypting::new(decrypting, Some(&metrics)),
        fetcher: Arc::new(GitFetcher::new(&arguments.storage_path)),
        artifacts: ArtifactStore::new(&arguments.storage_path, &advertised).with_retention(retention),
        snapshots,
        foreign,
        remotes: kustomization::remote::Remotes::default(),
        policies,
        inventory,
        book: drift::Book::default(),
        exemptions: Exemptions::follow(&client, &arguments.runtime_namespace, shutdown.clone()),
        freeze: freeze::follow(&client, &arguments.runtime_namespace, shutdown.clone()),
        namespaces,
        namespaces_listed,
        events: recorder,
        metrics: metrics.clone(),
        settings: Settings {
            certificates: SecretName {
                namespace: arguments.runtime_namespace.clone(),
                name: rotate::SECRET.to_owned(),
            },
            concurrent: arguments.concurrent,
            interval_jitter_percentage: arguments.interval_jitter_percentage,
            source_retry,
            gates,
            max_prune: arguments.max_prune,
            custom_stage,
            requeue_dependency,
            no_cross_namespace_refs: arguments.no_cross_namespace_refs,
            default_service_account: arguments.default_service_account.clone(),
            default_kubeconfig_service_account: arguments.default_kubeconfig_service_account.clone(),
            insecure_kubeconfig_tls: arguments.insecure_kubeconfig_tls,
            sops_age_secret: arguments.sops_age_secret.as_deref().map(beside),
            sops_vault_config_map: arguments.sops_vault_configmap.as_deref().map(beside),
            default_decryption_service_account: arguments.default_decryption_service_account.clone(),
            watch_configs_label_selector: arguments.watch_configs_label_selector.clone(),
            guards: arguments.webhook,
            watched,
            override_managers: arguments.override_manager.clone().into(),
            watch_label_selector: arguments.watch_label_selector.clone(),
        },
        identity,
        objects,
        client: client.clone(),
        stopping: shutdown.clone(),
    });

    let reconcilers = Reconcilers::prepare(&shared);
    if let Some(part) = webhook_ready {
        servers.push(webhook::serve(&arguments, &shared, &reconcilers, part, &shutdown).await?);
    }
    // Kept until the end: a lead whose owner is gone would count as lost.
    let (_always, alone) = watch::channel(true);
    let mut last = vec![events_task];
    last.extend(notices_task);
    let leads = if arguments.leader_elect {
        let candidate = candidate(&instance);
        let options = lease::LeaseOptions::new(&arguments.runtime_namespace, "weir-leader-election", &candidate);
        let (leads, task) = lease::start(client, options, worked_off.clone().cancelled_owned());
        last.push(task);
        leads
    } else {
        alone
    };
    let working = reconcilers.start(&arguments.reconcilers, leads, &shutdown);
    shutdown.cancelled().await;
    tracing::info!("stopping: what is under way ends, nothing new begins");
    let ended = tokio::time::timeout(STOP, async {
        futures::future::join_all(working).await;
        worked_off.cancel();
        futures::future::join_all(last).await;
        shared.pool.stop().await;
        shared.decrypting.stop().await;
        for server in servers {
            if let Err(error) = server.stopped().await {
                tracing::warn!(error = %error, "server did not end well");
            }
        }
    });
    if ended.await.is_err() {
        tracing::warn!(
            "stopping took longer than {} s; leaving what is under way, which is safe to repeat",
            STOP.as_secs()
        );
    }
    tracing::info!("stopped");
    Ok(())
}

/// What tells who listens at `--events-addr`, if anybody does.
fn notices(
    arguments: &Run,
    instance: &str,
    metrics: &Metrics,
    until: &CancellationToken,
) -> anyhow::Result<(Option<Forwarder>, Option<JoinHandle<()>>)> {
    let Some(address) = arguments.events_addr.as_deref().filter(|address| !address.is_empty()) else {
        return Ok((None, None));
    };
    let until = until.clone().cancelled_owned();
    let (forwarder, task) = forward::start(address, instance.to_owned(), metrics.clone(), until)
        .map_err(|error| anyhow::anyhow!("--events-addr: {error}"))?;
    Ok((Some(forwarder), Some(task)))
}

/// Metrics, liveness and readiness; one listener when both have the same address.
async fn serve_health(
    arguments: &Run,
    readiness: &Readiness,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<Vec<server::Running>> {
    let offers = if arguments.metrics_addr == arguments.health_addr {
        vec![("--metrics-addr", &arguments.metrics_addr, Offer::Both)]
    } else {
        vec![
            ("--metrics-addr", &arguments.metrics_addr, Offer::Metrics),
            ("--health-addr", &arguments.health_addr, Offer::Health),
        ]
    };
    let mut running = Vec::new();
    for (flag, address, offer) in offers {
        let (listener, stop) = (server::bind(flag, address)?, shutdown.clone().cancelled_owned());
        let server = health::start(listener, offer, readiness.clone(), metrics.clone(), stop).await?;
        tracing::info!(address = %server.address, flag, "listening");
        running.push(server);
    }
    Ok(running)
}

/// Reads `--custom-apply-stage-kinds`.
fn custom_stage(kinds: &[String]) -> anyhow::Result<Arc<[(String, String)]>> {
    let read = kinds.iter().map(|text| {
        let (group, kind) = text.trim().rsplit_once('/').unwrap_or(("", text.trim()));
        let named = kind.starts_with(|c: char| c.is_ascii_uppercase());
        anyhow::ensure!(
            named,
            "--custom-apply-stage-kinds: {text:?} is not of the form GROUP/KIND"
        );
        Ok((group.to_owned(), kind.to_owned()))
    });
    read.collect()
}

/// Names this start of the process among those that compete for the lead. A restarted container has the host name and the
/// process id of the one before it, and must not take that one's lead for its own.
fn candidate(instance: &str) -> String {
    let start = RandomState::new().hash_one(std::process::id());
    format!("{instance}_{start:016x}")
}

/// Asks the API server who we are until it answers: it may still be starting.
async fn until_answered(client: &Client, part: &health::Part, shutdown: &CancellationToken) -> Option<Identity> {
    /// How long between attempts.
    const RETRY: Duration = Duration::from_secs(2);
    loop {
        match client::whoami(client).await {
            Ok(identity) => return Some(identity),
            Err(error) => {
                tracing::error!(error = %error, "the API server does not answer; trying again");
                part.not_ready(error.to_string());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn report_policies(mut policies: watch::Receiver<policies::Policies>, part: health::Part) {
    part.not_ready("not loaded yet");
    if policies.wait_for(|policies| policies.ready).await.is_ok() {
        part.ready();
    }
}

fn follow_namespaces(client: &Client, shutdown: &CancellationToken) -> (Store<Namespace>, watch::Receiver<bool>) {
    let (store, writer) = reflector::store();
    let (listed, known) = watch::channel(false);
    let stream = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()).default_backoff();
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let followed = stream
            .reflect(writer)
            .take_until(shutdown.cancelled_owned())
            .for_each(|event| {
                match event {
                    Ok(watcher::Event::InitDone) => drop(listed.send_replace(true)),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(kind = "Namespace", error = %error, "watch interrupted, resuming"),
                }
                std::future::ready(())
            });
        followed.await;
    });
    (store, known)
}

/// `--storage-addr` as others reach it: the port that was really bound, on this host when no host is named.
fn reachable(listener: &std::net::TcpListener, address: &str) -> String {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let host = if host.is_empty() || host == "0.0.0.0" || host == "[::]" {
        "localhost"
    } else {
        host
    };
    format!("{host}:{port}")
}

async fn stop_on_signal(shutdown: CancellationToken) {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(error = %error, "signals cannot be received; stop with SIGKILL");
            return;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    shutdown.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_a_group_or_are_of_the_core() {
        let read = |text: &str| custom_stage(&[text.to_owned()]).map(|found| found.to_vec());
        let pair = |group: &str, kind: &str| vec![(group.to_owned(), kind.to_owned())];
        assert_eq!(
            read("rbac.authorization.k8s.io/Role").unwrap(),
            pair("rbac.authorization.k8s.io", "Role")
        );
        assert_eq!(read(" ConfigMap").unwrap(), pair("", "ConfigMap"));
        assert!(read("role").is_err() && read("a/").is_err() && read("").is_err());
    }

    #[test]
    fn every_start_is_another_candidate() {
        let (one, other) = (candidate("weir-0"), candidate("weir-0"));
        assert!(one.starts_with("weir-0_") && one != other, "{one} {other}");
    }
}
