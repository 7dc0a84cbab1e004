//! A member's data made anew: from a snapshot's file, or from the data of a member whose cluster is lost.
//!
//! Both are safe to kill at any point and to be called again. A restore builds a whole data folder beside the one that it
//! is to be, which gets its name last. A recovery builds a new state beside the old one; then one file says what is to
//! become of log and state; from there on it is completed by whoever opens the folder next, whatever happens.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use navarch_raft_contract::{
    ApplyError, Bootstrap, CommittedEntry, ConfState, EntryKind, Index, KeyRange, LogEntry, LogError, LogStore,
    Payload, Revision, SnapshotError, SnapshotMeta, StateMachine, StateReader, Term,
};
use prost::Message as _;

use crate::{
    Machine, RocksConfig, RocksKv, RocksLog,
    archive::{self, ArchiveHeader},
    damage::{forget, remove_file, write_whole},
    folder::{DataFolder, FolderError},
    kv::{Home, KvError},
    machine::snapshot::Receiver,
    rebase::{Base, Fate, next_revision, rebase},
    rocks::RocksHome,
};

/// The file that says what is to become of log and state.
const PLAN: &str = "RECOVERY";
/// What the name of a folder ends with that is being restored.
const RESTORING: &str = ".restoring";
/// Entries of the log that are applied at once.
const APPLY_BYTES: usize = 4 << 20;

/// Why data was not made anew. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is data already, which is never overwritten.
    #[error("{} exists: it is never overwritten", .0.display())]
    Exists(PathBuf),
    /// There is no member's data.
    #[error("{} holds no data of a member", .0.display())]
    Empty(PathBuf),
    /// The file system refuses.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state, or the snapshot, is not sound.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is in the log cannot be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The state database.
    #[error("state database: {0}")]
    Database(String),
    /// The log and the state do not belong together.
    #[error("the log begins after entry {log}, the state ends at entry {state}: entries are missing")]
    Gap {
        /// Last forgotten entry of the log.
        log: Index,
        /// Last applied entry.
        state: Index,
    },
    /// Revisions cannot go forward any more.
    #[error("the store is at revision {0}: there is no room above it for another recovery")]
    NoRevisions(Revision),
}

fn failed(error: KvError) -> RecoveryError {
    RecoveryError::Database(error.0)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecoveryError + '_ {
    move |source| RecoveryError::Io { path: path.to_owned(), source }
}

fn sync_folder(path: &Path) -> Result<(), RecoveryError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

fn only(member: u64) -> ConfState {
    ConfState { voters: vec![member], ..ConfState::default() }
}

/// What a restored member is.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// The new cluster.
    pub cluster_id: String,
    /// The member, which is its only one.
    pub member: u64,
    /// The wall clock, milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// Where the file came from.
    pub header: ArchiveHeader,
    /// The state in it.
    pub from: SnapshotMeta,
    /// The state made of it.
    pub now: SnapshotMeta,
}

/// Makes a data folder of the only member of a new cluster from a snapshot's file. The folder must not be there.
///
/// # Errors
/// See [`RecoveryError`]; nothing is at `folder` then.
pub fn restore(
    folder: &Path,
    file: &Path,
    new: &NewMember,
    config: &RocksConfig,
    fate: &dyn Fn(&[u8], &[u8]) -> Fate,
) -> Result<Restored, RecoveryError> {
    if folder.exists() {
        return Err(RecoveryError::Exists(folder.to_owned()));
    }
    let mut draft = folder.as_os_str().to_owned();
    draft.push(RESTORING);
    let draft = PathBuf::from(draft);
    if draft.exists() {
        // Held by another restore, or left by one that was killed.
        drop(DataFolder::acquire(&draft)?);
        fs::remove_dir_all(&draft).map_err(at(&draft))?;
    }
    let held = DataFolder::acquire(&draft)?;
    let restored = build(&draft, file, new, config, fate).inspect_err(|_| {
        if let Err(error) = fs::remove_dir_all(&draft) {
            tracing::warn!(%error, path = %draft.display(), "cannot remove what was not completed");
        }
    })?;
    sync_folder(&draft)?;
    fs::rename(&draft, folder).map_err(at(folder))?;
    sync_folder(folder.parent().unwrap_or(Path::new("/")))?;
    drop(held);
    Ok(restored)
}

