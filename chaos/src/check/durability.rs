//! Whether every acknowledged write is there, or was overwritten by a later one; and whether nothing is there that nobody
//! wrote. Against the final state, and against the whole history where that is known.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fault, Judge,
    history::{Act, Answer, Change, Item, Kind, Operation},
    truth::Truth,
};

const JUDGE: Judge = Judge("durability");

/// The acknowledged and the open writes of one key.
#[derive(Default)]
struct Writes<'a> {
    /// By revision: the value, `None` for a delete.
    acknowledged: BTreeMap<u64, Option<&'a str>>,
    /// Without a known revision: not answered, or answered without one.
    open: BTreeSet<Option<&'a str>>,
}

/// What an operation writes, if it writes: a value, or nothing.
fn written(operation: &Operation) -> Option<Option<&str>> {
    match &operation.act {
        Act::Put { value } | Act::Swap { value, .. } => Some(Some(value)),
        Act::Delete { .. } => Some(None),
        Act::Read | Act::Check { .. } => None,
    }
}

fn writes(history: &[Operation]) -> Result<BTreeMap<&str, Writes<'_>>, Fault> {
    let mut keys: BTreeMap<&str, Writes<'_>> = BTreeMap::new();
    let mut owners: BTreeMap<u64, &Operation> = BTreeMap::new();
    for operation in history {
        let Some(value) = written(operation) else { continue };
        let of_key = keys.entry(&operation.key).or_default();
        match operation.answered.as_ref().map(|answered| &answered.what) {
            Some(Answer::Done { revision: Some(revision) }) => {
                of_key.acknowledged.insert(*revision, value);
                if let Some(other) = owners.insert(*revision, operation) {
                    return Err(
                        JUDGE.broken(format!("revision {revision} was given to {other:?} and to {operation:?}"))
                    );
                }
            }
            Some(Answer::Done { revision: None }) | None => {
                of_key.open.insert(value);
            }
            Some(_) => {}
        }
    }
    Ok(keys)
}

/// Checks the final state of the keys that the operations were about: all that begin with `prefix`, and nobody else wrote
/// them.
///
/// # Errors
/// [`Fault::Broken`]: an acknowledged write is gone without a later one that explains it, stands at another revision or
/// with another value, or something is there that nobody wrote.
pub fn check_state(history: &[Operation], prefix: &str, state: &[Item]) -> Result<(), Fault> {
    let keys = writes(history)?;
    let found: BTreeMap<&str, &Item> = state.iter().map(|item| (item.key.as_str(), item)).collect();
    for item in state.iter().filter(|item| item.key.starts_with(prefix)) {
        let by = keys.get(item.key.as_str());
        let acknowledged = by.and_then(|writes| writes.acknowledged.get(&item.revision));
        let explained = match acknowledged {
            Some(value) => *value == Some(item.value.as_str()),
            None => by.is_some_and(|writes| writes.open.contains(&Some(item.value.as_str()))),
        };
        JUDGE.demand(explained, || {
            format!("{item:?} is there, and nobody wrote that (acknowledged: {acknowledged:?})")
        })?;
    }
    for (key, writes) in keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let Some((revision, value)) = writes.acknowledged.last_key_value() else { continue };
        let there = found.get(key);
        let kept = match there {
            Some(item) => item.revision >= *revision,
            None => value.is_none() || writes.open.contains(&None),
        };
        JUDGE.demand(kept, || format!("key {key:?}: {value:?} was acknowledged at {revision}, found is {there:?}"))?;
    }
    Ok(())
}

/// Checks the whole history of the keys that begin with `prefix`: every acknowledged write is in it at its revision, and
/// every change in it is a write that was acknowledged there, or is open.
///
/// # Errors
/// [`Fault::Broken`], with the write or the change.
pub fn check_history(history: &[Operation], prefix: &str, truth: &Truth) -> Result<(), Fault> {
    let keys = writes(history)?;
    for (key, writes) in keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
        for (revision, value) in writes.acknowledged.range(truth.base() + 1..) {
            let happened = truth.change(*revision).filter(|change| change.key == *key && is(change, *value));
            JUDGE.demand(happened.is_some(), || {
                let there = truth.change(*revision);
                format!("key {key:?}: {value:?} was acknowledged at {revision}, history has {there:?} there")
            })?;
        }
    }
    for change in truth.between(prefix, truth.base(), truth.last()) {
        let by = keys.get(change.key.as_str());
        let explained = by.is_some_and(|writes| match writes.acknowledged.get(&change.revision) {
            Some(value) => is(change, *value),
            None => writes.open.iter().any(|value| is(change, *value)),
        });
        JUDGE.demand(explained, || format!("{change:?} is in history, and nobody wrote that"))?;
    }
    Ok(())
}

