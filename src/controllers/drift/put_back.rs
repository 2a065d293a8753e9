//! Puts single objects back: a task for each that has drifted, which ends when nothing is left to do about it.

mod attempt;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::controllers::Shared;
use crate::controllers::kustomization::Context;
use crate::core::object::ObjectRef;
use crate::guard::revert::{Fight, Finding, Memory, Quiet, Seen, Shape, judge};

/// How many objects are put back at a time: as many as one reconciliation has requests in flight.
const CONCURRENT: usize = 8;

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
            if !matches!(finding, Some(Finding::Drift(_) | Finding::Unclear)) {
                if let (Some(Finding::Quiet(Quiet::Untouched)), Some(meta)) = (&finding, &meta) {
                    self.shared().book.saw(&object, Shape::of(meta));
                }
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

    /// Whether something is drift. Where there is no door that refuses them, markers that were put on by hand count.
    fn judge(&self, memory: &Memory, seen: Seen<'_>) -> Finding {
        match judge(memory, seen) {
            Finding::Drift(drift) if !drift.markers.is_empty() && !self.shared().settings.guards => {
                Finding::Quiet(Quiet::LeftAlone)
            }
            finding => finding,
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
}

fn seen(meta: Option<&ObjectMeta>) -> Seen<'_> {
    meta.map_or(Seen::Gone, Seen::There)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
