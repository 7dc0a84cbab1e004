//! A disk in memory: appended bytes are lost by a crash unless they were synced, and records are replaced only by a flush.

use std::sync::Arc;

use navarch_raft_contract::{ConfState, LogStore};
use navarch_storage::{
    Machine,
    kv::{Home, Kv, KvError, WriteSet},
    memory::{MemoryKv, MemoryView},
};
use parking_lot::Mutex;

use crate::{Backend, Bug, Opened, simlog::SimLog};

/// Why a write or a sync came to nothing. Either way the member must be at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The power went.
    PowerCut,
    /// The disk reports an error. How much of the write is there is not known.
    Failed,
}

impl DiskError {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::PowerCut => "power cut",
            Self::Failed => "input/output error",
        }
    }
}

fn failed(error: DiskError) -> KvError {
    KvError(error.words().into())
}

#[derive(Default)]
struct Inner {
    durable: Vec<u8>,
    unsynced: Vec<u8>,
    steps: u64,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    dead: Option<DiskError>,
    discarded: u64,
    torn: u64,
    /// The file that says that the state is condemned, and who the members were.
    condemned: Option<ConfState>,
}

/// One member's disk. The log is a file on it; the state's flushes are steps of it.
#[derive(Default)]
pub struct Disk {
    inner: Mutex<Inner>,
}

impl Inner {
    /// Counts a moment at which the power can go.
    fn step(&mut self) -> Result<(), DiskError> {
        let planned = |at: Option<u64>, error| (at == Some(self.steps)).then_some(error);
        let error = self.dead.or(planned(self.crash_at, DiskError::PowerCut));
        self.dead = error.or(planned(self.fail_at, DiskError::Failed));
        match self.dead {
            Some(error) => Err(error),
            None => {
                self.steps += 1;
                Ok(())
            }
        }
    }
}

impl Disk {
    /// Appends to the file; in the cache only.
    pub fn append(&self, bytes: &[u8]) -> Result<(), DiskError> {
        let mut inner = self.inner.lock();
        if let Some(error) = inner.dead {
            return Err(error);
        }
        let done = inner.step();
        // Also a write that is cut short may have reached the cache in part: the torn tail is cut from here.
        inner.unsynced.extend_from_slice(bytes);
        done
    }

    /// Makes the file durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        let mut inner = self.inner.lock();
        inner.step()?;
        let mut unsynced = std::mem::take(&mut inner.unsynced);
        inner.durable.append(&mut unsynced);
        Ok(())
    }

    /// Writes the file that condemns the state, or removes it; whole, and synced.
    fn set_condemned(&self, members: Option<ConfState>) -> Result<(), DiskError> {
        let mut inner = self.inner.lock();
        inner.step()?;
        inner.condemned = members;
        Ok(())
    }

    /// A step of another kind.
    pub fn step(&self) -> Result<(), DiskError> {
        self.inner.lock().step()
    }

    /// The file.
    pub fn read(&self) -> Vec<u8> {
        let inner = self.inner.lock();
        [inner.durable.as_slice(), &inner.unsynced].concat()
    }

    /// Cuts a torn end off.
    pub fn truncate(&self, length: usize) {
        let mut inner = self.inner.lock();
        let bytes = [inner.durable.as_slice(), &inner.unsynced].concat();
        inner.durable = bytes[..length.min(bytes.len())].to_vec();
        inner.unsynced.clear();
    }

    fn crash(&self, torn: u64) {
        let mut inner = self.inner.lock();
        let kept = (torn % (inner.unsynced.len() as u64 + 1)) as usize;
        let tail = inner.unsynced[..kept].to_vec();
        inner.torn += u64::from(kept > 0 && kept < inner.unsynced.len());
        inner.discarded += (inner.unsynced.len() - kept) as u64;
        inner.durable.extend(tail);
        inner.unsynced.clear();
        (inner.dead, inner.crash_at, inner.fail_at) = (None, None, None);
    }

    /// The process ends and the machine does not: what was written is read back.
    fn kill(&self) {
        let mut inner = self.inner.lock();
        let mut written = std::mem::take(&mut inner.unsynced);
        inner.durable.append(&mut written);
        inner.dead = None;
    }
}

