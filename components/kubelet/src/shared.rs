//! Handles that all parts of one agent share, and the table of its pods.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus, Service};
use navarch_client::Client;
use navarch_supervision::Ref;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::admission::Refusal;
use crate::context::KubeletConfig;
use crate::cri::Cri;
use crate::events::Recorder;
use crate::resources::ResourceList;
use crate::resources::cgroup::Cgroups;
use crate::sources::Sources;
use crate::worker::{PodActor, Sync};

/// What a pod's worker is to bring about.
#[derive(Clone)]
pub struct Desired {
    /// The pod as the API has it, or had it last.
    pub pod: Arc<Pod>,
    /// The node does not take it.
    pub refusal: Option<Refusal>,
    /// The API has it no more.
    pub gone: bool,
}

/// One pod of this node. Outlives restarts of its worker.
pub struct PodHandle {
    /// Its uid.
    pub uid: String,
    /// The latest wish; a worker needs no other.
    pub desired: watch::Sender<Desired>,
    /// Its actor, whichever incarnation runs.
    pub actor: Ref<PodActor>,
    /// The status last worked out.
    pub status: Mutex<Option<PodStatus>>,
}

impl PodHandle {
    /// Has its actor look again. One that does not run looks when it starts; a full mailbox holds such a wish already.
    pub fn hint(&self) {
        let _ = self.actor.try_send(Sync);
    }
}

/// What all parts share.
pub struct Shared {
    /// Settings.
    pub config: KubeletConfig,
    /// The API, as this node.
    pub client: Client,
    /// The runtime.
    pub cri: Cri,
    /// The pods' cgroups.
    pub cgroups: Cgroups,
    /// Config maps and secrets.
    pub sources: Sources,
    /// Events.
    pub events: Recorder,
    /// The node's own object; `None` until it is registered.
    pub node: watch::Sender<Option<Arc<Node>>>,
    /// All Services; `None` until they were listed once.
    pub services: watch::Sender<Option<Vec<Arc<Service>>>>,
    /// The pods, by uid.
    pub pods: Mutex<HashMap<String, Arc<PodHandle>>>,
    /// The machine's memory.
    pub memory_bytes: i64,
    /// What the machine has.
    pub capacity: ResourceList,
    /// What of it pods may use.
    pub allocatable: ResourceList,
    /// Whether a complete list of the node's pods was seen. Nothing is undesired before.
    pub synced: AtomicBool,
    /// Something about the runtime should be looked at now.
    pub relist: Notify,
}

impl Shared {
    /// Handles for one agent.
    pub fn new(client: Client, config: KubeletConfig) -> Arc<Self> {
        let (capacity, memory_bytes) = crate::node::capacity(&config);
        Arc::new(Self {
            cri: Cri::new(&config.cri_socket),
            cgroups: Cgroups::new(&config.cgroup_root),
            sources: Sources::new(client.clone()),
            events: Recorder::default(),
            node: watch::Sender::new(None),
            services: watch::Sender::new(None),
            pods: Mutex::default(),
            allocatable: capacity.clone(),
            synced: AtomicBool::new(false),
            relist: Notify::new(),
            capacity,
            memory_bytes,
            client,
            config,
        })
    }

    /// The handle of a pod by name, for the server.
    pub fn pod_named(&self, namespace: &str, name: &str) -> Option<Arc<PodHandle>> {
        let pods = self.pods.lock();
        let named = |handle: &&Arc<PodHandle>| {
            let desired = handle.desired.borrow();
            let metadata = &desired.pod.metadata;
            metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name)
        };
        pods.values().filter(named).max_by_key(|handle| !handle.desired.borrow().gone).cloned()
    }
}
