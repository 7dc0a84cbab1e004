//! `navarch agent`.

use navarch_config::Settings;

use super::CommandError;
use crate::cli::AgentArgs;
use crate::join::state::Joined;
use crate::process::{Roles, run_process};

/// Runs a node agent until it is told to stop; its pods go on without it. A machine that has joined a cluster needs to be
/// told nothing more.
pub fn run(mut settings: Settings, args: AgentArgs) -> Result<(), CommandError> {
    if args.kubeconfig.is_some() {
        settings.agent.kubeconfig = args.kubeconfig;
    }
    settings.agent.servers.extend(args.server);
    if settings.agent.kubeconfig.is_none()
        && let Some(joined @ Joined::Node(_)) = Joined::load(&settings.data_dir)?
    {
        joined.apply(&mut settings)?;
    }
    run_agent(&settings)
}

/// Runs it with settings that are complete.
pub(super) fn run_agent(settings: &Settings) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Err("agent needs root: it starts containers and programs the network".into());
    }
    run_process(settings, Roles::AGENT)
}
