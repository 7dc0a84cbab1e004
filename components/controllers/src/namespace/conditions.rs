//! What a namespace that is being deleted says about it. Pure; the words are upstream's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use navarch_types::GroupResource;

/// What one pass over a namespace's content found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why the list of resources is not complete.
    pub discovery_failures: Vec<String>,
    /// What could not be listed or deleted.
    pub delete_failures: Vec<String>,
    /// Objects that are left.
    pub remaining: BTreeMap<GroupResource, usize>,
    /// Finalizers that they wait for.
    pub finalizers: BTreeMap<String, usize>,
}

impl Findings {
    /// Whether nothing is left, as far as could be seen.
    pub fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.delete_failures.is_empty() && self.discovery_failures.is_empty()
    }
}

struct Kind {
    name: &'static str,
    fine: (&'static str, &'static str),
    failing: &'static str,
    message: fn(&Findings) -> Option<String>,
}

/// In the order in which upstream writes them.
const KINDS: [Kind; 5] = [
    Kind {
        name: "NamespaceDeletionDiscoveryFailure",
        fine: ("ResourcesDiscovered", "All resources successfully discovered"),
        failing: "DiscoveryFailed",
        message: |f| {
            let failures = &f.discovery_failures;
            (!failures.is_empty()).then(|| {
                format!("Discovery failed for some groups, {} failing: {}", failures.len(), failures.join(", "))
            })
        },
    },
    Kind {
        name: "NamespaceDeletionGroupVersionParsingFailure",
        fine: ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        failing: "GroupVersionParsingFailed",
        message: |_| None,
    },
    Kind {
        name: "NamespaceDeletionContentFailure",
        fine: ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        failing: "ContentDeletionFailed",
        message: |f| {
            let failures = &f.delete_failures;
            (!failures.is_empty()).then(|| {
                format!("Failed to delete all resource types, {} remaining: {}", failures.len(), failures.join(", "))
            })
        },
    },
    Kind {
        name: "NamespaceContentRemaining",
        fine: ("ContentRemoved", "All content successfully removed"),
        failing: "SomeResourcesRemain",
        message: |f| {
            let one =
                |(gr, n): (&GroupResource, &usize)| format!("{}.{} has {n} resource instances", gr.resource, gr.group);
            let texts: Vec<String> = f.remaining.iter().map(one).collect();
            (!texts.is_empty()).then(|| format!("Some resources are remaining: {}", texts.join(", ")))
        },
    },
    Kind {
        name: "NamespaceFinalizersRemaining",
        fine: ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        failing: "SomeFinalizersRemain",
        message: |f| {
            let one = |(name, n): (&String, &usize)| format!("{name} in {n} resource instances");
            let texts: Vec<String> = f.finalizers.iter().map(one).collect();
            (!texts.is_empty())
                .then(|| format!("Some content in the namespace has finalizers remaining: {}", texts.join(", ")))
        },
    },
];

/// The conditions after a pass. A transition time moves only with its status.
pub fn conditions(old: &[NamespaceCondition], findings: &Findings, now: Timestamp) -> Vec<NamespaceCondition> {
    let mut conditions: Vec<NamespaceCondition> =
        old.iter().filter(|c| KINDS.iter().all(|k| k.name != c.type_)).cloned().collect();
    for kind in &KINDS {
        let failing = (kind.message)(findings);
        let (status, reason, message) = match failing {
            Some(message) => ("True", kind.failing, message),
            None => ("False", kind.fine.0, kind.fine.1.to_owned()),
        };
        let before = old.iter().find(|c| c.type_ == kind.name).filter(|c| c.status == status);
        let since = before.and_then(|c| c.last_transition_time.clone());
        conditions.push(NamespaceCondition {
            type_: kind.name.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or_else(|| Timestamp::from_second(now.as_second()).ok().map(Time)),
        });
    }
    conditions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn words_and_times() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut findings = Findings::default();
        let fine = conditions(&[], &findings, at(1));
        assert!(fine.iter().all(|c| c.status == "False"));
        assert!(findings.is_empty());
        findings.remaining.insert(GroupResource { group: "".into(), resource: "pods".into() }, 2);
        findings.remaining.insert(GroupResource { group: "apps".into(), resource: "deployments".into() }, 1);
        findings.finalizers.insert("x/y".into(), 3);
        let some = conditions(&fine, &findings, at(2));
        let of = |kind: &str| some.iter().find(|c| c.type_ == kind).unwrap();
        let remaining = of("NamespaceContentRemaining");
        assert_eq!(
            remaining.message.as_deref(),
            Some(
                "Some resources are remaining: pods. has 2 resource instances, deployments.apps has 1 resource instances"
            )
        );
        assert_eq!(remaining.last_transition_time.as_ref().unwrap().0, at(2));
        assert_eq!(
            of("NamespaceFinalizersRemaining").message.as_deref(),
            Some("Some content in the namespace has finalizers remaining: x/y in 3 resource instances")
        );
        assert_eq!(of("NamespaceDeletionContentFailure").last_transition_time.as_ref().unwrap().0, at(1));
        assert_eq!(conditions(&some, &findings, at(9)), some, "nothing new, nothing written");
    }
}
