//! A freeze: for a time, and for a reason, the guard lets everything pass with a warning and nothing is put back.
//!
//! It is for incidents, when hands have to be free all over the cluster at once; for one Kustomization, suspend it. It is kept
//! in a ConfigMap beside Weir, which whoever may write there can make: `weir freeze` and `weir unfreeze` do.
//!
//! Guarantees: a freeze ends by itself, at the latest [`LONGEST`] after it began.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Name of the ConfigMap.
pub const NAME: &str = "weir-freeze";
/// Longest freeze: a shift that takes over can freeze again, and nobody forgets one for weeks.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who asked for it, by their own word.
    pub by: String,
}

impl Freeze {
    /// Reads the data of the ConfigMap; what cannot be read is no freeze.
    #[must_use]
    pub fn read(data: &BTreeMap<String, String>) -> Option<Self> {
        let time = |key: &str| data.get(key)?.parse::<Timestamp>().ok();
        let text = |key: &str| data.get(key).cloned().unwrap_or_default();
        let (since, until) = (time("since")?, time("until")?);
        let latest = since
            .checked_add(SignedDuration::try_from(LONGEST).unwrap_or_default())
            .unwrap_or(since);
        Some(Self {
            since,
            until: until.min(latest),
            reason: text("reason"),
            by: text("by"),
        })
    }

    /// The data of the ConfigMap.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, String> {
        let entries = [
            ("since", self.since.to_string()),
            ("until", self.until.to_string()),
            ("reason", self.reason.clone()),
            ("by", self.by.clone()),
        ];
        entries.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// How long it still lasts; `None` when it is over or has not begun.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = Duration::try_from(self.until.duration_since(now)).ok()?;
        (now >= self.since && !left.is_zero()).then_some(left)
    }

    /// What who changes something is told.
    #[must_use]
    pub fn consequence(&self) -> String {
        format!(
            "frozen until {:.0} ({}), then Weir puts it back",
            self.until, self.reason
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_read_and_ends_by_itself() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let freeze = Freeze {
            since: at("2026-11-01T10:00:00Z"),
            until: at("2026-11-01T10:30:00Z"),
            reason: "incident 42".into(),
            by: "jane".into(),
        };
        assert_eq!(Freeze::read(&freeze.data()), Some(freeze.clone()));
        assert_eq!(freeze.left(at("2026-11-01T10:10:00Z")), Some(Duration::from_secs(1200)));
        assert_eq!(freeze.left(at("2026-11-01T10:30:00Z")), None);
        assert_eq!(freeze.left(at("2026-11-01T09:59:59Z")), None);
        assert_eq!(
            freeze.consequence(),
            "frozen until 2026-11-01T10:30:00Z (incident 42), then Weir puts it back"
        );
        let forever = Freeze {
            until: at("2099-01-01T00:00:00Z"),
            ..freeze.clone()
        };
        assert_eq!(Freeze::read(&forever.data()).unwrap().until, at("2026-11-02T10:00:00Z"));
        let mut bad = freeze.data();
        bad.insert("until".into(), "soon".into());
        assert_eq!(Freeze::read(&bad), None);
    }
}
