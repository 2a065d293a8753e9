//! `weir drift`: what differs now from what Git declares, by whom and since when.

mod print;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::declared::{Declared, Reader};
use super::{EXIT_ERROR, renderer};
use crate::api::ignore::IgnoreRules;
use crate::api::kustomize::Kustomization;
use crate::api::weir::Exemption;
use crate::apply;
use crate::apply::objects::{Mode, Objects};
use crate::cluster::client::{ClientOptions, connect, explain, is_code};
use crate::cluster::discovery::Discovery;
use crate::core::inventory::Inventory;
use crate::core::object::ObjectRef;
use crate::guard::exemption;
use crate::guard::origin::{Difference, differences};
use crate::plan::{self, Action, Options, Owner};
use crate::render::{Options as PoolOptions, Pool};

/// What scripts see when something differs.
const EXIT_DRIFT: u8 = 1;
/// How many objects are asked about at a time.
const CONCURRENT: usize = 8;

/// Lists what differs now from what Git declares, by whom and since when.
///
/// Each Kustomization is built again from the commit that was applied last, and the API server is asked what applying it
/// would change; nothing is written. While weir run is at work there is little to see: it puts back what it finds. What is
/// left is of Kustomizations that are suspended or in the modes audit and off, of fights with another controller, and what an
/// Exemption allows, which is named with who edited, until when and why.
///
/// Exit status: 0 when nothing differs, 1 when something does, 2 when that could not be found out.
#[derive(Debug, Clone, clap::Args)]
pub struct Drift {
    /// Kustomizations to look at; all when none is named.
    #[arg(value_name = "KUSTOMIZATION")]
    pub names: Vec<String>,
    /// Namespace of the Kustomizations; all namespaces when unset.
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// How to print it.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
    /// Namespace of Weir itself: Exemptions there reach every namespace.
    #[arg(
        long,
        value_name = "NAME",
        env = "RUNTIME_NAMESPACE",
        default_value = "flux-system",
        hide_env_values = true
    )]
    pub runtime_namespace: String,
    /// Kubeconfig of the cluster; KUBECONFIG when unset, else the service account of the Pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The render worker's binary; beside weir or on PATH when unset.
    #[arg(long, value_name = "FILE", env = "WEIR_RENDERER", hide_env_values = true)]
    pub renderer: Option<PathBuf>,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For scripts.
    Json,
}

/// What was found out.
#[derive(Debug, Default)]
struct Report {
    /// How many objects were looked at.
    objects: usize,
    drifted: Vec<Drifted>,
    /// Kustomization, and what stood in the way.
    errors: Vec<(String, String)>,
}

/// An object that is not as declared.
#[derive(Debug)]
struct Drifted {
    kustomization: String,
    suspended: bool,
    object: ObjectRef,
    place: Option<String>,
    state: State,
    exemptions: Vec<Allowed>,
}

/// An Exemption that lets an object differ.
#[derive(Debug)]
struct Allowed {
    /// Its namespace and name.
    name: String,
    /// Who has edited the object under it.
    users: BTreeSet<String>,
    until: Option<Timestamp>,
    reason: String,
}

#[derive(Debug)]
enum State {
    Missing,
    Changed(Vec<Difference>),
}

/// Looks and prints.
///
/// # Errors
/// When it cannot begin, or the answer cannot be written.
pub async fn run(arguments: Drift) -> anyhow::Result<ExitCode> {
    let pool = Pool::new(PoolOptions::new(renderer::locate(arguments.renderer.as_deref())?));
    let client = connect(&ClientOptions {
        kubeconfig: arguments.kubeconfig.clone(),
    })
    .await?;
    let report = look(&arguments, client, pool.clone()).await;
    pool.stop().await;
    let report = report?;
    print::print(&report, arguments.output, Timestamp::now())?;
    Ok(if !report.errors.is_empty() {
        ExitCode::from(EXIT_ERROR)
    } else if report.drifted.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_DRIFT)
    })
}

