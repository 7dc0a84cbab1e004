//! `navarch init`.

use std::time::Duration;

use navarch_auth::JoinRole;
use navarch_config::Settings;

use super::service::{self, Service};
use super::{CommandError, of_folder, server, token};
use crate::cli::{InitArgs, Options};
use crate::join::state::Joined;
use crate::process::admin_kubeconfig;
use crate::{identity, machine, preflight};

/// How long the printed commands are good for.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Makes this machine the first of a cluster, and runs it as that.
pub fn run(options: &Options, args: &InitArgs) -> Result<(), CommandError> {
    let settings = options.settings()?;
    if Joined::load(&settings.data_dir)?.is_some() {
        return Err(format!(
            "this machine has joined a cluster ({}); `navarch reset` makes it leave",
            settings.data_dir.display()
        )
        .into());
    }
    if !args.service.no_agent {
        preflight::check_node(&settings)
            .map_err(|why| format!("{why}; `--no-agent` makes it a member of the control plane and no node"))?;
    }
    let service = Service::server(&args.service);
    if !args.service.install {
        return server::run(settings, &service.server_args());
    }
    service::install(options, &settings, &service)?;
    let kubeconfig = admin_kubeconfig(&settings.data_dir);
    let url = identity::server_url(&settings);
    say!("\nTry next:");
    say!("  export KUBECONFIG={}", kubeconfig.display());
    say!("  kubectl get nodes                          # {}", machine::host_name());
    say!("  {:<42} # the members of the control plane", of_folder(&settings, "status"));
    say!("\nOn two or four more machines, for a control plane that survives the loss of one or two:");
    say!("  {}", join_command(&settings, JoinRole::Server, TTL, &url, None)?);
    say!("On every machine that is to run pods:");
    say!("  {}", join_command(&settings, JoinRole::Node, TTL, &url, None)?);
    Ok(())
}

/// What makes another machine a part of this cluster. Its token is new.
pub(super) fn join_command(
    settings: &Settings,
    role: JoinRole,
    ttl: Duration,
    url: &str,
    replaces: Option<u64>,
) -> Result<String, CommandError> {
    let token = token::issue(settings, role, ttl, "printed as a command")?;
    let replace = replaces.map_or(String::new(), |id| format!(" --replace {id}"));
    Ok(format!("navarch join --install{replace} --token {token} {url}"))
}
