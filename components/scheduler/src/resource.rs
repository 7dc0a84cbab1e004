//! Amounts of resources as integers, read once an object, so that a cycle never parses a quantity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a container without a CPU request counts as when nodes are scored: 0.1 CPU.
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a memory request counts as when nodes are scored: 200 MiB.
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// CPU in thousandths.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral_storage: i64,
    /// How many pods; of a node only.
    pub pods: i64,
    /// Extended resources and huge pages, in order of name.
    pub scalars: Vec<(String, i64)>,
}

type Quantities = BTreeMap<String, Quantity>;

impl Resource {
    /// From a list as it stands in an object. What does not parse counts as nothing: the API server refuses it.
    pub fn from_list(list: Option<&Quantities>) -> Self {
        let mut resource = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            match name.as_str() {
                "cpu" => resource.milli_cpu = milli(quantity),
                "memory" => resource.memory = whole(quantity),
                "ephemeral-storage" => resource.ephemeral_storage = whole(quantity),
                "pods" => resource.pods = whole(quantity),
                // A BTreeMap hands names out in order, so the list stays sorted.
                _ => resource.scalars.push((name.clone(), whole(quantity))),
            }
        }
        resource
    }

    /// The amount of an extended resource.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.binary_search_by(|(n, _)| n.as_str().cmp(name)).map_or(0, |at| self.scalars[at].1)
    }

    fn scalar_mut(&mut self, name: &str) -> &mut i64 {
        let at = match self.scalars.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                self.scalars.insert(at, (name.to_owned(), 0));
                at
            }
        };
        &mut self.scalars[at].1
    }

    /// Adds another `times` times; -1 takes it away.
    pub fn add(&mut self, other: &Self, times: i64) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu * times);
        self.memory = self.memory.saturating_add(other.memory.saturating_mul(times));
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(other.ephemeral_storage.saturating_mul(times));
        for (name, amount) in &other.scalars {
            let own = self.scalar_mut(name);
            *own = own.saturating_add(amount.saturating_mul(times));
        }
    }

    /// The larger of both, for each resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let own = self.scalar_mut(name);
            *own = (*own).max(*amount);
        }
    }

    /// Whether nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalars.iter().all(|(_, amount)| *amount == 0)
    }

    /// Whether some resource of this is more than in the other.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.milli_cpu > other.milli_cpu
            || self.memory > other.memory
            || self.ephemeral_storage > other.ephemeral_storage
            || self.pods > other.pods
            || self.scalars.iter().any(|(name, amount)| *amount > other.scalar(name))
    }
}

fn milli(quantity: &Quantity) -> i64 {
    navarch_types::quantity::Quantity::parse(&quantity.0).map_or(0, |q| q.milli_value())
}

fn whole(quantity: &Quantity) -> i64 {
    navarch_types::quantity::Quantity::parse(&quantity.0).map_or(0, |q| q.value())
}

/// What a pod asks for: the larger of its init phase and its containers together, with its overhead; an amount set for
/// the whole pod stands before the sum of its containers.
pub fn pod_requests(spec: &PodSpec) -> Resource {
    total(spec, false)
}

/// The same with defaults for containers that ask for nothing, (CPU in thousandths, memory in bytes): for scores, so
/// that pods without requests are spread too.
pub fn pod_requests_for_scores(spec: &PodSpec) -> (i64, i64) {
    let resource = total(spec, true);
    (resource.milli_cpu, resource.memory)
}

fn total(spec: &PodSpec, with_defaults: bool) -> Resource {
    let pod_level = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let sets = |name: &str| pod_level.is_some_and(|r| r.contains_key(name));
    let request = |container: &Container| {
        let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut resource = Resource::from_list(list);
        if with_defaults {
            if !sets("cpu") && list.is_none_or(|l| !l.contains_key("cpu")) {
                resource.milli_cpu = DEFAULT_MILLI_CPU;
            }
            if !sets("memory") && list.is_none_or(|l| !l.contains_key("memory")) {
                resource.memory = DEFAULT_MEMORY;
            }
        }
        resource
    };
    let mut running = Resource::default();
    for container in &spec.containers {
        running.add(&request(container), 1);
    }
    // Init containers run one after the other; those that restart always keep running beside what follows.
    let mut sidecars = Resource::default();
    let mut peak = Resource::default();
    for container in spec.init_containers.iter().flatten() {
        let mut now = request(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&now, 1);
            sidecars.add(&now, 1);
            now = sidecars.clone();
        } else {
            now.add(&sidecars, 1);
        }
        peak.raise_to(&now);
    }
    running.raise_to(&peak);
    if let Some(list) = pod_level {
        apply_pod_level(&mut running, list);
    }
    running.add(&Resource::from_list(spec.overhead.as_ref()), 1);
    running
}

fn apply_pod_level(resource: &mut Resource, list: &Quantities) {
    let pod = Resource::from_list(Some(list));
    if list.contains_key("cpu") {
        resource.milli_cpu = pod.milli_cpu;
    }
    if list.contains_key("memory") {
        resource.memory = pod.memory;
    }
    for (name, amount) in pod.scalars.iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        *resource.scalar_mut(name) = *amount;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    fn asks(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn requests_follow_the_phases_of_a_pod() {
        let mut sidecar = asks("200m", "1Mi");
        sidecar["restartPolicy"] = "Always".into();
        let cases = [
            (json!({"containers": [asks("100m", "1Mi"), asks("0.5", "2Mi")]}), (600, 3 << 20)),
            (json!({"containers": [asks("100m", "1Mi")], "initContainers": [asks("2", "0")]}), (2000, 1 << 20)),
            (
                json!({"containers": [asks("100m", "1Mi")], "initContainers": [sidecar, asks("1", "0")]}),
                (1200, 2 << 20),
            ),
            (json!({"containers": [asks("100m", "1Mi")], "overhead": {"cpu": "50m"}}), (150, 1 << 20)),
            (json!({"containers": [asks("100m", "1Mi")], "resources": {"requests": {"cpu": "3"}}}), (3000, 1 << 20)),
            (json!({"containers": [{"name": "c"}]}), (0, 0)),
        ];
        for (value, expected) in cases {
            let got = pod_requests(&spec(value.clone()));
            assert_eq!((got.milli_cpu, got.memory), expected, "{value}");
        }
    }

    #[test]
    fn containers_without_requests_count_for_scores() {
        let pod = spec(json!({"containers": [{"name": "a"}, asks("1", "0")]}));
        assert_eq!(pod_requests_for_scores(&pod), (1100, DEFAULT_MEMORY));
    }

    #[test]
    fn scalars_add_and_compare() {
        let list = |n: &str| {
            Resource::from_list(Some(&BTreeMap::from([("example.com/gpu".to_owned(), Quantity(n.to_owned()))])))
        };
        let mut sum = list("1");
        sum.add(&list("2"), 1);
        assert_eq!(sum.scalar("example.com/gpu"), 3);
        assert!(sum.exceeds(&list("2")) && !list("2").exceeds(&sum));
        sum.add(&list("3"), -1);
        assert!(sum.is_zero());
    }
}
