//! Settings of the whole program, layered: defaults, then a file, then the environment, then flags.
//!
//! One file a component; [`load`] puts the layers together and refuses unknown keys and bad values with their place.
//! Reads the file and the environment it is given and nothing else.

mod agent;
mod cluster;
mod load;
mod log;
mod server;
mod snapshots;

pub use agent::{AgentSettings, parse_taint};
pub use cluster::ClusterSettings;
pub use load::{SettingsError, load};
pub use log::{LogFormat, LogSettings};
pub use server::{ServerSettings, StoreSettings};
pub use snapshots::{SnapshotSettings, parse_seconds};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where state, certificates and sockets are kept.
    pub data_dir: PathBuf,
    /// What all members and nodes of a cluster must agree on.
    pub cluster: ClusterSettings,
    /// The control-plane member.
    pub server: ServerSettings,
    /// The node agent.
    pub agent: AgentSettings,
    /// Snapshots of the store that a member takes by itself.
    pub snapshots: SnapshotSettings,
    /// Logs.
    pub log: LogSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/navarch"),
            cluster: ClusterSettings::default(),
            server: ServerSettings::default(),
            agent: AgentSettings::default(),
            snapshots: SnapshotSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Settings {
    /// Findings on the whole, each naming its key; empty if all is well.
    pub fn validate(&self) -> Vec<String> {
        let mut findings = Vec::new();
        self.cluster.validate(&mut findings);
        self.server.validate(&mut findings);
        self.agent.validate(&mut findings);
        self.snapshots.validate(&mut findings);
        findings
    }
}
