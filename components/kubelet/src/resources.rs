//! Quantities, quality of service, and what they mean to the kernel. Pure, but for [`cgroup`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cri::api;
use crate::lifecycle::{init_containers, is_sidecar};

pub mod cgroup;

/// A map of resources as specifications hold it.
pub type ResourceList = BTreeMap<String, Quantity>;

/// A quantity in thousandths, rounded up. `None` if it is none, or too large.
pub fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (mantissa, scale) = decimal(number)?;
    let (multiplier, ten) = suffix_of(suffix)?;
    let value = mantissa.checked_mul(multiplier)?;
    let exponent = ten + 3 - scale;
    if exponent >= 0 {
        value.checked_mul(10_i128.checked_pow(u32::try_from(exponent).ok()?)?)
    } else {
        let divisor = 10_i128.checked_pow(u32::try_from(-exponent).ok()?)?;
        Some(value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0))
    }
}

/// Digits and the number of them behind the point.
fn decimal(text: &str) -> Option<(i128, i32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.trim_start_matches(['+', '-']).is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = i32::try_from(fraction.len()).ok()?;
    let mantissa = format!("{whole}{fraction}").parse().ok()?;
    Some((mantissa, scale))
}

/// A factor and a power of ten.
fn suffix_of(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            (-30..=18).contains(&exponent).then_some((1, exponent))
        }
    }
}

/// A quantity in whole units, rounded up.
pub fn units(quantity: &Quantity) -> Option<i64> {
    let value = milli(quantity)?;
    i64::try_from(value.div_euclid(1000) + i128::from(value.rem_euclid(1000) != 0)).ok()
}

/// Thousandths of a resource in a list; zero if it is not there.
pub fn milli_of(list: Option<&ResourceList>, name: &str) -> i64 {
    let value = list.and_then(|list| list.get(name)).and_then(milli).unwrap_or(0);
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whole units of a resource in a list; zero if it is not there.
pub fn units_of(list: Option<&ResourceList>, name: &str) -> i64 {
    list.and_then(|list| list.get(name)).and_then(units).unwrap_or(0)
}

/// Requests of a container.
pub fn requests(container: &Container) -> Option<&ResourceList> {
    container.resources.as_ref()?.requests.as_ref()
}

/// Limits of a container.
pub fn limits(container: &Container) -> Option<&ResourceList> {
    container.resources.as_ref()?.limits.as_ref()
}

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Every container has limits for processor and memory, and requests them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// As it stands in `status.qosClass`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod: the one the API server wrote, or computed by its rules.
    pub fn of(pod: &Pod) -> Self {
        match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
            Some("Guaranteed") => Self::Guaranteed,
            Some("Burstable") => Self::Burstable,
            Some("BestEffort") => Self::BestEffort,
            _ => pod.spec.as_ref().map_or(Self::BestEffort, Self::compute),
        }
    }

    fn compute(spec: &PodSpec) -> Self {
        let mut any = false;
        let mut guaranteed = true;
        for container in init_containers(spec).iter().chain(&spec.containers) {
            for name in ["cpu", "memory"] {
                let (request, limit) = (milli_of(requests(container), name), milli_of(limits(container), name));
                any |= request > 0 || limit > 0;
                guaranteed &= limit > 0 && (request == limit || request == 0);
            }
        }
        match (any, guaranteed) {
            (false, _) => Self::BestEffort,
            (true, true) => Self::Guaranteed,
            (true, false) => Self::Burstable,
        }
    }
}

/// What the whole pod takes of one resource, in thousandths: its containers and sidecars together, or a larger init
/// container, and the overhead.
pub fn pod_request(spec: &PodSpec, name: &str, of: fn(&Container) -> Option<&ResourceList>) -> i64 {
    let main: i64 = spec.containers.iter().map(|container| milli_of(of(container), name)).sum();
    let mut sidecars = 0;
    let mut peak = 0;
    for container in init_containers(spec) {
        let own = milli_of(of(container), name);
        if is_sidecar(container) {
            sidecars += own;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + own);
        }
    }
    (main + sidecars).max(peak) + milli_of(spec.overhead.as_ref(), name)
}

