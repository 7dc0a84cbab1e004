//! `navarch kubeconfig`.

use std::net::SocketAddr;

use navarch_auth::Pki;
use navarch_auth::pki::{Kubeconfig, Subject};
use navarch_config::Settings;

use super::CommandError;
use crate::cli::KubeconfigArgs;
use crate::machine;
use crate::node::NETWORK_USER;
use crate::process::admin_kubeconfig;

/// Prints the administrator's kubeconfig, or where it is, or one for a node's agent.
pub fn run(settings: &Settings, args: &KubeconfigArgs) -> Result<(), CommandError> {
    let path = admin_kubeconfig(&settings.data_dir);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        format!("{}: {error}; the first `navarch up` or `navarch server` writes it", path.display())
    })?;
    match &args.node {
        Some(node) => say_part!("{}", of_agent(settings, node, args)?),
        None if args.path => say!("{}", path.display()),
        None => say_part!("{text}"),
    }
    Ok(())
}

fn of_agent(settings: &Settings, node: &str, args: &KubeconfigArgs) -> Result<String, CommandError> {
    let pki = Pki::open(&settings.data_dir.join("pki"))?;
    let address = settings.server.advertise_address.unwrap_or_else(machine::address);
    let server =
        args.server.clone().unwrap_or_else(|| format!("https://{}", SocketAddr::new(address, settings.server.port)));
    let agent = pki.agent(node, &args.node_ip)?;
    let network = pki.issue(&Subject::client(NETWORK_USER, &[]))?;
    let users = [("node", &agent), (NETWORK_USER, &network)];
    let config = Kubeconfig { cluster: &settings.cluster.name, server: &server, ca_pem: pki.ca_pem(), users: &users };
    Ok(config.render())
}
