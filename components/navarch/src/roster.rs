//! Who the members of the control plane are meant to be, and where each is reached: records in the replicated store.
//!
//! A record says what is wanted; the leader changes consensus' own members until they are that (see [`decide`]). So any
//! member can take an order, and a leader that takes over goes on with it. A record of a member that was removed stays,
//! so that its id is never given to another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use navarch_raft_contract::{
    AppliedBatch, ApplySink, Compare, ConfState, KeyRange, Op, OpKind, ReadError, StateReader, Txn,
};
use navarch_raft_driver::{MemberChange, PeerProgress, Peers};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What keys of records begin with. No object's key does.
pub const PREFIX: &[u8] = b"navarch/members/";

/// What a member is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// It votes, as soon as it has caught up.
    Voter,
    /// It follows without a vote.
    Learner,
    /// It is none any more.
    Removed,
}

/// A member's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its id: never another's, before or after.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it takes its peers' connections, `host:port`.
    pub peer_address: String,
    /// Where its API is, `https://host:port`.
    pub server: String,
    /// What it is meant to be.
    pub wanted: Wanted,
}

/// All records, by id, each with the revision of its last change.
pub type Members = BTreeMap<u64, (Member, u64)>;

fn key(id: u64) -> Bytes {
    // Of one length, so that they sort as numbers do.
    Bytes::from([PREFIX, format!("{id:020}").as_bytes()].concat())
}

/// Reads all records.
///
/// # Errors
/// If the store fails or a record is none.
pub fn read(reader: &dyn StateReader) -> Result<Members, ReadError> {
    let (page, _) = reader.range(&KeyRange::prefix(PREFIX), None, usize::MAX)?;
    let decode = |value: &[u8]| {
        serde_json::from_slice::<Member>(value)
            .map_err(|error| ReadError::Database(format!("a member's record: {error}")))
    };
    page.items.iter().map(|item| decode(&item.value).map(|member| (member.id, (member, item.mod_revision)))).collect()
}

/// The transaction that writes records if none of them was changed since its revision (0: if there is none).
///
/// # Errors
/// If one cannot be encoded.
pub fn put(records: &[(Member, u64)]) -> serde_json::Result<Txn> {
    let mut txn = Txn::default();
    for (member, revision) in records {
        let (key, value) = (key(member.id), Bytes::from(serde_json::to_vec(member)?));
        txn.compares.push(Compare { key: key.clone(), mod_revision: *revision });
        txn.ops.push(Op { kind: OpKind::Put as i32, key, value, expires_at_ms: 0 });
    }
    Ok(txn)
}

/// Where members take their peers' connections.
pub type Addresses = BTreeMap<u64, String>;

/// The file that says so, in the data folder.
const ADDRESSES: &str = "peers.json";

