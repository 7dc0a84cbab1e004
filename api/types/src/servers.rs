//! What a member of the control plane tells clients that find their way by themselves: where the members are.

use serde::{Deserialize, Serialize};

/// Where it is told, by GET: 200 from a member that serves, 503 with the same body from one that cannot (it knows no
/// leader). No resource of Kubernetes': a node may not read the `kubernetes` Service's endpoints.
pub const SERVERS_PATH: &str = "/navarch/v1/servers";

/// The members, as one of them sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerList {
    /// The cluster's id.
    pub cluster_id: String,
    /// Whether the one who tells this can serve.
    pub ready: bool,
    /// All that belong to the cluster, the one who tells this too.
    pub servers: Vec<ListedServer>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedServer {
    /// `https://host:port`.
    pub url: String,
    /// Whether the one who tells this has a connection to it.
    pub live: bool,
}
