//! The book: what was applied last, of every managed object. What this process has not applied itself it knows from the
//! watch, which is less: not the object as it was sent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{OnceCell, RwLock, watch};

use crate::core::fields::{FieldSet, Path};
use crate::core::object::{Gvk, ObjectRef};
use crate::guard::revert::{Kept, Memory, OwnerKey, Shape, observe};

/// Most bytes of kept objects and field sets. A managed object takes about 1 KiB, so this is room for 30,000 of them; it
/// is a sixth of the memory that Weir may have.
const MAX_BYTES: usize = 32 << 20;

/// A kind, whatever its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindKey {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

/// The book. Clones share it.
#[derive(Clone)]
pub struct Book(Arc<Inner>);

struct Inner {
    pages: Mutex<Pages>,
    /// Kinds of the objects in the book, with a version that each was applied in.
    kinds: watch::Sender<Vec<Gvk>>,
    /// Since when the guard stands in this cluster, once it was asked for.
    guarding: OnceCell<Timestamp>,
}

#[derive(Default)]
struct Pages {
    objects: HashMap<ObjectRef, Memory>,
    kinds: HashMap<KindKey, (usize, String)>,
    owners: HashMap<OwnerKey, Arc<RwLock<()>>>,
    /// Whose objects this process has begun to apply: it knows them better than a watch does.
    applied: HashSet<OwnerKey>,
    /// Who was reconciled while the guard was frozen, so that objects of theirs were left as they were found.
    frozen: HashSet<OwnerKey>,
    bytes: usize,
}

impl Default for Book {
    fn default() -> Self {
        Self(Arc::new(Inner {
            pages: Mutex::default(),
            kinds: watch::channel(Vec::new()).0,
            guarding: OnceCell::new(),
        }))
    }
}

impl Book {
    /// What is remembered of an object.
    #[must_use]
    pub fn get(&self, object: &ObjectRef) -> Option<Memory> {
        self.pages().objects.get(object).cloned()
    }

    /// Asks something about an object without copying what is remembered.
    pub fn with<T>(&self, object: &ObjectRef, ask: impl FnOnce(&Memory) -> T) -> Option<T> {
        self.pages().objects.get(object).map(ask)
    }

    /// The fields of an object that were applied last, with the version they are named in; status is left out.
    #[must_use]
    pub fn applied(&self, object: &ObjectRef) -> Option<(String, FieldSet)> {
        let (version, text) = self.with(object, |memory| {
            (memory.ours.api_version.clone(), memory.ours.fields.clone())
        })?;
        let set = FieldSet::parse(&serde_json::from_str(&text).ok()?).ok()?;
        Some((version, set.without(&Path::of_fields(["status"]))))
    }

    /// A Kustomization is about to be applied by this process.
    pub fn begin(&self, owner: &OwnerKey) {
        self.pages().applied.insert(owner.clone());
    }

    /// Objects of a Kustomization were left as they are because the guard is frozen.
    pub fn left_frozen(&self, owner: &OwnerKey) {
        self.pages().frozen.insert(owner.clone());
    }

    /// Those of whom that is so; once.
    #[must_use]
    pub fn take_frozen(&self) -> HashSet<OwnerKey> {
        std::mem::take(&mut self.pages().frozen)
    }

    /// Whether this process has applied anything of a Kustomization.
    #[must_use]
    pub fn knows(&self, owner: &OwnerKey) -> bool {
        let pages = self.pages();
        let mut applied = pages.objects.values().filter(|memory| !memory.observed);
        applied.any(|memory| memory.owner == *owner)
    }

    /// Notes what was applied.
    pub fn remember(&self, object: ObjectRef, memory: Memory) {
        self.pages().insert(object, memory);
        self.publish();
    }

    /// Notes what a watch shows of an object that this process has not applied itself.
    pub fn observe(&self, object: &ObjectRef, owner: OwnerKey, gvk: &Gvk, meta: &ObjectMeta, now: Timestamp) {
        let kinds = {
            let mut pages = self.pages();
            if pages.applied.contains(&owner) {
                return;
            }
            let Some(memory) = observe(pages.objects.get(object), owner, gvk.clone(), meta, now) else {
                return;
            };
            let kinds = pages.kinds.len();
            pages.insert(object.clone(), memory);
            kinds != pages.kinds.len()
        };
        if kinds {
            self.publish();
        }
    }

