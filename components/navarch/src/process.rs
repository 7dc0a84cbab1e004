//! The running process: what it is made of, the order in which it starts and stops.

use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_config::{LogFormat, Settings};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec, Tree};
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::CommandError;
use crate::control_plane::{self, ControlPlane};
use crate::daemon::PidFile;
use crate::join::state::Joined;
use crate::{machine, node};

/// The subtrees' own deadlines are shorter; this one is the net below them.
const STOP_DEADLINE: Duration = Duration::from_secs(45);

/// What a process does.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    server: bool,
    agent: bool,
}

impl Roles {
    /// A control-plane member alone.
    pub const SERVER: Self = Self { server: true, agent: false };
    /// An agent alone.
    pub const AGENT: Self = Self { server: false, agent: true };
    /// A control-plane member and the agent of its machine.
    pub const BOTH: Self = Self { server: true, agent: true };
}

/// Where the administrator's kubeconfig is.
pub fn admin_kubeconfig(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.kubeconfig")
}

fn run_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("run")
}

/// The file by which a process tells whoever started it how far it is.
pub fn stage_file(data_dir: &Path, stage: &str, pid: u32) -> PathBuf {
    run_dir(data_dir).join(format!("{stage}.{pid}"))
}

/// Marks of how far this process is.
#[derive(Clone, Debug)]
pub struct Stages {
    data_dir: PathBuf,
    /// At this one the process does what it is for.
    ready: &'static str,
}

impl Stages {
    fn fresh(data_dir: &Path, roles: Roles) -> std::io::Result<Self> {
        let folder = run_dir(data_dir);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&folder)?,
        }
        Ok(Self { data_dir: data_dir.to_owned(), ready: if roles.server { "api-ready" } else { "node-ready" } })
    }

    /// Marks a stage as reached.
    pub fn reached(&self, stage: &str) {
        let path = stage_file(&self.data_dir, stage, std::process::id());
        if let Err(error) = std::fs::write(&path, b"") {
            tracing::warn!(%error, path = %path.display(), "cannot tell that a stage was reached");
        }
        if stage == self.ready {
            tell_systemd(sd_notify::NotifyState::Ready);
        }
    }
}

/// Tells the service manager, if there is one (sd_notify(3)).
fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Runs a process in the foreground until SIGTERM or SIGINT, or until its tree gives up.
///
/// # Errors
/// Why it could not start, or what ended it.
pub fn run_process(settings: &Settings, roles: Roles) -> Result<(), CommandError> {
    navarch_telemetry::init(&settings.log.level, settings.log.format == LogFormat::Json)?;
    // Another provider in the process would be a mistake in the build, not something to run with.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider was installed before ring's")?;
    navarch_supervision::install_hook();
    if let Err(error) = machine::raise_open_files() {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
    let mut settings = settings.clone();
    if roles.server
        && let Some(joined) = Joined::load(&settings.data_dir)?
    {
        joined.apply(&mut settings)?;
    }
    let settings = &settings;
    let _pid_file = PidFile::acquire(&settings.data_dir)?;
    let stages = Stages::fresh(&settings.data_dir, roles)?;
    actix::System::new().block_on(run(settings, roles, stages))
}

async fn run(settings: &Settings, roles: Roles, stages: Stages) -> Result<(), CommandError> {
    // Asked for before anything runs, so that none is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let control_plane = if roles.server {
        tokio::select! {
            opened = ControlPlane::open(settings) => Some(opened?),
            // A member that waits for the others is not to be waited for.
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    } else {
        None
    };
    let mut root = SupervisorSpec::new("node", Strategy::OneForOne);
    if let Some(control_plane) = &control_plane {
        root = root.child(control_plane.spec(&stages));
        if roles.agent {
            root = root.child(node::local_spec(settings, control_plane, &stages)?);
        }
    } else {
        root = root.child(node::remote_spec(settings, &stages)?);
    }
    let tree = Tree::start(root).await.map_err(|exit| format!("cannot start: {exit}"))?;
    if let Some(control_plane) = &control_plane {
        control_plane.show(&tree);
    }
    let removed = async {
        match &control_plane {
            Some(control_plane) => control_plane.removed().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // Told in the log; there is nothing to come back for, so it is no failure.
        () = removed => None,
        exit = tree.wait() => Some(exit),
    };
    if ended.is_none() {
        tracing::info!("stopping");
        tell_systemd(sd_notify::NotifyState::Stopping);
        tree.stop(STOP_DEADLINE).await;
    }
    if let Some(control_plane) = control_plane {
        control_plane.close().await;
    }
    match ended {
        None => Ok(()),
        Some(exit) => Err(format!("the supervision tree gave up: {exit}").into()),
    }
}

/// A child that marks a stage when `reached` returns.
pub fn stage<F, Fut>(name: &'static str, stages: &Stages, reached: F) -> ChildSpec
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), control_plane::OpenError>> + 'static,
{
    let stages = stages.clone();
    let reached = std::sync::Arc::new(reached);
    ChildSpec::task(name, move |context| {
        let (stages, reached) = (stages.clone(), std::sync::Arc::clone(&reached));
        async move {
            tokio::select! {
                () = context.stopped() => {}
                done = reached() => {
                    done?;
                    stages.reached(name);
                }
            }
            Ok::<(), control_plane::OpenError>(())
        }
    })
    .restart(navarch_supervision::Restart::Transient)
}
