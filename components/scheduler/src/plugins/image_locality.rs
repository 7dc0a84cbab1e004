//! ImageLocality: prefers nodes that have a pod's images, the more the larger they are.

use crate::framework::{Context, MAX_NODE_SCORE, Plugin};
use crate::node::NodeInfo;

/// See the module.
pub struct ImageLocality;

const MIB: i64 = 1024 * 1024;
/// Less than this in images makes no difference: 23 MiB.
const THRESHOLD_MIN: i64 = 23 * MIB;
/// More than this a container counts no more: 1000 MiB.
const THRESHOLD_MAX: i64 = 1000 * MIB;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, ctx: Context<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) -> bool {
        let images: Vec<_> = ctx.pod.images.iter().filter_map(|image| ctx.cache.image(image)).collect();
        if images.is_empty() {
            return false;
        }
        let total = ctx.cache.node_count().max(1) as f64;
        let max = THRESHOLD_MAX * i64::try_from(ctx.pod.images.len()).unwrap_or(1);
        for (score, node) in scores.iter_mut().zip(nodes) {
            let mut sum = 0;
            for image in &images {
                if let Some(size) = image.sizes.get(&node.slot) {
                    // Scaled by how widely it is spread, or all pods of one image would crowd the one node that has it.
                    sum += (*size as f64 * (image.sizes.len() as f64 / total)) as i64;
                }
            }
            *score = MAX_NODE_SCORE * (sum.clamp(THRESHOLD_MIN, max) - THRESHOLD_MIN) / (max - THRESHOLD_MIN);
        }
        true
    }
}
