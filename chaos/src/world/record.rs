//! What clients, watchers and the applier wrote down, for the judges.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use navarch_raft_contract::{
    Applied, Batch, CommandBody, CommittedEntry, Event, EventKind, Index, KeyValue, Outcome, Payload,
};

use super::clients::Doing;
use crate::{
    check::history::{Act, Answer, Answered, Change, FencedWrite, Item, Kind, Operation, PastRead, SessionRead},
    counts::Counts,
};

/// See the module.
#[derive(Default)]
pub(super) struct Record {
    pub operations: Vec<Operation>,
    pub reads: Vec<SessionRead>,
    pub past: Vec<PastRead>,
    pub fenced: Vec<FencedWrite>,
    /// The last entry of which the fences are written down.
    fenced_to: Index,
    /// Requests that somebody waits for, and what for.
    pub waiting: BTreeMap<u64, Doing>,
}

impl Record {
    /// An operation is called. Its place, for the answer.
    pub(super) fn call(&mut self, client: u64, key: &str, now: u64, act: Act) -> usize {
        self.operations.push(Operation { client, key: key.into(), called: now, act, answered: None });
        self.operations.len() - 1
    }

    /// It is answered.
    pub(super) fn answer(&mut self, operation: usize, now: u64, what: Answer, store: Option<u64>) {
        self.operations[operation].answered = Some(Answered { at: now, what, store });
    }

    /// Entries were applied by some member; the first to do so says what became of fences.
    pub(super) fn applied(&mut self, entries: &[CommittedEntry], applied: &Applied, counts: &mut Counts) {
        for (entry, outcomes) in entries.iter().zip(&applied.outcomes) {
            if entry.index <= self.fenced_to {
                continue;
            }
            self.fenced_to = entry.index;
            let Payload::Commands(data) = &entry.payload else { continue };
            let Ok(batch) = Batch::from_bytes(data.clone()) else { continue };
            for (command, outcome) in batch.commands.iter().zip(outcomes) {
                let refused = matches!(outcome, Outcome::Fenced { .. });
                counts.add("fenced refusals", u64::from(refused));
                let check = matches!(command.body, Some(CommandBody::Check(_)));
                counts.add("checks made", u64::from(check && !refused));
                counts.add("conflicts", u64::from(matches!(outcome, Outcome::Conflict { .. })));
                self.fenced.push(FencedWrite {
                    position: entry.index,
                    fence: command.fence_term,
                    entry_term: Some(entry.term),
                    applied: !refused,
                });
            }
        }
    }
}

/// Bytes as text, one to one; long ones by their length and a hash.
pub(super) fn text(bytes: &[u8]) -> String {
    if bytes.len() <= 64 {
        return bytes.escape_ascii().to_string();
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes, {:016x}", bytes.len(), hasher.finish())
}

/// A stored key as judges read it.
pub(super) fn item(stored: &KeyValue) -> Item {
    Item { key: text(&stored.key), value: text(&stored.value), revision: stored.mod_revision }
}

/// An event as judges read it.
pub(super) fn change(event: &Event) -> Change {
    let kind = match (event.kind, event.prev_revision) {
        (EventKind::Delete, _) => Kind::Deleted,
        (EventKind::Put, 0) => Kind::Added,
        (EventKind::Put, _) => Kind::Modified,
    };
    let (revision, previous) = (event.revision, Some(event.prev_revision));
    Change { revision, key: text(&event.key), kind, value: text(&event.value), previous }
}
