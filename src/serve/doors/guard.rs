//! `/guard`: refuses manual changes to what Git declares.
//!
//! Everything that decides comes from memory: stores, the inventories in status, and the book of what was applied last.
//! Only a `/scale`, which shows nothing of its object, costs a request, that of a custom kind two; and the owner that a
//! program names for what it makes in a strict namespace is looked up.

mod exempt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use kube::runtime::reflector::{ObjectRef as StoreRef, Store};
use serde_json::Value;

use super::status;
use crate::admission::desk::{Begun, Door};
use crate::admission::glance::Glance;
use crate::admission::review::{AdmissionRequest, Answer, Operation};
use crate::api::ignore::IgnoreRules;
use crate::api::kustomize::{Kustomization, OWNER_NAME, OWNER_NAMESPACE};
use crate::api::source::GitRepository;
use crate::controllers::owners::Owners;
use crate::controllers::{Shared, drift, freeze, guard_mode, kustomization};
use crate::core::fields::{FieldSet, Path};
use crate::core::inventory::id_of;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::guard::{self, Change, Identities, Owner, Parent, Reason, Verdict};
use crate::source::redact;

/// How long a request waits at start for what decides: lists of a few thousand objects take less, and the API server waits
/// for 3 s.
const START: Duration = Duration::from_millis(1500);

/// Groups of built-in kinds with a `/scale`, which shows `spec.replicas`.
const BUILT_IN: [&str; 2] = ["", "apps"];
/// Group, version and kind of what defines custom kinds.
const DEFINITIONS: (&str, &str, &str) = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition");

/// The door.
pub(super) struct Guard {
    pub(super) shared: Arc<Shared>,
    pub(super) kustomizations: Arc<kustomization::Context>,
    pub(super) repositories: Store<GitRepository>,
    pub(super) identities: Identities,
    pub(super) owners: Owners,
    /// Whether everything that decides has been read once.
    pub(super) known: AtomicBool,
}

impl Door for Guard {
    /// Whoever asks, a request that leaves alone what Git declares passes, whosever the object is.
    fn passes(&self, glance: &Glance<'_>) -> bool {
        if !self.known.load(Ordering::Relaxed) {
            return false;
        }
        let look = |applied: Option<(&str, &str)>| guard::leaves_alone(glance.old, glance.new, applied);
        let known = self.shared.book.with(&glance.object, |memory| {
            let ours = &memory.ours;
            look(Some((&ours.api_version, &ours.fields)))
        });
        known.unwrap_or_else(|| look(None))
    }

    fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun {
        Begun::Waits(async move { self.judge(request).await }.boxed())
    }
}

impl Guard {
    async fn judge(&self, mut request: AdmissionRequest) -> Result<Answer, String> {
        let operation = match request.operation {
            Operation::Create => guard::Operation::Create,
            Operation::Update => guard::Operation::Update,
            Operation::Delete => guard::Operation::Delete,
            Operation::Connect => return Ok(Answer::allow()),
        };
        let user = guard::User {
            username: request.user.username.clone(),
            groups: request.user.groups.clone(),
            extra: request.user.extra.clone(),
        };
        // Most writes to managed objects are Weir's own; they need nothing to be looked up.
        if self.identities.is_weir(&user) {
            return Ok(Answer::allow());
        }
        if request.subresource == "status" {
            return Ok(status::guarded(&request, &self.shared.identity.username));
        }
        let (object, parent) = self.subject(&request).await?;
        let labelled = parent
            .as_ref()
            .map(|parent| &parent.object)
            .or(request.old_object())
            .or(request.object());
        // Who says at start that nobody owns an object lets everything pass.
        if operation == guard::Operation::Create
            || labelled.is_some_and(|labelled| label(labelled, OWNER_NAME).is_some())
        {
            self.known().await?;
        }
        let mut owned = labelled.and_then(|labelled| self.owner(labelled, &object));
        let manager = request
            .options()
            .and_then(|options| options.get("fieldManager")?.as_str());
        let manager = manager.unwrap_or_default().to_owned();
        // Taken, not copied: a large Deployment with its managedFields is most of what a decision costs.
        let mut take = |part: &str| {
            request
                .raw
                .get_mut(part)
                .map(Value::take)
                .filter(|value| !value.is_null())
        };
        let (old, new) = (take("oldObject"), take("object"));
        let change = Change {
            operation,
            subresource: request.subresource.clone(),
            object,
            old,
            new,
            user,
            options: guard::Options {
                field_manager: manager,
                dry_run: request.dry_run,
            },
            parent,
        };
        let strict =
            owned.is_none() && freeze::now(&self.shared.freeze).is_none() && self.is_strict(&change.object.namespace);
        let exemption = match &mut owned {
            Some((owner, _)) => {
                let exemption = self.exemption(&change, owner);
                owner.exempt = exemption.as_deref().map(guard::exemption::consequence);
                exemption
            }
            None if strict => self.exemption_from_strictness(&change),
            None => None,
        };
        let verdict = match &owned {
            None if strict => {
                let told = exemption.as_deref().map(guard::exemption::consequence_of_making);
                let claimed = guard::claimed_owner(&change, &self.identities);
                let owner_is_there = match &claimed {
                    Some(owner) => {
                        let namespace = &change.object.namespace;
                        self.owners.is_there(&self.shared.objects, owner, namespace).await?
                    }
                    None => false,
                };
                guard::decide_strict(&change, &self.identities, owner_is_there, told.as_deref())
            }
            owned => guard::decide(&change, owned.as_ref().map(|(owner, _)| owner), &self.identities),
        };
        let kustomization = owned.map(|(_, kustomization)| kustomization);
        if let (Verdict::Exempt { fields, warning }, Some(exemption)) = (&verdict, &exemption) {
            let answer = self.exempted(
                &change,
                kustomization.as_deref(),
                exemption,
                fields.clone(),
                warning.clone(),
            );
            return Ok(answer.await);
        }
        Ok(self.answer(&change, kustomization, verdict))
    }