/// Where the members were when that was noted last; nothing if it never was, or cannot be read.
pub fn noted_addresses(data_dir: &Path) -> Addresses {
    let text = std::fs::read(data_dir.join(ADDRESSES)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Whether a member is out: ordered to go, and none of consensus' own any more. Until then its acknowledgements may be needed,
/// also for the change that takes it out.
fn is_gone(member: &Member, conf: Option<&ConfState>) -> bool {
    member.wanted == Wanted::Removed && conf.is_some_and(|conf| !counts(conf, member.id))
}

/// Whether consensus counts a member as one, with a vote or without.
pub fn counts(conf: &ConfState, id: u64) -> bool {
    let ConfState { voters, learners, voters_outgoing, learners_next, .. } = conf;
    voters.iter().chain(learners).chain(voters_outgoing).chain(learners_next).any(|member| *member == id)
}

/// Follows the records, and tells the network of them.
pub struct Roster {
    reader: Arc<dyn StateReader>,
    peers: Peers,
    /// Where members are that have no record here yet: a member that has just joined knows them from its admission.
    seeds: BTreeMap<u64, String>,
    members: ArcSwap<Members>,
    /// Consensus' own members, once they were seen.
    conf: ArcSwapOption<ConfState>,
    /// Held while the network is told: whoever tells it last has looked last.
    telling: Mutex<()>,
    noted: Mutex<Addresses>,
}

impl Roster {
    /// Starts with the records that are there.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn new(
        reader: Arc<dyn StateReader>,
        peers: Peers,
        seeds: BTreeMap<u64, String>,
    ) -> Result<Arc<Self>, ReadError> {
        let members = ArcSwap::from_pointee(read(&*reader)?);
        let (conf, telling, noted) = (ArcSwapOption::empty(), Mutex::default(), Mutex::default());
        let this = Self { reader, peers, seeds, members, conf, telling, noted };
        this.connect();
        Ok(Arc::new(this))
    }

    /// The records now.
    pub fn members(&self) -> Members {
        Members::clone(&self.members.load())
    }

    /// Writes where the members are into a file, if that has changed: a member that has lost its state knows them from
    /// there.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn note_addresses(&self, data_dir: &Path) -> std::io::Result<()> {
        let members = self.members.load();
        let present = members.values().filter(|(member, _)| member.wanted != Wanted::Removed);
        let addresses: Addresses = present.map(|(member, _)| (member.id, member.peer_address.clone())).collect();
        let mut noted = self.noted.lock();
        if addresses.is_empty() || *noted == addresses {
            return Ok(());
        }
        navarch_storage::damage::write_whole(data_dir, ADDRESSES, &serde_json::to_vec(&addresses)?)?;
        *noted = addresses;
        Ok(())
    }

    /// Notes consensus' own members.
    pub fn see(&self, conf: &ConfState) {
        if self.conf.load().as_deref() != Some(conf) {
            self.conf.store(Some(Arc::new(conf.clone())));
            self.connect();
        }
    }

    fn connect(&self) {
        let _telling = self.telling.lock();
        let (members, conf) = (self.members.load(), self.conf.load());
        let gone = |member: &Member| is_gone(member, conf.as_deref());
        let mut addresses = self.seeds.clone();
        for (member, _) in members.values() {
            match gone(member) {
                true => addresses.remove(&member.id),
                false => addresses.insert(member.id, member.peer_address.clone()),
            };
        }
        self.peers.set_peers(addresses);
        self.peers.set_removed(members.values().filter(|(member, _)| gone(member)).map(|(m, _)| m.id).collect());
    }

    fn reload(&self) {
        match read(&*self.reader) {
            Ok(members) => {
                self.members.store(Arc::new(members));
                self.connect();
            }
            Err(error) => tracing::error!(%error, "the members' records cannot be read"),
        }
    }
}

impl ApplySink for Roster {
    fn applied(&self, batch: &AppliedBatch) {
        // They change so seldom that reading all of them is nothing.
        if batch.events.iter().any(|event| event.key.starts_with(PREFIX)) {
            self.reload();
        }
    }

    fn replaced(&self) {
        self.reload();
    }
}

/// What the leader does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Change the members.
    Change(MemberChange),
    /// Hand leadership over: this member is to go.
    HandOver,
}

