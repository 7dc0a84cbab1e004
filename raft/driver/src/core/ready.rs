//! From raft-rs's `Ready`s to effects.
//!
//! raft-rs hands out numbered readies; each must be persisted in order before what it promises leaves the member. Entries
//! are readable from the window at once and made durable later (`advance_append_async`, then `on_persist_ready`).

use navarch_raft_contract::{CommittedEntry, ConfState, LogBatch, Payload};
use prost11::Message as _;
use raft::{
    StateRole,
    eraftpb::{ConfChange, ConfChangeSingle, ConfChangeV2, Entry, EntryType, Message},
};

use super::{Core, CoreError, Effects, Leadership, Persist};
use crate::convert::{entry_to_log, hard_state_to_log, members_to_state, snapshot_to_meta};

impl Core {
    /// Collects effects until Raft has nothing more, or there is enough for one step.
    pub(super) fn collect(&mut self, effects: &mut Effects) -> Result<(), CoreError> {
        let mut committed_bytes = 0;
        while self.node.has_ready() {
            if committed_bytes >= self.config.committed_bytes_max {
                effects.more = true;
                break;
            }
            committed_bytes += self.one_ready(effects)?;
        }
        self.note_leadership(effects);
        Ok(())
    }

    /// Takes one ready. Returns the bytes of committed entries that it brought.
    fn one_ready(&mut self, effects: &mut Effects) -> Result<u64, CoreError> {
        let mut ready = self.node.ready();
        let number = ready.number();
        let messages = ready.take_messages();
        for state in ready.take_read_states() {
            self.answer_read(&state.request_ctx, state.index, effects);
        }
        let snapshot = (ready.snapshot().get_metadata().index > 0).then(|| snapshot_to_meta(ready.snapshot()));
        if let Some(meta) = &snapshot {
            self.node.mut_store().restart_after(meta);
            self.rebuilding = false;
            self.installing = meta.index;
            // What was to be applied, and who was to be answered from here, is in it.
            effects.committed.clear();
        }
        let entries = ready.take_entries();
        self.node.mut_store().append(&entries);
        let restored = snapshot.as_ref().map(|meta| meta.index);
        let last_index = entries.last().map(|entry| entry.index).or(restored);
        if let Some(hard_state) = ready.hs() {
            self.unsaved_hard_state = Some(hard_state_to_log(hard_state));
            if ready.must_sync() {
                self.election_persist = number;
            }
        }
        if ready.must_sync() {
            let entries = entries.into_iter().map(entry_to_log).collect();
            let batch = LogBatch { entries, hard_state: self.unsaved_hard_state.take() };
            let before = self.writing.back().map_or(self.persisted, |(_, last)| *last);
            self.writing.push_back((number, last_index.unwrap_or(before)));
            effects.persist.push(Persist { number, batch, snapshot });
        }
        let promises = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        self.node.advance_append_async(ready);
        self.send_as_elected(messages, effects);
        match self.writing.back() {
            // Nothing to write, and nothing on its way: this ready is as persisted as it will ever be.
            None => {
                self.node.on_persist_ready(number);
                effects.messages.extend(promises);
            }
            Some((after, _)) if !promises.is_empty() => self.held.push_back((*after, promises)),
            Some(_) => {}
        }
        let bytes = committed.iter().map(|entry| entry.data.len() as u64 + 64).sum();
        for entry in committed {
            effects.committed.push(self.committed_entry(entry)?);
        }
        Ok(bytes)
    }

    /// A leader's messages may leave before its entries are on the disk, but not before its term is: the only voter leads
    /// by its own vote alone, and if it forgot the term, it would lead it again, with other entries.
    fn send_as_elected(&mut self, messages: Vec<Message>, effects: &mut Effects) {
        let unsaved = self.writing.iter().any(|(number, _)| *number <= self.election_persist);
        if messages.is_empty() || !unsaved {
            effects.messages.extend(messages);
            return;
        }
        let after = self.held.back().map_or(0, |(after, _)| *after).max(self.election_persist);
        self.held.push_back((after, messages));
    }

    fn committed_entry(&mut self, entry: Entry) -> Result<CommittedEntry, CoreError> {
        let malformed =
            |error: prost11::DecodeError| CoreError::Members { index: entry.index, reason: error.to_string() };
        let payload = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => Payload::Empty,
            EntryType::EntryNormal => Payload::Commands(bytes::Bytes::from(entry.data)),
            EntryType::EntryConfChange => {
                let change = ConfChange::decode(entry.data.as_slice()).map_err(malformed)?;
                let mut single = ConfChangeSingle { node_id: change.node_id, ..ConfChangeSingle::default() };
                single.set_change_type(change.get_change_type());
                Payload::Members(self.apply_change(&ConfChangeV2 { changes: vec![single], ..ConfChangeV2::default() }))
            }
            EntryType::EntryConfChangeV2 => {
                let change = ConfChangeV2::decode(entry.data.as_slice()).map_err(malformed)?;
                Payload::Members(self.apply_change(&change))
            }
        };
        Ok(CommittedEntry { index: entry.index, term: entry.term, payload })
    }

    /// A change that cannot be, on this member, cannot be on any: it has no effect.
    fn apply_change(&mut self, change: &ConfChangeV2) -> ConfState {
        match self.node.apply_conf_change(change) {
            Ok(members) => {
                let raft = &mut self.node.raft;
                // An earlier leader proposed it. raft-rs does not step down by itself, and cannot lead without a progress.
                if raft.state == StateRole::Leader && !members.voters.contains(&self.config.member) {
                    raft.become_follower(raft.term, raft::INVALID_ID);
                }
                members_to_state(&members)
            }
            Err(error) => {
                tracing::warn!(%error, "a change of members has no effect");
                members_to_state(&self.node.raft.prs().conf().to_conf_state())
            }
        }
    }

    fn answer_read(&mut self, context: &[u8], index: u64, effects: &mut Effects) {
        let id = context.last_chunk::<8>().map(|id| u64::from_be_bytes(*id));
        let Some(position) = self.reads.iter().position(|read| Some(read.id) == id) else { return };
        if let Some(read) = self.reads.remove(position) {
            effects.reads.push((read.id, index));
        }
    }

    fn note_leadership(&mut self, effects: &mut Effects) {
        let leading = self.node.raft.state == StateRole::Leader;
        let term = self.node.raft.term;
        let same_lead = leading && self.leadership.leading && self.leadership.term == term;
        let term_start = match (leading, same_lead) {
            (false, _) => 0,
            (true, true) => self.leadership.term_start,
            (true, false) => self.first_of_term(term),
        };
        let now = Leadership { term, leader: self.known_leader(), leading, term_start };
        if now != self.leadership {
            if now.leading != self.leadership.leading || now.term != self.leadership.term {
                // Whoever was asked may be another one now, or may have forgotten.
                self.reads.iter_mut().for_each(|read| read.asked = None);
            }
            self.leadership = now;
            effects.leadership = Some(now);
        }
    }

    /// The first entry of this leader's term: the empty one it appended when elected.
    fn first_of_term(&self, term: u64) -> u64 {
        let log = &self.node.raft.raft_log;
        let mut index = log.last_index();
        while index > log.first_index() && log.term(index - 1).is_ok_and(|before| before == term) {
            index -= 1;
        }
        index
    }
}
