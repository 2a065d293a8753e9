//! A library of policies: loaded once, shared by every door, replaced as a whole.
//!
//! Flow: [`Library::load`] (or [`Library::reload`], which compiles only what changed) → [`Library::evaluate`] for each
//! review.
//!
//! Guarantees: a library never changes; a clone is a pointer; what does not load is a [`Problem`] with a position, and does
//! not keep the rest from working; what cannot be evaluated is a finding with the policy's own action, never silence; an
//! evaluation ends within its budget. Assumes a stack of [`super::STACK`] bytes, as the runtime's blocking threads have;
//! [`Library::evaluate_within`] provides for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::constraint::{self, Constraint};
use super::coverage::Coverage;
use super::decision::{Decision, EnforcementPoint};
use super::inventory::Inventory;
use super::matching::Subject;
use super::mutate::{self, MutateError, Mutation};
use super::parameters;
use super::plain::{self, Plain, Purpose, Unit};
use super::rego::session::Deadline;
use super::review::Review;
use super::source::{Document, Problem, Sources};
use super::template::{self, Template, TemplateKind};

/// An immutable set of policies.
#[derive(Clone, Default)]
pub struct Library(Arc<Inner>);

/// A library and what is wrong with its sources.
#[derive(Clone)]
pub struct Loaded {
    /// What can be used.
    pub library: Library,
    /// What cannot, and remarks.
    pub problems: Vec<Problem>,
}

#[derive(Default)]
struct Inner {
    templates: BTreeMap<String, Arc<Template>>,
    constraints: Vec<Linked>,
    /// Constraints that can match only objects of one kind, and those that can match any.
    by_kind: HashMap<String, Vec<usize>>,
    any_kind: Vec<usize>,
    plain: Plain,
}

/// A constraint and its template.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) constraint: Arc<Constraint>,
    pub(super) template: Arc<Template>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library")
            .field("templates", &self.0.templates.keys().collect::<Vec<_>>())
            .field("constraints", &self.0.constraints.len())
            .field(
                "packages",
                &self.0.plain.units.iter().map(|unit| &unit.name).collect::<Vec<_>>(),
            )
            .finish()
    }
}

impl Library {
    /// Loads sources.
    #[must_use]
    pub fn load(sources: &Sources) -> Loaded {
        Self::reload(&Self::default(), sources)
    }

    /// Loads sources that are mostly those of an earlier library: what is the same is not compiled again, and where a
    /// source is broken now its last good version stays in force, with a problem that says so.
    #[must_use]
    pub fn reload(previous: &Self, sources: &Sources) -> Loaded {
        let mut problems = Vec::new();
        let templates = templates(&previous.0, sources, &mut problems);
        let constraints = constraints(&previous.0, sources, &templates, &mut problems);
        let plain = Plain::load(&previous.0.plain, &sources.rego, &mut problems);
        let (mut by_kind, mut any_kind): (HashMap<String, Vec<usize>>, _) = (HashMap::new(), Vec::new());
        for (index, linked) in constraints.iter().enumerate() {
            match linked.constraint.matching.kinds() {
                None => any_kind.push(index),
                Some(kinds) => {
                    for kind in kinds {
                        let known = by_kind.entry(kind.to_owned()).or_default();
                        if known.last() != Some(&index) {
                            known.push(index);
                        }
                    }
                }
            }
        }
        let mut seen = Vec::new();
        problems.retain(|problem| {
            let new = !seen.contains(problem);
            if new {
                seen.push(problem.clone());
            }
            new
        });
        let library = Self(Arc::new(Inner {
            templates,
            constraints,
            by_kind,
            any_kind,
            plain,
        }));
        Loaded { library, problems }
    }

    /// The kinds of constraints that the templates define, in the order of their names.
    #[must_use]
    pub fn template_kinds(&self) -> Vec<TemplateKind> {
        self.0
            .templates
            .values()
            .map(|template| template.spec.clone())
            .collect()
    }

