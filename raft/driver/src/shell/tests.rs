//! Cases for `shell`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]
//! The threads over a log and a state in memory. With RocksDB below it is tested in `chaos/`.

use std::time::{Duration, Instant};

use navarch_raft_contract::{
    Applied, AppliedBatch, AppliedState, Bootstrap, CommandBody, CommittedEntry, LogBatch, LogEntry, LogState, Payload,
    Txn,
};

use super::*;
use crate::transport::NoPeers;

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    entries: Mutex<Vec<LogEntry>>,
    syncs: AtomicU64,
    fail: AtomicBool,
    slow: Option<Duration>,
}

impl LogStore for Log {
    fn state(&self) -> Result<LogState, LogError> {
        Ok(self.state.lock().clone())
    }
    fn entries(&self, low: u64, high: u64, _: usize) -> Result<Vec<LogEntry>, LogError> {
        let entries = self.entries.lock();
        Ok(entries.iter().filter(|entry| (low..high).contains(&entry.index)).cloned().collect())
    }
    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        let state = self.state.lock();
        if index == state.prefix_index {
            return Ok(Some(state.prefix_term));
        }
        Ok(self.entries.lock().iter().find(|entry| entry.index == index).map(|entry| entry.term))
    }
    fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), LogError> {
        self.state.lock().bootstrap = Some(bootstrap.clone());
        Ok(())
    }
    fn append(&self, batch: &LogBatch) -> Result<(), LogError> {
        if self.fail.load(Ordering::Relaxed) {
            return Err(LogError::Database("the disk is gone".into()));
        }
        if let Some(self_slow) = self.slow {
            std::thread::sleep(self_slow)
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.entries.lock().extend(batch.entries.iter().cloned());
        let mut state = self.state.lock();
        state.hard_state = batch.hard_state.or(state.hard_state);
        state.last_index = batch.entries.last().map_or(state.last_index, |entry| entry.index);
        Ok(())
    }
    fn compact(&self, index: u64) -> Result<(), LogError> {
        if index <= self.state.lock().prefix_index {
            return Ok(());
        }
        let term = self.term(index)?.unwrap();
        let mut state = self.state.lock();
        (state.prefix_index, state.prefix_term) = (index, term);
        self.entries.lock().retain(|entry| entry.index > index);
        Ok(())
    }
    fn reset(&self, _: u64, _: u64) -> Result<(), LogError> {
        unreachable!("the state is never past the log here")
    }
    fn counters(&self) -> LogCounters {
        LogCounters { syncs: self.syncs.load(Ordering::Relaxed), ..LogCounters::default() }
    }
}

/// Counts commands; each takes a revision.
#[derive(Default)]
struct State {
    applied: Mutex<AppliedState>,
    durable: AtomicU64,
    refuse: AtomicBool,
    panic: AtomicBool,
}

impl StateMachine for State {
    fn applied(&self) -> AppliedState {
        self.applied.lock().clone()
    }
    fn apply(&self, entries: &[CommittedEntry]) -> Result<Applied, ApplyError> {
        assert!(!self.panic.load(Ordering::Relaxed), "told to");
        let mut applied = self.applied.lock();
        let mut outcomes = Vec::new();
        for entry in entries {
            let mut these = Vec::new();
            if let Payload::Commands(data) = &entry.payload {
                if self.refuse.load(Ordering::Relaxed) {
                    return Err(ApplyError::Unknown { index: entry.index, position: 0 });
                }
                for _ in Batch::from_bytes(data.clone()).unwrap().commands {
                    applied.revision += 1;
                    let revision = applied.revision;
                    these.push(Outcome::Done { index: entry.index, first: revision, last: revision });
                }
            }
            (applied.index, applied.term) = (entry.index, entry.term);
            outcomes.push(these);
        }
        let batch = AppliedBatch { index: applied.index, term: applied.term, ..AppliedBatch::default() };
        Ok(Applied { outcomes, batch, ..Applied::default() })
    }
    fn flush(&self) -> Result<Index, ApplyError> {
        let index = self.applied.lock().index;
        self.durable.store(index, Ordering::Relaxed);
        Ok(index)
    }
    fn durable(&self) -> Index {
        self.durable.load(Ordering::Relaxed)
    }
    fn compact_slice(&self, _: usize) -> Result<bool, ApplyError> {
        Ok(false)
    }
    // Snapshots are tested where there is a state that has any: in `chaos/`.
    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, SnapshotError> {
        Err(SnapshotError::Damaged("there is none".into()))
    }
    fn stage(&self) -> Result<Box<dyn SnapshotSink>, SnapshotError> {
        Err(SnapshotError::Damaged("there is none".into()))
    }
    fn unstage(&self, _: Index) {}
    fn install(&self, _: Index) -> Result<AppliedState, SnapshotError> {
        Err(SnapshotError::Damaged("there is none".into()))
    }
}

