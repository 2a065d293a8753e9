//! One attempt to put an object back: whether it may be, by what was declared, and what is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::ObjectRef as StoreRef;

use super::super::told::{fight, manager_of, names, told};
use super::super::{labels_of, look_again, owner_of, unmark};
use super::{Next, Reverter, lock, seen};
use crate::api::kustomize::{FIELD_MANAGER, Kustomization};
use crate::apply::objects::{Mode as Write, ObjectError, Objects};
use crate::cluster::events::{NewEvent, Severity};
use crate::controllers::kustomization::{COMPONENT, access, source_of};
use crate::controllers::{guard_mode, record};
use crate::core::fields::Path;
use crate::core::ignored;
use crate::core::object::{Object, ObjectRef};
use crate::guard::revert::{Drift, Finding, Kept, Memory, Shape, Turn, displaced, metadata};
use crate::guard::{Mode, class_of_manager};

/// First wait after a failed attempt; each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after failed attempts. A namespace that is being deleted takes seconds to minutes.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl Reverter {
    /// Puts it back, if it is still drift and nothing speaks against it now.
    pub(super) async fn step(
        self: &Arc<Self>,
        object: &ObjectRef,
        meta: Option<&ObjectMeta>,
        failures: &mut u32,
    ) -> Next {
        let Some(owner) = self.shared().book.with(object, |memory| memory.owner.clone()) else {
            return Next::Done;
        };
        let lock_of_owner = self.shared().book.lock(&owner);
        let _reading = lock_of_owner.read().await;
        // While we waited the Kustomization may have been applied, and what was seen may be what it wrote.
        let Some(memory) = self.shared().book.get(object) else {
            return Next::Done;
        };
        let drift = match self.judge(&memory, seen(meta)) {
            Finding::Drift(drift) => drift,
            Finding::Unclear => match self.look(object, &memory).await {
                Ok(Some(drift)) => drift,
                Ok(None) => return Next::Done,
                Err(_) => return Next::Wait(retry_after(failures)),
            },
            Finding::Quiet(_) => return Next::Done,
        };
        let Some(kustomization) = self
            .context
            .store
            .get(&StoreRef::new(&memory.owner.name).within(&memory.owner.namespace))
        else {
            return Next::Done;
        };
        if kustomization.spec.suspend == Some(true) || kustomization.metadata.deletion_timestamp.is_some() {
            return Next::Done;
        }
        match guard_mode(self.shared(), &kustomization, object) {
            Mode::Enforce | Mode::Warn => {}
            Mode::Audit => {
                let message = format!("{}; not put back before the next interval", told(object, &drift));
                self.tell(&kustomization, object, Severity::Warning, "DriftDetected", message);
                return Next::Done;
            }
            Mode::Off => return Next::Done,
        }
        let frozen = self
            .shared()
            .freeze
            .borrow()
            .as_ref()
            .and_then(|freeze| freeze.left(Timestamp::now()));
        if let Some(left) = frozen {
            return Next::Wait(left);
        }
        if let Some(left) = self.exempt(object, &memory, meta).await {
            return Next::Wait(left);
        }
        let manager = manager_of(&drift).to_owned();
        if let Turn::After(wait) = self.turn(object, &manager, &drift.fields) {
            return Next::Wait(wait);
        }
        let Some(desired) = memory.desired.as_ref().and_then(Kept::object) else {
            if self.shared().snapshots.get(&source_of(&kustomization)).is_none() {
                // After a start without its source and without what is on disk: the cluster does not tell what was declared.
                let message = format!(
                    "{}; it cannot be put back before its source can be read",
                    told(object, &drift)
                );
                self.tell(&kustomization, object, Severity::Warning, "DriftNotReverted", message);
            }
            self.reconcile(&kustomization);
            return Next::Done;
        };
        let revision = self.context.memories.status(&kustomization);
        let revision = revision.and_then(|status| status.last_applied_revision);
        let objects = match access::of(self.shared(), &kustomization, revision.as_deref()).await {
            Ok(access) => access.objects,
            Err(error) => {
                tracing::warn!(object = %object, error = %error, "drift cannot be put back");
                return Next::Done;
            }
        };
        let Ok(_place) = self.places.acquire().await else {
            return Next::Done;
        };
        if memory.when_missing {
            match objects.get(&memory.gvk, object).await {
                Ok(None) => {}
                // It is there, only without our labels; `IfNotPresent` asks no more.
                Ok(Some(_)) => return Next::Done,
                Err(_) => return Next::Wait(retry_after(failures)),
            }
        }
        let applied = match Self::sent(&objects, desired, &memory, object).await {
            Ok(sent) => self.send(&objects, &sent, &memory, object, &drift).await,
            Err(error) => Err(error),
        };
        match applied {
            Ok(stored) => {
                *failures = 0;
                self.done(&kustomization, object, &drift, &memory, meta, &stored);
                Next::Done
            }
            Err(error) => {
                self.shared()
                    .metrics
                    .drift(&object.kind, &manager, class_of_manager(&manager), false);
                tracing::warn!(object = %object, manager, error = %error, "drift could not be put back");
                if *failures == 0 {
                    let message = format!("{}; it cannot be put back: {error}", told(object, &drift));
                    self.tell(&kustomization, object, Severity::Warning, "DriftNotReverted", message);
                    // A reconciliation knows more ways: it recreates where that is allowed, and makes what is missing first.
                    if !error.is_passing() {
                        self.reconcile(&kustomization);
                    }
                }
                Next::Wait(retry_after(failures))
            }
        }
    }

    /// Looks at an object of which metadata does not tell what has changed.
    async fn look(&self, object: &ObjectRef, memory: &Memory) -> Result<Option<Drift>, ObjectError> {
        let Some(live) = self.shared().objects.get(&memory.gvk, object).await? else {
            return Ok(None);
        };
        let fields = displaced(memory, &live);
        if fields.is_empty() {
            if let Some(meta) = metadata(&live) {
                self.shared().book.saw(object, Shape::of(&meta));
            }
            return Ok(None);
        }
        Ok(Some(Drift {
            fields,
            manager: None,
            gone: false,
            markers: Vec::new(),
        }))
    }

    /// Takes off the markers that were put on by hand, and applies.
    async fn send(
        &self,
        objects: &Objects,
        sent: &Object,
        memory: &Memory,
        object: &ObjectRef,
        drift: &Drift,
    ) -> Result<Object, ObjectError> {
        if !drift.markers.is_empty() {
            unmark(objects, &memory.gvk, object).await?;
        }
        objects.apply(sent, Write::Write).await
    }

    /// How long it stays as it was edited under an Exemption.
    async fn exempt(&self, object: &ObjectRef, memory: &Memory, meta: Option<&ObjectMeta>) -> Option<Duration> {
        let now = Timestamp::now();
        let exemptions = &self.shared().exemptions;
        if !exemptions.any(now) {
            return None;
        }
        let desired = memory.desired.as_ref().and_then(|kept| kept.object());
        let live = || meta.and_then(|meta| meta.labels.clone()).unwrap_or_default();
        let labels = desired.as_ref().map_or_else(live, labels_of);
        exemptions.holds(&exemptions.fresh(now).await, object, &labels, now)
    }

    /// The object as it is to be sent: as declared, but for fields that are left to others, which stay as they are.
    async fn sent(
        objects: &Objects,
        desired: Object,
        memory: &Memory,
        object: &ObjectRef,
    ) -> Result<Object, ObjectError> {
        if memory.ignored.is_empty() {
            return Ok(desired);
        }
        let Some(live) = objects.get(&memory.gvk, object).await? else {
            return Ok(desired);
        };
        let value = ignored::as_it_is(desired.value(), live.value(), &memory.ignored, |manager| {
            manager == FIELD_MANAGER
        });
        Ok(Object::new(value).unwrap_or(desired))
    }

    /// Notes and tells that an object was put back.
    fn done(
        self: &Arc<Self>,
        kustomization: &Kustomization,
        object: &ObjectRef,
        drift: &Drift,
        memory: &Memory,
        meta: Option<&ObjectMeta>,
        stored: &Object,
    ) {
        let desired = memory.desired.as_ref().and_then(|kept| kept.object());
        let noted = desired.and_then(|desired| Memory::of(memory.owner.clone(), &desired, stored));
        if let Some(noted) = noted {
            let noted = Memory {
                when_missing: memory.when_missing,
                ignored: memory.ignored.clone(),
                place: memory.place.clone(),
                ..noted
            };
            self.shared().book.remember(object.clone(), noted);
        }
        let before = meta.and_then(|meta| meta.resource_version.as_deref());
        if before == Some(stored.resource_version()) {
            // Somebody wrote in our name what was there already.
            return;
        }
        let manager = manager_of(drift);
        let class = class_of_manager(manager);
        self.shared().metrics.drift(&object.kind, manager, class, true);
        let message = format!("{}; put back", told(object, drift));
        tracing::info!(object = %object, manager, fields = %names(&drift.fields), "drift put back");
        self.tell(kustomization, object, Severity::Normal, "DriftReverted", message);
        let news = {
            let mut fights = lock(&self.fights);
            let now = self.started.elapsed();
            fights.retain(|_, fight| !fight.is_over(now));
            fights
                .entry(object.clone())
                .or_default()
                .reverted(manager, &drift.fields, now)
        };
        if let Some(news) = news {
            self.shared().metrics.drift_fight(&object.kind, manager, class);
            tracing::warn!(object = %object, manager, fields = %names(&drift.fields), "fight over declared fields");
            let message = fight(object, drift, news);
            self.tell(kustomization, object, Severity::Warning, "DriftFight", message);
        }
        if object.kind == "Namespace" && object.group.is_empty() {
            self.wake(&object.name);
        }
    }

    fn turn(&self, object: &ObjectRef, manager: &str, fields: &[Path]) -> Turn {
        lock(&self.fights)
            .get(object)
            .map_or(Turn::Now, |fight| fight.turn(manager, fields, self.started.elapsed()))
    }

    /// Has the whole Kustomization reconciled, without the short cut for what looks unchanged.
    fn reconcile(&self, kustomization: &Arc<Kustomization>) {
        look_again(&self.context, &owner_of(kustomization));
    }

    /// Events on the Kustomization and on the object itself.
    fn tell(
        &self,
        kustomization: &Kustomization,
        object: &ObjectRef,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        let events = &self.shared().events;
        let known = self
            .shared()
            .book
            .with(object, |memory| (memory.gvk.api_version(), memory.uid.clone()));
        record::event(events, kustomization, COMPONENT, severity, reason, message.clone(), &[]);
        let Some((api_version, uid)) = known else { return };
        events.record(NewEvent {
            involved: ObjectReference {
                api_version: Some(api_version),
                kind: Some(object.kind.clone()),
                namespace: Some(object.namespace.clone()).filter(|text| !text.is_empty()),
                name: Some(object.name.clone()),
                uid: Some(uid),
                ..ObjectReference::default()
            },
            severity,
            reason: reason.to_owned(),
            message,
            annotations: BTreeMap::new(),
            component: COMPONENT,
        });
    }
}

fn retry_after(failures: &mut u32) -> Duration {
    let wait = FIRST_RETRY
        .saturating_mul(2_u32.saturating_pow(*failures))
        .min(LONGEST_RETRY);
    *failures = failures.saturating_add(1);
    wait
}
