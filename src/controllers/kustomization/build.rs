//! Stages two to four: render, plan, judge. Nothing is written to the cluster here.
//!
//! Guarantees: a build whose inputs are those of the last one that was applied is not made again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::access::Access;
use super::flow::{Again, Run, Stop, WORKER_RETRY};
use super::inputs::{self, Times};
use crate::api::ignore::IgnoreRules;
use crate::api::kustomize::Decryption;
use crate::apply;
use crate::controllers::drift;
use crate::controllers::policies::Policies;
use crate::core::inventory::gvk_of;
use crate::core::object::{Gvk, ObjectRef};
use crate::core::snapshot::Snapshot;
use crate::gate::{self, Surroundings, Verdict};
use crate::plan::{self, Desired, Options, Owner, Plan, Scope};
use crate::render::keys;
use crate::render::variables::Variables;
use crate::render::vault::VaultAccess;
use crate::render::{RenderError, Rendered};

/// Shortest time until the next full reconciliation that is due already.
const SOON: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// When nothing that a build depends on has changed: how long until the next full reconciliation is due.
    pub(super) fn unchanged(
        &self,
        snapshot: &Snapshot,
        variables: Option<&Variables>,
        policies: u64,
        times: &Times,
    ) -> Result<Option<Duration>, Box<Stop>> {
        let (Some(built), false) = (&self.memory.built, self.memory.drifted || self.memory.stale) else {
            return Ok(None);
        };
        let age = built.at.elapsed();
        let values = variables.map(|variables| &variables.values);
        let same = !self.is_asked()
            && age < times.interval
            && built.generation == self.generation()
            && built.policies == policies
            && values.unwrap_or(&BTreeMap::new()) == &built.variables;
        // What nobody watches is looked at with every revision: another cluster, and what an object says of itself.
        let unwatched = built.left || self.kustomization.spec.kube_config.is_some();
        if !same || unwatched && self.is_first_of(snapshot) {
            return Ok(None);
        }
        let holds = built
            .reads
            .holds(snapshot.files.as_ref())
            .map_err(|error| self.failed("ArtifactFailed", error.to_string(), snapshot))?;
        Ok(holds.then(|| times.interval.saturating_sub(age).max(SOON)))
    }

    pub(super) async fn render(
        &self,
        snapshot: &Snapshot,
        variables: Option<&Variables>,
    ) -> Result<Rendered, Box<Stop>> {
        let shared = &self.context.shared;
        let request = inputs::request(
            &self.kustomization.spec,
            variables,
            shared.settings.gates.strict_substitutions,
        );
        let started = Instant::now();
        let files = Arc::clone(&snapshot.files);
        let result = match &self.kustomization.spec.decryption {
            None => shared.pool.render(&request, files).await,
            Some(decryption) => {
                let (client, age_secret) = (&shared.client, shared.settings.sops_age_secret.as_ref());
                let vault = self.vault_access(decryption);
                let keys = keys::gather(client, &self.namespace(), decryption, age_secret, vault.as_ref())
                    .await
                    .map_err(|error| self.failed("BuildFailed", error.to_string(), snapshot))?;
                shared.decrypting.render(request, keys, files).await
            }
        };
        shared
            .metrics
            .rendered(if result.is_ok() { "success" } else { "failed" }, started.elapsed());
        result.map_err(|error| match error {
            RenderError::NotFound(_) => self.failed("ArtifactFailed", error.to_string(), snapshot),
            RenderError::Crashed { .. } | RenderError::Worker { .. } => {
                let mut stop = self.failed("BuildFailed", error.to_string(), snapshot);
                stop.again = Again::After(WORKER_RETRY);
                stop
            }
            error => self.failed("BuildFailed", error.told(), snapshot),
        })
    }

    /// Who logs in at Vault for this Kustomization, where `--sops-vault-configmap` allows logins.
    fn vault_access(&self, decryption: &Decryption) -> Option<VaultAccess> {
        let shared = &self.context.shared;
        let config_map = shared.settings.sops_vault_config_map.clone()?;
        let own = decryption
            .service_account_name
            .as_deref()
            .filter(|name| !name.is_empty());
        let default = shared.settings.default_decryption_service_account.as_deref();
        let named =
            own.or(default.filter(|name| !name.is_empty() && shared.settings.gates.object_level_workload_identity));
        let account = match named {
            Some(name) => Some((self.namespace(), name.to_owned())),
            None => shared.identity.service_account(),
        };
        Some(VaultAccess { config_map, account })
    }

    /// Plans and judges.
    pub(super) async fn decide(
        &self,
        rendered: Rendered,
        access: &Access,
        snapshot: &Snapshot,
        digest: &str,
        policies: &Policies,
    ) -> Result<(Plan, Verdict), Box<Stop>> {
        let (shared, spec) = (&self.context.shared, &self.kustomization.spec);
        let fail = |message: String| {
            let mut stop = self.failed("ReconciliationFailed", message, snapshot);
            stop.attempt.digest = Some(digest.to_owned());
            stop
        };
        let rendered = rendered.objects.into_iter().map(|one| Desired {
            object: one.object,
            file: one.file,
            line: one.line,
        });
        let rendered: Vec<Desired> = rendered.collect();
        let scopes = scopes(access, &rendered).await;
        let owner = Owner {
            name: self.kustomization.name_any(),
            namespace: self.namespace(),
        };
        let desired = plan::prepare(rendered, &owner, spec.common_metadata.as_ref(), |gvk| {
            scopes.get(gvk).copied()
        })
        .map_err(|error| fail(error.to_string()))?;
        let (previous, _) = self.previous();
        let live = apply::read_live(&access.objects, self.concerned(&desired)).await;
        let mut live = live.map_err(|error| fail(error.to_string()))?;
        if !access.elsewhere {
            let unmarked = drift::unmark_live(shared, &access.objects, self.kustomization, &desired, &mut live).await;
            unmarked.map_err(|error| fail(error.to_string()))?;
        }
        // Another cluster is only asked for what policies want to know.
        let namespaces = if access.elsewhere && policies.library.is_empty() {
            Vec::new()
        } else {
            let found = access.namespaces(shared, &desired).await;
            found.map_err(|error| fail(error.to_string()))?
        };
        let mut surroundings = Surroundings::new(&namespaces, &access.identity);
        if !access.elsewhere {
            let inventory = shared.inventory.borrow().clone();
            surroundings = surroundings.in_cluster(inventory, Arc::clone(&policies.settings));
        }
        let library = policies.library.clone();
        let (prune, force) = (spec.prune, spec.force);
        let others = Arc::clone(&shared.settings.override_managers);
        let ignore = IgnoreRules::compile(spec.ignore.as_deref().unwrap_or_default()).map_err(fail)?;
        let custom_stage = Arc::clone(&shared.settings.custom_stage);
        let judged = tokio::task::spawn_blocking(move || {
            let desired = gate::mutate(&library, desired, &live, &surroundings)?;
            let options = Options {
                prune,
                force,
                override_managers: &others,
                ignore: Some(&ignore),
                custom_stage: &custom_stage,
            };
            let plan = plan::plan(desired, &previous, &live, &owner, options);
            let verdict = gate::judge(&library, &plan, &surroundings);
            Ok::<_, Verdict>((plan, verdict))
        })
        .await;
        match judged {
            Ok(Ok(decided)) => Ok(decided),
            Ok(Err(verdict)) => Ok((Plan::default(), verdict)),
            Err(error) => Err(fail(format!("the policy evaluation ended unexpectedly: {error}"))),
        }
    }

    /// The objects whose live form a plan needs: the desired ones, and those that may have to go.
    fn concerned(&self, desired: &[Desired]) -> Vec<(Gvk, ObjectRef)> {
        let wanted = desired.iter().map(|one| (one.object.gvk(), one.object.reference()));
        let mut concerned: Vec<(Gvk, ObjectRef)> = wanted.collect();
        if self.kustomization.spec.prune {
            let (previous, _) = self.previous();
            let kept: HashSet<ObjectRef> = concerned.iter().map(|(_, object)| object.clone()).collect();
            let stale = previous.0.iter().filter(|(object, _)| !kept.contains(*object));
            concerned.extend(stale.map(|(object, version)| (gvk_of(object, version), object.clone())));
        }
        concerned
    }
}

/// Whether the kinds of these objects live in namespaces, for kinds that the cluster serves.
async fn scopes(access: &Access, desired: &[Desired]) -> HashMap<Gvk, Scope> {
    let discovery = access.objects.discovery();
    let mut scopes = HashMap::new();
    for gvk in desired.iter().map(|one| one.object.gvk()) {
        if !scopes.contains_key(&gvk)
            && let Ok(resolved) = discovery.resolve(&gvk).await
        {
            let scope = if resolved.namespaced {
                Scope::Namespaced
            } else {
                Scope::Cluster
            };
            scopes.insert(gvk, scope);
        }
    }
    scopes
}

/// `sha256:<hex>` of the built objects.
pub(super) fn digest(rendered: &Rendered) -> String {
    let mut hasher = Sha256::new();
    for one in &rendered.objects {
        hasher.update(one.object.value().to_string());
        hasher.update(b"\n");
    }
    format!("sha256:{}", crate::source::artifact::hex(&hasher.finalize()))
}
