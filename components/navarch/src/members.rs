//! The members of the control plane: letting new ones in, changing and removing them, and what the leader does for that.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use navarch_raft_contract::ConfState;
use navarch_raft_driver::{Peers, ProposeError, RaftHandle, Role};
use navarch_server::Pipeline;
use navarch_server::join::{Admission, AdmitRequest, Membership, Peer};
use navarch_store::{Store, StoreError};
use navarch_supervision::{ChildSpec, TaskContext};
use navarch_types::{ApiError, ListedServer, Reason, ServerList};
use tokio::time::Instant;

use crate::bootstrap::{self, Reach};
use crate::identity::Identity;
use crate::roster::{self, Member, Roster, Step, Wanted, decide};

/// How long an order may take until it has happened.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long an order waits for a quorum before it is refused.
const QUORUM: Duration = Duration::from_secs(5);
/// Between two looks at what is wanted and what is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the Service's endpoints are looked at when no member came or went.
const PUBLISH_EVERY: Duration = Duration::from_secs(10);
/// How often a record is tried to be written when others write the same.
const ATTEMPTS: usize = 10;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    pub store: Store,
    pub raft: RaftHandle,
    pub peers: Peers,
    pub roster: Arc<Roster>,
}

fn unavailable(error: &StoreError) -> ApiError {
    let why = match error {
        StoreError::Timeout => "there is no quorum: too few members are reached".to_owned(),
        other => other.to_string(),
    };
    ApiError::new(Reason::ServiceUnavailable, format!("the members' records: {why}"))
}

