//! Histories that must be accepted, and those that must be refused; and the search against trying everything.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    register::{State, Step},
    *,
};
use crate::check::history::Answered;

fn operation(client: u64, called: u64, at: u64, act: Act, what: Answer) -> Operation {
    Operation { client, key: "k".into(), called, act, answered: Some(Answered { at, what, store: None }) }
}

fn open(client: u64, called: u64, act: Act) -> Operation {
    Operation { client, key: "k".into(), called, act, answered: None }
}

fn put(value: &str) -> Act {
    Act::Put { value: value.into() }
}

fn swap(expected: u64, value: &str) -> Act {
    Act::Swap { expected, value: value.into() }
}

fn delete(expected: Option<u64>) -> Act {
    Act::Delete { expected }
}

fn found(value: &str, revision: u64) -> Answer {
    Answer::Found { value: value.into(), revision }
}

fn done(revision: u64) -> Answer {
    Answer::Done { revision: Some(revision) }
}

fn conflict(actual: u64) -> Answer {
    Answer::Conflict { actual: Some(actual) }
}

fn verdict(history: &[Operation]) -> Result<u64, String> {
    check(history, 100_000).map_err(|fault| fault.to_string())
}

#[test]
fn correct_histories_are_accepted() {
    use Answer::Absent;
    let cases = vec![
        ("nothing there", vec![operation(1, 1, 2, Act::Read, Absent)]),
        (
            "one after the other",
            vec![
                operation(1, 1, 2, put("x"), done(5)),
                operation(2, 3, 4, Act::Read, found("x", 5)),
                operation(1, 5, 6, swap(5, "y"), done(7)),
                operation(2, 7, 8, swap(5, "z"), conflict(7)),
                operation(2, 9, 10, delete(Some(7)), done(8)),
                operation(1, 11, 12, Act::Read, Absent),
                operation(1, 13, 14, swap(0, "w"), done(9)),
            ],
        ),
        (
            "a read during a write sees either",
            vec![
                operation(1, 1, 10, put("x"), done(5)),
                operation(2, 2, 3, Act::Read, Absent),
                operation(2, 4, 5, Act::Read, found("x", 5)),
            ],
        ),
        (
            "writes at the same time in the order of their revisions",
            vec![
                operation(1, 1, 10, put("x"), done(6)),
                operation(2, 1, 10, put("y"), done(5)),
                operation(1, 11, 12, Act::Read, found("x", 6)),
            ],
        ),
        (
            "an open write that happened late",
            vec![
                open(1, 1, put("x")),
                operation(2, 2, 3, Act::Read, Absent),
                operation(2, 4, 5, put("y"), done(5)),
                operation(2, 6, 7, Act::Read, found("x", 6)),
                operation(2, 8, 9, swap(6, "z"), done(7)),
            ],
        ),
        ("an open write that never happened", vec![open(1, 1, put("x")), operation(2, 2, 3, Act::Read, Absent)]),
        (
            "an open delete",
            vec![
                operation(1, 1, 2, put("x"), done(5)),
                open(1, 3, delete(None)),
                operation(2, 4, 5, Act::Read, found("x", 5)),
                operation(2, 6, 7, Act::Read, Absent),
            ],
        ),
        (
            "an open write seen by a conflict only",
            vec![
                open(1, 1, put("x")),
                operation(2, 2, 3, swap(0, "y"), conflict(4)),
                operation(2, 4, 5, swap(4, "z"), done(5)),
            ],
        ),
        ("a delete of nothing", vec![operation(1, 1, 2, delete(None), Absent)]),
        (
            "checks",
            vec![
                operation(1, 1, 2, Act::Check { expected: 0 }, Answer::Held),
                operation(1, 3, 4, put("x"), done(5)),
                operation(1, 5, 6, Act::Check { expected: 5 }, Answer::Held),
                operation(1, 7, 8, Act::Check { expected: 4 }, conflict(5)),
            ],
        ),
        (
            "what was refused",
            vec![operation(1, 1, 2, put("x"), Answer::Refused), operation(1, 3, 4, Act::Read, Absent)],
        ),
        (
            "revisions not told",
            vec![
                operation(1, 1, 2, put("x"), Answer::Done { revision: None }),
                operation(1, 3, 4, Act::Read, found("x", 5)),
                operation(1, 5, 6, delete(None), Answer::Done { revision: None }),
                operation(1, 7, 8, swap(0, "y"), done(7)),
                operation(1, 9, 10, swap(5, "z"), Answer::Conflict { actual: None }),
            ],
        ),
    ];
    for (what, history) in cases {
        verdict(&history).unwrap_or_else(|fault| panic!("{what}: {fault}"));
    }
}

