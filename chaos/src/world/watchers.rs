//! Watchers: they list, then take events from some member, go on at another after the last revision that they have seen,
//! and list anew when they are told that history is gone. A member serves them from its newest events, and from history
//! where these do not reach back.

use std::collections::VecDeque;

use navarch_raft_contract::{AppliedBatch, Event, KeyRange, ReadError, Revision, StateReader};
use rand::Rng;

use super::{
    World,
    record::{change, item},
};
use crate::{
    Backend, Bug,
    check::history::{Seen, WatchLog},
    ledger::{Violation, demand},
};

/// Events that a member keeps; few, so that history is needed too.
const RING_EVENTS: usize = 40;
/// Of history in one portion.
const PORTION_BYTES: usize = 300;

/// The newest events of a member, as its applier handed them on.
pub(super) struct Ring {
    events: VecDeque<Event>,
    /// All events after this one are here.
    base: Revision,
    /// Up to this one.
    last: Revision,
}

impl Ring {
    pub(super) fn after(revision: Revision) -> Self {
        Self { events: VecDeque::new(), base: revision, last: revision }
    }

    /// A batch was applied.
    pub(super) fn applied(&mut self, batch: &AppliedBatch) {
        self.events.extend(batch.events.iter().cloned());
        self.last = batch.revision;
        while self.events.len() > RING_EVENTS {
            self.base = self.events.pop_front().map_or(self.base, |event| event.revision);
        }
    }

    /// Another state is in its place.
    pub(super) fn replaced(&mut self, revision: Revision) {
        *self = Self::after(revision);
    }

    /// Events of the range after a revision, and up to where that is; `None` if it does not reach back so far.
    fn read(&self, range: &KeyRange, after: Revision) -> Option<(Vec<Event>, Revision)> {
        if after < self.base {
            return None;
        }
        let wanted = |event: &&Event| event.revision > after && event.key >= range.start && event.key < range.end;
        Some((self.events.iter().filter(wanted).cloned().collect(), self.last.max(after)))
    }
}

/// See the module.
pub(super) struct Watcher {
    /// The member that serves it, and which start of it.
    connected: Option<(usize, u64)>,
    /// How far the member has looked for it.
    cursor: Revision,
    /// The last revision that it has seen; `None`: it must list.
    seen: Option<Revision>,
    /// No list may be older.
    newest: Revision,
    /// It is away until then.
    away_until: u64,
    pub log: WatchLog,
}

impl Watcher {
    /// One for all keys, one for those of clients, one for a few.
    pub(super) fn all() -> Vec<Self> {
        let prefixes = [("all", ""), ("clients", super::clients::REGISTERS), ("few", "a")];
        let watcher = |(name, prefix): (&str, &str)| {
            let log = WatchLog { watcher: name.into(), prefix: prefix.into(), seen: Vec::new() };
            Self { connected: None, cursor: 0, seen: None, newest: 0, away_until: 0, log }
        };
        prefixes.map(watcher).into()
    }

    fn range(&self) -> KeyRange {
        KeyRange::prefix(self.log.prefix.as_bytes())
    }

    fn concerns(&self, key: &[u8]) -> bool {
        key.starts_with(self.log.prefix.as_bytes())
    }

    fn saw(&mut self, revision: Revision) {
        self.seen = Some(revision);
        self.newest = self.newest.max(revision);
    }
}

fn unreadable(error: ReadError) -> Violation {
    Violation(format!("watch: {error}"))
}

