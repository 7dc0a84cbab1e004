//! Rules for containers of all three kinds: ordinary, init (with sidecars) and ephemeral.

pub(crate) mod env;
mod mounts;
pub(crate) mod probes;

use std::collections::{BTreeMap, HashSet};

use navarch_types::validate::{names, ranges};
use serde_json::Value;

use super::{resources, security};
use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{one_of, required, required_shape, texts};

/// What rules for a container need to know of its pod.
pub(crate) struct Surroundings<'v> {
    /// The volumes that were right, by name.
    pub volumes: BTreeMap<&'v str, &'v Value>,
    /// The names of the pod's resource claims.
    pub claims: HashSet<&'v str>,
    /// Seconds that containers get to end.
    pub grace_seconds: i64,
    /// Whether the pod shares the host's user namespace.
    pub host_users: bool,
    /// The name in `spec.os`, if any.
    pub os: &'v str,
    /// Whether the pod restarts its containers.
    pub restart_policy: &'v str,
}

/// Rules for ordinary containers.
pub(crate) fn containers(at: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    if at.is_empty() {
        out.push(at.required(""));
        return;
    }
    let mut seen = HashSet::new();
    for container in at.items() {
        common(&container, pod, out);
        let name = container.child("name");
        if !seen.insert(name.text()) {
            out.push(name.duplicate());
        }
        running(&container, pod, out);
        restart_rules(&container, out);
    }
    host_ports(at.items(), out);
}

/// Rules for init containers; `ordinary` are the names that are taken.
pub(crate) fn init_containers(at: &At<'_, '_>, ordinary: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    let mut seen: HashSet<&str> = ordinary.items().map(|c| c.child("name").text()).collect();
    for container in at.items() {
        common(&container, pod, out);
        let name = container.child("name");
        if !name.is_empty() && !seen.insert(name.text()) {
            out.push(name.duplicate());
        }
        host_ports(std::iter::once(container), out);
        if container.child("restartPolicy").text() == "Always" {
            running(&container, pod, out);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                let field = container.child(key);
                if field.is_set() {
                    out.push(field.forbidden("may not be set for init containers without restartPolicy=Always"));
                }
            }
        }
        restart_rules(&container, out);
    }
}

/// Fields that a container started for debugging may not have.
const NOT_EPHEMERAL: [&str; 8] = [
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "startupProbe",
];

/// Rules for ephemeral containers.
pub(crate) fn ephemeral_containers(at: &At<'_, '_>, spec: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    let ordinary = spec.child("containers");
    let init = spec.child("initContainers");
    let targets: HashSet<&str> = ordinary.items().chain(init.items()).map(|c| c.child("name").text()).collect();
    let mut seen = targets.clone();
    for container in at.items() {
        common(&container, pod, out);
        let name = container.child("name");
        if !name.is_empty() && !seen.insert(name.text()) {
            out.push(name.duplicate());
        }
        let target = container.child("targetContainerName");
        if !target.is_empty() && !targets.contains(target.text()) {
            out.push(target.not_found());
        }
        for key in NOT_EPHEMERAL {
            let field = container.child(key);
            if !field.is_empty() {
                out.push(field.forbidden("cannot be set for an Ephemeral Container"));
            }
        }
        let mounts = container.child("volumeMounts");
        for mount in mounts.items() {
            for key in ["subPath", "subPathExpr"] {
                let field = mount.child(key);
                if !field.is_empty() {
                    out.push(field.forbidden("cannot be set for an Ephemeral Container"));
                }
            }
        }
    }
}

