//! Joining a cluster: from a token to certificates and settings on this machine's disk.
//!
//! Nothing is sent before the server has shown the authority that the token names, and a certificate of it for the address
//! that was called: see [`pin`]. What is written is told apart by role in [`state`]; its last file is the mark that it is
//! complete.

mod pin;
pub mod state;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use navarch_auth::pki::{self, KeyRequest, Kubeconfig, ca_hash_of};
use navarch_auth::{Identity, JOIN_PATH, JoinRole, JoinToken, Pki, PkiError};
use navarch_config::ClusterSettings;
use navarch_server::join::{JoinRequest, NodeAnswer, ServerAnswer};
use navarch_types::error::Status;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use pin::ServerUrl;
use state::{Joined, NodeJoined, ServerJoined};

const WHO_AM_I: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Why a machine did not join. No text shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is no server's URL.
    #[error("{0}: must be https://HOST:PORT")]
    Url(String),
    /// Nobody answers there.
    #[error("cannot reach {server}: {source}")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else answers there; nothing was sent.
    #[error("{server} is not trusted, and nothing was sent to it: {why}")]
    Untrusted {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The connection broke.
    #[error("{server}: {why}")]
    Broken {
        /// The server.
        server: String,
        /// How.
        why: String,
    },
    /// So it went with every server that was given.
    #[error("no server can be joined through: {}", .0.join("; "))]
    NoServer(Vec<String>),
    /// The token is not good.
    #[error(
        "the cluster does not know the token: it was deleted or has expired; `navarch token create` makes a new one"
    )]
    Token,
    /// The cluster says no.
    #[error("the cluster refused ({}): {}", .0.code, .0.message)]
    Refused(Box<Status>),
    /// The token is for something else.
    #[error("the token is no join token of navarch: it has neither of the groups {} and {}", JoinRole::Server.group(), JoinRole::Node.group())]
    NoRole,
    /// The answer cannot be used.
    #[error("the cluster's answer cannot be used: {0}")]
    Answer(String),
    /// This machine is part of another cluster, or another part of this one.
    #[error("{}: {why}", path.display())]
    Present {
        /// What is there.
        path: PathBuf,
        /// Why that is in the way.
        why: String,
    },
    /// This machine's own settings contradict the cluster's.
    #[error("this machine's settings differ from the cluster's, which all must share: {0}")]
    Settings(String),
    /// Files.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// What this machine is, for whom it asks.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name as a node or a member.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it takes its peers' connections, as a member.
    pub peer_address: SocketAddr,
    /// Whether somebody said so.
    pub peer_address_given: bool,
    /// The port that it listens on for them, if it is set.
    pub peer_port: Option<u16>,
    /// The addresses that somebody said are its node's.
    pub node_addresses: Vec<IpAddr>,
    /// Where its API will be, as a member.
    pub server: String,
    /// The member whose place it takes, as one.
    pub replaces: Option<u64>,
}

/// The kubeconfig of a node that joined.
pub fn agent_kubeconfig(data_dir: &Path) -> PathBuf {
    data_dir.join("agent.kubeconfig")
}

/// Joins through the first of the servers that answers; see [`join_through`]. Asking several for the same is harmless: a
/// node gets another certificate, a member is the same member.
///
/// # Errors
/// What the server said that answered; if none did, what became of each.
pub async fn join(
    data_dir: &Path,
    urls: &[ServerUrl],
    token: &JoinToken,
    role: Option<JoinRole>,
    machine: &Machine,
) -> Result<Joined, JoinError> {
    let mut failed = Vec::new();
    for url in urls {
        match join_through(data_dir, url, token, role, machine).await {
            Err(error @ (JoinError::Unreachable { .. } | JoinError::Untrusted { .. } | JoinError::Broken { .. })) => {
                failed.push(error);
            }
            done => return done,
        }
    }
    Err(match failed.pop() {
        Some(only) if failed.is_empty() => only,
        Some(last) => JoinError::NoServer(failed.into_iter().chain([last]).map(|error| error.to_string()).collect()),
        None => JoinError::Url("no server is given".to_owned()),
    })
}

/// Asks the server what a token is for, unless that is said, and joins as it. What came is on the disk afterwards.
///
/// # Errors
/// See [`JoinError`]; then nothing is on the disk that was not before, or the same call again completes it.
async fn join_through(
    data_dir: &Path,
    url: &ServerUrl,
    token: &JoinToken,
    role: Option<JoinRole>,
    machine: &Machine,
) -> Result<Joined, JoinError> {
    let role = match role {
        Some(role) => role,
        None => role_of(url, token).await?,
    };
    match role {
        JoinRole::Node => as_node(data_dir, url, token, machine).await.map(Joined::Node),
        JoinRole::Server => as_server(data_dir, url, token, machine).await.map(Joined::Server),
    }
}

