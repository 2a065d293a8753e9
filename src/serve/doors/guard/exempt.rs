//! Break-glass at the door: which Exemption lets a request pass, and that it is noted before it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::Guard;
use crate::admission::review::Answer;
use crate::api::kustomize::Kustomization;
use crate::api::weir::{Edit, Exemption, Lift};
use crate::controllers::drift;
use crate::guard::{Change, Operation, Owner, exemption};

impl Guard {
    /// The Exemption that lets the request make something in a strict namespace.
    pub(super) fn exemption_from_strictness(&self, change: &Change) -> Option<Arc<Exemption>> {
        let (now, exemptions) = (Timestamp::now(), &self.shared.exemptions);
        // Its labels are whatever its maker wants, so they select nothing.
        exemptions.lifting(Lift::Strict, &change.user, &change.object, &BTreeMap::new(), now)
    }

    /// The Exemption that lets the request pass if it is drift.
    pub(super) fn exemption(&self, change: &Change, owner: &Owner) -> Option<Arc<Exemption>> {
        let now = Timestamp::now();
        let exemptions = &self.shared.exemptions;
        if !exemptions.any(now) {
            return None;
        }
        let parent = change.parent.as_ref().map(|parent| &parent.object);
        let live = parent.or(change.old.as_ref()).or(change.new.as_ref())?;
        let labels = exemption::declared_labels(live, owner.applied.as_ref());
        exemptions.lifting(Lift::Drift, &change.user, &change.object, &labels, now)
    }

    /// Notes what is about to pass under an Exemption; what cannot be noted is refused.
    pub(super) async fn exempted(
        &self,
        change: &Change,
        kustomization: Option<&Kustomization>,
        exemption: &Exemption,
        fields: Vec<String>,
        warning: String,
    ) -> Answer {
        let passes = Answer {
            warnings: vec![warning],
            ..Answer::allow()
        };
        if change.options.dry_run {
            return passes;
        }
        let (object, user) = (&change.object, &change.user.username);
        let named = if fields.is_empty() {
            String::new()
        } else {
            format!(" {}", fields.join(", "))
        };
        let message = format!(
            "{object}: {user} {}{named} under Exemption {}: {}",
            match change.operation {
                Operation::Create => "made it",
                Operation::Update => "changes",
                Operation::Delete => "deletes it",
            },
            exemption::name(exemption),
            exemption.spec.reason
        );
        let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
        let edit = Edit {
            user: user.clone(),
            manager: change.options.field_manager.clone(),
            operation: match change.operation {
                Operation::Create => "Create",
                Operation::Update => "Update",
                Operation::Delete => "Delete",
            }
            .to_owned(),
            group: object.group.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            kustomization: kustomization.map_or(String::new(), |one| {
                format!("{}/{}", one.namespace().unwrap_or_default(), one.name_any())
            }),
            fields,
            first: now.clone(),
            last: now,
            count: 1,
        };
        if let Err(error) = self.shared.exemptions.note(exemption, edit).await {
            return Answer::deny(format!(
                "Exemption {} would allow this for {object}, but it cannot be noted there: {error}",
                exemption::name(exemption)
            ));
        }
        let class = self.identities.class(&change.user);
        self.shared
            .metrics
            .guard_exempted(&object.kind, &change.options.field_manager, class);
        tracing::warn!(
            object = %object, user, exemption = %exemption::name(exemption), "manual change allowed by an Exemption"
        );
        let live = change.parent.as_ref().map(|parent| &parent.object);
        let text = |pointer: &str| {
            let live = live.or(change.old.as_ref()).or(change.new.as_ref())?;
            live.pointer(pointer)?.as_str().map(str::to_owned)
        };
        let reference = ObjectReference {
            api_version: text("/apiVersion"),
            kind: Some(object.kind.clone()),
            namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(object.name.clone()),
            uid: text("/metadata/uid"),
            ..ObjectReference::default()
        };
        drift::exempted(&self.shared, kustomization, reference, message);
        passes
    }
}