#[test]
fn broken_histories_are_refused() {
    use Answer::Absent;
    let x = || operation(1, 1, 2, put("x"), done(5));
    let y = || operation(1, 3, 4, put("y"), done(6));
    let cases = vec![
        ("a lost write", vec![x(), operation(2, 3, 4, Act::Read, Absent)]),
        ("a stale read", vec![x(), y(), operation(2, 5, 6, Act::Read, found("x", 5))]),
        (
            "reads that go back",
            vec![
                x(),
                operation(1, 3, 20, put("y"), done(6)),
                operation(2, 4, 5, Act::Read, found("y", 6)),
                operation(3, 6, 7, Act::Read, found("x", 5)),
            ],
        ),
        ("a value that nobody wrote", vec![x(), operation(2, 3, 4, Act::Read, found("z", 6))]),
        ("a value before it was written", vec![operation(2, 1, 2, Act::Read, found("y", 6)), y()]),
        ("another revision than acknowledged", vec![x(), operation(2, 3, 4, Act::Read, found("x", 6))]),
        (
            "two swaps of the same revision",
            vec![x(), operation(1, 3, 6, swap(5, "y"), done(6)), operation(2, 3, 6, swap(5, "z"), done(7))],
        ),
        ("a swap of what is not there", vec![operation(1, 1, 2, swap(4, "y"), done(6))]),
        ("a creation of what is there", vec![x(), operation(1, 3, 4, swap(0, "y"), done(6))]),
        ("a conflict without reason", vec![x(), operation(1, 3, 4, swap(5, "y"), Answer::Conflict { actual: None })]),
        ("a conflict with what is not", vec![x(), operation(1, 3, 4, swap(4, "y"), conflict(7))]),
        ("a conflict with what is expected", vec![x(), operation(1, 3, 4, swap(5, "y"), conflict(5))]),
        (
            "a delete that did not",
            vec![x(), operation(1, 3, 4, delete(None), done(6)), operation(1, 5, 6, Act::Read, found("x", 5))],
        ),
        ("a delete of nothing that took a revision", vec![operation(1, 1, 2, delete(None), done(6))]),
        ("nothing to delete where something is", vec![x(), operation(1, 3, 4, delete(None), Absent)]),
        ("revisions that go back", vec![x(), operation(1, 3, 4, put("y"), done(4))]),
        (
            "an open write that is undone",
            vec![
                x(),
                open(2, 3, put("y")),
                operation(1, 4, 5, Act::Read, found("y", 6)),
                operation(1, 6, 7, Act::Read, found("x", 5)),
            ],
        ),
        (
            "an open write that happens twice",
            vec![
                open(2, 1, put("y")),
                operation(1, 2, 3, Act::Read, found("y", 4)),
                operation(1, 4, 5, put("x"), done(5)),
                operation(1, 6, 7, Act::Read, found("y", 6)),
            ],
        ),
        ("an open write before its call", vec![operation(1, 1, 2, Act::Read, found("y", 4)), open(2, 3, put("y"))]),
        (
            "an open swap of what never was",
            vec![x(), open(2, 3, swap(3, "y")), operation(1, 4, 5, Act::Read, found("y", 6))],
        ),
        ("a check that held and could not", vec![x(), operation(1, 3, 4, Act::Check { expected: 4 }, Answer::Held)]),
        (
            "what was refused happened",
            vec![operation(1, 1, 2, put("x"), Answer::Refused), operation(1, 3, 4, Act::Read, found("x", 5))],
        ),
    ];
    for (what, history) in cases {
        let fault = verdict(&history).expect_err(what);
        assert!(fault.contains("no order explains"), "{what}: {fault}");
    }
}

