//! `join.json`: that this machine has joined a cluster, as what, and what it must agree with. Holds no secret.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use navarch_auth::JoinRole;
use navarch_auth::pki::{ca_hash_of, write_private};
use navarch_config::{ClusterSettings, Settings};
use navarch_server::join::Peer;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JoinError, agent_kubeconfig};

/// As what this machine has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Joined {
    /// A node.
    Node(NodeJoined),
    /// A member of the control plane.
    Server(ServerJoined),
}

/// A node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeJoined {
    /// The cluster's id.
    pub cluster_id: String,
    /// What pins its authority.
    pub ca_hash: String,
    /// The node's name.
    pub name: String,
    /// The addresses that its certificate names.
    pub addresses: Vec<IpAddr>,
    /// All API servers.
    pub servers: Vec<String>,
    /// What all must agree on.
    pub settings: ClusterSettings,
}

/// A member that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerJoined {
    /// The cluster's id.
    pub cluster_id: String,
    /// What pins its authority.
    pub ca_hash: String,
    /// The member's id.
    pub member_id: u64,
    /// The member's name.
    pub name: String,
    /// Where it takes its peers' connections.
    pub peer_address: SocketAddr,
    /// Whether somebody said so: then it holds whatever the machine's own address is.
    #[serde(default)]
    pub peer_address_given: bool,
    /// The port that it listens on for them, if it was set to another one.
    #[serde(default)]
    pub peer_port: Option<u16>,
    /// The addresses that were said to be its node's.
    #[serde(default)]
    pub node_addresses: Vec<IpAddr>,
    /// The member whose place it took.
    #[serde(default)]
    pub replaced: Option<u64>,
    /// All members, itself too.
    pub peers: Vec<Peer>,
    /// The voters that the cluster began with.
    pub first_voters: Vec<u64>,
    /// The name under which members know each other; empty: the cluster's id.
    #[serde(default)]
    pub group: String,
    /// All API servers.
    pub servers: Vec<String>,
    /// What all must agree on.
    pub settings: ClusterSettings,
}

fn path_of(data_dir: &Path) -> PathBuf {
    data_dir.join("join.json")
}

fn in_the_way(path: PathBuf, why: &str) -> JoinError {
    JoinError::Present { path, why: why.to_owned() }
}

impl Joined {
    /// As what the machine with this data folder has joined, if it has.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, JoinError> {
        let path = path_of(data_dir);
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(joined) => Ok(Some(joined)),
                Err(error) => Err(JoinError::Present { path, why: error.to_string() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JoinError::Present { path, why: error.to_string() }),
        }
    }

    /// As [`Joined::load`], for a join with a token of the authority with this hash.
    ///
    /// # Errors
    /// Also if it has joined another cluster.
    pub fn load_of(data_dir: &Path, ca_hash: &str) -> Result<Option<Self>, JoinError> {
        let joined = Self::load(data_dir)?;
        let of = joined.as_ref().map(|joined| match joined {
            Self::Node(node) => &node.ca_hash,
            Self::Server(server) => &server.ca_hash,
        });
        if of.is_some_and(|of| of != ca_hash) {
            let why = "this machine has joined another cluster; `navarch reset` makes it leave";
            return Err(in_the_way(path_of(data_dir), why));
        }
        Ok(joined)
    }

    /// Writes the mark that everything else is written.
    pub(super) fn save(&self, data_dir: &Path) -> Result<(), JoinError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| JoinError::Answer(error.to_string()))?;
        Ok(write_private(&path_of(data_dir), &format!("{text}\n"))?)
    }

    /// Makes the settings of this machine those of the cluster.
    ///
    /// # Errors
    /// If this machine's say something else.
    pub fn apply(&self, settings: &mut Settings) -> Result<(), JoinError> {
        let cluster = match self {
            Self::Node(node) => &node.settings,
            Self::Server(server) => &server.settings,
        };
        let differences = differences(&settings.cluster, cluster);
        if !differences.is_empty() {
            return Err(JoinError::Settings(differences.join(", ")));
        }
        settings.cluster.clone_from(cluster);
        let node = match self {
            Self::Node(node) => node,
            Self::Server(server) => {
                settings.agent.node_name.get_or_insert_with(|| server.name.clone());
                settings.agent.node_ip = settings.agent.node_ip.or_else(|| server.node_addresses.first().copied());
                // A setting of this machine's takes both over.
                if settings.server.peer_address.is_none() {
                    settings.server.peer_address = server.peer_address_given.then_some(server.peer_address);
                    settings.server.peer_port.get_or_insert(server.peer_port.unwrap_or(server.peer_address.port()));
                }
                return Ok(());
            }
        };
        if let Some(name) = settings.agent.node_name.as_ref().filter(|name| **name != node.name) {
            return Err(JoinError::Settings(format!("agent.node_name is {name}; the machine joined as {}", node.name)));
        }
        settings.agent.node_name = Some(node.name.clone());
        settings.agent.node_ip = settings.agent.node_ip.or_else(|| node.addresses.first().copied());
        settings.agent.kubeconfig.get_or_insert_with(|| agent_kubeconfig(&settings.data_dir));
        Ok(())
    }
}

