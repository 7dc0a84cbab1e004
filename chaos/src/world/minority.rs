//! A minority does not come back, and the others go on without it.

use super::World;
use crate::{
    Backend,
    ledger::{Violation, demand},
};

/// Rounds in which those who are left must get something done.
const ROUNDS: usize = 600;

impl<B: Backend> World<B> {
    /// After the last fault, before everybody is started again: some stay away, fewer than half.
    pub(super) fn without_a_minority(&mut self) -> Result<(), Violation> {
        let (all, first) = (self.members.len(), self.seed as usize);
        let away: Vec<usize> = (0..all.saturating_sub(1) / 2).map(|next| (first + next) % all).collect();
        if away.is_empty() {
            return Ok(());
        }
        for member in &away {
            self.kill(*member)?;
        }
        let present: Vec<usize> = (0..all).filter(|member| !away.contains(member)).collect();
        let (before, mut led) = (self.ledger.committed(), false);
        for round in 0..ROUNDS {
            self.now += 1;
            for member in &present {
                if self.members[*member].running.is_none() {
                    self.start(*member)?;
                }
                self.settle(*member)?;
                self.look(*member)?;
            }
            let leads = present.iter().any(|member| self.members[*member].leadership.leading);
            led |= leads;
            if leads && self.ledger.committed() > before {
                self.counts.one("went on without a minority");
                return Ok(());
            }
            if leads && round % 20 == 0 {
                present.iter().try_for_each(|member| self.propose(*member))?;
            }
        }
        let must = self.are_enough(&present) && (led || self.all_have_states());
        let shown: Vec<String> = self.members.iter().map(super::member::show).collect();
        demand!(!must, "nothing is done without {away:?} after entry {before}: {}", shown.join("; "));
        self.counts.one("a minority was needed");
        Ok(())
    }

    /// Whether those who are there know of each other, are a majority of the voters by all they know, and none is damaged: a
    /// leader whose state is wrong hands it to nobody here.
    fn are_enough(&self, present: &[usize]) -> bool {
        let views = present.iter().filter_map(|member| self.members[*member].running.as_ref());
        let views: Vec<_> = views.map(|running| running.core.members()).collect();
        let Some(view) = views.first() else { return false };
        let voters = present.iter().filter(|member| view.voters.contains(&self.members[**member].id)).count();
        views.iter().all(|other| other == view)
            && view.voters_outgoing.is_empty()
            && voters > view.voters.len() / 2
            && !self.someone_is_damaged()
    }

    /// Who has none votes for nobody whose log is behind its own, and cannot lead.
    fn all_have_states(&self) -> bool {
        self.members.iter().all(|member| member.backend.condemned().is_none())
    }
}
