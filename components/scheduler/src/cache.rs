//! What the scheduler knows of the cluster: nodes, the pods on them, and the counts over both.
//!
//! One owner writes it between cycles and cycles only read it, so that no cycle needs a copy. A pod that was given a node
//! is *assumed* there until the API server shows it, so that the next cycle counts it in. Performs no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::counts::{CountKey, Counter, SelectorCounts, TermCounts, Topology};
use crate::node::{NodeChange, NodeInfo, Slot, name_of, taints_of};
use crate::pod::{AffinityTerm, PodInfo, normalized_image};
use crate::selector::{Labels, Selector, labels_of};
use crate::workloads::Workloads;

/// The label that names the node itself.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label of the zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Debug)]
struct Placed {
    info: Arc<PodInfo>,
    node: String,
    assumed: bool,
}

/// Where an image is.
#[derive(Debug, Default)]
pub struct ImageInfo {
    /// Its size on each node that has it, in bytes.
    pub sizes: HashMap<Slot, i64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Cache {
    slots: Vec<Option<NodeInfo>>,
    by_name: HashMap<String, Slot>,
    free: Vec<Slot>,
    order: Vec<Slot>,
    order_is_stale: bool,
    pods: HashMap<String, HashMap<String, Placed>>,
    pods_total: usize,
    pods_by_lost_node: HashMap<String, HashSet<(String, String)>>,
    counts: SelectorCounts,
    terms: TermCounts,
    topology: Topology,
    images: HashMap<String, ImageInfo>,
    tainted: usize,
    cordoned: usize,
    namespaces: HashMap<String, Labels>,
    /// What default spreading asks of Services and workloads.
    pub workloads: Workloads,
}

/// What an update of a pod on a node did.
#[derive(Debug)]
pub enum PodChange {
    /// It is new to the cache.
    Added,
    /// It was assumed there, and now it is true.
    Confirmed,
    /// It was known; its earlier version.
    Updated(Arc<PodInfo>),
}

impl Cache {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    // ---- what cycles read ----

    /// The nodes in the order in which cycles look at them: zone by zone in turn.
    pub fn order(&self) -> &[Slot] {
        &self.order
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.by_name.len()
    }

    /// How many pods have nodes.
    pub fn pod_count(&self) -> usize {
        self.pods_total
    }

    /// A node by its place.
    pub fn node(&self, slot: Slot) -> Option<&NodeInfo> {
        self.slots.get(slot).and_then(Option::as_ref)
    }

    /// A node by its name.
    pub fn node_named(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|slot| self.node(*slot))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.slots.iter().flatten()
    }

    /// Whether some node has taints.
    pub fn has_taints(&self) -> bool {
        self.tainted > 0
    }

    /// Whether some node is cordoned.
    pub fn has_cordoned(&self) -> bool {
        self.cordoned > 0
    }

    /// Where an image is.
    pub fn image(&self, name: &str) -> Option<&ImageInfo> {
        self.images.get(name)
    }

    /// The labels of a namespace.
    pub fn namespace_labels(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// The terms that pods with nodes hold about others.
    pub fn terms(&self) -> &TermCounts {
        &self.terms
    }

    /// Which nodes share labels' values. Only of labels that [`Cache::prepare`] saw.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The counts of a selector. Only of selectors that [`Cache::prepare`] saw.
    pub fn count(&self, key: &CountKey) -> Option<&Counter> {
        self.counts.get(key)
    }

    /// The pods that a term is about, or that all of some terms are about.
    pub fn term_key<'t>(&self, terms: impl IntoIterator<Item = &'t AffinityTerm>) -> CountKey {
        let mut namespaces: Option<Vec<String>> = None;
        let mut selector = Selector::All(Vec::new());
        for term in terms {
            selector = selector.and(term.selector.clone());
            let Some(names) = self.namespaces_of(term) else { continue };
            namespaces = Some(match namespaces {
                None => names,
                Some(before) => before.into_iter().filter(|n| names.contains(n)).collect(),
            });
        }
        CountKey { namespaces, selector, alive_only: false }
    }

