//! Which lines of policies were evaluated.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Lines by file, or by template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Coverage(pub BTreeMap<String, Lines>);

/// Lines of Rego, from 1. Those without code are in neither set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// Evaluated at least once.
    pub covered: BTreeSet<u32>,
    /// Never evaluated.
    pub missed: BTreeSet<u32>,
}

impl Lines {
    /// Percent of the lines with code that were evaluated; all of nothing is all.
    #[must_use]
    pub fn percent(&self) -> f64 {
        percent(self.covered.len(), self.missed.len())
    }
}

impl Coverage {
    /// Adds what another evaluation covered.
    pub fn merge(&mut self, other: &Self) {
        for (file, lines) in &other.0 {
            let known = self.0.entry(file.clone()).or_default();
            known.covered.extend(&lines.covered);
            known.missed.extend(&lines.missed);
            known.missed.retain(|line| !known.covered.contains(line));
        }
    }

    /// Percent over all files.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let sum = |count: fn(&Lines) -> usize| self.0.values().map(count).sum();
        percent(sum(|lines| lines.covered.len()), sum(|lines| lines.missed.len()))
    }

    /// Reads the engine's own report.
    pub(crate) fn of(report: &regorus::coverage::Report) -> Self {
        let files = report.files.iter().map(|file| {
            let lines = Lines {
                covered: file.covered.clone(),
                missed: file.not_covered.clone(),
            };
            (file.path.clone(), lines)
        });
        Self(files.collect())
    }
}

fn percent(covered: usize, missed: usize) -> f64 {
    // Lines of policies are far fewer than what a float can tell apart.
    let [covered, all] = [covered, covered + missed].map(|count| f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    if all == 0.0 { 100.0 } else { 100.0 * covered / all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_evaluation_covered_is_covered() {
        let coverage = |covered: &[u32], missed: &[u32]| {
            let lines = Lines {
                covered: covered.iter().copied().collect(),
                missed: missed.iter().copied().collect(),
            };
            Coverage(BTreeMap::from([("a".to_owned(), lines)]))
        };
        let mut all = coverage(&[1], &[2, 3, 4]);
        all.merge(&coverage(&[2], &[1, 3, 4]));
        assert_eq!(all, coverage(&[1, 2], &[3, 4]));
        assert!((all.percent() - 50.0).abs() < 0.01);
        assert!((Coverage::default().percent() - 100.0).abs() < 0.01);
    }
}
