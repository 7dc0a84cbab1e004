//! What is done to members beside crashes: stopped processes, clocks of different speed, slow disks, killed processes.

use navarch_raft_driver::Input;
use rand::Rng;

use super::World;
use crate::{Backend, ledger::Violation};

impl<B: Backend> World<B> {
    pub(super) fn awake(&self, member: usize) -> bool {
        self.members[member].paused_until <= self.now
    }

    /// SIGSTOP, and SIGCONT much later: everything it holds stays as it is, proposals that wait for its driver included.
    /// Mostly it meets who leads, with work in the queue.
    pub(super) fn pause(&mut self, member: usize) -> Result<(), Violation> {
        let leader = self.members.iter().position(|member| member.leadership.leading);
        let at = leader.filter(|_| self.rng.random_bool(0.7)).unwrap_or(member);
        if self.members[at].running.is_none() || !self.awake(at) {
            return Ok(());
        }
        for _ in 0..3 {
            self.lead(at)?;
        }
        // Longer than the others need to elect, and shorter than a run.
        let each = self.members.len() as u64;
        self.members[at].paused_until = self.now + self.rng.random_range(100 * each..900 * each);
        self.happened(at, format!("stopped until {}", self.members[at].paused_until));
        self.counts.one("pauses");
        Ok(())
    }

    pub(super) fn change_speed(&mut self, member: usize) -> Result<(), Violation> {
        self.members[member].speed = [25, 50, 100, 100, 200, 400][self.rng.random_range(0..6)];
        self.happened(member, format!("its clock goes at {} %", self.members[member].speed));
        self.counts.one("changes of clock speed");
        Ok(())
    }

    pub(super) fn tick(&mut self, at: usize) -> Result<(), Violation> {
        let member = &mut self.members[at];
        member.owed += member.speed;
        let ticks = member.owed / 100;
        member.owed %= 100;
        self.step(at, (0..ticks).map(|_| Input::Tick).collect())
    }

    pub(super) fn slow_down(&mut self, member: usize) -> Result<(), Violation> {
        let each = self.members.len() as u64;
        self.members[member].slow_until = self.now + self.rng.random_range(50 * each..600 * each);
        self.happened(member, format!("its disk is slow until {}", self.members[member].slow_until));
        self.counts.one("slow disks");
        Ok(())
    }

    /// The disk is slow, and has not come to this write yet.
    pub(super) fn stuck(&mut self, member: usize) -> bool {
        self.members[member].slow_until > self.now && self.rng.random_bool(0.9)
    }

    /// SIGKILL: what was written is still there, what was not is gone.
    pub(super) fn kill(&mut self, member: usize) -> Result<(), Violation> {
        if self.members[member].running.is_none() {
            return Ok(());
        }
        if self.members[member].backend.dead() {
            return self.crashed(member);
        }
        self.gone(member);
        self.members[member].backend.kill();
        self.happened(member, "killed");
        self.counts.one("kills");
        Ok(())
    }

    pub(super) fn end_faults(&mut self) {
        self.network.heal();
        self.happened_to_all("no more faults");
        for member in &mut self.members {
            (member.paused_until, member.slow_until, member.speed) = (0, 0, 100);
            member.backend.plan_crash(None);
            member.backend.plan_failure(None);
        }
    }
}
