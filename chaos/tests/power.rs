//! RocksDB itself with the power cut: bytes that were not synced are really discarded.
//!
//! This binary defines `fsync` and `fdatasync`, so RocksDB, which is linked into it, calls these instead of libc's. They
//! copy what becomes durable, and nothing else does: of a file its bytes at its last sync, of a folder its names at its last
//! sync. When the power is cut the copy is frozen; what is left is that copy with, for some files, a torn piece of what
//! was appended after the last sync. From it the stores are opened again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    fs::{self, File},
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use navarch_chaos::{
    Backend, Bug, Opened,
    explore::{every_step, soak},
};
use navarch_raft_contract::{Bootstrap, Index, LogBatch, LogCounters, LogEntry, LogError, LogState, LogStore, Term};
use navarch_storage::{DataFolder, RocksConfig, RocksLog};

/// What is durable of the folder under test.
struct Shadow {
    root: PathBuf,
    /// The bytes of each inode at its last sync. The file stays open, so that its number is not given to another.
    bytes: HashMap<u64, (Vec<u8>, File)>,
    /// The names at the last sync of their folder, relative to the root.
    names: HashMap<PathBuf, (u64, File)>,
    syncs: u64,
    crash_at: Option<u64>,
    /// At the cut: the bytes of each durable name as they were in the cache.
    cache: Option<HashMap<PathBuf, Vec<u8>>>,
}

static SHADOW: Mutex<Option<Shadow>> = Mutex::new(None);
/// Tests in one process share the shadow: one at a time.
static ONE: Mutex<()> = Mutex::new(());

impl Shadow {
    fn new(root: &Path) -> Self {
        let root = root.to_owned();
        Self { root, bytes: HashMap::new(), names: HashMap::new(), syncs: 0, crash_at: None, cache: None }
    }

    fn dead(&self) -> bool {
        self.cache.is_some()
    }

    fn synced(&mut self, fd: RawFd) {
        let link = PathBuf::from(format!("/proc/self/fd/{fd}"));
        let Ok(path) = fs::read_link(&link) else { return };
        if self.dead() || !path.starts_with(&self.root) {
            return;
        }
        if self.crash_at == Some(self.syncs) {
            self.cut();
            return;
        }
        self.syncs += 1;
        let file = File::open(&link).unwrap();
        let metadata = file.metadata().unwrap();
        if metadata.is_dir() {
            self.names.retain(|name, _| self.root.join(name).parent() != Some(&path));
            for entry in fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap().path();
                // Gone since it was listed: then it is not there.
                let Ok(file) = File::open(&entry) else { continue };
                let name = entry.strip_prefix(&self.root).unwrap().to_owned();
                self.names.insert(name, (file.metadata().unwrap().ino(), file));
            }
        } else {
            self.bytes.insert(metadata.ino(), (fs::read(&link).unwrap(), file));
        }
    }

    fn cut(&mut self) {
        let read = |(name, (_, file)): (&PathBuf, &(u64, File))| {
            let bytes = fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
            (name.clone(), bytes)
        };
        self.cache = Some(self.names.iter().map(read).collect());
    }

    /// Writes what is left into another folder.
    fn materialize(&self, to: &Path, torn: u64) {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(name, _)| name.components().count());
        for (name, (ino, file)) in names {
            if file.metadata().unwrap().is_dir() {
                fs::create_dir_all(to.join(name)).unwrap();
                continue;
            }
            let durable = self.bytes.get(ino).map(|(bytes, _)| bytes.as_slice()).unwrap_or_default();
            let cached = self.cache.as_ref().and_then(|cache| cache.get(name));
            let appended = cached.and_then(|cached| cached.strip_prefix(durable)).unwrap_or_default();
            let kept = (torn % (appended.len() as u64 + 1)) as usize;
            // A name whose folder was never synced under the root has nowhere to be.
            if to.join(name).parent().is_some_and(Path::exists) {
                fs::write(to.join(name), [durable, &appended[..kept]].concat()).unwrap();
            }
        }
    }
}

fn intercepted(fd: RawFd) -> i32 {
    if let Some(shadow) = SHADOW.lock().unwrap().as_mut() {
        shadow.synced(fd);
        return 0;
    }
    // SAFETY: the caller's descriptor is open while the call lasts.
    #[allow(unsafe_code)]
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    if rustix::fs::fsync(fd).is_ok() { 0 } else { -1 }
}

/// libc's name.
#[allow(unsafe_code)]
// SAFETY: same signature and meaning as libc's; rustix makes the system call itself.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: RawFd) -> i32 {
    intercepted(fd)
}

/// libc's name.
#[allow(unsafe_code)]
// SAFETY: same signature and meaning as libc's; rustix makes the system call itself.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: RawFd) -> i32 {
    intercepted(fd)
}

/// The stores in a folder whose unsynced bytes are lost by a crash.
struct Rocks {
    temp: tempfile::TempDir,
    generation: usize,
    bug: Option<Bug>,
    open: Option<DataFolder>,
}

impl Rocks {
    fn new(bug: Option<Bug>) -> Self {
        // Durability is simulated, so a folder in memory does, and does not wait for a disk.
        let memory = Path::new("/dev/shm");
        let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        fs::create_dir(temp.path().join("0")).unwrap();
        *SHADOW.lock().unwrap() = Some(Shadow::new(&temp.path().join("0")));
        Self { temp, generation: 0, bug, open: None }
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join(self.generation.to_string())
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        *SHADOW.lock().unwrap() = None;
    }
}

