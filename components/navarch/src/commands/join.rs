//! `navarch join`.

use std::net::SocketAddr;

use navarch_auth::{JoinRole, JoinToken};
use navarch_config::Settings;

use super::CommandError;
use crate::cli::JoinArgs;
use crate::join::state::{Joined, ServerJoined};
use crate::join::{self, Machine, ServerUrl};
use crate::process::{Roles, run_process};
use crate::{machine, node};

/// Makes this machine a part of a cluster, and runs it as that.
pub fn run(mut settings: Settings, args: &JoinArgs) -> Result<(), CommandError> {
    let token: JoinToken = args.token.parse().map_err(|error| format!("--token: {error}"))?;
    let given = args.servers.iter().chain(&args.more_servers);
    let urls = given.map(|url| url.parse()).collect::<Result<Vec<ServerUrl>, _>>()?;
    if args.node_name.is_some() {
        settings.agent.node_name.clone_from(&args.node_name);
    }
    settings.agent.node_ip = args.node_ip.first().copied().or(settings.agent.node_ip);
    let joined = match Joined::load_of(&settings.data_dir, token.ca_hash())? {
        Some(joined) => {
            say!("this machine has joined already ({})", settings.data_dir.display());
            joined
        }
        None => ask(&settings, args, &urls, &token)?,
    };
    joined.apply(&mut settings)?;
    match joined {
        Joined::Node(node) => {
            say!("joined cluster {} as node {}", settings.cluster.name, node.name);
            if args.prepare {
                say!("`navarch agent` runs it");
                return Ok(());
            }
            super::agent::run_agent(&settings)
        }
        Joined::Server(member) => {
            say!("joined cluster {} as member {} of the control plane", settings.cluster.name, member.member_id);
            if args.prepare { Ok(()) } else { start_member(&settings, &member) }
        }
    }
}

/// Told before anything is asked for: what is true of this machine.
fn ask(settings: &Settings, args: &JoinArgs, urls: &[ServerUrl], token: &JoinToken) -> Result<Joined, CommandError> {
    if !args.prepare && args.role != Some(JoinRole::Server) && !rustix::process::geteuid().is_root() {
        return Err("join needs root: an agent starts containers and programs the network (see --prepare)".into());
    }
    let address = settings.server.advertise_address.unwrap_or_else(machine::address);
    let addresses = match args.node_ip.as_slice() {
        [] => vec![settings.agent.node_ip.unwrap_or(address)],
        given => given.to_vec(),
    };
    let machine = Machine {
        name: node::name(settings),
        addresses,
        peer_address: args.peer_address.unwrap_or(SocketAddr::new(address, settings.server.port.saturating_add(1))),
        server: format!("https://{}", SocketAddr::new(address, settings.server.port)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(join::join(&settings.data_dir, urls, token, args.role, &machine))?)
}

/// Starts the member that this machine has become: the one place where joining goes over into running.
fn start_member(settings: &Settings, _member: &ServerJoined) -> Result<(), CommandError> {
    run_process(settings, Roles::SERVER)
}
