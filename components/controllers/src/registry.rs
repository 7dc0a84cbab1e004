//! The one table of the controllers.

use std::sync::Arc;
use std::time::Duration;

use navarch_client::{Client, EventRecorder, InformerFactory};
use navarch_supervision::ChildSpec;
use navarch_types::ApiError;
use navarch_types::name::GroupVersionResource;

use crate::clusterroleaggregation::ClusterRoleAggregation;
use crate::controller::{Reconcile, spec};
use crate::deployment::Deployments;
use crate::endpoint::EndpointsController;
use crate::endpointslice::EndpointSlices;
use crate::garbagecollector::GarbageCollector;
use crate::namespace::Namespaces;
use crate::nodeipam::NodeIpam;
use crate::nodelifecycle::NodeLifecycle;
use crate::perns::{DefaultServiceAccount, EveryNamespace, RootCa};
use crate::podgc::PodGc;
use crate::replicaset::ReplicaSets;
use crate::serviceaccounttoken::ServiceAccountTokens;
use crate::tokencleaner::TokenCleaner;

/// A resource that the server serves, as garbage collection and namespaces need it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServedResource {
    /// Its preferred version.
    pub resource: GroupVersionResource,
    /// Its kind.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Its verbs: `list`, `delete`, …
    pub verbs: Vec<String>,
}

/// Asks the server for what it serves now; custom resources come and go.
pub type Discover = Arc<dyn Fn() -> Result<Vec<ServedResource>, ApiError> + Send + Sync>;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The CA that pods trust for the API server, PEM.
    pub root_ca_pem: String,
    /// Ranges that nodes get their pod ranges from: one for each address family.
    pub cluster_cidrs: Vec<String>,
    /// The prefix length of a node's range, for IPv4 and IPv6.
    pub node_mask: (u8, u8),
    /// A node that did not report for so long is unknown.
    pub node_monitor_grace_period: Duration,
    /// Terminated pods beyond so many are removed.
    pub terminated_pods_max: usize,
}

impl Default for Config {
    /// Upstream's defaults.
    fn default() -> Self {
        Self {
            root_ca_pem: String::new(),
            cluster_cidrs: vec!["10.244.0.0/16".to_owned()],
            node_mask: (24, 64),
            node_monitor_grace_period: Duration::from_secs(50),
            terminated_pods_max: 12_500,
        }
    }
}

/// What controllers are built from.
#[derive(Clone)]
pub struct ControllersContext {
    /// A client for a controller, by its service account's name in `kube-system` (`deployment-controller`), fenced with
    /// the leader's term.
    pub client: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    /// The informers of this member.
    pub informers: InformerFactory,
    /// What the server serves.
    pub discover: Discover,
    /// What can be set.
    pub config: Config,
}

impl ControllersContext {
    /// A controller by its name and its service account's.
    fn spec<R: Reconcile>(
        &self,
        name: &str,
        account: &str,
        factory: impl Fn(&Self, Client, EventRecorder) -> R + Send + Sync + 'static,
    ) -> ChildSpec {
        let context = self.clone();
        spec(name, (self.client)(account), move |client, recorder| factory(&context, client, recorder))
    }
}

/// The child specs of all controllers, for a one-for-one supervisor that runs while this member leads.
pub fn specs(context: &ControllersContext) -> Vec<ChildSpec> {
    let mut specs = workloads(context);
    specs.extend(services(context));
    specs.extend(lifecycles(context));
    specs.extend(nodes(context));
    specs
}

fn workloads(context: &ControllersContext) -> Vec<ChildSpec> {
    vec![
        context.spec("deployment-controller", "deployment-controller", |c, client, events| {
            Deployments::new(client, events, &c.informers)
        }),
        context.spec("replicaset-controller", "replicaset-controller", |c, client, events| {
            ReplicaSets::new(client, events, &c.informers)
        }),
    ]
}

fn services(context: &ControllersContext) -> Vec<ChildSpec> {
    vec![
        context.spec("endpointslice-controller", "endpointslice-controller", |c, client, _| {
            EndpointSlices::new(client, &c.informers)
        }),
        context.spec("endpoint-controller", "endpoint-controller", |c, client, _| {
            EndpointsController::new(client, &c.informers)
        }),
    ]
}

fn lifecycles(context: &ControllersContext) -> Vec<ChildSpec> {
    vec![
        context.spec("namespace-controller", "namespace-controller", |c, client, _| {
            Namespaces::new(client, &c.informers, Arc::clone(&c.discover))
        }),
        context.spec("service-account-controller", "service-account-controller", |c, client, _| {
            EveryNamespace::new(client, &c.informers, DefaultServiceAccount)
        }),
        context.spec("root-ca-certificate-publisher", "root-ca-cert-publisher", |c, client, _| {
            EveryNamespace::new(client, &c.informers, RootCa { pem: c.config.root_ca_pem.clone() })
        }),
        context.spec("serviceaccount-token-controller", "legacy-service-account-token-cleaner", |c, client, _| {
            ServiceAccountTokens::new(client, &c.informers)
        }),
        context
            .spec("token-cleaner-controller", "token-cleaner", |c, client, _| TokenCleaner::new(client, &c.informers)),
        context.spec("garbage-collector", "generic-garbage-collector", |c, client, _| {
            GarbageCollector::new(client, &c.informers, Arc::clone(&c.discover))
        }),
        context.spec("clusterrole-aggregation-controller", "clusterrole-aggregation-controller", |c, client, _| {
            ClusterRoleAggregation::new(client, &c.informers)
        }),
    ]
}

fn nodes(context: &ControllersContext) -> Vec<ChildSpec> {
    vec![
        context.spec("pod-garbage-collector", "pod-garbage-collector", |c, client, _| {
            PodGc::new(client, &c.informers, c.config.terminated_pods_max)
        }),
        context.spec("node-ipam-controller", "node-controller", |c, client, events| {
            NodeIpam::new(client, events, &c.informers, &c.config.cluster_cidrs, c.config.node_mask)
        }),
        context.spec("node-lifecycle-controller", "node-controller", |c, client, events| {
            NodeLifecycle::new(client, events, &c.informers, c.config.node_monitor_grace_period)
        }),
    ]
}