fn small() -> RocksConfig {
    // Small buffers, so that flushes and compactions of RocksDB's own happen too.
    RocksConfig { log_buffer_bytes: 128 << 10, state_buffer_bytes: 128 << 10, ..RocksConfig::default() }
}

impl Backend for Rocks {
    fn open(&mut self) -> Result<Opened, String> {
        self.open = None;
        let folder = DataFolder::acquire(&self.path()).map_err(|error| error.to_string())?;
        let (log, state) = folder.open(&small()).map_err(|error| error.to_string())?;
        self.open = Some(folder);
        let log: Arc<dyn LogStore> = match self.bug {
            Some(Bug::SkippedSync) => Arc::new(Forgetful { log, calls: AtomicUsize::new(0) }),
            _ => Arc::new(log),
        };
        Ok(Opened { log, state: Arc::new(state) })
    }

    fn crash(&mut self, torn: u64) {
        self.open = None;
        let mut shadow = SHADOW.lock().unwrap();
        let old = shadow.as_mut().unwrap();
        if !old.dead() {
            old.cut();
        }
        self.generation += 1;
        let path = self.temp.path().join(self.generation.to_string());
        fs::create_dir(&path).unwrap();
        old.materialize(&path, torn);
        let mut new = Shadow::new(&path);
        // What is left is what the disk holds: all of it durable.
        new.adopt(&path);
        new.syncs = old.syncs;
        *shadow = Some(new);
    }

    fn dead(&self) -> bool {
        SHADOW.lock().unwrap().as_ref().is_some_and(Shadow::dead)
    }

    fn steps(&self) -> u64 {
        SHADOW.lock().unwrap().as_ref().map_or(0, |shadow| shadow.syncs)
    }

    fn plan_crash(&mut self, step: Option<u64>) {
        if let Some(shadow) = SHADOW.lock().unwrap().as_mut() {
            shadow.crash_at = step;
        }
    }
}

impl Shadow {
    fn adopt(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let (file, bytes) = (File::open(&path).unwrap(), fs::read(&path));
            let ino = file.metadata().unwrap().ino();
            match bytes {
                Ok(bytes) => drop(self.bytes.insert(ino, (bytes, File::open(&path).unwrap()))),
                Err(_) => self.adopt(&path),
            }
            self.names.insert(path.strip_prefix(&self.root).unwrap().to_owned(), (ino, file));
        }
    }
}

/// A log that says it synced, and did not: the write goes through a handle whose syncs come to nothing.
struct Forgetful {
    log: RocksLog,
    calls: AtomicUsize,
}

impl Forgetful {
    fn unsynced<T>(&self, act: impl FnOnce() -> T) -> T {
        // The sync happens on this thread, inside the call: it is made to look like one of a folder that is not watched.
        let elsewhere = PathBuf::from("/nowhere");
        let root = SHADOW.lock().unwrap().as_mut().map(|shadow| std::mem::replace(&mut shadow.root, elsewhere));
        let result = act();
        if let (Some(shadow), Some(root)) = (SHADOW.lock().unwrap().as_mut(), root) {
            shadow.root = root;
        }
        result
    }
}

impl LogStore for Forgetful {
    fn state(&self) -> Result<LogState, LogError> {
        self.log.state()
    }
    fn entries(&self, low: Index, high: Index, max_bytes: usize) -> Result<Vec<LogEntry>, LogError> {
        self.log.entries(low, high, max_bytes)
    }
    fn term(&self, index: Index) -> Result<Option<Term>, LogError> {
        self.log.term(index)
    }
    fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), LogError> {
        self.log.bootstrap(bootstrap)
    }
    fn append(&self, batch: &LogBatch) -> Result<(), LogError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            return self.unsynced(|| self.log.append(batch));
        }
        self.log.append(batch)
    }
    fn compact(&self, index: Index) -> Result<(), LogError> {
        self.log.compact(index)
    }
    fn reset(&self, index: Index, term: Term) -> Result<(), LogError> {
        self.log.reset(index, term)
    }
    fn counters(&self) -> LogCounters {
        self.log.counters()
    }
}

/// Opening RocksDB takes a while: a dozen cuts, spread over the run, are enough for every time. More by
/// `NAVARCH_CHAOS_CUTS=1000 NAVARCH_CHAOS_SEED=7 cargo nextest run --release -p navarch-chaos --test power`.
fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default);
    eprintln!("{name}={value}");
    value
}

#[test]
fn rocksdb_loses_nothing_whenever_the_power_is_cut() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (seed, cuts) = (setting("NAVARCH_CHAOS_SEED", 1), setting("NAVARCH_CHAOS_CUTS", 12));
    let run = every_step(seed, 80, None, cuts, &mut || Rocks::new(None));
    let crashes = run.unwrap_or_else(|failure| panic!("{failure:?}"));
    eprintln!("{crashes} crashes");
    assert!(crashes >= cuts.min(12) / 2);
}

#[test]
fn rocksdb_survives_many_crashes_in_a_row() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seed = setting("NAVARCH_CHAOS_SEED", 1);
    let counts = soak(seed, 8, None, vec![Rocks::new(None)], 1).unwrap_or_else(|failure| panic!("{failure:?}"));
    eprintln!("{counts:?}");
}

/// Shows that the cut really takes unsynced bytes away from RocksDB. The other bugs are found by the simulated disk.
#[test]
fn a_skipped_sync_over_rocksdb_is_found() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let bug = Some(Bug::SkippedSync);
    let failure = (3..60).find_map(|seed| soak(seed, 10, bug, vec![Rocks::new(bug)], 1).err());
    eprintln!("{:?}", failure.expect("the bug was not found"));
}
