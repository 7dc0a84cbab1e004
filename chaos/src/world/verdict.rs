//! The end of a run: the judges read what was recorded.

use navarch_raft_contract::{EventKind, Index, KeyRange};

use super::{
    World,
    clients::REGISTERS,
    leaders::HOLDER,
    record::{item, text},
};
use crate::{
    Backend,
    check::{
        Fault, durability, fencing,
        history::{Change, Item, Kind, WatchLog},
        linearizability, retention, sessions,
        truth::Truth,
        watch::{self, Expect},
    },
    ledger::Violation,
};

/// Placements for one key: histories here are short, and this is some tenths of a second.
const STEPS_MAX: u64 = 400_000;

impl<B: Backend> World<B> {
    /// All judges.
    pub(super) fn judge(&mut self) -> Result<(), Violation> {
        self.finish_watchers()?;
        self.verdict().map_err(|fault| Violation(fault.to_string()))
    }

    fn verdict(&mut self) -> Result<(), Fault> {
        fencing::check(&self.record.fenced)?;
        let truth = Truth::new(1, &[], &self.history())?;
        let logs: Vec<WatchLog> = self.watchers.iter_mut().map(|watcher| std::mem::take(&mut watcher.log)).collect();
        let floors = self.ledger.model.floors_after(Index::MAX);
        let expect = Expect { complete_to: Some(self.ledger.model.revision), floors: Some(&floors) };
        let watched = watch::check(&truth, &logs, expect);
        self.watchers.iter_mut().zip(logs).for_each(|(watcher, log)| watcher.log = log);
        watched?;
        retention::check(&truth, &self.record.past, &floors)?;
        let placements = linearizability::check(&self.record.operations, STEPS_MAX)?;
        self.counts.add("placements tried by the judge of linearizability", placements);
        sessions::check_order(&self.record.operations)?;
        sessions::check_reads(&truth, &self.record.reads)?;
        for prefix in [REGISTERS, HOLDER] {
            durability::check_history(&self.record.operations, prefix, &truth)?;
            for state in self.states(prefix) {
                durability::check_state(&self.record.operations, prefix, &state)?;
            }
        }
        Ok(())
    }

    /// Every change that was ever made, by the model.
    fn history(&self) -> Vec<Change> {
        let versions = self.ledger.model.keys.iter();
        let all = versions.flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)));
        let mut changes: Vec<Change> = all
            .map(|(key, (revision, version))| {
                let kind = match (version.kind, version.previous) {
                    (EventKind::Delete, _) => Kind::Deleted,
                    (EventKind::Put, 0) => Kind::Added,
                    (EventKind::Put, _) => Kind::Modified,
                };
                let (value, previous) = (text(&version.value), Some(version.previous));
                Change { revision: *revision, key: text(key), kind, value, previous }
            })
            .collect();
        changes.sort_by_key(|change| change.revision);
        changes
    }

    /// What the members have that have everything.
    fn states(&self, prefix: &str) -> Vec<Vec<Item>> {
        let whole = self.members.iter().filter(|member| member.applied() >= self.ledger.committed());
        let running = whole.filter_map(|member| member.running.as_ref());
        let read = running.filter_map(|running| {
            let (page, _) = running.state.range(&KeyRange::prefix(prefix.as_bytes()), None, usize::MAX).ok()?;
            Some(page.items.iter().map(item).collect())
        });
        read.collect()
    }
}
