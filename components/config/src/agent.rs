//! The node agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How this machine takes part as a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// How an agent without a server in its process reaches the API: a kubeconfig whose current user is the node, by a
    /// certificate that its own API can show too, and that has a user `system:kube-proxy`. `navarch kubeconfig --node` on a
    /// server writes one.
    pub kubeconfig: Option<PathBuf>,
    /// More servers to begin with, `https://host:port`, for an agent without one in its process: any that answers tells it
    /// of the rest.
    pub servers: Vec<String>,
    /// The node's name; unset: the machine's host name, in lower case.
    pub node_name: Option<String>,
    /// The node's address; unset: the machine's own.
    pub node_ip: Option<IpAddr>,
    /// Labels to register with.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with, `key=value:Effect` or `key:Effect`. A node that is registered already keeps its own.
    pub taints: Vec<String>,
    /// The port of the agent's own API.
    pub port: u16,
    /// A CRI v1 socket; unset: a containerd of the agent's own, kept in the data folder.
    pub container_runtime_endpoint: Option<String>,
    /// Image archives here are imported at start and when they appear; unset: `images` in the data folder.
    pub images_dir: Option<PathBuf>,
    /// Pods that the node takes.
    pub pods_max: u32,
    /// Where CNI plugins are installed.
    pub cni_bin_dir: PathBuf,
    /// Whether the built-in pod network, Services and DNS run; switch off to bring your own.
    pub network: bool,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            servers: Vec::new(),
            node_name: None,
            node_ip: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            port: 10_250,
            container_runtime_endpoint: None,
            images_dir: None,
            pods_max: 110,
            cni_bin_dir: PathBuf::from("/usr/lib/cni"),
            network: true,
        }
    }
}

impl AgentSettings {
    pub(crate) fn validate(&self, findings: &mut Vec<String>) {
        if self.port == 0 {
            findings.push("agent.port: 0: must be between 1 and 65535".to_owned());
        }
        for server in self.servers.iter().filter(|server| !server.starts_with("https://")) {
            findings.push(format!("agent.servers: {server:?}: must be https://HOST:PORT"));
        }
        for (index, taint) in self.taints.iter().enumerate() {
            if let Err(why) = parse_taint(taint) {
                findings.push(format!("agent.taints[{index}]: {taint:?}: {why}"));
            }
        }
        if self.pods_max == 0 {
            findings.push("agent.pods_max: 0: must be at least 1".to_owned());
        }
        if let Some(endpoint) = &self.container_runtime_endpoint
            && !endpoint.starts_with("unix:///")
        {
            findings.push(format!(
                "agent.container_runtime_endpoint: {endpoint:?}: must be a socket, like unix:///run/containerd/containerd.sock"
            ));
        }
    }
}

/// Key, value and effect of a taint as [`AgentSettings::taints`] has it.
///
/// # Errors
/// What is wrong with it.
pub fn parse_taint(text: &str) -> Result<(&str, &str, &str), &'static str> {
    let (rest, effect) = text.rsplit_once(':').ok_or("must be KEY=VALUE:EFFECT or KEY:EFFECT")?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if key.is_empty() || key.chars().any(char::is_whitespace) {
        return Err("must begin with the taint's key");
    }
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err("its effect must be NoSchedule, PreferNoSchedule or NoExecute");
    }
    Ok((key, value, effect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read() {
        assert_eq!(parse_taint("a.b/c=d:NoSchedule"), Ok(("a.b/c", "d", "NoSchedule")));
        assert_eq!(parse_taint("a.b/c:NoExecute"), Ok(("a.b/c", "", "NoExecute")));
        for bad in ["", "a", "a=b", "a:Never", ":NoSchedule", "=b:NoSchedule", "a b:NoSchedule"] {
            assert!(parse_taint(bad).is_err(), "{bad}");
        }
    }
}
