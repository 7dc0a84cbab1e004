//! Revisions: which ReplicaSet is the present template, what its annotations say, which old ones go. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest, Sha256};

use super::status::{actual_replicas, spec_replicas};

pub(super) const TEMPLATE_HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// The history annotation grows no longer than this.
const HISTORY_BYTES_MAX: usize = 2000;

/// No vowels, and nothing that looks like another: the value never spells a word.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A label value that stands for a template.
pub fn template_hash(template: &PodTemplateSpec, collision_count: i32) -> String {
    let mut hash = Sha256::new();
    // A template that does not encode cannot have been decoded either.
    hash.update(serde_json::to_vec(template).unwrap_or_default());
    if collision_count > 0 {
        hash.update(collision_count.to_le_bytes());
    }
    hash.finalize().iter().take(10).map(|byte| char::from(SAFE[usize::from(*byte) % SAFE.len()])).collect()
}

fn is_same_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(mut other) = set.spec.as_ref().and_then(|s| s.template.clone()) else { return false };
    if let Some(labels) = other.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    let mut template = template.clone();
    for side in [&mut other, &mut template] {
        let metadata = side.metadata.get_or_insert_default();
        metadata.labels = metadata.labels.take().filter(|l| !l.is_empty());
        metadata.creation_timestamp = None;
        if let Some(labels) = &mut metadata.labels {
            labels.remove(TEMPLATE_HASH);
        }
    }
    other == template
}

/// The ReplicaSet of the present template: the oldest, should there be several.
pub fn find_new<'a>(deployment: &Deployment, sets: &'a [Arc<ReplicaSet>]) -> Option<&'a Arc<ReplicaSet>> {
    let template = &deployment.spec.as_ref()?.template;
    let mut matching: Vec<&Arc<ReplicaSet>> = sets.iter().filter(|set| is_same_template(set, template)).collect();
    matching.sort_by_key(|set| age(set));
    matching.first().copied()
}

/// Sorts by time of creation, then name.
pub fn age(set: &ReplicaSet) -> (i64, String) {
    let created = set.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second());
    (created, set.metadata.name.clone().unwrap_or_default())
}

pub(super) fn annotation<'a>(annotations: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    annotations.and_then(|a| a.get(key)).map(String::as_str)
}

/// A ReplicaSet's revision; 0 if it has none.
pub fn revision(set: &ReplicaSet) -> i64 {
    annotation(set.metadata.annotations.as_ref(), REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The revision that the present template gets.
pub fn next_revision<'a>(old: impl Iterator<Item = &'a Arc<ReplicaSet>>) -> i64 {
    old.map(|set| revision(set)).max().unwrap_or(0) + 1
}

/// Gives the annotations of a Deployment to the ReplicaSet of its present template. `existing` ones keep their numbers of
/// replicas: only scaling changes those. Returns whether anything changed.
pub fn annotate(
    deployment: &Deployment,
    annotations: &mut BTreeMap<String, String>,
    next_revision: i64,
    existing: bool,
    numbers: (i32, i32),
) -> bool {
    let before = annotations.clone();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number: i64 = old.as_deref().and_then(|r| r.parse().ok()).unwrap_or(0);
    if old_number < next_revision {
        annotations.insert(REVISION.to_owned(), next_revision.to_string());
        if let Some(old) = old {
            let mut history: Vec<&str> =
                before.get(REVISION_HISTORY).into_iter().flat_map(|h| h.split(',')).filter(|r| !r.is_empty()).collect();
            history.push(&old);
            while history.iter().map(|r| r.len() + 1).sum::<usize>() > HISTORY_BYTES_MAX {
                history.remove(0);
            }
            annotations.insert(REVISION_HISTORY.to_owned(), history.join(","));
        }
    }
    if !existing {
        annotate_numbers(annotations, numbers);
    }
    *annotations != before
}

/// Notes for which size of the Deployment a ReplicaSet was scaled: (desired, most). Returns whether anything changed.
pub fn annotate_numbers(annotations: &mut BTreeMap<String, String>, (desired, most): (i32, i32)) -> bool {
    let first = annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string()) != Some(desired.to_string());
    let second = annotations.insert(MAX_REPLICAS.to_owned(), most.to_string()) != Some(most.to_string());
    first || second
}

