//! The points at which plugins take part in scheduling, and the table of those that do.
//!
//! A plugin is a set of pure answers about a pod and the cache; only `pre_bind` and `bind` act, through the client. Every
//! method has a default that takes no part. Plugins that have nothing to say about a pod say so once ([`Filtering::Skip`])
//! and are not asked about its nodes.

use std::borrow::Cow;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use navarch_client::Client;
use navarch_types::ApiError;

use crate::cache::Cache;
use crate::node::{NodeChange, NodeInfo, Slot};
use crate::pod::PodInfo;

/// The best score a plugin gives a node, after normalizing.
pub const MAX_NODE_SCORE: i64 = 100;

/// Text that is mostly known at compile time.
pub type Text = Cow<'static, str>;

/// Why a node, or a pod, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Whether pods that leave the node could change it.
    pub resolvable: bool,
    /// In Kubernetes' words.
    pub reasons: Vec<Text>,
}

impl Rejection {
    /// Pods that leave could change it.
    pub fn unschedulable(reason: impl Into<Text>) -> Self {
        Self { resolvable: true, reasons: vec![reason.into()] }
    }

    /// Pods that leave change nothing.
    pub fn unresolvable(reason: impl Into<Text>) -> Self {
        Self { resolvable: false, reasons: vec![reason.into()] }
    }
}

/// What a cycle reads.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The cluster, made ready for the pod by [`Cache::prepare`].
    pub cache: &'a Cache,
    /// The pod to place.
    pub pod: &'a PodInfo,
}

/// A plugin's question about single nodes.
pub type NodeCheck<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Rejection> + 'a>;

/// What a plugin says about a pod before nodes are looked at.
pub enum Filtering<'a> {
    /// It has nothing to ask of nodes.
    Skip,
    /// No node will do.
    Reject(Rejection),
    /// It asks this of every node.
    Check(NodeCheck<'a>),
    /// Only these nodes can do, and it asks this of them.
    Only(Vec<Slot>, NodeCheck<'a>),
}

/// Whether a plugin lets a pod go on to its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Allow,
    /// No; it is as if no node had fit.
    Deny(Rejection),
}

/// What became of a step of binding.
#[derive(Debug)]
pub enum BindStep {
    /// The plugin leaves it to the next.
    Skip,
    /// Done.
    Done,
    /// It failed; the pod is to be tried again.
    Failed(ApiError),
}

/// What plugins that act are given.
pub struct BindContext<'a> {
    /// The API.
    pub client: &'a Client,
    /// The pod.
    pub pod: &'a PodInfo,
    /// Its node.
    pub node: &'a str,
}

/// What a plugin made of a pod that fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostFilter {
    /// A node where room is being made.
    pub nominated: Option<String>,
    /// For the event, in Kubernetes' words.
    pub message: String,
}

/// Why nodes were refused, by place.
pub type NodeRejections = Vec<(Slot, Rejection)>;

/// Something that happened and may let a waiting pod fit.
#[derive(Clone, Copy, Debug)]
pub enum ClusterEvent<'a> {
    /// A node came.
    NodeAdded(&'a Node),
    /// A node changed in something that matters.
    NodeUpdated {
        /// Before.
        old: &'a Node,
        /// After.
        new: &'a Node,
        /// In what.
        change: NodeChange,
    },
    /// A pod came to a node.
    AssignedPodAdded(&'a PodInfo),
    /// A pod on a node changed.
    AssignedPodUpdated {
        /// Before.
        old: &'a PodInfo,
        /// After.
        new: &'a PodInfo,
    },
    /// A pod left its node.
    AssignedPodDeleted(&'a PodInfo),
    /// The waiting pod itself changed.
    PodUpdated {
        /// Before.
        old: &'a PodInfo,
        /// After.
        new: &'a PodInfo,
    },
    /// Labels of a namespace changed.
    NamespaceUpdated,
}

/// See the module.
pub trait Plugin: Send + Sync {
    /// The name, as Kubernetes has it.
    fn name(&self) -> &'static str;

    /// Whether an event may let a pod fit that this plugin refused.
    fn hint(&self, _pod: &PodInfo, _event: &ClusterEvent<'_>) -> bool {
        false
    }

    /// Whether a pod may enter the queue at all.
    ///
    /// # Errors
    /// Why not.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// What it asks of nodes for this pod (PreFilter and Filter).
    fn filter<'a>(&'a self, _ctx: Context<'a>) -> Filtering<'a> {
        Filtering::Skip
    }

    /// Scores nodes that fit, one value a node. False if it has nothing to say (PreScore and Score).
    fn score(&self, _ctx: Context<'_>, _nodes: &[&NodeInfo], _scores: &mut [i64]) -> bool {
        false
    }

    /// Brings its scores to 0 … [`MAX_NODE_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}

    /// What it makes of a pod that fits nowhere.
    fn post_filter(&self, _ctx: Context<'_>, _rejections: &NodeRejections) -> Option<PostFilter> {
        None
    }

    /// Takes note that a pod is to go to a node.
    ///
    /// # Errors
    /// If it cannot after all; those that reserved before it are told.
    fn reserve(&self, _pod: &PodInfo, _node: &str) -> Result<(), Rejection> {
        Ok(())
    }

    /// Takes note that it does not go there after all. Also called where `reserve` was not.
    fn unreserve(&self, _pod: &PodInfo, _node: &str) {}

    /// The last word before binding.
    fn permit(&self, _pod: &PodInfo, _node: &str) -> Permit {
        Permit::Allow
    }

    /// Does what has to be done before binding.
    fn pre_bind<'a>(&'a self, _ctx: &'a BindContext<'a>) -> Option<BoxFuture<'a, BindStep>> {
        None
    }

    /// Binds. The first plugin that does not skip has done it.
    fn bind<'a>(&'a self, _ctx: &'a BindContext<'a>) -> Option<BoxFuture<'a, BindStep>> {
        None
    }
}

