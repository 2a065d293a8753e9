//! Conditions of an object's status, kept as Flux keeps them.
//!
//! Guarantees: one condition per type; `Stalled`, `Reconciling` and `Ready` come first, in that order, the others by name;
//! a condition's transition time moves only when its status, reason or message changes (Flux counts all three, so that the
//! time of `Ready` is the time of what it says); the observed generation is always the one that was given last.
//! Assumes that the caller brings the clock: no time is read here.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message of a condition, from the API's schema (`maxLength: 32768`). The API counts characters; bytes are never
/// fewer, so a message cut here always fits.
pub const MAX_MESSAGE_BYTES: usize = 32_768;

/// Longest reason of a condition, from the API's schema (`maxLength: 1024`).
pub const MAX_REASON_BYTES: usize = 1_024;

/// What stands at the end of a message that was cut.
const ELLIPSIS: &str = "…";

/// The types that come first, in their order.
const FIRST: [&str; 3] = ["Stalled", "Reconciling", "Ready"];

/// The conditions of one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions(Vec<Condition>);

impl From<Vec<Condition>> for Conditions {
    /// Takes the conditions of a status. Of several with one type, which the API forbids, the first stays.
    fn from(found: Vec<Condition>) -> Self {
        let mut list: Vec<Condition> = Vec::with_capacity(found.len());
        for condition in found {
            if list.iter().all(|kept| kept.type_ != condition.type_) {
                list.push(condition);
            }
        }
        let mut conditions = Self(list);
        conditions.sort();
        conditions
    }
}

impl Conditions {
    /// Sets a condition to `True`.
    pub fn mark_true(&mut self, kind: &str, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        self.mark(kind, "True", reason, message, generation, now);
    }

    /// Sets a condition to `False`.
    pub fn mark_false(&mut self, kind: &str, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        self.mark(kind, "False", reason, message, generation, now);
    }

    /// Sets a condition to `Unknown`.
    pub fn mark_unknown(&mut self, kind: &str, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        self.mark(kind, "Unknown", reason, message, generation, now);
    }

    /// Says that work is under way, which nothing that is stalled can be.
    pub fn mark_reconciling(&mut self, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        self.remove("Stalled");
        self.mark_true("Reconciling", reason, message, generation, now);
    }

    /// Says that nothing will happen until somebody changes something.
    pub fn mark_stalled(&mut self, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        self.remove("Reconciling");
        self.mark_true("Stalled", reason, message, generation, now);
    }

    /// Says that something failed for a reason and is tried again; `doing` is what was under way.
    pub fn mark_retrying(
        &mut self,
        (reason, message): (&str, &str),
        doing: &str,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        self.mark_reconciling("ProgressingWithRetry", doing, generation, now);
        self.mark_false("Ready", reason, message, generation, now);
    }

    /// Says that something failed for a reason and that only a change can help.
    pub fn mark_given_up(&mut self, (reason, message): (&str, &str), generation: Option<i64>, now: Timestamp) {
        self.mark_stalled(reason, message, generation, now);
        self.mark_false("Ready", reason, message, generation, now);
    }

    /// Takes a condition out, if there is one of that type.
    pub fn remove(&mut self, kind: &str) {
        self.0.retain(|condition| condition.type_ != kind);
    }

    /// The condition of a type.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.type_ == kind)
    }

    /// Whether a condition stands and is `True`.
    #[must_use]
    pub fn is_true(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|condition| condition.status == "True")
    }

    /// The conditions for a status.
    #[must_use]
    pub fn into_vec(self) -> Vec<Condition> {
        self.0
    }

    fn mark(&mut self, kind: &str, status: &str, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) {
        let reason = cut(reason, MAX_REASON_BYTES, "");
        let message = cut(message, MAX_MESSAGE_BYTES, ELLIPSIS);
        match self.0.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) => {
                if condition.status != status || condition.reason != reason || condition.message != message {
                    condition.last_transition_time = whole_seconds(now);
                }
                condition.status = status.to_owned();
                condition.reason = reason;
                condition.message = message;
                condition.observed_generation = generation;
            }
            None => self.0.push(Condition {
                last_transition_time: whole_seconds(now),
                message,
                observed_generation: generation,
                reason,
                status: status.to_owned(),
                type_: kind.to_owned(),
            }),
        }
        self.sort();
    }

    fn sort(&mut self) {
        let rank = |kind: &str| FIRST.iter().position(|first| *first == kind).unwrap_or(FIRST.len());
        self.0
            .sort_by(|a, b| rank(&a.type_).cmp(&rank(&b.type_)).then_with(|| a.type_.cmp(&b.type_)));
    }
}

