//! `POST /navarch/v1/join`: a machine with a join token becomes a node or a member of the control plane.
//!
//! A node sends a certificate request and gets certificates: its key never travels. A member gets the keys that members
//! share, after [`Membership::admit`] has let it in. Who may ask is ruled twice: by RBAC, for the path, and here, for the
//! role: only a bootstrap token of the role's group will do, whatever else a user may be allowed.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::bootstrap_token::USER_PREFIX;
use navarch_auth::pki::{MemberSecrets, Subject};
use navarch_auth::view::{NODES, ObjectView};
use navarch_auth::{JoinRole, Pki, PkiError};
use navarch_types::error::Status;
use navarch_types::{ApiError, GroupResource, Reason, UserInfo};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::service::{PathRequest, PathService};

mod request;

pub use request::{AdmitRequest, JoinRequest, NodeRequest};

/// Another member, as a new one is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it takes its peers' connections, `host:port`.
    pub peer_address: String,
}

/// What a member that was let in is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The new member's id: never another's, before or after.
    pub member_id: u64,
    /// All members, the new one too.
    pub peers: Vec<Peer>,
    /// The voters that the cluster began with: a new member begins with the same, and learns the rest from the log.
    pub first_voters: Vec<u64>,
    /// The name under which members know each other: the cluster's id, until the cluster was recovered from one of them.
    pub group: String,
}

/// The members of the control plane, as joining needs them. Who implements it knows consensus; nothing here does.
#[async_trait]
pub trait Membership: Send + Sync {
    /// The URLs of all API servers, `https://host:port`.
    fn servers(&self) -> Vec<String>;

    /// Lets a member in. The same name and peer address again gets the same id: the answer may have been lost.
    ///
    /// # Errors
    /// If it cannot be let in, or not now; sent to it as it is.
    async fn admit(&self, request: &AdmitRequest) -> Result<Admission, ApiError>;
}

/// The answer to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAnswer {
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// The cluster's authority.
    pub ca_pem: String,
    /// The node's certificate, as a client and as a server.
    pub certificate_pem: String,
    /// The certificate of the node's network agent, for the same key.
    pub network_certificate_pem: String,
    /// All API servers.
    pub servers: Vec<String>,
    /// The settings that all must agree on.
    pub settings: Value,
}

/// The answer to a member. Its secrets must not be logged, and its `Debug` does not show them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerAnswer {
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// The new member's id.
    pub member_id: u64,
    /// All members, the new one too.
    pub peers: Vec<Peer>,
    /// The voters that the cluster began with.
    pub first_voters: Vec<u64>,
    /// The name under which members know each other.
    #[serde(default)]
    pub group: String,
    /// All API servers.
    pub servers: Vec<String>,
    /// The settings that all must agree on.
    pub settings: Value,
    /// The keys that members share.
    pub secrets: MemberSecrets,
}

/// What joining machines are told, and by whom.
pub struct Join {
    /// Signs.
    pub pki: Arc<Pki>,
    /// Where nodes are seen.
    pub view: Arc<dyn ObjectView>,
    /// Lets members in.
    pub membership: Arc<dyn Membership>,
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// The settings that all must agree on, as JSON.
    pub settings: Value,
    /// Names and addresses of API servers, beside those of [`Membership::servers`]: no node gets a certificate for one
    /// that its machine does not have.
    pub reserved: Vec<String>,
}

#[async_trait]
impl PathService for Join {
    async fn answer(&self, request: PathRequest) -> Result<Value, ApiError> {
        let asked: JoinRequest = serde_json::from_slice(&request.body)
            .map_err(|error| ApiError::bad_request(format!("the body is no join request: {error}")))?;
        let role = asked.role()?;
        may_join(&request.user, role)?;
        let answer = match role {
            JoinRole::Node => serde_json::to_value(self.node(&asked.node()?, request.source)?),
            JoinRole::Server => serde_json::to_value(self.server(&asked.server()?).await?),
        };
        tracing::info!(user = %request.user.name, %role, name = %asked.name, "a machine joins");
        answer.map_err(ApiError::internal)
    }
}

/// Whether a user came with a token for this role.
fn may_join(user: &UserInfo, role: JoinRole) -> Result<(), ApiError> {
    let by_token = user.name.starts_with(USER_PREFIX);
    if by_token && user.groups.iter().any(|group| group == role.group()) {
        return Ok(());
    }
    let has = match JoinRole::of_groups(&user.groups).filter(|_| by_token) {
        Some(other) => format!("the token is for joining as a {other}"),
        None => "only a join token may".to_owned(),
    };
    Err(ApiError::new(Reason::Forbidden, format!("forbidden: User {:?} cannot join as a {role}: {has}", user.name)))
}

/// 501, with upstream's form. Kubernetes has no reason for it.
pub fn not_implemented(message: &str) -> ApiError {
    let mut status: Status = ApiError::internal("").status().clone();
    status.code = 501;
    status.reason = "NotImplemented".to_owned();
    status.message = message.to_owned();
    status.details = None;
    ApiError::from_status(status)
}

fn unsigned(error: PkiError) -> ApiError {
    tracing::error!(%error, "a machine that joins cannot be given its certificates");
    ApiError::internal("certificates cannot be made")
}

impl Join {
    fn node(&self, request: &NodeRequest, source: Option<IpAddr>) -> Result<NodeAnswer, ApiError> {
        let servers = self.membership.servers();
        let hosts = servers.iter().filter_map(|url| url.parse::<http::Uri>().ok()).filter_map(|uri| {
            let host = uri.host()?;
            Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
        });
        let reserved: Vec<String> = hosts.chain(self.reserved.iter().cloned()).collect();
        request.check_reserved(&reserved, source)?;
        self.check_free(&request.name)?;
        let subject = Subject::agent(&request.name, &request.addresses);
        let network = Subject::client(navarch_auth::PROXY_USER, &[]);
        Ok(NodeAnswer {
            cluster_name: self.cluster_name.clone(),
            cluster_id: self.cluster_id.clone(),
            ca_pem: self.pki.ca_pem().to_owned(),
            certificate_pem: self.pki.issue_for(&request.key, &subject).map_err(unsigned)?,
            network_certificate_pem: self.pki.issue_for(&request.key, &network).map_err(unsigned)?,
            servers,
            settings: self.settings.clone(),
        })
    }

    /// A node that works must not be taken over by whoever has a token and knows its name.
    fn check_free(&self, name: &str) -> Result<(), ApiError> {
        let Some(node) = self.view.get(&NODES, "", name).and_then(|node| node.to_value().ok()) else { return Ok(()) };
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        if conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True") {
            let nodes = GroupResource { group: "".into(), resource: "nodes".into() };
            let why = "a node of this name is ready; choose another name, or stop its agent and delete the node first";
            return Err(ApiError::conflict(&nodes, name, why));
        }
        Ok(())
    }

    async fn server(&self, request: &AdmitRequest) -> Result<ServerAnswer, ApiError> {
        // Read before anybody is let in who could not be told then.
        let secrets = self.pki.member_secrets().map_err(unsigned)?;
        let admission = self.membership.admit(request).await?;
        Ok(ServerAnswer {
            cluster_name: self.cluster_name.clone(),
            cluster_id: self.cluster_id.clone(),
            member_id: admission.member_id,
            peers: admission.peers,
            first_voters: admission.first_voters,
            group: admission.group,
            servers: self.membership.servers(),
            settings: self.settings.clone(),
            secrets,
        })
    }
}

#[cfg(test)]
mod tests;
