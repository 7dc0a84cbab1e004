//! `navarch down`.

use std::time::Duration;

use navarch_config::Settings;

use super::CommandError;
use crate::{daemon, node};

/// Longer than the stop deadlines of the supervision tree together.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Stops the process, then the pods, containers and network that it leaves running on purpose.
pub fn run(settings: &Settings) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Err("down needs root: it removes containers and network rules".into());
    }
    if daemon::stop(&settings.data_dir, STOP_TIMEOUT)? {
        say!("stopped navarch");
    }
    node::clean_up(settings)?;
    say!("removed its pods, containers and network; data stays in {}", settings.data_dir.display());
    Ok(())
}
