//! `navarch agent`.

use navarch_config::Settings;

use super::CommandError;
use crate::cli::AgentArgs;
use crate::process::{Roles, run_process};

/// Runs a node agent until it is told to stop; its pods go on without it.
pub fn run(mut settings: Settings, args: AgentArgs) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Err("agent needs root: it starts containers and programs the network".into());
    }
    if args.kubeconfig.is_some() {
        settings.agent.kubeconfig = args.kubeconfig;
    }
    run_process(&settings, Roles::AGENT)
}
