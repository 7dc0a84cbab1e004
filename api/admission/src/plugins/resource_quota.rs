//! ResourceQuota: a namespace holds no more objects, and its pods ask for no more, than its quotas say.
//!
//! Usage is counted from what is there, at each request. Requests that run at the same time count each other through a
//! short memory of what was let through and is not visible yet; members of a cluster do not share that memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ResourceQuota as Quota;
use navarch_auth::ObjectView;
use navarch_auth::view::{RESOURCE_QUOTAS, Viewed};
use navarch_types::GroupResource;
use navarch_types::quantity::Quantity;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::json::text;
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

mod scope;
mod usage;

use usage::Usage;

/// How long a create that was let through counts although it cannot be seen: longer than a write takes, and short enough
/// for one that failed later.
const PENDING: Duration = Duration::from_secs(3);

pub(super) struct ResourceQuota {
    view: Arc<dyn ObjectView>,
    pending: Mutex<Vec<Pending>>,
}

struct Pending {
    resource: GroupResource,
    namespace: String,
    name: String,
    object: Value,
    until: Instant,
}

impl ResourceQuota {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view, pending: Mutex::default() }
    }

    /// Objects of a resource in a namespace, those about to be there included. The one being written is left out.
    fn objects(&self, resource: &Viewed, namespace: &str, except: &str, pending: &[Pending]) -> Vec<Value> {
        let present = self.view.list(resource, Some(namespace));
        let mut objects: Vec<_> = present.iter().filter_map(|o| o.to_value().ok()).collect();
        let about = pending.iter().filter(|p| p.resource == resource.resource && p.namespace == namespace);
        objects
            .extend(about.filter(|p| self.view.get(resource, namespace, &p.name).is_none()).map(|p| p.object.clone()));
        objects.retain(|o| except.is_empty() || text(o, &["metadata", "name"]) != except);
        objects
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let grows = match attributes.operation {
            Operation::Create => true,
            // What can ask for more than before.
            Operation::Update => {
                attributes.resource.group.is_empty()
                    && matches!(attributes.resource.resource.as_ref(), "pods" | "services" | "persistentvolumeclaims")
            }
            _ => false,
        };
        grows && attributes.subresource.is_empty() && !attributes.namespace.is_empty()
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let quotas = self.view.list(&RESOURCE_QUOTAS, Some(attributes.namespace));
        if quotas.is_empty() {
            return FINE;
        }
        let resource = Viewed { resource: attributes.resource.group_resource(), namespaced: true };
        let name = text(object, &["metadata", "name"]);
        let asked = usage::of(&resource.resource, object);
        let before = attributes.old.map(|old| usage::of(&resource.resource, old)).unwrap_or_default();
        let mut pending = self.pending.lock();
        let now = Instant::now();
        pending.retain(|p| p.until > now);
        for quota in quotas.iter().filter_map(|o| o.typed::<Quota>().ok()) {
            if !scope::matches(&quota, &resource.resource, object) {
                continue;
            }
            let others = || self.objects(&resource, attributes.namespace, name, &pending);
            judge(&quota, &resource.resource, object, &asked, &before, others)
                .map_err(|why| attributes.forbidden(why))?;
        }
        if attributes.operation == Operation::Create && !attributes.dry_run && !asked.is_empty() {
            pending.push(Pending {
                resource: resource.resource,
                namespace: attributes.namespace.to_owned(),
                name: name.to_owned(),
                object: object.clone(),
                until: now + PENDING,
            });
        }
        FINE
    }
}