/// A plugin of a profile.
pub struct Entry {
    /// The plugin.
    pub plugin: Box<dyn Plugin>,
    /// What its scores count.
    pub weight: i64,
}

/// The plugins in the order they are asked. At most 32: the queue keeps sets of them in a word.
pub struct Framework {
    entries: Vec<Entry>,
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(pub u32);

impl PluginSet {
    /// Adds one by its place in the table.
    pub fn insert(&mut self, at: usize) {
        self.0 |= 1 << at;
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their places in the table.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |at| self.0 & (1 << at) != 0)
    }
}

impl Framework {
    /// From a table.
    ///
    /// # Errors
    /// If it has more than 32 entries.
    pub fn new(entries: Vec<Entry>) -> Result<Self, &'static str> {
        if entries.len() > 32 {
            return Err("a profile has more than 32 plugins");
        }
        Ok(Self { entries })
    }

    /// All plugins, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All plugins, in order, without their weights.
    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.entries.iter().map(|e| e.plugin.as_ref())
    }

    /// Whether some plugin of a set hopes that an event lets a pod fit.
    pub fn hint(&self, of: PluginSet, pod: &PodInfo, event: &ClusterEvent<'_>) -> bool {
        of.iter().filter_map(|at| self.entries.get(at)).any(|entry| entry.plugin.hint(pod, event))
    }

    /// Reserves with every plugin, or with none.
    ///
    /// # Errors
    /// The plugin's place and why.
    pub fn reserve(&self, pod: &PodInfo, node: &str) -> Result<(), (usize, Rejection)> {
        for (at, plugin) in self.plugins().enumerate() {
            if let Err(rejection) = plugin.reserve(pod, node) {
                self.unreserve(pod, node);
                return Err((at, rejection));
            }
        }
        Ok(())
    }

    /// Takes reservations back, the last first.
    pub fn unreserve(&self, pod: &PodInfo, node: &str) {
        for entry in self.entries.iter().rev() {
            entry.plugin.unreserve(pod, node);
        }
    }

    /// Asks every plugin for the last word.
    ///
    /// # Errors
    /// The place of the plugin that denies, and why.
    pub fn permit(&self, pod: &PodInfo, node: &str) -> Result<(), (usize, Rejection)> {
        for (at, plugin) in self.plugins().enumerate() {
            if let Permit::Deny(rejection) = plugin.permit(pod, node) {
                return Err((at, rejection));
            }
        }
        Ok(())
    }

    /// Binds a pod to its node.
    ///
    /// # Errors
    /// What the API server answered, or that no plugin binds.
    pub async fn bind(&self, ctx: &BindContext<'_>) -> Result<(), ApiError> {
        for plugin in self.plugins() {
            if let Some(step) = plugin.pre_bind(ctx)
                && let BindStep::Failed(error) = step.await
            {
                return Err(error);
            }
        }
        for plugin in self.plugins() {
            let Some(step) = plugin.bind(ctx) else { continue };
            match step.await {
                BindStep::Skip => {}
                BindStep::Done => return Ok(()),
                BindStep::Failed(error) => return Err(error),
            }
        }
        Err(ApiError::internal("no plugin of the profile binds"))
    }
}

/// Brings scores to 0 … [`MAX_NODE_SCORE`] in proportion to the largest; `reverse` makes small ones the best.
pub fn normalize_by_max(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 { 0 } else { MAX_NODE_SCORE * *score / max };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
