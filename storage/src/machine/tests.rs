//! Cases for `machine`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]
//! What commands do, over memory. Crashes and long random histories are in `chaos/`.

use std::sync::Arc;

use bytes::Bytes;
use navarch_raft_contract::{
    ApplyError, Batch, Check, Command, CommandBody, CommittedEntry, Compact, Compare, ConfState, Event, EventKind,
    Expire, KeyRange, Op, OpKind, Outcome, Payload, PrefixFloor, ReadError, Sighting, StateMachine, StateReader, Txn,
    Witness,
};

use super::Machine;
use crate::memory::{MemoryHome, MemoryKv};

type State = Machine<MemoryKv>;

fn state() -> State {
    Machine::open(MemoryKv::default(), Arc::new(MemoryHome)).unwrap()
}

fn put(key: &str, value: &str) -> Op {
    Op { kind: OpKind::Put as i32, key: key.to_owned().into(), value: value.to_owned().into(), expires_at_ms: 0 }
}

fn delete(key: &str, last: &str) -> Op {
    Op { kind: OpKind::Delete as i32, ..put(key, last) }
}

fn at(key: &str, mod_revision: u64) -> Compare {
    Compare { key: key.to_owned().into(), mod_revision }
}

fn txn(compares: Vec<Compare>, ops: Vec<Op>) -> Command {
    Command { fence_term: 0, body: Some(CommandBody::Txn(Txn { compares, ops })) }
}

fn entry(state: &State, commands: Vec<Command>) -> CommittedEntry {
    let index = state.applied_index() + 1;
    CommittedEntry { index, term: 7, payload: Payload::Commands(Batch { commands }.to_bytes()) }
}

fn apply(state: &State, commands: Vec<Command>) -> (Vec<Outcome>, Vec<Event>) {
    let mut applied = state.apply(&[entry(state, commands)]).unwrap();
    (applied.outcomes.remove(0), applied.batch.events)
}

fn one(state: &State, command: Command) -> Outcome {
    apply(state, vec![command]).0.remove(0)
}

fn done(index: u64, first: u64, last: u64) -> Outcome {
    Outcome::Done { index, first, last }
}

fn all() -> KeyRange {
    KeyRange::prefix(b"")
}

fn listed(state: &State, revision: Option<u64>) -> Vec<(String, String, u64, u64)> {
    let (page, _) = state.range(&all(), revision, 100).unwrap();
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    page.items.iter().map(|kv| (text(&kv.key), text(&kv.value), kv.create_revision, kv.mod_revision)).collect()
}

fn row(key: &str, value: &str, created: u64, modified: u64) -> (String, String, u64, u64) {
    (key.to_owned(), value.to_owned(), created, modified)
}

#[test]
fn a_transaction_takes_one_revision_for_each_change_and_is_seen_as_a_whole() {
    let state = state();
    assert_eq!(state.revision(), 1);
    assert_eq!(one(&state, txn(vec![at("a", 0)], vec![put("a", "1"), put("b", "1")])), done(1, 2, 3));
    assert_eq!(
        one(&state, txn(vec![at("a", 2)], vec![put("a", "2"), delete("b", ""), delete("c", "")])),
        done(2, 4, 5)
    );
    assert_eq!(one(&state, txn(vec![], vec![])), done(3, 6, 5));
    assert_eq!(listed(&state, None), [row("a", "2", 2, 4)]);
    assert_eq!(listed(&state, Some(3)), [row("a", "1", 2, 2), row("b", "1", 3, 3)]);
    // History is read to the end of a transaction, also when the bound is reached in its middle.
    let (events, upto) = state.events(&all(), 1, 1).unwrap();
    assert_eq!((events.len(), upto), (2, 3));
    let (events, upto) = state.events(&all(), 3, 1).unwrap();
    assert_eq!((events.len(), upto), (2, 5));
    assert_eq!((events[1].kind, events[1].value.as_ref(), events[1].prev_revision), (EventKind::Delete, &b"1"[..], 3));
}

