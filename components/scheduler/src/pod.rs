//! A pod as the scheduler sees it: everything that cycles ask of it, read from the object once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Toleration};

use crate::resource::{Resource, pod_requests, pod_requests_for_scores};
use crate::selector::{Labels, Requirement, Selector, labels_of};

/// A port that a pod occupies on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The address; `0.0.0.0` is all of them.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == ANY || other.ip == ANY || self.ip == other.ip)
    }
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AffinityTerm {
    /// The namespaces it is about by name, in order.
    pub namespaces: Vec<String>,
    /// And those whose labels match.
    pub namespace_selector: Selector,
    /// The pods it is about.
    pub selector: Selector,
    /// The nodes that count as one place.
    pub topology_key: String,
}

impl AffinityTerm {
    fn new(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        namespaces.sort();
        let mut selector = Selector::from_labels(term.label_selector.as_ref());
        for key in term.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.require(Requirement::equals(key, value));
            }
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.require(Requirement::differs(key, value));
            }
        }
        Self {
            namespaces,
            namespace_selector: Selector::from_labels(term.namespace_selector.as_ref()),
            selector,
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether it is about this pod, whose namespace has these labels.
    pub fn matches(&self, pod: &PodInfo, namespace_labels: &Labels) -> bool {
        (self.namespaces.iter().any(|n| n == pod.namespace()) || self.namespace_selector.matches(namespace_labels))
            && self.selector.matches(pod.labels())
    }
}

/// A pod's terms about other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTerms {
    /// Must be beside pods that match.
    pub required: Vec<AffinityTerm>,
    /// Must not be beside pods that match.
    pub forbidden: Vec<AffinityTerm>,
    /// Had better be (weight above zero) or not be (below zero) beside pods that match.
    pub preferred: Vec<(i64, AffinityTerm)>,
}

impl PodTerms {
    fn new(affinity: Option<&Affinity>, namespace: &str, labels: &Labels) -> Self {
        let term = |t: &PodAffinityTerm| AffinityTerm::new(t, namespace, labels);
        let mut terms = Self::default();
        if let Some(near) = affinity.and_then(|a| a.pod_affinity.as_ref()) {
            terms.required.extend(near.required_during_scheduling_ignored_during_execution.iter().flatten().map(term));
            for w in near.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
                terms.preferred.push((i64::from(w.weight), term(&w.pod_affinity_term)));
            }
        }
        if let Some(far) = affinity.and_then(|a| a.pod_anti_affinity.as_ref()) {
            terms.forbidden.extend(far.required_during_scheduling_ignored_during_execution.iter().flatten().map(term));
            for w in far.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
                terms.preferred.push((-i64::from(w.weight), term(&w.pod_affinity_term)));
            }
        }
        terms
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.forbidden.is_empty() && self.preferred.is_empty()
    }
}

/// A term of node affinity: all of it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
    /// Empty terms, and those that are wrong, match no node.
    matches_nothing: bool,
}

impl NodeTerm {
    fn new(term: &NodeSelectorTerm) -> Self {
        let mut matches_nothing = false;
        let mut compile = |list: &Option<Vec<_>>| {
            let mut all = Vec::new();
            for requirement in list.iter().flatten() {
                match Requirement::from_node(requirement) {
                    Some(compiled) => all.push(compiled),
                    None => matches_nothing = true,
                }
            }
            all
        };
        let labels = compile(&term.match_expressions);
        let fields = compile(&term.match_fields);
        matches_nothing |= labels.is_empty() && fields.is_empty();
        Self { labels, fields, matches_nothing }
    }

    /// Whether a node satisfies it.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        !self.matches_nothing
            && self.labels.iter().all(|r| r.matches(labels))
            && self.fields.iter().all(|r| r.key() == "metadata.name" && r.matches_value(Some(name)))
    }

    /// The node names it allows, if it names them.
    fn names(&self) -> Option<Vec<&str>> {
        let mut names: Option<Vec<&str>> = None;
        for values in self.fields.iter().filter(|r| r.key() == "metadata.name").filter_map(Requirement::allowed) {
            names = Some(match names {
                None => values.iter().map(String::as_str).collect(),
                Some(before) => before.into_iter().filter(|name| values.iter().any(|v| v == name)).collect(),
            });
        }
        names
    }
}

/// Which nodes a pod may be on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeWants {
    /// `nodeSelector`.
    pub selector: Option<Selector>,
    /// One of these terms must match, if there is a list.
    pub required: Option<Vec<NodeTerm>>,
    /// Weights of terms that had better match.
    pub preferred: Vec<(i64, NodeTerm)>,
}

