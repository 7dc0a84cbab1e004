//! What a machine that joins asks for, and whether it makes sense. Pure.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use navarch_auth::JoinRole;
use navarch_auth::pki::{RequestedKey, SERVING_NAMES};
use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::validate::names::dns1123_subdomain;
use navarch_types::{ApiError, GroupVersionKind};
use serde::{Deserialize, Serialize};

const KIND: GroupVersionKind = GroupVersionKind::new("navarch", "v1", "JoinRequest");
/// Addresses of one machine. A certificate names them all.
const ADDRESSES_MAX: usize = 16;

/// The body of a request to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// `server` or `node`.
    #[serde(default)]
    pub role: String,
    /// The machine's name: the node's, or the member's.
    #[serde(default)]
    pub name: String,
    /// The machine's addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// A node's certificate request, PEM. Only its key counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_request: Option<String>,
    /// Where a member takes its peers' connections, `address:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Where a member's API will be, `https://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The id of the member, mostly a dead one, whose place a member takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
}

/// A node's request that makes sense.
#[derive(Debug)]
pub struct NodeRequest {
    /// The node's name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The key to certify.
    pub key: RequestedKey,
}

/// A member's request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmitRequest {
    /// The member's name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it takes its peers' connections.
    pub peer_address: SocketAddr,
    /// Where its API will be, `https://host:port`.
    pub server: String,
    /// The member that is removed for it.
    pub replaces: Option<u64>,
}

impl JoinRequest {
    /// What the machine wants to be.
    pub(super) fn role(&self) -> Result<JoinRole, ApiError> {
        let path = Path::root("role");
        let wrong = match self.role.as_str() {
            "" => FieldError::required(&path, ""),
            text => match JoinRole::from_str(text) {
                Ok(role) => return Ok(role),
                Err(_) => FieldError::not_supported(&path, text, &["node", "server"]),
            },
        };
        Err(into_result(&KIND, &self.name, vec![wrong]).err().unwrap_or_else(|| ApiError::bad_request("role")))
    }

    fn common(&self, findings: &mut Vec<FieldError>) -> Vec<IpAddr> {
        let path = Path::root("name");
        if self.name.is_empty() {
            findings.push(FieldError::required(&path, ""));
        } else {
            let wrong = dns1123_subdomain(&self.name).into_iter();
            findings.extend(wrong.map(|why| FieldError::invalid(&path, self.name.as_str(), why)));
        }
        let path = Path::root("addresses");
        if self.addresses.is_empty() {
            findings.push(FieldError::required(&path, "at least one address of the machine"));
        }
        if self.addresses.len() > ADDRESSES_MAX {
            findings.push(FieldError::too_many(&path, self.addresses.len(), ADDRESSES_MAX));
        }
        let mut addresses = Vec::new();
        for (index, text) in self.addresses.iter().enumerate() {
            let path = path.index(index);
            match text.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() || address.is_multicast() => {
                    findings.push(FieldError::invalid(&path, text.as_str(), "must be an address of one machine"));
                }
                Ok(address) => addresses.push(address),
                Err(_) => findings.push(FieldError::invalid(&path, text.as_str(), "must be an IP address")),
            }
        }
        addresses
    }

    /// The request of a node.
    pub(super) fn node(&self) -> Result<NodeRequest, ApiError> {
        let mut findings = Vec::new();
        let addresses = self.common(&mut findings);
        if self.replaces.is_some() {
            findings.push(FieldError::forbidden(&Path::root("replaces"), "only a member takes a member's place"));
        }
        if SERVING_NAMES.contains(&self.name.as_str()) {
            let path = Path::root("name");
            findings.push(FieldError::invalid(&path, self.name.as_str(), "is a name of the API server"));
        }
        let path = Path::root("certificateRequest");
        let key = match self.certificate_request.as_deref() {
            None | Some("") => Err(FieldError::required(&path, "a certificate request in PEM")),
            Some(pem) => RequestedKey::read(pem).map_err(|why| FieldError::invalid(&path, "…", why)),
        };
        let key = key.map_err(|finding| findings.push(finding)).ok();
        into_result(&KIND, &self.name, findings)?;
        let key = key.ok_or_else(|| ApiError::bad_request("no key"))?;
        Ok(NodeRequest { name: self.name.clone(), addresses, key })
    }

    /// The request of a member.
    pub(super) fn server(&self) -> Result<AdmitRequest, ApiError> {
        let mut findings = Vec::new();
        let addresses = self.common(&mut findings);
        let path = Path::root("peerAddress");
        let peer_address = match self.peer_address.as_deref() {
            None | Some("") => Err(FieldError::required(&path, "where the member takes its peers' connections")),
            Some(text) => match text.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(address),
                _ => Err(FieldError::invalid(&path, text, "must be ADDRESS:PORT")),
            },
        };
        let peer_address = peer_address.map_err(|finding| findings.push(finding)).ok();
        let path = Path::root("server");
        let server = self.server.clone().unwrap_or_default();
        if server.is_empty() {
            findings.push(FieldError::required(&path, "where the member's API will be"));
        } else if !is_server_url(&server) {
            findings.push(FieldError::invalid(&path, server.as_str(), "must be https://HOST:PORT"));
        }
        into_result(&KIND, &self.name, findings)?;
        let peer_address = peer_address.ok_or_else(|| ApiError::bad_request("no peer address"))?;
        Ok(AdmitRequest { name: self.name.clone(), addresses, peer_address, server, replaces: self.replaces })
    }
}

fn is_server_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.port_u16().is_some() && matches!(uri.path(), "" | "/")
    })
}

impl NodeRequest {
    /// Whether the certificate would name an API server that is not on the node's own machine: its holder could pass for
    /// that server. A request from a server's own address may: its machine is a node too.
    pub(super) fn check_reserved(&self, reserved: &[String], source: Option<IpAddr>) -> Result<(), ApiError> {
        let is_reserved = |address: &IpAddr| {
            address.is_loopback() || reserved.iter().any(|r| r.parse::<IpAddr>().is_ok_and(|r| r == *address))
        };
        if source.as_ref().is_some_and(is_reserved) {
            return Ok(());
        }
        let mut findings = Vec::new();
        if reserved.iter().any(|name| name.eq_ignore_ascii_case(&self.name)) {
            findings.push(FieldError::invalid(&Path::root("name"), self.name.as_str(), "is a name of an API server"));
        }
        for (index, address) in self.addresses.iter().enumerate().filter(|(_, address)| is_reserved(address)) {
            let why = "is an address of an API server, from which this request does not come";
            findings.push(FieldError::invalid(&Path::root("addresses").index(index), address.to_string(), why));
        }
        into_result(&KIND, &self.name, findings)
    }
}