impl Members {
    /// Changes records, all or none: `change` says which, from all that are there. No record is nothing to be done.
    /// `quorum` is how long a quorum is waited for.
    async fn write<T>(
        &self,
        quorum: Duration,
        change: impl Fn(&roster::Members) -> Result<(T, Vec<(Member, u64)>), ApiError>,
    ) -> Result<T, ApiError> {
        let deadline = Instant::now() + DEADLINE;
        for _ in 0..ATTEMPTS {
            self.store.barrier(Instant::now() + quorum).await.map_err(|error| unavailable(&error))?;
            let present = roster::read(&**self.store.reader()).map_err(ApiError::internal)?;
            let (answer, records) = change(&present)?;
            if records.is_empty() {
                return Ok(answer);
            }
            let txn = roster::put(&records).map_err(ApiError::internal)?;
            // Also when a disk is full: it may be the disk of the member that is to be replaced.
            match self.store.commit_reserved(txn, deadline).await {
                Ok(_) => return Ok(answer),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(ApiError::new(Reason::ServiceUnavailable, "others change the members at the same time"))
    }

    /// Writes this member's own record if it is missing, or says something else than is true.
    ///
    /// # Errors
    /// If the store does not take it, or if this member was removed.
    pub async fn introduce(&self, identity: &Identity) -> Result<(), ApiError> {
        let own = identity.record(self.peers.local_addr().port());
        self.write(DEADLINE, |present| match present.get(&own.id) {
            // As long as it counts it is needed, also by the change that takes it out.
            Some((there, _))
                if there.wanted == Wanted::Removed && roster::counts(&self.raft.view().members, own.id) =>
            {
                Ok(((), Vec::new()))
            }
            Some((there, _)) if there.wanted == Wanted::Removed => {
                Err(ApiError::new(Reason::ServiceUnavailable, "this member was removed from its cluster"))
            }
            // Whoever tells others the address of another member parts it from them, and nobody could take that back.
            _ if present.values().any(|(other, _)| {
                other.id != own.id && other.wanted != Wanted::Removed && other.peer_address == own.peer_address
            }) =>
            {
                let why = format!("{} is another member's address: see server.peer_address", own.peer_address);
                Err(ApiError::new(Reason::ServiceUnavailable, &why))
            }
            Some((there, revision)) => {
                let own = Member { wanted: there.wanted, ..own.clone() };
                Ok(((), if own == *there { Vec::new() } else { vec![(own, *revision)] }))
            }
            None => Ok(((), vec![(own.clone(), 0)])),
        })
        .await
    }

    /// Orders what a member is to be.
    ///
    /// # Errors
    /// If there is no such member, or it cannot be that.
    pub async fn order(&self, id: u64, wanted: Wanted) -> Result<Member, ApiError> {
        self.write(QUORUM, |present| {
            let Some((member, revision)) = present.get(&id) else {
                return Err(ApiError::bad_request(format!("there is no member {id}")));
            };
            let conf = &self.raft.view().members;
            if member.wanted == Wanted::Removed && wanted != Wanted::Removed && !roster::counts(conf, id) {
                return Err(ApiError::bad_request(format!("member {id} was removed: it has to join anew")));
            }
            if wanted != Wanted::Voter {
                let own = self.raft.status().member;
                let reached: Vec<u64> = self.live(own).into_iter().map(|member| member.id).collect();
                may_go(id, present, conf, &reached)?;
            }
            let changed = Member { wanted, ..member.clone() };
            let records = if changed == *member { Vec::new() } else { vec![(changed.clone(), *revision)] };
            Ok((changed, records))
        })
        .await
    }

    /// Waits until a member is what it is meant to be.
    ///
    /// # Errors
    /// If that takes too long; it goes on.
    pub async fn until(&self, id: u64, wanted: Wanted) -> Result<(), ApiError> {
        self.until_members(id, |members| {
            let (votes, learns) = (members.voters.contains(&id), members.learners.contains(&id));
            match wanted {
                Wanted::Voter => votes,
                Wanted::Learner => learns,
                Wanted::Removed => !votes && !learns,
            }
        })
        .await
    }

    async fn until_members(&self, id: u64, reached: impl Fn(&ConfState) -> bool) -> Result<(), ApiError> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if reached(&self.raft.view().members) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why = format!("member {id} is not that yet; it goes on, see `navarch status`");
                return Err(ApiError::new(Reason::ServiceUnavailable, why));
            }
            tokio::time::sleep(LOOK_EVERY / 4).await;
        }
    }

    /// Returns when this member has been removed from its cluster: when its record says so and its vote is gone, or when
    /// another member says so.
    pub async fn removed(&self, own: u64) {
        let here = async {
            loop {
                let members = self.raft.view().members.clone();
                self.roster.see(&members);
                let counts = roster::counts(&members, own);
                let ordered = self.roster.members().get(&own).is_some_and(|(own, _)| own.wanted == Wanted::Removed);
                if ordered && !counts {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = here => {}
            () = self.peers.told_removed() => {}
        }
    }

    /// What the leader runs: it makes consensus' members those that are wanted.
    pub fn reconciler(&self, own: u64) -> ChildSpec {
        let this = self.clone();
        ChildSpec::task("members", move |context: TaskContext| {
            let this = this.clone();
            async move {
                loop {
                    tokio::select! {
                        () = context.stopped() => return Ok::<(), ProposeError>(()),
                        () = tokio::time::sleep(LOOK_EVERY) => this.step(own).await?,
                    }
                }
            }
        })
    }

    async fn step(&self, own: u64) -> Result<(), ProposeError> {
        let view = self.raft.view();
        match decide(own, &self.roster.members(), &view.members, &view.peers) {
            None => Ok(()),
            Some(Step::HandOver) => {
                // The next leader removes this one.
                if let Some(successor) = view.peers.iter().filter(|p| p.voter && p.caught_up).max_by_key(|p| p.matched)
                {
                    self.raft.transfer(successor.id);
                }
                Ok(())
            }
            Some(Step::Change(change)) => {
                tracing::info!(?change, "changing the members");
                match self.raft.change_members(vec![change]).await {
                    // It is decided anew: another change may be under way, or leadership is gone.
                    Ok(()) | Err(ProposeError::Busy | ProposeError::NotLeader { .. } | ProposeError::Unknown) => Ok(()),
                    Err(ProposeError::Members(why)) => {
                        tracing::debug!(?change, why, "not now");
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// What the leader runs: it keeps the endpoints of the `kubernetes` Service.
    pub fn publisher(&self, own: u64, pipeline: Arc<Pipeline>) -> ChildSpec {
        let this = self.clone();
        ChildSpec::task("kubernetes-endpoints", move |context: TaskContext| {
            let (this, pipeline) = (this.clone(), Arc::clone(&pipeline));
            async move {
                let (mut published, mut at) = (None, Instant::now());
                loop {
                    tokio::select! {
                        () = context.stopped() => return Ok::<(), ApiError>(()),
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                    let reach = this.reach(own);
                    // Also from time to time: somebody else may have changed them.
                    if published.as_ref() != Some(&reach) || at.elapsed() > PUBLISH_EVERY {
                        bootstrap::publish(pipeline.registry(), &reach).await?;
                        (published, at) = (Some(reach), Instant::now());
                    }
                }
            }
        })
    }

    /// Where the API servers are, by the members that are reached now. Ports of members that are not are there without
    /// addresses.
    pub fn reach(&self, own: u64) -> Reach {
        let mut reach = Reach::new();
        let live: BTreeSet<u64> = self.live(own).into_iter().map(|member| member.id).collect();
        for (member, _) in self.roster.members().values() {
            let address = member.server.strip_prefix("https://").and_then(|text| text.parse::<SocketAddr>().ok());
            let Some(address) = address else { continue };
            let addresses = reach.entry(address.port()).or_default();
            if live.contains(&member.id) {
                addresses.insert(address.ip());
            }
        }
        reach
    }

    /// What clients are told of the servers. This member serves while it knows a leader: without one, it can neither write
    /// nor say that what it has is the latest.
    pub fn list(&self, cluster_id: &str) -> ServerList {
        let status = self.raft.status();
        let live: BTreeSet<u64> = self.live(status.member).into_iter().map(|member| member.id).collect();
        let members = self.roster.members().into_values().map(|(member, _)| member);
        let present = members.filter(|member| member.wanted != Wanted::Removed);
        ServerList {
            cluster_id: cluster_id.to_owned(),
            ready: status.role == Role::Leader || status.leader.is_some(),
            servers: present.map(|m| ListedServer { live: live.contains(&m.id), url: m.server }).collect(),
        }
    }

    /// The members that are reached now, this one too.
    fn live(&self, own: u64) -> Vec<Member> {
        let figures = self.peers.figures();
        let connected: BTreeSet<u64> = figures.iter().filter(|(_, link)| link.connected).map(|(id, _)| *id).collect();
        let members = self.roster.members().into_values().map(|(member, _)| member);
        members.filter(|m| m.wanted != Wanted::Removed && (m.id == own || connected.contains(&m.id))).collect()
    }
}

/// Those who vote and are to go on voting, but for one.
fn stayers(but: u64, present: &roster::Members, conf: &ConfState) -> Vec<u64> {
    let stays = |id: &u64| *id != but && present.get(id).is_none_or(|(member, _)| member.wanted == Wanted::Voter);
    conf.voters.iter().copied().filter(stays).collect()
}

/// Whether a member's vote can be taken: those who are left must be able to go on.
fn may_go(id: u64, present: &roster::Members, conf: &ConfState, reached: &[u64]) -> Result<(), ApiError> {
    if !conf.voters.contains(&id) {
        return Ok(());
    }
    let left = stayers(id, present, conf);
    if left.is_empty() {
        return Err(ApiError::bad_request(format!("member {id} is the last one with a vote")));
    }
    let (living, lost): (Vec<u64>, Vec<u64>) = left.iter().partition(|voter| reached.contains(voter));
    if living.len() * 2 <= left.len() {
        return Err(ApiError::bad_request(format!(
            "without member {id} there would be no quorum: of the voters {left:?} that are left, {lost:?} cannot be \
             reached; start or replace them first"
        )));
    }
    Ok(())
}

/// What letting a member in comes to: its id and the records that there are then, and those of them that are written.
fn enter(present: &roster::Members, request: &AdmitRequest, conf: &ConfState) -> Result<Entered, ApiError> {
    let peer_address = request.peer_address.to_string();
    let of_request = |member: &Member| member.name == request.name && member.peer_address == peer_address;
    let mut all = present.clone();
    let mut writes = Vec::new();
    let mut there = present.values().filter(|(member, _)| member.wanted != Wanted::Removed);
    // The answer to the same request may have been lost.
    if let Some((member, _)) = there.clone().find(|(m, _)| of_request(m) && request.replaces != Some(m.id)) {
        return Ok(((member.id, all), writes));
    }
    if let Some(id) = request.replaces {
        let Some((member, revision)) = present.get(&id) else {
            return Err(ApiError::bad_request(format!("there is no member {id} to be replaced")));
        };
        if stayers(id, present, conf).is_empty() {
            return Err(ApiError::bad_request(format!(
                "member {id} is the last one with a vote: join without --replace, and remove it when the new one votes"
            )));
        }
        if member.wanted != Wanted::Removed {
            writes.push((Member { wanted: Wanted::Removed, ..member.clone() }, *revision));
        }
    }
    let same = |m: &Member| m.name == request.name || m.peer_address == peer_address;
    if let Some((member, _)) = there.find(|(m, _)| same(m) && request.replaces != Some(m.id)) {
        return Err(ApiError::bad_request(format!(
            "member {0} has the name {1} and takes its peers' connections at {2}: take its place (--replace {0}), remove it \
             first, or join with another name and address",
            member.id, member.name, member.peer_address
        )));
    }
    let id = present.keys().next_back().map_or(1, |last| last + 1);
    let (name, server) = (request.name.clone(), request.server.clone());
    writes.push((Member { id, name, peer_address, server, wanted: Wanted::Voter }, 0));
    all.extend(writes.iter().map(|(member, revision)| (member.id, (member.clone(), *revision))));
    Ok(((id, all), writes))
}

type Entered = ((u64, roster::Members), Vec<(Member, u64)>);

#[async_trait]
impl Membership for Members {
    fn servers(&self) -> Vec<String> {
        let members = self.roster.members();
        let present = members.into_values().filter(|(member, _)| member.wanted != Wanted::Removed);
        present.map(|(member, _)| member.server).collect()
    }

    async fn admit(&self, request: &AdmitRequest) -> Result<Admission, ApiError> {
        let (id, members) = self.write(DEADLINE, |present| enter(present, request, &self.raft.view().members)).await?;
        self.until_members(id, |now| now.voters.contains(&id) || now.learners.contains(&id)).await?;
        let members = members.into_values().filter(|(member, _)| member.wanted != Wanted::Removed);
        let peers = members.map(|(m, _)| Peer { id: m.id, name: m.name, peer_address: m.peer_address });
        let group = self.raft.group().map_err(ApiError::internal)?;
        Ok(Admission { member_id: id, peers: peers.collect(), first_voters: self.raft.first_voters(), group })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn present(members: &[(u64, &str, Wanted)]) -> roster::Members {
        let record = |id: u64, name: &str, wanted| Member {
            id,
            name: name.to_owned(),
            peer_address: format!("10.0.0.{id}:6444"),
            server: String::new(),
            wanted,
        };
        members.iter().map(|(id, name, wanted)| (*id, (record(*id, name, *wanted), 9))).collect()
    }

    fn request(name: &str, host: u8, replaces: Option<u64>) -> AdmitRequest {
        AdmitRequest {
            name: name.to_owned(),
            addresses: Vec::new(),
            peer_address: SocketAddr::from(([10, 0, 0, host], 6444)),
            server: String::new(),
            replaces,
        }
    }

    #[test]
    fn who_enters_gets_an_id_of_its_own_and_may_take_a_place() {
        use Wanted::{Removed, Voter};
        let now = present(&[(1, "a", Voter), (2, "b", Voter), (3, "c", Removed)]);
        let conf = ConfState { voters: vec![1, 2], ..ConfState::default() };
        // Request, its id, the records that are written.
        type Case = (AdmitRequest, u64, &'static [(u64, Wanted)]);
        let cases: [Case; 6] = [
            (request("d", 4, None), 4, &[(4, Voter)]),
            // Asked again.
            (request("b", 2, None), 2, &[]),
            // The name and address of one that was removed are free; its id is not.
            (request("c", 3, None), 4, &[(4, Voter)]),
            (request("d", 4, Some(2)), 4, &[(2, Removed), (4, Voter)]),
            // The same machine, set up anew.
            (request("b", 2, Some(2)), 4, &[(2, Removed), (4, Voter)]),
            (request("d", 4, Some(3)), 4, &[(4, Voter)]),
        ];
        for (request, id, writes) in cases {
            let ((given, all), written) = enter(&now, &request, &conf).unwrap();
            assert_eq!(given, id, "{request:?}");
            let written: Vec<_> = written.iter().map(|(member, _)| (member.id, member.wanted)).collect();
            assert_eq!(written, writes, "{request:?}");
            assert!(written.iter().all(|(id, wanted)| all[id].0.wanted == *wanted));
        }
        for (request, why) in [
            (request("a", 4, None), "member 1 has the name a"),
            (request("d", 2, None), "member 2 has the name b"),
            (request("a", 4, Some(2)), "member 1 has the name a"),
            (request("d", 4, Some(7)), "no member 7"),
        ] {
            let error = enter(&now, &request, &conf).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_vote_is_taken_only_if_the_others_can_go_on() {
        use Wanted::{Learner, Removed, Voter};
        let conf = |voters: &[u64]| ConfState { voters: voters.to_vec(), ..ConfState::default() };
        let all = present(&[(1, "a", Voter), (2, "b", Voter), (3, "c", Voter), (4, "d", Voter)]);
        // Who is to go, who votes, who is reached, whether it may.
        let cases: [(u64, &[u64], &[u64], bool); 8] = [
            (2, &[1, 2], &[1, 2], true),
            (2, &[1, 2], &[1], true),
            (1, &[1], &[1], false),
            // One of three is dead: it may go, the other living one may not.
            (3, &[1, 2, 3], &[1, 2], true),
            (2, &[1, 2, 3], &[1, 2], false),
            (2, &[1, 2, 3, 4], &[1, 2, 3], true),
            (2, &[1, 2, 3, 4], &[1, 2], false),
            // It has no vote: nobody misses it.
            (4, &[1, 2, 3], &[1], true),
        ];
        for (id, voters, reached, may) in cases {
            assert_eq!(
                may_go(id, &all, &conf(voters), reached).is_ok(),
                may,
                "{id} of {voters:?}, {reached:?} reached"
            );
        }
        // A member that was let in and has no vote yet is nobody's successor; one that is to go is none either.
        let now = present(&[(1, "a", Voter), (2, "b", Voter), (3, "c", Removed), (4, "d", Learner)]);
        assert!(may_go(1, &now, &conf(&[1]), &[1, 2]).is_err());
        assert!(may_go(1, &now, &conf(&[1, 3, 4]), &[1, 2, 3, 4]).is_err());
        let error = enter(&now, &request("e", 5, Some(1)), &conf(&[1])).unwrap_err().to_string();
        assert!(error.contains("the last one with a vote"), "{error}");
    }
}
