//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use navarch_auth::JoinRole;
use navarch_config::{Settings, SettingsError};

use crate::commands::token::parse_ttl;

/// A Kubernetes that is one program: control plane, Raft-replicated store, node agent, network and DNS.
#[derive(Debug, Parser)]
#[command(name = "navarch", version = crate::commands::version::TEXT, propagate_version = true)]
#[command(after_help = "Examples:\n  \
    navarch up                          start a cluster of this machine alone, in the background\n  \
    export KUBECONFIG=$(navarch kubeconfig --path) && kubectl get nodes\n  \
    navarch up --members 3              the same with three members of the control plane\n  \
    navarch init --install              begin a cluster of several machines, as a service of systemd\n  \
    navarch member add                  print what makes another machine a member of its control plane\n  \
    navarch token create --role node    print a token that makes other machines nodes of this cluster\n  \
    navarch join --token nv1… https://10.0.0.1:6443\n                                      \
                                        become such a node, on another machine, and run it\n  \
    navarch tree                        show the supervision tree of the running process\n  \
    navarch down                        stop it, its pods and everything it set up; keep its data\n  \
    navarch reset --yes                 as down, and delete its data")]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Settings file (.toml, .yaml or .json).
    #[arg(long, global = true, value_name = "FILE", env = "NAVARCH_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where state, certificates and sockets are kept [default: /var/lib/navarch].
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What to log, such as `info` or `info,navarch_kubelet=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// Any other setting, such as `server.port=7443`. May be repeated. Environment: NAVARCH_SERVER__PORT.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start control plane and node agent of a one-machine cluster; returns when it is ready.
    Up(UpArgs),
    /// Begin a cluster of several machines with this one: its first member of the control plane, and a node.
    Init(InitArgs),
    /// Run a control-plane member in the foreground.
    Server(ServerArgs),
    /// Run a node agent in the foreground, for a control plane elsewhere.
    Agent(AgentArgs),
    /// Join a cluster with a token: get certificates and settings, and run as a node or as a member of the control plane.
    Join(JoinArgs),
    /// Make, list and delete the tokens by which machines join.
    Token(TokenArgs),
    /// Stop the cluster of `up`: its pods, containers, network and processes. Data is kept; `up` continues with it.
    Down,
    /// As `down`, and delete the data folder.
    Reset(ResetArgs),
    /// Show the cluster: members, roles, lag, disk.
    Status(StatusArgs),
    /// List, add, promote, demote and remove members of the control plane.
    Member(MemberArgs),
    /// Save, restore, look into and check snapshots of the store.
    Snapshot(SnapshotArgs),
    /// Go on from this member alone, when a cluster has lost its quorum for good.
    Recover(RecoverArgs),
    /// Show the supervision tree of the running process: states, restarts, last failures.
    Tree(TreeArgs),
    /// Print the administrator's kubeconfig, or a new one for the agent of a node.
    Kubeconfig(KubeconfigArgs),
    /// Print the version.
    Version,
}

/// Options of `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Stay in the foreground and log to standard error.
    #[arg(long)]
    pub foreground: bool,
    /// Give up waiting for readiness after so many seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
    /// How many members the control plane has, each a process of its own [default: as many as there are, or one].
    #[arg(long, value_name = "1|3|5", value_parser = parse_members, conflicts_with = "foreground")]
    pub members: Option<usize>,
}

/// Two or four members survive no more than one or three.
fn parse_members(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("must be 1, 3 or 5".to_owned()),
    }
}

/// What runs on a machine of the control plane, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct ServiceArgs {
    /// Run no node agent beside the control plane.
    #[arg(long)]
    pub no_agent: bool,
    /// Let the node take every pod: without this, only those that tolerate node-role.kubernetes.io/control-plane.
    #[arg(long, conflicts_with = "no_agent")]
    pub no_taint: bool,
    /// Install a service of systemd and start it, instead of running in the foreground.
    #[arg(long)]
    pub install: bool,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub service: ServiceArgs,
}