/// What is asked for when a machine is to join; what is not said is left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// As what.
    pub role: Option<JoinRole>,
    /// Its name.
    pub name: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its peers reach it.
    pub peer_address: Option<SocketAddr>,
    /// The member whose place it takes.
    pub replaces: Option<u64>,
}

impl Joined {
    /// Asked of a machine that has joined already: it stays what it became, so nothing else may be asked for.
    ///
    /// # Errors
    /// Says what differs.
    pub fn agrees(&self, asked: &Asked) -> Result<(), String> {
        let told = |what: &str, asked: &dyn Display, is: &dyn Display| {
            Err(format!("{what} {asked}: this machine has joined already, {is}; `navarch reset` makes it leave"))
        };
        let (role, name) = match self {
            Self::Node(node) => (JoinRole::Node, &node.name),
            Self::Server(server) => (JoinRole::Server, &server.name),
        };
        if let Some(asked) = asked.role.filter(|asked| *asked != role) {
            return told("--role", &asked, &format_args!("as a {role}"));
        }
        if let Some(asked) = asked.name.as_ref().filter(|asked| *asked != name) {
            return told("--node-name", asked, &format_args!("as {name}"));
        }
        match self {
            Self::Node(node) => {
                let other = asked.addresses.iter().find(|address| !node.addresses.contains(address));
                if let Some(asked) = other {
                    return told("--node-ip", asked, &"and its certificate does not name that address");
                }
                if let Some(asked) = asked.replaces {
                    return told("--replace", &asked, &"as a node");
                }
                if let Some(asked) = asked.peer_address {
                    return told("--peer-address", &asked, &"as a node");
                }
            }
            Self::Server(server) => {
                if let Some(asked) = asked.addresses.iter().find(|asked| !server.node_addresses.contains(asked)) {
                    return told("--node-ip", asked, &"with another address");
                }
                let same = |asked: &u64| server.replaced == Some(*asked);
                if let Some(asked) = asked.replaces.filter(|asked| !same(asked)) {
                    return told("--replace", &asked, &format_args!("as member {}", server.member_id));
                }
                if let Some(asked) = asked.peer_address.filter(|asked| *asked != server.peer_address) {
                    return told("--peer-address", &asked, &format_args!("with {}", server.peer_address));
                }
            }
        }
        Ok(())
    }
}

/// What was set here, and otherwise than there. What was left at its default takes the cluster's value.
fn differences(own: &ClusterSettings, theirs: &ClusterSettings) -> Vec<String> {
    let as_value = |settings: &ClusterSettings| serde_json::to_value(settings).unwrap_or_default();
    let (own, theirs, default) = (as_value(own), as_value(theirs), as_value(&ClusterSettings::default()));
    let Value::Object(own) = own else { return Vec::new() };
    let set = own.into_iter().filter(|(key, value)| *value != default[key] && *value != theirs[key]);
    set.map(|(key, value)| format!("cluster.{key} is {value}, not {}", theirs[&key])).collect()
}

/// The servers to try beside the one in the kubeconfig of a node that joined; none for other kubeconfigs.
pub fn more_servers(data_dir: &Path, kubeconfig: &Path) -> Vec<String> {
    match Joined::load(data_dir) {
        Ok(Some(Joined::Node(node))) if kubeconfig == agent_kubeconfig(data_dir) => node.servers,
        _ => Vec::new(),
    }
}