    /// How many policies there are: constraints and packages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.constraints.len() + self.0.plain.units.len()
    }

    /// Whether there is no policy at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any policy changes objects.
    #[must_use]
    pub fn mutates(&self) -> bool {
        let mut entries = self.0.plain.units.iter().flat_map(|unit| &unit.entries);
        entries.any(|entry| entry.purpose == Purpose::Mutate)
    }

    /// Judges a review before something is written: at the webhook and at Weir's gate.
    #[must_use]
    pub fn evaluate(&self, review: &Review, inventory: &Inventory, budget: Duration) -> Decision {
        self.evaluate_at(EnforcementPoint::Validation, review, inventory, budget)
    }

    /// The same for whoever can come back with a larger budget: `None` when this one was not enough. Any thread may ask,
    /// however small its stack.
    #[must_use]
    pub fn evaluate_within(&self, review: &Review, inventory: &Inventory, budget: Duration) -> Option<Decision> {
        let deadline = Deadline::after(budget);
        let decision = stacker::maybe_grow(super::STACK, super::STACK, || {
            self.judge(EnforcementPoint::Validation, review, inventory, deadline)
        });
        // Whatever failed may have failed for want of time; a decision that is merely late is as good as any.
        let doubtful = decision.findings.iter().any(|finding| finding.failed);
        (!doubtful || deadline.remaining().is_ok()).then_some(decision)
    }

    /// Judges a review at a door.
    #[must_use]
    pub fn evaluate_at(
        &self,
        point: EnforcementPoint,
        review: &Review,
        inventory: &Inventory,
        budget: Duration,
    ) -> Decision {
        self.judge(point, review, inventory, Deadline::after(budget))
    }

    fn judge(&self, point: EnforcementPoint, review: &Review, inventory: &Inventory, deadline: Deadline) -> Decision {
        let (mut findings, mut evaluated) = (Vec::new(), 0);
        let subjects = Subject::of(review);
        for linked in self.candidates(review) {
            let Some(action) = linked.constraint.action(point) else {
                continue;
            };
            if !linked.template.handles(point, review) {
                continue;
            }
            match linked.constraint.matching.matches_any(review, &subjects) {
                Ok(false) => continue,
                Ok(true) => {
                    let found = linked
                        .constraint
                        .evaluate(&linked.template, review, inventory, action, deadline);
                    findings.extend(found);
                }
                Err(unknown) => findings.push(linked.constraint.undecided(action, &unknown.to_string())),
            }
            evaluated += 1;
        }
        for unit in &self.0.plain.units {
            let before = findings.len();
            if unit.judge(review, inventory, deadline, &mut findings) || findings.len() > before {
                evaluated += 1;
            }
        }
        Decision::new(findings, evaluated)
    }

    /// Changes the object of a review as the `mutate` rules say.
    ///
    /// # Errors
    /// When a policy cannot be evaluated, its patch does not fit, or policies never come to rest.
    pub fn mutate(&self, review: &Review, inventory: &Inventory, budget: Duration) -> Result<Mutation, MutateError> {
        mutate::mutate(self, review, inventory, budget)
    }

    /// Notes from now on which lines of the templates are evaluated.
    pub(super) fn cover(&self) {
        for program in self.0.templates.values().filter_map(|template| template.rego()) {
            program.cover();
        }
    }

    /// What was evaluated since.
    pub(super) fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for program in self.0.templates.values().filter_map(|template| template.rego()) {
            coverage.merge(&program.coverage());
        }
        coverage
    }

    pub(super) fn constraints(&self) -> &[Linked] {
        &self.0.constraints
    }

    pub(super) fn units(&self) -> &[Arc<Unit>] {
        &self.0.plain.units
    }

    /// Constraints that can match: of the kinds of object and old object, which differ only in odd requests.
    fn candidates(&self, review: &Review) -> impl Iterator<Item = &Linked> {
        let inner = &self.0;
        let mut kinds: Vec<&str> = vec![review.gvk().kind.as_str()];
        for object in [review.object(), review.old_object()].into_iter().flatten() {
            let kind = object.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let of_kind = kinds.into_iter().filter_map(|kind| inner.by_kind.get(kind)).flatten();
        let mut found: Vec<usize> = of_kind.chain(&inner.any_kind).copied().collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|index| inner.constraints.get(index))
    }
}

fn templates(previous: &Inner, sources: &Sources, problems: &mut Vec<Problem>) -> BTreeMap<String, Arc<Template>> {
    let mut found: BTreeMap<String, Arc<Template>> = BTreeMap::new();
    for document in &sources.templates {
        let before = template::kind(document).and_then(|kind| previous.templates.get(kind));
        let same = before.filter(|known| known.digest == template::digest(document) && known.origin == document.origin);
        let loaded = match same {
            Some(same) => Ok(Arc::clone(same)),
            None => template::load(document).map(Arc::new),
        };
        let template = match loaded {
            Ok(template) => template,
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| plain::kept(problem, before.is_some())));
                let Some(before) = before else { continue };
                Arc::clone(before)
            }
        };
        let kind = template.spec.kind.clone();
        if let Some(known) = found.get(&kind) {
            let message = format!("kind {kind} is already defined by {}", known.origin);
            problems.push(Problem::new(&document.origin, message));
        } else {
            found.insert(kind, template);
        }
    }
    found
}

/// Reads a constraint with its template's defaults in it. One that an API server has stored has them already.
fn filled(document: &Document, template: &Template) -> Result<Constraint, String> {
    let mut document = document.clone();
    parameters::fill_parameters(&mut document.value, &template.spec);
    Constraint::read(&document)
}

fn constraints(
    previous: &Inner,
    sources: &Sources,
    templates: &BTreeMap<String, Arc<Template>>,
    problems: &mut Vec<Problem>,
) -> Vec<Linked> {
    let mut found: Vec<Linked> = Vec::new();
    for document in &sources.constraints {
        let template = document
            .value
            .get("kind")
            .and_then(|kind| templates.get(kind.as_str()?));
        let constraint =
            match template.map_or_else(|| Constraint::read(document), |template| filled(document, template)) {
                Ok(constraint) => Arc::new(constraint),
                Err(message) => {
                    let identity = constraint::identity(document);
                    let before = previous.constraints.iter().find(|linked| {
                        let known = &linked.constraint;
                        identity
                            .as_ref()
                            .is_some_and(|(kind, name)| *kind == known.kind && *name == known.name)
                    });
                    problems.push(plain::kept(Problem::new(&document.origin, message), before.is_some()));
                    let Some(before) = before else { continue };
                    Arc::clone(&before.constraint)
                }
            };
        let Some(template) = templates.get(&constraint.kind) else {
            let message = format!("there is no template for constraints of kind {}", constraint.kind);
            problems.push(Problem::new(&document.origin, message));
            continue;
        };
        let known = found
            .iter()
            .any(|linked| linked.constraint.kind == constraint.kind && linked.constraint.name == constraint.name);
        if known {
            let message = format!("{}/{} is already defined", constraint.kind, constraint.name);
            problems.push(Problem::new(&document.origin, message));
            continue;
        }
        found.push(Linked {
            constraint,
            template: Arc::clone(template),
        });
    }
    found
}
