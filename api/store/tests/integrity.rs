//! Members over RocksDB, connected without a network: states that differ, that are condemned, recovered, saved.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use navarch_raft_contract::{
    ApplySink, Check, Command, CommandBody, Compare, KeyRange, Op, OpKind, Outcome, StateMachine, StateReader, Txn,
};
use navarch_raft_driver::{Config, Local, Parts, RaftHandle, Role, Transport, Verdict};
use navarch_storage::archive::{self, ArchiveHeader, Asked};
use navarch_storage::damage::{self, Condemned};
use navarch_storage::kv::{Kv, WriteSet};
use navarch_storage::rebase::Fate;
use navarch_storage::recovery::Recovery;
use navarch_storage::{DataFolder, RocksConfig, StateDb, keys, record::Meta};
use navarch_store::{Progress, Raft, Store, StoreError, upkeep};
use parking_lot::Mutex;
use prost::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::time::Instant;

const GROUP: &str = "group";

/// Everybody who is there, by id.
type Everybody = Arc<Mutex<BTreeMap<u64, RaftHandle>>>;

struct Wire {
    own: u64,
    everybody: Everybody,
}

impl Transport for Wire {
    fn send(&self, messages: Vec<Message>) {
        let everybody = self.everybody.lock().clone();
        for message in messages {
            let (Some(to), Some(from)) = (everybody.get(&message.to), everybody.get(&self.own)) else { continue };
            if message.get_msg_type() != MessageType::MsgSnapshot {
                to.receive(message);
                continue;
            }
            let (to, from) = (to.clone(), from.clone());
            std::thread::spawn(move || {
                let index = message.get_snapshot().get_metadata().index;
                let sent = carry(&from, index, &to);
                let id = message.to;
                if sent.is_some() {
                    to.receive(message);
                }
                from.snapshot_sent(id, sent.is_some());
            });
        }
    }
}

/// Reads the state that was offered, and stages it there.
fn carry(from: &RaftHandle, index: u64, to: &RaftHandle) -> Option<()> {
    let mut source = Local::snapshot(from, index)?;
    let mut sink = to.stage().ok()?;
    std::io::copy(&mut source, &mut sink).ok()?;
    sink.finish().ok().map(drop)
}

struct Member {
    raft: RaftHandle,
    state: Arc<StateDb>,
    store: Store,
    _folder: DataFolder,
}

struct Cluster {
    everybody: Everybody,
    folders: Vec<tempfile::TempDir>,
    members: BTreeMap<u64, Member>,
}

