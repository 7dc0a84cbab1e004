//! Whether there is an order of a key's operations that explains every answer, each operation taking effect at one moment
//! between its call and its answer. Keys are judged one by one: linearizability is local.
//!
//! The search is Wing and Gong's with Lowe's memory of what was tried: "these operations placed, the key in this state"
//! is explored once. An operation without an answer may be placed anywhere after its call, or nowhere. As most answers name
//! the revision they took or saw, there is seldom much to search.

mod register;
mod search;

use std::collections::BTreeMap;

use self::search::Verdict;
use super::{
    Fault, Judge,
    history::{Act, Answer, Operation},
};

const JUDGE: Judge = Judge("linearizability");

/// Placements tried for one key before the search is given up: some seconds.
pub const STEPS_MAX: u64 = 5_000_000;

/// Checks all keys. `steps_max` placements are tried for each. Returns how many were tried in all.
///
/// # Errors
/// [`Fault::Broken`] names a key and the operation that no order explains; [`Fault::Undecided`] if the budget is spent.
pub fn check(history: &[Operation], steps_max: u64) -> Result<u64, Fault> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        sound(operation)?;
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut tried = 0;
    for (key, operations) in keys {
        tried += check_key(key, &operations, steps_max)?;
    }
    Ok(tried)
}

fn check_key(key: &str, operations: &[&Operation], steps_max: u64) -> Result<u64, Fault> {
    let steps = register::steps(operations);
    match search::search(&steps, steps_max) {
        Verdict::Explained { tried } => Ok(tried),
        Verdict::Impossible { placed, stuck, state } => Err(JUDGE.broken(format!(
            "key {key:?}: no order explains {}; at best {placed} of {} operations were placed before it, and the key was {}",
            show(steps[stuck].operation),
            steps.len(),
            register::show(&state, &steps),
        ))),
        Verdict::Undecided { tried } => Err(Fault::Undecided {
            checker: JUDGE.0,
            what: format!("key {key:?}, {} operations: {tried} placements tried", steps.len()),
        }),
    }
}

/// An answer must be of a kind that the question has, and come after it.
fn sound(operation: &Operation) -> Result<(), Fault> {
    let Some(answered) = &operation.answered else { return Ok(()) };
    let fits = matches!(
        (&operation.act, &answered.what),
        (_, Answer::Refused)
            | (Act::Read, Answer::Found { .. } | Answer::Absent)
            | (Act::Put { .. } | Act::Swap { .. } | Act::Delete { .. }, Answer::Done { .. })
            | (Act::Swap { .. } | Act::Delete { expected: Some(_) } | Act::Check { .. }, Answer::Conflict { .. })
            | (Act::Delete { .. }, Answer::Absent)
            | (Act::Check { .. }, Answer::Held)
    );
    if fits && answered.at >= operation.called {
        return Ok(());
    }
    Err(JUDGE.unusable(format!("an answer that cannot be: {operation:?}")))
}

fn show(operation: &Operation) -> String {
    let Operation { client, called, act, answered, .. } = operation;
    match answered {
        Some(answered) => format!("client {client}'s {act:?} at {called}..{}: {:?}", answered.at, answered.what),
        None => format!("client {client}'s {act:?} at {called}, not answered"),
    }
}

#[cfg(test)]
mod tests;
