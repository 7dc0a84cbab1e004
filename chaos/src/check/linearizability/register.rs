//! One key as a sequential object: what each operation does to it, and which answers it can give.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::history::{Act, Answer, Answered, Operation};

/// An operation as the search sees it.
pub(super) struct Step<'a> {
    pub operation: &'a Operation,
    /// The number that stands for the value it writes or finds.
    value: usize,
}

/// What the key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// The number of its value, 0 if it does not exist.
    value: usize,
    /// Revision of its last change; 0 if that is not known: the change was not answered.
    revision: u64,
    /// The highest revision that is known to have been taken by a change of it.
    least: u64,
}

impl State {
    fn exists(&self) -> bool {
        self.value != 0
    }

    /// The state if its last change was at `revision`, where that can be.
    fn changed_at(self, revision: u64) -> Option<Self> {
        let can_be = match (self.exists(), self.revision) {
            (false, _) => return (revision == 0).then_some(self),
            (true, 0) => revision > self.least,
            (true, known) => revision == known,
        };
        can_be.then_some(Self { revision, least: self.least.max(revision), ..self })
    }

    /// The state if its last change was not at `expected` but, if that was told, at `actual`.
    fn changed_elsewhere(self, expected: u64, actual: Option<u64>) -> Option<Self> {
        if let Some(actual) = actual {
            return if actual == expected { None } else { self.changed_at(actual) };
        }
        let surely_there = match expected {
            0 => !self.exists(),
            _ => self.exists() && self.revision == expected,
        };
        (!surely_there).then_some(self)
    }

    fn write(self, value: usize, revision: Option<u64>) -> Option<Self> {
        match revision {
            None | Some(0) => Some(Self { value, revision: 0, least: self.least }),
            Some(revision) if revision > self.least => {
                // What is gone has no revision; what was known of it stays in `least`.
                Some(Self { value, revision: if value == 0 { 0 } else { revision }, least: revision })
            }
            Some(_) => None,
        }
    }
}

/// The operations to be placed: without those that certainly did nothing or of which nobody could tell.
pub(super) fn steps<'a>(operations: &[&'a Operation]) -> Vec<Step<'a>> {
    let mut values = BTreeMap::new();
    let useless = useless_values(operations);
    let matters = |operation: &&&Operation| match (&operation.answered, &operation.act) {
        (Some(Answered { what: Answer::Refused, .. }), _) => false,
        (None, Act::Read | Act::Check { .. }) => false,
        (None, Act::Put { value } | Act::Swap { value, .. }) => !useless.contains(value.as_str()),
        _ => true,
    };
    let kept = operations.iter().filter(matters);
    let steps = kept.map(|operation| {
        let text = match (&operation.act, operation.answered.as_ref().map(|answered| &answered.what)) {
            (Act::Put { value } | Act::Swap { value, .. }, _) => Some(value),
            (Act::Read, Some(Answer::Found { value, .. })) => Some(value),
            _ => None,
        };
        let next = values.len() + 1;
        let value = text.map_or(0, |text| *values.entry(text.as_str()).or_insert(next));
        Step { operation, value }
    });
    steps.collect()
}

/// Values whose unanswered writes can be left out: if some order explains the history with them, one does without. That is
/// so if nobody found the value and no answer depends on whether, or with which unexplained revision, the key was there.
fn useless_values<'a>(operations: &[&'a Operation]) -> BTreeSet<&'a str> {
    let (mut found, mut explained, mut mentioned) = (BTreeSet::new(), BTreeSet::from([0]), BTreeSet::new());
    let mut written = BTreeSet::new();
    for operation in operations {
        match (&operation.act, operation.answered.as_ref().map(|answered| &answered.what)) {
            (Act::Read, Some(Answer::Found { value, revision })) => {
                found.insert(value.as_str());
                explained.insert(*revision);
            }
            (Act::Delete { expected: None }, _) | (_, Some(Answer::Conflict { actual: None })) => {
                return BTreeSet::new();
            }
            (Act::Swap { expected, .. }, None) => {
                mentioned.insert(*expected);
            }
            _ => {}
        }
        match (&operation.act, operation.answered.as_ref().map(|answered| &answered.what)) {
            (_, Some(Answer::Conflict { actual: Some(actual) })) => {
                mentioned.insert(*actual);
            }
            (Act::Swap { expected, .. } | Act::Check { expected }, Some(Answer::Done { .. } | Answer::Held)) => {
                mentioned.insert(*expected);
            }
            (Act::Delete { expected: Some(expected) }, _) => {
                mentioned.insert(*expected);
            }
            _ => {}
        }
        if let Some(Answer::Done { revision: Some(revision) }) =
            operation.answered.as_ref().map(|answered| &answered.what)
        {
            explained.insert(*revision);
        }
        if let (Act::Put { value } | Act::Swap { value, .. }, None) = (&operation.act, &operation.answered) {
            written.insert(value.as_str());
        }
    }
    if mentioned.is_subset(&explained) { &written - &found } else { BTreeSet::new() }
}

/// What the key is after the operation; `None` if the operation could not take effect there, or not with its answer.
pub(super) fn apply(state: State, step: &Step<'_>) -> Option<State> {
    let answer = step.operation.answered.as_ref().map(|answered| &answered.what);
    let taken = match answer {
        Some(Answer::Done { revision }) => *revision,
        _ => None,
    };
    match (&step.operation.act, answer) {
        (Act::Read, Some(Answer::Found { revision, .. })) => {
            if state.value == step.value {
                state.changed_at(*revision)
            } else {
                None
            }
        }
        (Act::Read | Act::Delete { .. }, Some(Answer::Absent)) => (!state.exists()).then_some(state),
        (Act::Put { .. }, _) => state.write(step.value, taken),
        (
            Act::Swap { expected, .. } | Act::Delete { expected: Some(expected) } | Act::Check { expected },
            Some(Answer::Conflict { actual }),
        ) => state.changed_elsewhere(*expected, *actual),
        (Act::Swap { expected, .. }, _) => state.changed_at(*expected)?.write(step.value, taken),
        (Act::Check { expected }, _) => state.changed_at(*expected),
        (Act::Delete { expected }, _) if state.exists() => {
            let state = expected.map_or(Some(state), |expected| state.changed_at(expected))?;
            state.write(0, taken)
        }
        _ => None,
    }
}

/// In words.
pub(super) fn show(state: &State, steps: &[Step<'_>]) -> String {
    let known = if state.revision == 0 { "an unknown revision".into() } else { format!("revision {}", state.revision) };
    let texts = steps.iter().find(|step| step.value == state.value).map(|step| &step.operation.act);
    match (state.exists(), texts) {
        (false, _) => format!("absent (last change known: {})", state.least),
        (true, Some(Act::Put { value } | Act::Swap { value, .. })) => format!("{value:?} of {known}"),
        (true, _) => format!("a value that nobody wrote, of {known}"),
    }
}
