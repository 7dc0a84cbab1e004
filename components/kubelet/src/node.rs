//! The node's own object: registration, status, and what the machine has.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_types::{ApiError, PatchType, Reason};
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use crate::context::KubeletConfig;
use crate::events::{Level, node_reference};
use crate::reflect::{Change, reflect};
use crate::resources::ResourceList;
use crate::shared::Shared;

pub mod lease;
mod status;

/// Even without a change the status is told this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(300);
/// Until the runtime and its network are ready, they are looked at this often.
const STARTING_INTERVAL: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

/// What the machine has, and its memory in bytes.
pub fn capacity(config: &KubeletConfig) -> (ResourceList, i64) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_kib = status::meminfo("MemTotal").unwrap_or(0);
    let disk = status::disk(&config.root_dir).map_or(0, |disk| disk.total_bytes);
    let list = BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{memory_kib}Ki"))),
        ("pods".to_owned(), Quantity(config.max_pods.to_string())),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", disk / 1024))),
    ]);
    (list, memory_kib.saturating_mul(1024))
}

/// The labels that the agent gives its node.
pub fn labels(config: &KubeletConfig) -> BTreeMap<String, String> {
    let (os, arch) = ("linux".to_owned(), crate::image::architecture().to_owned());
    let mut found = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), config.hostname.clone()),
        ("kubernetes.io/os".to_owned(), os.clone()),
        ("kubernetes.io/arch".to_owned(), arch.clone()),
        ("beta.kubernetes.io/os".to_owned(), os),
        ("beta.kubernetes.io/arch".to_owned(), arch),
    ]);
    found.extend(config.node_labels.iter().cloned());
    found
}

/// Registers the node and keeps its status true.
///
/// # Errors
/// Never; what fails is tried again.
pub async fn run(shared: Arc<Shared>) -> Result<(), Infallible> {
    let mut said: Option<(NodeStatus, Timestamp)> = None;
    while let Err(error) = register(&shared).await {
        debug!("cannot register the node: {error}");
        tokio::time::sleep(RETRY).await;
    }
    let mut started = false;
    loop {
        let old = shared.node.borrow().as_ref().and_then(|node| node.status.clone()).unwrap_or_default();
        let now = status::gather(&shared, &old).await;
        let ready = status::is_ready(&now);
        let fresh = said.as_ref().is_some_and(|(said, at)| {
            let age = Duration::try_from(Timestamp::now().duration_since(*at)).unwrap_or_default();
            status::same(said, &now) && age < REPORT_INTERVAL
        });
        if !fresh {
            match report(&shared, &now).await {
                Ok(node) => {
                    if ready && !started {
                        info!(node = shared.config.node_name, "node is ready");
                        shared.events.record(
                            node_reference(&node),
                            Level::Normal,
                            "NodeReady",
                            format!("Node {} status is now: NodeReady", shared.config.node_name),
                        );
                    }
                    shared.node.send_replace(Some(node));
                    started |= ready;
                    said = Some((now, Timestamp::now()));
                }
                Err(error) if error.is(Reason::NotFound) => {
                    warn!("the node's object is gone; registering anew");
                    said = None;
                    if let Err(error) = register(&shared).await {
                        debug!("cannot register the node: {error}");
                        tokio::time::sleep(RETRY).await;
                    }
                    continue;
                }
                Err(error) => {
                    debug!("cannot tell the node's status: {error}");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        let wait = if started { shared.config.status_interval } else { STARTING_INTERVAL };
        tokio::time::sleep(wait).await;
    }
}

async fn register(shared: &Shared) -> Result<(), ApiError> {
    let api = shared.client.all::<Node>();
    let name = &shared.config.node_name;
    let wanted = labels(&shared.config);
    let node = match api.get(name).await {
        Ok(node) => {
            let found = node.metadata.labels.clone().unwrap_or_default();
            let missing: BTreeMap<&String, &String> =
                wanted.iter().filter(|(key, value)| found.get(*key) != Some(*value)).collect();
            if missing.is_empty() {
                node
            } else {
                let patch = json!({"metadata": {"labels": missing}});
                api.patch(name, None, PatchType::Merge, patch).await?
            }
        }
        Err(error) if error.is(Reason::NotFound) => {
            let not_ready =
                Taint { key: "node.kubernetes.io/not-ready".into(), effect: "NoSchedule".into(), ..Taint::default() };
            let taints = [vec![not_ready], shared.config.node_taints.clone()].concat();
            let node = Node {
                metadata: ObjectMeta { name: Some(name.clone()), labels: Some(wanted), ..ObjectMeta::default() },
                spec: Some(NodeSpec { taints: Some(taints), ..NodeSpec::default() }),
                status: None,
            };
            let node = api.create(&node).await?;
            info!(node = name, "registered the node");
            node
        }
        Err(error) => return Err(error),
    };
    shared.node.send_replace(Some(node));
    Ok(())
}

/// Writes what differs from what the API has. Conditions and addresses merge by their keys.
async fn report(shared: &Shared, now: &NodeStatus) -> Result<Arc<Node>, ApiError> {
    let value = serde_json::to_value(now).map_err(ApiError::internal)?;
    let old = shared.node.borrow().as_ref().and_then(|node| node.status.clone()).unwrap_or_default();
    let old = serde_json::to_value(old).map_err(ApiError::internal)?;
    let mut changed = serde_json::Map::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        if old.get(key) != Some(value) && !value.is_null() {
            changed.insert(key.clone(), value.clone());
        }
    }
    let api = shared.client.all::<Node>();
    let patch = json!({"status": Value::Object(changed)});
    api.patch(&shared.config.node_name, Some("status".into()), PatchType::Strategic, patch).await
}

/// Follows the node's own object: labels and allocatable decide admission.
///
/// # Errors
/// Never.
pub async fn follow(shared: Arc<Shared>) -> Result<(), Infallible> {
    let api = shared.client.all::<Node>();
    let selector = Some(format!("metadata.name={}", shared.config.node_name));
    reflect(&api, selector, |change| match change {
        Change::Listed(nodes) => {
            if let Some(node) = nodes.into_iter().next() {
                shared.node.send_replace(Some(node));
            }
        }
        Change::Set(node) => drop(shared.node.send_replace(Some(node))),
        Change::Gone(_) | Change::Failed(_) => {}
    })
    .await;
    Ok(())
}
