//! The core alone: effects asserted for inputs. Crashes are in `chaos/`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use navarch_raft_contract::{
    Bootstrap, ConfState, HardState, LogBatch, LogCounters, LogEntry, LogError, LogState, LogStore, Payload,
};
use parking_lot::Mutex;
use raft::eraftpb::MessageType;

use super::*;
use crate::recover::Recovered;

#[derive(Default)]
pub(crate) struct MemoryLog(Mutex<Vec<LogEntry>>);

impl LogStore for MemoryLog {
    fn state(&self) -> Result<LogState, LogError> {
        Ok(LogState::default())
    }
    fn entries(&self, low: u64, high: u64, _: usize) -> Result<Vec<LogEntry>, LogError> {
        let log = self.0.lock();
        Ok(log.iter().filter(|entry| (low..high).contains(&entry.index)).cloned().collect())
    }
    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        Ok(self.0.lock().iter().find(|entry| entry.index == index).map(|entry| entry.term))
    }
    fn bootstrap(&self, _: &Bootstrap) -> Result<(), LogError> {
        Ok(())
    }
    fn append(&self, batch: &LogBatch) -> Result<(), LogError> {
        self.0.lock().extend(batch.entries.iter().cloned());
        Ok(())
    }
    fn compact(&self, _: u64) -> Result<(), LogError> {
        Ok(())
    }
    fn reset(&self, _: u64, _: u64) -> Result<(), LogError> {
        Ok(())
    }
    fn counters(&self) -> LogCounters {
        LogCounters::default()
    }
}

fn config(member: u64) -> CoreConfig {
    CoreConfig { seed: 5, ..crate::Config::single(member, "test").core() }
}

fn core_of(voters: &[u64], log: Arc<MemoryLog>, last_index: u64, applied: u64) -> Core {
    let from = Recovered {
        prefix_index: 0,
        prefix_term: 0,
        last_index,
        hard_state: HardState { term: 1, vote: 0, commit: applied },
        members: ConfState { voters: voters.to_vec(), ..ConfState::default() },
        applied,
        rebuilding: false,
    };
    Core::new(config(1), log, &from).unwrap()
}

fn alone() -> Core {
    core_of(&[1], Arc::default(), 0, 0)
}

fn step(core: &mut Core, input: Input) -> Effects {
    core.step([input]).unwrap()
}

fn propose(id: u64, data: &str) -> Input {
    Input::Propose { id, data: data.into() }
}

/// Makes it lead, with its first entry on the disk and applied.
fn lead(core: &mut Core) {
    let effects = step(core, Input::Campaign);
    let number = effects.persist.last().unwrap().number;
    let effects = step(core, Input::Persisted { number });
    assert_eq!(effects.committed.len(), 1);
    step(core, Input::Applied { index: 1 });
}

#[test]
fn the_only_member_leads_at_once_and_commits_nothing_before_it_is_on_the_disk() {
    let mut core = alone();
    assert!(core.alone());
    let effects = step(&mut core, Input::Campaign);
    let leadership = Leadership { term: 2, leader: Some(1), leading: true, term_start: 1 };
    assert_eq!(effects.leadership, Some(leadership));
    assert!(effects.committed.is_empty() && effects.messages.is_empty());
    let written = effects.persist;
    let votes: Vec<_> =
        written.iter().filter_map(|persist| persist.batch.hard_state).map(|hs| (hs.term, hs.vote)).collect();
    assert_eq!(votes, [(2, 1)]);
    let effects = step(&mut core, Input::Persisted { number: written.last().unwrap().number });
    assert_eq!(
        effects.committed.iter().map(|entry| (entry.index, &entry.payload)).collect::<Vec<_>>(),
        [(1, &Payload::Empty)]
    );
    assert!(effects.persist.is_empty(), "a commit index alone is not worth a write");
}

