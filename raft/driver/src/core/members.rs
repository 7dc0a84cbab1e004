//! Who the members are, and how that changes.

use navarch_raft_contract::{ConfState, Index, Term};
use raft::{
    ProgressState, StateRole,
    eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2},
};

use super::{Core, CoreError, Rejected};
use crate::convert::members_to_state;

/// A learner may be promoted when it lacks no more than this many committed entries.
const CAUGHT_UP_ENTRIES: Index = 500;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member follows without a vote.
    AddLearner(u64),
    /// A learner that has caught up gets a vote.
    Promote(u64),
    /// A voter follows without a vote from now on.
    Demote(u64),
    /// A member is none any more.
    Remove(u64),
}

/// How far a peer is, as the leader knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerProgress {
    /// The member.
    pub id: u64,
    /// Whether it has a vote.
    pub voter: bool,
    /// Its log agrees with the leader's up to here.
    pub matched: Index,
    /// It was heard of within an election timeout.
    pub active: bool,
    /// It is active, and so little behind that it may be given a vote.
    pub caught_up: bool,
    /// A snapshot is on its way to it.
    pub snapshot: bool,
}

impl MemberChange {
    fn to_raft(self) -> ConfChangeSingle {
        let (kind, id) = match self {
            Self::AddLearner(id) | Self::Demote(id) => (ConfChangeType::AddLearnerNode, id),
            Self::Promote(id) => (ConfChangeType::AddNode, id),
            Self::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        single
    }

    /// Whether it makes sense for these members, and what they are after it.
    fn check(self, members: &mut ConfState) -> Result<(), &'static str> {
        let (voters, learners) = (&mut members.voters, &mut members.learners);
        let (votes, learns) = (voters.contains(&self.id()), learners.contains(&self.id()));
        match self {
            Self::AddLearner(0) => Err("a member's id is not 0"),
            Self::AddLearner(_) if votes || learns => Err("it is a member already"),
            Self::AddLearner(id) => {
                learners.push(id);
                Ok(())
            }
            Self::Promote(_) if votes => Err("it has a vote already"),
            Self::Promote(_) if !learns => Err("it is no member"),
            Self::Promote(id) => {
                learners.retain(|learner| *learner != id);
                voters.push(id);
                Ok(())
            }
            Self::Demote(_) if !votes => Err("it has no vote"),
            Self::Demote(id) => {
                voters.retain(|voter| *voter != id);
                learners.push(id);
                Ok(())
            }
            Self::Remove(_) if !votes && !learns => Err("it is no member"),
            Self::Remove(id) => {
                voters.retain(|voter| *voter != id);
                learners.retain(|learner| *learner != id);
                Ok(())
            }
        }
    }

    fn id(self) -> u64 {
        match self {
            Self::AddLearner(id) | Self::Promote(id) | Self::Demote(id) | Self::Remove(id) => id,
        }
    }
}

/// Whether the changes, one after the other, make sense.
fn check(changes: &[MemberChange], members: &ConfState) -> Result<(), &'static str> {
    let mut members = members.clone();
    for change in changes {
        change.check(&mut members)?;
    }
    match (changes.is_empty(), members.voters.is_empty()) {
        (true, _) => Err("nothing changes"),
        (_, true) => Err("at least one voter must be left"),
        _ => Ok(()),
    }
}

impl Core {
    /// The members as of the last committed change.
    pub fn members(&self) -> ConfState {
        members_to_state(&self.node.raft.prs().conf().to_conf_state())
    }

