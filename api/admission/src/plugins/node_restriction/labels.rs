//! Which labels a node may give itself: its own facts, but none that others rely on to keep it apart.

use serde_json::Value;

/// Labels that kubelets set about themselves, among those of Kubernetes' own domains.
const OWN: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/windows-build",
];
/// Domains that are kubelets' own.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// The domain that exists to be out of kubelets' reach.
const RESTRICTION: &str = "node-restriction.kubernetes.io";

/// The changed labels that the node may not change, in order.
pub(super) fn refused(new: Option<&Value>, old: Option<&Value>) -> Vec<String> {
    let entries = |labels: Option<&Value>| labels.and_then(Value::as_object).cloned().unwrap_or_default();
    let (new, old) = (entries(new), entries(old));
    let mut keys: Vec<_> = new.keys().chain(old.keys()).filter(|k| new.get(*k) != old.get(*k)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().filter(|k| !allowed(k)).cloned().collect()
}

fn within(domain: &str, of: &str) -> bool {
    domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
}

fn allowed(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    if within(domain, RESTRICTION) {
        return false;
    }
    if !within(domain, "kubernetes.io") && !within(domain, "k8s.io") {
        return true;
    }
    OWN.contains(&key) || OWN_DOMAINS.iter().any(|own| within(domain, own))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_labels_itself_with_its_own_facts() {
        for (key, fine) in [
            ("disk", true),
            ("acme.com/rack", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("a.kubelet.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/other", false),
            ("k8s.io/x", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("notkubernetes.io/x", true),
        ] {
            assert_eq!(refused(Some(&json!({key: "v"})), None).is_empty(), fine, "{key}");
            assert!(refused(Some(&json!({key: "v"})), Some(&json!({key: "v"}))).is_empty(), "unchanged {key}");
        }
        assert_eq!(refused(None, Some(&json!({"k8s.io/x": "v"}))), ["k8s.io/x"]);
    }
}
