//! Clients that write, read and read again through any member, as an API server's callers do: guaranteed updates (read,
//! then change if nothing changed meanwhile), transactions over two keys, linearizable reads, and reads "not older than".

use bytes::Bytes;
use navarch_raft_contract::{Command, CommandBody, Compare, KeyRange, Op, OpKind, Outcome, Txn};
use navarch_raft_driver::Input;
use rand::Rng;

use super::{
    World,
    pages::{Pages, Turn},
    record::item,
};
use crate::{
    Backend, Bug,
    check::history::{Act, Answer, SessionRead},
    ledger::Violation,
    network::{Reply, Request},
};

/// Few, so that clients meet.
const KEYS: [&str; 4] = ["r/0", "r/1", "r/2", "r/3"];
/// What clients write lies under this, and nobody else writes there.
pub(super) const REGISTERS: &str = "r/";
/// Choices for each member after which a client takes its request for lost.
const PATIENCE: u64 = 400;
/// Rounds of healing after which clients give up what is not answered: their member is none any more.
const ROUNDS_MAX: usize = 60;

/// Who waits for a request.
pub(super) struct Doing {
    client: Option<usize>,
    /// What it is in the record, in the order of the transaction.
    operations: Vec<usize>,
}

impl Doing {
    /// The leader's own work.
    pub(super) fn leader(operation: usize) -> Self {
        Self { client: None, operations: vec![operation] }
    }
}

/// What a client waits for.
#[derive(Clone, Copy)]
enum Busy {
    Write { request: u64 },
    Read { read: u64, operation: usize },
    Session { asked: u64 },
    Pages,
}

/// One client. It does one thing at a time.
pub(super) struct Client {
    id: u64,
    member: usize,
    busy: Option<Busy>,
    since: u64,
    /// The list that it reads page by page.
    pages: Option<Pages>,
    /// The newest revision that it came across.
    seen: u64,
    /// The key whose change was refused, to be tried again.
    again: Option<&'static str>,
    written: u64,
}

impl Client {
    pub(super) fn new(id: u64) -> Self {
        Self { id, member: 0, busy: None, since: 0, pages: None, seen: 0, again: None, written: 0 }
    }
}