    /// Notes the form in which an object was seen, as that changes by what is nobody's drift.
    pub fn saw(&self, object: &ObjectRef, shape: Shape) {
        if let Some(memory) = self.pages().objects.get_mut(object) {
            memory.shape = shape;
        }
    }

    /// Forgets an object that is gone, if a watch is all that told of it: whoever leads makes it again.
    pub fn forget_observed(&self, object: &ObjectRef) {
        let mut pages = self.pages();
        if pages.objects.get(object).is_some_and(|memory| memory.observed) {
            pages.remove(object);
        }
    }

    /// Notes all that one Kustomization has applied; what it no longer has is forgotten.
    pub fn replace(&self, owner: &OwnerKey, memories: Vec<(ObjectRef, Memory)>) {
        {
            let mut pages = self.pages();
            let kept: HashSet<&ObjectRef> = memories.iter().map(|(object, _)| object).collect();
            let stale: Vec<ObjectRef> = pages
                .objects
                .iter()
                .filter(|(object, memory)| memory.owner == *owner && !kept.contains(object))
                .map(|(object, _)| object.clone())
                .collect();
            for object in &stale {
                pages.remove(object);
            }
            for (object, memory) in memories {
                pages.insert(object, memory);
            }
        }
        self.publish();
    }

    /// Forgets objects that Weir is about to delete.
    pub fn forget<'a>(&self, objects: impl IntoIterator<Item = &'a ObjectRef>) {
        {
            let mut pages = self.pages();
            for object in objects {
                pages.remove(object);
            }
        }
        self.publish();
    }

    /// Forgets a Kustomization and all that it applied.
    pub fn forget_owner(&self, owner: &OwnerKey) {
        self.replace(owner, Vec::new());
        let mut pages = self.pages();
        pages.owners.remove(owner);
        pages.applied.remove(owner);
    }

    /// Objects of a kind, or all that lie in a namespace.
    #[must_use]
    pub fn objects(&self, wanted: impl Fn(&ObjectRef) -> bool) -> BTreeSet<ObjectRef> {
        self.pages()
            .objects
            .keys()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// The kinds in the book as they come and go.
    #[must_use]
    pub fn kinds(&self) -> watch::Receiver<Vec<Gvk>> {
        self.0.kinds.subscribe()
    }

    /// The lock between applying a Kustomization (write) and putting single objects of it back (read): an object of the
    /// revision before must not land on top of the new one.
    #[must_use]
    pub fn lock(&self, owner: &OwnerKey) -> Arc<RwLock<()>> {
        Arc::clone(self.pages().owners.entry(owner.clone()).or_default())
    }

    /// Since when the guard stands in this cluster, whichever process that was; asked for once.
    pub(super) fn guarding(&self) -> &OnceCell<Timestamp> {
        &self.0.guarding
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) {
        let pages = self.pages();
        let mut now: Vec<Gvk> = pages
            .kinds
            .iter()
            .map(|(key, (_, version))| Gvk {
                group: key.group.clone(),
                version: version.clone(),
                kind: key.kind.clone(),
            })
            .collect();
        now.sort();
        self.0.kinds.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

impl Pages {
    fn insert(&mut self, object: ObjectRef, mut memory: Memory) {
        self.remove(&object);
        if self.bytes + size(&memory) > MAX_BYTES {
            memory.desired = None;
        }
        self.bytes += size(&memory);
        let kind = self.kinds.entry(key(&object)).or_default();
        if kind.0 == 0 {
            kind.1.clone_from(&memory.gvk.version);
        }
        kind.0 += 1;
        self.objects.insert(object, memory);
    }

    fn remove(&mut self, object: &ObjectRef) {
        let Some(memory) = self.objects.remove(object) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(size(&memory));
        let key = key(object);
        if let Some(kind) = self.kinds.get_mut(&key) {
            kind.0 = kind.0.saturating_sub(1);
            if kind.0 == 0 {
                self.kinds.remove(&key);
            }
        }
    }
}

fn key(object: &ObjectRef) -> KindKey {
    KindKey {
        group: object.group.clone(),
        kind: object.kind.clone(),
    }
}

fn size(memory: &Memory) -> usize {
    memory.ours.fields.len() + memory.desired.as_ref().map_or(0, Kept::len)
}