#[derive(Default)]
struct Sink(Mutex<Vec<Index>>);

impl ApplySink for Sink {
    fn applied(&self, batch: &AppliedBatch) {
        self.0.lock().push(batch.index);
    }
    fn replaced(&self) {}
}

#[derive(Default, Clone)]
struct Member {
    log: Arc<Log>,
    state: Arc<State>,
    sink: Arc<Sink>,
    fatal: Arc<Mutex<Vec<String>>>,
}

impl Member {
    fn slow(sync: Duration) -> Self {
        Self { log: Arc::new(Log { slow: Some(sync), ..Log::default() }), ..Self::default() }
    }

    fn start(&self, change: impl FnOnce(&mut Config)) -> Result<RaftHandle, StartError> {
        let mut config = Config::single(1, "test");
        change(&mut config);
        let fatal = self.fatal.clone();
        start(
            config,
            Parts {
                log: self.log.clone(),
                state: self.state.clone(),
                sinks: vec![self.sink.clone()],
                transport: Arc::new(NoPeers),
                fatal: Arc::new(move |error| fatal.lock().push(error.to_string())),
            },
        )
    }
}

fn command() -> Command {
    Command { fence_term: 0, body: Some(CommandBody::Txn(Txn::default())) }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("within the deadline")
}

async fn leading(handle: &RaftHandle) {
    within(handle.watch().wait_for(|status| status.ready)).await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_one_leads_and_answers_after_the_sinks() {
    let member = Member::default();
    let handle = member.start(|_| {}).unwrap();
    leading(&handle).await;
    assert_eq!((handle.status().role, handle.status().leader), (Role::Leader, Some(1)));
    for revision in 1..=3 {
        let outcome = within(handle.propose(command())).await.unwrap();
        let Outcome::Done { index, first, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(first, revision);
        assert!(member.sink.0.lock().contains(&index));
        let read = within(handle.read_index()).await.unwrap();
        assert!(read >= index);
        assert!(within(handle.wait_applied(read)).await);
    }
    within(handle.shutdown()).await;
    assert_eq!(member.state.durable(), 4, "flushed at the end");
    assert_eq!(within(handle.propose(command())).await, Err(ProposeError::Stopped));
    assert_eq!(within(handle.read_index()).await, Err(ReadIndexError::Stopped));
    assert!(!within(handle.wait_applied(99)).await);
    assert!(member.fatal.lock().is_empty());
}

#[tokio::test]
async fn waiting_proposals_share_a_sync() {
    let member = Member::slow(Duration::from_millis(20));
    let handle = member.start(|_| {}).unwrap();
    leading(&handle).await;
    let before = handle.figures();
    let proposals: Vec<_> = (0..200)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.propose(command()).await })
        })
        .collect();
    for proposal in proposals {
        within(proposal).await.unwrap().unwrap();
    }
    let after = handle.figures();
    assert_eq!(after.commands - before.commands, 200);
    assert!(after.log.syncs - before.log.syncs < 20, "{after:?}");
    // Their places are given back behind their answers.
    within(async {
        while handle.figures().pending > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(handle.shutdown()).await;
}

#[tokio::test]
async fn what_is_full_says_so() {
    let member = Member::slow(Duration::from_millis(50));
    let handle = member.start(|config| (config.proposals_max, config.command_bytes_max) = (3, 1000)).unwrap();
    leading(&handle).await;
    let proposals: Vec<_> = (0..8)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.propose(command()).await })
        })
        .collect();
    let mut busy = 0;
    for proposal in proposals {
        busy += u32::from(within(proposal).await.unwrap() == Err(ProposeError::Busy));
    }
    assert_eq!((busy, handle.figures().refused_busy), (5, 5));
    let mut big = command();
    big.body = Some(CommandBody::Txn(Txn {
        compares: vec![],
        ops: vec![navarch_raft_contract::Op { value: vec![0; 2000].into(), ..Default::default() }],
    }));
    assert!(matches!(within(handle.propose(big)).await, Err(ProposeError::TooLarge { max: 1000, .. })));
    within(handle.propose(command())).await.unwrap();
    within(handle.shutdown()).await;
}