/// The API stores whole seconds; keeping more would make a status differ from itself after a round trip.
fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn cut(text: &str, limit: usize, ending: &str) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(ending.len()));
    format!("{}{ending}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn time_of(conditions: &Conditions, kind: &str) -> i64 {
        conditions.get(kind).unwrap().last_transition_time.0.as_second()
    }

    #[test]
    fn the_transition_time_moves_when_the_state_does_and_only_then() {
        let mut conditions = Conditions::default();
        conditions.mark_true("Ready", "Succeeded", "stored a", Some(1), at(10));
        let mut check = |status: &str, reason: &str, message: &str, now: i64, expect: i64| {
            conditions.mark("Ready", status, reason, message, Some(now), at(now));
            assert_eq!(time_of(&conditions, "Ready"), expect, "{status} {reason} {message}");
            assert_eq!(conditions.get("Ready").unwrap().observed_generation, Some(now));
        };
        check("True", "Succeeded", "stored a", 20, 10);
        check("True", "Succeeded", "stored b", 30, 30);
        check("True", "Other", "stored b", 40, 40);
        check("False", "Other", "stored b", 50, 50);
        check("False", "Other", "stored b", 60, 50);
    }

    #[test]
    fn what_matters_to_readers_comes_first_and_the_rest_by_name() {
        let mut conditions = Conditions::default();
        for kind in [
            "SourceVerified",
            "Ready",
            "ArtifactInStorage",
            "Reconciling",
            "Stalled",
            "Healthy",
        ] {
            conditions.mark_unknown(kind, "Because", "", None, at(1));
        }
        let order = |c: &Conditions| c.0.iter().map(|c| c.type_.clone()).collect::<Vec<_>>().join(" ");
        let expect = "Stalled Reconciling Ready ArtifactInStorage Healthy SourceVerified";
        assert_eq!(order(&conditions), expect);
        let mut shuffled = conditions.clone().into_vec();
        shuffled.reverse();
        assert_eq!(order(&Conditions::from(shuffled)), expect);
    }

    #[test]
    fn of_two_conditions_of_one_type_the_first_stays() {
        let mut one = Conditions::default();
        one.mark_true("Ready", "A", "", None, at(1));
        let mut two = Conditions::default();
        two.mark_false("Ready", "B", "", None, at(1));
        let both = [one.into_vec(), two.into_vec()].concat();
        let merged = Conditions::from(both).into_vec();
        assert_eq!((merged.len(), merged[0].reason.as_str()), (1, "A"));
    }

    #[test]
    fn stalled_and_reconciling_exclude_each_other() {
        let mut conditions = Conditions::default();
        conditions.mark_reconciling("Progressing", "", Some(1), at(1));
        conditions.mark_stalled("Unsupported", "", Some(1), at(2));
        assert!(conditions.is_true("Stalled") && conditions.get("Reconciling").is_none());
        conditions.mark_reconciling("Progressing", "", Some(2), at(3));
        assert!(conditions.is_true("Reconciling") && conditions.get("Stalled").is_none());
        conditions.remove("Reconciling");
        conditions.remove("Reconciling");
        assert_eq!(conditions.into_vec(), vec![]);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut conditions = Conditions::default();
        for message in ["é".repeat(MAX_MESSAGE_BYTES), "x".repeat(MAX_MESSAGE_BYTES + 1)] {
            conditions.mark_false("Ready", "BuildFailed", &message, None, at(1));
            let kept = &conditions.get("Ready").unwrap().message;
            assert!(
                kept.len() <= MAX_MESSAGE_BYTES && kept.len() > MAX_MESSAGE_BYTES - 4,
                "{}",
                kept.len()
            );
            assert!(kept.ends_with('…') && message.starts_with(kept.trim_end_matches('…')));
        }
        let fits = "x".repeat(MAX_MESSAGE_BYTES);
        conditions.mark_false("Ready", "BuildFailed", &fits, None, at(1));
        assert_eq!(conditions.get("Ready").unwrap().message, fits);
    }

    #[test]
    fn times_are_kept_to_the_second_as_the_api_stores_them() {
        let mut conditions = Conditions::default();
        conditions.mark_true("Ready", "A", "", None, Timestamp::from_millisecond(1_999).unwrap());
        let read: Vec<Condition> =
            serde_json::from_value(serde_json::to_value(conditions.clone().into_vec()).unwrap()).unwrap();
        assert_eq!(Conditions::from(read), conditions);
    }
}