impl<B: Backend> World<B> {
    /// Some watcher goes on, or goes elsewhere.
    pub(super) fn watch(&mut self) -> Result<(), Violation> {
        let watcher = self.rng.random_range(0..self.watchers.len());
        let (at, leave) = (self.rng.random_range(0..self.members.len()), self.rng.random_bool(0.35));
        let most = if self.rng.random_bool(0.2) { self.rng.random_range(0..3) } else { usize::MAX };
        // Now and then one is away for so long that history has been given up when it comes back.
        let away = self.rng.random_bool(0.02).then(|| self.rng.random_range(0..2000 * self.members.len() as u64));
        match self.watchers[watcher].connected {
            None if self.watchers[watcher].away_until > self.now => {}
            None => self.connect(watcher, at)?,
            Some((at, incarnation)) => {
                let alive = self.members[at].running.is_some() && self.members[at].incarnation == incarnation;
                // A member that is stopped says nothing, and its watcher finds that out some time.
                let spoilt = self.members[at].damage.as_ref();
                let alive = alive && spoilt.is_none_or(|(key, _)| !self.watchers[watcher].concerns(key));
                if alive && self.awake(at) {
                    self.deliver_events(watcher, at, most)?;
                }
                if leave || !alive {
                    self.watchers[watcher].connected = None;
                    self.watchers[watcher].away_until = self.now + away.unwrap_or(0);
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, which: usize, at: usize) -> Result<(), Violation> {
        let awake = self.awake(at);
        let incarnation = self.members[at].incarnation;
        // What is read of a damaged key, before anybody has noticed, nobody promises anything about.
        let whole = self.members[at].damage.as_ref().is_none_or(|(key, _)| !self.watchers[which].concerns(key));
        let Some(running) = self.members[at].running.as_ref().filter(|_| awake && whole) else { return Ok(()) };
        let watcher = &mut self.watchers[which];
        // What it has seen is not here yet: try again, perhaps elsewhere.
        if running.state.revision() < watcher.newest {
            return Ok(());
        }
        watcher.connected = Some((at, incarnation));
        let Some(seen) = watcher.seen else {
            let (page, revision) = running.state.range(&watcher.range(), None, usize::MAX).map_err(unreadable)?;
            let items = page.items.iter().map(item).collect();
            watcher.log.seen.push(Seen::Listed { revision, items });
            watcher.cursor = revision;
            watcher.saw(revision);
            self.counts.one("watch: lists");
            return Ok(());
        };
        let late = self.bug == Some(Bug::LateResume) && self.rng.random_bool(0.3);
        watcher.cursor = seen + u64::from(late && running.state.revision() > seen);
        watcher.log.seen.push(Seen::Opened { after: seen, member: format!("member {}", at + 1) });
        self.counts.one("watch: reconnects");
        Ok(())
    }

    /// Delivers up to so many of the events that are there.
    fn deliver_events(&mut self, which: usize, at: usize, most: usize) -> Result<(), Violation> {
        let Some(running) = &self.members[at].running else { return Ok(()) };
        let watcher = &mut self.watchers[which];
        let range = watcher.range();
        let read = match running.ring.read(&range, watcher.cursor) {
            Some(found) => Ok(found),
            None => {
                let state = running.state.as_ref();
                let read = StateReader::events(state, &range, watcher.cursor, PORTION_BYTES);
                self.ledger.kept(state, &watcher.log.prefix, watcher.cursor, read.is_ok())?;
                read
            }
        };
        let read = match read {
            Err(ReadError::Compacted { floor, .. }) if self.bug == Some(Bug::AnsweredBelowFloor) => {
                StateReader::events(running.state.as_ref(), &range, floor, PORTION_BYTES)
            }
            read => read,
        };
        let (events, upto) = match read {
            Ok(found) => found,
            Err(ReadError::Compacted { .. }) => {
                watcher.log.seen.push(Seen::Expired { after: watcher.cursor });
                let by_prefix = watcher.cursor >= running.state.compacted();
                self.counts.add("watch: 410 by a prefix's floor", u64::from(by_prefix));
                (watcher.seen, watcher.connected) = (None, None);
                self.counts.one("watch: 410");
                return Ok(());
            }
            Err(error) => return Err(unreadable(error)),
        };
        let all = events.len() <= most;
        for event in events.iter().take(most) {
            watcher.log.seen.push(Seen::Event(change(event)));
            watcher.saw(event.revision);
            watcher.cursor = event.revision;
            self.counts.one("watch: events");
        }
        if all {
            watcher.cursor = upto;
            if self.rng.random_bool(0.2) {
                watcher.log.seen.push(Seen::Bookmark { revision: upto });
                watcher.saw(upto);
            }
        } else {
            // The connection broke in the middle of a portion, perhaps in the middle of a transaction.
            watcher.connected = None;
        }
        Ok(())
    }

    /// In the end every watcher is served by a member that has everything.
    pub(super) fn finish_watchers(&mut self) -> Result<(), Violation> {
        let Some(at) = self.leader().map(|member| member.id as usize - 1) else { return Ok(()) };
        let revision = self.members[at].running.as_ref().map_or(0, |running| running.state.revision());
        for watcher in 0..self.watchers.len() {
            self.watchers[watcher].connected = None;
            let mut portions = 0;
            while self.watchers[watcher].connected.is_none() || self.watchers[watcher].cursor < revision {
                let before = (self.watchers[watcher].cursor, self.watchers[watcher].log.seen.len());
                match self.watchers[watcher].connected {
                    None => self.connect(watcher, at)?,
                    Some(_) => self.deliver_events(watcher, at, usize::MAX)?,
                }
                portions += 1;
                let moved = before != (self.watchers[watcher].cursor, self.watchers[watcher].log.seen.len());
                // What is missing then is for the judge to say.
                if !moved {
                    break;
                }
                demand!(portions < 100_000, "watcher {watcher} does not come to revision {revision}");
            }
        }
        Ok(())
    }
}
