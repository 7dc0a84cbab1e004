//! Follows Services and EndpointSlices and keeps the table as planned. Level-triggered: an activation carries no data.
//!
//! The first write, and every write after an error, replaces the table whole; all others change what changed. From time to
//! time the table is compared with what it was after the last write, and replaced if somebody else changed it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use navarch_client::{Informer, InformerFactory};
use navarch_supervision::{TaskContext, fault};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::services::conntrack::stale;
use crate::services::diff::diff;
use crate::services::model::{NodeView, Services, read};
use crate::services::nft::{CommandError, Runner};
use crate::services::plan::{Plan, TableConfig, plan, skeleton};

/// Changes within this time are one transaction: an `nft` process costs some 10 ms.
const GATHER: Duration = Duration::from_millis(20);
/// How often the table is compared with what it should be.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Waits after errors: from the first to the last, doubling.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the table holds now.
struct Applied {
    services: Services,
    plan: Plan,
    /// The table as `nft` lists it.
    listed: String,
}

/// Keeps one table.
pub struct Applier {
    runner: Runner,
    config: TableConfig,
    applied: Option<Applied>,
}

impl Applier {
    /// For a table that is not written yet.
    pub fn new(runner: Runner, config: TableConfig) -> Self {
        Self { runner, config, applied: None }
    }

    /// Makes the table hold these Services.
    ///
    /// # Errors
    /// If it cannot be written; the next call then replaces it whole.
    pub async fn apply(&mut self, services: Services) -> Result<(), CommandError> {
        let wanted = plan(&services, &self.config);
        // Taken out: what is in the table after an error, or when this future is dropped, is unknown.
        let applied = self.applied.take();
        let (before, listed) = match applied {
            Some(Applied { services: before, plan, listed }) => {
                let script = diff(&self.config.table, &plan, &wanted);
                let listed = if script.is_empty() {
                    listed
                } else {
                    self.runner.nft(&script).await?;
                    self.runner.list_table(&self.config.table).await?
                };
                (before, listed)
            }
            None => {
                let script = skeleton(&self.config) + &diff(&self.config.table, &Plan::default(), &wanted);
                self.runner.nft(&script).await?;
                (Services::new(), self.runner.list_table(&self.config.table).await?)
            }
        };
        self.forget_stale(&before, &services).await;
        self.applied = Some(Applied { services, plan: wanted, listed });
        Ok(())
    }

    async fn forget_stale(&self, old: &Services, new: &Services) {
        for connections in stale(old, new) {
            let arguments = connections.arguments();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            match self.runner.run("conntrack", &arguments, None).await {
                // It fails when there was nothing to delete.
                Ok(_) | Err(CommandError::Failed { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot forget stale UDP connections");
                    return;
                }
            }
        }
    }

    /// Whether the table is as it was after the last write.
    pub async fn is_intact(&self) -> bool {
        match &self.applied {
            None => false,
            Some(applied) => {
                self.runner.list_table(&self.config.table).await.is_ok_and(|listed| listed == applied.listed)
            }
        }
    }

    /// Has the next write replace the table whole.
    pub fn distrust(&mut self) {
        self.applied = None;
    }

    /// The node's range of pod addresses is this one.
    pub fn set_pod_range(&mut self, range: Option<Ipv4Net>) {
        if self.config.pod_range != range {
            self.config.pod_range = range;
            self.distrust();
        }
    }
}

/// What the task follows.
#[derive(Clone)]
pub(crate) struct ServicesTask {
    pub informers: InformerFactory,
    pub runner: Runner,
    pub config: TableConfig,
    pub view: NodeView,
    pub pod_range: watch::Receiver<Option<Ipv4Net>>,
}

fn wanted(services: &Informer<Service>, slices: &Informer<EndpointSlice>, view: &NodeView) -> Services {
    let (services, slices) = (services.store().all(), slices.store().all());
    read(services.iter().map(AsRef::as_ref), slices.iter().map(AsRef::as_ref), view)
}

/// The task.
pub(crate) async fn run(mut task: ServicesTask, ctx: TaskContext) -> Result<(), Infallible> {
    let services = task.informers.informer::<Service>();
    let slices = task.informers.informer::<EndpointSlice>();
    let wake = Arc::new(Notify::new());
    let (one, two) = (Arc::clone(&wake), Arc::clone(&wake));
    let _subscriptions = (services.subscribe(move |_| one.notify_one()), slices.subscribe(move |_| two.notify_one()));
    tokio::select! {
        () = ctx.stopped() => return Ok(()),
        // Before both are complete, a Service would be cut off that works.
        () = async { tokio::join!(services.synced(), slices.synced()) ; } => {}
    }
    let mut applier = Applier::new(task.runner, task.config);
    let mut retry = RETRY_MIN;
    let mut check = tokio::time::interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
    loop {
        fault::point("network/services");
        applier.set_pod_range(*task.pod_range.borrow_and_update());
        let next = match applier.apply(wanted(&services, &slices, &task.view)).await {
            Ok(()) => {
                retry = RETRY_MIN;
                None
            }
            Err(error) => {
                tracing::error!(%error, retry_ms = retry.as_millis(), "cannot write Services to nftables");
                let wait = retry;
                retry = (retry * 2).min(RETRY_MAX);
                Some(wait)
            }
        };
        tokio::select! {
            () = ctx.stopped() => return Ok(()),
            () = tokio::time::sleep(next.unwrap_or(CHECK_EVERY)), if next.is_some() => {}
            Ok(()) = task.pod_range.changed() => {}
            () = wake.notified(), if next.is_none() => tokio::time::sleep(GATHER).await,
            _ = check.tick() => if !applier.is_intact().await {
                tracing::warn!("somebody else changed the table of Services; replacing it");
                applier.distrust();
            },
        }
    }
}
