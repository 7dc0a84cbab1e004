//! A process of `up`: starting it in the background, and waiting until it is as far as it should be.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::Options;
use crate::commands::CommandError;
use crate::process::stage_file;

/// How much of the log is shown when the process ends early.
const LOG_TAIL_BYTES: u64 = 4096;

/// How far a process is.
#[derive(Clone, Copy)]
pub enum Stage {
    /// It serves the API.
    Ready,
    /// Its node takes pods.
    Node,
}

impl Stage {
    /// The name of its mark.
    pub fn file(self) -> &'static str {
        match self {
            Self::Ready => "api-ready",
            Self::Node => "node-ready",
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ready => "the API serves",
            Self::Node => "the node is ready",
        }
    }
}

/// Where a process of `up` logs.
pub fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("navarch.log")
}

/// A process that was started.
pub struct Started {
    data_dir: PathBuf,
    child: Child,
}

impl Started {
    /// Starts a command of this program in the background, with its data folder's log.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(options: &Options, data_dir: &Path, command: &[&str]) -> Result<Self, CommandError> {
        let log = log_path(data_dir);
        std::fs::create_dir_all(data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&log)?;
        let mut program = Command::new(std::env::current_exe()?);
        program.args(options.to_args()).args(command);
        program.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Its own process group: an interrupt of this terminal is not meant for it.
        program.process_group(0);
        Ok(Self { data_dir: data_dir.to_owned(), child: program.spawn()? })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits. The process tells of a stage by a file in its run folder, which it empties when it starts.
    ///
    /// # Errors
    /// If it ends, or is not that far in time.
    pub fn wait_for(&mut self, stage: Stage, deadline: Instant) -> Result<(), CommandError> {
        while !self.reached(stage)? {
            if Instant::now() > deadline {
                return Err(Self::late(stage, &self.data_dir));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether it is that far.
    ///
    /// # Errors
    /// If it has ended.
    pub fn reached(&mut self, stage: Stage) -> Result<bool, CommandError> {
        if stage_file(&self.data_dir, stage.file(), self.child.id()).exists() {
            return Ok(true);
        }
        match self.child.try_wait()? {
            Some(status) => Err(format!("navarch ended ({status}):\n{}", tail(&log_path(&self.data_dir))).into()),
            None => Ok(false),
        }
    }

    /// It was given up waiting.
    pub fn late(stage: Stage, data_dir: &Path) -> CommandError {
        let (what, log) = (stage.text(), log_path(data_dir));
        format!("gave up waiting until {what}; it goes on starting. See {}", log.display()).into()
    }
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("{}: {error}", log.display()))
}
