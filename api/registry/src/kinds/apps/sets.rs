//! ReplicaSets, ReplicationControllers, StatefulSets, DaemonSets and the revisions of the latter two.

use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::{Value, json};

use super::{
    collision_count, columns, defaults, is_zero, long_running_template, matches_template, selector_and_template,
    status_numbers,
};
use crate::kinds::at::{At, same};
use crate::kinds::cells::{NONE, age_cell, list, name, text};
use crate::kinds::fill::{ensure, put, restore};
use crate::kinds::kind::{AGE, Findings, Kind, NAME, column};
use crate::kinds::rules::{immutable, int_or_percent, non_negative, not_above_100_percent, one_of};
use crate::strategy::Context;

/// ReplicaSets.
pub(crate) static REPLICA_SET: Kind = Kind {
    default: defaults::replica_set,
    create: |_, object, out| replica_set(object, out),
    update: Some(|_, object, old, out| {
        replica_set(object, out);
        let spec = At::root(object, "spec");
        immutable(&spec.child("selector"), &old["spec"]["selector"], out);
    }),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        status_numbers(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], out);
    },
    columns: columns::REPLICAS,
    row: columns::replica_set,
    ..Kind::FULL
};

fn replica_set(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    non_negative(&spec.child("replicas"), out);
    non_negative(&spec.child("minReadySeconds"), out);
    selector_and_template(&spec, "deployment", "ReplicaSet", out);
}

/// ReplicationControllers.
pub(crate) static REPLICATION_CONTROLLER: Kind = Kind {
    default: defaults::replication_controller,
    create: |_, object, out| replication_controller(object, out),
    status_update: |_, object, _, out| {
        let status = At::root(object, "status");
        status_numbers(&status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], out);
    },
    orphans: true,
    columns: columns::REPLICAS,
    row: columns::replication_controller,
    ..Kind::FULL
};

fn replication_controller(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    non_negative(&spec.child("minReadySeconds"), out);
    let selector = spec.child("selector");
    if selector.is_empty() {
        out.push(selector.required(""));
    }
    non_negative(&spec.child("replicas"), out);
    let pod = spec.child("template");
    if pod.is_set() {
        let labels = &pod.value["metadata"]["labels"];
        let matches = selector.entries().all(|(key, value)| labels.get(key) == Some(value.value));
        matches_template(&pod, matches, out);
    }
    long_running_template(&pod, "ReplicationController", out);
}

/// DaemonSets.
pub(crate) static DAEMON_SET: Kind = Kind {
    default: defaults::daemon_set,
    prepare_create: |_, object| template_generation(object, 1),
    prepare_update: |context, object, old| {
        if context.subresource.is_none() {
            let was = old["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|n| n.parse::<i64>().ok());
            let changed = !same(&object["spec"]["template"], &old["spec"]["template"]);
            template_generation(object, was.unwrap_or(1) + i64::from(changed));
        }
    },
    create: |_, object, out| daemon_set(object, out),
    update: Some(|_, object, old, out| {
        daemon_set(object, out);
        let spec = At::root(object, "spec");
        immutable(&spec.child("selector"), &old["spec"]["selector"], out);
    }),
    status_update: |_, object, old, out| {
        let status = At::root(object, "status");
        for key in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ] {
            non_negative(&status.child(key), out);
        }
        collision_count(&status.child("collisionCount"), &old["status"]["collisionCount"], out);
    },
    columns: columns::DAEMON_SET,
    row: columns::daemon_set,
    ..Kind::FULL
};

/// Where `kubectl rollout` of old looks for the template's generation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &mut Value, number: i64) {
    if let Some(annotations) = ensure(object, "metadata").and_then(|m| ensure(m, "annotations")) {
        put(annotations, TEMPLATE_GENERATION, number.to_string());
    }
}

fn daemon_set(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    selector_and_template(&spec, "daemonset", "DaemonSet", out);
    non_negative(&spec.child("minReadySeconds"), out);
    let strategy = spec.child("updateStrategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.child("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_set() => {
            let (unavailable, surge) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            int_or_percent(&unavailable, out);
            not_above_100_percent(&unavailable, out);
            int_or_percent(&surge, out);
            not_above_100_percent(&surge, out);
            match (is_zero(unavailable.value), is_zero(surge.value)) {
                (true, true) => out.push(unavailable.required("cannot be 0 when maxSurge is 0")),
                (false, false) => out.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
                _ => {}
            }
        }
        "RollingUpdate" => out.push(rolling.required("")),
        _ => {
            let value = strategy.value.clone();
            out.push(FieldError::not_supported(&strategy.path, value, &["OnDelete", "RollingUpdate"]));
        }
    }
    non_negative(&spec.child("revisionHistoryLimit"), out);
}

