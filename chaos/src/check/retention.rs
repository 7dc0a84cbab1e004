//! Whether reads of the past are answered with the past or refused, never with something else: a revision that history was
//! given up to is refused, and nothing that is kept is. Some keys keep less history than others.

use std::collections::BTreeMap;

use super::{
    Fault, Judge,
    history::PastRead,
    truth::{Truth, difference},
};

const JUDGE: Judge = Judge("retention");

/// Up to where history was given up: a read at a floor is answered, one below it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Of all keys.
    pub all: u64,
    /// Of the keys that begin with something, where it was told. Lower than that of all has no effect.
    pub prefixes: BTreeMap<String, u64>,
}

impl Floors {
    /// The floor of all keys that begin with `prefix`, of none of which any history may be missing.
    pub fn of(&self, prefix: &str) -> u64 {
        let concerns = |other: &str| other.starts_with(prefix) || prefix.starts_with(other);
        let floors = self.prefixes.iter().filter(|(other, _)| concerns(other)).map(|(_, floor)| *floor);
        floors.fold(self.all, u64::max)
    }

    /// Raises the floor of keys that begin with `prefix`.
    pub fn raise(&mut self, prefix: &str, to: u64) {
        let floor = self.prefixes.entry(prefix.to_owned()).or_default();
        *floor = to.max(*floor);
    }
}

/// Reads of the past, against what really happened and the floors as they were in the end.
///
/// # Errors
/// [`Fault::Broken`]: an answer that is not the state of the revision asked for, or is of a revision that was not there yet,
/// or a refusal without reason.
pub fn check(truth: &Truth, reads: &[PastRead], floors: &Floors) -> Result<(), Fault> {
    for read in reads {
        let PastRead { asked, store, prefix, items, .. } = read;
        let Some(items) = items else {
            let floor = floors.of(prefix);
            JUDGE.demand(*asked < floor, || {
                format!("{prefix:?} at {asked} was refused, and history was never given up beyond {floor}")
            })?;
            continue;
        };
        JUDGE.demand(asked <= store, || format!("{prefix:?} at {asked} was answered by who had {store}"))?;
        let Some(expected) = truth.at(prefix, *asked) else {
            return Err(JUDGE.unusable(format!("a read at {asked}, and all is known from {} on", truth.base())));
        };
        if let Some(difference) = difference(items, &expected) {
            return Err(JUDGE.broken(format!("{prefix:?} at {asked}: {difference}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::{
        history::Item,
        truth::tests::{item, story},
    };

    #[test]
    fn the_highest_floor_of_any_key_counts() {
        let mut floors = Floors { all: 3, ..Floors::default() };
        floors.raise("a/", 7);
        floors.raise("a/", 5);
        floors.raise("b", 2);
        let cases = [("", 7), ("a", 7), ("a/", 7), ("a/x", 7), ("b", 3), ("ab", 3), ("c", 3)];
        for (prefix, floor) in cases {
            assert_eq!(floors.of(prefix), floor, "{prefix:?}");
        }
    }

    #[test]
    fn reads_of_the_past() {
        let floors = Floors { all: 2, prefixes: [("a".to_owned(), 5)].into() };
        let read = |prefix: &str, asked, items: Option<&[Item]>| PastRead {
            client: 1,
            asked,
            store: 9,
            prefix: prefix.into(),
            items: items.map(<[Item]>::to_vec),
        };
        let (two, five) = ([item("a", "a2", 2)], [item("a", "a5", 5)]);
        let cases = [
            ("as it was", read("a", 4, Some(&two)), None),
            ("as it was at the floor", read("a", 5, Some(&five)), None),
            ("as it was later", read("a", 4, Some(&five)), Some("instead of")),
            ("nothing", read("a", 4, Some(&[])), Some("is missing")),
            ("refused", read("a", 4, None), None),
            ("refused at the floor", read("a", 5, None), Some("never given up beyond 5")),
            ("refused for other keys' sake", read("b/", 4, None), Some("never given up beyond 2")),
            ("refused, with keys of both kinds", read("", 4, None), None),
            ("of the future", read("a", 10, Some(&[])), Some("by who had 9")),
        ];
        for (what, read, words) in cases {
            let verdict = check(&story(), &[read], &floors).map_err(|fault| fault.to_string());
            assert_eq!(verdict.is_err(), words.is_some(), "{what}: {verdict:?}");
            assert!(words.is_none_or(|words| verdict.as_ref().unwrap_err().contains(words)), "{what}: {verdict:?}");
        }
    }
}
