//! What Gatekeeper's Config and SyncSets ask for: kinds that policies see as `data.inventory`, and namespaces that are left out.
//!
//! Guarantees: what has another form than Gatekeeper's schema is left out, and nothing else with it.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::matching::globs;
use super::review::Review;
use crate::core::object::Gvk;

/// Most kinds that are synced. Each is a watch over the whole cluster; a cluster has some hundred kinds, of which policies
/// that refer to others name a handful.
const MAX_KINDS: usize = 64;

/// Something that namespaces can be left out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Judging: at the webhook, and at Weir's gate, which says the same a little earlier.
    Webhook,
    /// Completing objects by `mutate` rules, at both.
    Mutation,
    /// The inventory.
    Sync,
}

impl Process {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mutation => "mutation-webhook",
            Self::Sync => "sync",
        }
    }
}

/// All Configs and SyncSets together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    kinds: BTreeSet<Gvk>,
    /// Names of processes, each with a pattern for namespaces.
    excluded: Vec<(String, String)>,
}

impl Settings {
    /// Reads them; what is no Config is taken for a SyncSet.
    #[must_use]
    pub fn read<'a>(sources: impl IntoIterator<Item = &'a Json>) -> Self {
        let mut settings = Self::default();
        for source in sources {
            let list = |pointer: &str| source.pointer(pointer).and_then(Json::as_array).into_iter().flatten();
            let kinds = list("/spec/sync/syncOnly").chain(list("/spec/gvks"));
            settings.kinds.extend(kinds.filter_map(gvk));
            for entry in list("/spec/match") {
                let texts = |key: &str| {
                    let list = entry.get(key).and_then(Json::as_array).into_iter().flatten();
                    list.filter_map(Json::as_str)
                };
                for process in texts("processes") {
                    let globs = texts("excludedNamespaces").map(|glob| (process.to_owned(), glob.to_owned()));
                    settings.excluded.extend(globs);
                }
            }
        }
        settings
    }

    /// The kinds that are synced, and how many are too many.
    #[must_use]
    pub fn kinds(&self) -> (Vec<&Gvk>, usize) {
        let taken: Vec<&Gvk> = self.kinds.iter().take(MAX_KINDS).collect();
        let left = self.kinds.len() - taken.len();
        (taken, left)
    }

    /// Whether a process leaves a namespace out; a Namespace is in itself, and what is in none is in `""`.
    #[must_use]
    pub fn excludes(&self, process: Process, namespace: &str) -> bool {
        self.excluded
            .iter()
            .any(|(of, glob)| (of == "*" || of == process.as_str()) && globs(glob, namespace))
    }

    /// The same for a request.
    #[must_use]
    pub fn excludes_review(&self, process: Process, review: &Review) -> bool {
        let of = |object: &Json| {
            object
                .pointer("/metadata/namespace")
                .and_then(Json::as_str)
                .map(str::to_owned)
        };
        !self.excluded.is_empty() && {
            let namespace = if review.gvk().kind == "Namespace" && review.gvk().group.is_empty() {
                review.name().to_owned()
            } else {
                let own = review.object().and_then(of).filter(|own| !own.is_empty());
                own.unwrap_or_else(|| review.namespace().to_owned())
            };
            self.excludes(process, &namespace)
        }
    }

    /// The same for an object of the inventory.
    #[must_use]
    pub fn syncs(&self, object: &Json) -> bool {
        let text = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
        let is_namespace = text("/kind") == "Namespace" && text("/apiVersion") == "v1";
        let place = if is_namespace {
            "/metadata/name"
        } else {
            "/metadata/namespace"
        };
        !self.excludes(Process::Sync, text(place))
    }

    /// Whether both leave the same out of the inventory.
    #[must_use]
    pub fn syncs_like(&self, other: &Self) -> bool {
        let of = |settings: &Self| -> BTreeSet<String> {
            let sync = |process: &str| process == "*" || process == Process::Sync.as_str();
            let excluded = settings.excluded.iter().filter(|(process, _)| sync(process));
            excluded.map(|(_, glob)| glob.clone()).collect()
        };
        of(self) == of(other)
    }
}

fn gvk(entry: &Json) -> Option<Gvk> {
    let text = |key: &str| entry.get(key).and_then(Json::as_str);
    Some(Gvk {
        group: text("group").unwrap_or_default().to_owned(),
        version: text("version").filter(|text| !text.is_empty())?.to_owned(),
        kind: text("kind").filter(|text| !text.is_empty())?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::review::Operation;
    use super::*;
    use crate::core::object::Object;
    use serde_json::json;

    #[test]
    fn configs_and_sync_sets_are_read_together() {
        let config = json!({"kind": "Config", "spec": {"sync": {"syncOnly": [
            {"group": "", "version": "v1", "kind": "Namespace"}, {"version": "v1", "kind": "Service"}, {"kind": "Odd"}, 1]},
            "match": [{"excludedNamespaces": ["kube-*"], "processes": ["*"]},
                {"excludedNamespaces": ["odd", "*-dev"], "processes": ["webhook", "sync"]}, {"processes": ["audit"]}]}});
        let set = json!({"kind": "SyncSet", "spec": {"gvks": [{"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
            {"version": "v1", "kind": "Namespace"}]}});
        let settings = Settings::read([&config, &set]);
        let (kinds, left) = settings.kinds();
        let kinds: Vec<String> = kinds
            .into_iter()
            .map(|gvk| format!("{} {}", gvk.api_version(), gvk.kind))
            .collect();
        assert_eq!(kinds, ["v1 Namespace", "v1 Service", "networking.k8s.io/v1 Ingress"]);
        assert_eq!(left, 0);
        let check = |process: Process, namespace: &str, expect: bool| {
            assert_eq!(
                settings.excludes(process, namespace),
                expect,
                "{process:?} {namespace:?}"
            );
        };
        check(Process::Webhook, "kube-system", true);
        check(Process::Mutation, "kube-system", true);
        check(Process::Webhook, "odd", true);
        check(Process::Sync, "team-dev", true);
        check(Process::Mutation, "odd", false);
        check(Process::Webhook, "prod", false);
        check(Process::Webhook, "", false);
        assert!(settings.syncs(&json!({"kind": "Pod", "metadata": {"name": "odd", "namespace": "a"}})));
        assert!(!settings.syncs(&json!({"kind": "Pod", "metadata": {"name": "a", "namespace": "odd"}})));
        assert!(!settings.syncs(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "odd"}})));
        assert!(!settings.syncs_like(&Settings::default()));
        assert!(settings.syncs_like(&Settings::read([&config])));
    }

    #[test]
    fn a_request_is_left_out_by_its_namespace() {
        let config = json!({"spec": {"match": [{"excludedNamespaces": ["left-*"], "processes": ["webhook"]}]}});
        let settings = Settings::read([&config]);
        let check = |object: Json, expect: bool| {
            let object = Object::new(object).unwrap();
            let review = Review::planned(Operation::Create, Some(&object), None, None);
            assert_eq!(
                settings.excludes_review(Process::Webhook, &review),
                expect,
                "{object:?}"
            );
        };
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "left-out"}}),
            true,
        );
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "left-a", "namespace": "b"}}),
            false,
        );
        check(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "left-out"}}),
            true,
        );
        check(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "left-out"}}),
            false,
        );
    }
}