fn build(
    folder: &Path,
    file: &Path,
    new: &NewMember,
    config: &RocksConfig,
    fate: &dyn Fn(&[u8], &[u8]) -> Fate,
) -> Result<Restored, RecoveryError> {
    let cache = config.cache();
    let home = RocksHome::open(folder, config, &cache).map_err(at(folder))?;
    let mut receiver = Receiver::new(home.fresh().map_err(failed)?);
    let header = archive::read_state(file, |bytes| receiver.push(bytes))?;
    let (from, received) = receiver.finish()?;
    let base = Base {
        // The log begins after it, so that it is never taken for one of the old cluster.
        index: from.index.max(1),
        term: from.term.max(1),
        revision: next_revision(from.revision, new.now_ms).ok_or(RecoveryError::NoRevisions(from.revision))?,
        members: only(new.member),
    };
    let state = home.fresh().map_err(failed)?;
    let now = rebase(&received, &state, &base, fate)?;
    drop(home.adopt(state).map_err(failed)?);
    drop(received);
    let path = folder.join("log");
    fs::create_dir(&path).map_err(at(&path))?;
    let log = RocksLog::open(&path, config, &cache)?;
    let bootstrap =
        Bootstrap { cluster_id: new.cluster_id.clone(), member: new.member, members: Some(only(new.member)) };
    log.begin_anew(&bootstrap, base.index, base.term, base.term)?;
    Ok(Restored { header, from, now })
}

/// What a recovery has to do once it is decided.
#[derive(Clone, PartialEq, prost::Message)]
struct Plan {
    /// The new group.
    #[prost(message, optional, tag = "1")]
    bootstrap: Option<Bootstrap>,
    /// The new state's last entry.
    #[prost(uint64, tag = "2")]
    index: u64,
    /// Its term.
    #[prost(uint64, tag = "3")]
    entry_term: u64,
    /// The term of the log.
    #[prost(uint64, tag = "4")]
    term: u64,
    /// The new state's folder.
    #[prost(string, tag = "5")]
    state: String,
}

/// Completes a recovery that was decided, if there is one. Called before anything else looks into the folder.
pub(crate) fn complete(folder: &Path, config: &RocksConfig) -> Result<bool, FolderError> {
    let io = |source| FolderError::Io { path: folder.to_owned(), source };
    let bytes = match fs::read(folder.join(PLAN)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io(error)),
    };
    let plan = Plan::decode(bytes.as_slice()).map_err(|error| io(io::Error::other(format!("{PLAN}: {error}"))))?;
    let log = |source| FolderError::Log { path: folder.to_owned(), source };
    let database = RocksLog::open(&folder.join("log"), config, &config.cache()).map_err(log)?;
    let bootstrap = plan.bootstrap.unwrap_or_default();
    database.begin_anew(&bootstrap, plan.index, plan.entry_term, plan.term).map_err(log)?;
    RocksHome::point(folder, &folder.join(&plan.state)).map_err(io)?;
    // Whatever was said of the old state and of its members.
    forget(folder).map_err(io)?;
    remove_file(folder, PLAN).map_err(io)?;
    tracing::warn!(group = bootstrap.cluster_id, index = plan.index, "a recovery was completed");
    Ok(true)
}

/// What is on the disk of a member, and what would become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The consensus group as it was.
    pub group: String,
    /// This member.
    pub member: u64,
    /// The members, as this one knew last.
    pub members: ConfState,
    /// The last entry whose effect was on the disk.
    pub flushed: Index,
    /// Known to be committed; more may have been.
    pub committed: Index,
    /// The last entry of the log, which is kept, as all before it.
    pub last: Index,
    /// Its term.
    pub last_term: Term,
    /// The term of the log.
    pub term: Term,
    /// Kept entries that are not known to be committed. Some may have been acknowledged, so none is dropped.
    pub uncommitted: u64,
    /// Changes of members among the entries after the state: they do not happen.
    pub member_changes: u64,
    /// The store's revision with all entries.
    pub revision: Revision,
    /// The hash of that state.
    pub hash: u64,
    /// A recovery that had been decided before was completed just now.
    pub completed: bool,
}

/// A member's data, looked at and not changed.
pub struct Recovery {
    folder: DataFolder,
    home: RocksHome,
    config: RocksConfig,
    facts: Facts,
    log: RocksLog,
    state: RocksKv,
    /// A copy of the state, with the log applied to it.
    ahead: Machine<RocksKv>,
}

/// A home that nothing is ever installed into.
struct Nowhere;

impl Home for Nowhere {
    type Kv = RocksKv;

    fn copy(&self, _: &RocksKv) -> Result<RocksKv, KvError> {
        Err(KvError("a copy is not copied".into()))
    }

    fn fresh(&self) -> Result<RocksKv, KvError> {
        Err(KvError("a copy is not replaced".into()))
    }

    fn adopt(&self, staged: RocksKv) -> Result<RocksKv, KvError> {
        Ok(staged)
    }

    fn retire(&self, _: RocksKv) {}
}