/// The old ReplicaSets that exceed the history limit: those of the lowest revisions, and only empty ones.
pub fn to_delete(deployment: &Deployment, old: &[Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    let limit = deployment.spec.as_ref().and_then(|s| s.revision_history_limit).filter(|l| *l != i32::MAX);
    let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { return Vec::new() };
    let mut alive: Vec<_> = old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).cloned().collect();
    let excess = alive.len().saturating_sub(limit);
    alive.sort_by_key(|set| (revision(set), age(set)));
    alive.truncate(excess);
    let observed = |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    alive.retain(|set| {
        actual_replicas(set) == 0 && spec_replicas(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed(set)
    });
    alive
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::{Value, json};

    use super::*;

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    fn deployment(image: &str, limit: i32) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "web", "annotations": {"note": "x", REVISION: "9"}},
            "spec": {"selector": {}, "template": template(image), "revisionHistoryLimit": limit}}))
        .unwrap()
    }

    fn set(name: &str, image: &str, revision: i64, replicas: i32, second: i64) -> Arc<ReplicaSet> {
        let mut template = template(image);
        template["metadata"]["labels"][TEMPLATE_HASH] = name.into();
        let created = jiff::Timestamp::from_second(second).unwrap().to_string();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "generation": 1, "creationTimestamp": created,
            "annotations": {REVISION: revision.to_string()}},
            "spec": {"replicas": replicas, "selector": {}, "template": template},
            "status": {"replicas": replicas, "observedGeneration": 1}}))
            .unwrap(),
        )
    }

    #[test]
    fn hashes_are_labels_and_differ() {
        let one = deployment("a:1", 10).spec.unwrap().template;
        let two = deployment("a:2", 10).spec.unwrap().template;
        assert_eq!(template_hash(&one, 0), template_hash(&one, 0));
        assert_ne!(template_hash(&one, 0), template_hash(&two, 0));
        assert_ne!(template_hash(&one, 0), template_hash(&one, 1));
        assert!(template_hash(&one, 0).bytes().all(|b| SAFE.contains(&b)));
    }

    #[test]
    fn the_new_set_is_found_by_template_not_by_hash() {
        let sets = [set("b", "a:1", 1, 0, 20), set("c", "a:1", 2, 0, 10), set("d", "a:2", 3, 0, 5)];
        assert_eq!(find_new(&deployment("a:1", 10), &sets).unwrap().metadata.name.as_deref(), Some("c"));
        assert!(find_new(&deployment("a:3", 10), &sets).is_none());
        assert_eq!(next_revision(sets.iter()), 4);
    }

    #[test]
    fn annotations_are_inherited_and_revisions_remembered() {
        let mut annotations = BTreeMap::new();
        assert!(annotate(&deployment("a", 1), &mut annotations, 3, false, (4, 5)));
        assert_eq!(annotations["note"], "x");
        assert_eq!((annotations[REVISION].as_str(), annotations[MAX_REPLICAS].as_str()), ("3", "5"));
        assert!(!annotate(&deployment("a", 1), &mut annotations, 2, true, (9, 9)), "an older revision changes nothing");
        assert!(annotate(&deployment("a", 1), &mut annotations, 7, true, (9, 9)));
        assert!(annotate(&deployment("a", 1), &mut annotations, 8, true, (9, 9)));
        assert_eq!(annotations[REVISION_HISTORY], "3,7");
        assert_eq!(annotations[DESIRED_REPLICAS], "4");
    }

    #[test]
    fn only_empty_old_sets_beyond_the_limit_go() {
        let old = [set("a", "1", 3, 0, 1), set("b", "2", 1, 0, 2), set("c", "3", 2, 1, 3), set("d", "4", 4, 0, 4)];
        let names = |limit| -> Vec<String> {
            to_delete(&deployment("x", limit), &old).iter().map(|s| s.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!(names(4), Vec::<String>::new());
        assert_eq!(names(3), ["b"]);
        assert_eq!(names(1), ["b", "a"]);
        assert_eq!(names(0), ["b", "a", "d"]);
        assert_eq!(names(i32::MAX), Vec::<String>::new());
    }
}
