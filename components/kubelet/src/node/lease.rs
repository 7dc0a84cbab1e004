//! The node's heartbeat: a Lease renewed every ten seconds. Writing it costs the cluster less than the status would.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use navarch_types::{ApiError, PatchType, Reason};
use serde_json::json;
use tracing::debug;

use crate::shared::Shared;

/// Where nodes' leases are.
const NAMESPACE: &str = "kube-node-lease";
/// A node whose lease is older is not healthy.
const DURATION_SECONDS: i32 = 40;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(7);

/// Renews until it is dropped.
///
/// # Errors
/// Never; what fails is tried again.
pub async fn run(shared: Arc<Shared>) -> Result<(), Infallible> {
    let mut wait = RETRY_FIRST;
    let mut exists = false;
    loop {
        match renew(&shared, &mut exists).await {
            Ok(()) => {
                wait = RETRY_FIRST;
                tokio::time::sleep(shared.config.lease_interval).await;
            }
            Err(error) => {
                debug!("cannot renew the node's lease: {error}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LONGEST);
            }
        }
    }
}

async fn renew(shared: &Shared, exists: &mut bool) -> Result<(), ApiError> {
    let api = shared.client.namespaced::<Lease>(NAMESPACE);
    let name = &shared.config.node_name;
    let now = MicroTime(Timestamp::now());
    if *exists {
        let patch =
            json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": DURATION_SECONDS}});
        match api.patch(name, None, PatchType::Merge, patch).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is(Reason::NotFound) => *exists = false,
            Err(error) => return Err(error),
        }
    }
    // The lease goes when its node goes: it needs the node's uid, and waits for it.
    let node = shared.node.borrow().clone();
    let Some(uid) = node.and_then(|node| node.metadata.uid.clone()) else {
        return Err(ApiError::new(Reason::ServiceUnavailable, "the node is not registered yet"));
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid,
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    match api.create(&lease).await {
        Ok(_) => *exists = true,
        Err(error) if error.is(Reason::AlreadyExists) => {
            *exists = true;
            return Box::pin(renew(shared, exists)).await;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
