//! LimitRanger: what containers ask for by default, and the least and most that containers, pods and claims may ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use navarch_auth::ObjectView;
use navarch_auth::view::LIMIT_RANGES;
use navarch_types::quantity::Quantity;
use serde_json::{Value, json};

use super::json::{CONTAINERS, at, items, items_mut, map_mut, text};
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

pub(super) mod sums;

use sums::{Amounts, container_amounts, pod_amounts};

pub(super) struct LimitRanger {
    view: Arc<dyn ObjectView>,
}

impl LimitRanger {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    fn ranges(&self, namespace: &str) -> Vec<Arc<LimitRange>> {
        self.view.list(&LIMIT_RANGES, Some(namespace)).iter().filter_map(|o| o.typed().ok()).collect()
    }
}

type Limits = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn entries(limits: Option<&Limits>) -> impl Iterator<Item = (&str, Quantity)> {
    limits.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), Quantity::try_from(v).ok()?)))
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let pods = attributes.is("", "pods") && attributes.creates();
        let claims = attributes.is("", "persistentvolumeclaims")
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update);
        pods || claims
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, object: &mut Value) -> Verdict {
        if attributes.is("", "pods") {
            for range in self.ranges(attributes.namespace) {
                set_defaults(object, &range);
            }
        }
        FINE
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let mut findings = Vec::new();
        for range in self.ranges(attributes.namespace) {
            for item in &range.spec.iter().flat_map(|s| &s.limits).collect::<Vec<_>>() {
                match (item.type_.as_str(), attributes.is("", "pods")) {
                    ("Container", true) => {
                        for container in CONTAINERS.iter().flat_map(|list| items(object, &["spec", list])) {
                            judge(item, &container_amounts(container), &mut findings);
                        }
                    }
                    ("Pod", true) => judge(item, &pod_amounts(object), &mut findings),
                    ("PersistentVolumeClaim", false) => {
                        let mut amounts = Amounts::default();
                        if let Ok(size) = Quantity::parse(text(object, &["spec", "resources", "requests", "storage"])) {
                            amounts.requests.insert("storage".to_owned(), size);
                            amounts.limits.insert("storage".to_owned(), size);
                        }
                        judge(item, &amounts, &mut findings);
                    }
                    _ => {}
                }
            }
        }
        match findings.len() {
            0 => FINE,
            1 => Err(attributes.forbidden(findings.remove(0))),
            _ => Err(attributes.forbidden(format!("[{}]", findings.join(", ")))),
        }
    }
}

/// Gives containers what the range has for those that ask for nothing.
fn set_defaults(pod: &mut Value, range: &LimitRange) {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for item in range.spec.iter().flat_map(|s| &s.limits).filter(|i| i.type_ == "Container") {
        requests.extend(entries(item.default_request.as_ref()).map(|(k, v)| (k.to_owned(), v)));
        limits.extend(entries(item.default.as_ref()).map(|(k, v)| (k.to_owned(), v)));
    }
    let mut notes = Vec::new();
    for list in CONTAINERS {
        let what = if list == "containers" { "container" } else { "init container" };
        for container in items_mut(pod, &["spec", list]) {
            let name = text(container, &["name"]).to_owned();
            let mut set = |kind: &str, values: &BTreeMap<String, Quantity>| {
                let mut names = Vec::new();
                for (resource, value) in values {
                    // A container with a limit of its own asks for as much, by its own defaulting.
                    let has = |field: &str| at(container, &["resources", field, resource]).is_some();
                    if has(kind) || (kind == "requests" && has("limits")) {
                        continue;
                    }
                    if let Some(map) = map_mut(container, &["resources", kind]) {
                        map.insert(resource.clone(), json!(value));
                        names.push(resource.clone());
                    }
                }
                if !names.is_empty() {
                    let kind = kind.trim_end_matches('s');
                    notes.push(format!("{} {kind} for {what} {name}", names.join(", ")));
                }
            };
            set("requests", &requests);
            set("limits", &limits);
        }
    }
    if !notes.is_empty()
        && let Some(annotations) = map_mut(pod, &["metadata", "annotations"])
    {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        annotations.insert("kubernetes.io/limit-ranger".to_owned(), json!(text));
    }
}