fn start(id: u64, group: &str, voters: Vec<u64>, path: &Path, everybody: &Everybody) -> Member {
    let folder = DataFolder::acquire(path).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let (log, state) = loop {
        match folder.open_as(id, &RocksConfig::default()) {
            Ok(opened) => break opened,
            // A snapshot that is being carried holds on to the databases a little longer than their member.
            Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    };
    let state = Arc::new(state);
    let reader: Arc<dyn StateReader> = state.clone();
    let progress = Arc::new(Progress::new(reader.clone()));
    let mut config = Config::single(id, group);
    config.voters = voters;
    config.seed = id;
    config.rebuild = folder.rebuilding().unwrap().map(|condemned| condemned.members);
    let raft = navarch_raft_driver::start(
        config,
        Parts {
            log: Arc::new(log),
            state: state.clone(),
            sinks: vec![progress.clone() as Arc<dyn ApplySink>],
            transport: Arc::new(Wire { own: id, everybody: everybody.clone() }),
            fatal: Arc::new(|error| panic!("{error}")),
        },
    )
    .unwrap();
    everybody.lock().insert(id, raft.clone());
    let store = Store::new(Arc::new(Raft::new(raft.clone(), None)), progress, reader);
    Member { raft, state, store, _folder: folder }
}

impl Cluster {
    fn of(count: u64) -> Self {
        let folders = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut this = Self { everybody: Everybody::default(), folders, members: BTreeMap::new() };
        (1..=count).for_each(|id| this.start(id));
        this
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folders[id as usize - 1].path().to_owned()
    }

    fn start(&mut self, id: u64) {
        let voters = (1..=self.folders.len() as u64).collect();
        let member = start(id, GROUP, voters, &self.path(id), &self.everybody);
        self.members.insert(id, member);
    }

    fn stop(&mut self, id: u64) {
        self.everybody.lock().remove(&id);
        let member = self.members.remove(&id).unwrap();
        member.raft.shutdown_blocking();
    }

    async fn leader(&self) -> &Member {
        let leads = |member: &&Member| member.raft.status().ready;
        until(|| self.members.values().any(|member| leads(&member)), "nobody leads").await;
        self.members.values().find(leads).unwrap()
    }

    /// Puts through whoever leads.
    async fn put(&self, key: &str, value: &str) -> u64 {
        loop {
            let txn = Txn {
                compares: vec![],
                ops: vec![Op {
                    kind: OpKind::Put as i32,
                    key: key.to_owned().into(),
                    value: value.to_owned().into(),
                    expires_at_ms: 0,
                }],
            };
            match self.leader().await.store.commit(txn, None, deadline()).await {
                Ok(committed) => return committed.last,
                Err(StoreError::NoLeader | StoreError::Unknown) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// One check, and what everybody says of it.
    async fn check(&self) -> BTreeMap<u64, Verdict> {
        let before = self.leader().await.raft.checks().last.map_or(0, |(index, _)| index);
        upkeep::check(&self.leader().await.store, deadline()).await.unwrap();
        let seen = |member: &Member| member.raft.checks().last.is_some_and(|(index, _)| index > before);
        until(|| self.members.values().all(seen), "a check is not seen").await;
        for (id, member) in &self.members {
            let witness = member.raft.checks().to_say(*id).unwrap();
            upkeep::testify(&self.leader().await.store, witness, deadline()).await.unwrap();
        }
        let all = self.members.len();
        until(|| self.members.values().all(|m| m.raft.checks().said.len() == all), "not all has been heard").await;
        let verdict = |member: &Member| member.raft.checks().verdict(&member.raft.view().members);
        self.members.iter().map(|(id, member)| (*id, verdict(member))).collect()
    }

    async fn settle(&self) {
        let last = self.leader().await.raft.applied();
        until(|| self.members.values().all(|m| m.raft.applied() >= last && !m.raft.rebuilding()), "it lags").await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.everybody.lock().clear();
        self.members.values().for_each(|member| member.raft.shutdown_blocking());
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn until(reached: impl Fn() -> bool, what: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_state_differs_is_known_by_itself_and_gets_another_one() {
    let mut cluster = Cluster::of(3);
    for n in 0..20 {
        cluster.put(&format!("key-{n}"), "value").await;
    }
    cluster.settle().await;
    assert!(cluster.check().await.values().all(|verdict| *verdict == Verdict::Agrees));
    // A change that no entry made, as a fault of memory would make it.
    cluster.stop(3);
    {
        let folder = DataFolder::acquire(&cluster.path(3)).unwrap();
        let (_log, state) = folder.open(&RocksConfig::default()).unwrap();
        let kv = state.kv();
        let mut meta = Meta::decode(kv.get(keys::META).unwrap().unwrap().as_slice()).unwrap();
        meta.hash ^= 1;
        let mut set = WriteSet::default();
        set.put(keys::META.to_vec(), meta.encode_to_vec());
        kv.write(set).unwrap();
        kv.flush().unwrap();
    }
    cluster.start(3);
    cluster.put("more", "values").await;
    cluster.settle().await;
    let verdicts = cluster.check().await;
    assert!(matches!(verdicts[&3], Verdict::Differs { own, others, .. } if own == others ^ 1), "{verdicts:?}");
    assert_eq!((verdicts[&1], verdicts[&2]), (Verdict::Agrees, Verdict::Agrees));
    // It takes itself out. What happens meanwhile it gets with the state.
    let members = cluster.members[&3].raft.view().members;
    cluster.stop(3);
    damage::condemn(&cluster.path(3), &Condemned { reason: "it differs".into(), members }).unwrap();
    cluster.put("meanwhile", "others write").await;
    cluster.start(3);
    assert!(cluster.members[&3].raft.rebuilding());
    for n in 0..20 {
        cluster.put(&format!("key-{n}"), "newer").await;
    }
    cluster.settle().await;
    assert_eq!(damage::condemned(&cluster.path(3)).unwrap(), None);
    let state = &cluster.members[&3].state;
    assert_eq!(state.get(b"meanwhile", None).unwrap().unwrap().value, "others write");
    assert!(cluster.check().await.values().all(|verdict| *verdict == Verdict::Agrees));
    // And it is a member as before, also after another start.
    cluster.stop(3);
    cluster.start(3);
    cluster.put("last", "value").await;
    cluster.settle().await;
    assert!(cluster.check().await.values().all(|verdict| *verdict == Verdict::Agrees));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_state_votes_and_does_not_lead() {
    let mut cluster = Cluster::of(3);
    cluster.put("a", "1").await;
    cluster.settle().await;
    let members = cluster.members[&3].raft.view().members;
    cluster.stop(3);
    damage::condemn(&cluster.path(3), &Condemned { reason: "a test".into(), members }).unwrap();
    // Only one other is left: the vote of the member without a state is needed.
    cluster.stop(2);
    cluster.start(3);
    cluster.put("b", "2").await;
    assert_eq!(cluster.members[&1].raft.status().role, Role::Leader);
    cluster.settle().await;
    assert_eq!(cluster.members[&3].state.get(b"b", None).unwrap().unwrap().value, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_goes_on_alone_and_its_clients_see_nothing_go_back() {
    let mut cluster = Cluster::of(3);
    for n in 0..10 {
        cluster.put(&format!("key-{n}"), "value").await;
    }
    let last = cluster.put("last", "acknowledged").await;
    cluster.settle().await;
    for id in [1, 2, 3] {
        cluster.stop(id);
    }
    let recovery = Recovery::prepare(&cluster.path(2), &RocksConfig::default()).unwrap();
    assert_eq!((recovery.facts().revision, recovery.facts().members.voters.len()), (last, 3));
    recovery.carry_out("group-r1", 0, &|_, _| Fate::Keep).unwrap();
    let everybody = Everybody::default();
    let alone = start(2, "group-r1", vec![2], &cluster.path(2), &everybody);
    until(|| alone.raft.status().ready, "it does not lead").await;
    let kept = alone.state.get(b"last", None).unwrap().unwrap();
    assert_eq!(kept.value, "acknowledged");
    assert!(kept.mod_revision > last);
    // A compare with what the client knew fails, and one with what it reads now holds.
    let txn = |mod_revision| Txn {
        compares: vec![Compare { key: "last".into(), mod_revision }],
        ops: vec![Op { kind: OpKind::Put as i32, key: "last".into(), value: "new".into(), expires_at_ms: 0 }],
    };
    let stale = alone.store.commit(txn(last), None, deadline()).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    let fresh = alone.store.commit(txn(kept.mod_revision), None, deadline()).await.unwrap();
    assert!(fresh.last > kept.mod_revision);
    assert!(alone.state.events(&KeyRange::prefix(b""), last, 99).is_err());
    assert_eq!(alone.raft.group().unwrap(), "group-r1");
    alone.raft.shutdown_blocking();
    drop(alone);
    everybody.lock().clear();
    // Under its old name it does not start any more.
    let folder = DataFolder::acquire(&cluster.path(2)).unwrap();
    let (log, state) = folder.open(&RocksConfig::default()).unwrap();
    let mut config = Config::single(2, GROUP);
    config.voters = vec![1, 2, 3];
    let from = navarch_raft_driver::recover::recover(&config, &log, &state.applied());
    assert!(from.unwrap_err().to_string().contains("belongs to member 2 of cluster group-r1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_member_is_saved_while_it_writes() {
    let cluster = Cluster::of(1);
    for n in 0..50 {
        cluster.put(&format!("core/pods/key-{n}"), "value").await;
    }
    let member = cluster.leader().await;
    let mut source = member.raft.take_snapshot().unwrap();
    let revision = member.store.revision();
    cluster.put("core/pods/later", "value").await;
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.snapshot");
    let asked = Asked { group: |_| "all".to_owned(), records: b"core/pods/key-7" };
    let saved = archive::save(&file, &ArchiveHeader::default(), &mut source, asked).unwrap();
    assert_eq!((saved.meta.revision, saved.groups["all"].keys), (revision, 50));
    assert_eq!(saved.records.len(), 1);
    // A check alone says nothing: there is nobody to compare with.
    let body = Command { fence_term: 0, body: Some(CommandBody::Check(Check {})) };
    let outcome = member.raft.propose(body).await.unwrap();
    assert!(matches!(outcome, Outcome::Done { first, last, .. } if last < first), "it takes no revision");
}
