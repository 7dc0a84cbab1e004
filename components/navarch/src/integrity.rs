//! Whether this member's state is what it should be, and what is done if it is not.
//!
//! Three ways lead here: members compare the hashes of their states at checks in the log; the state is read in the
//! background, as it is on the disk; and every read that finds damage is remembered. A member whose state is wrong takes
//! itself out: it hands leadership over, condemns its state, and the process begins anew in its own place. It starts
//! without a state, gets one from the leader, and serves nothing until it has caught up: that is what every start does.
//! The only member stops, because its state is all there is.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use navarch_config::StoreSettings;
use navarch_raft_contract::{ConfState, Room, RoomLevel};
use navarch_raft_driver::{RaftHandle, Role, Verdict};
use navarch_storage::damage::{self, Condemned};
use navarch_storage::{Space, StateDb};
use navarch_store::{Store, upkeep};
use navarch_supervision::{ChildSpec, TaskContext};
use tokio::time::Instant;

use crate::alarms::{AlarmKind, Alarms, room_name};
use crate::roster::{Roster, Wanted};

/// Between two looks at what was found.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// One proposal.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a leader whose state is wrong waits for another one to take over.
const HAND_OVER: Duration = Duration::from_secs(3);
/// After a start, the state is read for the first time.
const FIRST_SCRUB: Duration = Duration::from_secs(5);
/// Bytes read between two pauses.
const SCRUB_STEP_BYTES: usize = 256 << 10;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Integrity {
    pub store: Store,
    pub raft: RaftHandle,
    pub state: Arc<StateDb>,
    pub alarms: Arc<Alarms>,
    pub roster: Arc<Roster>,
    pub space: Arc<Space>,
    /// The folder of the databases.
    pub folder: PathBuf,
    /// The folder that it is in.
    pub data_dir: PathBuf,
    /// This member.
    pub own: u64,
    pub settings: StoreSettings,
}

/// Condemns a state that cannot be read, if there are others to get another one from. Whether it did.
pub fn condemn_unread(folder: &Path, member: u64, why: &str) -> bool {
    let members = damage::noted_members(folder).ok().flatten().unwrap_or_default();
    let condemned = Condemned { reason: why.to_owned(), members };
    if !condemned.has_others(member) {
        tracing::error!(
            why,
            "the state is damaged, and there is no other member to get it from: restore the cluster with `navarch \
             snapshot restore`"
        );
        return false;
    }
    damage::condemn(folder, &condemned).inspect_err(|error| tracing::error!(%error, "cannot condemn the state")).is_ok()
}

/// The process begins anew in its own place: the same program with the same arguments, and nothing else of what it was.
pub fn begin_anew(why: &str) -> ! {
    tracing::error!(why, "the state is damaged: this member takes itself out, and gets another one's state");
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "navarch".into());
    let error = std::process::Command::new("/proc/self/exe").arg0(name).args(arguments).exec();
    tracing::error!(%error, "the process cannot begin anew; ending it");
    std::process::abort();
}

