//! The members of the control plane: letting new ones in, changing and removing them, and what the leader does for that.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use navarch_raft_contract::ConfState;
use navarch_raft_driver::{Peers, ProposeError, RaftHandle};
use navarch_server::Pipeline;
use navarch_server::join::{Admission, AdmitRequest, Membership, Peer};
use navarch_store::{Store, StoreError};
use navarch_supervision::{ChildSpec, TaskContext};
use navarch_types::{ApiError, Reason};
use tokio::time::Instant;

use crate::bootstrap::{self, Reach};
use crate::identity::Identity;
use crate::roster::{self, Member, Roster, Step, Wanted, decide};

/// How long an order may take until it has happened.
const DEADLINE: Duration = Duration::from_secs(30);
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
    ApiError::new(Reason::ServiceUnavailable, format!("the members' records: {error}"))
}

impl Members {
    /// Changes one record after the other until it holds: `change` says which, from all that are there, or that nothing is
    /// to be done.
    async fn write<T>(
        &self,
        change: impl Fn(&roster::Members) -> Result<(T, Option<(Member, u64)>), ApiError>,
    ) -> Result<T, ApiError> {
        let deadline = Instant::now() + DEADLINE;
        for _ in 0..ATTEMPTS {
            self.store.barrier(deadline).await.map_err(|error| unavailable(&error))?;
            let present = roster::read(&**self.store.reader()).map_err(ApiError::internal)?;
            let (answer, write) = change(&present)?;
            let Some((member, revision)) = write else { return Ok(answer) };
            let txn = roster::put(&member, revision).map_err(ApiError::internal)?;
            match self.store.commit(txn, None, deadline).await {
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
        self.write(|present| match present.get(&own.id) {
            Some((there, _)) if there.wanted == Wanted::Removed => {
                Err(ApiError::new(Reason::ServiceUnavailable, "this member was removed from its cluster"))
            }
            Some((there, revision)) => {
                let own = Member { wanted: there.wanted, ..own.clone() };
                Ok(((), (own != *there).then_some((own, *revision))))
            }
            None => Ok(((), Some((own.clone(), 0)))),
        })
        .await
    }

    /// Orders what a member is to be.
    ///
    /// # Errors
    /// If there is no such member, or it cannot be that.
    pub async fn order(&self, id: u64, wanted: Wanted) -> Result<Member, ApiError> {
        self.write(|present| {
            let Some((member, revision)) = present.get(&id) else {
                return Err(ApiError::bad_request(format!("there is no member {id}")));
            };
            let voters = present.values().filter(|(m, _)| m.wanted == Wanted::Voter && m.id != id).count();
            if member.wanted == Wanted::Removed && wanted != Wanted::Removed {
                return Err(ApiError::bad_request(format!("member {id} was removed: it has to join anew")));
            }
            if wanted != Wanted::Voter && voters == 0 {
                return Err(ApiError::bad_request(format!("member {id} is the last one with a vote")));
            }
            let changed = Member { wanted, ..member.clone() };
            Ok((changed.clone(), (changed != *member).then_some((changed, *revision))))
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

    /// The members that are reached now, this one too.
    fn live(&self, own: u64) -> Vec<Member> {
        let figures = self.peers.figures();
        let connected: BTreeSet<u64> = figures.iter().filter(|(_, link)| link.connected).map(|(id, _)| *id).collect();
        let members = self.roster.members().into_values().map(|(member, _)| member);
        members.filter(|m| m.wanted != Wanted::Removed && (m.id == own || connected.contains(&m.id))).collect()
    }
}

#[async_trait]
impl Membership for Members {
    fn servers(&self) -> Vec<String> {
        let members = self.roster.members();
        let present = members.into_values().filter(|(member, _)| member.wanted != Wanted::Removed);
        present.map(|(member, _)| member.server).collect()
    }

    async fn admit(&self, request: &AdmitRequest) -> Result<Admission, ApiError> {
        let peer_address = request.peer_address.to_string();
        let (id, members) = self
            .write(|present| {
                let mut there = present.values().filter(|(member, _)| member.wanted != Wanted::Removed);
                let same = there.find(|(m, _)| m.name == request.name || m.peer_address == peer_address);
                if let Some((member, _)) = same {
                    if member.name == request.name && member.peer_address == peer_address {
                        return Ok(((member.id, present.clone()), None));
                    }
                    return Err(ApiError::bad_request(format!(
                        "member {} has the name {} and takes its peers' connections at {}: remove it first, or join with \
                         another name and address",
                        member.id, member.name, member.peer_address
                    )));
                }
                let id = present.keys().next_back().map_or(1, |last| last + 1);
                let member = Member {
                    id,
                    name: request.name.clone(),
                    peer_address: peer_address.clone(),
                    server: request.server.clone(),
                    wanted: Wanted::Voter,
                };
                let mut all = present.clone();
                all.insert(id, (member.clone(), 0));
                Ok(((id, all), Some((member, 0))))
            })
            .await?;
        self.until_members(id, |now| now.voters.contains(&id) || now.learners.contains(&id)).await?;
        let members = members.into_values().filter(|(member, _)| member.wanted != Wanted::Removed);
        let peers = members.map(|(m, _)| Peer { id: m.id, name: m.name, peer_address: m.peer_address });
        let group = self.raft.group().map_err(ApiError::internal)?;
        Ok(Admission { member_id: id, peers: peers.collect(), first_voters: self.raft.first_voters(), group })
    }
}
