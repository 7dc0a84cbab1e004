//! The cluster as one member sees it: members, roles, lag, links, room on the disk.

use std::sync::Arc;

use navarch_raft_contract::{Room, RoomLevel};
use navarch_raft_driver::Role;
use serde::{Deserialize, Serialize};

use crate::members::Members;
use crate::roster::Wanted;

/// What is shown of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster_id: String,
    /// The member that tells this.
    pub member: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Last entry known to be committed.
    pub committed: u64,
    /// Last entry applied by this member.
    pub applied: u64,
    /// Last entry whose effect is flushed.
    pub durable: u64,
    /// The store's revision.
    pub revision: u64,
    /// History is kept above this revision.
    pub compacted: u64,
    /// How full this member's disk is: `ample`, `low` (nothing new) or `critical` (deletes only).
    pub room: String,
    /// All members.
    pub members: Vec<MemberStatus>,
}

/// What is shown of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `leader`, `voter`, `learner`, or `joining` before it is either.
    pub role: String,
    /// What it is meant to be.
    pub wanted: Wanted,
    /// Where it takes its peers' connections.
    pub peer_address: String,
    /// Where its API is.
    pub server: String,
    /// Whether the member that tells this has a connection to it.
    pub connected: bool,
    /// Entries by which it is behind; only the leader knows.
    pub lag: Option<u64>,
    /// Whether a snapshot is on its way to it; only the leader knows.
    pub snapshot: bool,
    /// Round-trip time to it, in microseconds.
    pub round_trip_us: Option<u64>,
}

/// Collects it.
pub struct StatusSource {
    pub cluster_id: String,
    pub members: Members,
    pub room: Arc<dyn Room>,
}

impl StatusSource {
    /// As it is now.
    pub fn status(&self) -> ClusterStatus {
        let Members { store, raft, roster, .. } = &self.members;
        let (status, figures) = (raft.status(), raft.figures());
        let room = match self.room.level() {
            RoomLevel::Ample => "ample",
            RoomLevel::Low => "low",
            RoomLevel::Critical => "critical",
        };
        ClusterStatus {
            cluster_id: self.cluster_id.clone(),
            member: status.member,
            leader: if status.role == Role::Leader { Some(status.member) } else { status.leader },
            term: status.term,
            committed: figures.committed,
            applied: figures.applied,
            durable: figures.durable,
            revision: store.revision(),
            compacted: store.reader().compacted(),
            room: room.to_owned(),
            members: roster.members().into_values().filter_map(|(member, _)| self.member(&member)).collect(),
        }
    }

    /// Nothing of one that is none any more.
    fn member(&self, member: &crate::roster::Member) -> Option<MemberStatus> {
        let Members { raft, peers, .. } = &self.members;
        let (status, view) = (raft.status(), raft.view());
        let (votes, learns) = (view.members.voters.contains(&member.id), view.members.learners.contains(&member.id));
        if member.wanted == Wanted::Removed && !votes && !learns {
            return None;
        }
        let link = peers.figures().remove(&member.id);
        let progress = view.peers.iter().find(|peer| peer.id == member.id);
        let own = member.id == status.member;
        let role = match (status.leader == Some(member.id), votes, learns) {
            (true, ..) => "leader",
            (_, true, _) => "voter",
            (_, _, true) => "learner",
            _ => "joining",
        };
        Some(MemberStatus {
            id: member.id,
            name: member.name.clone(),
            role: role.to_owned(),
            wanted: member.wanted,
            peer_address: member.peer_address.clone(),
            server: member.server.clone(),
            connected: own || link.as_ref().is_some_and(|link| link.connected),
            lag: progress.map(|peer| raft.figures().committed.saturating_sub(peer.matched)),
            snapshot: progress.is_some_and(|peer| peer.snapshot),
            round_trip_us: link.and_then(|link| link.round_trip).map(|time| time.as_micros() as u64),
        })
    }
}
