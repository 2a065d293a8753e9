//! What `weir run` may be told. Where Flux has a flag, it has Flux's name.
//!
//! Those of Flux's that have nothing to change here are in [`OfFlux`].

use std::path::PathBuf;

use super::of_flux::OfFlux;
use crate::telemetry::logs;

/// Default of --max-prune: hardly any change takes more out of one Kustomization on purpose, and a directory that was lost
/// by mistake may have thousands.
const MAX_PRUNE: usize = 100;
/// What can be reconciled, as `--reconcilers` names it.
pub(super) const KINDS: [&str; 3] = ["gitrepository", "kustomization", "artifactgenerator"];

/// Reconciles Flux's objects and answers the API server's admission requests.
///
/// Policies are read from the cluster (ConstraintTemplates and constraints) and from --policy-dir. Nothing is applied
/// before all of them have judged the whole change.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Kubeconfig of the cluster; KUBECONFIG when unset, else the service account of the Pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// URL of Flux's notification-controller, or of what stands in its place; nobody is told of events when unset.
    #[arg(long, value_name = "URL")]
    pub events_addr: Option<String>,
    /// Directory for Git repositories and artifacts; a cache that may be lost.
    #[arg(long, value_name = "DIR", default_value = "/data")]
    pub storage_path: PathBuf,
    /// Address that artifacts are served at.
    #[arg(long, value_name = "ADDR", default_value = ":9090")]
    pub storage_addr: String,
    /// Address that stands in the URLs of artifacts; --storage-addr when unset.
    #[arg(long, value_name = "ADDR")]
    pub storage_adv_addr: Option<String>,
    /// How long every artifact of a source is kept, so that whoever has just read its URL finds it.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub artifact_retention_ttl: String,
    /// How many artifacts of a source are kept whatever their age, the one in use among them.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub artifact_retention_records: u16,
    /// Whether to answer admission requests.
    #[arg(long, value_name = "true|false", default_value_t = true, action = clap::ArgAction::Set)]
    pub webhook: bool,
    /// Address that the webhook listens at.
    #[arg(long, value_name = "ADDR", default_value = ":9443")]
    pub webhook_addr: String,
    /// How the API server reaches the webhook when Weir runs outside the cluster, as in https://10.0.0.5:9443; through
    /// the Service when unset.
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<String>,
    /// Address of /metrics.
    #[arg(long, value_name = "ADDR", default_value = ":8080")]
    pub metrics_addr: String,
    /// Address of /healthz and /readyz.
    #[arg(long, value_name = "ADDR", default_value = ":9440")]
    pub health_addr: String,
    /// Kinds to reconcile, separated by commas.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_values = KINDS)]
    pub reconcilers: Vec<String>,
    /// Directory with plain Rego policies, read again when it changes.
    #[arg(long, value_name = "DIR")]
    pub policy_dir: Option<PathBuf>,
    /// How many objects of a kind are reconciled at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrent: u16,
    /// How long to wait for a dependency or an artifact when no event tells of it.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub requeue_dependency: String,
    /// By how many percent of itself an interval is stretched at most, so that objects made together do not stay together.
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub interval_jitter_percentage: u8,
    /// How long to wait after the first failure of a source; every other one in a row doubles it.
    #[arg(long, value_name = "DURATION", default_value = "750ms")]
    pub min_retry_delay: String,
    /// The longest wait after failures of a source in a row.
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub max_retry_delay: String,
    /// Refuses references to sources in other namespaces.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub no_cross_namespace_refs: bool,
    /// Service account, in the namespace of each Kustomization, in whose name it is carried out when it names none.
    #[arg(long, value_name = "NAME")]
    pub default_service_account: Option<String>,
    /// Service account, in the namespace of each Kustomization, whose token opens another cluster when the ConfigMap of
    /// spec.kubeConfig names none.
    #[arg(long, value_name = "NAME")]
    pub default_kubeconfig_service_account: Option<String>,
    /// Lets a kubeconfig of spec.kubeConfig do without checking the server's certificate.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub insecure_kubeconfig_tls: bool,
    /// Secret in the namespace of Weir with age identities (*.agekey) for Kustomizations whose spec.decryption names none.
    #[arg(long, value_name = "NAME")]
    pub sops_age_secret: Option<String>,
    /// ConfigMap in the namespace of Weir with the instances of Vault or OpenBao (config.yaml) at which it logs in with tokens
    /// of service accounts.
    #[arg(long, value_name = "NAME")]
    pub sops_vault_configmap: Option<String>,
    /// Service account, in the namespace of each Kustomization, that logs in there when spec.decryption names none; with the
    /// gate ObjectLevelWorkloadIdentity.
    #[arg(long, value_name = "NAME")]
    pub default_decryption_service_account: Option<String>,
    /// Field managers, beside kubectl's, whose fields on applied objects are taken over; may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub override_manager: Vec<String>,
    /// How many objects one revision may delete from the objects of a Kustomization; what deletes more waits for somebody to
    /// name that revision in the annotation weir.dev/allow-prune. 0 for any number.
    #[arg(long, value_name = "N", default_value_t = MAX_PRUNE)]
    pub max_prune: usize,
    /// Kinds that are applied before all others but definitions and classes, as in rbac.authorization.k8s.io/Role.
    #[arg(long, value_name = "GROUP/KIND,…", value_delimiter = ',')]
    pub custom_apply_stage_kinds: Vec<String>,
    /// Feature gates, as in ExternalArtifact=true,GroupChangeLog=true: Flux's names and defaults.
    #[arg(
        long,
        value_name = "NAME=true|false,…",
        default_value = "",
        hide_default_value = true
    )]
    pub feature_gates: String,
    /// Competes with other replicas for who reconciles; the webhook answers on all of them.
    #[arg(
        long,
        alias = "enable-leader-election",
        value_name = "true|false",
        num_args = 0..=1,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub leader_elect: bool,
    /// Reconciles only objects with these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub watch_label_selector: Option<String>,
    /// Watches ConfigMaps and Secrets with these labels, and reconciles those who use one as soon as it changes.
    #[arg(long, value_name = "SELECTOR", default_value = "reconcile.fluxcd.io/watch=Enabled")]
    pub watch_configs_label_selector: String,
    /// Reconciles objects of all namespaces; else those of --runtime-namespace only.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub watch_all_namespaces: bool,
    /// Namespace of Weir itself: Lease and certificates.
    #[arg(long, value_name = "NAME", env = "RUNTIME_NAMESPACE", default_value = "flux-system")]
    pub runtime_namespace: String,
    /// The render worker's binary; beside weir or on PATH when unset.
    #[arg(long, value_name = "FILE", env = "WEIR_RENDERER")]
    pub renderer: Option<PathBuf>,
    /// The render worker that decrypts; beside weir or on PATH when unset. Only spec.decryption needs it.
    #[arg(long, value_name = "FILE", env = "WEIR_SOPS_RENDERER")]
    pub sops_renderer: Option<PathBuf>,
    /// The least severe log level.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: logs::LogLevel,
    /// The form of log lines: json or console.
    #[arg(long, value_name = "FORM", default_value = "json")]
    pub log_encoding: logs::LogEncoding,
    /// Flags of Flux that change nothing.
    #[command(flatten)]
    pub of_flux: OfFlux,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn read(arguments: &[&str]) -> Result<Run, clap::Error> {
        let line = std::iter::once(&"weir").chain(arguments);
        Line::try_parse_from(line).map(|line| line.run)
    }

    #[test]
    fn flags_of_flux_that_change_nothing_are_taken_and_told() {
        let run = read(&["--http-retry=9", "--concurrent-ssa=4", "--artifact-digest-algo=sha256"]);
        let notes = run.map(|run| run.of_flux.without_effect()).unwrap_or_default();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("--http-retry changes nothing: "), "{notes:?}");
        assert!(read(&["--artifact-digest-algo=sha384"]).is_err());
        let silent = read(&[]).map(|run| run.of_flux.without_effect());
        assert_eq!(silent.ok(), Some(Vec::new()));
    }

    #[test]
    fn the_arguments_of_flux_s_deployments_are_understood_as_they_are() {
        // What `flux install` writes into the Deployment of kustomize-controller, and what its documentation adds.
        let shipped = read(&[
            "--events-addr=http://notification-controller.flux-system.svc.cluster.local./",
            "--watch-all-namespaces=true",
            "--log-level=info",
            "--log-encoding=json",
            "--enable-leader-election",
            "--concurrent=20",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--requeue-dependency=5s",
            "--no-cross-namespace-refs=true",
            "--no-remote-bases=true",
            "--default-service-account=default",
            "--insecure-kubeconfig-exec=false",
            "--insecure-kubeconfig-tls=false",
            "--graceful-shutdown-timeout=600s",
            "--leader-election-release-on-cancel=true",
            "--watch-label-selector=!sharding.fluxcd.io/key",
            "--feature-gates=StrictPostBuildSubstitutions=false,ExternalArtifact=true",
        ])
        .unwrap();
        assert!(shipped.leader_elect && shipped.no_cross_namespace_refs && !shipped.insecure_kubeconfig_tls);
        let bare = read(&["--no-cross-namespace-refs", "--leader-elect", "--no-remote-bases"]).unwrap();
        assert!(bare.leader_elect && bare.no_cross_namespace_refs && bare.of_flux.no_remote_bases);
        assert!(
            !read(&["--no-cross-namespace-refs=false"])
                .unwrap()
                .no_cross_namespace_refs
        );
    }
}
