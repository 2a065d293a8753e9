//! Flux Kustomizations among objects: each is built as the cluster would build it, and so is what it contains.
//!
//! Flow: `clusters` starts from every Kustomization that stands in a file and that no other one renders, since that is what
//! somebody applied to a cluster by hand; `follow` builds one after the other. What was rendered counts, not what stands in
//! the file: a kustomization may have patched it.

use std::collections::{BTreeSet, VecDeque};

use super::gather::{Group, Unit};
use super::report::{Failure, Skipped};
use super::tree::{Renderer, Tree};
use crate::api::kustomize::{GROUP, KustomizationSpec, SourceKind};
use crate::controllers::kustomization::inputs;
use crate::plan::{Desired, Owner};
use crate::render::{RenderRequest, variables};

/// A Flux Kustomization.
#[derive(Debug, Clone)]
pub(super) struct Found {
    owner: Owner,
    spec: KustomizationSpec,
    /// Where it stands.
    pub(super) place: Option<String>,
}

impl Found {
    /// `spec.path` as a path of the tree.
    pub(super) fn path(&self) -> String {
        inputs::path(&self.spec)
    }

    fn name(&self) -> String {
        format!("Kustomization {}/{}", self.owner.namespace, self.owner.name)
    }
}

/// Whether it is worth reading a file.
pub(super) fn looks_like_one(content: &[u8]) -> bool {
    std::str::from_utf8(content).is_ok_and(|text| text.contains(GROUP) && text.contains("Kustomization"))
}

/// Those that stand in a file. One without a source is no Kustomization but a patch for one.
pub(super) fn written(objects: &[Desired]) -> Vec<Found> {
    let complete = |one: &&Desired| one.object.value().pointer("/spec/sourceRef").is_some();
    let objects = objects.iter().filter(complete);
    objects.filter_map(|one| read(one)?.ok()).collect()
}

/// Those that were rendered. One that does not fit the API is an error.
pub(super) fn declared(objects: &[Desired], errors: &mut Vec<Failure>) -> Vec<Found> {
    let mut found = Vec::new();
    for result in objects.iter().filter_map(read) {
        match result {
            Ok(kustomization) => found.push(kustomization),
            Err(failure) => errors.push(failure),
        }
    }
    found
}

/// `None` for every other object.
fn read(one: &Desired) -> Option<Result<Found, Failure>> {
    let gvk = one.object.gvk();
    if gvk.group != GROUP || gvk.kind != "Kustomization" {
        return None;
    }
    let spec = one.object.value().get("spec").cloned().unwrap_or_default();
    let place = one.place();
    Some(match serde_json::from_value::<KustomizationSpec>(spec) {
        Ok(spec) => Ok(Found {
            owner: Owner {
                name: one.object.name().to_owned(),
                namespace: one.object.namespace().to_owned(),
            },
            spec,
            place,
        }),
        Err(error) => {
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            Err(Failure::new(format!(
                "{place}{} cannot be read: spec: {error}",
                one.object.reference()
            )))
        }
    })
}

/// One group for every Kustomization that is rendered by no other.
pub(super) async fn clusters(
    candidates: Vec<Found>,
    tree: &Tree,
    renderer: &Renderer,
    errors: &mut Vec<Failure>,
) -> Vec<Group> {
    struct Start {
        place: Option<String>,
        group: Group,
        errors: Vec<Failure>,
        /// Places of the Kustomizations that it renders, itself aside.
        contains: BTreeSet<Option<String>>,
        dropped: bool,
    }
    let mut starts: Vec<Start> = Vec::new();
    for candidate in candidates {
        let (mut group, mut found, place) = (Group::default(), Vec::new(), candidate.place.clone());
        let mut contains = follow(&mut group, vec![candidate], tree, renderer, &mut found).await;
        contains.remove(&place);
        starts.push(Start {
            place,
            group,
            errors: found,
            contains,
            dropped: false,
        });
    }
    for index in 0..starts.len() {
        let place = starts.get(index).and_then(|start| start.place.clone());
        let inside = |(other, start): (usize, &Start)| {
            other != index && !start.dropped && place.is_some() && start.contains.contains(&place)
        };
        let dropped = starts.iter().enumerate().any(inside);
        if let Some(start) = starts.get_mut(index) {
            start.dropped = dropped;
        }
    }
    let mut groups = Vec::new();
    for start in starts.into_iter().filter(|start| !start.dropped) {
        for failure in start.errors {
            if !errors.contains(&failure) {
                errors.push(failure);
            }
        }
        groups.push(start.group);
    }
    groups
}