impl Integrity {
    /// What runs on every member beside everything else.
    pub fn watcher(&self) -> ChildSpec {
        let this = self.clone();
        ChildSpec::task("integrity", move |context: TaskContext| {
            let this = this.clone();
            async move {
                let mut noted = ConfState::default();
                let (mut checked, every) = (Instant::now(), Duration::from_secs(this.settings.check_seconds));
                loop {
                    tokio::select! {
                        () = context.stopped() => return Ok::<(), std::io::Error>(()),
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                    this.note_members(&mut noted)?;
                    if let Some(why) = this.state.damage().found() {
                        this.condemn(&why).await;
                    }
                    this.compare(&noted).await;
                    if !every.is_zero() && checked.elapsed() >= every && noted.voters.len() > 1 {
                        checked = Instant::now();
                        told(upkeep::check(&this.store, Instant::now() + DEADLINE).await);
                    }
                    this.tell().await;
                }
            }
        })
    }

    fn note_members(&self, noted: &mut ConfState) -> std::io::Result<()> {
        let members = self.raft.view().members;
        self.roster.note_addresses(&self.data_dir)?;
        if members != *noted && !members.voters.is_empty() {
            damage::note_members(&self.folder, &members)?;
            *noted = members;
        }
        Ok(())
    }

    /// Says what this member found at the last check, and looks what the others said.
    async fn compare(&self, members: &ConfState) {
        let checks = self.raft.checks();
        if let Some(witness) = checks.to_say(self.own) {
            told(upkeep::testify(&self.store, witness, Instant::now() + DEADLINE).await);
        }
        match checks.verdict(members) {
            Verdict::Open => {}
            Verdict::Agrees => self.alarms.set(AlarmKind::Corrupt, None),
            Verdict::Differs { index, own, others } => {
                let why = format!("at entry {index} its hash is {own:016x}, and that of the others {others:016x}");
                self.condemn(&why).await;
            }
            Verdict::Split { index } => {
                let why = format!(
                    "at entry {index} the members' states differ, and no majority of more than one says which is right"
                );
                self.alarms.set(AlarmKind::Corrupt, Some(why));
            }
        }
    }

    /// Tells the others of alarms, and of those of members that are none any more.
    async fn tell(&self) {
        let level = self.space.level();
        let message = (level != RoomLevel::Ample).then(|| {
            let free = self.space.free_and_total_bytes().map_or(0, |(free, _)| free >> 20);
            let taken = if level == RoomLevel::Low { "nothing new is taken" } else { "only deletes are taken" };
            format!("the disk is nearly full ({}, {free} MiB free): {taken}", room_name(level))
        });
        self.alarms.set(AlarmKind::NoSpace, message);
        let deadline = || Instant::now() + DEADLINE;
        if let Some(txn) = self.alarms.to_write(level) {
            told(self.store.commit_reserved(txn, deadline()).await);
        }
        if self.store.leading_term().is_some() {
            let members = self.roster.members();
            let present = members.values().filter(|(member, _)| member.wanted != Wanted::Removed);
            let present: BTreeSet<u64> = present.map(|(member, _)| member.id).collect();
            if let Some(txn) = self.alarms.to_forget(&present) {
                told(self.store.commit_reserved(txn, deadline()).await);
            }
        }
    }

    /// Takes this member out. Does not return.
    async fn condemn(&self, why: &str) {
        let view = self.raft.view();
        let condemned = Condemned { reason: why.to_owned(), members: view.members };
        if let Err(error) = damage::condemn(&self.folder, &condemned) {
            tracing::error!(%error, "cannot condemn the state; tried again");
            return;
        }
        if !condemned.has_others(self.own) {
            tracing::error!(
                why,
                folder = %self.folder.display(),
                "the state is damaged, and there is no other member to get it from: restore the cluster with `navarch \
                 snapshot restore`"
            );
            std::process::exit(1);
        }
        self.alarms.set(AlarmKind::Corrupt, Some(why.to_owned()));
        self.step_down().await;
        if let Some(txn) = self.alarms.to_write(self.space.level()) {
            told(self.store.commit_reserved(txn, Instant::now() + Duration::from_secs(1)).await);
        }
        begin_anew(why);
    }

    async fn step_down(&self) {
        let deadline = Instant::now() + HAND_OVER;
        let mut status = self.raft.watch();
        while status.borrow_and_update().role == Role::Leader {
            let peers = self.raft.view().peers;
            let able = peers.iter().filter(|peer| peer.voter && peer.caught_up && !peer.snapshot);
            if let Some(successor) = able.max_by_key(|peer| peer.matched) {
                self.raft.transfer(successor.id);
            }
            if Instant::now() >= deadline {
                tracing::error!("nobody takes leadership over: it is given up");
                return;
            }
            // Either is a reason to look again.
            let _ = tokio::time::timeout(HAND_OVER / 10, status.changed()).await;
        }
    }

    /// Reads the state in the background, at a bounded rate.
    pub fn scrubber(&self) -> ChildSpec {
        let this = self.clone();
        ChildSpec::task("scrub", move |context: TaskContext| {
            let this = this.clone();
            async move {
                let pause = Duration::from_secs((60 * this.settings.scrub_pause_minutes).max(1));
                let mut wait = FIRST_SCRUB;
                loop {
                    tokio::select! {
                        () = context.stopped() => return Ok::<(), tokio::task::JoinError>(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = pause;
                    if this.settings.scrub_mib_per_second == 0 || this.space.level() != RoomLevel::Ample {
                        continue;
                    }
                    let stop = Arc::new(AtomicBool::new(false));
                    let reading = tokio::task::spawn_blocking({
                        let (this, stop) = (this.clone(), Arc::clone(&stop));
                        move || this.scrub(&stop)
                    });
                    tokio::pin!(reading);
                    tokio::select! {
                        read = &mut reading => read?,
                        () = context.stopped() => {
                            stop.store(true, Ordering::Release);
                            reading.await?;
                        }
                    }
                }
            }
        })
    }

    fn scrub(&self, stop: &AtomicBool) {
        let rate = self.settings.scrub_mib_per_second << 20;
        let (started, mut read, mut unpaced) = (std::time::Instant::now(), 0u64, 0);
        let checked = self.state.check(&mut |bytes| {
            (read, unpaced) = (read + bytes as u64, unpaced + bytes);
            if unpaced >= SCRUB_STEP_BYTES {
                unpaced = 0;
                let due = Duration::from_secs_f64(read as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(started.elapsed()).min(LOOK_EVERY));
            }
            // The copy that is read holds on to what is freed meanwhile.
            !stop.load(Ordering::Acquire) && (unpaced > 0 || self.space.level() == RoomLevel::Ample)
        });
        let seconds = started.elapsed().as_secs();
        match checked {
            Ok(meta) => tracing::debug!(bytes = read, seconds, index = meta.index, "the state on the disk is sound"),
            // The watcher acts on it.
            Err(error) => tracing::warn!(%error, bytes = read, "the state on the disk was not read to its end"),
        }
    }
}

/// What does not matter if it is not done: the next look does it.
fn told<T>(done: Result<T, navarch_store::StoreError>) {
    if let Err(error) = done {
        tracing::debug!(%error, "not told to the other members yet");
    }
}
