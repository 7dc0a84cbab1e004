//! Revisions against the clock: nobody who asks later is answered from an earlier state, over all keys together; and reads
//! "not older than this" are not older, show the state of one revision, and never go back for the client.

use std::collections::BTreeMap;

use super::{
    Fault, Judge,
    history::{Answer, Operation, SessionRead},
    truth::{Truth, difference},
};

const JUDGE: Judge = Judge("sessions");

/// The revision that the store had, at least, when the operation took effect, and whether it took the revision itself.
fn effect(operation: &Operation) -> Option<(u64, bool)> {
    let answered = operation.answered.as_ref()?;
    match &answered.what {
        Answer::Done { revision } => revision.map(|revision| (revision, true)),
        Answer::Found { revision, .. } => Some(((*revision).max(answered.store.unwrap_or(0)), false)),
        Answer::Absent => answered.store.map(|store| (store, false)),
        Answer::Conflict { actual } => actual.map(|actual| (actual, false)),
        Answer::Held | Answer::Refused => None,
    }
}

/// Linearizable operations of all keys: one that was called after another was answered took effect at a later revision, or
/// read a state that is not earlier. (Changes of one transaction are called together and do not come after one another.)
///
/// # Errors
/// [`Fault::Broken`] with both operations.
pub fn check_order(history: &[Operation]) -> Result<(), Fault> {
    let mut by_answer: Vec<(u64, u64, &Operation)> = Vec::new();
    for operation in history {
        if let (Some(answered), Some((revision, _))) = (&operation.answered, effect(operation)) {
            by_answer.push((answered.at, revision, operation));
        }
    }
    by_answer.sort_by_key(|(at, ..)| *at);
    let mut by_call: Vec<&Operation> = history.iter().collect();
    by_call.sort_by_key(|operation| operation.called);
    let (mut answered, mut newest) = (by_answer.into_iter().peekable(), None);
    for operation in by_call {
        while let Some((_, revision, before)) = answered.next_if(|(at, ..)| *at < operation.called) {
            if newest.is_none_or(|(newest, _)| revision > newest) {
                newest = Some((revision, before));
            }
        }
        let (Some((newest, before)), Some((revision, took))) = (newest, effect(operation)) else { continue };
        // What a read found, or a conflict met, says how old the state was only if the state's revision was told.
        let told = took || operation.answered.as_ref().is_some_and(|answered| answered.store.is_some());
        let later = if took { revision > newest } else { revision >= newest };
        JUDGE.demand(!told || later, || format!("{operation:?} began after the answer of {before:?}"))?;
    }
    Ok(())
}

/// Reads "not older than this", in the order in which each client was answered.
///
/// # Errors
/// [`Fault::Broken`]: older than asked for, or than what the client saw before, or not the state of that revision.
pub fn check_reads(truth: &Truth, reads: &[SessionRead]) -> Result<(), Fault> {
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for read in reads {
        let SessionRead { client, asked, store, prefix, items } = read;
        JUDGE.demand(store >= asked, || format!("client {client} asked for {asked} and was answered from {store}"))?;
        let seen = newest.entry(*client).or_default();
        JUDGE.demand(store >= seen, || format!("client {client} saw {seen} and was then answered from {store}"))?;
        *seen = *store;
        let Some(expected) = truth.at(prefix, *store) else {
            return Err(JUDGE.unusable(format!("a read of {store}, and all is known from {} on", truth.base())));
        };
        if let Some(difference) = difference(items, &expected) {
            return Err(JUDGE.broken(format!("client {client} read {prefix:?} at {store}: {difference}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::{
        history::{Act, Answered, Item},
        truth::tests::{item, story},
    };

    fn operation(key: &str, called: u64, at: u64, what: Answer, store: Option<u64>) -> Operation {
        let act = match what {
            Answer::Done { .. } => Act::Put { value: "x".into() },
            _ => Act::Read,
        };
        Operation { client: 1, key: key.into(), called, act, answered: Some(Answered { at, what, store }) }
    }

    fn put(key: &str, called: u64, at: u64, revision: u64) -> Operation {
        operation(key, called, at, Answer::Done { revision: Some(revision) }, None)
    }

    #[test]
    fn later_operations_have_later_revisions() {
        let absent = |called, store| operation("c", called, called + 1, Answer::Absent, store);
        let found = |revision| Answer::Found { value: "x".into(), revision };
        let cases = [
            ("one after the other", vec![put("a", 1, 2, 5), put("b", 3, 4, 6)], true),
            ("at the same time", vec![put("a", 1, 4, 5), put("b", 2, 3, 6), put("c", 2, 9, 4)], true),
            ("a read after it", vec![put("a", 1, 2, 5), absent(3, Some(5))], true),
            ("a read that does not tell", vec![put("a", 1, 2, 5), absent(3, None)], true),
            ("an older key", vec![put("a", 1, 2, 5), operation("b", 3, 4, found(2), None)], true),
            ("a lower revision", vec![put("a", 1, 2, 5), put("b", 3, 4, 4)], false),
            ("the same revision", vec![put("a", 1, 2, 5), put("b", 3, 4, 5)], false),
            ("a stale read", vec![put("a", 1, 2, 5), absent(3, Some(4))], false),
            ("a stale read after a read", vec![absent(1, Some(5)), absent(3, Some(4))], false),
            ("before what was found", vec![operation("a", 1, 2, found(7), None), put("b", 3, 4, 6)], false),
        ];
        for (what, history, accepted) in cases {
            assert_eq!(check_order(&history).is_ok(), accepted, "{what}");
        }
    }

    #[test]
    fn reads_of_a_session() {
        let read = |asked, store, items: &[Item]| SessionRead {
            client: 1,
            asked,
            store,
            prefix: "a".into(),
            items: items.to_vec(),
        };
        let (two, five) = ([item("a", "a2", 2)], [item("a", "a5", 5)]);
        let cases = [
            ("newer than asked for", vec![read(0, 3, &two), read(2, 5, &five), read(5, 7, &[])], None),
            ("older than asked for", vec![read(4, 3, &two)], Some("asked for 4")),
            ("going back", vec![read(0, 5, &five), read(0, 3, &two)], Some("saw 5")),
            ("another state", vec![read(0, 5, &two)], Some("instead of")),
            ("a lost key", vec![read(0, 5, &[])], Some("is missing")),
        ];
        for (what, reads, words) in cases {
            let verdict = check_reads(&story(), &reads).map_err(|fault| fault.to_string());
            assert_eq!(verdict.is_err(), words.is_some(), "{what}: {verdict:?}");
            assert!(words.is_none_or(|words| verdict.as_ref().unwrap_err().contains(words)), "{what}: {verdict:?}");
        }
    }
}
