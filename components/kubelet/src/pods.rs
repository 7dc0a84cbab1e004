//! Which pods this node runs: follows the API, decides admission once for each, and keeps one worker a pod.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod, Service};
use navarch_supervision::{ChildError, ChildHandle, ChildSpec, Ref, Restart, SupervisorRef, fault};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admission::{self, Refusal};
use crate::lifecycle::status::is_final;
use crate::reflect::{Change, reflect};
use crate::shared::{Desired, PodHandle, Shared};
use crate::worker::PodActor;

/// Some pods may have no worker yet.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look;

/// The actor that keeps one worker a pod, below `supervisor`.
pub struct Manager {
    shared: Arc<Shared>,
    supervisor: SupervisorRef,
    started: HashSet<String>,
}

impl Manager {
    /// With no worker known: those that run are found when they are added again.
    pub fn new(shared: Arc<Shared>, supervisor: SupervisorRef) -> Self {
        Self { shared, supervisor, started: HashSet::new() }
    }
}

impl Actor for Manager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (shared, address) = (Arc::clone(&self.shared), ctx.address());
        ctx.spawn(follow(shared, address).into_actor(self));
        ctx.notify(Look);
    }
}

impl Handler<Look> for Manager {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Context<Self>) {
        fault::point("kubelet/manager");
        let wanted: Vec<Arc<PodHandle>> = {
            let pods = self.shared.pods.lock();
            self.started.retain(|uid| pods.contains_key(uid));
            pods.values().filter(|handle| !self.started.contains(&handle.uid)).cloned().collect()
        };
        for handle in wanted {
            self.started.insert(handle.uid.clone());
            let (supervisor, spec) = (self.supervisor.clone(), worker_spec(&self.shared, &handle));
            let adding = async move { supervisor.add(spec).await };
            ctx.spawn(adding.into_actor(self).map(move |added, manager, ctx| match added {
                // One of that name runs since before this actor was restarted.
                Ok(()) | Err(ChildError::Exists(_)) => {}
                Err(error) => {
                    warn!("cannot start a pod's worker: {error}");
                    manager.started.remove(&handle.uid);
                    ctx.notify_later(Look, RETRY);
                }
            }));
        }
    }
}

/// After a worker could not be started.
const RETRY: Duration = Duration::from_millis(100);

async fn follow(shared: Arc<Shared>, manager: Addr<Manager>) {
    let api = shared.client.all::<Pod>();
    let selector = Some(format!("spec.nodeName={}", shared.config.node_name));
    reflect(&api, selector, |change| {
        match change {
            Change::Listed(pods) => {
                listed(&shared, pods);
                shared.synced.store(true, Ordering::Release);
                shared.relist.notify_one();
            }
            Change::Set(pod) => set(&shared, pod),
            Change::Gone(pod) => gone(&shared, &pod),
            Change::Failed(_) => return,
        }
        // A full mailbox holds a wish to look already.
        let _ = manager.try_send(Look);
    })
    .await;
}

fn worker_spec(shared: &Arc<Shared>, handle: &Arc<PodHandle>) -> ChildSpec {
    let name = {
        let desired = handle.desired.borrow();
        let metadata = &desired.pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{}/{}/{}", text(&metadata.namespace), text(&metadata.name), handle.uid)
    };
    let (shared, handle) = (Arc::clone(shared), Arc::clone(handle));
    let reference = handle.actor.clone();
    let factory = move |_: &ChildHandle| PodActor::new(Arc::clone(&shared), Arc::clone(&handle));
    // Stopping the actor stops no container.
    ChildSpec::actor(&name, &reference, factory).restart(Restart::Transient)
}

fn listed(shared: &Shared, pods: Vec<Arc<Pod>>) {
    let known: HashSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    for handle in shared.pods.lock().values() {
        if !known.contains(&handle.uid) {
            mark_gone(handle);
        }
    }
    for pod in pods {
        set(shared, pod);
    }
}

