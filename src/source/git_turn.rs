//! Whose turn it is to fetch a source. One that hangs past its timeout loses its turn.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::git_repo::lock;

/// Fetches of one source that may hang at a time, each on a thread of its own. A connection that died unnoticed costs one
/// of them; a server that stays silent uses them up and is then not asked again until one ends.
const MAX_HANGING: usize = 3;

/// Lets one fetch at a time through. One that is past its timeout hangs on a silent server, where it cannot be stopped:
/// it loses its turn, so that the source recovers as soon as the server does.
#[derive(Default)]
pub(super) struct Turns {
    last: u64,
    running: Option<(u64, Instant)>,
    hanging: usize,
}

/// The turn of one fetch; over when dropped.
pub(super) struct Turn<'a> {
    turns: &'a Mutex<Turns>,
    number: u64,
}

impl<'a> Turn<'a> {
    pub(super) fn take(turns: &'a Mutex<Turns>, timeout: Duration, now: Instant) -> Result<Self, &'static str> {
        let mut state = lock(turns);
        match state.running {
            Some((_, until)) if now < until => return Err("an earlier fetch has not ended yet"),
            Some(_) if state.hanging >= MAX_HANGING => return Err("too many earlier fetches hang on a silent server"),
            Some(_) => state.hanging += 1,
            None => {}
        }
        state.last += 1;
        state.running = Some((state.last, now + timeout));
        let number = state.last;
        drop(state);
        Ok(Self { turns, number })
    }
}

impl Turn<'_> {
    pub(super) fn is_current(&self) -> bool {
        lock(self.turns)
            .running
            .is_some_and(|(number, _)| number == self.number)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.turns);
        match state.running {
            Some((number, _)) if number == self.number => state.running = None,
            _ => state.hanging = state.hanging.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_hangs_past_its_timeout_loses_its_turn() {
        let turns = Mutex::default();
        let start = Instant::now();
        let take = |seconds| Turn::take(&turns, Duration::from_secs(10), start + Duration::from_secs(seconds));
        let first = take(0).ok().unwrap();
        assert_eq!(take(9).err(), Some("an earlier fetch has not ended yet"));
        let second = take(10).ok().unwrap();
        drop(first);
        assert_eq!(
            take(11).err(),
            Some("an earlier fetch has not ended yet"),
            "the second still runs"
        );
        drop(second);
        let hanging: Vec<_> = [20, 30, 40, 50].into_iter().map(|at| take(at).ok().unwrap()).collect();
        assert_eq!(take(60).err(), Some("too many earlier fetches hang on a silent server"));
        drop(hanging);
        assert!(take(61).is_ok());
        assert_eq!(lock(&turns).hanging, 0);
    }
}
