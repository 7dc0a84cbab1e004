//! What members say of their states at a check in the log, and whether this one is the one who differs.
//!
//! Everybody sees the same sayings in the same order, and a majority of the voters cannot be wrong in the same way by a fault
//! of one disk. Without a majority nobody knows who is right, and nobody is condemned; and nobody is by the word of one
//! member alone, even if it has the only vote: what it said may be of a state that it has replaced since.

use std::collections::{BTreeMap, BTreeSet};

use navarch_raft_contract::{ConfState, Index, Sighting, Witness};

/// The last check, and what was said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// The entry of the last check, and the hash of this member's state there. None since this member's start, or since
    /// its state was replaced.
    pub last: Option<(Index, u64)>,
    /// What members said of it.
    pub said: BTreeMap<u64, u64>,
}

/// What the last check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough was said yet.
    Open,
    /// A majority has the same state as this member.
    Agrees,
    /// A majority has another one.
    Differs {
        /// The entry of the check.
        index: Index,
        /// The hash of this member's state.
        own: u64,
        /// That of the majority.
        others: u64,
    },
    /// All voters have spoken, and there is no majority of more than one: somebody is wrong, and nobody can tell who.
    Split {
        /// The entry of the check.
        index: Index,
    },
}

impl Checks {
    /// Notes what applying came across.
    pub fn note(&mut self, sighting: &Sighting) {
        match *sighting {
            Sighting::Check { index, hash } => *self = Self { last: Some((index, hash)), said: BTreeMap::new() },
            Sighting::Witness(Witness { member, index, hash }) => {
                if self.last.is_some_and(|(last, _)| last == index) {
                    self.said.insert(member, hash);
                }
            }
        }
    }

    /// What this member should say, if it has not yet.
    pub fn to_say(&self, member: u64) -> Option<Witness> {
        let (index, hash) = self.last?;
        (!self.said.contains_key(&member)).then_some(Witness { member, index, hash })
    }

    /// What the last check came to.
    pub fn verdict(&self, members: &ConfState) -> Verdict {
        let Some((index, own)) = self.last else { return Verdict::Open };
        let voters: BTreeSet<u64> = members.voters.iter().chain(&members.voters_outgoing).copied().collect();
        let hashes: BTreeSet<u64> = voters.iter().filter_map(|voter| self.said.get(voter)).copied().collect();
        let said = |hash: u64, voter: &u64| self.said.get(voter) == Some(&hash);
        // While the members change, the majority of those who were and of those who will be.
        let majority = |hash: &u64| {
            let of =
                |set: &[u64]| set.is_empty() || set.iter().filter(|voter| said(*hash, voter)).count() > set.len() / 2;
            !voters.is_empty() && of(&members.voters) && of(&members.voters_outgoing)
        };
        match hashes.into_iter().find(majority) {
            Some(hash) if hash == own => Verdict::Agrees,
            // The word of one alone condemns nothing.
            Some(hash) if voters.iter().filter(|voter| said(hash, voter)).count() > 1 => {
                Verdict::Differs { index, own, others: hash }
            }
            _ if !voters.is_empty() && voters.iter().all(|voter| self.said.contains_key(voter)) => {
                Verdict::Split { index }
            }
            _ => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_tells_who_differs() {
        let members = |voters: &[u64]| ConfState { voters: voters.to_vec(), ..ConfState::default() };
        let cases: [(&[u64], &[(u64, u64)], Verdict); 10] = [
            (&[1, 2, 3], &[], Verdict::Open),
            (&[1, 2, 3], &[(1, 7)], Verdict::Open),
            (&[1, 2, 3], &[(1, 7), (3, 7)], Verdict::Agrees),
            (&[1, 2, 3], &[(2, 8), (3, 8)], Verdict::Differs { index: 5, own: 7, others: 8 }),
            (&[1, 2, 3], &[(1, 7), (2, 8)], Verdict::Open),
            (&[1, 2, 3], &[(1, 7), (2, 8), (3, 9)], Verdict::Split { index: 5 }),
            // Whoever has no vote is not counted.
            (&[1, 2, 3], &[(4, 8), (5, 8), (1, 7)], Verdict::Open),
            (&[1, 2], &[(1, 7), (2, 8)], Verdict::Split { index: 5 }),
            (&[1], &[(1, 7)], Verdict::Agrees),
            // It may have another state by now.
            (&[2], &[(1, 7), (2, 8)], Verdict::Split { index: 5 }),
        ];
        for (voters, said, expected) in cases {
            let mut checks = Checks::default();
            checks.note(&Sighting::Witness(Witness { member: 2, index: 5, hash: 1 }));
            checks.note(&Sighting::Check { index: 5, hash: 7 });
            checks.note(&Sighting::Witness(Witness { member: 3, index: 4, hash: 1 }));
            for (member, hash) in said {
                checks.note(&Sighting::Witness(Witness { member: *member, index: 5, hash: *hash }));
            }
            assert_eq!(checks.verdict(&members(voters)), expected, "{voters:?} {said:?}");
        }
    }

    #[test]
    fn while_the_members_change_both_majorities_must_say_it() {
        let verdict = |said: &[(u64, u64)]| {
            let mut checks = Checks::default();
            checks.note(&Sighting::Check { index: 5, hash: 7 });
            for (member, hash) in said {
                checks.note(&Sighting::Witness(Witness { member: *member, index: 5, hash: *hash }));
            }
            checks.verdict(&ConfState { voters: vec![3, 4], voters_outgoing: vec![1, 2, 3], ..ConfState::default() })
        };
        assert_eq!(verdict(&[(3, 8), (4, 8)]), Verdict::Open);
        assert_eq!(verdict(&[(3, 8), (4, 8), (1, 7), (2, 7)]), Verdict::Split { index: 5 });
        assert_eq!(verdict(&[(3, 8), (4, 8), (2, 8)]), Verdict::Differs { index: 5, own: 7, others: 8 });
        assert_eq!(verdict(&[(3, 7), (4, 7), (2, 7), (1, 8)]), Verdict::Agrees);
    }

    #[test]
    fn everybody_speaks_once_for_each_check() {
        let mut checks = Checks::default();
        assert_eq!(checks.to_say(1), None);
        checks.note(&Sighting::Check { index: 5, hash: 7 });
        let witness = Witness { member: 1, index: 5, hash: 7 };
        assert_eq!(checks.to_say(1), Some(witness));
        checks.note(&Sighting::Witness(witness));
        assert_eq!((checks.to_say(1), checks.to_say(2).map(|other| other.member)), (None, Some(2)));
        checks.note(&Sighting::Check { index: 9, hash: 7 });
        assert!(checks.to_say(1).is_some());
    }
}