#[test]
fn a_compare_that_does_not_hold_changes_nothing() {
    let state = state();
    one(&state, txn(vec![], vec![put("a", "1")]));
    let cases = [
        (vec![at("a", 0)], Outcome::Conflict { index: 2, compare: 0, actual: 2 }),
        (vec![at("a", 2), at("b", 9)], Outcome::Conflict { index: 3, compare: 1, actual: 0 }),
        (vec![at("a", 3)], Outcome::Conflict { index: 4, compare: 0, actual: 2 }),
    ];
    for (compares, outcome) in cases {
        assert_eq!(one(&state, txn(compares, vec![put("a", "x"), put("b", "x")])), outcome);
        assert_eq!((state.revision(), listed(&state, None)), (2, vec![row("a", "1", 2, 2)]));
    }
}

#[test]
fn commands_of_one_entry_see_one_another() {
    let state = state();
    let commands = vec![
        txn(vec![at("a", 0)], vec![put("a", "1")]),
        txn(vec![at("a", 0)], vec![put("a", "x")]),
        txn(vec![at("a", 2)], vec![delete("a", "")]),
        txn(vec![at("a", 0)], vec![put("a", "2")]),
    ];
    let (outcomes, events) = apply(&state, commands);
    let conflict = Outcome::Conflict { index: 1, compare: 0, actual: 2 };
    assert_eq!(outcomes, [done(1, 2, 2), conflict, done(1, 3, 3), done(1, 4, 4)]);
    assert_eq!(events[1].value, "1", "a delete without a value carries the one that was written in the same run");
    assert_eq!(listed(&state, None), [row("a", "2", 4, 4)]);
    assert_eq!(listed(&state, Some(3)), []);
}

#[test]
fn a_delete_shows_the_last_value() {
    let state = state();
    one(&state, txn(vec![], vec![put("a", "stored"), put("b", "stored")]));
    let (_, events) = apply(&state, vec![txn(vec![], vec![delete("a", ""), delete("b", "as watchers see it")])]);
    assert_eq!([&events[0].value, &events[1].value], [&"stored", &"as watchers see it"]);
    assert_eq!(state.events(&all(), 3, usize::MAX).unwrap(), (events.clone(), 5));
    // Also when nothing else is left of what it deletes.
    one(&state, compact(3));
    while state.compact_slice(1).unwrap() {}
    assert_eq!(state.events(&all(), 3, usize::MAX).unwrap(), (events, 5));
    let record = crate::kv::Kv::get(&*state.kv(), &crate::keys::version(b"a", 4)).unwrap().unwrap();
    assert!(record.len() < "stored".len() + 9, "it is stored once");
}

#[test]
fn a_fence_of_another_term_changes_nothing() {
    let state = state();
    let fenced = |term| Command { fence_term: term, ..txn(vec![], vec![put("a", "1")]) };
    assert_eq!(one(&state, fenced(6)), Outcome::Fenced { term: 7 });
    assert_eq!(one(&state, fenced(7)), done(2, 2, 2));
}

#[test]
fn expiry_deletes_only_what_was_not_renewed() {
    let state = state();
    let mortal = |key: &str, at| Op { expires_at_ms: at, ..put(key, "v") };
    one(&state, txn(vec![], vec![mortal("a", 500), mortal("b", 100), mortal("c", 300), mortal("d", 300)]));
    one(&state, txn(vec![], vec![mortal("c", 900), put("d", "forever")]));
    let due = |now| state.expired(now, 10).unwrap().into_iter().map(|e| (e.key, e.mod_revision)).collect::<Vec<_>>();
    assert_eq!(due(99), []);
    assert_eq!(due(500), [("b".into(), 3), ("a".into(), 2)]);
    assert_eq!(due(u64::MAX).len(), 3);
    let expire = Expire { keys: vec![at("a", 2), at("c", 4), at("b", 3), at("gone", 9), at("gone", 0)] };
    let command = Command { fence_term: 0, body: Some(CommandBody::Expire(expire)) };
    assert_eq!(one(&state, command), done(3, 8, 9));
    assert_eq!(due(u64::MAX), [("c".into(), 6)]);
}

