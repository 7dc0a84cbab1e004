//! `navarch up`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use navarch_config::Settings;

use super::{CommandError, tree};
use crate::cli::{Options, UpArgs};
use crate::process::{Roles, admin_kubeconfig, run_process};
use crate::{daemon, machine};

/// How much of the log is shown when the process ends early.
const LOG_TAIL_BYTES: u64 = 4096;

/// Starts the cluster of this machine, in the background unless told otherwise.
pub fn run(options: &Options, args: &UpArgs) -> Result<(), CommandError> {
    let settings = options.settings()?;
    if !rustix::process::geteuid().is_root() {
        return Err("up needs root: it starts containers and programs the network".into());
    }
    if args.foreground {
        return run_process(&settings, Roles::BOTH);
    }
    let started = Instant::now();
    while let Some(pid) = daemon::running(&settings.data_dir)? {
        if crate::process::stage_file(&settings.data_dir, Stage::Ready.file(), pid.unsigned_abs()).exists()
            && tree::answers(&settings)
        {
            say!("navarch is already running (pid {pid}) on {}", settings.data_dir.display());
            print_next_steps(&settings);
            return Ok(());
        }
        // It starts still, or it was killed and is not quite gone.
        if started.elapsed() > Duration::from_secs(args.timeout) {
            return Err(format!(
                "navarch runs (pid {pid}) and does not answer; see {}",
                log_path(&settings.data_dir).display()
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = log_path(&settings.data_dir);
    let mut child = spawn(options, &log)?;
    let deadline = started + Duration::from_secs(args.timeout);
    say!("starting navarch (pid {}), log {}", child.id(), log.display());
    for stage in [Stage::Ready, Stage::Node] {
        wait_for(stage, &settings, &mut child, &log, deadline)?;
        say!("{:>8} ms  {}", started.elapsed().as_millis(), stage.text());
    }
    print_next_steps(&settings);
    Ok(())
}

#[derive(Clone, Copy)]
enum Stage {
    Ready,
    Node,
}

impl Stage {
    fn file(self) -> &'static str {
        match self {
            Self::Ready => "api-ready",
            Self::Node => "node-ready",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Ready => "the API serves",
            Self::Node => "the node is ready",
        }
    }
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("navarch.log")
}

fn spawn(options: &Options, log: &Path) -> Result<Child, CommandError> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(options.to_args()).args(["up", "--foreground"]);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // Its own process group: an interrupt of this terminal is not meant for it.
    command.process_group(0);
    Ok(command.spawn()?)
}

/// The process tells of a stage by a file in its run folder, which it empties when it starts.
fn wait_for(
    stage: Stage,
    settings: &Settings,
    child: &mut Child,
    log: &Path,
    deadline: Instant,
) -> Result<(), CommandError> {
    let mark = crate::process::stage_file(&settings.data_dir, stage.file(), child.id());
    while !mark.exists() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("navarch ended ({status}):\n{}", tail(log)).into());
        }
        if Instant::now() > deadline {
            return Err(
                format!("gave up waiting until {}; it goes on starting. See {}", stage.text(), log.display()).into()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
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

fn print_next_steps(settings: &Settings) {
    let kubeconfig = admin_kubeconfig(&settings.data_dir);
    let node = settings.agent.node_name.clone().unwrap_or_else(machine::host_name);
    say!("\nTry next:");
    say!("  export KUBECONFIG={}", kubeconfig.display());
    say!("  kubectl get nodes                          # {node}");
    say!("  kubectl get pods --all-namespaces");
    say!("  navarch tree                               # the supervised actors of this process");
    say!("  navarch down                               # stop; data stays in {}", settings.data_dir.display());
}
