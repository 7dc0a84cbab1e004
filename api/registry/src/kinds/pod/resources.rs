//! Requests and limits: rules, what a pod as a whole asks for, and the quality of service that follows.

use std::collections::{BTreeMap, HashSet};

use navarch_types::field::FieldError;
use navarch_types::quantity::Quantity;
use navarch_types::validate::names;
use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::fill::{ensure, fill, within};
use crate::kinds::kind::Findings;
use crate::kinds::rules::{NEGATIVE, quantity, required, texts};

const HUGE_PAGES: &str = "hugepages-";
const STANDARD_CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Resource names without a prefix that mean something somewhere: on nodes, or as quotas.
const STANDARD: [&str; 27] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
    "count/pods",
    "nodes",
    "endpoints",
    "events",
    "limitranges",
    "serviceaccounts",
    "podtemplates",
];

/// Whether a name without a prefix means something somewhere.
pub(crate) fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with(HUGE_PAGES) || name.starts_with("requests.hugepages-")
}

/// Whether a name belongs to Kubernetes itself.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a name is that of a device or the like: `example.com/gpu`.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more may be promised of it than there is.
pub(crate) fn is_overcommittable(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Rules for the name of any resource.
pub(crate) fn resource_name(at: &At<'_, '_>, name: &str, out: &mut Findings) {
    let finding = |text: String| FieldError::invalid(&at.path, name, text);
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        out.extend(wrong.into_iter().map(finding));
    } else if !name.contains('/') && !is_standard(name) {
        out.push(finding("must be a standard resource type or fully qualified".to_owned()));
    }
}