async fn role_of(url: &ServerUrl, token: &JoinToken) -> Result<JoinRole, JoinError> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer: Value = pin::post(url, token, WHO_AM_I, &review).await?;
    let groups: Vec<&str> =
        answer["status"]["userInfo"]["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    JoinRole::of_groups(&groups).ok_or(JoinError::NoRole)
}

async fn ask<T: DeserializeOwned>(url: &ServerUrl, token: &JoinToken, request: &JoinRequest) -> Result<T, JoinError> {
    let body = serde_json::to_value(request).map_err(|error| JoinError::Answer(error.to_string()))?;
    let answer = pin::post(url, token, JOIN_PATH, &body).await?;
    // The error may quote what it cannot read, and that may be a key.
    serde_json::from_value(answer)
        .map_err(|_| JoinError::Answer("it is of another form; is it another version?".into()))
}

fn request(role: JoinRole, machine: &Machine) -> JoinRequest {
    JoinRequest {
        role: role.to_string(),
        name: machine.name.clone(),
        addresses: machine.addresses.iter().map(ToString::to_string).collect(),
        ..JoinRequest::default()
    }
}

/// What came in the answer must be the authority that the handshake was checked against.
fn check_ca(pem: &str, token: &JoinToken) -> Result<(), JoinError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| JoinError::Answer(error.to_string()))?;
    if ca_hash_of(&der).as_deref() == Ok(token.ca_hash()) {
        return Ok(());
    }
    Err(JoinError::Answer("its CA is not the one that the token names".to_owned()))
}

fn cluster_settings(value: Value) -> Result<ClusterSettings, JoinError> {
    serde_json::from_value(value).map_err(|error| JoinError::Answer(format!("settings: {error}")))
}

async fn as_node(
    data_dir: &Path,
    url: &ServerUrl,
    token: &JoinToken,
    machine: &Machine,
) -> Result<NodeJoined, JoinError> {
    let key = KeyRequest::new()?;
    let mut asked = request(JoinRole::Node, machine);
    asked.certificate_request = Some(key.request_pem);
    let answer: NodeAnswer = ask(url, token, &asked).await?;
    check_ca(&answer.ca_pem, token)?;
    let joined = NodeJoined {
        cluster_id: answer.cluster_id,
        ca_hash: token.ca_hash().to_owned(),
        name: machine.name.clone(),
        addresses: machine.addresses.clone(),
        servers: answer.servers,
        settings: cluster_settings(answer.settings)?,
    };
    let node = Identity { certificate_pem: answer.certificate_pem, key_pem: key.key_pem.clone() };
    let network = Identity { certificate_pem: answer.network_certificate_pem, key_pem: key.key_pem };
    let kubeconfig = Kubeconfig {
        cluster: &answer.cluster_name,
        server: url.as_str(),
        ca_pem: &answer.ca_pem,
        users: &[("node", &node), (navarch_auth::PROXY_USER, &network)],
    };
    pki::write_kubeconfig(&agent_kubeconfig(data_dir), &kubeconfig)?;
    Joined::Node(joined.clone()).save(data_dir)?;
    Ok(joined)
}

async fn as_server(
    data_dir: &Path,
    url: &ServerUrl,
    token: &JoinToken,
    machine: &Machine,
) -> Result<ServerJoined, JoinError> {
    state::check_no_member(data_dir, token.ca_hash())?;
    let mut asked = request(JoinRole::Server, machine);
    asked.peer_address = Some(machine.peer_address.to_string());
    asked.server = Some(machine.server.clone());
    asked.replaces = machine.replaces;
    let answer: ServerAnswer = ask(url, token, &asked).await?;
    check_ca(&answer.secrets.ca_crt, token)?;
    let joined = ServerJoined {
        cluster_id: answer.cluster_id,
        ca_hash: token.ca_hash().to_owned(),
        member_id: answer.member_id,
        name: machine.name.clone(),
        peer_address: machine.peer_address,
        peer_address_given: machine.peer_address_given,
        peer_port: machine.peer_port,
        node_addresses: machine.node_addresses.clone(),
        replaced: machine.replaces,
        peers: answer.peers,
        first_voters: answer.first_voters,
        group: answer.group,
        servers: answer.servers,
        settings: cluster_settings(answer.settings)?,
    };
    std::fs::create_dir_all(data_dir).map_err(|source| PkiError::File { path: data_dir.to_owned(), source })?;
    Pki::import(&data_dir.join("pki"), &answer.secrets)?;
    pki::write_private(&data_dir.join("cluster-id"), &format!("{}\n", joined.cluster_id))?;
    Joined::Server(joined.clone()).save(data_dir)?;
    Ok(joined)
}
