//! raft-rs's types to the contract's and back. Nothing else of raft-rs's wire format is known elsewhere.

// The generated setters take an existing value.
#![allow(clippy::field_reassign_with_default)]

use bytes::Bytes;
use navarch_raft_contract::{ConfState, EntryKind, HardState, LogEntry, SnapshotMeta};
use raft::eraftpb;

/// An entry as the log keeps it.
pub fn entry_to_log(entry: eraftpb::Entry) -> LogEntry {
    let kind = match entry.get_entry_type() {
        eraftpb::EntryType::EntryNormal => EntryKind::Normal,
        eraftpb::EntryType::EntryConfChange => EntryKind::ConfChange,
        eraftpb::EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind,
        data: Bytes::from(entry.data),
        context: Bytes::from(entry.context),
    }
}

/// An entry as Raft wants it.
pub fn entry_to_raft(entry: LogEntry) -> eraftpb::Entry {
    let mut out = eraftpb::Entry::default();
    out.index = entry.index;
    out.term = entry.term;
    out.set_entry_type(match entry.kind {
        EntryKind::Normal => eraftpb::EntryType::EntryNormal,
        EntryKind::ConfChange => eraftpb::EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => eraftpb::EntryType::EntryConfChangeV2,
    });
    out.data = entry.data.into();
    out.context = entry.context.into();
    out
}

/// A hard state as the log keeps it.
pub fn hard_state_to_log(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// A hard state as Raft wants it.
pub fn hard_state_to_raft(state: &HardState) -> eraftpb::HardState {
    let mut out = eraftpb::HardState::default();
    out.term = state.term;
    out.vote = state.vote;
    out.commit = state.commit;
    out
}

/// Members as the state keeps them.
pub fn members_to_state(members: &eraftpb::ConfState) -> ConfState {
    ConfState {
        voters: members.voters.clone(),
        learners: members.learners.clone(),
        voters_outgoing: members.voters_outgoing.clone(),
        learners_next: members.learners_next.clone(),
        auto_leave: members.auto_leave,
    }
}

/// Members as Raft wants them.
pub fn members_to_raft(members: &ConfState) -> eraftpb::ConfState {
    let mut out = eraftpb::ConfState::default();
    out.voters = members.voters.clone();
    out.learners = members.learners.clone();
    out.voters_outgoing = members.voters_outgoing.clone();
    out.learners_next = members.learners_next.clone();
    out.auto_leave = members.auto_leave;
    out
}

/// What a snapshot is, as Raft wants it. The store's revision is not its affair.
pub fn meta_to_snapshot(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut out = eraftpb::Snapshot::default();
    let metadata = out.mut_metadata();
    metadata.index = meta.index;
    metadata.term = meta.term;
    metadata.set_conf_state(members_to_raft(&meta.members));
    out
}

/// What a snapshot of Raft is.
pub fn snapshot_to_meta(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let metadata = snapshot.get_metadata();
    let members = members_to_state(metadata.get_conf_state());
    SnapshotMeta { index: metadata.index, term: metadata.term, revision: 0, members }
}
