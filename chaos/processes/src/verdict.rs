//! What happened is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use navarch_chaos::check::history::{Change, Item, Operation, Seen, WatchLog};
use navarch_chaos::check::truth::Truth;
use navarch_chaos::check::{durability, linearizability, recorder, sessions, watch};

use crate::load::{ONCE, REGISTERS};

/// All that was recorded.
pub struct Evidence {
    /// What clients did.
    pub operations: Vec<Operation>,
    /// What watchers saw.
    pub watchers: Vec<WatchLog>,
    /// What is there at the end, as each member tells it, with the revision.
    pub finals: Vec<(u64, Vec<Item>)>,
    /// The state before anything was done, and its revision.
    pub first: (u64, Vec<Item>),
}

impl Evidence {
    /// Reads what was recorded.
    ///
    /// # Panics
    /// If the files cannot be read.
    pub fn read(operations: &Path, sights: &Path, first: (u64, Vec<Item>), finals: Vec<(u64, Vec<Item>)>) -> Self {
        let open = |path: &Path| BufReader::new(File::open(path).unwrap());
        Self {
            operations: recorder::operations(open(operations)).unwrap(),
            watchers: recorder::watch_logs(open(sights)).unwrap(),
            finals,
            first,
        }
    }

    /// Every event that any watcher saw. They must agree.
    fn changes(&self) -> Result<Vec<Change>, String> {
        let mut changes: BTreeMap<u64, &Change> = BTreeMap::new();
        for log in &self.watchers {
            for seen in &log.seen {
                let Seen::Event(change) = seen else { continue };
                let before = changes.insert(change.revision, change);
                if let Some(before) = before.filter(|before| *before != change) {
                    return Err(format!("watcher {:?} saw {change:?}, another one {before:?}", log.watcher));
                }
            }
        }
        Ok(changes.into_values().filter(|change| change.revision > self.first.0).cloned().collect())
    }

    /// Judges. Returns what was found to be true, a line each.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub fn judge(&self) -> Result<Vec<String>, String> {
        let told = |fault: navarch_chaos::check::Fault| fault.to_string();
        let mut lines = Vec::new();
        let tried = linearizability::check(&self.of(REGISTERS), linearizability::STEPS_MAX).map_err(told)?;
        let registers = self.of(REGISTERS).len();
        lines.push(format!("linearizable: {registers} operations on registers, {tried} placements tried"));
        sessions::check_order(&self.operations).map_err(told)?;
        lines.push("revisions follow the clock: no answer from an earlier state than one that came before".to_owned());
        let members: BTreeSet<&Vec<Item>> = self.finals.iter().map(|(_, items)| items).collect();
        if members.len() > 1 {
            return Err("members differ in what is there at the end".to_owned());
        }
        let Some((last, state)) = self.finals.first() else { return Err("no member told its state".to_owned()) };
        for prefix in [REGISTERS, ONCE] {
            durability::check_state(&self.of(prefix), prefix, state).map_err(told)?;
        }
        lines.push(format!("durable: {} objects at the end, the same at {} members", state.len(), self.finals.len()));
        let truth = Truth::new(self.first.0, &self.first.1, &self.changes()?).map_err(told)?;
        for prefix in [REGISTERS, ONCE] {
            durability::check_history(&self.of(prefix), prefix, &truth).map_err(told)?;
        }
        lines.push(format!("history: every acknowledged write is in it, {} to {}", truth.base(), truth.last()));
        let at_end = truth.at("", truth.last()).unwrap_or_default();
        if by_key(&at_end) != by_key(state) {
            return Err("the history does not lead to the state that is there at the end".to_owned());
        }
        let expect = watch::Expect { complete_to: Some((*last).min(truth.last())), floors: None };
        watch::check(&truth, &self.watchers, expect).map_err(told)?;
        let events: usize =
            self.watchers.iter().map(|log| log.seen.iter().filter(|seen| matches!(seen, Seen::Event(_))).count()).sum();
        lines.push(format!("watches: {} watchers, {events} events, each once and in order", self.watchers.len()));
        Ok(lines)
    }

    fn of(&self, prefix: &str) -> Vec<Operation> {
        self.operations.iter().filter(|operation| operation.key.starts_with(prefix)).cloned().collect()
    }
}

fn by_key(items: &[Item]) -> BTreeMap<&str, (&str, u64)> {
    items.iter().map(|item| (item.key.as_str(), (item.value.as_str(), item.revision))).collect()
}
