//! What commands must come to, written once more, as plainly as can be: every version of every key in one map, nothing
//! forgotten. Shares no code with `storage`.

use std::collections::BTreeMap;

use bytes::Bytes;
use navarch_raft_contract::{Command, CommandBody, Compare, EventKind, Index, Op, OpKind, Outcome, Revision, Term};

use crate::check::retention::Floors;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The value; for a delete, the last one.
    pub value: Bytes,
    /// Put, or delete.
    pub kind: EventKind,
    /// When the key was created.
    pub created: Revision,
    /// The key's change before.
    pub previous: Revision,
    /// When it may be expired, 0: never.
    pub expires_at_ms: u64,
    /// The entry it came from.
    pub index: Index,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All versions, by key and revision.
    pub keys: BTreeMap<Bytes, BTreeMap<Revision, Version>>,
    /// Last revision taken.
    pub revision: Revision,
    /// Compaction floors, by the entry that raised them.
    pub floors: BTreeMap<Index, Floors>,
    /// Revision after each entry.
    pub revisions: BTreeMap<Index, Revision>,
    /// Ends of transactions.
    pub ends: Vec<Revision>,
}

impl Model {
    /// The empty store.
    pub fn new() -> Self {
        Self { revision: 1, floors: [(0, Floors::default())].into(), revisions: [(0, 1)].into(), ..Self::default() }
    }

    /// A key's last change and whether it exists.
    pub fn modified(&self, key: &Bytes) -> Revision {
        self.living(key, self.revision).map_or(0, |(revision, _)| revision)
    }

    /// The version of a key that is alive at a revision.
    pub fn living(&self, key: &Bytes, at: Revision) -> Option<(Revision, &Version)> {
        let (revision, version) = self.keys.get(key)?.range(..=at).next_back()?;
        (version.kind == EventKind::Put).then_some((*revision, version))
    }

    /// The floors after an entry.
    pub fn floors_after(&self, index: Index) -> Floors {
        self.floors.range(..=index).next_back().map(|(_, floors)| floors.clone()).unwrap_or_default()
    }

    /// All keys with a prefix that are alive at a revision.
    pub fn list(&self, prefix: &str, at: Revision) -> Vec<(Bytes, Bytes, Revision, Revision)> {
        let keys = self.keys.keys().filter(|key| key.starts_with(prefix.as_bytes()));
        let living = keys.filter_map(|key| {
            let (revision, version) = self.living(key, at)?;
            Some((key.clone(), version.value.clone(), version.created, revision))
        });
        living.collect()
    }

    /// Applies an entry.
    pub fn apply(&mut self, index: Index, term: Term, commands: &[Command]) -> Vec<Outcome> {
        let outcomes = commands.iter().map(|command| self.command(index, term, command)).collect();
        self.revisions.insert(index, self.revision);
        outcomes
    }

    fn command(&mut self, index: Index, term: Term, command: &Command) -> Outcome {
        if command.fence_term != 0 && command.fence_term != term {
            return Outcome::Fenced { term };
        }
        let first = self.revision + 1;
        match &command.body {
            Some(CommandBody::Txn(txn)) => {
                for (compare, Compare { key, mod_revision }) in txn.compares.iter().enumerate() {
                    let actual = self.modified(key);
                    if actual != *mod_revision {
                        return Outcome::Conflict { index, compare, actual };
                    }
                }
                for op in &txn.ops {
                    self.change(index, op);
                }
            }
            Some(CommandBody::Compact(compact)) => {
                let mut floors = self.floors_after(index);
                floors.all = floors.all.max(compact.floor.min(self.revision));
                for at in &compact.prefixes {
                    floors.raise(&String::from_utf8_lossy(&at.prefix), at.floor.min(self.revision));
                }
                self.floors.insert(index, floors);
            }
            Some(CommandBody::Expire(expire)) => {
                for Compare { key, mod_revision } in &expire.keys {
                    if *mod_revision != 0 && self.modified(key) == *mod_revision {
                        self.change(index, &Op { kind: OpKind::Delete as i32, key: key.clone(), ..Op::default() });
                    }
                }
            }
            // They change nothing.
            Some(CommandBody::Check(_) | CommandBody::Witness(_)) | None => {}
        }
        if self.revision >= first {
            self.ends.push(self.revision);
        }
        Outcome::Done { index, first, last: self.revision }
    }

    fn change(&mut self, index: Index, op: &Op) {
        let old = self.living(&op.key, self.revision).map(|(revision, version)| (revision, version.clone()));
        let put = op.kind == OpKind::Put as i32;
        if old.is_none() && !put {
            return;
        }
        self.revision += 1;
        let (previous, old) = old.map_or((0, None), |(revision, version)| (revision, Some(version)));
        let version = Version {
            value: match (&old, put || !op.value.is_empty()) {
                (Some(old), false) => old.value.clone(),
                _ => op.value.clone(),
            },
            kind: if put { EventKind::Put } else { EventKind::Delete },
            created: old.as_ref().map_or(self.revision, |old| old.created),
            previous,
            expires_at_ms: if put { op.expires_at_ms } else { 0 },
            index,
        };
        self.keys.entry(op.key.clone()).or_default().insert(self.revision, version);
    }
}
