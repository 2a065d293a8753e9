//! Exemptions: who may edit what for how long, what that let pass, and what happens when it is over.
//!
//! Flow: every replica watches them, because its door asks; the door notes each edit in the status *before* it lets it pass;
//! the leader reads the status before it puts anything back, keeps the condition true, and when one ends has what was
//! edited under it reconciled.
//!
//! Guarantees: without an active Exemption nothing is asked of the API server; when one cannot be read afresh, what the
//! watch has shown counts; a status that somebody else wrote lifts nothing that the spec does not reach.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::kustomization::{COMPONENT, Context};
use super::{drift, record};
use crate::api::weir::{ASKED_BY, Edit, Exemption, ExemptionStatus, Lift};
use crate::cluster::client::{explain, is_code};
use crate::cluster::events::Severity;
use crate::core::object::ObjectRef;
use crate::guard::User;
use crate::guard::exemption::{self, Turn};
use crate::guard::revert::OwnerKey;

/// How often noting an edit is tried again when others note theirs at the same moment. Eight who edit at once are served.
const NOTE_ATTEMPTS: usize = 8;
/// Field manager of statuses.
const MANAGER: &str = "weir";
/// How many edited objects an event names.
const NAMED_OBJECTS: usize = 10;
/// How soon a status is written again that could not be.
const RETRY: Duration = Duration::from_secs(5);

/// The Exemptions of the cluster. Clones share them.
#[derive(Clone)]
pub struct Exemptions {
    client: Client,
    home: Arc<str>,
    store: Store<Exemption>,
    changed: watch::Receiver<u64>,
    /// Whether it is known which there are: before that nothing may be put back.
    known: watch::Receiver<bool>,
}