    fn answer(&self, change: &Change, kustomization: Option<Arc<Kustomization>>, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Allow {
                reason: Reason::Audited,
                warnings,
            } => {
                if let Some(kustomization) = kustomization.filter(|_| !change.options.dry_run) {
                    let message = format!("{}, asked for by {}", warnings.join("; "), change.user.username);
                    drift::admitted(&self.shared, &kustomization, message);
                }
                Answer::allow()
            }
            Verdict::Allow { warnings, .. } => Answer {
                warnings,
                ..Answer::allow()
            },
            // Never without the Exemption that says so, and that one is dealt with before.
            Verdict::Exempt { warning, .. } => Answer::deny(warning),
            Verdict::Deny(denial) => {
                self.shared.metrics.guard_denied(
                    &change.object.kind,
                    &change.options.field_manager,
                    self.identities.class(&change.user),
                );
                tracing::info!(
                    object = %change.object, user = %change.user.username, fields = %denial.fields.join(", "),
                    "manual change denied"
                );
                Answer::deny(denial.message)
            }
        }
    }

    /// The object that a request is about: itself, or the one behind a subresource that does not show it.
    async fn subject(&self, request: &AdmissionRequest) -> Result<(ObjectRef, Option<Parent>), String> {
        if request.subresource != "scale" {
            let object = request.reference();
            return Ok((object, None));
        }
        let objects = &self.shared.objects;
        let gvk = objects
            .discovery()
            .kind_of(&request.group, &request.resource)
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("resource {}.{} is not known", request.resource, request.group))?;
        let object = ObjectRef {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
        };
        let live = objects.get(&gvk, &object).await.map_err(|error| error.to_string())?;
        let Some(live) = live.map(Object::into_value) else {
            return Ok((object, None));
        };
        if BUILT_IN.contains(&gvk.group.as_str()) || label(&live, OWNER_NAME).is_none() {
            return Ok((object, Some(Parent::new(live))));
        }
        let definition = ObjectRef {
            group: DEFINITIONS.0.to_owned(),
            kind: DEFINITIONS.2.to_owned(),
            namespace: String::new(),
            name: format!("{}.{}", request.resource, request.group),
        };
        let kind = Gvk::new(&format!("{}/{}", DEFINITIONS.0, DEFINITIONS.1), DEFINITIONS.2);
        let definition = objects
            .get(&kind, &definition)
            .await
            .map_err(|error| error.to_string())?;
        // Kinds of aggregated API servers have none.
        let definition = definition.map_or(Value::Null, Object::into_value);
        Ok((object, Some(Parent::of_custom(live, &definition))))
    }

    /// Waits until all inventories and namespaces have been read at start.
    async fn known(&self) -> Result<(), String> {
        if self.known.load(Ordering::Relaxed) {
            return Ok(());
        }
        if tokio::time::timeout(START, self.kustomizations.known()).await.is_err() {
            return Err("the inventories of Kustomizations are not read yet".to_owned());
        }
        self.known.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a namespace takes nothing but what comes from Git.
    fn is_strict(&self, namespace: &str) -> bool {
        let found = self.shared.namespaces.get(&StoreRef::new(namespace));
        found.is_some_and(|found| guard::modes::is_strict(found.as_ref()))
    }

    /// The Kustomization whose inventory lists the object. Labels only say where to look: they get copied.
    fn owner(&self, labelled: &Value, object: &ObjectRef) -> Option<(Owner, Arc<Kustomization>)> {
        let (name, namespace) = (label(labelled, OWNER_NAME)?, label(labelled, OWNER_NAMESPACE)?);
        let kustomization: Arc<Kustomization> =
            self.kustomizations.store.get(&StoreRef::new(name).within(namespace))?;
        // Its inventory is of another cluster.
        if kustomization.spec.kube_config.is_some() {
            return None;
        }
        let id = id_of(object);
        let listed = self.kustomizations.memories.with_status(&kustomization, |status| {
            let lists = status.inventory.as_ref()?.entries.iter().any(|entry| entry.id == id);
            lists.then(|| status.last_applied_revision.clone())
        });
        let revision = listed.flatten()?;
        let source = kustomization::source_of(&kustomization);
        let repository = self
            .repositories
            .get(&StoreRef::new(&source.name).within(&source.namespace));
        let snapshot = self.shared.snapshots.get(&source);
        let owner = Owner {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            mode: guard_mode(&self.shared, &kustomization, object),
            // A Kustomization that is being deleted no longer insists.
            suspended: kustomization.spec.suspend == Some(true) || kustomization.metadata.deletion_timestamp.is_some(),
            frozen: freeze::now(&self.shared.freeze).map(|freeze| freeze.consequence()),
            exempt: None,
            source_kind: source.kind.to_owned(),
            source_name: format!("{}/{}", source.namespace, source.name),
            url: repository.as_ref().map(|repository| redact(&repository.spec.url)),
            path: Some(kustomization::inputs::path(&kustomization.spec)),
            commit: snapshot
                .filter(|snapshot| Some(&snapshot.revision) == revision.as_ref())
                .and_then(|snapshot| snapshot.commit)
                .or_else(|| {
                    // Another replica has fetched it.
                    let artifact = repository.as_ref()?.status.as_ref()?.artifact.as_ref()?;
                    (Some(&artifact.revision) == revision.as_ref()).then(|| artifact.commit())?
                }),
            revision,
            file: self.shared.book.with(object, |memory| memory.place.clone()).flatten(),
            applied: self.applied(object, labelled),
            left_alone: self
                .shared
                .book
                .with(object, |memory| memory.left_alone || memory.when_missing),
            ignored: self.ignored(&kustomization, object, labelled),
        };
        Some((owner, kustomization))
    }

    /// The fields that `spec.ignore` leaves to others: as they were when the object was applied, else as its labels say now.
    fn ignored(&self, kustomization: &Kustomization, object: &ObjectRef, stored: &Value) -> Vec<String> {
        let Some(rules) = kustomization.spec.ignore.as_ref().filter(|rules| !rules.is_empty()) else {
            return Vec::new();
        };
        let known = self.shared.book.with(object, |memory| memory.ignored.clone());
        known.unwrap_or_else(|| {
            let (rules, stored) = (IgnoreRules::compile(rules), Object::new(stored.clone()));
            rules
                .ok()
                .zip(stored.ok())
                .map(|(rules, stored)| rules.pointers(&stored))
                .unwrap_or_default()
        })
    }

    /// The fields that were applied last, in the terms of the version that the request speaks.
    fn applied(&self, object: &ObjectRef, asked: &Value) -> Option<FieldSet> {
        // Mostly they are those of the object itself, which are read anyhow.
        let same = self.shared.book.with(object, |memory| {
            guard::declares(asked, &memory.ours.api_version, &memory.ours.fields)
        });
        if same? {
            return None;
        }
        let (version, fields) = self.shared.book.applied(object)?;
        let spoken = asked.get("apiVersion").and_then(Value::as_str);
        Some(if spoken == Some(version.as_str()) {
            fields
        } else {
            fields.only(&Path::of_fields(["metadata"]))
        })
    }
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}