/// Whether one quota has room for an object beside all others.
fn judge(
    quota: &Quota,
    resource: &GroupResource,
    object: &Value,
    asked: &Usage,
    before: &Usage,
    others: impl FnOnce() -> Vec<Value>,
) -> Result<(), String> {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let hard: BTreeMap<String, Quantity> = quota
        .spec
        .iter()
        .flat_map(|s| s.hard.iter().flatten())
        .filter_map(|(k, v)| Some((usage::canonical(k), Quantity::try_from(v).ok()?)))
        .collect();
    usage::check_required(resource, object, &hard).map_err(|why| format!("failed quota: {name}: {why}"))?;
    // Only what grows is judged: an object may always ask for less.
    let grown: Vec<_> = asked
        .iter()
        .filter(|(k, v)| hard.contains_key(*k) && before.get(*k).is_none_or(|b| *v > b) && v.signum() > 0)
        .collect();
    if grown.is_empty() {
        return Ok(());
    }
    let mut used = Usage::new();
    for other in others().iter().filter(|o| scope::matches(quota, resource, o)) {
        for (key, amount) in usage::of(resource, other) {
            let sum = used.get(&key).map_or(amount, |present| *present + amount);
            used.insert(key, sum);
        }
    }
    let over: Vec<_> = grown
        .into_iter()
        .filter_map(|(key, amount)| {
            let used = used.get(key).copied().unwrap_or(Quantity::ZERO);
            let limit = *hard.get(key)?;
            (used + *amount > limit).then_some((key, *amount, used, limit))
        })
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let list = |pick: fn(&(&String, Quantity, Quantity, Quantity)) -> Quantity| {
        over.iter().map(|o| format!("{}={}", o.0, pick(o))).collect::<Vec<_>>().join(",")
    };
    let (requested, used, limited) = (list(|o| o.1), list(|o| o.2), list(|o| o.3));
    Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use navarch_auth::view::PODS;
    use serde_json::json;

    use super::super::testing::Case;
    use super::*;

    fn case(spec: Value) -> Case {
        let case = Case::with_namespace();
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": "default"}, "spec": spec});
        case.view.put(&RESOURCE_QUOTAS, &quota).unwrap();
        case
    }

    fn pod(name: &str, cpu: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"serviceAccountName": "default",
            "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    #[tokio::test]
    async fn a_full_namespace_takes_no_more() {
        let case = case(json!({"hard": {"pods": "2"}}));
        case.view.put(&PODS, &pod("one", "1")).unwrap();
        assert!(case.create("", "pods", "default", "two").validate(&pod("two", "1")).await.is_ok());
        // The second is not in the view yet, and counts.
        let error = case.create("", "pods", "default", "three").validate(&pod("three", "1")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "pods \"three\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
        );
    }

    #[tokio::test]
    async fn what_is_limited_must_be_asked_for() {
        let case = case(json!({"hard": {"requests.cpu": "1", "limits.memory": "1Gi"}}));
        let error = case.create("", "pods", "default", "p").validate(&pod("p", "500m")).await.unwrap_err();
        assert!(error.to_string().contains("failed quota: q: must specify limits.memory for: a"), "{error}");
    }

    #[tokio::test]
    async fn amounts_add_up_and_finished_pods_do_not_count() {
        let case = case(json!({"hard": {"cpu": "1"}}));
        let mut done = pod("done", "900m");
        done["status"] = json!({"phase": "Succeeded"});
        case.view.put(&PODS, &done).unwrap();
        case.view.put(&PODS, &pod("one", "600m")).unwrap();
        let create = |name: &'static str, cpu: &'static str| {
            let (request, pod) = (case.create("", "pods", "default", name), pod(name, cpu));
            async move { request.validate(&pod).await }
        };
        assert!(create("two", "500m").await.unwrap_err().to_string().contains("requested: requests.cpu=500m"));
        assert!(create("two", "400m").await.is_ok());
    }

    #[tokio::test]
    async fn scopes_choose_pods() {
        let case = case(json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}));
        assert!(case.create("", "pods", "default", "p").validate(&pod("p", "1")).await.is_ok());
        let mut best_effort = pod("b", "1");
        best_effort["spec"]["containers"][0]["resources"] = json!({});
        assert!(case.create("", "pods", "default", "b").validate(&best_effort).await.is_err());
    }

    #[tokio::test]
    async fn any_resource_can_be_counted() {
        let case = case(json!({"hard": {"count/deployments.apps": "0", "services.nodeports": "1"}}));
        let deployment = json!({"metadata": {"name": "d"}});
        assert!(case.create("apps", "deployments", "default", "d").validate(&deployment).await.is_err());
        let service = |ports: usize| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": vec![json!({}); ports]}});
        assert!(case.create("", "services", "default", "s").validate(&service(1)).await.is_ok());
        assert!(case.create("", "services", "default", "s").validate(&service(2)).await.is_err());
    }
}