#[test]
fn proposals_are_written_in_order_and_committed_when_reported() {
    let mut core = alone();
    lead(&mut core);
    let first = step(&mut core, propose(10, "a"));
    assert_eq!(first.proposed, [(10, Ok((2, 2)))]);
    let second = core.step([propose(11, "b"), propose(12, "c")]).unwrap();
    assert_eq!(second.proposed, [(11, Ok((3, 2))), (12, Ok((4, 2)))]);
    let (first, second) = (&first.persist[0], &second.persist[0]);
    assert_eq!((first.batch.entries.len(), second.batch.entries.len()), (1, 2));
    assert!(first.number < second.number);
    let effects = step(&mut core, Input::Persisted { number: first.number });
    assert_eq!(effects.committed.len(), 1);
    let effects = step(&mut core, Input::Persisted { number: second.number });
    let committed: Vec<_> = effects.committed.iter().map(|entry| entry.index).collect();
    assert_eq!(committed, [3, 4]);
    assert_eq!(core.committed(), 4);
}

#[test]
fn who_does_not_lead_refuses() {
    let mut core = core_of(&[1, 2, 3], Arc::default(), 0, 0);
    let effects = step(&mut core, propose(1, "a"));
    assert_eq!(effects.proposed, [(1, Err(Rejected::NotLeader { leader: None }))]);
    assert!(effects.persist.is_empty());
}

#[test]
fn more_than_may_be_uncommitted_is_refused() {
    let mut settings = config(1);
    (settings.uncommitted_bytes_max, settings.message_bytes_max) = (100, 50);
    let mut core = alone();
    core = Core::new(
        settings,
        Arc::<MemoryLog>::default(),
        &Recovered {
            prefix_index: 0,
            prefix_term: 0,
            last_index: 0,
            hard_state: HardState::default(),
            members: core.node.store().initial_members(),
            applied: 0,
            rebuilding: false,
        },
    )
    .unwrap();
    lead(&mut core);
    let big = "x".repeat(90);
    let effects = core.step([propose(1, &big), propose(2, &big)]).unwrap();
    assert!(effects.proposed[0].1.is_ok());
    assert_eq!(effects.proposed[1].1, Err(Rejected::Busy));
}

#[test]
fn reads_wait_until_the_leader_has_committed_in_its_term() {
    let mut core = alone();
    let effects = core.step([Input::Read { id: 7 }, Input::Campaign]).unwrap();
    assert!(effects.reads.is_empty());
    let number = effects.persist.last().unwrap().number;
    let mut effects = step(&mut core, Input::Persisted { number });
    effects.reads.extend(core.step([]).unwrap().reads);
    assert_eq!(effects.reads, [(7, 1)]);
    assert_eq!(step(&mut core, Input::Read { id: 8 }).reads, [(8, 1)]);
}

#[test]
fn reads_that_nobody_waits_for_are_forgotten() {
    let mut core = core_of(&[1, 2, 3], Arc::default(), 0, 0);
    core.step([Input::Read { id: 1 }, Input::Read { id: 2 }, Input::ForgetRead { id: 1 }]).unwrap();
    assert_eq!(core.reads.iter().map(|read| read.id).collect::<Vec<_>>(), [2]);
}

#[test]
fn committed_entries_come_in_portions_from_the_log_store() {
    let log = Arc::new(MemoryLog::default());
    let entry = |index| LogEntry {
        index,
        term: 1,
        kind: navarch_raft_contract::EntryKind::Normal,
        data: vec![0; 1 << 20].into(),
        context: Default::default(),
    };
    log.append(&LogBatch { entries: (1..=10).map(entry).collect(), hard_state: None }).unwrap();
    let mut core = core_of(&[1], log, 10, 2);
    let mut effects = step(&mut core, Input::Campaign);
    let number = effects.persist.last().unwrap().number;
    let mut inputs = vec![Input::Persisted { number }];
    let (mut seen, mut portions) = (Vec::new(), 0);
    loop {
        effects = core.step(inputs.drain(..)).unwrap();
        seen.extend(effects.committed.iter().map(|entry| entry.index));
        portions += 1;
        if !effects.more {
            break;
        }
    }
    assert_eq!(seen, (3..=11).collect::<Vec<_>>());
    assert!(portions > 1);
}