/// A data folder with a member's state cannot become another member's, nor one with keys of another cluster. Asked before
/// the cluster counts this machine among its members.
pub(super) fn check_no_member(data_dir: &Path, ca_hash: &str) -> Result<(), JoinError> {
    let store = data_dir.join("store");
    if store.exists() {
        return Err(in_the_way(store, "this machine has a control plane of its own; `navarch reset` deletes it"));
    }
    let authority = data_dir.join("pki").join("ca.crt");
    let Ok(pem) = std::fs::read(&authority) else { return Ok(()) };
    let hash = CertificateDer::from_pem_slice(&pem).ok().and_then(|der| ca_hash_of(&der).ok());
    if hash.as_deref() == Some(ca_hash) {
        return Ok(());
    }
    Err(in_the_way(authority, "this machine has keys of another cluster; `navarch reset` deletes them"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn node(settings: ClusterSettings) -> Joined {
        Joined::Node(NodeJoined {
            cluster_id: "id".to_owned(),
            ca_hash: "hash".to_owned(),
            name: "n2".to_owned(),
            addresses: vec![IpAddr::from([10, 0, 0, 2])],
            servers: vec!["https://10.0.0.1:6443".to_owned()],
            settings,
        })
    }

    #[test]
    fn what_was_joined_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Joined::load(folder.path()).unwrap(), None);
        let joined = node(ClusterSettings::default());
        joined.save(folder.path()).unwrap();
        assert_eq!(Joined::load_of(folder.path(), "hash").unwrap(), Some(joined));
        let error = Joined::load_of(folder.path(), "other").unwrap_err().to_string();
        assert!(error.contains("join.json") && error.contains("another cluster"), "{error}");
        assert_eq!(more_servers(folder.path(), &agent_kubeconfig(folder.path())).len(), 1);
        assert!(more_servers(folder.path(), Path::new("/other")).is_empty());
        std::fs::write(path_of(folder.path()), "{").unwrap();
        assert!(Joined::load(folder.path()).is_err());
    }

    #[test]
    fn the_cluster_s_settings_hold_and_contradictions_are_told() {
        let theirs = ClusterSettings { domain: "home.arpa".to_owned(), ..ClusterSettings::default() };
        let joined = node(theirs.clone());
        let mut settings = Settings::default();
        joined.apply(&mut settings).unwrap();
        assert_eq!(settings.cluster, theirs);
        assert_eq!(settings.agent.node_name.as_deref(), Some("n2"));
        assert_eq!(settings.agent.node_ip, Some(IpAddr::from([10, 0, 0, 2])));
        assert_eq!(settings.agent.kubeconfig, Some(agent_kubeconfig(&settings.data_dir)));
        joined.apply(&mut settings).unwrap();
        settings.cluster.domain = "else.where".to_owned();
        let error = joined.apply(&mut settings).unwrap_err().to_string();
        assert!(error.contains("cluster.domain is \"else.where\", not \"home.arpa\""), "{error}");
        let mut settings = Settings::default();
        settings.agent.node_name = Some("n3".to_owned());
        assert!(joined.apply(&mut settings).unwrap_err().to_string().contains("joined as n2"));
    }

    #[test]
    fn a_machine_that_has_joined_stays_what_it_became() {
        let node = node(ClusterSettings::default());
        let server = Joined::Server(ServerJoined {
            cluster_id: "id".to_owned(),
            ca_hash: "hash".to_owned(),
            member_id: 4,
            name: "m4".to_owned(),
            peer_address: "10.0.0.4:7000".parse().unwrap(),
            peer_address_given: true,
            peer_port: None,
            node_addresses: vec![IpAddr::from([10, 0, 0, 4])],
            replaced: Some(2),
            peers: Vec::new(),
            first_voters: vec![1],
            group: String::new(),
            servers: Vec::new(),
            settings: ClusterSettings::default(),
        });
        let nothing = Asked::default();
        for joined in [&node, &server] {
            assert_eq!(joined.agrees(&nothing), Ok(()));
            let other = Asked { name: Some("n9".to_owned()), ..nothing.clone() };
            assert!(joined.agrees(&other).unwrap_err().starts_with("--node-name n9: "));
            for asked in [
                Asked { replaces: Some(3), ..nothing.clone() },
                Asked { peer_address: "10.0.0.4:7001".parse().ok(), ..nothing.clone() },
                Asked { addresses: vec![IpAddr::from([10, 0, 0, 9])], ..nothing.clone() },
            ] {
                assert!(joined.agrees(&asked).is_err(), "{asked:?}");
            }
        }
        let same = Asked {
            role: Some(JoinRole::Server),
            name: Some("m4".to_owned()),
            peer_address: "10.0.0.4:7000".parse().ok(),
            replaces: Some(2),
            ..nothing.clone()
        };
        assert_eq!(server.agrees(&same), Ok(()));
        let told = node.agrees(&same).unwrap_err();
        assert!(told.starts_with("--role server: ") && told.contains("as a node"), "{told}");
        let elsewhere = Asked { addresses: vec![IpAddr::from([10, 0, 0, 3])], ..nothing };
        assert!(node.agrees(&elsewhere).unwrap_err().starts_with("--node-ip 10.0.0.3: "));
        // What was said when it joined holds whenever it is started.
        let mut settings = Settings::default();
        server.apply(&mut settings).unwrap();
        assert_eq!(settings.server.peer_address, "10.0.0.4:7000".parse().ok());
        assert_eq!(settings.server.peer_port, Some(7000));
    }

    #[test]
    fn a_member_s_folder_is_not_another_s() {
        let folder = tempfile::tempdir().unwrap();
        check_no_member(folder.path(), "hash").unwrap();
        let pki = navarch_auth::Pki::open(&folder.path().join("pki")).unwrap();
        check_no_member(folder.path(), pki.ca_hash()).unwrap();
        let error = check_no_member(folder.path(), "hash").unwrap_err().to_string();
        assert!(error.contains("pki/ca.crt"), "{error}");
        std::fs::create_dir(folder.path().join("store")).unwrap();
        assert!(check_no_member(folder.path(), pki.ca_hash()).is_err());
    }
}
