//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use navarch_config::{Settings, SettingsError};

/// A Kubernetes that is one program: control plane, Raft-replicated store, node agent, network and DNS.
#[derive(Debug, Parser)]
#[command(name = "navarch", version = crate::commands::version::TEXT, propagate_version = true)]
#[command(after_help = "Examples:\n  \
    navarch up                          start a cluster of this machine alone, in the background\n  \
    export KUBECONFIG=$(navarch kubeconfig --path) && kubectl get nodes\n  \
    navarch server                      run a control plane without containers, in the foreground\n  \
    navarch kubeconfig --node n2 --node-ip 10.0.0.2 > n2.kubeconfig\n  \
    navarch agent --kubeconfig n2.kubeconfig --set agent.node_name=n2\n                                      \
                                        run a node for that control plane, on another machine\n  \
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
    /// Run a control-plane member in the foreground, without a node agent.
    Server,
    /// Run a node agent in the foreground, for a control plane elsewhere.
    Agent(AgentArgs),
    /// Stop the cluster of `up`: its pods, containers, network and processes. Data is kept; `up` continues with it.
    Down,
    /// As `down`, and delete the data folder.
    Reset(ResetArgs),
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
}

/// Options of `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The file that `navarch kubeconfig --node NAME --node-ip ADDRESS` printed on a server [setting: agent.kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Options of `reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Do it without asking.
    #[arg(long)]
    pub yes: bool,
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
        navarch_config::load(self.config.as_deref(), std::env::vars(), &flags)
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
