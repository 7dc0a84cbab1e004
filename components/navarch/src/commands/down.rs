//! `navarch down`.

use std::time::Duration;

use navarch_config::Settings;

use super::{CommandError, service};
use crate::join::state::Joined;
use crate::{daemon, node, siblings};

/// Longer than the stop deadlines of the supervision tree together.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Stops the process, then the pods, containers and network that it leaves running on purpose.
pub fn run(settings: &Settings) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Err("down needs root: it removes containers and network rules".into());
    }
    stop(settings, false)?;
    // Its pods carry the name that the machine joined with; without it none of them would be found.
    let mut settings = settings.clone();
    if let Some(joined) = Joined::load(&settings.data_dir)? {
        joined.apply(&mut settings)?;
    }
    node::clean_up(&settings)?;
    say!("removed its pods, containers and network; data stays in {}", settings.data_dir.display());
    Ok(())
}

/// Stops the processes: the service of systemd, or what `up` started. Members stop at the same time: none of them has to
/// wait for the others' votes.
pub(super) fn stop(settings: &Settings, remove_service: bool) -> Result<(), CommandError> {
    service::stop(settings, remove_service)?;
    let mut folders = vec![settings.data_dir.clone()];
    folders.extend(siblings::all(settings)?.into_iter().map(|sibling| sibling.data_dir));
    let mut stopped = 0;
    for folder in &folders {
        stopped += usize::from(daemon::ask_to_stop(folder)?.is_some());
    }
    for folder in &folders {
        daemon::stop(folder, STOP_TIMEOUT)?;
    }
    match (stopped, folders.len()) {
        (0, _) => {}
        (_, 1) => say!("stopped navarch"),
        (stopped, members) => say!("stopped navarch ({stopped} of {members} members ran)"),
    }
    Ok(())
}