fn compact(floor: u64) -> Command {
    Command { fence_term: 0, body: Some(CommandBody::Compact(Compact { floor, prefixes: vec![] })) }
}

#[test]
fn compaction_keeps_what_lives_at_the_floor() {
    for slice in [1, 2, 100] {
        let state = state();
        one(&state, txn(vec![], vec![put("a", "1"), put("b", "1"), put("c", "1")])); // 2 3 4
        one(&state, txn(vec![], vec![put("a", "2"), delete("b", "")])); // 5 6
        one(&state, txn(vec![], vec![put("a", "3"), delete("c", ""), put("b", "2")])); // 7 8 9
        let before = state.kv().len();
        let (at_6, now) = (listed(&state, Some(6)), listed(&state, None));
        let after_6 = state.events(&all(), 6, usize::MAX).unwrap();
        assert_eq!(one(&state, compact(6)), done(4, 10, 9));
        while state.compact_slice(slice).unwrap() {}
        assert!(state.kv().len() < before);
        assert_eq!((listed(&state, Some(6)), listed(&state, None)), (at_6, now));
        assert_eq!(state.events(&all(), 6, usize::MAX).unwrap(), after_6);
        assert_eq!(state.events(&all(), 5, 1), Err(ReadError::Compacted { asked: 5, floor: 6 }));
        assert_eq!(state.get(b"a", Some(5)), Err(ReadError::Compacted { asked: 5, floor: 6 }));
        assert_eq!(state.get(b"b", Some(6)), Ok(None));
        assert_eq!(state.get(b"c", Some(6)).unwrap().unwrap().mod_revision, 4);
        // Down never, and beyond the present neither.
        one(&state, compact(3));
        assert_eq!(state.compacted(), 6);
        one(&state, compact(1000));
        assert_eq!(state.compacted(), 9);
        while state.compact_slice(slice).unwrap() {}
        // Left: latest and version of two keys, the applied state, the sweep's progress.
        assert_eq!(state.kv().len(), 6);
        assert_eq!(listed(&state, None).len(), 2);
    }
}

#[test]
fn reads_beyond_the_present_are_refused() {
    let state = state();
    let future = Err(ReadError::Future { asked: 2, current: 1 });
    assert_eq!(state.get(b"a", Some(2)), future.clone().map(|()| None));
    assert_eq!(state.range(&all(), Some(2), 1).map(|_| ()), future);
    assert_eq!(state.events(&all(), 2, 1).map(|_| ()), future);
    assert_eq!(state.events(&all(), 1, 1), Ok((vec![], 1)));
}

#[test]
fn ranges_are_cut_by_prefix_and_limit() {
    let state = state();
    one(&state, txn(vec![], ["a", "p/1", "p/2", "p/3", "p0"].map(|key| put(key, "v")).to_vec()));
    one(&state, txn(vec![], vec![put("p/2", "w")]));
    let range = KeyRange::prefix(b"p/");
    for revision in [None, Some(6)] {
        let (page, _) = state.range(&range, revision, 2).unwrap();
        assert_eq!((page.items.len(), page.more), (2, true));
        let (page, _) = state.range(&range, revision, 3).unwrap();
        assert_eq!((page.items.len(), page.more), (3, false));
    }
    assert_eq!(state.count(&range), Ok(3));
    let (events, upto) = state.events(&range, 6, 100).unwrap();
    assert_eq!((events.len(), upto), (1, 7));
}