impl Exemptions {
    /// Starts to follow them. `home` is Weir's own namespace.
    #[must_use]
    pub fn follow(client: &Client, home: &str, shutdown: CancellationToken) -> Self {
        let (store, writer) = reflector::store();
        let (sender, changed) = watch::channel(0);
        let (settle, known) = watch::channel(false);
        let api = Api::<Exemption>::all(client.clone());
        let stream = watcher(api, watcher::Config::default())
            .default_backoff()
            .reflect(writer);
        tokio::spawn(async move {
            let mut events = std::pin::pin!(stream.take_until(shutdown.cancelled_owned()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                    Ok(_) => {
                        settle.send_replace(true);
                        sender.send_modify(|number| *number += 1);
                    }
                    Err(error) => {
                        // An answer that there is no such kind, or that Weir may not see it, is an answer: there are none.
                        if matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(_))) {
                            settle.send_replace(true);
                        }
                        tracing::debug!(error = %error, "watch of Exemptions interrupted, resuming");
                    }
                }
            }
        });
        Self {
            client: client.clone(),
            home: home.into(),
            store,
            changed,
            known,
        }
    }

    /// Changes whenever one of them does.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Those that hold now.
    fn active(&self, now: Timestamp) -> Vec<Arc<Exemption>> {
        if self.store.is_empty() {
            return Vec::new();
        }
        let mut active = self.store.state();
        active.retain(|one| exemption::left(one, now).is_some());
        active
    }

    /// Whether any holds now, for who wants to save himself work.
    #[must_use]
    pub fn any(&self, now: Timestamp) -> bool {
        !self.active(now).is_empty()
    }

    /// The one that lifts this for a user and an object with these labels; of several the one that lasts longest.
    #[must_use]
    pub fn lifting(
        &self,
        lift: Lift,
        user: &User,
        object: &ObjectRef,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<Arc<Exemption>> {
        let lifts = |one: &Arc<Exemption>| {
            exemption::names(one, user) && exemption::covers(one, lift, &self.home, object, labels)
        };
        let lifting = self.active(now).into_iter().filter(lifts);
        lifting.max_by_key(|one| exemption::left(one, now))
    }

    /// Notes an edit that is about to pass.
    ///
    /// # Errors
    /// When it cannot be noted, and so must not pass.
    pub async fn note(&self, exemption: &Exemption, edit: Edit) -> Result<(), String> {
        let name = exemption.name_any();
        let api = self.api(exemption);
        for _ in 0..NOTE_ATTEMPTS {
            let mut found = api.get(&name).await.map_err(|error| explain(&error))?;
            if found.uid() != exemption.uid() || exemption::left(&found, Timestamp::now()).is_none() {
                return Err("it is over".to_owned());
            }
            let noted = exemption::noted(found.status.take().unwrap_or_default(), edit.clone());
            found.status = Some(noted.map_err(|full| full.to_string())?);
            match api.replace_status(&name, &parameters(), &found).await {
                Ok(_) => return Ok(()),
                Err(error) if is_code(&error, 409) => {}
                Err(error) => return Err(explain(&error)),
            }
        }
        Err("too many edit under it at the same moment; try again".to_owned())
    }

    /// The active ones with what they have let pass up to now. Costs a request for each, and none when there is none.
    pub async fn fresh(&self, now: Timestamp) -> Vec<Arc<Exemption>> {
        let mut fresh = Vec::new();
        // An error means that the process is stopping.
        let _ = self.known.clone().wait_for(|known| *known).await;
        for one in self.active(now) {
            match self.api(&one).get_opt(&one.name_any()).await {
                Ok(Some(found)) => fresh.push(Arc::new(found)),
                Ok(None) => {}
                Err(_) => fresh.push(one),
            }
        }
        fresh.retain(|one| exemption::left(one, now).is_some());
        fresh
    }

    /// How long an object stays as it was edited under one of `these`; `None` when none let it be edited.
    #[must_use]
    pub fn holds(
        &self,
        these: &[Arc<Exemption>],
        object: &ObjectRef,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<Duration> {
        let holds = these
            .iter()
            .filter(|one| exemption::has_let_pass(one, &self.home, object, labels));
        holds.filter_map(|one| exemption::left(one, now)).max()
    }

    fn api(&self, exemption: &Exemption) -> Api<Exemption> {
        Api::namespaced(self.client.clone(), &exemption.namespace().unwrap_or_default())
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Keeps statuses true and ends what is over, until `shutdown`. Only the leader does this.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let exemptions = context.shared.exemptions.clone();
    let mut changed = exemptions.changed();
    let mut known: HashMap<String, Arc<Exemption>> = HashMap::new();
    loop {
        changed.borrow_and_update();
        let now = Timestamp::now();
        let (mut next, mut active) = (None, 0);
        let mut seen = HashMap::new();
        for one in exemptions.store.state() {
            let mut wait = exemption::left(&one, now);
            active += usize::from(wait.is_some());
            if let Err(error) = keep(&context, &one, now).await {
                tracing::warn!(exemption = %exemption::name(&one), error, "the status of an Exemption cannot be written");
                wait = Some(RETRY);
            }
            next = next.into_iter().chain(wait).min();
            seen.insert(one.uid().unwrap_or_default(), one);
        }
        context.shared.metrics.exemptions(active);
        known.retain(|uid, _| !seen.contains_key(uid));
        for gone in known.values() {
            // Deleted before its time: over now.
            if exemption::left(gone, now).is_some() || gone.metadata.deletion_timestamp.is_some() {
                ended(&context, gone);
            }
        }
        known = seen;
        tokio::select! {
            () = shutdown.cancelled() => return,
            more = changed.changed() => if more.is_err() { return },
            () = until(next) => {}
        }
    }
}

async fn until(next: Option<Duration>) {
    match next {
        // A moment more, so that what was to end then has ended.
        Some(wait) => tokio::time::sleep(wait + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}

/// Writes the status of one if it has changed, and tells what is news.
async fn keep(context: &Arc<Context>, of: &Exemption, now: Timestamp) -> Result<(), String> {
    let (status, turn) = exemption::status(of, now);
    // Edits are the doors' to write: only what else differs is sent.
    let own = |status: &ExemptionStatus| ExemptionStatus {
        edits: None,
        edit_count: None,
        ..status.clone()
    };
    let old = of.status.as_ref().map(own);
    record::status(&context.shared.client, of, old.as_ref(), &own(&status), MANAGER)
        .await
        .map_err(|error| explain(&error))?;
    let Some(turn) = turn else { return Ok(()) };
    let (severity, reason, message) = told(of, turn);
    tracing::warn!(exemption = %exemption::name(of), reason, told = %message, "exemption");
    record::event(&context.shared.events, of, COMPONENT, severity, reason, message, &[]);
    if turn == Turn::Ended {
        ended(context, of);
    }
    Ok(())
}

fn told(of: &Exemption, turn: Turn) -> (Severity, &'static str, String) {
    let until = exemption::until(of).map_or(String::new(), |until| format!("{until:.0}"));
    let before = of.status.as_ref().and_then(|status| status.until.as_ref());
    let before = before.map_or(String::new(), |time| format!(", it was {:.0}", time.0));
    let by = match (of.annotations().get(ASKED_BY), writer(&of.metadata)) {
        (Some(user), _) => format!(" (asked for by {user})"),
        // Made while the door was away, which writes the name of the user.
        (None, Some(manager)) => format!(" (written with {manager})"),
        (None, None) => String::new(),
    };
    match turn {
        Turn::Granted => {
            let message = format!("drift is allowed until {until}{by}: {}", of.spec.reason);
            (Severity::Warning, "ExemptionGranted", message)
        }
        Turn::Extended => {
            let message = format!("now lasts until {until}{before}{by}");
            (Severity::Warning, "ExemptionExtended", message)
        }
        Turn::Shortened => {
            let message = format!("now lasts until {until}{before}{by}");
            (Severity::Normal, "ExemptionShortened", message)
        }
        Turn::Ended => {
            let edits = of.status.iter().flat_map(|status| status.edits.iter().flatten());
            let (made, edited): (Vec<&Edit>, Vec<&Edit>) = edits.partition(|edit| edit.kustomization.is_empty());
            let mut message = format!("ended {until}");
            if !edited.is_empty() {
                message.push_str(&format!("; what was edited under it is put back: {}", named(&edited)));
            }
            if !made.is_empty() {
                message.push_str(&format!("; what was made by hand under it stays: {}", named(&made)));
            }
            if edited.is_empty() && made.is_empty() {
                message.push_str("; nothing was edited under it");
            }
            (Severity::Normal, "ExemptionEnded", message)
        }
    }
}

/// The first few of some edits, with who made them.
fn named(edits: &[&Edit]) -> String {
    let shown = edits.iter().take(NAMED_OBJECTS);
    let shown: Vec<String> = shown
        .map(|edit| format!("{} by {}", exemption::edited(edit), edit.user))
        .collect();
    match edits.len().saturating_sub(NAMED_OBJECTS) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Who wrote the spec last, as far as `managedFields` tells.
fn writer(meta: &ObjectMeta) -> Option<String> {
    let specs = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.is_none());
    let last = specs.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager.clone()
}

/// Has everything that was edited under one reconciled: what this process has not seen to drift, it finds that way.
fn ended(context: &Context, one: &Exemption) {
    let edits = one.status.iter().flat_map(|status| status.edits.iter().flatten());
    let mut owners: Vec<OwnerKey> = edits
        .filter_map(|edit| {
            let (namespace, name) = edit.kustomization.split_once('/')?;
            Some(OwnerKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        })
        .collect();
    owners.sort();
    owners.dedup();
    for owner in owners {
        drift::look_again(context, &owner);
    }
}
