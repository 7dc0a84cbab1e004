//! Which folder holds the state, and the folders beside it: copies to read from, and states that are being received.
//!
//! A file names the folder that counts; it is replaced as a whole. Without it that is `state`. Every other folder of a
//! state or a copy is a leftover of a process that ended, and is removed at the next start.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rocksdb::{Cache, checkpoint::Checkpoint};

use super::{RocksConfig, RocksKv};
use crate::{
    damage::{pardon, write_whole},
    kv::{Home, Kv, KvError},
};

/// The file that names the state's folder.
const POINTER: &str = "STATE";
/// The folder's name where there is no such file.
const FIRST: &str = "state";

/// See the module.
pub struct RocksHome {
    folder: PathBuf,
    config: RocksConfig,
    cache: Cache,
    next: AtomicU64,
}

/// Removes a folder when it is dropped, unless it was told to keep it.
#[derive(Debug, Default)]
pub(super) struct Temporary(Mutex<Option<PathBuf>>);

impl Temporary {
    /// It stays.
    pub(super) fn keep(&self) {
        *self.0.lock() = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.get_mut().take() {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove a state that is not used any more");
    }
}

fn io(error: io::Error) -> KvError {
    KvError(error.to_string())
}

impl RocksHome {
    /// Finds the state's folder in the data folder, and removes leftovers.
    pub(crate) fn open(folder: &Path, config: &RocksConfig, cache: &Cache) -> io::Result<Self> {
        let this = Self { folder: folder.to_owned(), config: *config, cache: cache.clone(), next: AtomicU64::new(1) };
        let current = this.name()?;
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = |prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<u64>().ok());
            if let Some(number) = number("state-") {
                this.next.fetch_max(number + 1, Ordering::Relaxed);
            }
            if name != current && (name == FIRST || number("state-").is_some() || number("copy-").is_some()) {
                remove(&folder.join(name));
            }
        }
        Ok(this)
    }

    fn name(&self) -> io::Result<String> {
        match fs::read_to_string(self.folder.join(POINTER)) {
            Ok(name) => Ok(name.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FIRST.to_owned()),
            Err(error) => Err(error),
        }
    }

    /// The folder that counts.
    pub(crate) fn current(&self) -> io::Result<PathBuf> {
        Ok(self.folder.join(self.name()?))
    }

    /// Opens the state that counts.
    pub(crate) fn state(&self) -> Result<RocksKv, KvError> {
        RocksKv::open(&self.current().map_err(io)?, &self.config, &self.cache)
    }

    fn beside(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{kind}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// From now on the state in the data folder `folder` is the one at `path`.
    pub(crate) fn point(folder: &Path, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Its files' names first, then the folder's own, then the pointer: never one to what may not be there.
        File::open(path)?.sync_all()?;
        File::open(folder)?.sync_all()?;
        write_whole(folder, POINTER, format!("{name}\n").as_bytes())
    }

    /// A copy that can be written to, and goes when it is dropped.
    pub(crate) fn scratch(&self, of: &RocksKv) -> Result<RocksKv, KvError> {
        let path = self.beside("copy");
        let temporary = Temporary(Mutex::new(Some(path.clone())));
        let made = Checkpoint::new(&*of.db).and_then(|checkpoint| checkpoint.create_checkpoint(&path));
        made.map_err(super::kv::failed)?;
        let mut copy = RocksKv::open(&path, &self.config, &self.cache)?;
        copy.temporary = temporary;
        Ok(copy)
    }

    /// An empty state takes the place of one that is condemned, which is removed without being opened.
    pub(crate) fn discard(&self) -> Result<(), KvError> {
        let old = self.current().map_err(io)?;
        let fresh = self.fresh()?;
        fresh.flush()?;
        Self::point(&self.folder, &fresh.path).map_err(io)?;
        fresh.keep();
        drop(fresh);
        remove(&old);
        Ok(())
    }
}

impl Home for RocksHome {
    type Kv = RocksKv;

    fn copy(&self, of: &RocksKv) -> Result<RocksKv, KvError> {
        let path = self.beside("copy");
        let temporary = Temporary(Mutex::new(Some(path.clone())));
        let made = Checkpoint::new(&*of.db).and_then(|checkpoint| checkpoint.create_checkpoint(&path));
        made.map_err(super::kv::failed)?;
        RocksKv::open_copy(&path, &self.config, &self.cache, temporary)
    }

    fn fresh(&self) -> Result<RocksKv, KvError> {
        let path = self.beside("state");
        let mut made = RocksKv::open(&path, &self.config, &self.cache)?;
        made.temporary = Temporary(Mutex::new(Some(path)));
        Ok(made)
    }

    fn adopt(&self, staged: RocksKv) -> Result<RocksKv, KvError> {
        Self::point(&self.folder, &staged.path).map_err(io)?;
        staged.keep();
        // Whatever was wrong with the old one.
        pardon(&self.folder).map_err(io)?;
        Ok(staged)
    }

    fn retire(&self, mut old: RocksKv) {
        // Its folder goes after the database is closed.
        old.temporary = Temporary(Mutex::new(Some(old.path.clone())));
    }
}
