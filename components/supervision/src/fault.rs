//! Fault points: places that tests of the release binary can make panic or hang.
//!
//! Off unless [`enable`] was called; then [`point`] costs one relaxed load. The binary enables them only when it was
//! started so, from `NAVARCH_FAULTS` or the administrator's endpoint.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

static ENABLED: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<BTreeMap<String, Point>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Point {
    hits: u64,
    armed: u32,
    action: Action,
}

/// What an armed point does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Panics.
    #[default]
    Panic,
    /// Blocks its thread for so long.
    Hang(Duration),
}

/// Why a point cannot be armed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The process was not started with fault points.
    #[error("fault points are off: start with NAVARCH_FAULTS set")]
    Disabled,
    /// The text is no list of points.
    #[error("bad fault point {0:?}: want name, name=times or name=times@hang_ms, separated by commas")]
    Syntax(String),
}

/// Turns fault points on, for the rest of the process.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether fault points are on.
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// A place that can fail. Panics, or blocks, if this point is armed.
#[inline]
pub fn point(name: &str) {
    if ENABLED.load(Ordering::Relaxed) {
        hit(name);
    }
}

#[cold]
fn hit(name: &str) {
    let action = {
        let mut points = POINTS.lock();
        let point = points.entry(name.to_owned()).or_default();
        point.hits += 1;
        if point.armed == 0 {
            return;
        }
        point.armed -= 1;
        point.action
    };
    match action {
        Action::Panic => panic!("fault point {name}"),
        Action::Hang(time) => std::thread::sleep(time),
    }
}

/// Makes the next `times` hits of a point panic.
///
/// # Errors
/// If fault points are off.
pub fn arm(name: &str, times: u32) -> Result<(), FaultError> {
    arm_with(name, times, Action::Panic)
}

/// Makes the next `times` hits of a point do something.
///
/// # Errors
/// If fault points are off.
pub fn arm_with(name: &str, times: u32, action: Action) -> Result<(), FaultError> {
    if !enabled() {
        return Err(FaultError::Disabled);
    }
    let mut points = POINTS.lock();
    let point = points.entry(name.to_owned()).or_default();
    point.armed = times;
    point.action = action;
    Ok(())
}

/// Arms points from text: `controllers/deployment,scheduler=3,api/handler=1@500`.
///
/// # Errors
/// If fault points are off or the text is malformed; then nothing is armed.
pub fn arm_all(text: &str) -> Result<(), FaultError> {
    let parsed: Vec<_> = text.split(',').filter(|part| !part.trim().is_empty()).map(parse).collect::<Result<_, _>>()?;
    parsed.into_iter().try_for_each(|(name, times, action)| arm_with(name, times, action))
}

fn parse(part: &str) -> Result<(&str, u32, Action), FaultError> {
    let part = part.trim();
    let bad = || FaultError::Syntax(part.to_owned());
    let (name, rest) = part.split_once('=').unwrap_or((part, "1"));
    let (times, action) = match rest.split_once('@') {
        Some((times, ms)) => (times, Action::Hang(Duration::from_millis(ms.parse().map_err(|_| bad())?))),
        None => (rest, Action::Panic),
    };
    if name.is_empty() {
        return Err(bad());
    }
    Ok((name, times.parse().map_err(|_| bad())?, action))
}

/// Every point that was hit or armed since faults are on: name, hits, times still armed.
pub fn list() -> Vec<(String, u64, u32)> {
    POINTS.lock().iter().map(|(name, point)| (name.clone(), point.hits, point.armed)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(parse("a/b"), Ok(("a/b", 1, Action::Panic)));
        assert_eq!(parse(" a=3 "), Ok(("a", 3, Action::Panic)));
        assert_eq!(parse("a=2@50"), Ok(("a", 2, Action::Hang(Duration::from_millis(50)))));
        for bad in ["=1", "a=", "a=x", "a=1@", "a=-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_point_panics_as_often_as_it_was_armed() {
        enable();
        arm("test/point", 2).unwrap();
        let results: Vec<bool> = (0..4).map(|_| std::panic::catch_unwind(|| point("test/point")).is_err()).collect();
        assert_eq!(results, [true, true, false, false]);
        assert!(list().iter().any(|(name, hits, armed)| name == "test/point" && *hits == 4 && *armed == 0));
    }
}
