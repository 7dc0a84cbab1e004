//! Which folder holds the state, and the folders beside it: copies to read from, and states that are being received.
//!
//! A file names the folder that counts; it is replaced as a whole. Without it that is `state`. Every other folder of a
//! state or a copy is a leftover of a process that ended, and is removed at the next start.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rocksdb::{Cache, checkpoint::Checkpoint};

use super::{RocksConfig, RocksKv};
use crate::kv::{Home, KvError};

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
pub(super) struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
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

    fn point_to(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let draft = self.folder.join(format!("{POINTER}.new"));
        let mut file = File::create(&draft)?;
        writeln!(file, "{name}")?;
        file.sync_all()?;
        // Its files' names first, then the folder's own, then the pointer: never one to what may not be there.
        File::open(path)?.sync_all()?;
        File::open(&self.folder)?.sync_all()?;
        fs::rename(&draft, self.folder.join(POINTER))?;
        File::open(&self.folder)?.sync_all()
    }
}

impl Home for RocksHome {
    type Kv = RocksKv;

    fn copy(&self, of: &RocksKv) -> Result<RocksKv, KvError> {
        let path = self.beside("copy");
        let temporary = Temporary(Some(path.clone()));
        let made = Checkpoint::new(&of.db).and_then(|checkpoint| checkpoint.create_checkpoint(&path));
        made.map_err(super::kv::failed)?;
        RocksKv::open_copy(&path, &self.config, &self.cache, temporary)
    }

    fn fresh(&self) -> Result<RocksKv, KvError> {
        let path = self.beside("state");
        let mut made = RocksKv::open(&path, &self.config, &self.cache)?;
        made.temporary = Temporary(Some(path));
        Ok(made)
    }

    fn adopt(&self, mut staged: RocksKv) -> Result<RocksKv, KvError> {
        self.point_to(&staged.path).map_err(io)?;
        staged.temporary.0 = None;
        Ok(staged)
    }

    fn retire(&self, mut old: RocksKv) {
        // Its folder goes after the database is closed.
        old.temporary = Temporary(Some(old.path.clone()));
    }
}