/// Reads at the same time of writes at the same time, and at the end a read that nothing explains.
fn tangle(clients: u64) -> Vec<Operation> {
    let write = |client| operation(client, 1, 50, put(&format!("v{client}")), Answer::Done { revision: None });
    let read = |client| operation(20 + client, 2, 50, Act::Read, found(&format!("v{client}"), 100 - client));
    let mut history: Vec<Operation> = (0..clients).map(write).chain((0..clients).map(read)).collect();
    history.push(operation(40, 60, 61, Act::Read, Answer::Absent));
    history
}

#[test]
fn a_spent_budget_is_no_pass() {
    assert!(matches!(check(&tangle(10), 1000).unwrap_err(), Fault::Undecided { .. }));
    assert!(matches!(check(&tangle(3), 100_000).unwrap_err(), Fault::Broken { .. }));
}

/// Without knowing which of two ways is the better one, this would take longer than the world lasts.
#[test]
fn many_open_writes_are_decided() {
    let mut history: Vec<Operation> = (0..40).map(|client| open(client, client, put(&format!("v{client}")))).collect();
    history.extend((0..10).map(|client| open(50 + client, client, delete(None))));
    history.extend((0..20).map(|read| {
        let at = 100 + 10 * read;
        operation(100, at, at + 5, Act::Read, found(&format!("v{}", 2 * read), 10 + read))
    }));
    verdict(&history).unwrap();
    history.push(operation(100, 500, 505, put("w"), done(50)));
    history.push(operation(100, 510, 515, Act::Read, found("v2", 11)));
    assert!(verdict(&history).expect_err("v2 was overwritten").contains("no order explains"));
}

#[test]
fn answers_that_do_not_fit_cannot_be_judged() {
    let wrong = [
        operation(1, 1, 2, Act::Read, done(4)),
        operation(1, 1, 2, put("x"), Answer::Absent),
        operation(1, 1, 2, put("x"), conflict(4)),
        operation(1, 3, 2, Act::Read, Answer::Absent),
    ];
    for operation in wrong {
        assert!(matches!(check(&[operation], 1000).unwrap_err(), Fault::Unusable { .. }));
    }
}

/// A real register, asked by several clients at random; some never get their answer.
fn record(seed: u64, operations: usize) -> Vec<Operation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut keys: BTreeMap<String, (String, u64)> = BTreeMap::new();
    let (mut revision, mut history) = (1, Vec::new());
    for number in 0..operations as u64 {
        let key = format!("k{}", rng.random_range(0..2));
        // It takes effect at 10 * number; calls before and answers after overlap with others.
        let (called, at) = (10 * number + 100 - rng.random_range(1..60), 10 * number + 100 + rng.random_range(1..60));
        let is = keys.get(&key).map_or(0, |(_, revision)| *revision);
        let expected = if rng.random_bool(0.6) { is } else { rng.random_range(0..=revision) };
        let value = format!("v{number}");
        let act = match rng.random_range(0..5) {
            0 | 1 => Act::Read,
            2 => Act::Put { value },
            3 => Act::Swap { expected, value },
            _ => Act::Delete { expected: rng.random_bool(0.5).then_some(expected) },
        };
        let lost = rng.random_bool(0.1);
        let what =
            if lost && rng.random_bool(0.5) { None } else { Some(happen(&mut keys, &mut revision, &key, &act, is)) };
        let answered = what.filter(|_| !lost).map(|what| Answered { at, what, store: None });
        history.push(Operation { client: number, key, called, act, answered });
    }
    history
}