async fn look(arguments: &Drift, client: Client, pool: Pool) -> anyhow::Result<Report> {
    let api: Api<Kustomization> = match &arguments.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = api.list(&ListParams::default()).await;
    let mut listed = listed
        .map_err(|error| anyhow::anyhow!("Kustomizations: {}", explain(&error)))?
        .items;
    for name in &arguments.names {
        anyhow::ensure!(
            listed.iter().any(|one| one.name_any() == *name),
            "there is no Kustomization {name}{}",
            arguments
                .namespace
                .as_ref()
                .map_or(String::new(), |namespace| format!(" in {namespace}"))
        );
    }
    listed.retain(|one| arguments.names.is_empty() || arguments.names.contains(&one.name_any()));
    let objects = Objects::new(client.clone(), Discovery::new(client.clone()));
    let exemptions = Exempting {
        home: &arguments.runtime_namespace,
        now: Timestamp::now(),
        all: exemptions(&client).await?,
    };
    let reader = Reader::new(client, objects.clone(), pool)?;
    let mut report = Report::default();
    for kustomization in &listed {
        let name = format!(
            "{}/{}",
            kustomization.namespace().unwrap_or_default(),
            kustomization.name_any()
        );
        match reader.declared(kustomization).await {
            Ok(declared) => compare(&objects, kustomization, &name, declared, &exemptions, &mut report).await,
            Err(error) => report.errors.push((name, error)),
        }
    }
    report
        .drifted
        .sort_by(|a, b| (&a.kustomization, &a.object).cmp(&(&b.kustomization, &b.object)));
    Ok(report)
}

/// The Exemptions of the cluster; none where their kind is not installed.
async fn exemptions(client: &Client) -> anyhow::Result<Vec<Exemption>> {
    match Api::<Exemption>::all(client.clone()).list(&ListParams::default()).await {
        Ok(found) => Ok(found.items),
        Err(error) if is_code(&error, 404) => Ok(Vec::new()),
        Err(error) => Err(anyhow::anyhow!("Exemptions: {}", explain(&error))),
    }
}

/// Exemptions, and what decides which of them hold.
struct Exempting<'a> {
    home: &'a str,
    now: Timestamp,
    all: Vec<Exemption>,
}

impl Exempting<'_> {
    /// Those that have let somebody edit an object, and still last.
    fn of(&self, object: &ObjectRef, labels: &BTreeMap<String, String>) -> Vec<Allowed> {
        let holds = |one: &&Exemption| {
            exemption::left(one, self.now).is_some() && exemption::has_let_pass(one, self.home, object, labels)
        };
        let allowed = |one: &Exemption| Allowed {
            name: exemption::name(one),
            users: exemption::edits(one, object).map(|edit| edit.user.clone()).collect(),
            until: exemption::until(one),
            reason: one.spec.reason.clone(),
        };
        self.all.iter().filter(holds).map(allowed).collect()
    }
}

async fn compare(
    objects: &Objects,
    of: &Kustomization,
    name: &str,
    declared: Declared,
    exemptions: &Exempting<'_>,
    report: &mut Report,
) {
    let owner = Owner {
        name: of.name_any(),
        namespace: of.namespace().unwrap_or_default(),
    };
    let wanted = declared
        .objects
        .iter()
        .map(|one| (one.object.gvk(), one.object.reference()));
    let live = match apply::read_live(objects, wanted.collect()).await {
        Ok(live) => live,
        Err(error) => return report.errors.push((name.to_owned(), error.to_string())),
    };
    report.objects += declared.objects.len();
    let ignore = match IgnoreRules::compile(of.spec.ignore.as_deref().unwrap_or_default()) {
        Ok(ignore) => ignore,
        Err(error) => return report.errors.push((name.to_owned(), error)),
    };
    let options = Options {
        ignore: Some(&ignore),
        ..Options::default()
    };
    let plan = plan::plan(declared.objects, &Inventory::default(), &live, &owner, options);
    let changes = plan.changes.iter().filter(|change| change.action != Action::Skip);
    let found: Vec<_> = stream::iter(changes.map(|change| async move {
        let Some(live) = &change.live else {
            return Ok(Some((change, State::Missing)));
        };
        let wanted = objects
            .apply(&apply::sent(change), Mode::DryRun)
            .await
            .map_err(|error| error.to_string())?;
        let found =
            differences(&wanted, live).map_err(|error| format!("{}: {error}", change.desired.object.reference()))?;
        Ok::<_, String>((!found.is_empty()).then_some((change, State::Changed(found))))
    }))
    .buffered(CONCURRENT)
    .collect()
    .await;
    for one in found {
        match one {
            Ok(None) => {}
            Ok(Some((change, state))) => report.drifted.push(Drifted {
                kustomization: name.to_owned(),
                suspended: of.spec.suspend == Some(true),
                object: change.desired.object.reference(),
                place: change.desired.place(),
                state,
                exemptions: exemptions.of(&change.desired.object.reference(), &change.desired.object.labels()),
            }),
            Err(error) => report.errors.push((name.to_owned(), error)),
        }
    }
}
