//! Units × policies → report: prepares objects as the controller does, and asks the gate with nothing live.

use std::collections::{BTreeSet, HashMap};

use super::gather::{Group, Unit};
use super::policies;
use super::report::{Explained, Failure, Item, Judged, Report, Summary, Verdict};
use super::value;
use crate::core::inventory::Inventory;
use crate::core::object::{Object, ObjectRef};
use crate::gate::{self, Reason, Surroundings};
use crate::plan::{self, Desired, Options, Owner, Plan, Scopes};
use crate::policy::{Library, Sources};

/// Decides over every group. `errors` is what went wrong before.
pub(super) fn decide(given: &Sources, groups: Vec<Group>, errors: Vec<Failure>, explain: bool) -> Report {
    let mut deciding = Deciding {
        errors,
        explained: explain.then(Vec::new),
        ..Deciding::default()
    };
    let base = deciding.load(&Library::default(), given);
    let mut policies = base.len();
    let nothing = groups
        .iter()
        .all(|group| group.units.iter().all(|unit| unit.objects.is_empty()));
    if nothing && deciding.errors.is_empty() {
        deciding.fail("there is no object to judge in the given paths".to_owned());
    }
    for group in groups {
        let mut sources = given.clone();
        for unit in &group.units {
            policies::add(&mut sources, &unit.objects);
        }
        let library = if policies::count(&sources) == policies::count(given) {
            base.clone()
        } else {
            deciding.load(&base, &sources)
        };
        policies = policies.max(library.len());
        deciding.group(group, &library);
    }
    if policies == 0 && deciding.errors.is_empty() {
        deciding.fail(
            "no policy is in force: give a directory with --policies, and for ConstraintTemplates constraints that use them"
                .to_owned(),
        );
    }
    deciding.report(policies)
}

#[derive(Default)]
struct Deciding {
    errors: Vec<Failure>,
    denials: Vec<Item>,
    warnings: Vec<Item>,
    skipped: Vec<super::report::Skipped>,
    explained: Option<Vec<Explained>>,
    units: Vec<Judged>,
}

impl Deciding {
    fn fail(&mut self, message: String) {
        let failure = Failure::new(message);
        if !self.errors.contains(&failure) {
            self.errors.push(failure);
        }
    }