/// The next step from the members as they are to those that are wanted, if one can be made now.
pub fn decide(own: u64, wanted: &Members, now: &ConfState, progress: &[PeerProgress]) -> Option<Step> {
    let records = || wanted.values().map(|(member, _)| member);
    let votes = |id: &u64| now.voters.contains(id);
    let learns = |id: &u64| now.learners.contains(id);
    let caught_up = |id: u64| progress.iter().any(|peer| peer.id == id && peer.caught_up);
    // Who has to go is not waited for; but never the last voter, whatever was ordered.
    if now.voters.len() > 1
        && let Some(gone) = records().find(|member| {
            member.wanted == Wanted::Removed && votes(&member.id)
                || member.wanted == Wanted::Learner && votes(&member.id)
        })
    {
        return Some(match (gone.id == own, gone.wanted) {
            (true, _) => Step::HandOver,
            (false, Wanted::Learner) => Step::Change(MemberChange::Demote(gone.id)),
            (false, _) => Step::Change(MemberChange::Remove(gone.id)),
        });
    }
    if let Some(gone) = records().find(|member| member.wanted == Wanted::Removed && learns(&member.id)) {
        return Some(Step::Change(MemberChange::Remove(gone.id)));
    }
    if let Some(new) = records().find(|m| m.wanted != Wanted::Removed && !votes(&m.id) && !learns(&m.id)) {
        return Some(Step::Change(MemberChange::AddLearner(new.id)));
    }
    let ready = records().find(|m| m.wanted == Wanted::Voter && learns(&m.id) && caught_up(m.id));
    ready.map(|member| Step::Change(MemberChange::Promote(member.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, wanted: Wanted) -> (u64, (Member, u64)) {
        let text = id.to_string();
        (id, (Member { id, name: text.clone(), peer_address: text.clone(), server: text, wanted }, 1))
    }

    #[test]
    fn steps_lead_to_what_is_wanted() {
        use Wanted::{Learner, Removed, Voter};
        let conf = |voters: &[u64], learners: &[u64]| ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        };
        let change = |change| Some(Step::Change(change));
        let cases: [(&[(u64, Wanted)], ConfState, &[u64], Option<Step>); 12] = [
            (&[(1, Voter)], conf(&[1], &[]), &[], None),
            (&[(1, Voter), (2, Voter)], conf(&[1], &[]), &[], change(MemberChange::AddLearner(2))),
            (&[(1, Voter), (2, Voter)], conf(&[1], &[2]), &[], None),
            (&[(1, Voter), (2, Voter)], conf(&[1], &[2]), &[2], change(MemberChange::Promote(2))),
            (&[(1, Voter), (2, Learner)], conf(&[1], &[2]), &[2], None),
            (&[(1, Voter), (2, Voter)], conf(&[1, 2], &[]), &[2], None),
            (&[(1, Voter), (2, Removed)], conf(&[1, 2], &[]), &[2], change(MemberChange::Remove(2))),
            (&[(1, Voter), (2, Removed)], conf(&[1], &[2]), &[], change(MemberChange::Remove(2))),
            (&[(1, Voter), (2, Learner)], conf(&[1, 2], &[]), &[], change(MemberChange::Demote(2))),
            (&[(1, Removed), (2, Voter)], conf(&[1, 2], &[]), &[2], Some(Step::HandOver)),
            (&[(1, Removed)], conf(&[1], &[]), &[], None),
            // Nobody is removed for the want of a record.
            (&[], conf(&[1, 2], &[]), &[], None),
        ];
        for (wanted, now, caught_up, expected) in cases {
            let wanted: Members = wanted.iter().map(|(id, wanted)| member(*id, *wanted)).collect();
            let progress: Vec<_> = caught_up
                .iter()
                .map(|id| PeerProgress { id: *id, caught_up: true, ..PeerProgress::default() })
                .collect();
            assert_eq!(decide(1, &wanted, &now, &progress), expected, "{wanted:?} from {now:?}");
        }
    }

    #[test]
    fn who_is_to_go_is_heard_until_the_change_is_made() {
        let conf = |voters: &[u64], learners: &[u64]| ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        };
        let gone = |wanted, conf: Option<&ConfState>| is_gone(&member(2, wanted).1.0, conf);
        assert!(!gone(Wanted::Removed, None));
        assert!(!gone(Wanted::Removed, Some(&conf(&[1, 2], &[]))));
        assert!(!gone(Wanted::Removed, Some(&conf(&[1], &[2]))));
        assert!(gone(Wanted::Removed, Some(&conf(&[1], &[]))));
        // One that has just been let in is not in it yet.
        assert!(!gone(Wanted::Voter, Some(&conf(&[1], &[]))));
        let joint = ConfState { voters_outgoing: vec![2], ..conf(&[1], &[]) };
        assert!(!gone(Wanted::Removed, Some(&joint)));
    }

    #[test]
    fn records_sort_by_id_and_belong_to_no_resource() {
        assert!(key(9) < key(10) && key(99) < key(100));
        assert_eq!(navarch_store::key::prefix_of(&key(1)), Some(PREFIX));
    }
}
