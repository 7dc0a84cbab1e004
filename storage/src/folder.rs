//! The data folder: who may use it, and what lies where in it.
//!
//! ```text
//! LOCK       held by the process that uses the folder
//! log/       the Raft log
//! state/     the replicated state, until another one was installed: then STATE names its folder
//! reserve    bytes kept free, see `space`
//! CONDEMNED  the state is damaged, see `damage`
//! MEMBERS    who the members were when they were seen last
//! RECOVERY   what is to become of log and state, see `recovery`
//! ```

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use navarch_raft_contract::{ApplyError, LogError};
use rustix::fs::{FlockOperation, flock};

use crate::{
    Machine, RocksConfig, RocksLog, StateDb,
    damage::{self, Condemned},
    recovery,
    rocks::RocksHome,
};

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process holds it. Stop that one, or use another folder.
    #[error("data folder {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("data folder {}: {source}", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The log database cannot be opened.
    #[error("data folder {}: {source}", .path.display())]
    Log {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: LogError,
    },
    /// The state is damaged, and there is no other member to get it from.
    #[error(
        "the state in {} is damaged ({reason}), and there is no other member to get it from: restore the cluster with \
         `navarch snapshot restore`; the damaged state is kept until then", .path.display()
    )]
    Condemned {
        /// The folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The state database cannot be opened.
    #[error("data folder {}: {source}", .path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ApplyError,
    },
}

/// A data folder that this process holds, until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes the folder, and makes it if it is missing. Only its owner may look into it: it holds the cluster's secrets.
    pub fn acquire(path: &Path) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        // Its name is to survive a power cut as what is in it does.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(path.join("LOCK"));
        let lock = lock.map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::InUse(path.to_owned())),
            Err(errno) => Err(io(errno.into())),
        }
    }

    /// Opens both databases. A state that is condemned is discarded before, if `member` is not the only one: then
    /// [`DataFolder::rebuilding`] says so.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn open_as(&self, member: u64, config: &RocksConfig) -> Result<(RocksLog, StateDb), FolderError> {
        let io = |source| FolderError::Io { path: self.path.clone(), source };
        recovery::complete(&self.path, config)?;
        if let Some(condemned) = self.rebuilding()? {
            if !condemned.has_others(member) {
                return Err(FolderError::Condemned { path: self.path.clone(), reason: condemned.reason });
            }
            tracing::error!(reason = condemned.reason, "the state is discarded: another member has to send its own");
            let home = RocksHome::open(&self.path, config, &config.cache()).map_err(io)?;
            home.discard().map_err(|error| io(io::Error::other(error.0)))?;
        }
        self.open(config)
    }

    /// Whether the state was discarded and another one has not come yet: why, and who the members were.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn rebuilding(&self) -> Result<Option<Condemned>, FolderError> {
        damage::condemned(&self.path).map_err(|source| FolderError::Io { path: self.path.clone(), source })
    }

    /// Opens both databases.
    pub fn open(&self, config: &RocksConfig) -> Result<(RocksLog, StateDb), FolderError> {
        let path = || self.path.clone();
        let io = |source| FolderError::Io { path: path(), source };
        recovery::complete(&self.path, config)?;
        let cache = config.cache();
        let home = RocksHome::open(&self.path, config, &cache).map_err(io)?;
        for folder in [self.path.join("log"), home.current().map_err(io)?] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        }
        // The names must be on the disk before anything in them is promised to be.
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(io)?;
        let log = RocksLog::open(&self.path.join("log"), config, &cache);
        let log = log.map_err(|source| FolderError::Log { path: path(), source })?;
        let state = home.state().map_err(crate::machine::failed);
        let state = state.and_then(|kv| Machine::open(kv, Arc::new(home)));
        let state = state.map_err(|source| FolderError::State { path: path(), source })?;
        Ok((log, state))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