/// A transaction that does what the operations say: the compares of those that expect something, then the changes.
fn transaction(acts: &[(&'static str, Act)]) -> Txn {
    let mut txn = Txn::default();
    for (key, act) in acts {
        let key = Bytes::from_static(key.as_bytes());
        let (expected, change) = match act {
            Act::Read => (None, None),
            Act::Put { value } => (None, Some((OpKind::Put, value.clone()))),
            Act::Swap { expected, value } => (Some(*expected), Some((OpKind::Put, value.clone()))),
            Act::Delete { expected } => (*expected, Some((OpKind::Delete, String::new()))),
            Act::Check { expected } => (Some(*expected), None),
        };
        txn.compares.extend(expected.map(|mod_revision| Compare { key: key.clone(), mod_revision }));
        let op = |(kind, value): (OpKind, String)| Op { kind: kind as i32, key, value: value.into(), expires_at_ms: 0 };
        txn.ops.extend(change.map(op));
    }
    txn
}

/// What a transaction's outcome means for each of its operations.
fn answers(acts: &[Act], outcome: &Outcome) -> Vec<Answer> {
    match outcome {
        Outcome::Done { first, last, .. } => {
            let mut next = *first;
            let answer = acts.iter().map(|act| match act {
                Act::Check { .. } | Act::Read => Answer::Held,
                Act::Delete { .. } if next > *last => Answer::Absent,
                _ => {
                    next += 1;
                    Answer::Done { revision: Some(next - 1) }
                }
            });
            answer.collect()
        }
        Outcome::Conflict { compare, actual, .. } => {
            let mut position = 0;
            let answer = acts.iter().map(|act| {
                let expects = matches!(act, Act::Swap { .. } | Act::Check { .. } | Act::Delete { expected: Some(_) });
                position += usize::from(expects);
                if expects && position == compare + 1 {
                    Answer::Conflict { actual: Some(*actual) }
                } else {
                    Answer::Refused
                }
            });
            answer.collect()
        }
        Outcome::Fenced { .. } => vec![Answer::Refused; acts.len()],
    }
}

impl<B: Backend> World<B> {
    /// Some client goes on, or begins something.
    pub(super) fn use_client(&mut self) -> Result<(), Violation> {
        let client = self.rng.random_range(0..self.clients.len());
        if self.clients[client].busy.is_some() {
            return self.go_on(client, PATIENCE * self.members.len() as u64);
        }
        let elsewhere = self.rng.random_bool(0.3);
        let at = self.clients[client].member;
        if elsewhere || self.members[at].running.is_none() || !self.awake(at) {
            self.clients[client].member = self.rng.random_range(0..self.members.len());
            return Ok(());
        }
        self.begin(client, at)
    }

    /// In the end, a client takes the answer that it waits for.
    pub(super) fn finish_client(&mut self, client: usize) -> Result<(), Violation> {
        self.go_on(client, u64::MAX)
    }

    /// Whether no client waits any more. In time they give up.
    pub(super) fn clients_rest(&mut self, round: usize) -> Result<bool, Violation> {
        if round > ROUNDS_MAX {
            (0..self.clients.len()).try_for_each(|client| self.give_up(client))?;
        }
        Ok(self.clients.iter().all(|client| client.busy.is_none()))
    }

    fn begin(&mut self, client: usize, at: usize) -> Result<(), Violation> {
        self.clients[client].since = self.now;
        match self.rng.random_range(0..20) {
            0..4 => return self.begin_read(client, at),
            4..6 => {
                self.clients[client].busy = Some(Busy::Session { asked: self.clients[client].seen });
                return Ok(());
            }
            6 => {
                self.clients[client].busy = Some(Busy::Pages);
                self.clients[client].pages = Some(Pages::after(self.clients[client].seen));
                return Ok(());
            }
            _ => {}
        }
        let first = self.rng.random_range(0..KEYS.len());
        let key = self.clients[client].again.take().unwrap_or(KEYS[first]);
        let other = KEYS[(first + 1) % KEYS.len()];
        let expected = self.last_change(at, key)?;
        let value = self.value(client);
        let acts = match self.rng.random_range(0..16) {
            0..9 => vec![(key, Act::Swap { expected, value })],
            9 | 10 => vec![(key, Act::Put { value })],
            11 if expected > 0 => vec![(key, Act::Delete { expected: Some(expected) })],
            11 | 12 => vec![(key, Act::Delete { expected: None })],
            _ if key == other => vec![(key, Act::Swap { expected, value })],
            kind => {
                let there = self.last_change(at, other)?;
                let act = match kind {
                    13 => Act::Check { expected: there },
                    14 if there > 0 => Act::Delete { expected: Some(there) },
                    _ => Act::Swap { expected: there, value: self.value(client) },
                };
                vec![(key, Act::Swap { expected, value }), (other, act)]
            }
        };
        self.begin_write(client, at, &acts);
        Ok(())
    }

    fn value(&mut self, client: usize) -> String {
        let client = &mut self.clients[client];
        client.written += 1;
        format!("{}-{}", client.id, client.written)
    }

    /// As the member has it, which may be long ago.
    fn last_change(&self, at: usize, key: &str) -> Result<u64, Violation> {
        let Some(running) = &self.members[at].running else { return Ok(0) };
        let found = running.state.get(key.as_bytes(), None);
        let found = found.map_err(|error| Violation(format!("a read of {key}: {error}")))?;
        Ok(found.map_or(0, |found| found.mod_revision))
    }

    fn begin_write(&mut self, client: usize, at: usize, acts: &[(&'static str, Act)]) {
        let (now, id) = (self.now, self.clients[client].id);
        let operations = acts.iter().map(|(key, act)| self.record.call(id, key, now, act.clone())).collect();
        let request = self.new_id();
        self.record.waiting.insert(request, Doing { client: Some(client), operations });
        self.clients[client].busy = Some(Busy::Write { request });
        let commands = vec![Command { fence_term: 0, body: Some(CommandBody::Txn(transaction(acts))) }];
        let origin = self.members[at].id;
        self.submit(at, Request { id: request, origin, commands });
    }

    /// What became of a request reaches the member where it was made.
    pub(super) fn replied(&mut self, at: usize, request: u64, reply: Reply) {
        if self.members[at].running.is_none() {
            return;
        }
        let Some(doing) = self.record.waiting.remove(&request) else { return };
        let acts: Vec<Act> =
            doing.operations.iter().map(|operation| self.record.operations[*operation].act.clone()).collect();
        let found = match &reply {
            Reply::Applied(outcomes) => outcomes.first().map(|outcome| answers(&acts, outcome)),
            Reply::Refused => Some(vec![Answer::Refused; acts.len()]),
            Reply::Unknown => None,
        };
        let Some(found) = found else {
            self.counts.one("client: no answer");
            doing.client.into_iter().for_each(|client| self.clients[client].busy = None);
            return;
        };
        for (operation, answer) in doing.operations.iter().zip(found) {
            if let Some(client) = doing.client {
                self.note(client, *operation, &answer);
            }
            self.record.answer(*operation, self.now, answer, None);
        }
        doing.client.into_iter().for_each(|client| self.clients[client].busy = None);
    }

    fn note(&mut self, client: usize, operation: usize, answer: &Answer) {
        let client = &mut self.clients[client];
        match answer {
            Answer::Done { revision } => {
                client.seen = client.seen.max(revision.unwrap_or(0));
                self.counts.one("client: acknowledged writes");
            }
            Answer::Conflict { .. } => {
                let key = &self.record.operations[operation].key;
                client.again = KEYS.into_iter().find(|known| known == key);
            }
            _ => {}
        }
    }

    fn begin_read(&mut self, client: usize, at: usize) -> Result<(), Violation> {
        let key = KEYS[self.rng.random_range(0..KEYS.len())];
        let operation = self.record.call(self.clients[client].id, key, self.now, Act::Read);
        if self.bug == Some(Bug::StaleRead) {
            return self.serve(client, operation);
        }
        let read = self.new_id();
        self.clients[client].busy = Some(Busy::Read { read, operation });
        let must_see = self.ledger.acknowledged;
        if let Some(running) = &mut self.members[at].running {
            running.reads.insert(read, must_see);
        }
        self.step(at, vec![Input::Read { id: read }])
    }

    /// Answers a read from what its member has.
    fn serve(&mut self, client: usize, operation: usize) -> Result<(), Violation> {
        let Some(running) = &self.members[self.clients[client].member].running else { return Ok(()) };
        let found = running.state.get(self.record.operations[operation].key.as_bytes(), None);
        let found = found.map_err(|error| Violation(format!("a read: {error}")))?;
        let store = running.state.revision();
        let answer = found.map_or(Answer::Absent, |found| {
            let item = item(&found);
            Answer::Found { value: item.value, revision: item.revision }
        });
        self.record.answer(operation, self.now, answer, Some(store));
        self.counts.one("client: reads");
        let client = &mut self.clients[client];
        (client.busy, client.seen) = (None, client.seen.max(store));
        Ok(())
    }

    fn go_on(&mut self, client: usize, patience: u64) -> Result<(), Violation> {
        let &Client { member, busy: Some(busy), since, .. } = &self.clients[client] else { return Ok(()) };
        if self.now - since > patience {
            return self.give_up(client);
        }
        if !self.awake(member) {
            return Ok(());
        }
        let Some(running) = &mut self.members[member].running else {
            // Its connection broke.
            return self.give_up(client);
        };
        match busy {
            Busy::Write { .. } => Ok(()),
            Busy::Read { read, operation } => match running.readable.get(&read) {
                Some(index) if running.state.applied().index >= *index => {
                    running.readable.remove(&read);
                    self.serve(client, operation)
                }
                None if !running.reads.contains_key(&read) => self.give_up(client),
                _ => Ok(()),
            },
            Busy::Session { asked } if running.state.revision() >= asked => self.serve_session(client, asked),
            Busy::Session { .. } => Ok(()),
            Busy::Pages => self.next_page(client),
        }
    }

    /// The next page, and the next one perhaps from another member; whoever serves it must have the list's revision.
    fn next_page(&mut self, client: usize) -> Result<(), Violation> {
        let elsewhere = self.rng.random_range(0..self.members.len());
        let this = &mut self.clients[client];
        let Some(running) = &self.members[this.member].running else { return Ok(()) };
        let Some(mut pages) = this.pages.take() else { return Ok(()) };
        match pages.read(running.state.as_ref())? {
            Turn::Wait | Turn::More => {
                this.pages = Some(pages);
                this.member = elsewhere;
                return Ok(());
            }
            Turn::Gone => self.counts.one("client: paged lists cut off by compaction"),
            Turn::Done(store) => {
                let (asked, items) = (pages.asked, pages.items);
                let read = SessionRead { client: this.id, asked, store, prefix: REGISTERS.into(), items };
                this.seen = this.seen.max(store);
                self.record.reads.push(read);
                self.counts.one("client: paged lists");
            }
        }
        self.clients[client].busy = None;
        Ok(())
    }

    fn serve_session(&mut self, client: usize, asked: u64) -> Result<(), Violation> {
        let Some(running) = &self.members[self.clients[client].member].running else { return Ok(()) };
        let read = running.state.range(&KeyRange::prefix(REGISTERS.as_bytes()), None, usize::MAX);
        let (page, store) = read.map_err(|error| Violation(format!("a list: {error}")))?;
        let items = page.items.iter().map(item).collect();
        let id = self.clients[client].id;
        self.record.reads.push(SessionRead { client: id, asked, store, prefix: REGISTERS.into(), items });
        self.counts.one("client: reads not older than");
        let client = &mut self.clients[client];
        (client.busy, client.seen) = (None, client.seen.max(store));
        Ok(())
    }

    /// The client waits no longer; what it asked for stays open.
    fn give_up(&mut self, client: usize) -> Result<(), Violation> {
        match self.clients[client].busy.take() {
            Some(Busy::Write { request }) => {
                self.record.waiting.remove(&request);
                self.counts.one("client: no answer");
                Ok(())
            }
            Some(Busy::Read { read, .. }) if self.awake(self.clients[client].member) => {
                self.step(self.clients[client].member, vec![Input::ForgetRead { id: read }])
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_a_transaction_are_those_of_its_operations() {
        let swap = || Act::Swap { expected: 3, value: "x".into() };
        let (check, delete) = (Act::Check { expected: 5 }, |expected| Act::Delete { expected });
        let done = |revision| Answer::Done { revision: Some(revision) };
        let finished = |first, last| Outcome::Done { index: 1, first, last };
        let conflict = |compare| Outcome::Conflict { index: 1, compare, actual: 9 };
        let met = || Answer::Conflict { actual: Some(9) };
        assert_eq!(answers(&[swap(), check.clone()], &finished(7, 7)), [done(7), Answer::Held]);
        assert_eq!(answers(&[swap(), delete(Some(5))], &finished(7, 8)), [done(7), done(8)]);
        assert_eq!(answers(&[delete(None)], &finished(7, 6)), [Answer::Absent]);
        assert_eq!(answers(&[swap(), check.clone()], &conflict(0)), [met(), Answer::Refused]);
        assert_eq!(answers(&[swap(), check.clone()], &conflict(1)), [Answer::Refused, met()]);
        assert_eq!(answers(&[Act::Put { value: "x".into() }, check], &conflict(0)), [Answer::Refused, met()]);
        assert_eq!(answers(&[swap()], &Outcome::Fenced { term: 2 }), [Answer::Refused]);
    }
}