#[test]
fn what_is_not_understood_stops_and_changes_nothing() {
    let state = state();
    let odd = Op { kind: 9, ..put("b", "1") };
    let unknown = |position| ApplyError::Unknown { index: 1, position };
    let cases = [
        (vec![txn(vec![], vec![put("a", "1")]), Command::default()], unknown(1)),
        // Unknown also behind a fence that does not hold: whether a member stops must not depend on it.
        (vec![Command { fence_term: 3, body: None }], unknown(0)),
        (vec![txn(vec![], vec![put("a", "1"), odd])], unknown(0)),
    ];
    for (commands, error) in cases {
        assert_eq!(state.apply(&[entry(&state, commands)]).unwrap_err(), error);
        assert_eq!((state.revision(), state.applied_index(), state.kv().len()), (1, 0, 0));
    }
    let junk = CommittedEntry { index: 1, term: 1, payload: Payload::Commands(Bytes::from_static(&[0xff; 9])) };
    assert!(matches!(state.apply(&[junk]), Err(ApplyError::Malformed { index: 1, .. })));
    let gap = CommittedEntry { index: 2, term: 1, payload: Payload::Empty };
    assert_eq!(state.apply(&[gap]).unwrap_err(), ApplyError::OutOfOrder { applied: 0, got: 2 });
}

#[test]
fn after_a_crash_the_state_is_that_of_the_last_flush_and_replay_brings_it_back() {
    let first = state();
    let mut log = vec![CommittedEntry { index: 1, term: 1, payload: Payload::Empty }];
    let members = ConfState { voters: vec![1, 2], ..ConfState::default() };
    log.push(CommittedEntry { index: 2, term: 1, payload: Payload::Members(members.clone()) });
    for (index, (key, value)) in (3..).zip([("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")]) {
        let commands = vec![txn(vec![], vec![put(key, value)])];
        log.push(CommittedEntry { index, term: 2, payload: Payload::Commands(Batch { commands }.to_bytes()) });
    }
    first.apply(&log[..4]).unwrap();
    assert_eq!((first.flush().unwrap(), first.durable()), (4, 4));
    first.apply(&log[4..]).unwrap();
    let second = Machine::open(first.kv().crashed(), Arc::new(MemoryHome)).unwrap();
    let applied = second.applied();
    assert_eq!((applied.index, applied.term, applied.revision, applied.members), (4, 2, 3, Some(members)));
    for entry in &log[4..] {
        second.apply(std::slice::from_ref(entry)).unwrap();
    }
    assert_eq!(listed(&second, None), listed(&first, None));
    assert_eq!((second.hash(), second.revision()), (first.hash(), first.revision()));
}

#[test]
fn the_hash_depends_on_what_lives_and_not_on_how_it_came_about() {
    let (one_way, other_way) = (state(), state());
    one(&one_way, txn(vec![], vec![put("a", "1"), put("b", "1"), delete("b", "")]));
    one(&one_way, txn(vec![], vec![put("c", "1")]));
    one(&other_way, txn(vec![], vec![put("a", "1")]));
    one(&other_way, txn(vec![], vec![put("x", "1"), delete("x", "")]));
    assert_ne!(one_way.hash(), other_way.hash());
    one(&other_way, txn(vec![], vec![put("c", "1")]));
    assert_eq!(one_way.hash(), other_way.hash());
    one(&other_way, txn(vec![], vec![put("c", "2")]));
    assert_ne!(one_way.hash(), other_way.hash());
}

