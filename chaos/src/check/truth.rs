//! What really happened: a state at some revision and every change after it, in order. Other judges measure against it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

use super::{
    Fault, Judge,
    history::{Change, Item, Kind},
};

const JUDGE: Judge = Judge("truth");

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    base: u64,
    last: u64,
    changes: BTreeMap<u64, Change>,
    /// Of each key: its changes and, from the state at the beginning, its value.
    keys: BTreeMap<String, BTreeMap<u64, Option<String>>>,
}

impl Truth {
    /// A state and the changes after it, in order. Changes of other keys than those that are watched may be missing.
    ///
    /// # Errors
    /// [`Fault::Broken`] if the changes contradict the state or one another: out of order, a key added that was there,
    /// changed or deleted when it was not, another predecessor than it had.
    pub fn new(base: u64, items: &[Item], changes: &[Change]) -> Result<Self, Fault> {
        let mut truth = Self { base, last: base, ..Self::default() };
        for Item { key, value, revision } in items {
            let before = truth.keys.entry(key.clone()).or_default().insert(*revision, Some(value.clone()));
            JUDGE.demand(before.is_none() && *revision <= base, || {
                format!("key {key:?} cannot be there at {revision} in the state at {base}")
            })?;
        }
        for change in changes {
            truth.add(change)?;
        }
        Ok(truth)
    }

    fn add(&mut self, change: &Change) -> Result<(), Fault> {
        let Change { revision, key, kind, value, previous } = change;
        let versions = self.keys.entry(key.clone()).or_default();
        let (before, exists) =
            versions.last_key_value().map_or((0, false), |(revision, value)| (*revision, value.is_some()));
        JUDGE.demand(*revision > self.last, || format!("revision {revision} of {key:?} follows {}", self.last))?;
        JUDGE.demand(exists == (*kind != Kind::Added), || {
            format!("key {key:?} is {kind:?} at {revision}, and {} before", if exists { "there" } else { "not there" })
        })?;
        let before = if exists { before } else { 0 };
        JUDGE.demand(previous.is_none_or(|previous| previous == before), || {
            format!("{key:?} at {revision}: the change before is told to be {previous:?}, was {before}")
        })?;
        versions.insert(*revision, (*kind != Kind::Deleted).then(|| value.clone()));
        self.last = *revision;
        self.changes.insert(*revision, Change { previous: Some(before), ..change.clone() });
        Ok(())
    }

    /// The revision from which on everything is known.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The last change.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The change of a revision.
    pub fn change(&self, revision: u64) -> Option<&Change> {
        self.changes.get(&revision)
    }

    /// The changes of keys with this prefix, after one revision and up to another, in order.
    pub fn between(&self, prefix: &str, after: u64, upto: u64) -> impl Iterator<Item = &Change> {
        let range = (after < upto).then(|| self.changes.range((Excluded(after), Included(upto))));
        range.into_iter().flatten().map(|(_, change)| change).filter(move |change| change.key.starts_with(prefix))
    }

    /// What was there at a revision of keys with this prefix, in order of the keys; `None` if the revision lies before
    /// the beginning of what is known.
    pub fn at(&self, prefix: &str, revision: u64) -> Option<Vec<Item>> {
        let keys = self.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let living = keys.filter_map(|(key, versions)| {
            let (revision, value) = versions.range(..=revision).next_back()?;
            Some(Item { key: key.clone(), value: value.clone()?, revision: *revision })
        });
        (revision >= self.base).then(|| living.collect())
    }
}