#[test]
fn what_is_cut_is_bounded_by_what_is_applied() {
    let mut core = alone();
    lead(&mut core);
    let effects = core.step([propose(1, "a"), Input::Compact { index: 100 }]).unwrap();
    assert_eq!(effects.forget, Some(1));
    assert_eq!(raft::Storage::first_index(core.node.store()).unwrap(), 2);
}

#[test]
fn the_same_seed_draws_the_same_timeouts() {
    let timeouts = |seed| {
        let mut settings = config(1);
        settings.seed = seed;
        let mut core = core_of(&[1, 2, 3], Arc::default(), 0, 0);
        core.config = settings;
        (0..100)
            .map(|_| {
                step(&mut core, Input::Tick);
                core.node.raft.randomized_election_timeout()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(timeouts(1), timeouts(1));
    assert!((1..20).any(|seed| timeouts(seed) != timeouts(0)));
}

/// A message of the leader, member 2, in term 5.
fn from_leader(kind: MessageType) -> Message {
    let mut message = Message { from: 2, to: 1, term: 5, ..Message::default() };
    message.set_msg_type(kind);
    message
}

/// raft-rs panics if it is told to: what is not applied yet is not in the log any more either.
#[test]
fn who_installs_a_snapshot_does_not_stand_for_election() {
    let mut core = core_of(&[1, 2, 3], Arc::default(), 0, 0);
    let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let meta = SnapshotMeta { index: 8, term: 5, revision: 0, members };
    let mut message = from_leader(MessageType::MsgSnapshot);
    message.set_snapshot(crate::convert::meta_to_snapshot(&meta));
    let effects = step(&mut core, Input::Message(Box::new(message)));
    let written = effects.persist.last().unwrap();
    assert_eq!(written.snapshot.as_ref().map(|meta| meta.index), Some(8));
    step(&mut core, Input::Persisted { number: written.number });
    let stands = |effects: &Effects| {
        effects.messages.iter().any(|message| message.get_msg_type() == MessageType::MsgRequestPreVote)
    };
    for _ in 0..100 {
        assert!(!stands(&step(&mut core, Input::Tick)));
    }
    assert!(!stands(&step(&mut core, Input::Campaign)));
    let told = step(&mut core, Input::Message(Box::new(from_leader(MessageType::MsgTimeoutNow))));
    assert!(told.messages.is_empty() && core.leadership().term == 5);
    step(&mut core, Input::Applied { index: 8 });
    assert!((0..3).any(|_| stands(&step(&mut core, Input::Tick))), "and at once when it is done: the leader is silent");
}

#[test]
fn a_learner_that_never_answered_gets_no_vote() {
    let mut core = alone();
    lead(&mut core);
    let effects = step(&mut core, Input::ChangeMembers { id: 1, changes: vec![MemberChange::AddLearner(2)] });
    let number = effects.persist.last().unwrap().number;
    step(&mut core, Input::Persisted { number });
    step(&mut core, Input::Applied { index: 2 });
    let told: Vec<_> = core.peers().iter().map(|peer| (peer.id, peer.voter, peer.caught_up)).collect();
    assert_eq!(told, [(2, false, false)]);
    let promote = || Input::ChangeMembers { id: 2, changes: vec![MemberChange::Promote(2)] };
    let refused = Err(Rejected::Members("it has not caught up yet"));
    assert_eq!(step(&mut core, promote()).proposed, [(2, refused)]);
    let mut answer = Message { from: 2, to: 1, term: 2, index: 2, ..Message::default() };
    answer.set_msg_type(MessageType::MsgAppendResponse);
    step(&mut core, Input::Message(Box::new(answer)));
    assert_eq!(step(&mut core, promote()).proposed, [(2, Ok((3, 2)))]);
}

/// The state of entry `index` as member 2, which leads term 1, sends it.
fn state_of(index: u64) -> Input {
    let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let mut message = Message { from: 2, to: 1, term: 1, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    message.set_snapshot(crate::convert::meta_to_snapshot(&SnapshotMeta { index, term: 1, revision: 0, members }));
    Input::Message(Box::new(message))
}

/// Member 1 of three, which has lost its state. Its log goes to entry 5, all of term 1.
fn without_a_state() -> Core {
    let log = Arc::new(MemoryLog::default());
    let entry = |index| LogEntry {
        index,
        term: 1,
        kind: navarch_raft_contract::EntryKind::Normal,
        data: Default::default(),
        context: Default::default(),
    };
    log.append(&LogBatch { entries: (1..=5).map(entry).collect(), hard_state: None }).unwrap();
    let from = Recovered {
        prefix_index: 0,
        prefix_term: 0,
        last_index: 5,
        hard_state: HardState { term: 1, vote: 2, commit: 3 },
        members: ConfState { voters: vec![1, 2, 3], ..ConfState::default() },
        applied: 3,
        rebuilding: true,
    };
    Core::new(config(1), log, &from).unwrap()
}

/// What it acknowledged before it lost its state is in its log, and may have been committed because of that: a state without
/// it must not take the log's place.
#[test]
fn who_rebuilds_takes_no_state_that_ends_before_its_log() {
    let mut core = without_a_state();
    let mut heartbeat = Message { from: 2, to: 1, term: 1, ..Message::default() };
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    let asked = step(&mut core, Input::Message(Box::new(heartbeat))).messages;
    assert!(asked.iter().any(|message| message.request_snapshot == 5), "{asked:?}");
    // It was on its way already when this one was asked for.
    let effects = step(&mut core, state_of(4));
    assert_eq!((effects.persist.len(), effects.unwanted), (0, vec![4]));
    let effects = step(&mut core, state_of(6));
    let installed = effects.persist.last().and_then(|persist| persist.snapshot.as_ref().map(|meta| meta.index));
    assert_eq!((installed, effects.unwanted), (Some(6), vec![]));
    // Another time, while the first is on its way into the state.
    assert_eq!(step(&mut core, state_of(6)).unwanted, Vec::<u64>::new());
}

/// Leads a term of members 1 and 2, with entries up to 4 that both have.
fn leads_two() -> Core {
    let mut core = core_of(&[1, 2], Arc::default(), 0, 0);
    let mut effects = step(&mut core, Input::Campaign);
    for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
        let mut vote = Message { from: 2, to: 1, term: 2, ..Message::default() };
        vote.set_msg_type(kind);
        if let Some(persist) = effects.persist.last() {
            step(&mut core, Input::Persisted { number: persist.number });
        }
        effects = step(&mut core, Input::Message(Box::new(vote)));
    }
    let number = effects.persist.last().unwrap().number;
    step(&mut core, Input::Persisted { number });
    let effects = core.step([propose(1, "a"), propose(2, "b"), propose(3, "c")]).unwrap();
    let number = effects.persist.last().unwrap().number;
    step(&mut core, Input::Persisted { number });
    step(&mut core, from_follower(4, None));
    assert!(core.leadership().leading && core.committed() == 4);
    core
}

/// An answer of member 2: it has everything up to an entry, or has not what came after it, but up to `hint` maybe.
fn from_follower(index: u64, hint: Option<u64>) -> Input {
    let mut answer = Message { from: 2, to: 1, term: 2, index, ..Message::default() };
    answer.set_msg_type(MessageType::MsgAppendResponse);
    (answer.reject, answer.reject_hint) = (hint.is_some(), hint.unwrap_or(0));
    Input::Message(Box::new(answer))
}

/// The log may be cut there already, and then the peer would be sent a whole state, which it has.
#[test]
fn late_refusals_lead_nobody_back_behind_what_was_acknowledged() {
    let mut core = leads_two();
    step(&mut core, Input::Applied { index: 4 });
    step(&mut core, Input::Compact { index: 4 });
    step(&mut core, Input::Unreachable { peer: 2 });
    step(&mut core, propose(4, "d"));
    for late in [from_follower(4, Some(1)), from_follower(3, Some(1)), from_follower(5, Some(1))] {
        let effects = step(&mut core, late);
        assert!(!effects.snapshot_wanted);
        let begins: Vec<_> = effects.messages.iter().map(|message| message.index).collect();
        assert!(begins.iter().all(|index| *index >= 4), "{begins:?}");
    }
}

/// What member 2 says when it has lost its state: its log goes to `last`, and up to `committed` that is known to be committed.
fn asks_for_a_state(last: u64, committed: u64) -> Input {
    let mut asks = Message { from: 2, to: 1, term: 2, index: committed, reject: true, ..Message::default() };
    asks.set_msg_type(MessageType::MsgAppendResponse);
    (asks.reject_hint, asks.log_term, asks.request_snapshot) = (last, 2, last);
    Input::Message(Box::new(asks))
}

#[test]
fn a_state_is_asked_for_by_one_who_acknowledged_more_than_it_knows_to_be_committed() {
    let mut core = leads_two();
    assert!(step(&mut core, asks_for_a_state(4, 1)).snapshot_wanted);
}

/// Nobody else may be there: then what it has would never be committed, and there would never be a state that it takes.
#[test]
fn who_asks_for_a_state_says_what_it_has() {
    let mut core = leads_two();
    let effects = step(&mut core, propose(4, "d"));
    step(&mut core, Input::Persisted { number: effects.persist.last().unwrap().number });
    assert_eq!(core.committed(), 4);
    let effects = step(&mut core, asks_for_a_state(5, 4));
    assert_eq!((core.committed(), effects.snapshot_wanted), (5, true));
    // With another leader's entry in that place it has nothing of it.
    let mut core = leads_two();
    step(&mut core, propose(4, "d"));
    let Input::Message(mut asks) = asks_for_a_state(5, 4) else { unreachable!() };
    asks.log_term = 1;
    step(&mut core, Input::Message(asks));
    assert_eq!(core.committed(), 4);
}

#[test]
fn who_rebuilds_follows_a_new_leader_before_it_asks_it() {
    let mut core = without_a_state();
    let asked = |effects: &Effects| effects.messages.iter().map(|m| m.request_snapshot).max().unwrap_or_default();
    let mut heartbeat = Message { from: 2, to: 1, term: 1, ..Message::default() };
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    assert_eq!(asked(&step(&mut core, Input::Message(Box::new(heartbeat.clone())))), 5);
    // Member 3 leads next. It has entry 4, and its own after that.
    (heartbeat.from, heartbeat.term) = (3, 2);
    let effects = step(&mut core, Input::Message(Box::new(heartbeat)));
    assert_eq!(asked(&effects), 0);
    let mut append = Message { from: 3, to: 1, term: 2, index: 4, log_term: 1, ..Message::default() };
    append.set_msg_type(MessageType::MsgAppend);
    append.entries = vec![raft::eraftpb::Entry { index: 5, term: 2, ..Default::default() }];
    let effects = step(&mut core, Input::Message(Box::new(append)));
    let written = effects.persist.last().unwrap();
    assert_eq!(written.batch.entries.first().map(|entry| (entry.index, entry.term)), Some((5, 2)));
    let effects = step(&mut core, Input::Persisted { number: written.number });
    assert_eq!(asked(&effects), 5);
}

/// raft-rs panics if it leads with entries that are not on the disk. Whoever needs other votes asks for them only then.
#[test]
fn the_only_voter_stands_for_election_when_all_is_written() {
    let mut core = alone();
    let mut append = from_leader(MessageType::MsgAppend);
    append.entries = vec![raft::eraftpb::Entry { index: 1, term: 5, ..Default::default() }];
    let effects = step(&mut core, Input::Message(Box::new(append)));
    let number = effects.persist.last().unwrap().number;
    for _ in 0..100 {
        step(&mut core, Input::Tick);
    }
    step(&mut core, Input::Campaign);
    assert_eq!(core.leadership().term, 5);
    step(&mut core, Input::Persisted { number });
    step(&mut core, Input::Tick);
    assert!(core.leadership().leading);
}