fn happen(keys: &mut BTreeMap<String, (String, u64)>, revision: &mut u64, key: &str, act: &Act, is: u64) -> Answer {
    let (value, expected) = match act {
        Act::Read => {
            let found = keys.get(key).cloned();
            return found.map_or(Answer::Absent, |(value, revision)| Answer::Found { value, revision });
        }
        Act::Put { value } => (Some(value), is),
        Act::Swap { expected, value } => (Some(value), *expected),
        Act::Delete { expected } => (None, expected.unwrap_or(is)),
        Act::Check { .. } => unreachable!("not asked for"),
    };
    if expected != is {
        return conflict(is);
    }
    if value.is_none() && is == 0 {
        return Answer::Absent;
    }
    *revision += 1;
    match value {
        Some(value) => keys.insert(key.into(), (value.clone(), *revision)),
        None => keys.remove(key),
    };
    done(*revision)
}

#[test]
fn what_a_real_register_answers_is_accepted() {
    for seed in 0..300 {
        let history = record(seed, 120);
        verdict(&history).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
}

#[test]
fn long_histories_are_decided() {
    let tried = check(&record(7, 5000), STEPS_MAX).unwrap();
    assert!(tried >= 4000, "{tried}");
}

#[test]
fn a_changed_answer_is_noticed() {
    let (mut refused, mut changed) = (0, 0);
    for seed in 0..200 {
        let mut history = record(seed, 60);
        // A read is answered with another revision than that at which its value was acknowledged.
        let answers = |operation: &Operation| operation.answered.as_ref().map(|answered| answered.what.clone());
        let acknowledged: Vec<_> = history.iter().filter_map(answers).collect();
        let stale = history.iter().position(|operation| match answers(operation) {
            Some(Answer::Found { revision, .. }) => acknowledged.contains(&done(revision)),
            _ => false,
        });
        let Some(at) = stale else { continue };
        changed += 1;
        let Some(answered) = &mut history[at].answered else { continue };
        if let Answer::Found { revision, .. } = &mut answered.what {
            *revision -= 1;
        }
        refused += u64::from(verdict(&history).is_err());
    }
    assert_eq!(refused, changed, "every value has one revision");
    assert!(changed > 100);
}

/// The same question, answered by trying all orders and remembering nothing.
fn naive(steps: &[Step<'_>], placed: &mut Vec<usize>, state: State) -> bool {
    let answer = |step: usize| steps[step].operation.answered.as_ref().map(|answered| answered.at);
    let left: Vec<usize> = (0..steps.len()).filter(|step| !placed.contains(step)).collect();
    let Some(bound) = left.iter().filter_map(|step| answer(*step)).min() else { return true };
    left.into_iter().filter(|step| steps[*step].operation.called <= bound).any(|step| {
        let Some(after) = register::apply(state, &steps[step]) else { return false };
        placed.push(step);
        let explained = naive(steps, placed, after);
        placed.pop();
        explained
    })
}

#[test]
fn the_search_agrees_with_trying_everything() {
    let mut verdicts = [0, 0];
    for seed in 0..1500 {
        let mut rng = ChaCha8Rng::seed_from_u64(!seed);
        let mut history = record(seed, 9);
        history.iter_mut().for_each(|operation| operation.key = "k".into());
        // Two keys' operations taken for those of one, and an answer moved: mostly broken, and sometimes not.
        let (one, other) = (rng.random_range(0..9), rng.random_range(0..9));
        if history[one].act == history[other].act {
            history[one].answered = history[other].answered.clone();
        }
        let history: Vec<&Operation> = history.iter().filter(|operation| sound(operation).is_ok()).collect();
        let steps = register::steps(&history);
        let expected = naive(&steps, &mut Vec::new(), State::default());
        let found = match search::search(&steps, 1_000_000) {
            Verdict::Explained { .. } => true,
            Verdict::Impossible { .. } => false,
            Verdict::Undecided { .. } => panic!("seed {seed}"),
        };
        assert_eq!(found, expected, "seed {seed}: {history:?}");
        verdicts[usize::from(found)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 100), "{verdicts:?}");
}
