//! The run, told for whoever looks for the cause of a failure.

use std::{borrow::Cow, fmt::Debug};

use super::{World, member};
use crate::{Backend, check::history::Operation, ledger::Violation, story::Story};

/// Something that was done to a member, or that it did beside its work.
pub(super) struct Happening {
    at: u64,
    /// 0: nobody in particular.
    member: u64,
    what: Cow<'static, str>,
}

fn told(operation: &Operation) -> String {
    let Operation { client, key, called, act, answered } = operation;
    match answered {
        None => format!("{called}..      client {client}: {key} {act:?}: no answer"),
        Some(answer) => {
            let store = answer.store.map(|store| format!(", from {store}")).unwrap_or_default();
            format!("{called}..{} client {client}: {key} {act:?}: {:?}{store}", answer.at, answer.what)
        }
    }
}

fn lines(items: &[impl Debug]) -> Vec<String> {
    items.iter().map(|item| format!("{item:?}")).collect()
}

impl<B: Backend> World<B> {
    pub(super) fn happened(&mut self, at: usize, what: impl Into<Cow<'static, str>>) {
        self.happenings.push(Happening { at: self.now, member: at as u64 + 1, what: what.into() });
    }

    pub(super) fn happened_to_all(&mut self, what: impl Into<Cow<'static, str>>) {
        self.happenings.push(Happening { at: self.now, member: 0, what: what.into() });
    }

    /// All that is known of the run, for the complaint about it.
    pub fn story(&self, complaint: &Violation) -> Story {
        let mut story = Story::about(&complaint.0);
        let mut now = vec![
            format!("time {}, seed {}, {} members, bug {:?}", self.now, self.seed, self.members.len(), self.bug),
            format!("entries to {}, acknowledged to {}", self.ledger.committed(), self.ledger.acknowledged),
        ];
        now.extend(self.members.iter().map(member::show));
        story.part("in the end", &now);
        let mut timed: Vec<(u64, String)> = Vec::new();
        for Happening { at, member, what } in &self.happenings {
            let who = if *member == 0 { String::new() } else { format!("member {member}: ") };
            timed.push((*at, format!("{at} ** {who}{what}")));
        }
        timed.extend(self.record.operations.iter().map(|operation| (operation.called, told(operation))));
        timed.sort_by_key(|(at, _)| *at);
        let timed: Vec<String> = timed.into_iter().map(|(_, line)| line).collect();
        story.part("what was done to members (**), and what clients called and were answered", &timed);
        for watcher in &self.watchers {
            let name = format!("watcher {:?} of {:?}", watcher.log.watcher, watcher.log.prefix);
            story.part(&name, &lines(&watcher.log.seen));
        }
        story.part("reads not older than a revision", &lines(&self.record.reads));
        story.part("reads of the past", &lines(&self.record.past));
        story.part("writes that carry a term, as they were applied", &lines(&self.record.fenced));
        story
    }
}