#[tokio::test]
async fn what_was_accepted_is_answered_before_the_end() {
    let member = Member::slow(Duration::from_millis(30));
    let handle = member.start(|_| {}).unwrap();
    leading(&handle).await;
    let proposals: Vec<_> =
        (0..5).map(|_| handle.propose_encoded(Batch { commands: vec![command()] }.to_bytes()).unwrap()).collect();
    within(handle.shutdown()).await;
    for answer in proposals {
        assert!(answer.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_the_state_is_durable() {
    let member = Member::default();
    let handle = member.start(|config| (config.flush_bytes, config.log_keep_entries) = (1, 2)).unwrap();
    leading(&handle).await;
    for _ in 0..20 {
        within(handle.propose(command())).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while member.log.state.lock().prefix_index < 10 && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(member.log.state.lock().prefix_index >= 10, "the log is cut behind the flushed state");
    within(handle.shutdown()).await;
    // A crash takes back what was not flushed.
    *member.state.applied.lock() = AppliedState { index: 21, term: 1, revision: 20, members: None };
    let handle = member.start(|_| {}).unwrap();
    leading(&handle).await;
    let outcome = within(handle.propose(command())).await.unwrap();
    assert!(matches!(outcome, Outcome::Done { first: 21, .. }), "{outcome:?}");
    within(handle.shutdown()).await;
}

#[tokio::test]
async fn a_failure_of_the_log_or_the_state_is_fatal() {
    type Break = fn(&Member);
    let cases: [(Break, &str); 3] = [
        (|member| member.log.fail.store(true, Ordering::Relaxed), "log writer: log database: the disk is gone"),
        (
            |member| member.state.refuse.store(true, Ordering::Relaxed),
            "applier: entry 2: command 0 is not known to this version",
        ),
        (|member| member.state.panic.store(true, Ordering::Relaxed), "applier panicked: told to"),
    ];
    for (break_it, message) in cases {
        let member = Member::default();
        let handle = member.start(|_| {}).unwrap();
        leading(&handle).await;
        break_it(&member);
        assert_eq!(within(handle.propose(command())).await, Err(ProposeError::Unknown), "{message}");
        within(handle.shutdown()).await;
        assert_eq!(*member.fatal.lock(), [message]);
    }
}

#[tokio::test]
async fn somebody_elses_data_is_refused() {
    let member = Member::default();
    let handle = member.start(|_| {}).unwrap();
    leading(&handle).await;
    within(handle.shutdown()).await;
    let refusal = |change: fn(&mut Config)| member.start(change).err().unwrap().to_string();
    let other = refusal(|config| config.cluster_id = "other".into());
    assert_eq!(other, "the data folder belongs to member 1 of cluster test, this is member 1 of cluster other");
    let other = refusal(|config| config.member = 2);
    assert_eq!(other, "the data folder belongs to member 1 of cluster test, this is member 2 of cluster test");
    member.log.state.lock().prefix_index = 50;
    let gap = refusal(|_| {});
    assert_eq!(gap, "the log begins after entry 50, the state ends at entry 1: entries are missing");
}