fn mark_gone(handle: &PodHandle) {
    if handle.desired.send_if_modified(|desired| !std::mem::replace(&mut desired.gone, true)) {
        handle.hint();
    }
}

fn gone(shared: &Shared, pod: &Arc<Pod>) {
    let handle = pod.metadata.uid.as_deref().and_then(|uid| shared.pods.lock().get(uid).cloned());
    if let Some(handle) = handle {
        handle.desired.send_modify(|desired| {
            desired.gone = true;
            desired.pod = Arc::clone(pod);
        });
        handle.hint();
    }
}

fn set(shared: &Shared, pod: Arc<Pod>) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let mut pods = shared.pods.lock();
    if let Some(handle) = pods.get(&uid) {
        handle.desired.send_modify(|desired| desired.pod = pod);
        return handle.hint();
    }
    // What is over and deleted nowhere needs no worker before it is deleted; one is made all the same, because its
    // leftovers may still be here.
    let refusal = refusal(shared, &pods.values().cloned().collect::<Vec<_>>(), &pod);
    if let Some(refusal) = &refusal {
        info!(pod = pod.metadata.name, reason = refusal.reason, "pod refused: {}", refusal.message);
    }
    let handle = PodHandle {
        desired: watch::Sender::new(Desired { pod, refusal, gone: false }),
        actor: Ref::new(),
        status: parking_lot::Mutex::new(None),
        uid: uid.clone(),
    };
    pods.insert(uid, Arc::new(handle));
}

/// Whether the node takes a new pod. One that it took before is not asked again.
fn refusal(shared: &Shared, others: &[Arc<PodHandle>], pod: &Pod) -> Option<Refusal> {
    let status = pod.status.as_ref();
    let taken_before = status.is_some_and(|status| status.start_time.is_some());
    if taken_before || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let beside: Vec<Arc<Pod>> = others
        .iter()
        .filter_map(|handle| {
            let desired = handle.desired.borrow();
            let phase = handle.status.lock().as_ref().and_then(|status| status.phase.clone());
            let phase = phase.or_else(|| desired.pod.status.as_ref().and_then(|status| status.phase.clone()));
            let counts = desired.refusal.is_none() && !desired.gone && !is_final(phase.as_deref());
            counts.then(|| Arc::clone(&desired.pod))
        })
        .collect();
    let beside: Vec<&Pod> = beside.iter().map(Arc::as_ref).collect();
    let node = shared.node.borrow().clone().unwrap_or_else(|| Arc::new(own_node(shared)));
    admission::admit(pod, &beside, &node, shared.config.max_pods).err()
}

/// The node as it knows itself, before the API has it.
fn own_node(shared: &Shared) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(shared.config.node_name.clone());
    node.metadata.labels = Some(crate::node::labels(&shared.config));
    node.status = Some(NodeStatus { allocatable: Some(shared.allocatable.clone()), ..NodeStatus::default() });
    node
}

/// Follows the Services, for variables of containers.
///
/// # Errors
/// Never; it runs until it is dropped.
pub async fn follow_services(shared: Arc<Shared>) -> Result<(), Infallible> {
    let api = shared.client.all::<Service>();
    reflect(&api, None, |change| {
        let same = |one: &Service, other: &Service| {
            one.metadata.namespace == other.metadata.namespace && one.metadata.name == other.metadata.name
        };
        match change {
            Change::Listed(found) => drop(shared.services.send_replace(Some(found))),
            Change::Set(service) => shared.services.send_modify(|all| {
                let all = all.get_or_insert_default();
                all.retain(|other| !same(other, &service));
                all.push(service);
            }),
            Change::Gone(service) => shared.services.send_modify(|all| {
                all.get_or_insert_default().retain(|other| !same(other, &service));
            }),
            Change::Failed(_) => {}
        }
    })
    .await;
    Ok(())
}