    /// How far the others are; nothing if this member does not lead.
    pub fn peers(&self) -> Vec<PeerProgress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = raft.prs().iter().filter(|(id, _)| **id != self.config.member);
        let mut peers: Vec<PeerProgress> = others
            .map(|(id, progress)| PeerProgress {
                id: *id,
                voter: raft.prs().conf().voters().contains(*id),
                matched: progress.matched,
                active: progress.recent_active,
                caught_up: self.caught_up(*id),
                snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect();
        peers.sort_by_key(|peer| peer.id);
        peers
    }

    /// The voter that can take over soonest.
    pub fn successor(&self) -> Option<u64> {
        let able = self.peers().into_iter().filter(|peer| peer.voter && !peer.snapshot);
        // Whether it is active is known anew every election timeout only.
        able.max_by_key(|peer| (peer.caught_up, peer.matched)).map(|peer| peer.id)
    }

    fn caught_up(&self, id: u64) -> bool {
        let committed = self.node.raft.raft_log.committed;
        let progress = self.node.raft.prs().get(id);
        // raft-rs takes a new member for active before a word of it was heard; only its acknowledgements tell that it lives.
        progress.is_some_and(|at| at.recent_active && at.matched > 0 && at.matched + CAUGHT_UP_ENTRIES >= committed)
    }

    /// The first entry that a peer which receives a snapshot will ask for next: the log keeps it, so that the peer needs no
    /// other snapshot after this one.
    pub(super) fn needed_by_peers(&self) -> Index {
        let receiving = self.node.raft.prs().iter().filter(|(_, progress)| {
            progress.state == ProgressState::Snapshot && progress.recent_active && progress.pending_snapshot > 0
        });
        receiving.map(|(_, progress)| progress.pending_snapshot).min().unwrap_or(Index::MAX)
    }

    pub(super) fn change_members(
        &mut self,
        changes: &[MemberChange],
    ) -> Result<Result<(Index, Term), Rejected>, CoreError> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Ok(Err(Rejected::NotLeader { leader: self.known_leader() }));
        }
        let members = self.members();
        // Raft would turn it into an entry that does nothing.
        if raft.has_pending_conf() || !members.voters_outgoing.is_empty() || !raft.commit_to_current_term() {
            return Ok(Err(Rejected::Busy));
        }
        if let Err(why) = check(changes, &members) {
            return Ok(Err(Rejected::Members(why)));
        }
        // raft-rs cannot go on without its own progress, and whoever asked would wait in vain for the answer.
        let own = self.config.member;
        if changes
            .iter()
            .any(|change| matches!(change, MemberChange::Remove(id) | MemberChange::Demote(id) if *id == own))
        {
            return Ok(Err(Rejected::Members("it leads: leadership must be handed over first")));
        }
        if changes.iter().any(|change| matches!(change, MemberChange::Promote(id) if !self.caught_up(*id))) {
            return Ok(Err(Rejected::Members("it has not caught up yet")));
        }
        let mut change = ConfChangeV2 {
            changes: changes.iter().map(|change| change.to_raft()).collect(),
            ..ConfChangeV2::default()
        };
        change.set_transition(ConfChangeTransition::Auto);
        match self.node.propose_conf_change(Vec::new(), change) {
            Ok(()) => Ok(Ok((self.node.raft.raft_log.last_index(), self.node.raft.term))),
            Err(raft::Error::ProposalDropped) => Ok(Err(Rejected::Busy)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_cannot_be_are_told() {
        use MemberChange::{AddLearner, Demote, Promote, Remove};
        let members = ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() };
        let cases: [(&[MemberChange], Result<(), &str>); 12] = [
            (&[AddLearner(4)], Ok(())),
            (&[AddLearner(0)], Err("a member's id is not 0")),
            (&[AddLearner(2)], Err("it is a member already")),
            (&[AddLearner(3)], Err("it is a member already")),
            (&[Promote(3)], Ok(())),
            (&[Promote(1)], Err("it has a vote already")),
            (&[Promote(4)], Err("it is no member")),
            (&[Promote(3), Remove(1)], Ok(())),
            (&[Remove(1), Demote(2)], Err("at least one voter must be left")),
            (&[Remove(9)], Err("it is no member")),
            (&[Demote(3)], Err("it has no vote")),
            (&[], Err("nothing changes")),
        ];
        for (changes, expected) in cases {
            assert_eq!(check(changes, &members), expected, "{changes:?}");
        }
    }
}
