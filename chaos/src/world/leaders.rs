//! Work that only the leader does, as the leader gate of a member starts and stops it: every write carries the term. The
//! gate hears of a lost leadership a little late, and a member that was stopped hears of it when it wakes.

use navarch_raft_contract::{
    Check, Command, CommandBody, Compact, Compare, Expire, Op, OpKind, PrefixFloor, Term, Txn,
};
use rand::Rng;

use super::{
    World,
    clients::{Doing, REGISTERS},
};
use crate::{Backend, check::history::Act, ledger::Violation, network::Request, workload};

/// What is written by whoever leads.
pub(super) const HOLDER: &str = "g/holder";

/// Open while the member leads.
#[derive(Clone, Copy)]
pub(super) struct Gate {
    /// The term in which it was opened.
    pub term: Term,
}

impl<B: Backend> World<B> {
    /// The gate looks who leads, and if it is this member, some work is done.
    pub(super) fn lead(&mut self, at: usize) -> Result<(), Violation> {
        let (leadership, origin) = (self.members[at].leadership, self.members[at].id);
        let id = self.new_id();
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        let Some(gate) = running.gate else {
            let ready = leadership.leading && running.state.applied().index >= leadership.term_start;
            running.gate = ready.then_some(Gate { term: leadership.term });
            return Ok(());
        };
        let mut write = None;
        let body = match self.rng.random_range(0..7) {
            0 => {
                let (kept, shorter) = (self.rng.random_range(10..100), self.rng.random_range(5..40));
                let revision = running.state.revision();
                let prefix = |prefix: &str| PrefixFloor {
                    prefix: prefix.to_owned().into(),
                    floor: revision.saturating_sub(shorter),
                };
                let prefixes = [workload::SHORT, REGISTERS].map(prefix).into();
                CommandBody::Compact(Compact { floor: revision.saturating_sub(kept), prefixes })
            }
            1 => {
                let due = running.state.expired(self.now / 4, 3);
                let due = due.map_err(|error| Violation(format!("expiries: {error}")))?;
                let keys = due.into_iter().map(|due| Compare { key: due.key, mod_revision: due.mod_revision });
                CommandBody::Expire(Expire { keys: keys.collect() })
            }
            2 => CommandBody::Check(Check {}),
            _ => {
                let value = format!("member {origin} in term {}, request {id}", gate.term);
                let op =
                    Op { kind: OpKind::Put as i32, key: HOLDER.into(), value: value.clone().into(), ..Op::default() };
                write = Some(value);
                CommandBody::Txn(Txn { compares: Vec::new(), ops: vec![op] })
            }
        };
        // Closed only after this: what was begun while it was open is on its way.
        if !leadership.leading || leadership.term != gate.term {
            running.gate = None;
        }
        let commands = vec![Command { fence_term: gate.term, body: Some(body) }];
        if let Some(value) = write {
            let operation = self.record.call(1000 + origin, HOLDER, self.now, Act::Put { value });
            self.record.waiting.insert(id, Doing::leader(operation));
        }
        self.submit(at, Request { id, origin, commands });
        Ok(())
    }
}
