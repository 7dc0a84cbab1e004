//! Snapshots of the store that a member takes by itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often, how many, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSettings {
    /// Time between two snapshots, such as `1h` or `30m`; `off`: none are taken.
    pub every: String,
    /// How many are kept; the oldest go first.
    pub keep: usize,
    /// Where they are put; unset: `snapshots` in the data folder. Best on another disk.
    pub folder: Option<PathBuf>,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self { every: "1h".to_owned(), keep: 24, folder: None }
    }
}

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// Closer together they would do nothing else.
const SECONDS_MIN: u64 = 10;
/// Beyond this it is a mistake.
const SECONDS_MAX: u64 = 366 * 86_400;

impl SnapshotSettings {
    /// Time between two; `None`: none are taken. What [`SnapshotSettings::validate`] finds fault with counts as that, too.
    pub fn interval(&self) -> Option<Duration> {
        parse(&self.every).ok().flatten()
    }

    pub(crate) fn validate(&self, findings: &mut Vec<String>) {
        if let Err(why) = parse(&self.every) {
            findings.push(format!("snapshots.every: {:?}: {why}", self.every));
        }
        if self.keep == 0 {
            findings.push("snapshots.keep: 0: must be at least 1; `snapshots.every=off` takes none".to_owned());
        }
    }
}

/// The seconds of a time such as `2h`, `90m` or `1d12h`; the empty text is 0. `None` if it is no time.
pub fn parse_seconds(text: &str) -> Option<u64> {
    let (mut seconds, mut rest): (u64, &str) = (0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        seconds = count.checked_mul(factor).and_then(|more| seconds.checked_add(more))?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    Some(seconds)
}

fn parse(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = || "must be `off`, or a time such as 1h, 30m or 1d12h".to_owned();
    let seconds = parse_seconds(text).ok_or_else(wrong)?;
    match seconds {
        0 => Err(wrong()),
        1..SECONDS_MIN => Err(format!("must be at least {SECONDS_MIN}s")),
        SECONDS_MIN..=SECONDS_MAX => Ok(Some(Duration::from_secs(seconds))),
        _ => Err("must be at most a year".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_nonsense_is_told() {
        for (text, seconds) in [("1h", 3600), ("30m", 1800), ("1d12h", 129_600), ("10s", 10)] {
            let settings = SnapshotSettings { every: text.to_owned(), ..SnapshotSettings::default() };
            assert_eq!(settings.interval(), Some(Duration::from_secs(seconds)), "{text}");
        }
        let off = SnapshotSettings { every: "off".to_owned(), ..SnapshotSettings::default() };
        let mut findings = Vec::new();
        off.validate(&mut findings);
        assert_eq!((off.interval(), findings.len()), (None, 0));
        for text in ["", "1", "h", "0s", "9s", "2 h", "never", "400d", "99999999999999999999h"] {
            let settings = SnapshotSettings { every: text.to_owned(), keep: 0, folder: None };
            let mut findings = Vec::new();
            settings.validate(&mut findings);
            assert_eq!(findings.len(), 2, "{text}");
            assert!(findings[0].starts_with("snapshots.every: "), "{findings:?}");
        }
    }
}
