//! DefaultPreemption, as far as it goes without evicting anybody: says whether making room could help at all.
//!
//! Pods are not evicted for others yet, so no node ever has victims; the words are those of upstream when none helps.

use crate::fit_error::FitError;
use crate::framework::{Context, NodeRejections, Plugin, PostFilter, Rejection};

/// See the module.
pub struct DefaultPreemption;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn post_filter(&self, ctx: Context<'_>, rejections: &NodeRejections) -> Option<PostFilter> {
        if ctx.pod.spec().preemption_policy.as_deref() == Some("Never") {
            let message = "preemption: not eligible due to preemptionPolicy=Never.".to_owned();
            return Some(PostFilter { nominated: None, message });
        }
        let mut error = FitError { nodes: ctx.cache.node_count(), ..FitError::default() };
        let resolvable = rejections.iter().filter(|(_, rejection)| rejection.resolvable).count();
        let others = error.nodes.saturating_sub(resolvable);
        for (reason, nodes) in [(NO_VICTIMS, resolvable), (NOT_HELPFUL, others)] {
            if nodes > 0 {
                error.count(&Rejection::unresolvable(reason), nodes);
            }
        }
        Some(PostFilter { nominated: None, message: format!("preemption: {error}") })
    }
}