impl Recovery {
    /// Looks at a member's data. Takes the folder, so that nobody runs on it meanwhile.
    ///
    /// # Errors
    /// [`FolderError::InUse`] if a process runs on it; what is wrong with the data.
    pub fn prepare(folder: &Path, config: &RocksConfig) -> Result<Self, RecoveryError> {
        if !folder.join("log").exists() {
            return Err(RecoveryError::Empty(folder.to_owned()));
        }
        let held = DataFolder::acquire(folder)?;
        let completed = complete(folder, config)?;
        let cache = config.cache();
        let home = RocksHome::open(folder, config, &cache).map_err(at(folder))?;
        let log = RocksLog::open(&folder.join("log"), config, &cache)?;
        let state = home.state().map_err(failed)?;
        let ahead = Machine::open(home.scratch(&state).map_err(failed)?, Arc::new(Nowhere))?;
        let facts = facts(&log, &ahead, completed)
            .and_then(|facts| facts.ok_or_else(|| RecoveryError::Empty(folder.to_owned())))?;
        Ok(Self { folder: held, home, config: *config, facts, log, state, ahead })
    }

    /// What was found.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Keys that begin with `prefix`, with their values, after all entries of the log.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn records(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, RecoveryError> {
        let read = self.ahead.range(&KeyRange::prefix(prefix), None, usize::MAX);
        let (page, _) = read.map_err(|error| RecoveryError::Database(error.to_string()))?;
        Ok(page.items.into_iter().map(|item| (item.key, item.value)).collect())
    }

    /// Makes this member the only one of a new consensus group, with all that is in its log and its state.
    ///
    /// # Errors
    /// See [`RecoveryError`]; then everything is as before, or the next call of [`Recovery::prepare`], and the next start,
    /// complete it.
    pub fn carry_out(
        self,
        group: &str,
        now_ms: u64,
        fate: &dyn Fn(&[u8], &[u8]) -> Fate,
    ) -> Result<SnapshotMeta, RecoveryError> {
        let Self { folder, home, config, facts, log, state, ahead } = self;
        let base = Base {
            index: facts.last,
            term: facts.last_term,
            revision: next_revision(facts.revision, now_ms).ok_or(RecoveryError::NoRevisions(facts.revision))?,
            members: only(facts.member),
        };
        let fresh = home.fresh().map_err(failed)?;
        let now = rebase(&*ahead.kv(), &fresh, &base, fate)?;
        let name = fresh.path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let bootstrap =
            Bootstrap { cluster_id: group.to_owned(), member: facts.member, members: Some(base.members.clone()) };
        let plan = Plan {
            bootstrap: Some(bootstrap),
            index: base.index,
            entry_term: base.term,
            // In its new group it has voted for nobody; the term goes on nevertheless.
            term: facts.term.max(base.term),
            state: name,
        };
        // From here on the new state's folder is not temporary any more.
        fresh.keep();
        drop((ahead, state, log));
        let path = folder.path();
        sync_folder(path)?;
        write_whole(path, PLAN, &plan.encode_to_vec()).map_err(at(path))?;
        complete(path, &config)?;
        // Removes the old state.
        RocksHome::open(path, &config, &config.cache()).map_err(at(path))?;
        Ok(now)
    }
}

/// Applies the log to the copy, and tells what there is; `None`: no member ever ran here.
fn facts(log: &RocksLog, ahead: &Machine<RocksKv>, completed: bool) -> Result<Option<Facts>, RecoveryError> {
    let found = log.state()?;
    let Some(bootstrap) = found.bootstrap else { return Ok(None) };
    let before = ahead.applied();
    if found.prefix_index > before.index {
        return Err(RecoveryError::Gap { log: found.prefix_index, state: before.index });
    }
    let hard_state = found.hard_state.unwrap_or_default();
    // A state past the log's end, or beside it, was installed from a snapshot: the log is of no more use then.
    let follows = log.term(before.index)? == Some(before.term) || before.index == 0;
    let (mut members, mut member_changes) = (0, 0);
    let mut next = before.index + 1;
    while follows && next <= found.last_index {
        let entries = log.entries(next, found.last_index + 1, APPLY_BYTES)?;
        next += entries.len() as u64;
        let entries: Vec<CommittedEntry> = entries.into_iter().map(|entry| committed(entry, &mut members)).collect();
        ahead.apply(&entries)?;
        member_changes += std::mem::take(&mut members);
        ahead.flush()?;
    }
    let after = ahead.applied();
    let committed = hard_state.commit.max(before.index).min(after.index);
    Ok(Some(Facts {
        group: bootstrap.cluster_id,
        member: bootstrap.member,
        members: before.members.filter(|members| !members.voters.is_empty()).or(bootstrap.members).unwrap_or_default(),
        flushed: before.index,
        committed,
        last: after.index,
        last_term: after.term,
        term: hard_state.term.max(after.term),
        uncommitted: after.index - committed,
        member_changes,
        revision: after.revision,
        hash: ahead.hash(),
        completed,
    }))
}

fn committed(entry: LogEntry, changes: &mut u64) -> CommittedEntry {
    let payload = match entry.kind {
        EntryKind::Normal if entry.data.is_empty() => Payload::Empty,
        EntryKind::Normal => Payload::Commands(entry.data),
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
            *changes += 1;
            Payload::Empty
        }
    };
    CommittedEntry { index: entry.index, term: entry.term, payload }
}
