//! `navarch server`.

use navarch_config::Settings;

use super::CommandError;
use crate::cli::ServerArgs;
use crate::process::{Roles, run_process};

/// Registered with it, a node takes only what belongs to the control plane.
const TAINT: &str = "node-role.kubernetes.io/control-plane:NoSchedule";

/// Runs a control-plane member until it is told to stop.
pub fn run(mut settings: Settings, args: &ServerArgs) -> Result<(), CommandError> {
    if args.with_agent && !rustix::process::geteuid().is_root() {
        return Err("an agent needs root: it starts containers and programs the network".into());
    }
    if args.taint && !settings.agent.taints.iter().any(|taint| taint == TAINT) {
        settings.agent.taints.push(TAINT.to_owned());
    }
    run_process(&settings, if args.with_agent { Roles::BOTH } else { Roles::SERVER })
}
