//! What only the leader runs: controllers and scheduler, their writes fenced with its term.

use std::sync::Arc;

use navarch_auth::service_account_identity;
use navarch_client::{Client, InformerFactory};
use navarch_config::Settings;
use navarch_controllers::{Config, ControllersContext, ServedResource};
use navarch_registry::Registry;
use navarch_scheduler::framework::Framework;
use navarch_scheduler::plugins::{self, Strategy as Packing};
use navarch_scheduler::{Figures, SchedulerContext};
use navarch_server::{InProcess, Pipeline};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec};
use navarch_types::UserInfo;
use tokio::sync::watch;

use crate::in_process;
use crate::members::Members;

/// What the gate builds the leader's subtree from.
#[derive(Clone)]
pub struct LeaderParts {
    pub pipeline: Arc<Pipeline>,
    pub informers: InformerFactory,
    pub ca_pem: String,
    pub settings: Settings,
    pub members: Members,
    /// This member.
    pub own: u64,
}

/// The scheduler's plugins.
///
/// # Errors
/// If the profile contradicts itself.
pub fn framework() -> Result<Arc<Framework>, &'static str> {
    plugins::default_profile(Packing::LeastAllocated).map(Arc::new)
}

/// The gate: its subtree runs while `term` holds the term in which this member leads.
pub fn gate(parts: LeaderParts, framework: Arc<Framework>, term: watch::Receiver<Option<u64>>) -> ChildSpec {
    let figures = Arc::new(Figures::default());
    ChildSpec::gate("leader-gate", term, move |term: u64| {
        let controllers = SupervisorSpec::new("controllers", Strategy::OneForOne)
            .children(navarch_controllers::specs(&controllers(&parts, term)));
        let user = UserInfo::new("system:kube-scheduler", &["system:authenticated"]);
        let scheduler = SchedulerContext {
            client: in_process::client(&InProcess::new(Arc::clone(&parts.pipeline)), user).fenced(term),
            informers: parts.informers.clone(),
            framework: Arc::clone(&framework),
            figures: Arc::clone(&figures),
        };
        SupervisorSpec::new("leader", Strategy::OneForOne)
            .child(parts.members.reconciler(parts.own))
            .child(parts.members.publisher(parts.own, Arc::clone(&parts.pipeline)))
            .child(ChildSpec::supervisor(controllers))
            .child(navarch_scheduler::spec(scheduler))
    })
}

fn controllers(parts: &LeaderParts, term: u64) -> ControllersContext {
    let cluster = &parts.settings.cluster;
    let server = InProcess::new(Arc::clone(&parts.pipeline));
    let client = move |name: &str| -> Client {
        in_process::client(&server, service_account_identity("kube-system", name, "")).fenced(term)
    };
    let pipeline = Arc::clone(&parts.pipeline);
    ControllersContext {
        client: Arc::new(client),
        informers: parts.informers.clone(),
        discover: Arc::new(move || Ok(served(pipeline.registry()))),
        config: Config {
            root_ca_pem: parts.ca_pem.clone(),
            cluster_cidrs: vec![cluster.pod_cidr.to_string()],
            node_mask: (cluster.node_cidr_mask_size, 64),
            ..Config::default()
        },
    }
}

/// Each stored resource once, by its preferred version.
fn served(registry: &Registry) -> Vec<ServedResource> {
    let mut all = Vec::new();
    for resource in registry.table().iter().filter(|resource| resource.serves_stored()) {
        all.push(ServedResource {
            resource: resource.served.clone(),
            kind: resource.kind.kind.to_string(),
            namespaced: resource.namespaced,
            verbs: resource.verbs.iter().map(|verb| verb.as_str().to_owned()).collect(),
        });
    }
    all
}
