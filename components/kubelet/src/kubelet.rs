//! The agent's tree: what runs, in which order it starts, and what restarts with what.

use std::convert::Infallible;
use std::sync::Arc;

use navarch_client::Client;
use navarch_supervision::{ChildSpec, Ref, Strategy, SupervisorRef, SupervisorSpec};

use crate::cleanup;
use crate::context::KubeletConfig;
use crate::shared::Shared;
use crate::{containerd, logs, node, pleg, pods, server};

/// All of the agent runs on this thread: its work is waiting.
const THREAD: &str = "kubelet";

/// What a node agent is made from.
#[derive(Clone)]
pub struct KubeletContext {
    /// The API, as `system:node:<name>`.
    pub client: Client,
    /// Settings.
    pub config: KubeletConfig,
}

/// The children of the node agent, in the order they start. Stopping them stops no container.
pub fn specs(context: KubeletContext) -> Vec<ChildSpec> {
    let shared = Shared::new(context.client, context.config);
    let mut specs = Vec::new();
    if shared.config.containerd.is_some() {
        specs.push(task(&shared, "containerd", run_containerd));
    }
    if shared.config.containerd.is_some() && shared.config.preload_dir.is_some() {
        specs.push(task(&shared, "preload", run_preload));
    }
    specs.push(task(&shared, "events", |shared| async move {
        shared.events.run(&shared.client, &shared.config.node_name).await;
        Ok::<(), Infallible>(())
    }));
    specs.push(task(&shared, "node-status", node::run));
    specs.push(task(&shared, "node", node::follow));
    specs.push(task(&shared, "node-lease", node::lease::run));
    specs.push(task(&shared, "services", pods::follow_services));
    specs.push(task(&shared, "sources", |shared| async move {
        shared.sources.run().await;
        Ok::<(), Infallible>(())
    }));
    specs.push(task(&shared, "logs", logs::rotate::run));
    specs.push(pods_supervisor(&shared));
    if shared.config.server.is_some() {
        specs.push(task(&shared, "server", server::run));
    }
    specs
}

/// Workers and who starts them: new workers are needed whenever their supervisor is new.
fn pods_supervisor(shared: &Arc<Shared>) -> ChildSpec {
    let reference = SupervisorRef::new();
    let workers = SupervisorSpec::new("workers", Strategy::OneForOne).controlled_by(&reference);
    let manager = {
        let (shared, reference) = (Arc::clone(shared), reference.clone());
        ChildSpec::actor("manager", &Ref::new(), move |_| pods::Manager::new(Arc::clone(&shared), reference.clone()))
            .on_thread(THREAD)
    };
    let lifecycle = task(shared, "lifecycle-events", pleg::run);
    let sweeper = task(shared, "sweeper", sweep);
    let spec = SupervisorSpec::new("pods", Strategy::RestForOne)
        .child(ChildSpec::supervisor(workers))
        .child(manager)
        .child(lifecycle)
        .child(sweeper);
    ChildSpec::supervisor(spec).on_thread(THREAD)
}

async fn until_stopped<E>(
    context: navarch_supervision::TaskContext,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::select! {
        () = context.stopped() => Ok(()),
        ended = work => ended,
    }
}

fn task<F, Fut, E>(shared: &Arc<Shared>, name: &str, run: F) -> ChildSpec
where
    F: Fn(Arc<Shared>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + 'static,
    E: std::fmt::Display + 'static,
{
    let shared = Arc::clone(shared);
    ChildSpec::task(name, move |context| until_stopped(context, run(Arc::clone(&shared)))).on_thread(THREAD)
}

/// Keeps a containerd of our own running. One that ends is started again at once.
async fn run_containerd(shared: Arc<Shared>) -> Result<(), containerd::ContainerdError> {
    let Some(own) = &shared.config.containerd else { return std::future::pending().await };
    loop {
        let mut process = own.ensure(&shared.cri).await?;
        shared.relist.notify_one();
        process.ended().await;
        tracing::warn!("containerd ended; starting it again");
    }
}

async fn run_preload(shared: Arc<Shared>) -> Result<(), containerd::ContainerdError> {
    let (Some(own), Some(folder)) = (&shared.config.containerd, &shared.config.preload_dir) else {
        return std::future::pending().await;
    };
    containerd::preload(own, &shared.cri, folder).await
}

/// Looks for folders and cgroups of pods long gone.
async fn sweep(shared: Arc<Shared>) -> Result<(), Infallible> {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let node = shared.config.node_name.as_str();
        let label = Some((crate::labels::NODE, node));
        if !shared.synced.load(std::sync::atomic::Ordering::Acquire) {
            continue;
        }
        // Without a complete picture of the runtime nothing is known to be left over.
        let Ok(sandboxes) = shared.cri.list_pod_sandbox(label).await else { continue };
        let uids =
            sandboxes.into_iter().filter_map(|sandbox| sandbox.labels.get(crate::labels::POD_UID).cloned()).collect();
        let shared = Arc::clone(&shared);
        let _ = tokio::task::spawn_blocking(move || cleanup::sweep(&shared, &uids)).await;
    }
}
