//! A containerd of our own: its configuration, its process, and the images it is given.
//!
//! The process is detached: it and its containers go on when navarch ends, and are found again by the socket. Nothing
//! outside the folders named here is touched, so several can run on one machine.

use std::io;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::cri::Cri;
use crate::image;

/// Where a containerd of our own keeps what.
#[derive(Clone, Debug)]
pub struct ContainerdConfig {
    /// The program.
    pub program: PathBuf,
    /// Images and snapshots; survives reboots.
    pub root: PathBuf,
    /// Running containers; need not survive a reboot.
    pub state: PathBuf,
    /// The socket, the configuration, the process id and the log.
    pub run_dir: PathBuf,
    /// Network plugins.
    pub cni_bin_dir: PathBuf,
    /// The network's configuration.
    pub cni_conf_dir: PathBuf,
    /// Address of the server for exec and attach; only the agent talks to it.
    pub stream_address: IpAddr,
}

/// Why containerd does not run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A file or the process could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It was started and is not ready.
    #[error("containerd does not answer on {socket}: {last}; its log is {log}")]
    NotReady {
        /// The socket.
        socket: String,
        /// The last answer.
        last: String,
        /// Where to look.
        log: String,
    },
    /// `ctr` failed.
    #[error("cannot import image archive {archive}: {output}")]
    Import {
        /// The archive.
        archive: String,
        /// What `ctr` said.
        output: String,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ContainerdError {
    let what = what.into();
    move |source| ContainerdError::Io { what, source }
}

/// How long a start may take: the first one makes databases.
const START_DEADLINE: Duration = Duration::from_secs(30);

impl ContainerdConfig {
    /// Everything below one folder; the network's plugins where Debian has them.
    pub fn new(base: &Path) -> Self {
        Self {
            program: PathBuf::from("containerd"),
            root: base.join("root"),
            state: base.join("state"),
            run_dir: base.to_path_buf(),
            cni_bin_dir: PathBuf::from("/usr/lib/cni"),
            cni_conf_dir: base.join("cni"),
            stream_address: IpAddr::from([127, 0, 0, 1]),
        }
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("containerd.sock")
    }

    /// Whether it has ever run here: it keeps something from its first start on.
    pub fn has_run(&self) -> bool {
        self.root.read_dir().is_ok_and(|mut entries| entries.next().is_some())
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.run_dir.join("containerd.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.run_dir.join("containerd.pid")
    }

    /// The configuration, as containerd 1.6 and 1.7 read it.
    pub fn render(&self) -> String {
        let quote = |path: &Path| serde_json::Value::from(path.to_string_lossy().into_owned()).to_string();
        format!(
            r#"version = 2
root = {root}
state = {state}
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]

[grpc]
  address = {socket}

[ttrpc]
  address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "{stream}"
  stream_server_port = "0"
  # Without CAP_SYS_RESOURCE a score below the agent's own is refused, and no pod would start.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  max_concurrent_downloads = 5
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {runc_root}
"#,
            root = quote(&self.root),
            state = quote(&self.state),
            socket = quote(&self.socket()),
            ttrpc = quote(&self.run_dir.join("containerd.ttrpc.sock")),
            pause = image::PAUSE_IMAGE,
            stream = self.stream_address,
            cni_bin = quote(&self.cni_bin_dir),
            cni_conf = quote(&self.cni_conf_dir),
            runc_root = quote(&self.state.join("runc")),
        )
    }

    /// Finds it running, or starts it, and waits until it answers. Makes sure of the sandbox image.
    ///
    /// # Errors
    /// If it cannot be started or does not answer in time.
    pub async fn ensure(&self, cri: &Cri) -> Result<Process, ContainerdError> {
        let process = match self.adopt(cri).await {
            Some(process) => process,
            None => self.start(cri).await?,
        };
        if !matches!(cri.image_status(image::PAUSE_IMAGE).await, Ok(Some(_))) {
            let archive = self.run_dir.join("pause.tar");
            tokio::fs::write(&archive, image::pause_image())
                .await
                .map_err(io_error("cannot write the sandbox image"))?;
            self.import(cri, &archive, Some(image::PAUSE_IMAGE)).await?;
        }
        Ok(process)
    }

    async fn adopt(&self, cri: &Cri) -> Option<Process> {
        let pid = self.running().await?.as_raw_nonzero().get();
        // A socket without an answer, while the process lives, is one that still starts.
        self.wait_ready(cri).await.ok()?;
        info!(pid, "adopted the running containerd");
        Some(Process::Adopted(pid))
    }

    fn config_file(&self) -> PathBuf {
        self.run_dir.join("config.toml")
    }

    /// The process of the pid file, if it still runs: the number may be another process's by now, even another containerd's.
    async fn running(&self) -> Option<rustix::process::Pid> {
        let text = tokio::fs::read_to_string(self.pid_file()).await.ok()?;
        let pid = rustix::process::Pid::from_raw(text.trim().parse().ok()?)?;
        let command = tokio::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).await.ok()?;
        let config = self.config_file();
        let ours = command.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes());
        ours.then_some(pid)
    }

    async fn start(&self, cri: &Cri) -> Result<Process, ContainerdError> {
        for folder in [&self.root, &self.state, &self.run_dir, &self.cni_conf_dir] {
            std::fs::create_dir_all(folder).map_err(io_error(format!("cannot make {}", folder.display())))?;
        }
        let config = self.config_file();
        std::fs::write(&config, self.render()).map_err(io_error(format!("cannot write {}", config.display())))?;
        let open = || std::fs::OpenOptions::new().create(true).append(true).open(self.log());
        let (out, err) =
            (open().map_err(io_error("cannot open the log"))?, open().map_err(io_error("cannot open the log"))?);
        let mut command = std::process::Command::new(&self.program);
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(out).stderr(err);
        // A group of its own: signals to navarch's group, such as Ctrl-C, do not reach it.
        command.process_group(0);
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(false)
            .spawn()
            .map_err(io_error(format!("cannot start {}", self.program.display())))?;
        let pid = child.id().unwrap_or_default();
        std::fs::write(self.pid_file(), pid.to_string()).map_err(io_error("cannot write the process id"))?;
        if let Err(error) = self.wait_ready(cri).await {
            // Another start would find what it holds locked.
            let _ = child.kill().await;
            return Err(error);
        }
        info!(pid, socket = %self.socket().display(), "started containerd");
        Ok(Process::Child(child))
    }

    async fn wait_ready(&self, cri: &Cri) -> Result<(), ContainerdError> {
        let begun = Instant::now();
        loop {
            let last = match cri.version().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if begun.elapsed() > START_DEADLINE {
                return Err(ContainerdError::NotReady {
                    socket: self.socket().display().to_string(),
                    last: last.to_string(),
                    log: self.log().display().to_string(),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Imports an image archive. Waits until the runtime shows `name`, if one is given.
    ///
    /// # Errors
    /// If the archive is none, or containerd does not take it.
    pub async fn import(&self, cri: &Cri, archive: &Path, name: Option<&str>) -> Result<(), ContainerdError> {
        let failed = |output: String| ContainerdError::Import { archive: archive.display().to_string(), output };
        let mut command = tokio::process::Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        command.kill_on_drop(true);
        let output = command.output().await.map_err(io_error("cannot start ctr"))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let begun = Instant::now();
        while let Some(name) = name {
            // The interface learns of new images through an event.
            if matches!(cri.image_status(name).await, Ok(Some(_))) {
                break;
            }
            if begun.elapsed() > START_DEADLINE {
                return Err(failed(format!("imported, but the runtime does not show {name}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends it, for good. Containers must be gone before: their shims would stay.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub async fn stop(&self) -> Result<(), ContainerdError> {
        if let Some(pid) = self.running().await {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let begun = Instant::now();
            while is_alive(pid.as_raw_nonzero().get()) {
                if begun.elapsed() > Duration::from_secs(5) {
                    warn!(pid = pid.as_raw_nonzero().get(), "containerd does not end; killing it");
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let _ = tokio::fs::remove_file(self.pid_file()).await;
        Ok(())
    }
}

/// Whether a process runs; a zombie does not.
fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// A running containerd.
#[derive(Debug)]
pub enum Process {
    /// Started by this process.
    Child(tokio::process::Child),
    /// Started by an earlier one.
    Adopted(i32),
}

impl Process {
    /// Resolves when it has ended.
    pub async fn ended(&mut self) {
        match self {
            Self::Child(child) => {
                let _ = child.wait().await;
            }
            Self::Adopted(pid) => {
                while is_alive(*pid) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Imports what lies in a folder, and what is put there later: every `*.tar`, once, until it changes.
pub async fn preload(config: &ContainerdConfig, cri: &Cri, folder: &Path) -> Result<(), ContainerdError> {
    use std::collections::HashMap;
    let mut done: HashMap<PathBuf, (u64, std::time::SystemTime)> = HashMap::new();
    let (wake, mut woken) = tokio::sync::mpsc::channel(1);
    std::fs::create_dir_all(folder).map_err(io_error(format!("cannot make {}", folder.display())))?;
    let mut watcher = notify::recommended_watcher(move |_| {
        // Full means a look is due already.
        let _ = wake.try_send(());
    })
    .map_err(|error| ContainerdError::Io { what: "cannot watch folders".into(), source: io::Error::other(error) })?;
    notify::Watcher::watch(&mut watcher, folder, notify::RecursiveMode::NonRecursive).map_err(|error| {
        ContainerdError::Io { what: format!("cannot watch {}", folder.display()), source: io::Error::other(error) }
    })?;
    loop {
        let mut retry = false;
        for (path, stamp) in archives(folder) {
            if done.get(&path) == Some(&stamp) {
                continue;
            }
            match config.import(cri, &path, None).await {
                Ok(()) => info!(archive = %path.display(), "imported images"),
                Err(error) => {
                    // Perhaps it is still being written: a change comes then. Anything else is tried again later.
                    warn!("{error}");
                    retry = true;
                    continue;
                }
            }
            done.insert(path, stamp);
        }
        let wait = if retry { Duration::from_secs(5) } else { Duration::from_secs(600) };
        let _ = tokio::time::timeout(wait, woken.recv()).await;
        // Writers write many times: let them finish.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn archives(folder: &Path) -> Vec<(PathBuf, (u64, std::time::SystemTime))> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .filter_map(|path| {
            let data = std::fs::metadata(&path).ok()?;
            Some((path, (data.len(), data.modified().ok()?)))
        })
        .collect();
    found.sort();
    found
}
