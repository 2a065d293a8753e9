//! The three doors: `/validate` and `/mutate` ask the policies, `/guard` asks whose field it is.
//!
//! Guarantees: every door reads from memory except `/guard` for a subresource, which reads the object behind it, and for an
//! owner in a strict namespace; before
//! everything that decides has been read at start, a request gets an error and not an answer, which the webhook's
//! `failurePolicy` resolves.

mod guard;
mod status;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube::runtime::reflector::{ObjectRef as StoreRef, Store};

use super::webhook::Doors;
use crate::admission::desk::{AT_ONCE, Begun, Decided, Door};
use crate::admission::review::{AdmissionRequest, Answer, Operation};
use crate::api::source::GitRepository;
use crate::api::weir;
use crate::controllers::owners::Owners;
use crate::controllers::{Shared, kustomization};
use crate::core::identity::{CREDENTIAL_EXTRA, KUSTOMIZATION_EXTRA};
use crate::guard::Identities;
use crate::policy::{Decision, Inventory, Library, Process, Review, Settings};

/// Longest evaluation of all policies on one request; the webhooks' timeout in `manifests/` is 3 s.
const BUDGET: Duration = Duration::from_millis(2000);

/// All doors of `weir run`.
#[must_use]
pub fn all(
    shared: &Arc<Shared>,
    kustomizations: &Arc<kustomization::Context>,
    repositories: &Store<GitRepository>,
) -> Doors {
    let guard = guard::Guard {
        shared: Arc::clone(shared),
        kustomizations: Arc::clone(kustomizations),
        repositories: repositories.clone(),
        identities: Identities {
            weir: [shared.identity.username.clone()].into(),
            credential: shared.identity.shows_credential.then(|| CREDENTIAL_EXTRA.to_owned()),
            extra: Some(KUSTOMIZATION_EXTRA.to_owned()),
            ..Identities::default()
        },
        owners: Owners::default(),
        known: AtomicBool::new(false),
    };
    Doors {
        validate: Arc::new(Validate(Arc::clone(shared))),
        mutate: Arc::new(Mutate(Arc::clone(shared))),
        guard: Arc::new(guard),
    }
}

/// Evaluates every policy that matches.
struct Validate(Arc<Shared>);

impl Door for Validate {
    fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun {
        let Prepared {
            library,
            settings,
            review,
            inventory,
        } = match prepared(&self.0, request) {
            Ok(prepared) => prepared,
            Err(message) => return Begun::Done(Err(message)),
        };
        if settings.excludes_review(Process::Webhook, &review) {
            return Begun::Done(Ok(Answer::allow()));
        }
        match library.evaluate_within(&review, &inventory, AT_ONCE) {
            Some(decision) => Begun::Done(Ok(answer(&decision))),
            None => Begun::Computes(Box::new(move || {
                Ok(answer(&library.evaluate(&review, &inventory, BUDGET)))
            })),
        }
    }
}

fn answer(decision: &Decision) -> Answer {
    let warnings = decision
        .warnings()
        .map(|one| format!("[{}] {}", one.short_policy(), one.message))
        .collect();
    let answer = if decision.denied() {
        Answer::deny(decision.denial_message())
    } else {
        Answer::allow()
    };
    Answer { warnings, ..answer }
}

/// Lets `mutate` rules complete the object.
struct Mutate(Arc<Shared>);

impl Door for Mutate {
    fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun {
        if request.operation != Operation::Delete && request.group == weir::GROUP && request.resource == "exemptions" {
            return Begun::Done(Ok(status::signed(&request)));
        }
        if request.operation == Operation::Delete || matches!(in_force(&self.0), Ok((library, _)) if !library.mutates())
        {
            return Begun::Done(Ok(Answer::allow()));
        }
        Begun::Computes(Box::new(move || self.complete(request)))
    }
}

impl Mutate {
    fn complete(&self, request: AdmissionRequest) -> Decided {
        let prepared = prepared(&self.0, request)?;
        if prepared.settings.excludes_review(Process::Mutation, &prepared.review) {
            return Ok(Answer::allow());
        }
        Ok(
            match prepared.library.mutate(&prepared.review, &prepared.inventory, BUDGET) {
                Ok(mutation) => {
                    let patch = (!mutation.patch.0.is_empty()).then_some(mutation.patch);
                    Answer {
                        patch,
                        ..Answer::allow()
                    }
                }
                Err(error) => Answer::deny(error.to_string()),
            },
        )
    }
}

/// The policies in force, and the namespaces that they leave out.
fn in_force(shared: &Shared) -> Result<(Library, Arc<Settings>), String> {
    let policies = shared.policies.borrow();
    if !policies.ready {
        return Err("policies are not loaded yet".to_owned());
    }
    Ok((policies.library.clone(), Arc::clone(&policies.settings)))
}

/// A request with all that is asked about it.
struct Prepared {
    library: Library,
    settings: Arc<Settings>,
    review: Review,
    inventory: Inventory,
}

fn prepared(shared: &Shared, request: AdmissionRequest) -> Result<Prepared, String> {
    let (library, settings) = in_force(shared)?;
    let namespace = shared
        .namespaces
        .get(&StoreRef::new(&request.namespace))
        .and_then(|namespace| {
            let mut value = serde_json::to_value(namespace.as_ref()).ok()?;
            let fields = value.as_object_mut()?;
            fields.insert("apiVersion".to_owned(), "v1".into());
            fields.insert("kind".to_owned(), "Namespace".into());
            Some(value)
        });
    let review = Review::from_request(request.raw, namespace).map_err(|error| error.to_string())?;
    Ok(Prepared {
        library,
        settings,
        review,
        inventory: shared.inventory.borrow().clone(),
    })
}