impl NodeWants {
    fn new(spec: &PodSpec) -> Self {
        let node = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        Self {
            selector: spec.node_selector.as_ref().filter(|s| !s.is_empty()).map(Selector::from_map),
            required: node
                .and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref())
                .map(|s| s.node_selector_terms.iter().map(NodeTerm::new).collect()),
            preferred: node
                .and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref())
                .into_iter()
                .flatten()
                .map(|t| (i64::from(t.weight), NodeTerm::new(&t.preference)))
                .collect(),
        }
    }

    /// Whether any node will do.
    pub fn is_any(&self) -> bool {
        self.selector.is_none() && self.required.is_none()
    }

    /// Whether this node will do.
    pub fn allows(&self, name: &str, labels: &Labels) -> bool {
        self.selector.as_ref().is_none_or(|s| s.matches(labels))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(name, labels)))
    }

    /// The nodes it names, if every term names some.
    pub fn names(&self) -> Option<Vec<&str>> {
        let mut all = Vec::new();
        // Without terms it names none and allows none: that is for the check to say.
        for term in self.required.as_ref().filter(|terms| !terms.is_empty())? {
            all.extend(term.names()?);
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    }
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// `DoNotSchedule` rather than `ScheduleAnyway`.
    pub hard: bool,
    /// `maxSkew`.
    pub max_skew: i64,
    /// `minDomains`.
    pub min_domains: usize,
    /// The nodes that count as one place.
    pub topology_key: String,
    /// The pods to count.
    pub selector: Selector,
    /// Count only nodes that the pod's node affinity allows.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

fn spreads(spec: &PodSpec, labels: &Labels) -> Vec<Spread> {
    let compile = |c: &k8s_openapi::api::core::v1::TopologySpreadConstraint| {
        let mut selector = Selector::from_labels(c.label_selector.as_ref());
        for key in c.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.require(Requirement::equals(key, value));
            }
        }
        Spread {
            hard: c.when_unsatisfiable == "DoNotSchedule",
            max_skew: i64::from(c.max_skew),
            min_domains: usize::try_from(c.min_domains.unwrap_or(1)).unwrap_or(1),
            topology_key: c.topology_key.clone(),
            selector,
            honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    };
    spec.topology_spread_constraints.iter().flatten().map(compile).collect()
}

/// A pod, read once.
#[derive(Debug)]
pub struct PodInfo {
    /// The object.
    pub pod: Arc<Pod>,
    /// What it asks for.
    pub requests: Resource,
    /// What it counts as when nodes are scored: CPU in thousandths, memory in bytes.
    pub scored: (i64, i64),
    /// Ports on the node.
    pub ports: Vec<HostPort>,
    /// Terms about other pods.
    pub terms: PodTerms,
    /// Which nodes it may be on; of pods that wait for a node only.
    pub nodes: NodeWants,
    /// How it wants to be spread; of pods that wait for a node only.
    pub spread: Vec<Spread>,
    /// Its images with tags; of pods that wait for a node only.
    pub images: Vec<String>,
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl PodInfo {
    /// A pod that waits for a node.
    pub fn pending(pod: Arc<Pod>) -> Self {
        let mut info = Self::assigned(pod);
        let spec = info.spec();
        let nodes = NodeWants::new(spec);
        let spread = spreads(spec, info.labels());
        let images = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .filter_map(|c| c.image.as_deref())
            .map(normalized_image)
            .collect();
        (info.nodes, info.spread, info.images) = (nodes, spread, images);
        info
    }

    /// A pod that has a node: only what others have to know of it.
    pub fn assigned(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref().unwrap_or(&NO_SPEC);
        let labels = labels_of(&pod.metadata);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        Self {
            requests: pod_requests(spec),
            scored: pod_requests_for_scores(spec),
            ports: host_ports(spec),
            terms: PodTerms::new(spec.affinity.as_ref(), namespace, labels),
            nodes: NodeWants::default(),
            spread: Vec::new(),
            images: Vec::new(),
            pod,
        }
    }

    /// The specification.
    pub fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().unwrap_or(&NO_SPEC)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// The uid.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The labels.
    pub fn labels(&self) -> &Labels {
        labels_of(&self.pod.metadata)
    }

    /// The priority.
    pub fn priority(&self) -> i32 {
        self.spec().priority.unwrap_or(0)
    }

    /// The node, once it has one.
    pub fn node_name(&self) -> Option<&str> {
        self.spec().node_name.as_deref().filter(|n| !n.is_empty())
    }

    /// What it tolerates.
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().tolerations.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether it has ended and occupies nothing any more.
    pub fn is_finished(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    // Ports of init containers that keep running are occupied just as long.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let ip = p.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0").to_owned();
            let protocol = p.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP").to_owned();
            Some(HostPort { ip, protocol, port })
        })
        .collect()
}

/// An image with the tag that an untagged name means, as nodes report it.
pub fn normalized_image(image: &str) -> String {
    let after_path = image.rfind('/').map_or(0, |at| at + 1);
    if image[after_path..].contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}
