//! What the tests of the whole share: a cluster of its own for each test, and the real kubectl.
//!
//! A cluster lives in a network namespace of its own, whose default route ends in a bridge without ports: nothing that it
//! sends can leave the machine, even when a rule is missing. Dropping it removes everything.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod disk;
pub mod images;
pub mod kubectl;
pub mod members;
pub mod server;
pub mod tracer;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything that is waited for may take: far beyond what it takes on a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster of one machine, started by the real binary.
pub struct Cluster {
    name: String,
    folder: TempDir,
    settings: Vec<String>,
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("NAVARCH_BIN").map_or_else(
        || {
            // Beside the test binaries: target/release/deps/this-test.
            let deps = std::env::current_exe().expect("this test's own path");
            deps.ancestors().nth(2).expect("a target folder").join("navarch")
        },
        PathBuf::from,
    )
}

/// Runs a command and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", describe(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Status and output of a command, for messages.
pub fn describe(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout: {}\nstderr: {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Polls until `probe` gives something.
///
/// # Panics
/// When patience ends, with what the last probe said.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("gave up waiting until {what}: {error}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

impl Cluster {
    /// Makes the network namespace and starts a cluster in it, with images preloaded.
    ///
    /// # Panics
    /// If something is missing or it does not get ready.
    pub fn start(name: &str, settings: &[&str]) -> Self {
        let cluster = Self::stopped(name, settings);
        images::preload(&cluster.data_dir().join("images"));
        println!("{}", cluster.up());
        cluster
    }

    /// Only the network namespace and the folder: nothing runs yet.
    ///
    /// # Panics
    /// If something is missing.
    pub fn stopped(name: &str, settings: &[&str]) -> Self {
        let name = format!("nv-{name}-{}", std::process::id());
        let folder = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let cluster = Self { name, folder, settings: settings.iter().map(|s| (*s).to_owned()).collect() };
        cluster.make_network();
        cluster
    }

    fn make_network(&self) {
        let ip = |args: &[&str]| must(Command::new("ip").args(args));
        ip(&["netns", "add", &self.name]);
        let inside = |args: &[&str]| must(self.command("ip").args(args));
        inside(&["link", "set", "lo", "up"]);
        inside(&["link", "add", "uplink", "type", "bridge"]);
        inside(&["addr", "add", "192.168.77.2/24", "dev", "uplink"]);
        inside(&["link", "set", "uplink", "up"]);
        inside(&["route", "add", "default", "via", "192.168.77.1"]);
    }

    /// Where the cluster keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// A command inside the cluster's network. `ip netns exec` would hide the cgroups from it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder.path());
        command
    }

    /// The navarch binary with the cluster's settings.
    pub fn navarch(&self, args: &[&str]) -> Command {
        let mut command = self.command(binary());
        command.env("NAVARCH_FAULTS", "1");
        command.args(args).arg("--data-dir").arg(self.data_dir());
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts or continues the cluster.
    pub fn up(&self) -> String {
        must(&mut self.navarch(&["up"]))
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        must(self.command("kubectl").args(args))
    }

    /// Runs kubectl, which must fail, and returns what it said.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn kubectl_refused(&self, args: &[&str]) -> String {
        let output = self.command("kubectl").args(args).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "kubectl {args:?} succeeded: {}", describe(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// An object or list as JSON, or why kubectl failed.
    pub fn get(&self, args: &[&str]) -> Result<Value, String> {
        let output = self.command("kubectl").arg("get").args(args).args(["-o", "json"]).output().unwrap();
        if !output.status.success() {
            return Err(describe(&output));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// Fetches a URL from inside the cluster's network.
    pub fn curl(&self, url: &str) -> Result<String, String> {
        let output = self.command("curl").args(["-sS", "--fail", "--max-time", "5", url]).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(describe(&output))
        }
    }

    /// The pid of the running process.
    ///
    /// # Panics
    /// If it never ran.
    pub fn pid(&self) -> i32 {
        std::fs::read_to_string(self.data_dir().join("navarch.pid")).unwrap().trim().parse().unwrap()
    }

    /// Kills the process without warning.
    pub fn kill(&self) {
        must(Command::new("kill").args(["-9", &self.pid().to_string()]));
    }

    /// The network namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of everything that the cluster keeps.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Command lines of processes, and mounts, that have to do with a folder.
///
/// # Panics
/// If /proc cannot be read.
pub fn traces_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let processes = processes.filter(|entry| entry.file_name() != own.as_str());
    let commands = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let commands = commands.map(|command| String::from_utf8_lossy(&command).replace('\0', " "));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    commands.chain(mounts.lines().map(str::to_owned)).filter(|line| line.contains(folder)).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data_dir().join("navarch.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("the end of the log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let reset = self.navarch(&["reset", "--yes"]).output();
        if let Some(failed) = reset.as_ref().ok().filter(|output| !output.status.success()) {
            let said = describe(failed);
            assert!(std::thread::panicking(), "reset left something behind: {said}");
            println!("reset failed: {said}");
        }
        let left = traces_of(self.folder());
        assert!(left.is_empty() || std::thread::panicking(), "reset left something behind: {left:#?}");
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