    fn load(&mut self, previous: &Library, sources: &Sources) -> Library {
        let mut loaded = Library::reload(previous, sources);
        // The cluster's API server would not store them.
        loaded
            .problems
            .extend(sources.refused(&loaded.library.template_kinds()));
        for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
            self.fail(format!("policy does not load: {}", problem.line()));
        }
        loaded.library
    }

    fn group(&mut self, group: Group, library: &Library) {
        let scopes = Scopes::of(objects(&group.units));
        let mut prepared = Vec::new();
        for unit in group.units {
            match prepare(unit, &scopes) {
                Ok(unit) => prepared.push(unit),
                Err(message) => self.fail(message),
            }
        }
        let surroundings = Surroundings::without_cluster().with_others(objects(&prepared));
        for unit in prepared {
            self.unit(unit, library, &surroundings);
        }
        self.skipped.extend(group.skipped);
    }

    fn unit(&mut self, unit: Unit, library: &Library, surroundings: &Surroundings) {
        let declared: HashMap<ObjectRef, Desired> = unit
            .objects
            .iter()
            .map(|one| (one.object.reference(), one.clone()))
            .collect();
        self.units.push(Judged {
            name: unit.name.clone(),
            objects: unit.objects.iter().map(|one| one.object.reference()).collect(),
        });
        let live = HashMap::new();
        let owner = unit.owner.map_or_else(nobody, |(owner, _)| owner);
        let (plan, verdict) = match gate::mutate(library, unit.objects, &live, surroundings) {
            Ok(desired) => {
                let plan = plan::plan(desired, &Inventory::default(), &live, &owner, Options::default());
                let verdict = gate::judge(library, &plan, surroundings);
                (plan, verdict)
            }
            Err(verdict) => (Plan::default(), verdict),
        };
        let item = |reason: Reason| item(&unit.name, reason, &plan, &declared);
        let by_place = |items: &mut Vec<Item>| {
            items.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
        };
        let mut denials: Vec<Item> = verdict.denials.into_iter().map(item).collect();
        let mut warnings: Vec<Item> = verdict.warnings.into_iter().map(item).collect();
        by_place(&mut denials);
        by_place(&mut warnings);
        self.denials.extend(denials);
        self.warnings.extend(warnings);
        if let Some(explained) = &mut self.explained {
            let tried = gate::explain(library, &plan, surroundings);
            explained.extend(tried.into_iter().map(|one| Explained {
                unit: unit.name.clone(),
                object: one.object,
                place: one.place,
                tried: one.tried,
            }));
        }
    }

    fn report(self, policies: usize) -> Report {
        let refused: BTreeSet<(&str, &ObjectRef)> = self
            .denials
            .iter()
            .map(|item| (item.unit.as_str(), &item.object))
            .collect();
        let summary = Summary {
            objects: self.units.iter().map(|unit| unit.objects.len()).sum(),
            refused: refused.len(),
            denials: self.denials.len(),
            warnings: self.warnings.len(),
            errors: self.errors.len(),
            policies,
        };
        let verdict = match (self.errors.is_empty(), self.denials.is_empty()) {
            (false, _) => Verdict::Undecided,
            (true, false) => Verdict::Denied,
            (true, true) => Verdict::Allowed,
        };
        Report {
            verdict,
            summary,
            denials: self.denials,
            warnings: self.warnings,
            errors: self.errors,
            skipped: self.skipped,
            explained: self.explained,
            units: self.units,
        }
    }
}

/// Does what the controller does before it asks the gate. Objects that no Kustomization owns stay as they are: whoever
/// applies them says where.
fn prepare(unit: Unit, scopes: &Scopes) -> Result<Unit, String> {
    let Unit { name, objects, owner } = unit;
    let Some((owner, common)) = owner else {
        return Ok(Unit { name, objects, owner });
    };
    let prepared = plan::prepare(objects, &owner, common.as_ref(), |gvk| scopes.get(gvk));
    let objects = prepared.map_err(|error| format!("{name}: {error}"))?;
    Ok(Unit {
        name,
        objects,
        owner: Some((owner, common)),
    })
}

fn nobody() -> Owner {
    Owner {
        name: String::new(),
        namespace: String::new(),
    }
}

fn objects(units: &[Unit]) -> impl Iterator<Item = &Object> + Clone {
    units.iter().flat_map(|unit| &unit.objects).map(|one| &one.object)
}

fn item(unit: &str, reason: Reason, plan: &Plan, declared: &HashMap<ObjectRef, Desired>) -> Item {
    let Reason { object, finding, .. } = reason;
    let from = declared.get(&object);
    // The value is that of the object that was judged, which policies may have completed.
    let judged = plan
        .changes
        .iter()
        .map(|change| &change.desired.object)
        .find(|one| one.reference() == object);
    let judged = judged.or(from.map(|one| &one.object));
    let offending = judged.and_then(|judged| value::offending(judged.value(), &finding.message, &finding.details));
    let file = from.and_then(|one| one.file.clone());
    let begins = from.and_then(|one| one.line);
    let line = match (&offending, &file, begins) {
        (Some(offending), Some(file), Some(begins)) => value::line(file, begins, offending).or(Some(begins)),
        _ => begins,
    };
    let (field, value) = offending.map_or((None, None), |found| (Some(found.path), Some(found.value)));
    Item {
        unit: unit.to_owned(),
        object,
        file,
        line,
        policy: finding.policy,
        title: finding.title,
        message: finding.message,
        field,
        value,
        hint: finding.hint,
        details: finding.details,
        source: finding.source,
        failed: finding.failed,
    }
}