/// Whether the change is this write. A delete's last value is not the writer's.
fn is(change: &Change, value: Option<&str>) -> bool {
    match value {
        Some(value) => change.kind != Kind::Deleted && change.value == value,
        None => change.kind == Kind::Deleted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::{
        history::Answered,
        truth::tests::{change, item},
    };

    fn put(value: &str, answer: Option<Answer>) -> Operation {
        operation(Act::Put { value: value.into() }, answer)
    }

    fn delete(answer: Option<Answer>) -> Operation {
        operation(Act::Delete { expected: None }, answer)
    }

    fn operation(act: Act, answer: Option<Answer>) -> Operation {
        let answered = answer.map(|what| Answered { at: 2, what, store: None });
        Operation { client: 1, key: "k".into(), called: 1, act, answered }
    }

    fn done(revision: u64) -> Option<Answer> {
        Some(Answer::Done { revision: Some(revision) })
    }

    #[test]
    fn final_states() {
        let two = [put("x", done(2)), put("y", done(3))];
        let gone = [put("x", done(2)), delete(done(3))];
        let open = [put("x", done(2)), put("y", None), delete(None)];
        let refused = [put("x", done(2)), put("y", Some(Answer::Refused))];
        let untold = [put("x", done(2)), delete(Some(Answer::Done { revision: None }))];
        let cases: [(&str, &[Operation], &[Item], Option<&str>); 15] = [
            ("the last write", &two, &[item("k", "y", 3)], None),
            ("other keys do not count", &two, &[item("k", "y", 3), item("z", "?", 9)], None),
            ("deleted", &gone, &[], None),
            ("nothing of what is open happened", &open, &[item("k", "x", 2)], None),
            ("an open write happened", &open, &[item("k", "y", 4)], None),
            ("an open delete happened", &open, &[], None),
            ("a delete without a revision", &untold, &[], None),
            ("a lost write", &two, &[], Some("was acknowledged")),
            ("the last write is lost", &two, &[item("k", "x", 2)], Some("was acknowledged")),
            ("a lost delete", &gone, &[item("k", "x", 2)], Some("was acknowledged")),
            ("at another revision", &two, &[item("k", "y", 4)], Some("nobody wrote")),
            ("with another value", &two, &[item("k", "x", 3)], Some("nobody wrote")),
            ("what was refused", &refused, &[item("k", "y", 3)], Some("nobody wrote")),
            ("out of nothing", &[], &[item("k", "y", 3)], Some("nobody wrote")),
            ("a revision given twice", &[put("x", done(2)), put("y", done(2))], &[item("k", "y", 2)], Some("given to")),
        ];
        for (what, history, state, words) in cases {
            let verdict = check_state(history, "k", state).map_err(|fault| fault.to_string());
            assert_eq!(verdict.is_err(), words.is_some(), "{what}: {verdict:?}");
            assert!(words.is_none_or(|words| verdict.as_ref().unwrap_err().contains(words)), "{what}: {verdict:?}");
        }
    }

    #[test]
    fn whole_histories() {
        let history = [put("x", done(2)), put("y", None), delete(done(5))];
        let truth = |changes: &[Change]| Truth::new(1, &[], changes).unwrap();
        let x = change(2, "k", Kind::Added, "x", 0);
        let y = change(4, "k", Kind::Modified, "y", 2);
        let gone = |previous| change(5, "k", Kind::Deleted, "-", previous);
        let cases = [
            ("with the open write", vec![x.clone(), y.clone(), gone(4)], true),
            ("without it", vec![x.clone(), gone(2)], true),
            ("a write is missing", vec![x.clone(), y.clone()], false),
            ("another value", vec![change(2, "k", Kind::Added, "z", 0), gone(2)], false),
            ("another key", vec![change(2, "kk", Kind::Added, "x", 0)], false),
            ("a change that nobody made", vec![x.clone(), change(3, "k", Kind::Modified, "z", 2), gone(3)], false),
            ("at another revision", vec![change(3, "k", Kind::Added, "x", 0), gone(3)], false),
        ];
        for (what, changes, accepted) in cases {
            assert_eq!(check_history(&history, "k", &truth(&changes)).is_ok(), accepted, "{what}");
        }
    }
}
