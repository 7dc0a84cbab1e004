//! Runs `nft` and `conntrack`. Knows nothing of what it runs.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A script for thousands of Services takes seconds; more than this hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why a command did not do what it should. The next full write may succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be run.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
    /// It did not end.
    #[error("{program} did not end within {DEADLINE:?}")]
    Hangs {
        /// The program.
        program: String,
    },
}

/// How commands are run.
#[derive(Clone, Debug, Default)]
pub struct Runner {
    /// What stands before each command: `ip netns exec NAME`, `nsenter --net=PATH`. Empty runs it here.
    pub prefix: Vec<String>,
}

impl Runner {
    /// Runs a program to its end and returns what it wrote.
    ///
    /// # Errors
    /// If it cannot be run, fails or hangs; then it is killed.
    pub async fn run(&self, program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, CommandError> {
        let mut words = self.prefix.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words).args(arguments).kill_on_drop(true);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = || program.to_owned();
        let io = |source| CommandError::Start { program: name(), source };
        let mut child = command.spawn().map_err(io)?;
        let stdin = child.stdin.take();
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that ends early says why on its own.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let work = async { tokio::join!(write, child.wait_with_output()).1 };
        let output = tokio::time::timeout(DEADLINE, work).await.map_err(|_| CommandError::Hangs { program: name() })?;
        let output = output.map_err(io)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect();
        Err(CommandError::Failed { program: name(), message })
    }

    /// Applies a script as one transaction.
    ///
    /// # Errors
    /// As [`Runner::run`]; then nothing of it is applied.
    pub async fn nft(&self, script: &str) -> Result<(), CommandError> {
        self.run("nft", &["-f", "-"], Some(script)).await.map(drop)
    }

    /// The table as it is, without the elements of its sets and maps.
    ///
    /// # Errors
    /// As [`Runner::run`], for example if there is none.
    pub async fn list_table(&self, table: &str) -> Result<String, CommandError> {
        self.run("nft", &["-t", "list", "table", "ip", table], None).await
    }

    /// Removes the table, if it is there. On a machine without `nft` there is none.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub async fn delete_table(&self, table: &str) -> Result<(), CommandError> {
        match self.nft(&format!("add table ip {table}\ndelete table ip {table}\n")).await {
            Err(CommandError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}