    fn namespaces_of(&self, term: &AffinityTerm) -> Option<Vec<String>> {
        if term.namespace_selector.is_everything() {
            return None;
        }
        let mut names = term.namespaces.clone();
        if term.namespace_selector != Selector::Nothing {
            let matching = self.namespaces.iter().filter(|(_, labels)| term.namespace_selector.matches(labels));
            names.extend(matching.map(|(name, _)| name.clone()));
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// The pods that default spreading keeps apart from this one.
    pub fn default_spread_key(&self, pod: &PodInfo) -> Option<CountKey> {
        let selector = self.workloads.default_selector(pod)?;
        Some(Self::spread_key(pod, selector))
    }

    /// The pods that a spread constraint counts.
    pub fn spread_key(pod: &PodInfo, selector: Selector) -> CountKey {
        CountKey { namespaces: Some(vec![pod.namespace().to_owned()]), selector, alive_only: true }
    }

    /// Makes ready what a cycle for this pod reads. To be called before it.
    pub fn prepare(&mut self, pod: &PodInfo) {
        if self.order_is_stale {
            self.reorder();
        }
        let mut keys = Vec::new();
        if !pod.terms.required.is_empty() {
            keys.push(self.term_key(&pod.terms.required));
        }
        let single = pod.terms.forbidden.iter().chain(pod.terms.preferred.iter().map(|(_, t)| t));
        keys.extend(single.map(|term| self.term_key([term])));
        if pod.spread.is_empty() {
            keys.extend(self.default_spread_key(pod));
            for key in [HOSTNAME, ZONE] {
                self.follow(key);
            }
        }
        keys.extend(pod.spread.iter().map(|c| Self::spread_key(pod, c.selector.clone())));
        for key in &keys {
            let (pods, by_name) = (&self.pods, &self.by_name);
            let named = key.namespaces.as_ref();
            let all = pods.iter().filter(|(ns, _)| named.is_none_or(|names| names.contains(ns)));
            let all = all.flat_map(|(_, pods)| pods.values());
            self.counts.ensure(key, all.filter_map(|p| Some((*by_name.get(&p.node)?, p.info.as_ref()))));
        }
        for constraint in &pod.spread {
            self.follow(&constraint.topology_key);
        }
        self.follow_terms(pod);
    }

    fn follow(&mut self, key: &str) {
        let nodes = self.slots.iter().flatten().map(|n| (n.slot, n.labels()));
        self.topology.ensure(key, nodes);
    }

    fn follow_terms(&mut self, pod: &PodInfo) {
        let terms = &pod.terms;
        for term in terms.required.iter().chain(&terms.forbidden).chain(terms.preferred.iter().map(|(_, t)| t)) {
            self.follow(&term.topology_key);
        }
    }

    // ---- nodes ----

    /// A node came or changed. What changed, if it was known.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<NodeChange> {
        let name = name_of(&node).to_owned();
        if let Some(slot) = self.by_name.get(&name).copied() {
            let old = self.node(slot).map(|info| Arc::clone(&info.node))?;
            let change = NodeChange::between(&old, &node);
            self.count_node(&old, slot, false);
            self.count_node(&node, slot, true);
            if change.labels {
                self.topology.set_node(slot, Some(labels_of(&node.metadata)));
                self.order_is_stale = true;
            }
            if let Some(info) = self.slots[slot].as_mut() {
                info.set_node(node);
            }
            return Some(change);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.count_node(&node, slot, true);
        self.topology.set_node(slot, Some(labels_of(&node.metadata)));
        self.slots[slot] = Some(NodeInfo::new(slot, node));
        self.by_name.insert(name.clone(), slot);
        self.order_is_stale = true;
        for (namespace, uid) in self.pods_by_lost_node.remove(&name).unwrap_or_default() {
            if let Some(placed) = self.pods.get(&namespace).and_then(|pods| pods.get(&uid)) {
                let info = Arc::clone(&placed.info);
                self.attach(slot, info);
            }
        }
        None
    }

    /// A node went. Its pods stay known, in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.by_name.remove(name) else { return };
        if let Some(info) = self.slots[slot].take() {
            self.count_node(&info.node, slot, false);
            for pod in info.pods {
                self.counts.change(slot, &pod, false);
                self.terms.change(slot, &pod, false);
                let key = (pod.namespace().to_owned(), pod.uid().to_owned());
                self.pods_by_lost_node.entry(name.to_owned()).or_default().insert(key);
            }
        }
        self.topology.set_node(slot, None);
        self.free.push(slot);
        self.order_is_stale = true;
    }

    fn count_node(&mut self, node: &Node, slot: Slot, up: bool) {
        let change = |count: &mut usize, yes: bool| match (yes, up) {
            (true, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            (false, _) => {}
        };
        change(&mut self.tainted, !taints_of(node).is_empty());
        change(&mut self.cordoned, crate::node::is_unschedulable(node));
        for image in node.status.iter().flat_map(|s| s.images.iter().flatten()) {
            let size = image.size_bytes.unwrap_or(0);
            for name in image.names.iter().flatten().map(|n| normalized_image(n)) {
                if up {
                    self.images.entry(name).or_default().sizes.insert(slot, size);
                } else if let Some(info) = self.images.get_mut(&name) {
                    info.sizes.remove(&slot);
                    if info.sizes.is_empty() {
                        self.images.remove(&name);
                    }
                }
            }
        }
    }

    /// Zones in turn, so that the sample a cycle looks at spans them all.
    fn reorder(&mut self) {
        let mut zones: BTreeMap<(&str, &str), Vec<(&str, Slot)>> = BTreeMap::new();
        for info in self.slots.iter().flatten() {
            let label = |key: &str| info.labels().get(key).map_or("", String::as_str);
            zones
                .entry((label("topology.kubernetes.io/region"), label(ZONE)))
                .or_default()
                .push((info.name(), info.slot));
        }
        for nodes in zones.values_mut() {
            nodes.sort_unstable();
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        let round = |at: usize| zones.values().filter_map(move |nodes| nodes.get(at)).map(|(_, slot)| *slot);
        self.order = (0..longest).flat_map(round).collect();
        self.order_is_stale = false;
    }

    // ---- pods ----

    fn attach(&mut self, slot: Slot, pod: Arc<PodInfo>) {
        self.counts.change(slot, &pod, true);
        if !pod.terms.is_empty() {
            self.terms.change(slot, &pod, true);
            for (held, _) in self.terms.iter() {
                let nodes = self.slots.iter().flatten().map(|n| (n.slot, n.labels()));
                self.topology.ensure(&held.term.topology_key, nodes);
            }
        }
        if let Some(info) = self.slots[slot].as_mut() {
            info.add_pod(pod);
        }
    }

    fn place(&mut self, info: Arc<PodInfo>, node: &str, assumed: bool) {
        match self.by_name.get(node).copied() {
            Some(slot) => self.attach(slot, Arc::clone(&info)),
            None => {
                let key = (info.namespace().to_owned(), info.uid().to_owned());
                self.pods_by_lost_node.entry(node.to_owned()).or_default().insert(key);
            }
        }
        let pods = self.pods.entry(info.namespace().to_owned()).or_default();
        let placed = Placed { node: node.to_owned(), assumed, info };
        if pods.insert(placed.info.uid().to_owned(), placed).is_none() {
            self.pods_total += 1;
        }
    }

    fn displace(&mut self, namespace: &str, uid: &str) -> Option<Placed> {
        let pods = self.pods.get_mut(namespace)?;
        let placed = pods.remove(uid)?;
        if pods.is_empty() {
            self.pods.remove(namespace);
        }
        self.pods_total -= 1;
        let slot = self.by_name.get(&placed.node).copied();
        match slot.and_then(|slot| self.slots[slot].as_mut()) {
            Some(info) => {
                if info.remove_pod(uid) {
                    let slot = info.slot;
                    self.counts.change(slot, &placed.info, false);
                    self.terms.change(slot, &placed.info, false);
                }
            }
            None => {
                if let Some(lost) = self.pods_by_lost_node.get_mut(&placed.node) {
                    lost.remove(&(namespace.to_owned(), uid.to_owned()));
                    if lost.is_empty() {
                        self.pods_by_lost_node.remove(&placed.node);
                    }
                }
            }
        }
        Some(placed)
    }

    /// A pod is given a node, and not yet shown there by the API server.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.displace(pod.namespace(), pod.uid());
        self.place(pod, node, true);
    }

    /// A pod that was assumed did not get its node after all. Returns whether it was only assumed.
    pub fn forget(&mut self, namespace: &str, uid: &str) -> bool {
        let assumed = self.is_assumed(namespace, uid);
        if assumed {
            self.displace(namespace, uid);
        }
        assumed
    }

    /// Whether a pod is assumed on a node.
    pub fn is_assumed(&self, namespace: &str, uid: &str) -> bool {
        self.pods.get(namespace).and_then(|pods| pods.get(uid)).is_some_and(|placed| placed.assumed)
    }

    /// The pods that are assumed on nodes.
    pub fn assumed(&self) -> Vec<Arc<PodInfo>> {
        self.pods.values().flat_map(HashMap::values).filter(|p| p.assumed).map(|p| Arc::clone(&p.info)).collect()
    }

    /// The API server shows a pod on a node.
    pub fn set_pod(&mut self, pod: Arc<Pod>) -> PodChange {
        let info = Arc::new(PodInfo::assigned(pod));
        let node = info.node_name().unwrap_or_default().to_owned();
        let before = self.displace(info.namespace(), info.uid());
        self.place(info, &node, false);
        match before {
            None => PodChange::Added,
            Some(placed) if placed.assumed => PodChange::Confirmed,
            Some(placed) => PodChange::Updated(placed.info),
        }
    }

    /// A pod went, or ended. Its last version, if it was on a node.
    pub fn remove_pod(&mut self, namespace: &str, uid: &str) -> Option<Arc<PodInfo>> {
        self.displace(namespace, uid).map(|placed| placed.info)
    }

    /// All pods on nodes, by namespace and uid.
    pub fn pod_keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pods.iter().flat_map(|(ns, pods)| pods.keys().map(move |uid| (ns.as_str(), uid.as_str())))
    }

    // ---- namespaces ----

    /// A namespace came or changed. Returns whether its labels did.
    pub fn set_namespace(&mut self, name: &str, labels: &Labels) -> bool {
        self.namespaces.insert(name.to_owned(), labels.clone()).as_ref() != Some(labels)
    }

    /// A namespace went.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }
}
