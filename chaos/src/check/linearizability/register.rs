//! One key as a sequential object: what each operation does to it, and which answers it can give.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::history::{Act, Answer, Operation};

/// An operation as the search sees it.
pub(super) struct Step<'a> {
    pub operation: &'a Operation,
    /// The number that stands for the value it writes or finds.
    value: usize,
    /// The revision that a write took: as answered or, without an answer, as those say who found its value.
    revision: Option<u64>,
    /// It was not answered, and nobody can tell its value or its revision: it matters only where there was nothing.
    unseen: bool,
}

impl Step<'_> {
    /// The revision that it took, if it was answered with one.
    pub(super) fn answered_revision(&self) -> Option<u64> {
        self.revision.filter(|_| self.operation.answered.is_some())
    }

    /// The revision that it found, if it is a read that found something.
    pub(super) fn found_revision(&self) -> Option<u64> {
        match what(self.operation) {
            Some(Answer::Found { revision, .. }) => Some(*revision),
            _ => None,
        }
    }

    /// Whether two operations without answers can stand for one another: then the earlier one is used first.
    pub(super) fn is_twin(&self, of: &Self) -> bool {
        let kind = |act: &Act| match act {
            Act::Put { .. } => (0, None),
            Act::Swap { expected, .. } => (1, Some(*expected)),
            Act::Delete { expected } => (2, *expected),
            Act::Read => (3, None),
            Act::Check { expected } => (4, Some(*expected)),
        };
        let key = |step: &Self| (kind(&step.operation.act), step.value, step.revision);
        key(self) == key(of)
    }
}

fn what(operation: &Operation) -> Option<&Answer> {
    operation.answered.as_ref().map(|answered| &answered.what)
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
    /// The highest revision that is known to have been taken.
    pub(super) fn least(&self) -> u64 {
        self.least
    }

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

/// What the answers of all operations say about writes that were not answered.
#[derive(Default)]
struct Known<'a> {
    /// Values that were found, with the revision where all agree on it.
    found: BTreeMap<&'a str, Option<u64>>,
    /// How many operations write a value.
    writers: BTreeMap<&'a str, usize>,
    /// Revisions of which it is known what was written there.
    explained: BTreeSet<u64>,
    /// Revisions that somebody expected or met.
    mentioned: BTreeSet<u64>,
    /// A conflict does not say what it met.
    untold: bool,
    /// Something depends on whether the key was there, whatever it was.
    existence: bool,
}

impl<'a> Known<'a> {
    fn from(operations: &[&'a Operation]) -> Self {
        let mut known = Self { explained: [0].into(), ..Self::default() };
        operations.iter().for_each(|operation| known.take(operation));
        known
    }

    fn take(&mut self, operation: &'a Operation) {
        if let Act::Put { value } | Act::Swap { value, .. } = &operation.act {
            *self.writers.entry(value).or_default() += 1;
        }
        if let Act::Swap { expected, .. } | Act::Delete { expected: Some(expected) } | Act::Check { expected } =
            &operation.act
        {
            // What was expected in vain need not have been.
            if !matches!(what(operation), Some(Answer::Conflict { .. } | Answer::Absent | Answer::Refused)) {
                self.mentioned.insert(*expected);
            }
        }
        self.existence |= operation.act == Act::Delete { expected: None };
        match what(operation) {
            Some(Answer::Found { value, revision }) => {
                let known = self.found.entry(value).or_insert(Some(*revision));
                *known = known.filter(|known| known == revision);
                self.explained.insert(*revision);
            }
            Some(Answer::Done { revision: Some(revision) }) => {
                self.explained.insert(*revision);
            }
            Some(Answer::Conflict { actual: Some(actual) }) => {
                self.mentioned.insert(*actual);
            }
            Some(Answer::Conflict { actual: None }) => self.untold = true,
            _ => {}
        }
    }

    /// No answer can be about a change whose value nobody found, except that there was one.
    fn all_told(&self) -> bool {
        !self.untold && self.mentioned.is_subset(&self.explained)
    }
}

/// The operations to be placed: without those that certainly did nothing or of which nobody could tell.
pub(super) fn steps<'a>(operations: &[&'a Operation]) -> Vec<Step<'a>> {
    let known = Known::from(operations);
    let not_found = |operation: &Operation| match (&operation.act, &operation.answered) {
        (Act::Put { value } | Act::Swap { value, .. }, None) => !known.found.contains_key(value.as_str()),
        _ => false,
    };
    let all_told = known.all_told();
    let matters = |operation: &&&Operation| match (what(operation), &operation.act) {
        (Some(Answer::Refused), _) | (None, Act::Read | Act::Check { .. }) => false,
        _ => known.existence || !all_told || !not_found(operation),
    };
    // All values that were never found are one: nobody can tell them apart.
    let mut values = BTreeMap::new();
    let steps = operations.iter().filter(matters).map(|operation| {
        let text = match (&operation.act, what(operation)) {
            (Act::Put { value } | Act::Swap { value, .. }, _) => Some(value),
            (Act::Read, Some(Answer::Found { value, .. })) => Some(value),
            _ => None,
        };
        let next = values.len() + 2;
        let not_found = not_found(operation);
        let value = match text {
            None => 0,
            Some(_) if not_found => 1,
            Some(text) => *values.entry(text.as_str()).or_insert(next),
        };
        let revision = match (what(operation), text) {
            (Some(Answer::Done { revision }), _) => *revision,
            (None, Some(text)) if known.writers.get(text.as_str()) == Some(&1) => {
                known.found.get(text.as_str()).copied().flatten()
            }
            _ => None,
        };
        Step { operation, value, revision, unseen: not_found && all_told }
    });
    steps.collect()
}

/// What the key is after the operation; `None` if the operation could not take effect there, or not with its answer.
pub(super) fn apply(state: State, step: &Step<'_>) -> Option<State> {
    if step.unseen && state.exists() {
        return None;
    }
    let (answer, taken) = (what(step.operation), step.revision);
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
