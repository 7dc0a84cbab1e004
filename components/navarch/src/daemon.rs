//! The running process as other processes see it: a pid file that is locked while it runs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// Why the pid file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another process holds it.
    #[error("the data folder {} is in use by another navarch process{}", folder.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Running {
        /// The data folder.
        folder: PathBuf,
        /// Its pid, if the file tells.
        pid: Option<i32>,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It did not stop in time.
    #[error("process {0} did not stop within {1} s")]
    DidNotStop(i32, u64),
}

/// What it takes to look into a pid file, and how often that is waited for.
const LOOK_LASTS: Duration = Duration::from_millis(2);
const LOOKS_MAX: u32 = 10;

fn path_of(data_dir: &Path) -> PathBuf {
    data_dir.join("navarch.pid")
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> DaemonError + '_ {
    move |source| DaemonError::Io { path: path.to_owned(), source }
}

/// Held while the process runs.
#[derive(Debug)]
pub struct PidFile {
    _locked: File,
}

impl PidFile {
    /// Takes the pid file of a data folder, which is made if need be.
    ///
    /// # Errors
    /// [`DaemonError::Running`] if another process has it.
    pub fn acquire(data_dir: &Path) -> Result<Self, DaemonError> {
        std::fs::create_dir_all(data_dir).map_err(io(data_dir))?;
        let path = path_of(data_dir);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o644)
            .open(&path)
            .map_err(io(&path))?;
        // Whoever looks whether somebody has it holds it for a moment.
        let mut looks = 0;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            looks += 1;
            if looks > LOOKS_MAX {
                return Err(DaemonError::Running { folder: data_dir.to_owned(), pid: read_pid(&mut file) });
            }
            std::thread::sleep(LOOK_LASTS);
        }
        file.set_len(0).map_err(io(&path))?;
        writeln!(file, "{}", std::process::id()).map_err(io(&path))?;
        Ok(Self { _locked: file })
    }
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The pid of the process that runs on a data folder, if one does.
///
/// # Errors
/// If the file exists and cannot be read.
pub fn running(data_dir: &Path) -> Result<Option<i32>, DaemonError> {
    let path = path_of(data_dir);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DaemonError::Io { path, source }),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => Ok((0..LOOKS_MAX).find_map(|_| {
            let pid = read_pid(&mut file);
            if pid.is_none() {
                // It is about to write it.
                std::thread::sleep(LOOK_LASTS);
            }
            pid
        })),
        Err(error) => Err(DaemonError::Io { path, source: error.into() }),
    }
}

/// Asks the process on a data folder to stop. Returns its pid, if there was one.
///
/// # Errors
/// If it cannot be asked.
pub fn ask_to_stop(data_dir: &Path) -> Result<Option<i32>, DaemonError> {
    let Some(pid) = running(data_dir)? else { return Ok(None) };
    if let Some(process) = Pid::from_raw(pid) {
        match kill_process(process, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(DaemonError::Io { path: path_of(data_dir), source: error.into() }),
        }
    }
    Ok(Some(pid))
}

/// Asks the process on a data folder to stop and waits until it has. Returns whether there was one.
///
/// # Errors
/// [`DaemonError::DidNotStop`] after the timeout.
pub fn stop(data_dir: &Path, timeout: Duration) -> Result<bool, DaemonError> {
    let Some(pid) = ask_to_stop(data_dir)? else { return Ok(false) };
    let deadline = Instant::now() + timeout;
    while running(data_dir)?.is_some() {
        if Instant::now() > deadline {
            return Err(DaemonError::DidNotStop(pid, timeout.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_has_one_process() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(running(folder.path()).unwrap(), None);
        let held = PidFile::acquire(folder.path()).unwrap();
        assert_eq!(running(folder.path()).unwrap(), i32::try_from(std::process::id()).ok());
        let refused = PidFile::acquire(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another navarch process (pid "), "{refused}");
        drop(held);
        assert_eq!(running(folder.path()).unwrap(), None);
        PidFile::acquire(folder.path()).unwrap();
    }
}