/// Options of `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Run the machine's node agent too.
    #[arg(long)]
    pub with_agent: bool,
    /// Register the node with the taint node-role.kubernetes.io/control-plane:NoSchedule.
    #[arg(long, requires = "with_agent")]
    pub taint: bool,
}

/// Options of `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The file that `navarch kubeconfig --node NAME --node-ip ADDRESS` printed on a server [default: what `navarch join`
    /// wrote; setting: agent.kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A server to begin with, beside those that the node knows. May be repeated [setting: agent.servers].
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,
}

/// Options of `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Servers of the cluster, such as https://10.0.0.1:6443, asked in turn until one answers. A server is trusted only if
    /// it shows the CA that the token names.
    #[arg(value_name = "URL", required_unless_present = "more_servers")]
    pub servers: Vec<String>,
    /// As URL. May be repeated.
    #[arg(long = "server", value_name = "URL")]
    pub more_servers: Vec<String>,
    /// What `navarch token create` printed on a server.
    #[arg(long, value_name = "TOKEN", env = "NAVARCH_TOKEN", hide_env_values = true)]
    pub token: String,
    /// What to join as [default: what the token is for].
    #[arg(long, value_name = "server|node")]
    pub role: Option<JoinRole>,
    /// The machine's name in the cluster [default: its host name; setting: agent.node_name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The machine's address. May be repeated [default: its own; setting: agent.node_ip].
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Vec<std::net::IpAddr>,
    /// Where a new server takes the other servers' connections [default: its address, and the port after the API's].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub peer_address: Option<std::net::SocketAddr>,
    /// Take the place of the member with this id, as a server. It is removed, dead or alive.
    #[arg(long, value_name = "ID")]
    pub replace: Option<u64>,
    /// Only write certificates and settings; `navarch agent` or `navarch server` runs it later.
    #[arg(long, conflicts_with = "install")]
    pub prepare: bool,
    #[command(flatten)]
    pub service: ServiceArgs,
}

/// Options of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Whose rights to use [default: the administrator's, from the data folder].
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it. It can be used until it expires.
    Create {
        /// What machines join as: a server's token gives whoever has it the cluster's keys.
        #[arg(long, value_name = "server|node", default_value = "node")]
        role: JoinRole,
        /// How long it is good for, such as 2h, 90m or 1d12h.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_ttl)]
        ttl: Duration,
        /// What it is for, for `token list`.
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// List the tokens, without their secrets.
    List,
    /// Delete tokens. Machines that have joined stay.
    Delete {
        /// Tokens, or their ids as `token list` shows them.
        #[arg(value_name = "TOKEN", required = true)]
        tokens: Vec<String>,
    },
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `member`.
#[derive(Debug, Args)]
pub struct MemberArgs {
    #[command(subcommand)]
    pub command: MemberCommand,
}

/// What to do with members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// List the members.
    List,
    /// Print the command that makes another machine a member. It can be used until its token expires.
    Add {
        /// How long it is good for, such as 2h or 30m.
        #[arg(long, value_name = "TIME", default_value = "2h", value_parser = parse_ttl)]
        ttl: Duration,
        /// The member, mostly a dead one, whose place it takes.
        #[arg(long, value_name = "ID")]
        replace: Option<u64>,
    },
    /// Remove a member, dead or alive. If it leads, another one takes over first.
    Remove {
        /// Its id, as `member list` shows it.
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Give a member a vote, as soon as it has caught up.
    Promote {
        /// Its id.
        #[arg(value_name = "ID")]
        id: u64,
    },
    /// Let a member follow without a vote.
    Demote {
        /// Its id.
        #[arg(value_name = "ID")]
        id: u64,
    },
}

/// How something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Options of `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save the state of a running member into a file, checked and on the disk when this returns.
    Save {
        /// The file. It must not be there.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The member [default: this machine's].
        #[arg(long, value_name = "ADDRESS:PORT")]
        server: Option<std::net::SocketAddr>,
        /// How to show what was saved.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: OutputFormat,
    },
    /// Make a snapshot the state of a new cluster of one member, in a data folder (--data-dir) without one. Others join it.
    Restore {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Take the keys of the old cluster, from the folder `pki` in the data folder of one of its members [default: those
        /// in the data folder; new ones, if there are none].
        #[arg(long, value_name = "FOLDER")]
        pki: Option<PathBuf>,
        /// How to show what was restored.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: OutputFormat,
    },
    /// Show what a snapshot holds. Every byte is checked on the way.
    Inspect {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How to show it.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: OutputFormat,
    },
    /// Check every byte of a snapshot.
    Verify {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How to show what was found.
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: OutputFormat,
    },
}

/// Options of `recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Do it without asking. It is refused nevertheless while a quorum lives.
    #[arg(long)]
    pub yes: bool,
    /// This member is lost for good, although somebody else takes connections at its address. May be repeated. One that
    /// answers as the member counts as living nevertheless.
    #[arg(long, value_name = "ID")]
    pub lost: Vec<u64>,
    /// How to show what it will do.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
}

