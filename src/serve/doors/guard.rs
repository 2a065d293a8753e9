//! `/guard`: refuses manual changes to what Git declares.
//!
//! Everything that decides comes from memory: stores, the inventories in status, and the book of what was applied last.
//! Only a `/scale`, which shows nothing of its object, costs a request.

mod exempt;

use std::sync::Arc;

use futures::FutureExt;
use kube::runtime::reflector::{ObjectRef as StoreRef, Store};
use serde_json::Value;

use crate::admission::desk::{Begun, Door};
use crate::admission::review::{AdmissionRequest, Answer, Operation};
use crate::api::ignore::IgnoreRules;
use crate::api::kustomize::{Kustomization, OWNER_NAME, OWNER_NAMESPACE};
use crate::api::source::GitRepository;
use crate::api::weir;
use crate::controllers::{Shared, drift, freeze, guard_mode, kustomization};
use crate::core::fields::{FieldSet, Path};
use crate::core::inventory::id_of;
use crate::core::object::{Object, ObjectRef};
use crate::guard::{self, Change, Identities, Owner, Parent, Reason, Verdict};
use crate::source::redact;

/// The door.
pub(super) struct Guard {
    pub(super) shared: Arc<Shared>,
    pub(super) kustomizations: Arc<kustomization::Context>,
    pub(super) repositories: Store<GitRepository>,
    pub(super) identities: Identities,
}

impl Door for Guard {
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
        if request.group == weir::GROUP && request.resource == "exemptions" {
            return Ok(exempt::status_of_exemption(&request));
        }
        let (object, parent) = self.subject(&request).await?;
        let labelled = parent
            .as_ref()
            .map(|parent| &parent.object)
            .or(request.old_object())
            .or(request.object());
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
        let exemption = owned.as_ref().and_then(|(owner, _)| self.exemption(&change, owner));
        if let Some((owner, _)) = &mut owned {
            owner.exempt = exemption.as_deref().map(guard::exemption::consequence);
        }
        let verdict = match &owned {
            Some((owner, _)) => guard::decide(&change, Some(owner), &self.identities),
            None if freeze::now(&self.shared.freeze).is_none() && self.is_strict(&change.object.namespace) => {
                guard::decide_strict(&change, &self.identities)
            }
            None => guard::decide(&change, None, &self.identities),
        };
        let kustomization = owned.map(|(_, kustomization)| kustomization);
        if let (Verdict::Exempt { fields, warning }, Some(kustomization), Some(exemption)) =
            (&verdict, &kustomization, &exemption)
        {
            let answer = self.exempted(&change, kustomization, exemption, fields.clone(), warning.clone());
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
        Ok((object, live.map(Object::into_value).map(Parent::new)))
    }

    /// Whether a namespace takes nothing but what comes from Git.
    fn is_strict(&self, namespace: &str) -> bool {
        let found = self.shared.namespaces.get(&StoreRef::new(namespace));
        found.is_some_and(|found| guard::modes::is_strict(found.as_ref()))
    }

    /// The Kustomization whose inventory lists the object. Labels only say where to look: they get copied.
    fn owner(&self, labelled: &Value, object: &ObjectRef) -> Option<(Owner, Arc<Kustomization>)> {
        let label = |key: &str| labelled.pointer("/metadata/labels")?.get(key)?.as_str();
        let (name, namespace) = (label(OWNER_NAME)?, label(OWNER_NAMESPACE)?);
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
            url: repository.map(|repository| redact(&repository.spec.url)),
            path: Some(kustomization::inputs::path(&kustomization.spec)),
            commit: snapshot
                .filter(|snapshot| Some(&snapshot.revision) == revision.as_ref())
                .and_then(|snapshot| snapshot.commit),
            revision,
            file: self.shared.book.with(object, |memory| memory.place.clone()).flatten(),
            applied: self.applied(object, labelled),
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
        let (version, fields) = self.shared.book.applied(object)?;
        let spoken = asked.get("apiVersion").and_then(Value::as_str);
        Some(if spoken == Some(version.as_str()) {
            fields
        } else {
            fields.only(&Path::of_fields(["metadata"]))
        })
    }
}
