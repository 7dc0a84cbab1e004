//! What restarts, when, and with whom: pure decisions of a supervisor. No clock: callers bring the time.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Whether a child that ended comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only if it failed.
    Transient,
    /// Never.
    Temporary,
}

impl Restart {
    /// Whether a child comes back after it ended, by a failure or not.
    pub const fn applies(self, failed: bool) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => failed,
            Self::Temporary => false,
        }
    }
}

/// Who restarts together with a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Nobody else.
    OneForOne,
    /// Every child after it in the order of the spec.
    RestForOne,
    /// Every child.
    OneForAll,
}

impl Strategy {
    /// The children that restart when the one at `index` of `len` does.
    pub const fn affected(self, index: usize, len: usize) -> Range<usize> {
        match self {
            Self::OneForOne => index..index + 1,
            Self::RestForOne => index..len,
            Self::OneForAll => 0..len,
        }
    }

    /// As the tree's picture has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::RestForOne => "rest_for_one",
            Self::OneForAll => "one_for_all",
        }
    }
}

/// How many restarts in a period a supervisor bears before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// More than this many within `period` are too many. `None` bears any number.
    pub restarts_max: Option<u32>,
    /// The sliding window.
    pub period: Duration,
}

impl Intensity {
    /// At most so many in a period.
    pub const fn new(restarts_max: u32, period: Duration) -> Self {
        Self { restarts_max: Some(restarts_max), period }
    }

    /// Never gives up; only back-off limits the rate.
    pub const fn unlimited() -> Self {
        Self { restarts_max: None, period: Duration::ZERO }
    }
}

impl Default for Intensity {
    /// Ten a minute: with the default back-off a child that fails at once reaches it in about twenty seconds.
    fn default() -> Self {
        Self::new(10, Duration::from_secs(60))
    }
}

/// The restarts of the last period.
#[derive(Debug, Default)]
pub struct RestartWindow(VecDeque<Instant>);

impl RestartWindow {
    /// Notes a restart. False if that is one too many.
    pub fn admit(&mut self, intensity: Intensity, now: Instant) -> bool {
        let Some(max) = intensity.restarts_max else { return true };
        while self.0.front().is_some_and(|first| now.saturating_duration_since(*first) >= intensity.period) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= max as usize
    }
}

/// How long to wait before a restart: doubles with each one, up to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A child that ran this long starts over at `initial`.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(20), max: Duration::from_secs(30), reset_after: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait before restart number `failures` (from 0) in a row.
    pub fn delay(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        let table = [
            (Restart::Permanent, true, true),
            (Restart::Permanent, false, true),
            (Restart::Transient, true, true),
            (Restart::Transient, false, false),
            (Restart::Temporary, true, false),
            (Restart::Temporary, false, false),
        ];
        for (policy, failed, expected) in table {
            assert_eq!(policy.applies(failed), expected, "{policy:?} failed={failed}");
        }
    }

    #[test]
    fn affected_children() {
        assert_eq!(Strategy::OneForOne.affected(1, 4), 1..2);
        assert_eq!(Strategy::RestForOne.affected(1, 4), 1..4);
        assert_eq!(Strategy::OneForAll.affected(1, 4), 0..4);
    }

    #[test]
    fn a_window_slides() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let intensity = Intensity::new(2, Duration::from_millis(100));
        let mut window = RestartWindow::default();
        assert!(window.admit(intensity, at(0)));
        assert!(window.admit(intensity, at(50)));
        assert!(window.admit(intensity, at(100)), "the first has left the window");
        assert!(!window.admit(intensity, at(101)));
        let mut window = RestartWindow::default();
        assert!((0..1000).all(|_| window.admit(Intensity::unlimited(), start)));
    }

    #[test]
    fn back_off_doubles_to_its_limit_and_never_overflows() {
        let backoff = Backoff {
            initial: Duration::from_millis(10),
            max: Duration::from_millis(75),
            reset_after: Duration::from_secs(1),
        };
        let waits: Vec<u128> = [0, 1, 2, 3, 31, 32, u32::MAX].iter().map(|n| backoff.delay(*n).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 75, 75, 75, 75]);
    }
}
