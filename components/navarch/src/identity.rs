//! Which member of which cluster this process is, and where it is reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use navarch_config::Settings;

use crate::join::JoinError;
use crate::join::state::{Joined, ServerJoined};
use crate::roster::{Member, Wanted};
use crate::{machine, roster, store};

/// The id of the member that a cluster begins with.
pub const FIRST: u64 = 1;

/// Between a cluster's id and what tells its groups apart.
const RECOVERED: &str = "-r";

/// Where other machines reach the API of this one.
pub fn server_url(settings: &Settings) -> String {
    let address = settings.server.advertise_address.unwrap_or_else(machine::address);
    format!("https://{}", SocketAddr::new(address, settings.server.port))
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This member.
    pub member: u64,
    /// Its name.
    pub name: String,
    /// The cluster.
    pub cluster_id: String,
    /// The name under which members know each other: the cluster's id, or another one that begins with it after the cluster
    /// was recovered from one member. What the store says counts, once there is one.
    pub group: String,
    /// The voters that the cluster began with.
    pub first_voters: Vec<u64>,
    /// Where the other members were when this one joined.
    pub seeds: BTreeMap<u64, String>,
    /// Where peers are listened to.
    pub listen: SocketAddr,
    /// The address that other machines are told.
    pub address: IpAddr,
    /// The address and port that its peers are told, if they are not those it listens to.
    pub peer_address: Option<SocketAddr>,
    /// Where its API is.
    pub server: String,
    /// Whether others were members before it: it never begins a cluster of its own.
    pub joined: bool,
}

impl Identity {
    /// What the data folder and the settings say.
    ///
    /// # Errors
    /// If the folder cannot be read, or belongs to a machine that is no member.
    pub fn of(settings: &Settings) -> Result<Self, store::OpenError> {
        let address = settings.server.advertise_address.unwrap_or_else(machine::address);
        let mut this = Self {
            member: FIRST,
            name: settings.agent.node_name.clone().unwrap_or_else(machine::host_name),
            cluster_id: String::new(),
            group: String::new(),
            first_voters: vec![FIRST],
            seeds: BTreeMap::new(),
            listen: SocketAddr::new(settings.server.bind_address, settings.server.peer_port()),
            address,
            peer_address: settings.server.peer_address,
            server: server_url(settings),
            joined: false,
        };
        match Joined::load(&settings.data_dir)? {
            Some(Joined::Server(joined)) => this.take_over(joined),
            Some(Joined::Node(_)) => {
                let path = settings.data_dir.join("join.json");
                let why = "this machine has joined a cluster as a node: `navarch agent` runs it".to_owned();
                return Err(JoinError::Present { path, why }.into());
            }
            None => this.cluster_id = store::cluster_id(&settings.data_dir)?,
        }
        // What was seen last is newer than what it was told when it joined.
        this.seeds.extend(roster::noted_addresses(&settings.data_dir));
        this.seeds.remove(&this.member);
        if this.group.is_empty() {
            this.group.clone_from(&this.cluster_id);
        }
        Ok(this)
    }

    fn take_over(&mut self, joined: ServerJoined) {
        self.member = joined.member_id;
        self.name = joined.name;
        self.cluster_id = joined.cluster_id;
        self.group = joined.group;
        self.first_voters = joined.first_voters;
        self.seeds = joined.peers.into_iter().map(|peer| (peer.id, peer.peer_address)).collect();
        self.joined = true;
    }

    /// Whether a group is one of this cluster.
    pub fn owns(&self, group: &str) -> bool {
        group.strip_prefix(&self.cluster_id).is_some_and(|rest| rest.is_empty() || rest.starts_with(RECOVERED))
    }

    /// A group that never was: for a cluster that is recovered.
    pub fn new_group(&self) -> String {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        format!("{}{RECOVERED}{:08x}", self.cluster_id, random >> 32)
    }

    /// This member's record as it should be; `port` is where peers are listened to indeed.
    pub fn record(&self, port: u16) -> Member {
        Member {
            id: self.member,
            name: self.name.clone(),
            peer_address: self.peer_address.unwrap_or(SocketAddr::new(self.address, port)).to_string(),
            server: self.server.clone(),
            wanted: Wanted::Voter,
        }
    }
}
