//! When somebody changes the same fields again and again: how soon to put them back.
//!
//! The first few times at once, as a person corrects a typing error twice and a rollout may touch a field several times;
//! then ever more rarely, so that two controllers that disagree cost a request a minute and not a core.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::fields::Path;

/// How many times within `WINDOW` the same fields are put back at once.
const AT_ONCE: usize = 5;
/// The time that counts as "again and again".
const WINDOW: Duration = Duration::from_secs(60);
/// First wait of a fight; each further round doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait: what is declared is never longer away than this, and a request a minute harms nobody.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What was put back on one object because of one manager. `now` is the time since any fixed moment.
#[derive(Debug, Clone, Default)]
pub struct Fight {
    manager: String,
    fields: Vec<Path>,
    reverts: VecDeque<Duration>,
    rounds: u32,
}

/// When to put something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// After a while: this is a fight.
    After(Duration),
}

impl Fight {
    /// When a change by this manager is to be put back.
    #[must_use]
    pub fn turn(&self, manager: &str, fields: &[Path], now: Duration) -> Turn {
        let Some(last) = self.reverts.back().filter(|_| self.is_same(manager, fields)) else {
            return Turn::Now;
        };
        let wait = self.wait();
        let recent = self
            .reverts
            .iter()
            .filter(|at| now.saturating_sub(**at) < WINDOW)
            .count();
        if self.rounds == 0 && recent < AT_ONCE {
            return Turn::Now;
        }
        let passed = now.saturating_sub(*last);
        if passed >= wait {
            Turn::Now
        } else {
            Turn::After(wait.saturating_sub(passed))
        }
    }

    /// Notes that a change by this manager was put back; says how many rounds the fight has had when it is news.
    pub fn reverted(&mut self, manager: &str, fields: &[Path], now: Duration) -> Option<u32> {
        // A fight is over when the other side has kept still for twice as long as we made it wait.
        let still = self.reverts.back().map(|last| now.saturating_sub(*last));
        let over = still.is_some_and(|still| still > WINDOW.max(self.wait() * 2));
        if over || !self.is_same(manager, fields) {
            *self = Self {
                manager: manager.to_owned(),
                fields: fields.to_vec(),
                ..Self::default()
            };
        }
        self.reverts.push_back(now);
        while self.reverts.len() > AT_ONCE {
            self.reverts.pop_front();
        }
        let first = self.reverts.front().copied().unwrap_or(now);
        let crowded = self.reverts.len() == AT_ONCE && now.saturating_sub(first) < WINDOW;
        if self.rounds > 0 || crowded {
            self.rounds = self.rounds.saturating_add(1);
            return Some(self.rounds);
        }
        None
    }

    /// How long the next change has to wait.
    #[must_use]
    pub fn wait(&self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.rounds.saturating_sub(1));
        FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
    }

    /// Whether it may be forgotten.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        let quiet = WINDOW.max(self.wait() * 2);
        self.reverts.back().is_none_or(|last| now.saturating_sub(*last) > quiet)
    }

    fn is_same(&self, manager: &str, fields: &[Path]) -> bool {
        let shared =
            fields.is_empty() || self.fields.is_empty() || fields.iter().any(|field| self.fields.contains(field));
        self.manager == manager && shared
    }
}
