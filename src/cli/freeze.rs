//! `weir freeze` and `weir unfreeze`: hands free for an incident, and back.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::client::{ClientOptions, connect, explain, is_code, whoami};
use crate::core::duration::{format_duration, parse_duration};
use crate::guard::freeze::{Freeze, LONGEST, NAME};

/// Field manager of the ConfigMap.
const MANAGER: &str = "weir-freeze";

/// Lets manual changes pass everywhere and puts nothing back, for a time.
///
/// For incidents. Changes of what Git declares pass with a warning that says until when; when the time is over, or at weir
/// unfreeze, they are put back. Commits are applied meanwhile, but only the objects that they change. For one Kustomization
/// use flux suspend.
#[derive(Debug, Clone, clap::Args)]
pub struct FreezeArguments {
    /// Why; shown to everybody who changes something.
    #[arg(value_name = "REASON")]
    pub reason: String,
    /// For how long, as in 45m; at most 24h.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    pub duration: String,
    #[command(flatten)]
    cluster: Cluster,
}

/// Ends a freeze: what was changed meanwhile is put back.
#[derive(Debug, Clone, clap::Args)]
pub struct Unfreeze {
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Clone, clap::Args)]
struct Cluster {
    /// Kubeconfig of the cluster; KUBECONFIG when unset, else the service account of the Pod.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of Weir itself.
    #[arg(long, value_name = "NAME", env = "RUNTIME_NAMESPACE", default_value = "flux-system")]
    runtime_namespace: String,
}

impl Cluster {
    async fn connect(&self) -> anyhow::Result<kube::Client> {
        let kubeconfig = self.kubeconfig.clone();
        Ok(connect(&ClientOptions { kubeconfig }).await?)
    }
}

/// Freezes.
///
/// # Errors
/// When the duration cannot be used or the ConfigMap cannot be written.
pub async fn freeze(arguments: FreezeArguments) -> anyhow::Result<ExitCode> {
    let duration = parse_duration(&arguments.duration).context("--for")?;
    anyhow::ensure!(
        duration <= LONGEST && !duration.is_zero(),
        "--for {}: a freeze lasts at most {}; freeze again when it is over",
        arguments.duration,
        format_duration(LONGEST)
    );
    anyhow::ensure!(!arguments.reason.trim().is_empty(), "a freeze needs a reason");
    let client = arguments.cluster.connect().await?;
    let since = Timestamp::now();
    let freeze = Freeze {
        since,
        until: since.checked_add(SignedDuration::try_from(duration)?)?,
        reason: arguments.reason.trim().to_owned(),
        by: whoami(&client).await?.username,
    };
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": freeze.data()});
    let api: Api<ConfigMap> = Api::namespaced(client, &arguments.cluster.runtime_namespace);
    api.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(map))
        .await
        .map_err(|error| anyhow::anyhow!("{}", explain(&error)))?;
    writeln!(
        anstream::stdout(),
        "manual changes pass until {:.0}, then they are put back; to end it now: weir unfreeze",
        freeze.until
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Ends a freeze.
///
/// # Errors
/// When the ConfigMap cannot be deleted.
pub async fn unfreeze(arguments: Unfreeze) -> anyhow::Result<ExitCode> {
    let client = arguments.cluster.connect().await?;
    let api: Api<ConfigMap> = Api::namespaced(client, &arguments.cluster.runtime_namespace);
    let said = match api.delete(NAME, &DeleteParams::default()).await {
        Ok(_) => "no longer frozen; what was changed meanwhile is put back",
        Err(error) if is_code(&error, 404) => "nothing is frozen",
        Err(error) => anyhow::bail!("{}", explain(&error)),
    };
    writeln!(anstream::stdout(), "{said}")?;
    Ok(ExitCode::SUCCESS)
}