/// What holds for every container.
fn common(at: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    required_shape(&at.child("name"), names::dns1123_label, out);
    required(&at.child("image"), out);
    one_of(&at.child("terminationMessagePolicy"), &["FallbackToLogsOnError", "File"], out);
    ports(&at.child("ports"), out);
    env::variables(&at.child("env"), pod, out);
    env::sources(&at.child("envFrom"), out);
    let privileged = at.value["securityContext"]["privileged"] == true;
    mounts::mounts(&at.child("volumeMounts"), &at.child("volumeDevices"), privileged, pod, out);
    mounts::devices(&at.child("volumeDevices"), &at.child("volumeMounts"), pod, out);
    one_of(&at.child("imagePullPolicy"), &["Always", "IfNotPresent", "Never"], out);
    resources::requirements(&at.child("resources"), &pod.claims, out);
    resources::resize_policy(&at.child("resizePolicy"), pod.restart_policy, out);
    security::container(&at.child("securityContext"), pod.host_users, out);
}

/// What holds for containers that go on running.
fn running(at: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    probes::lifecycle(&at.child("lifecycle"), pod.grace_seconds, pod.os, out);
    probes::liveness(&at.child("livenessProbe"), pod.grace_seconds, out);
    probes::readiness(&at.child("readinessProbe"), pod.grace_seconds, out);
    probes::startup(&at.child("startupProbe"), pod.grace_seconds, out);
}

/// How many rules on restarts a container may have, and how many exit codes one may name.
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

fn restart_rules(at: &At<'_, '_>, out: &mut Findings) {
    let policy = at.child("restartPolicy");
    crate::kinds::rules::supported_if_set(&policy, &["Always", "Never", "OnFailure"], out);
    let rules = at.child("restartPolicyRules");
    if rules.is_empty() {
        return;
    }
    if !policy.is_set() {
        out.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.len() > RESTART_RULES_MAX {
        out.push(navarch_types::field::FieldError::too_many(&rules.path, rules.len(), RESTART_RULES_MAX));
    }
    for rule in rules.items() {
        one_of(&rule.child("action"), &["Restart", "RestartAllContainers"], out);
        let codes = rule.child("exitCodes");
        if !codes.is_set() {
            out.push(codes.required("must be specified"));
            continue;
        }
        one_of(&codes.child("operator"), &["In", "NotIn"], out);
        let values = codes.child("values");
        if values.is_empty() {
            out.push(values.required("must be specified"));
        }
        if values.len() > EXIT_CODES_MAX {
            out.push(navarch_types::field::FieldError::too_many(&values.path, values.len(), EXIT_CODES_MAX));
        }
    }
}

fn ports(at: &At<'_, '_>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for port in at.items() {
        let name = port.child("name");
        if !name.is_empty() {
            let wrong = names::port_name(name.text());
            if !wrong.is_empty() {
                texts(&name, wrong, out);
            } else if !seen.insert(name.text()) {
                out.push(name.duplicate());
            }
        }
        let number = port.child("containerPort");
        match number.int_or_zero() {
            0 => out.push(number.required("")),
            n => texts(&number, ranges::port_number(n), out),
        }
        let host = port.child("hostPort");
        if host.int_or_zero() != 0 {
            texts(&host, ranges::port_number(host.int_or_zero()), out);
        }
        one_of(&port.child("protocol"), &["SCTP", "TCP", "UDP"], out);
    }
}

/// No two ports of these containers on one port of the host.
fn host_ports<'v, 'p>(containers: impl Iterator<Item = At<'v, 'p>>, out: &mut Findings) {
    let mut seen = HashSet::new();
    for container in containers {
        let ports = container.child("ports");
        for port in ports.items() {
            let number = port.child("hostPort");
            if number.int_or_zero() == 0 {
                continue;
            }
            let (protocol, ip) = (port.child("protocol"), port.child("hostIP"));
            let text = format!("{}/{}/{}", protocol.text(), ip.text(), number.int_or_zero());
            if seen.contains(&text) {
                out.push(navarch_types::field::FieldError::duplicate(&number.path, text));
            } else {
                seen.insert(text);
            }
        }
    }
}

/// What holds for a pod's containers and not for those of a template: images are taken as they are written.
pub(crate) fn pod_only(at: &At<'_, '_>, out: &mut Findings) {
    for container in at.items() {
        let image = container.child("image");
        if image.text().trim() != image.text() {
            out.push(image.invalid("must not have leading or trailing whitespace"));
        }
    }
}
