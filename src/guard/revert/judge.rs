//! Whether what is seen of an object is drift, and whose.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::{Memory, Ours, Shape, is_ours, time_of};
use crate::core::fields::{FieldSet, Path};
use crate::guard::markers;

/// What a watch shows of an object.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// Its metadata.
    There(&'a ObjectMeta),
    /// It is gone, or no longer carries the owner label.
    Gone,
}

/// What to make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing to do.
    Quiet(Quiet),
    /// Something that Git declares is not as it was applied.
    Drift(Drift),
    /// Something has changed that metadata does not tell of; the object has to be looked at.
    Unclear,
}

/// Why there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiet {
    /// It is what we wrote, or older.
    Known,
    /// Our fields are untouched.
    Untouched,
    /// Only fields changed whose drift is left alone.
    Ignored,
    /// A control marker of Git's says to leave it alone.
    LeftAlone,
    /// It is being deleted; when it is gone it comes back.
    Terminating,
}

/// Drift of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The declared fields that are no longer ours; empty when the object is gone or was applied in our name.
    pub fields: Vec<Path>,
    /// Who did it, as far as `managedFields` tells.
    pub manager: Option<Manager>,
    /// Whether the object is gone.
    pub gone: bool,
    /// Markers that were put on by hand so that the object is left alone; applying it does not take them off.
    pub markers: Vec<Path>,
}

/// A field manager.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Manager {
    /// Its name, as in `kubectl-edit`.
    pub name: String,
    /// The subresource it wrote through, as in `scale`; empty for the object itself.
    pub subresource: String,
    /// Whether it applied (server-side) rather than updated.
    pub applied: bool,
    /// When, as the API server writes it.
    pub time: String,
}

impl Manager {
    /// Reads an entry of `managedFields`.
    #[must_use]
    pub fn of(entry: &ManagedFieldsEntry) -> Self {
        Self {
            name: entry.manager.clone().unwrap_or_default(),
            subresource: entry.subresource.clone().unwrap_or_default(),
            applied: entry.operation.as_deref() == Some("Apply"),
            time: time_of(entry),
        }
    }
}

impl std::fmt::Display for Manager {
    /// `kubectl (scale)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if self.subresource.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.subresource)
    }
}

/// Compares what is seen with what was applied.
#[must_use]
pub fn judge(memory: &Memory, seen: Seen<'_>) -> Finding {
    if memory.left_alone {
        return Finding::Quiet(Quiet::LeftAlone);
    }
    let meta = match seen {
        Seen::There(meta) => meta,
        Seen::Gone => {
            return Finding::Drift(Drift {
                fields: Vec::new(),
                manager: None,
                gone: true,
                markers: Vec::new(),
            });
        }
    };
    let version: Option<u64> = meta.resource_version.as_deref().and_then(|text| text.parse().ok());
    if let (Some(seen), Some(known)) = (version, memory.version)
        && seen <= known
    {
        return Finding::Quiet(Quiet::Known);
    }
    if meta.deletion_timestamp.is_some() {
        return Finding::Quiet(Quiet::Terminating);
    }
    if memory.when_missing {
        return Finding::Quiet(Quiet::LeftAlone);
    }
    // It was applied without them, so they are not Git's.
    let markers = markers::alone(meta);
    let replaced = meta.uid.as_deref().is_some_and(|uid| uid != memory.uid);
    let now = Ours::of(meta);
    if let Some(now) = now.as_ref().filter(|_| !replaced) {
        if now.time != memory.ours.time || now.api_version != memory.ours.api_version {
            // Somebody applied under our manager's name. What it changed cannot be told from metadata.
            let applier = meta.managed_fields.iter().flatten().find(|one| is_ours(one));
            return drift(Vec::new(), applier, markers);
        }
        if now.fields == memory.ours.fields && markers.is_empty() {
            if !memory.observed && memory.shape.moved(Shape::of(meta)) {
                return Finding::Unclear;
            }
            return Finding::Quiet(Quiet::Untouched);
        }
    }
    let lost = lost(&memory.ours, now.as_ref());
    if lost.is_empty() && !replaced && markers.is_empty() {
        return Finding::Quiet(Quiet::Untouched);
    }
    let mut fields: Vec<Path> = lost
        .into_iter()
        .filter(|path| !ignored(path, &memory.ignored))
        .collect();
    fields.extend(markers.iter().cloned());
    if fields.is_empty() && !replaced {
        return Finding::Quiet(Quiet::Ignored);
    }
    let taker = taker(meta, &fields, &memory.ours.time);
    drift(fields, taker, markers)
}

/// Whether what stands at a path is left alone by `spec.ignore`.
pub(super) fn ignored(path: &Path, pointers: &[String]) -> bool {
    pointers.iter().any(|pointer| path.is_at_pointer(pointer))
}

fn drift(fields: Vec<Path>, by: Option<&ManagedFieldsEntry>, markers: Vec<Path>) -> Finding {
    Finding::Drift(Drift {
        fields,
        manager: by.map(Manager::of),
        gone: false,
        markers,
    })
}

/// Fields that were ours and are not any more. Sets that cannot be read have lost nothing that could be named.
pub(super) fn lost(then: &Ours, now: Option<&Ours>) -> Vec<Path> {
    let read = |fields: &str| {
        let value = serde_json::from_str(fields).ok()?;
        FieldSet::parse(&value).ok()
    };
    let then = read(&then.fields).unwrap_or_default();
    let now = now.and_then(|now| read(&now.fields)).unwrap_or_default();
    then.difference(&now).paths()
}

/// Who has the fields now; else, when they were removed rather than changed, who wrote last since we did.
pub(in crate::guard) fn taker<'a>(
    meta: &'a ObjectMeta,
    fields: &[Path],
    since: &str,
) -> Option<&'a ManagedFieldsEntry> {
    let others = || meta.managed_fields.iter().flatten().filter(|entry| !is_ours(entry));
    let has_one = |entry: &&ManagedFieldsEntry| {
        let set = entry.fields_v1.as_ref().and_then(|set| FieldSet::parse(&set.0).ok());
        set.is_some_and(|set| fields.iter().any(|field| set.reaches(field)))
    };
    // Times are written in one form, in UTC, so that their texts compare like the times.
    others().filter(has_one).max_by_key(|entry| time_of(entry)).or_else(|| {
        others()
            .filter(|entry| entry.subresource.as_deref() != Some("status") && time_of(entry).as_str() >= since)
            .max_by_key(|entry| time_of(entry))
    })
}