/// The first difference between what was found and what should have been, both in any order.
pub(super) fn difference(found: &[Item], expected: &[Item]) -> Option<String> {
    let by_key = |items: &[Item]| -> BTreeMap<String, Item> {
        items.iter().map(|item| (item.key.clone(), item.clone())).collect()
    };
    if let Some(twice) = (1..found.len()).find(|at| found[..*at].iter().any(|item| item.key == found[*at].key)) {
        return Some(format!("{:?} is there twice", found[twice].key));
    }
    let (found, expected) = (by_key(found), by_key(expected));
    if let Some((key, item)) = expected.iter().find(|(key, item)| found.get(*key) != Some(item)) {
        return Some(match found.get(key) {
            None => format!("{item:?} is missing"),
            Some(other) => format!("{other:?} instead of {item:?}"),
        });
    }
    found.iter().find(|(key, _)| !expected.contains_key(*key)).map(|(_, item)| format!("{item:?} should not be there"))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `a` is made, changed, deleted and made again; `b/1` is made beside it.
    pub fn story() -> Truth {
        let changes = [
            change(2, "a", Kind::Added, "a2", 0),
            change(3, "b/1", Kind::Added, "b3", 0),
            change(5, "a", Kind::Modified, "a5", 2),
            change(6, "a", Kind::Deleted, "a5", 5),
            change(8, "a", Kind::Added, "a8", 0),
            change(9, "b/1", Kind::Modified, "b9", 3),
        ];
        Truth::new(1, &[], &changes).unwrap()
    }

    pub fn change(revision: u64, key: &str, kind: Kind, value: &str, previous: u64) -> Change {
        Change { revision, key: key.into(), kind, value: value.into(), previous: Some(previous) }
    }

    pub fn item(key: &str, value: &str, revision: u64) -> Item {
        Item { key: key.into(), value: value.into(), revision }
    }

    #[test]
    fn the_state_at_each_revision() {
        let truth = story();
        assert_eq!(truth.at("", 0), None);
        assert_eq!(truth.at("", 1).unwrap(), []);
        assert_eq!(truth.at("", 5).unwrap(), [item("a", "a5", 5), item("b/1", "b3", 3)]);
        assert_eq!(truth.at("b/", 7).unwrap(), [item("b/1", "b3", 3)]);
        assert_eq!(truth.at("a", 7).unwrap(), []);
        let revisions: Vec<u64> = truth.between("a", 2, 8).map(|change| change.revision).collect();
        assert_eq!(revisions, [5, 6, 8]);
        assert_eq!(truth.between("", 9, 9).count(), 0);
    }

    #[test]
    fn contradictions_are_refused() {
        let base = [item("a", "x", 4)];
        let cases = [
            (change(6, "a", Kind::Added, "y", 0), "there before"),
            (change(6, "b", Kind::Modified, "y", 0), "not there before"),
            (change(6, "b", Kind::Deleted, "y", 0), "not there before"),
            (change(6, "a", Kind::Modified, "y", 3), "told to be Some(3), was 4"),
            (change(5, "a", Kind::Modified, "y", 4), "follows 5"),
        ];
        for (wrong, why) in cases {
            let error = Truth::new(5, &base, std::slice::from_ref(&wrong)).unwrap_err().to_string();
            assert!(error.contains(why) || error.contains(&format!("and {why}")), "{wrong:?}: {error}");
        }
        assert!(Truth::new(3, &base, &[]).is_err());
        assert!(Truth::new(5, &base, &[change(6, "a", Kind::Modified, "y", 4)]).is_ok());
    }

    #[test]
    fn differences_are_named() {
        let expected = [item("a", "x", 1), item("b", "y", 2)];
        let cases: [(&[Item], Option<&str>); 6] = [
            (&[item("b", "y", 2), item("a", "x", 1)], None),
            (&[item("a", "x", 1)], Some("is missing")),
            (&[item("a", "x", 1), item("b", "z", 2)], Some("instead of")),
            (&[item("a", "x", 1), item("b", "y", 3)], Some("instead of")),
            (&[item("a", "x", 1), item("b", "y", 2), item("c", "", 3)], Some("should not be there")),
            (&[item("a", "x", 1), item("b", "y", 2), item("a", "x", 1)], Some("twice")),
        ];
        for (found, words) in cases {
            let told = difference(found, &expected);
            assert_eq!(told.is_some(), words.is_some(), "{told:?}");
            assert!(words.is_none_or(|words| told.as_ref().unwrap().contains(words)), "{told:?}");
        }
    }
}