fn container_resource_name(at: &At<'_, '_>, name: &str, out: &mut Findings) {
    resource_name(at, name, out);
    let finding = |text: &str| FieldError::invalid(&at.path, name, text);
    if !name.contains('/') {
        if !STANDARD_CONTAINER.contains(&name) && !name.starts_with(HUGE_PAGES) {
            out.push(finding("must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        out.push(finding("doesn't follow extended resource name standard"));
    }
}

/// Rules for an amount: not negative, and whole for what is counted.
pub(crate) fn amount(at: &At<'_, '_>, name: &str, out: &mut Findings) {
    const COUNTED: [&str; 9] = [
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    let Some(amount) = quantity(at.value) else { return };
    if amount < Quantity::ZERO {
        out.push(at.invalid(NEGATIVE));
    }
    if (COUNTED.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        out.push(at.invalid("must be an integer"));
    }
}

fn huge_pages(at: &At<'_, '_>, name: &str, out: &mut Findings) {
    let Some(page) = name.strip_prefix(HUGE_PAGES).and_then(|p| Quantity::parse(p).ok()) else { return };
    let Some(amount) = quantity(at.value) else { return };
    if page.value() > 0 && amount.value() % page.value() != 0 {
        out.push(at.invalid(format!("{amount} is not positive integer multiple of {name}")));
    }
}

/// Rules for a container's `resources`; `claims` are the names of the pod's claims.
pub(crate) fn requirements(at: &At<'_, '_>, claims: &HashSet<&str>, out: &mut Findings) {
    if at.is_empty() {
        return;
    }
    amounts(at, container_resource_name, out);
    claim_names(&at.child("claims"), claims, out);
}

fn amounts(at: &At<'_, '_>, name_rule: fn(&At<'_, '_>, &str, &mut Findings), out: &mut Findings) {
    let (limits, requests) = (at.child("limits"), at.child("requests"));
    let (mut basic, mut huge) = (false, false);
    for list in [&limits, &requests] {
        for (name, value) in list.entries() {
            name_rule(&value, name, out);
            amount(&value, name, out);
            if name.starts_with(HUGE_PAGES) {
                huge = true;
                huge_pages(&value, name, out);
            }
            basic |= matches!(name, "cpu" | "memory");
        }
    }
    for (name, value) in requests.entries() {
        below_limit(&requests, &limits, name, &value, out);
    }
    if huge && !basic {
        out.push(at.forbidden("HugePages require cpu or memory"));
    }
}

/// A request is at most its limit, and just that where nothing may be promised twice.
fn below_limit(requests: &At<'_, '_>, limits: &At<'_, '_>, name: &str, value: &At<'_, '_>, out: &mut Findings) {
    let Some(request) = quantity(value.value) else { return };
    match quantity(limits.child(name).value) {
        Some(limit) => {
            let relation = if !is_overcommittable(name) && request != limit {
                "equal to"
            } else if request > limit {
                "less than or equal to"
            } else {
                return;
            };
            let why = format!("must be {relation} {name} limit of {limit}");
            out.push(FieldError::invalid(&requests.path, request.to_string(), why));
        }
        None if !is_overcommittable(name) => {
            out.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        None => {}
    }
}

fn claim_names(at: &At<'_, '_>, claims: &HashSet<&str>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for claim in at.items() {
        let (name, request) = (claim.child("name"), claim.child("request"));
        if !required(&name, out) {
            continue;
        }
        if !seen.insert((name.text(), request.text())) {
            out.push(name.duplicate());
        } else if !claims.contains(name.text()) {
            out.push(name.not_found());
        }
    }
}

/// Rules for what a resize does to a container.
pub(crate) fn resize_policy(at: &At<'_, '_>, pod_restart_policy: &str, out: &mut Findings) {
    let mut seen = HashSet::new();
    for policy in at.items() {
        let (name, restart) = (policy.child("resourceName"), policy.child("restartPolicy"));
        if !seen.insert(name.text()) {
            out.push(FieldError::duplicate(&policy.path, name.text()));
        }
        match name.text() {
            "cpu" | "memory" => {}
            "" => out.push(name.required("")),
            _ => out.push(name.not_supported(&["cpu", "memory"])),
        }
        match restart.text() {
            "NotRequired" | "RestartContainer" => {}
            "" => out.push(restart.required("")),
            _ => out.push(restart.not_supported(&["NotRequired", "RestartContainer"])),
        }
        if pod_restart_policy == "Never" && restart.text() == "RestartContainer" {
            out.push(restart.invalid("must be 'NotRequired' when `restartPolicy` is 'Never'"));
        }
    }
}

/// Rules for the resources of the pod as a whole.
pub(crate) fn pod_level(at: &At<'_, '_>, spec: &Value, out: &mut Findings) {
    if at.is_empty() {
        return;
    }
    let claims = at.child("claims");
    if !claims.is_empty() {
        out.push(claims.forbidden("claims may not be set for Resources at pod-level"));
    }
    amounts(at, pod_resource_name, out);
    let requests = at.child("requests");
    let sum = effective(spec, "requests");
    for (name, value) in requests.entries() {
        if let (Some(own), Some(containers)) = (quantity(value.value), sum.get(name))
            && *containers > own
        {
            out.push(
                value.invalid(format!("must be greater than or equal to aggregate container requests of {containers}")),
            );
        }
    }
}

fn pod_resource_name(at: &At<'_, '_>, name: &str, out: &mut Findings) {
    if !(matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)) {
        out.push(FieldError::not_supported(&at.path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Rules for what running the pod costs beside its containers.
pub(crate) fn overhead(at: &At<'_, '_>, out: &mut Findings) {
    for (name, value) in at.entries() {
        container_resource_name(&value, name, out);
        amount(&value, name, out);
    }
}

/// What all containers ask for together (`requests` or `limits`): the ordinary ones and sidecars at once, or the most that
/// an init container needs on the way.
pub(crate) fn effective(spec: &Value, kind: &str) -> BTreeMap<String, Quantity> {
    let amounts = |container: &Value| -> Vec<(String, Quantity)> {
        let map = container["resources"][kind].as_object();
        map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
    };
    let list = |key: &str| spec[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in list("containers") {
        for (name, amount) in amounts(container) {
            *total.entry(name).or_insert(Quantity::ZERO) += amount;
        }
    }
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut peak: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in list("initContainers") {
        let sidecar = container["restartPolicy"] == "Always";
        for (name, amount) in amounts(container) {
            let beside = sidecars.get(&name).copied().unwrap_or(Quantity::ZERO) + amount;
            if sidecar {
                *total.entry(name.clone()).or_insert(Quantity::ZERO) += amount;
                sidecars.insert(name.clone(), beside);
            }
            let most = peak.entry(name).or_insert(beside);
            *most = (*most).max(beside);
        }
    }
    for (name, amount) in peak {
        let most = total.entry(name).or_insert(amount);
        *most = (*most).max(amount);
    }
    total
}

/// Fills in the requests of the pod as a whole when it has limits: what its containers ask for, else its limits.
pub(crate) fn default_pod_level(spec: &mut Value) {
    let limits = spec["resources"]["limits"].clone();
    let Some(limits) = limits.as_object().filter(|l| !l.is_empty()) else { return };
    let containers = effective(spec, "requests");
    let Some(requests) = within(spec, "resources").and_then(|r| ensure(r, "requests")) else { return };
    for (name, amount) in containers {
        if matches!(name.as_str(), "cpu" | "memory") {
            fill(requests, &name, amount.to_string());
        }
    }
    for (name, amount) in limits {
        fill(requests, name, amount.clone());
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn quality_of_service(spec: &Value) -> &'static str {
    let basic = |resources: &Value, kind: &str| -> Vec<(&'static str, Quantity)> {
        let amount =
            |name: &'static str| Some((name, quantity(&resources[kind][name]).filter(|q| *q > Quantity::ZERO)?));
        ["cpu", "memory"].into_iter().filter_map(amount).collect()
    };
    let pod = &spec["resources"];
    let pod_level = !basic(pod, "requests").is_empty() || !basic(pod, "limits").is_empty();
    let mut holders: Vec<&Value> = Vec::new();
    if pod_level {
        holders.push(pod);
    } else {
        let lists = ["containers", "initContainers"].into_iter().filter_map(|key| spec[key].as_array());
        holders.extend(lists.flatten().map(|container| &container["resources"]));
    }
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut guaranteed = true;
    for resources in holders {
        for (name, amount) in basic(resources, "requests") {
            *requests.entry(name).or_insert(Quantity::ZERO) += amount;
        }
        let own = basic(resources, "limits");
        guaranteed &= own.len() == 2;
        for (name, amount) in own {
            *limits.entry(name).or_insert(Quantity::ZERO) += amount;
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Rules for the pod's resource claims.
pub(crate) fn claims(at: &At<'_, '_>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for claim in at.items() {
        let name = claim.child("name");
        if required(&name, out) {
            texts(&name, names::dns1123_label(name.text()), out);
            if !seen.insert(name.text()) {
                out.push(name.duplicate());
            }
        }
        let (direct, template) = (claim.child("resourceClaimName"), claim.child("resourceClaimTemplateName"));
        match (direct.is_set(), template.is_set()) {
            (true, true) => out.push(FieldError::invalid(
                &claim.path,
                claim.value.clone(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            )),
            (false, false) => out.push(FieldError::invalid(
                &claim.path,
                claim.value.clone(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            )),
            _ => {}
        }
        for field in [direct, template] {
            if field.is_set() {
                texts(&field, names::dns1123_subdomain(field.text()), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::rules::rendered;

    #[test]
    fn amounts_are_judged() {
        for (resources, want) in [
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}}), vec![]),
            (
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
                vec!["resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                json!({"limits": {"memory": "-1"}}),
                vec!["resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                json!({"limits": {"foo": "1"}}),
                vec![
                    "resources.limits[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
                    "resources.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers",
                ],
            ),
            (
                json!({"requests": {"example.com/gpu": "1"}}),
                vec!["resources.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                json!({"limits": {"example.com/gpu": "1500m"}}),
                vec!["resources.limits[example.com/gpu]: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi"}}),
                vec![
                    "resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                    "resources: Forbidden: HugePages require cpu or memory",
                ],
            ),
        ] {
            let object = json!({"resources": resources});
            let mut out = Findings::new();
            requirements(&At::root(&object, "resources"), &HashSet::new(), &mut out);
            assert_eq!(rendered(&out), want);
        }
    }

    #[test]
    fn quality_follows_requests_and_limits() {
        let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        for (spec, want) in [
            (json!({"containers": [{}]}), "BestEffort"),
            (json!({"containers": [{"resources": {"requests": {"cpu": "0"}}}]}), "BestEffort"),
            (json!({"containers": [{"resources": {"requests": {"cpu": "1m"}}}]}), "Burstable"),
            (json!({"containers": [{"resources": limits}]}), "Guaranteed"),
            (json!({"containers": [{"resources": limits}, {}]}), "Burstable"),
            (json!({"containers": [{"resources": limits}], "initContainers": [{}]}), "Burstable"),
            (json!({"containers": [{}], "resources": limits}), "Guaranteed"),
        ] {
            assert_eq!(quality_of_service(&spec), want, "{spec}");
        }
    }

    #[test]
    fn a_pod_asks_for_its_peak() {
        let of = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let spec = json!({
            "containers": [{"resources": of("1")}, {"resources": of("500m")}],
            "initContainers": [{"resources": of("250m"), "restartPolicy": "Always"}, {"resources": of("2")}]});
        assert_eq!(effective(&spec, "requests")["cpu"].to_string(), "2250m");
    }
}
