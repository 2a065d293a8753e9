//! When somebody changes the same fields again and again: how soon to put them back.
//!
//! The first few times at once, as a person corrects a typing error twice and a rollout may touch a field several times;
//! then ever more rarely, so that two controllers that disagree cost a request a minute and not a core. Whoever takes another
//! name or another field each time is answered more often, and never more than `AT_ONCE_OF_ALL` times in `WINDOW`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::fields::Path;

/// How many times within `WINDOW` the same fields are put back at once.
const AT_ONCE: usize = 5;
/// How many times within `WINDOW` one object is put back at once, whoever changes whatever of it: three people who correct
/// themselves at the same time. Beyond it names do not matter; a request every four seconds harms nobody.
const AT_ONCE_OF_ALL: usize = 15;
/// The time that counts as "again and again".
const WINDOW: Duration = Duration::from_secs(60);
/// First wait of a fight; each further round doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait: what is declared is never longer away than this, and a request a minute harms nobody.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What was put back on one object, and because of whom. `now` is the time since any fixed moment.
#[derive(Debug, Clone, Default)]
pub struct Fight {
    manager: String,
    fields: Vec<Path>,
    reverts: VecDeque<Duration>,
    rounds: u32,
    /// Because of whomever.
    of_all: VecDeque<Duration>,
    /// When it was told last that there are many.
    told: Option<Duration>,
}

/// What is worth telling, and how long the next time has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The same manager changes the same fields again and again.
    Again(Duration),
    /// Under ever other names, or ever other fields.
    ByMany(Duration),
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
        let own = self.own_wait(manager, fields, now);
        let wait = own.max(self.until_room(now).unwrap_or_default());
        if wait.is_zero() { Turn::Now } else { Turn::After(wait) }
    }

    /// What is left of the wait for who has changed the same fields before.
    fn own_wait(&self, manager: &str, fields: &[Path], now: Duration) -> Duration {
        let Some(last) = self.reverts.back().filter(|_| self.is_same(manager, fields)) else {
            return Duration::ZERO;
        };
        let recent = self
            .reverts
            .iter()
            .filter(|at| now.saturating_sub(**at) < WINDOW)
            .count();
        if self.rounds == 0 && recent < AT_ONCE {
            return Duration::ZERO;
        }
        self.wait().saturating_sub(now.saturating_sub(*last))
    }

    /// How long until this object may be put back again, whoever changes it; `None` when it may be at once.
    fn until_room(&self, now: Duration) -> Option<Duration> {
        let first = self.of_all.front().filter(|_| self.of_all.len() == AT_ONCE_OF_ALL)?;
        WINDOW
            .checked_sub(now.saturating_sub(*first))
            .filter(|wait| !wait.is_zero())
    }

    /// Notes that a change by this manager was put back; says what is news.
    pub fn reverted(&mut self, manager: &str, fields: &[Path], now: Duration) -> Option<News> {
        // A fight is over when the other side has kept still for twice as long as we made it wait.
        let still = self.reverts.back().map(|last| now.saturating_sub(*last));
        let over = still.is_some_and(|still| still > WINDOW.max(self.wait() * 2));
        if over {
            *self = Self::default();
        }
        push(&mut self.of_all, now, AT_ONCE_OF_ALL);
        if !self.is_same(manager, fields) {
            self.manager = manager.to_owned();
            self.fields = fields.to_vec();
            self.reverts.clear();
            self.rounds = 0;
        }
        push(&mut self.reverts, now, AT_ONCE);
        let first = self.reverts.front().copied().unwrap_or(now);
        let crowded = self.reverts.len() == AT_ONCE && now.saturating_sub(first) < WINDOW;
        if self.rounds > 0 || crowded {
            self.rounds = self.rounds.saturating_add(1);
            return Some(News::Again(self.wait()));
        }
        let wait = self.until_room(now)?;
        if self.told.is_some_and(|told| now.saturating_sub(told) < WINDOW) {
            return None;
        }
        self.told = Some(now);
        Some(News::ByMany(wait))
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

fn push(times: &mut VecDeque<Duration>, now: Duration, most: usize) {
    times.push_back(now);
    while times.len() > most {
        times.pop_front();
    }
}