/// Records whose flush is a step of the disk.
pub struct SimKv {
    memory: MemoryKv,
    disk: Arc<Disk>,
    /// The last write, for the bug that leaves half of it.
    last: Mutex<WriteSet>,
}

impl Kv for SimKv {
    type View<'a> = MemoryView;

    fn view(&self) -> MemoryView {
        self.memory.view()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.memory.get(key)
    }

    fn write(&self, set: WriteSet) -> Result<(), KvError> {
        *self.last.lock() = set.clone();
        self.memory.write(set)
    }

    fn flush(&self) -> Result<(), KvError> {
        self.disk.step().map_err(failed)?;
        self.memory.flush()
    }
}

/// Where a member's states are: which one counts changes in one step of the disk.
struct SimHome(Arc<Disk>);

impl SimHome {
    fn keeper(&self, memory: MemoryKv) -> SimKv {
        SimKv { memory, disk: self.0.clone(), last: Mutex::default() }
    }
}

impl Home for SimHome {
    type Kv = SimKv;

    fn copy(&self, of: &SimKv) -> Result<SimKv, KvError> {
        Ok(self.keeper(of.memory.clone()))
    }

    fn fresh(&self) -> Result<SimKv, KvError> {
        Ok(self.keeper(MemoryKv::default()))
    }

    fn adopt(&self, staged: SimKv) -> Result<SimKv, KvError> {
        self.0.step().map_err(failed)?;
        // Whatever was wrong with the old one.
        if self.0.inner.lock().condemned.is_some() {
            self.0.set_condemned(None).map_err(failed)?;
        }
        Ok(staged)
    }

    fn retire(&self, _: SimKv) {}
}

/// A member's data on a simulated disk.
pub struct SimBackend {
    disk: Arc<Disk>,
    state: Option<Arc<Machine<SimKv>>>,
    bug: Option<Bug>,
}

impl SimBackend {
    /// An empty disk.
    pub fn new(bug: Option<Bug>) -> Self {
        Self { disk: Arc::default(), state: None, bug }
    }
}

impl Backend for SimBackend {
    fn open(&mut self) -> Result<Opened, String> {
        let log: Arc<dyn LogStore> =
            Arc::new(SimLog::open(self.disk.clone(), self.bug).map_err(|error| error.to_string())?);
        let memory = match self.state.take() {
            Some(_) if self.condemned().is_some() => MemoryKv::default(),
            Some(state) => {
                let kept = state.kv().memory.crashed();
                if self.bug == Some(Bug::HalfWrite) {
                    let mut half = state.kv().last.lock().clone();
                    half.changes.truncate(half.changes.len() / 2);
                    kept.write(half).and_then(|()| kept.flush()).map_err(|error| error.to_string())?;
                }
                kept
            }
            None => MemoryKv::default(),
        };
        let home = SimHome(self.disk.clone());
        let state = Machine::open(home.keeper(memory), Arc::new(home)).map_err(|error| error.to_string())?;
        let state = Arc::new(state);
        self.state = Some(state.clone());
        Ok(Opened { log, state })
    }

    fn condemn(&mut self, members: ConfState) -> Result<(), String> {
        self.disk.set_condemned(Some(members)).map_err(|error| error.words().to_owned())
    }

    fn condemned(&self) -> Option<ConfState> {
        self.disk.inner.lock().condemned.clone()
    }

    fn crash(&mut self, torn: u64) {
        self.disk.crash(torn);
    }

    fn kill(&mut self) {
        self.disk.kill();
    }

    fn dead(&self) -> bool {
        self.disk.inner.lock().dead.is_some()
    }

    fn failed(&self) -> bool {
        self.disk.inner.lock().dead == Some(DiskError::Failed)
    }

    fn discarded_bytes(&self) -> u64 {
        self.disk.inner.lock().discarded
    }

    fn steps(&self) -> u64 {
        self.disk.inner.lock().steps
    }

    fn torn_writes(&self) -> u64 {
        self.disk.inner.lock().torn
    }

    fn plan_crash(&mut self, step: Option<u64>) {
        self.disk.inner.lock().crash_at = step;
    }

    fn plan_failure(&mut self, step: Option<u64>) {
        self.disk.inner.lock().fail_at = step;
    }
}