/// Builds Kustomizations and all that they contain into a group. Answers the places of those that were rendered.
pub(super) async fn follow(
    group: &mut Group,
    start: Vec<Found>,
    tree: &Tree,
    renderer: &Renderer,
    errors: &mut Vec<Failure>,
) -> BTreeSet<Option<String>> {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let key = |found: &Found| (found.owner.namespace.clone(), found.owner.name.clone());
    let mut open: VecDeque<Found> = start.into_iter().filter(|found| seen.insert(key(found))).collect();
    let mut places = BTreeSet::new();
    while let Some(mut found) = open.pop_front() {
        if let Some(reason) = skip(&found) {
            group.skipped.push(Skipped {
                what: found.name(),
                reason,
            });
            continue;
        }
        let mut objects = build(&found, group, tree, renderer).await;
        // One that manages itself is what it makes of itself.
        if let Ok(built) = &objects {
            let itself = built
                .iter()
                .filter_map(|one| read(one)?.ok())
                .find(|one| key(one) == key(&found));
            if let Some(itself) = itself.filter(|itself| itself.spec != found.spec) {
                found = itself;
                objects = build(&found, group, tree, renderer).await;
            }
        }
        match objects {
            Ok(objects) => {
                for inner in declared(&objects, errors) {
                    places.insert(inner.place.clone());
                    if seen.insert(key(&inner)) {
                        open.push_back(inner);
                    }
                }
                let stands = found.place.clone().unwrap_or_else(|| found.path());
                group.units.push(Unit {
                    name: format!("{} ({stands})", found.name()),
                    objects,
                    owner: Some((found.owner, found.spec.common_metadata)),
                });
            }
            Err(message) => {
                let place = found
                    .place
                    .as_ref()
                    .map(|place| format!(" ({place})"))
                    .unwrap_or_default();
                errors.push(Failure::new(format!("{}{place}: {message}", found.name())));
            }
        }
    }
    places
}

/// Why the cluster would apply nothing of it from these files.
fn skip(found: &Found) -> Option<String> {
    let spec = &found.spec;
    if spec.suspend == Some(true) {
        return Some("it is suspended".to_owned());
    }
    (spec.source_ref.kind != SourceKind::GitRepository).then(|| {
        let source = &spec.source_ref;
        format!(
            "its source is {} {}, whose files are not here",
            source.kind.as_str(),
            source.name
        )
    })
}

async fn build(found: &Found, group: &Group, tree: &Tree, renderer: &Renderer) -> Result<Vec<Desired>, String> {
    let spec = &found.spec;
    let known = group.units.iter().flat_map(|unit| &unit.objects).map(|one| &one.object);
    let variables =
        variables::gather_declared(&known, &found.owner.namespace, spec.post_build.as_ref()).map_err(|error| {
            format!(
                "{error}; it is not among the objects that were built before: declare it in Git, or mark \
                                  the reference optional and give its variables defaults"
            )
        })?;
    // There are no keys here; policies see what is encrypted as it is.
    let request = RenderRequest {
        keep_encrypted: true,
        ..inputs::request(spec, variables.as_ref(), true)
    };
    renderer.build(tree, &request).await.map_err(|error| match error {
        crate::render::RenderError::NotFound(path) => format!(
            "spec.path {:?} is no directory: {path} does not exist in {}; correct it, or give the root of the repository \
             with --root",
            spec.path.as_deref().unwrap_or_default(),
            tree.root.display()
        ),
        error => error.to_string(),
    })
}
