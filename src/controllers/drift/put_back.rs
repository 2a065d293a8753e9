//! Puts single objects back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::ObjectRef as StoreRef;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::kustomize::{FIELD_MANAGER, Kustomization};
use crate::apply::objects::{ObjectError, Objects};
use crate::cluster::events::{NewEvent, Severity};
use crate::controllers::kustomization::{COMPONENT, Context, access, source_of};
use crate::controllers::{Shared, record};
use crate::core::fields::Path;
use crate::core::ignored;
use crate::core::object::{Object, ObjectRef};
use crate::guard::revert::{Drift, Fight, Finding, Kept, Memory, Quiet, Seen, Turn, judge};
use crate::guard::{Mode, class_of_manager};

use super::told::{fight, manager_of, names, told};

/// How many objects are put back at a time: as many as one reconciliation has requests in flight.
const CONCURRENT: usize = 8;
/// First wait after a failed attempt; each further failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after failed attempts. A namespace that is being deleted takes seconds to minutes.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Puts drifted objects back, one task for each.
pub(super) struct Reverter {
    context: Arc<Context>,
    pending: Mutex<HashMap<ObjectRef, Pending>>,
    fights: Mutex<HashMap<ObjectRef, Fight>>,
    places: Semaphore,
    started: Instant,
    /// Who does not lead watches and puts nothing back.
    leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
}

/// What was seen last of an object that a task is at work on.
struct Pending {
    /// Its metadata; `None` when it is gone.
    seen: Option<ObjectMeta>,
    /// Grows with everything that is seen.
    number: u64,
    news: Arc<Notify>,
}

/// What to do next about an object.
enum Next {
    Done,
    Wait(Duration),
}

impl Reverter {
    pub(super) fn new(context: Arc<Context>, leads: watch::Receiver<bool>, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            context,
            pending: Mutex::default(),
            fights: Mutex::default(),
            places: Semaphore::new(CONCURRENT),
            started: Instant::now(),
            leads,
            shutdown,
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.context.shared
    }

    /// Takes note of what a watch shows; `None` when the object is gone.
    pub(super) fn seen(self: &Arc<Self>, object: ObjectRef, meta: Option<ObjectMeta>) {
        if !*self.leads.borrow() {
            if meta.is_none() {
                self.shared().book.forget_observed(&object);
            }
            return;
        }
        {
            let mut pending = lock(&self.pending);
            if let Some(one) = pending.get_mut(&object) {
                one.seen = meta;
                one.number += 1;
                one.news.notify_one();
                return;
            }
            let finding = self
                .shared()
                .book
                .with(&object, |memory| self.judge(memory, seen(meta.as_ref())));
            if !matches!(finding, Some(Finding::Drift(_))) {
                return;
            }
            pending.insert(
                object.clone(),
                Pending {
                    seen: meta,
                    number: 0,
                    news: Arc::default(),
                },
            );
        }
        let this = Arc::clone(self);
        tokio::spawn(async move { this.put_back(object).await });
    }

    /// Works on one object until nothing is left to do.
    async fn put_back(self: Arc<Self>, object: ObjectRef) {
        let mut failures = 0;
        loop {
            let Some((meta, number, news)) = lock(&self.pending)
                .get(&object)
                .map(|one| (one.seen.clone(), one.number, Arc::clone(&one.news)))
            else {
                return;
            };
            match self.step(&object, meta.as_ref(), &mut failures).await {
                Next::Done => {
                    let mut pending = lock(&self.pending);
                    if pending.get(&object).is_none_or(|one| one.number == number) {
                        pending.remove(&object);
                        return;
                    }
                }
                Next::Wait(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = news.notified() => {}
                        () = self.shutdown.cancelled() => return,
                    }
                }
            }
        }
    }

    async fn step(self: &Arc<Self>, object: &ObjectRef, meta: Option<&ObjectMeta>, failures: &mut u32) -> Next {
        let Some(owner) = self.shared().book.with(object, |memory| memory.owner.clone()) else {
            return Next::Done;
        };
        let lock_of_owner = self.shared().book.lock(&owner);
        let _reading = lock_of_owner.read().await;
        // While we waited the Kustomization may have been applied, and what was seen may be what it wrote.
        let Some(memory) = self.shared().book.get(object) else {
            return Next::Done;
        };
        let Finding::Drift(drift) = self.judge(&memory, seen(meta)) else {
            return Next::Done;
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
        match crate::controllers::guard_mode(self.shared(), &kustomization, object) {
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

    /// Whether something is drift. Where there is no door that refuses them, markers that were put on by hand count.
    fn judge(&self, memory: &Memory, seen: Seen<'_>) -> Finding {
        match judge(memory, seen) {
            Finding::Drift(drift) if !drift.markers.is_empty() && !self.shared().settings.guards => {
                Finding::Quiet(Quiet::LeftAlone)
            }
            finding => finding,
        }
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
            super::unmark(objects, &memory.gvk, object).await?;
        }
        objects.apply(sent, crate::apply::objects::Mode::Write).await
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
        let labels = desired.as_ref().map_or_else(live, super::labels_of);
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

    /// The guard is frozen no more, or for another time.
    pub(super) fn wake_all(&self) {
        for one in lock(&self.pending).values() {
            one.news.notify_one();
        }
    }

    /// A namespace is back: what could not be put back into it can be now.
    fn wake(&self, namespace: &str) {
        for (object, one) in lock(&self.pending).iter() {
            if object.namespace == namespace {
                one.news.notify_one();
            }
        }
    }

    fn turn(&self, object: &ObjectRef, manager: &str, fields: &[Path]) -> Turn {
        lock(&self.fights)
            .get(object)
            .map_or(Turn::Now, |fight| fight.turn(manager, fields, self.started.elapsed()))
    }

    /// Has the whole Kustomization reconciled, without the short cut for what looks unchanged.
    fn reconcile(&self, kustomization: &Arc<Kustomization>) {
        super::look_again(&self.context, &super::owner_of(kustomization));
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

fn seen(meta: Option<&ObjectMeta>) -> Seen<'_> {
    meta.map_or(Seen::Gone, Seen::There)
}

fn retry_after(failures: &mut u32) -> Duration {
    let wait = FIRST_RETRY
        .saturating_mul(2_u32.saturating_pow(*failures))
        .min(LONGEST_RETRY);
    *failures = failures.saturating_add(1);
    wait
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