/// Options of `reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Do it without asking.
    #[arg(long)]
    pub yes: bool,
    /// Delete a member's data although it cannot leave its cluster.
    #[arg(long)]
    pub force: bool,
}

/// Options of `tree`.
#[derive(Debug, Args)]
pub struct TreeArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Print the file's path instead.
    #[arg(long, conflicts_with = "node")]
    pub path: bool,
    /// Issue a certificate to the agent of this node and print a kubeconfig with it: for `navarch agent --kubeconfig`.
    #[arg(long, value_name = "NAME", requires = "node_ip")]
    pub node: Option<String>,
    /// The node's address, which the certificate names. May be repeated.
    #[arg(long, value_name = "ADDRESS", requires = "node")]
    pub node_ip: Vec<std::net::IpAddr>,
    /// Where the node reaches the API [default: https://ADVERTISED-ADDRESS:PORT].
    #[arg(long, value_name = "URL", requires = "node")]
    pub server: Option<String>,
}

impl Options {
    /// The settings that file, environment and these options come to.
    ///
    /// # Errors
    /// Names the key or option and what is wrong with it.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let mut flags = Vec::new();
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(SettingsError::Invalid(vec![format!("--set {pair}: must be KEY=VALUE")]));
            };
            flags.push((key.to_owned(), value.to_owned()));
        }
        flags.extend(self.data_dir.iter().map(|dir| ("data_dir".to_owned(), dir.display().to_string())));
        flags.extend(self.log_level.iter().map(|level| ("log.level".to_owned(), level.clone())));
        let mut settings = navarch_config::load(self.config.as_deref(), std::env::vars(), &flags)?;
        // Other programs get paths below it, and have folders of their own that they start from.
        settings.data_dir = std::path::absolute(&settings.data_dir)
            .map_err(|source| SettingsError::File { path: settings.data_dir.clone(), source })?;
        Ok(settings)
    }

    /// The same options for a child process.
    pub fn to_args(&self) -> Vec<std::ffi::OsString> {
        let mut args: Vec<std::ffi::OsString> = Vec::new();
        let mut push = |name: &str, value: &std::ffi::OsStr| {
            args.push(name.into());
            args.push(value.to_owned());
        };
        if let Some(config) = &self.config {
            push("--config", config.as_os_str());
        }
        if let Some(dir) = &self.data_dir {
            push("--data-dir", dir.as_os_str());
        }
        if let Some(level) = &self.log_level {
            push("--log-level", level.as_ref());
        }
        for pair in &self.set {
            push("--set", pair.as_ref());
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_reach_the_settings_and_a_child() {
        let parsed = Cli::try_parse_from(["navarch", "up", "--data-dir", "/d", "--set", "server.port=7443"]);
        let options = parsed.map(|cli| cli.options).ok();
        let settings = options.as_ref().and_then(|o| o.settings().ok());
        assert_eq!(settings.map(|s| (s.data_dir, s.server.port)), Some((PathBuf::from("/d"), 7443)));
        let args = options.map(|o| o.to_args()).unwrap_or_default();
        assert_eq!(args, ["--data-dir", "/d", "--set", "server.port=7443"]);
    }
}