/// StatefulSets.
pub(crate) static STATEFUL_SET: Kind = Kind {
    default: defaults::stateful_set,
    create: |_, object, out| stateful_set(object, out),
    update: Some(stateful_set_update),
    status_update: |_, object, old, out| {
        let status = At::root(object, "status");
        status_numbers(&status, &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"], out);
        collision_count(&status.child("collisionCount"), &old["status"]["collisionCount"], out);
    },
    name: names::name_is_dns_label,
    columns: columns::STATEFUL_SET,
    row: columns::stateful_set,
    ..Kind::FULL
};

fn stateful_set(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    let policy = spec.child("podManagementPolicy");
    match policy.text() {
        "OrderedReady" | "Parallel" => {}
        "" => out.push(policy.required("")),
        _ => out.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    stateful_strategy(&spec.child("updateStrategy"), out);
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        one_of(&retention.child("whenDeleted"), &["Delete", "Retain"], out);
        one_of(&retention.child("whenScaled"), &["Delete", "Retain"], out);
    }
    non_negative(&spec.child("replicas"), out);
    non_negative(&spec.child("minReadySeconds"), out);
    let ordinals = spec.child("ordinals");
    non_negative(&ordinals.child("start"), out);
    non_negative(&spec.child("revisionHistoryLimit"), out);
    selector_and_template(&spec, "statefulset", "StatefulSet", out);
}

fn stateful_strategy(at: &At<'_, '_>, out: &mut Findings) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").text() {
        "" => out.push(at.required("")),
        "OnDelete" => {
            if rolling.is_set() {
                out.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
            }
        }
        "RollingUpdate" => {
            non_negative(&rolling.child("partition"), out);
            let unavailable = rolling.child("maxUnavailable");
            int_or_percent(&unavailable, out);
            if unavailable.is_set() && is_zero(unavailable.value) {
                out.push(unavailable.invalid("cannot be 0"));
            }
            not_above_100_percent(&unavailable, out);
        }
        _ => out.push(at.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
}

fn stateful_set_update(_: &Context<'_>, object: &Value, old: &Value, out: &mut Findings) {
    stateful_set(object, out);
    let mut allowed = object["spec"].clone();
    for key in [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ] {
        restore(&mut allowed, &old["spec"], key);
    }
    // The status of claims in templates means nothing.
    let mut before = old["spec"].clone();
    for spec in [&mut allowed, &mut before] {
        crate::kinds::fill::each(spec, "volumeClaimTemplates", |claim| put(claim, "status", json!({})));
    }
    if !same(&allowed, &before) {
        const WHY: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
            'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
            forbidden";
        out.push(At::root(object, "spec").forbidden(WHY));
    }
}

/// ControllerRevisions.
pub(crate) static CONTROLLER_REVISION: Kind = Kind {
    create: |_, object, out| controller_revision(object, out),
    update: Some(|_, object, old, out| {
        controller_revision(object, out);
        immutable(&At::root(object, "data"), &old["data"], out);
    }),
    columns: &[
        NAME,
        column("Controller", "string", "What the revision is of"),
        column("Revision", "integer", "Number of the revision"),
        AGE,
    ],
    row: |object, now| {
        let owner = list(object, &["metadata", "ownerReferences"]).iter().find(|o| o["controller"] == true);
        let owner = owner.map_or(NONE.to_owned(), |owner| {
            let kind = text(owner, &["kind"]).to_lowercase();
            match text(owner, &["apiVersion"]).split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", text(owner, &["name"])),
                None => format!("{kind}/{}", text(owner, &["name"])),
            }
        });
        vec![name(object), owner.into(), object["revision"].as_i64().unwrap_or(0).into(), age_cell(object, now)]
    },
    ..Kind::PLAIN
};

fn controller_revision(object: &Value, out: &mut Findings) {
    non_negative(&At::root(object, "revision"), out);
    let data = At::root(object, "data");
    if !data.is_set() {
        out.push(data.required("data is mandatory"));
    }
}
