//! `navarch join`.

use std::net::SocketAddr;

use navarch_auth::{JoinRole, JoinToken};
use navarch_config::Settings;

use super::service::{self, Service};
use super::{CommandError, server};
use crate::cli::{JoinArgs, Options};
use crate::join::state::{Asked, Joined};
use crate::join::{self, Machine, ServerUrl};
use crate::{identity, machine, node, preflight};

/// Makes this machine a part of a cluster, and runs it as that.
pub fn run(options: &Options, args: &JoinArgs) -> Result<(), CommandError> {
    let mut settings = options.settings()?;
    if args.service.install {
        service::check()?;
    }
    let token: JoinToken = args.token.parse().map_err(|error| format!("--token: {error}"))?;
    let given = args.servers.iter().chain(&args.more_servers);
    let urls = given.map(|url| url.parse()).collect::<Result<Vec<ServerUrl>, _>>()?;
    if args.node_name.is_some() {
        settings.agent.node_name.clone_from(&args.node_name);
    }
    if let (Some(set), Some(given)) = (settings.server.peer_address, args.peer_address)
        && set != given
    {
        return Err(format!("--peer-address {given}: the setting server.peer_address says {set}").into());
    }
    settings.agent.node_ip = args.node_ip.first().copied().or(settings.agent.node_ip);
    let joined = match Joined::load_of(&settings.data_dir, token.ca_hash())? {
        Some(joined) => {
            joined.agrees(&asked(args))?;
            say!("this machine has joined already ({})", settings.data_dir.display());
            joined
        }
        None => ask(&settings, args, &urls, &token)?,
    };
    joined.apply(&mut settings)?;
    let service = match &joined {
        Joined::Node(node) => {
            say!("joined cluster {} as node {}", settings.cluster.name, node.name);
            Service::Agent
        }
        Joined::Server(member) => {
            say!("joined cluster {} as member {} of the control plane", settings.cluster.name, member.member_id);
            Service::server(&args.service)
        }
    };
    match (service, args) {
        (_, JoinArgs { prepare: true, .. }) => {
            say!("`navarch {}` runs it", if service == Service::Agent { "agent" } else { "server" });
            Ok(())
        }
        (_, args) if args.service.install => service::install(&of_machine(options, args), &settings, &service),
        (Service::Agent, _) => super::agent::run_agent(&settings),
        (Service::Server { .. }, _) => server::run(settings, &service.server_args()),
    }
}

/// The options of the service: what was said of this machine when it joined holds for good.
fn of_machine(options: &Options, args: &JoinArgs) -> Options {
    let mut options = options.clone();
    options.set.extend(args.node_name.iter().map(|name| format!("agent.node_name={name}")));
    options.set.extend(args.node_ip.first().iter().map(|address| format!("agent.node_ip={address}")));
    options
}

fn asked(args: &JoinArgs) -> Asked {
    Asked {
        role: args.role,
        name: args.node_name.clone(),
        addresses: args.node_ip.clone(),
        peer_address: args.peer_address,
        replaces: args.replace,
    }
}

/// Told before anything is asked for: what is true of this machine.
fn ask(settings: &Settings, args: &JoinArgs, urls: &[ServerUrl], token: &JoinToken) -> Result<Joined, CommandError> {
    let agent = args.role != Some(JoinRole::Server) || !args.service.no_agent;
    if !args.prepare && agent && !rustix::process::geteuid().is_root() {
        let why = "join needs root: an agent starts containers and programs the network (see --prepare and --no-agent)";
        return Err(why.into());
    }
    if !args.prepare && !args.service.no_agent {
        preflight::check_node(settings)?;
    }
    let address = settings.server.advertise_address.unwrap_or_else(machine::address);
    let addresses = match args.node_ip.as_slice() {
        [] => vec![settings.agent.node_ip.unwrap_or(address)],
        given => given.to_vec(),
    };
    let peer_address = args.peer_address.or(settings.server.peer_address);
    let machine = Machine {
        name: node::name(settings),
        addresses,
        peer_address: peer_address.unwrap_or(SocketAddr::new(address, settings.server.peer_port())),
        peer_address_given: peer_address.is_some(),
        peer_port: settings.server.peer_port,
        node_addresses: args.node_ip.clone(),
        server: identity::server_url(settings),
        replaces: args.replace,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(join::join(&settings.data_dir, urls, token, args.role, &machine))?)
}