#[test]
fn keys_with_a_prefix_may_have_less_history() {
    for slice in [1, 2, 100] {
        let state = state();
        for round in 0..4 {
            // lease/a 2 4 6 8, pods/a 3 5 7 9
            one(&state, txn(vec![], vec![put("lease/a", &format!("{round}")), put("pods/a", &format!("{round}"))]));
        }
        one(&state, txn(vec![], vec![put("lease/b", "x")])); // 10
        one(&state, txn(vec![], vec![delete("lease/b", "")])); // 11
        let (leases, pods) = (KeyRange::prefix(b"lease/"), KeyRange::prefix(b"pods/"));
        let pods_then = state.events(&pods, 1, usize::MAX).unwrap();
        let (leases_then, leases_after) =
            (state.range(&leases, Some(8), 9).unwrap(), state.events(&leases, 8, usize::MAX).unwrap());
        let prefixes = vec![PrefixFloor { prefix: "lease/".into(), floor: 8 }];
        let body = CommandBody::Compact(Compact { floor: 0, prefixes });
        let applied = state.apply(&[entry(&state, vec![Command { fence_term: 0, body: Some(body.clone()) }])]).unwrap();
        assert!(applied.floors_raised);
        let records = state.kv().len();
        while state.compact_slice(slice).unwrap() {}
        // Three changes of lease/a with what they replaced; the fourth, at the floor, is swept with the third.
        assert_eq!(state.kv().len(), records - 4 - 3 + 1, "and one that says how far");
        assert_eq!((state.compacted(), state.floor_of(&leases), state.floor_of(&pods)), (0, 8, 0));
        assert_eq!(state.floor_of(&all()), 8);
        assert!(matches!(state.range(&leases, Some(7), 9), Err(ReadError::Compacted { asked: 7, floor: 8 })));
        assert!(matches!(state.get(b"lease/a", Some(7)), Err(ReadError::Compacted { .. })));
        assert!(matches!(state.events(&leases, 7, 9), Err(ReadError::Compacted { .. })));
        assert!(matches!(state.events(&all(), 7, 9), Err(ReadError::Compacted { .. })));
        assert_eq!(state.range(&leases, Some(8), 9).unwrap(), leases_then);
        assert_eq!(state.events(&leases, 8, usize::MAX).unwrap(), leases_after);
        assert_eq!(state.events(&pods, 1, usize::MAX).unwrap(), pods_then);
        assert_eq!(state.get(b"pods/a", Some(3)).unwrap().unwrap().value, "0");
        // Again: nothing is raised. And when the floor of all passes it, it is forgotten.
        let again = state.apply(&[entry(&state, vec![Command { fence_term: 0, body: Some(body) }])]).unwrap();
        assert!(!again.floors_raised);
        one(&state, compact(11));
        while state.compact_slice(slice).unwrap() {}
        assert_eq!(state.floor_of(&leases), 11);
        assert_eq!(state.kv().len(), 7, "two keys, the state, and three that say how far");
        crate::check::verify(&*state.kv(), &mut |_| true).unwrap();
    }
}

#[test]
fn checks_are_seen_and_change_nothing() {
    let state = state();
    let command = |body| Command { fence_term: 0, body: Some(body) };
    let witness = Witness { member: 3, index: 1, hash: 9 };
    let commands = [
        txn(vec![], vec![put("a", "1")]),
        command(CommandBody::Check(Check {})),
        txn(vec![], vec![put("a", "2")]),
        command(CommandBody::Witness(witness)),
    ];
    let before = state.hash();
    let one_entry = state.apply(&[entry(&state, commands[..2].to_vec())]).unwrap();
    let hash = state.hash();
    assert_ne!(hash, before);
    assert_eq!(one_entry.sightings, [Sighting::Check { index: 1, hash }]);
    let applied = state.apply(&[entry(&state, commands[2..].to_vec())]).unwrap();
    assert_eq!(applied.sightings, [Sighting::Witness(witness)]);
    assert_eq!(applied.outcomes[0][1], done(2, 4, 3));
    // Wherever in a run it stands, it is the state there.
    let other = self::state();
    let first = entry(&other, commands[..2].to_vec());
    let second = CommittedEntry { index: 2, ..entry(&other, commands[2..].to_vec()) };
    assert_eq!(other.apply(&[first, second]).unwrap().sightings[0], Sighting::Check { index: 1, hash });
}

#[test]
fn a_read_that_finds_damage_is_remembered() {
    let state = state();
    one(&state, txn(vec![], vec![put("a", "1")]));
    assert_eq!(state.damage().found(), None);
    state.check(&mut |_| true).unwrap();
    let mut set = crate::kv::WriteSet::default();
    set.delete(crate::keys::version(b"a", 2));
    crate::kv::Kv::write(&*state.kv(), set).unwrap();
    assert!(state.get(b"a", None).is_err());
    assert_eq!(state.damage().found().as_deref(), Some("corrupt history: a version is missing"));
    state.damage().forget();
    assert!(state.check(&mut |_| false).is_err());
    assert_eq!(state.damage().found(), None, "one that was not finished has found nothing");
    assert!(state.check(&mut |_| true).is_err());
    assert_eq!(state.damage().found().as_deref(), Some("snapshot is damaged: 1 keys are listed, and 0 have a value"));
}
