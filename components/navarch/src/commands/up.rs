//! `navarch up`.

mod child;
mod rise;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use navarch_auth::{JoinRole, JoinToken};
use navarch_config::Settings;

use self::{
    child::{Stage, Started, log_path},
    rise::Member,
};
use super::{CommandError, of_folder, token};
use crate::cli::{Options, UpArgs};
use crate::join::state::Joined;
use crate::join::{self, Machine};
use crate::process::{Roles, admin_kubeconfig, run_process};
use crate::siblings::{self, Sibling};
use crate::{daemon, machine, node, preflight};

/// The token by which a member of this machine joins is used at once.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// Starts the cluster of this machine, in the background unless told otherwise.
pub fn run(options: &Options, args: &UpArgs) -> Result<(), CommandError> {
    let settings = options.settings()?;
    if !rustix::process::geteuid().is_root() {
        return Err("up needs root: it starts containers and programs the network".into());
    }
    if args.foreground {
        return run_process(&settings, Roles::BOTH);
    }
    preflight::check_node(&settings)?;
    let up = Up { options, settings, began: Instant::now(), timeout: Duration::from_secs(args.timeout) };
    let present = up.present()?;
    if up.settings.server.peer_address.is_some() && (!present.is_empty() || args.members.is_some_and(|all| all > 1)) {
        return Err("server.peer_address is the address of one member: members of one machine have one each".into());
    }
    if let Some(wanted) = args.members.filter(|wanted| *wanted < present.len() + 1) {
        return Err(format!(
            "the control plane has {} members, more than {wanted}: `navarch member remove ID` takes one out",
            present.len() + 1
        )
        .into());
    }
    let mut members = up.members(&present)?;
    rise::all(&mut members, up.deadline(), |member| match (member.number, &member.started) {
        (None, Some(_)) => up.tell(Stage::Ready.text()),
        (Some(number), Some(_)) => up.tell(&format!("member {number} serves")),
        (_, None) => {}
    })?;
    if let Some(first) = members.first_mut().and_then(|first| first.started.as_mut()) {
        first.wait_for(Stage::Node, up.deadline())?;
        up.tell(Stage::Node.text());
    }
    let any = members.iter().any(|member| member.started.is_some());
    let wanted = args.members.unwrap_or(1).saturating_sub(1 + present.len());
    let new = siblings::more(&up.settings, &siblings::all(&up.settings)?, wanted)?;
    for sibling in &new {
        up.join(sibling)?;
        let mut started = up.start(sibling)?;
        started.wait_for(Stage::Ready, up.deadline())?;
        up.tell(&format!("member {} has joined and serves", sibling.number));
    }
    if !any && new.is_empty() {
        say!("navarch is already running on {}", up.settings.data_dir.display());
    }
    print_next_steps(&up.settings);
    Ok(())
}

struct Up<'o> {
    options: &'o Options,
    settings: Settings,
    began: Instant,
    timeout: Duration,
}

impl Up<'_> {
    fn deadline(&self) -> Instant {
        self.began + self.timeout
    }

    fn tell(&self, what: &str) {
        say!("{:>8} ms  {what}", self.began.elapsed().as_millis());
    }

    /// The members beside the first. What is left of a member that was removed goes; one whose joining was broken off
    /// joins again.
    fn present(&self) -> Result<Vec<Sibling>, CommandError> {
        let mut present = Vec::new();
        for sibling in siblings::all(&self.settings)? {
            let joined = Joined::load(&sibling.data_dir)?.is_some();
            if sibling.removed() || !joined {
                daemon::stop(&sibling.data_dir, self.timeout)?;
                std::fs::remove_dir_all(&sibling.data_dir)
                    .map_err(|error| format!("{}: {error}", sibling.data_dir.display()))?;
                continue;
            }
            present.push(sibling);
        }
        Ok(present)
    }

    /// All of them; the first is the one that runs the agent too.
    fn members<'u>(&'u self, others: &'u [Sibling]) -> Result<Vec<Member<'u>>, CommandError> {
        let mut members = vec![Member::new(None, self.settings.clone(), Box::new(|| self.start_first()))];
        for sibling in others {
            let settings = sibling.options(self.options).settings()?;
            members.push(Member::new(Some(sibling.number), settings, Box::new(|| self.start(sibling))));
        }
        Ok(members)
    }

    fn start_first(&self) -> Result<Started, CommandError> {
        let started = Started::spawn(self.options, &self.settings.data_dir, &["up", "--foreground"])?;
        let log = log_path(&self.settings.data_dir);
        say!("starting navarch (pid {}), log {}", started.id(), log.display());
        Ok(started)
    }

    fn start(&self, sibling: &Sibling) -> Result<Started, CommandError> {
        Started::spawn(&sibling.options(self.options), &sibling.data_dir, &["server"])
    }

    /// Makes the data folder of a new member.
    fn join(&self, sibling: &Sibling) -> Result<(), CommandError> {
        let why = format!("member {} of this machine", sibling.number);
        let token: JoinToken = token::issue(&self.settings, JoinRole::Server, TOKEN_TTL, &why)?.parse()?;
        let settings = sibling.options(self.options).settings()?;
        let address = settings.server.advertise_address.unwrap_or_else(machine::address);
        let machine = Machine {
            name: format!("{}-{}", node::name(&self.settings), sibling.number),
            addresses: vec![address],
            peer_address: SocketAddr::new(address, settings.server.peer_port()),
            peer_address_given: false,
            peer_port: None,
            node_addresses: Vec::new(),
            server: crate::identity::server_url(&settings),
            replaces: None,
        };
        let bind = self.settings.server.bind_address;
        let host = if bind.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bind };
        let url = format!("https://{}", SocketAddr::new(host, self.settings.server.port)).parse()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(join::join(&sibling.data_dir, &[url], &token, Some(JoinRole::Server), &machine))?;
        Ok(())
    }
}

fn print_next_steps(settings: &Settings) {
    let kubeconfig = admin_kubeconfig(&settings.data_dir);
    let node = settings.agent.node_name.clone().unwrap_or_else(machine::host_name);
    say!("\nTry next:");
    say!("  export KUBECONFIG={}", kubeconfig.display());
    say!("  kubectl get nodes                          # {node}");
    say!("  kubectl get pods --all-namespaces");
    let ours = |command| of_folder(settings, command);
    if siblings::all(settings).is_ok_and(|others| !others.is_empty()) {
        say!("  {:<42} # the members of the control plane", ours("status"));
    }
    say!("  {:<42} # the supervised actors of this process", ours("tree"));
    say!("  {:<42} # stop; data stays in {}", ours("down"), settings.data_dir.display());
}