fn judge(item: &LimitRangeItem, asked: &Amounts, findings: &mut Vec<String>) {
    let kind = &item.type_;
    for (resource, least) in entries(item.min.as_ref()) {
        match asked.requests.get(resource) {
            None => findings.push(format!("minimum {resource} usage per {kind} is {least}.  No request is specified")),
            Some(request) if *request < least => {
                findings.push(format!("minimum {resource} usage per {kind} is {least}, but request is {request}"))
            }
            Some(_) => {}
        }
    }
    for (resource, most) in entries(item.max.as_ref()) {
        match asked.limits.get(resource) {
            None => findings.push(format!("maximum {resource} usage per {kind} is {most}.  No limit is specified")),
            Some(limit) if *limit > most => {
                findings.push(format!("maximum {resource} usage per {kind} is {most}, but limit is {limit}"));
            }
            Some(_) => {}
        }
    }
    for (resource, ratio) in entries(item.max_limit_request_ratio.as_ref()) {
        let (Some(request), Some(limit)) = (asked.requests.get(resource), asked.limits.get(resource)) else {
            findings.push(format!(
                "{resource} max limit to request ratio per {kind} is {ratio}, but no request is specified or request is 0"
            ));
            continue;
        };
        let (request, limit) = (request.milli_value() as f64, limit.milli_value() as f64);
        if request <= 0.0 || limit / request > ratio.milli_value() as f64 / 1000.0 {
            let given = if request > 0.0 { limit / request } else { 0.0 };
            findings.push(format!(
                "{resource} max limit to request ratio per {kind} is {ratio}, but provided ratio is {given:.6}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::testing::Case;
    use super::*;

    fn range(item: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "default"},
               "spec": {"limits": [item]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": resources}]}})
    }

    #[tokio::test]
    async fn containers_that_ask_for_nothing_get_the_defaults() {
        let case = Case::with_namespace();
        let item = json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}});
        case.view.put(&LIMIT_RANGES, &range(item)).unwrap();
        let mut object = pod(json!({}));
        case.create("", "pods", "default", "web").mutate(&mut object).await.unwrap();
        let resources = &object["spec"]["containers"][0]["resources"];
        assert_eq!(resources, &json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}));
        assert_eq!(
            object["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
            "LimitRanger plugin set: cpu request for container a; cpu limit for container a"
        );
    }

    #[tokio::test]
    async fn what_is_out_of_range_is_refused() {
        let case = Case::with_namespace();
        for (item, resources, why) in [
            (
                json!({"type": "Container", "min": {"cpu": "100m"}}),
                json!({"requests": {"cpu": "50m"}}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"type": "Container", "max": {"memory": "1Gi"}}),
                json!({}),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                json!({"type": "Pod", "max": {"cpu": "1"}}),
                json!({"limits": {"cpu": "2"}}),
                "maximum cpu usage per Pod is 1, but limit is 2",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (json!({"type": "Container", "max": {"cpu": "1"}}), json!({"limits": {"cpu": "1"}}), ""),
        ] {
            case.view.put(&LIMIT_RANGES, &range(item)).unwrap();
            let result = case.create("", "pods", "default", "web").validate(&pod_with_account(resources)).await;
            match why {
                "" => drop(result.unwrap()),
                why => assert!(result.unwrap_err().to_string().contains(why), "{why}"),
            }
        }
    }

    fn pod_with_account(resources: Value) -> Value {
        let mut pod = pod(resources);
        pod["spec"]["serviceAccountName"] = json!("default");
        pod
    }
}
