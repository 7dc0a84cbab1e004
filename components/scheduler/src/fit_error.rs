//! Why a pod fits nowhere, in Kubernetes' words: users and tools read them.

use std::collections::BTreeMap;
use std::fmt;

use crate::framework::{PluginSet, Rejection, Text};

/// A pod that fits on none of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FitError {
    /// How many nodes there are.
    pub nodes: usize,
    /// Why no node was even looked at.
    pub pre_filter: Option<Text>,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<Text, usize>,
    /// What came of making room.
    pub post_filter: Option<String>,
    /// The plugins that refused.
    pub plugins: PluginSet,
}

impl FitError {
    /// Counts a node's reasons.
    pub fn count(&mut self, rejection: &Rejection, nodes: usize) {
        for reason in &rejection.reasons {
            // Nearly every reason is there already: no allocation then.
            match self.reasons.get_mut(reason) {
                Some(count) => *count += nodes,
                None => {
                    self.reasons.insert(reason.clone(), nodes);
                }
            }
        }
    }
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        if let Some(reason) = &self.pre_filter {
            write!(f, " {reason}.")?;
        } else if !self.reasons.is_empty() {
            // Sorted as text with the count in front: that is how upstream orders them.
            let mut counted: Vec<String> = self.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
            counted.sort_unstable();
            write!(f, " {}.", counted.join(", "))?;
        }
        match &self.post_filter {
            Some(message) => write!(f, " {message}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worded_as_upstream() {
        let mut error = FitError { nodes: 12, ..FitError::default() };
        error.count(&Rejection::unresolvable("node(s) had untolerated taint(s)"), 2);
        error.count(&Rejection::unschedulable("Insufficient cpu"), 10);
        error.post_filter = Some("preemption: none".into());
        assert_eq!(
            error.to_string(),
            "0/12 nodes are available: 10 Insufficient cpu, 2 node(s) had untolerated taint(s). preemption: none"
        );
        error.pre_filter = Some("node(s) are elsewhere".into());
        assert_eq!(error.to_string(), "0/12 nodes are available: node(s) are elsewhere. preemption: none");
        assert_eq!(FitError::default().to_string(), "no nodes available to schedule pods");
    }
}