/// Processor shares for thousandths of a core.
pub fn cpu_shares(milli: i64) -> i64 {
    if milli <= 0 { 2 } else { (milli.saturating_mul(1024) / 1000).clamp(2, 262_144) }
}

/// The period over which a quota counts, in microseconds.
pub const CPU_PERIOD_US: i64 = 100_000;

/// Microseconds of a period for thousandths of a core; 0 is no quota.
pub fn cpu_quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli.saturating_mul(CPU_PERIOD_US) / 1000).max(1000) }
}

/// How eagerly the kernel kills the container when memory runs out.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_bytes: i64) -> i64 {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    if priority >= 2_000_000_000 {
        return -997;
    }
    match Qos::of(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = units_of(requests(container), "memory");
            let share = 1000_i64.saturating_mul(request).checked_div(memory_bytes.max(1)).unwrap_or(0);
            (1000 - share).clamp(3, 999)
        }
    }
}

/// A container's limits as the runtime takes them.
pub fn linux_resources(pod: &Pod, container: &Container, memory_bytes: i64) -> api::LinuxContainerResources {
    let (cpu_request, cpu_limit) = (milli_of(requests(container), "cpu"), milli_of(limits(container), "cpu"));
    let has_request = requests(container).is_some_and(|list| list.contains_key("cpu"));
    let shares = if !has_request && cpu_limit > 0 { cpu_limit } else { cpu_request };
    api::LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_quota: cpu_quota(cpu_limit),
        cpu_shares: cpu_shares(shares),
        memory_limit_in_bytes: units_of(limits(container), "memory"),
        oom_score_adj: oom_score_adj(pod, container, memory_bytes),
        ..api::LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn quantities() {
        let cases = [
            ("100m", Some(100)),
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("1Ki", Some(1_024_000)),
            ("128974848", Some(128_974_848_000)),
            ("129e6", Some(129_000_000_000)),
            ("1E3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("1500u", Some(2)),
            ("0.0001", Some(1)),
            ("", None),
            ("Mi", None),
            ("1.2.3", None),
            ("1Qi", None),
            ("1e99", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(&Quantity(text.to_owned())), expected, "{text}");
        }
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": spec})).unwrap()
    }

    #[test]
    fn classes_and_scores() {
        let cases = [
            (serde_json::json!({}), Qos::BestEffort, 1000),
            (serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Qos::Guaranteed, -997),
            (serde_json::json!({"limits": {"cpu": "1"}}), Qos::Burstable, 999),
            (serde_json::json!({"requests": {"memory": "1Gi"}}), Qos::Burstable, 750),
            (serde_json::json!({"requests": {"memory": "4Gi"}}), Qos::Burstable, 3),
        ];
        for (resources, qos, score) in cases {
            let pod = pod(serde_json::json!({"containers": [{"name": "a", "resources": resources}]}));
            assert_eq!(Qos::of(&pod), qos, "{resources}");
            let container = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(oom_score_adj(&pod, container, 4 << 30), score, "{resources}");
        }
    }

    #[test]
    fn a_pod_takes_the_larger_of_its_containers_and_its_greediest_init_container() {
        let spec = serde_json::json!({
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "init", "resources": {"requests": {"cpu": "1"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "300m"}}}],
            "overhead": {"cpu": "10m"}});
        let pod = pod(spec);
        assert_eq!(pod_request(pod.spec.as_ref().unwrap(), "cpu", requests), 1110);
    }

    #[test]
    fn kernel_values() {
        for (milli, shares, quota) in [(0, 2, 0), (1, 2, 1000), (100, 102, 10_000), (1000, 1024, 100_000)] {
            assert_eq!((cpu_shares(milli), cpu_quota(milli)), (shares, quota), "{milli}");
        }
    }
}
