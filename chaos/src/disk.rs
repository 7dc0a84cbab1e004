//! A disk in memory: appended bytes are lost by a crash unless they were synced, and records are replaced only by a flush.

use std::sync::Arc;

use navarch_raft_contract::LogStore;
use navarch_storage::{
    Machine,
    kv::{Home, Kv, KvError, WriteSet},
    memory::{MemoryKv, MemoryView},
};
use parking_lot::Mutex;

use crate::{Backend, Bug, Opened, simlog::SimLog};

/// The power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut;

#[derive(Default)]
struct Inner {
    durable: Vec<u8>,
    unsynced: Vec<u8>,
    steps: u64,
    crash_at: Option<u64>,
    dead: bool,
}

/// One member's disk. The log is a file on it; the state's flushes are steps of it.
#[derive(Default)]
pub struct Disk {
    inner: Mutex<Inner>,
}

impl Inner {
    /// Counts a moment at which the power can go.
    fn step(&mut self) -> Result<(), PowerCut> {
        if self.dead || self.crash_at == Some(self.steps) {
            self.dead = true;
            return Err(PowerCut);
        }
        self.steps += 1;
        Ok(())
    }
}

impl Disk {
    /// Appends to the file; in the cache only.
    pub fn append(&self, bytes: &[u8]) -> Result<(), PowerCut> {
        let mut inner = self.inner.lock();
        if inner.dead {
            return Err(PowerCut);
        }
        let done = inner.step();
        // Also a write that is cut short may have reached the cache in part: the torn tail is cut from here.
        inner.unsynced.extend_from_slice(bytes);
        done
    }

    /// Makes the file durable.
    pub fn sync(&self) -> Result<(), PowerCut> {
        let mut inner = self.inner.lock();
        inner.step()?;
        let mut unsynced = std::mem::take(&mut inner.unsynced);
        inner.durable.append(&mut unsynced);
        Ok(())
    }

    /// A step of another kind.
    pub fn step(&self) -> Result<(), PowerCut> {
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
        inner.durable.extend(tail);
        inner.unsynced.clear();
        (inner.dead, inner.crash_at) = (false, None);
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
        self.disk.step().map_err(|PowerCut| KvError("power cut".into()))?;
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
        self.0.step().map_err(|PowerCut| KvError("power cut".into()))?;
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

    fn crash(&mut self, torn: u64) {
        self.disk.crash(torn);
    }

    fn dead(&self) -> bool {
        self.disk.inner.lock().dead
    }

    fn steps(&self) -> u64 {
        self.disk.inner.lock().steps
    }

    fn plan_crash(&mut self, step: Option<u64>) {
        self.disk.inner.lock().crash_at = step;
    }
}
