//! All rules for a PodSpec, in upstream's order, for Pods and templates of them.

use std::collections::HashSet;

use navarch_types::field::FieldError;
use navarch_types::validate::names;
use serde_json::Value;

use super::containers::{self, Surroundings};
use super::{dns, resources, scheduling, security, volumes};
use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{labels, one_of, shape, texts, within};

/// Grace when the spec does not say, as defaults have it.
const GRACE_SECONDS: i64 = 30;

/// Rules for a PodSpec; `pod_name` for volumes whose claims are named after the pod, empty in templates.
pub(crate) fn pod_spec(spec: &At<'_, '_>, pod_name: &str, out: &mut Findings) {
    let volumes = spec.child("volumes");
    let good = volumes::volumes(&volumes, pod_name, out);
    let claims = spec.child("resourceClaims");
    resources::claims(&claims, out);
    let claim_names: HashSet<&str> = claims.items().map(|c| c.child("name").text()).collect();
    let os = spec.child("os");
    let os_name = os.child("name");
    let pod = Surroundings {
        volumes: good,
        claims: claim_names,
        grace_seconds: spec.child("terminationGracePeriodSeconds").int().unwrap_or(GRACE_SECONDS),
        host_users: spec.child("hostUsers").value != &Value::Bool(false),
        os: os_name.text(),
        restart_policy: spec.child("restartPolicy").text(),
    };
    let ordinary = spec.child("containers");
    containers::containers(&ordinary, &pod, out);
    containers::init_containers(&spec.child("initContainers"), &ordinary, &pod, out);
    containers::ephemeral_containers(&spec.child("ephemeralContainers"), spec, &pod, out);
    resources::pod_level(&spec.child("resources"), spec.value, out);
    let policy = spec.child("dnsPolicy");
    one_of(&spec.child("restartPolicy"), &["Always", "OnFailure", "Never"], out);
    dns::policy(&policy, out);
    labels(&spec.child("nodeSelector"), out);
    host_namespaces(spec, out);
    security::pod(&spec.child("securityContext"), out);
    scheduling::affinity(&spec.child("affinity"), out);
    dns::config(&spec.child("dnsConfig"), policy.text(), out);
    scheduling::readiness_gates(&spec.child("readinessGates"), out);
    scheduling::scheduling_gates(&spec.child("schedulingGates"), out);
    scheduling::topology_spread(&spec.child("topologySpreadConstraints"), out);
    names_and_numbers(spec, out);
    scheduling::tolerations(&spec.child("tolerations"), out);
    dns::host_aliases(&spec.child("hostAliases"), out);
    resources::overhead(&spec.child("overhead"), out);
    operating_system(spec, out);
}

fn names_and_numbers(spec: &At<'_, '_>, out: &mut Findings) {
    shape(&spec.child("serviceAccountName"), names::dns1123_subdomain, out);
    shape(&spec.child("nodeName"), names::dns1123_subdomain, out);
    within(&spec.child("activeDeadlineSeconds"), 1, i64::from(i32::MAX), out);
    shape(&spec.child("hostname"), names::dns1123_label, out);
    shape(&spec.child("subdomain"), names::dns1123_label, out);
    shape(&spec.child("priorityClassName"), names::dns1123_subdomain, out);
    shape(&spec.child("runtimeClassName"), names::dns1123_subdomain, out);
    let preemption = spec.child("preemptionPolicy");
    if preemption.is_set() {
        one_of(&preemption, &["PreemptLowerPriority", "Never"], out);
    }
    let hostname = spec.child("hostnameOverride");
    if hostname.is_set() {
        if hostname.text().len() > 64 {
            out.push(FieldError::too_long(&hostname.path, 64));
        }
        texts(&hostname, names::dns1123_subdomain(hostname.text()), out);
        if spec.child("hostNetwork").is_true() {
            out.push(hostname.forbidden("may not be specified when 'hostNetwork' is true"));
        }
        if spec.child("setHostnameAsFQDN").is_true() {
            out.push(hostname.forbidden("may not be specified when 'setHostnameAsFQDN' is true"));
        }
    }
}

/// What follows from sharing namespaces of the host.
fn host_namespaces(spec: &At<'_, '_>, out: &mut Findings) {
    let network = spec.child("hostNetwork").is_true();
    if network {
        for container in spec.child("containers").items() {
            for port in container.child("ports").items() {
                let number = port.child("containerPort");
                if port.child("hostPort").int_or_zero() != number.int_or_zero() {
                    out.push(number.invalid("must match `hostPort` when `hostNetwork` is true"));
                }
            }
        }
    }
    let shared = spec.child("shareProcessNamespace");
    if shared.is_true() && spec.child("hostPID").is_true() {
        out.push(shared.invalid("ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    if spec.child("hostUsers").value == &Value::Bool(false) {
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            let field = spec.child(key);
            if field.is_true() {
                out.push(field.forbidden("when `hostUsers` is false"));
            }
        }
    }
}

/// Fields that only one operating system knows.
fn operating_system(spec: &At<'_, '_>, out: &mut Findings) {
    let os = spec.child("os");
    if !os.is_set() {
        return;
    }
    let name = os.child("name");
    if name.is_empty() {
        out.push(name.required("cannot be empty"));
    } else if !matches!(name.text(), "linux" | "windows") {
        out.push(name.not_supported(&["linux", "windows"]));
    }
    let pod_context = spec.child("securityContext");
    match name.text() {
        "linux" => {
            let mut refuse = |context: &At<'_, '_>| {
                let field = context.child("windowsOptions");
                if field.is_set() {
                    out.push(field.forbidden("windows options cannot be set for a linux pod"));
                }
            };
            refuse(&pod_context);
            for list in ["containers", "initContainers"] {
                for container in spec.child(list).items() {
                    refuse(&container.child("securityContext"));
                }
            }
        }
        "windows" => windows(spec, &pod_context, out),
        _ => {}
    }
}

fn windows(spec: &At<'_, '_>, pod_context: &At<'_, '_>, out: &mut Findings) {
    const WHY: &str = "cannot be set for a windows pod";
    let mut refuse = |field: At<'_, '_>, set: bool| {
        if set {
            out.push(field.forbidden(WHY));
        }
    };
    for key in ["hostPID", "hostIPC"] {
        refuse(spec.child(key), spec.child(key).is_true());
    }
    refuse(spec.child("shareProcessNamespace"), spec.child("shareProcessNamespace").is_set());
    refuse(spec.child("hostUsers"), spec.child("hostUsers").is_set());
    for key in [
        "appArmorProfile",
        "seLinuxOptions",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seccompProfile",
    ] {
        refuse(pod_context.child(key), !pod_context.child(key).is_empty());
    }
    for list in ["containers", "initContainers"] {
        for container in spec.child(list).items() {
            let context = container.child("securityContext");
            for key in [
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
                "runAsUser",
                "runAsGroup",
            ] {
                refuse(context.child(key), !context.child(key).is_empty());
            }
        }
    }
}

/// Rules for a template `{metadata, spec}`.
pub(crate) fn template(at: &At<'_, '_>, out: &mut Findings) {
    let metadata = at.child("metadata");
    labels(&metadata.child("labels"), out);
    annotations(&metadata.child("annotations"), out);
    pod_spec(&at.child("spec"), "", out);
    let spec = at.child("spec");
    let ephemeral = spec.child("ephemeralContainers");
    if !ephemeral.is_empty() {
        out.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

fn annotations(at: &At<'_, '_>, out: &mut Findings) {
    for (key, _) in at.entries() {
        let wrong = names::qualified_name(&key.to_lowercase());
        out.extend(wrong.into_iter().map(|t| FieldError::invalid(&at.path, key, t)));
    }
}

/// Rules for a Pod as a whole, beyond its metadata.
pub(crate) fn pod(object: &Value, out: &mut Findings) {
    let spec = At::root(object, "spec");
    pod_spec(&spec, object["metadata"]["name"].as_str().unwrap_or(""), out);
    if spec.child("serviceAccountName").is_empty() {
        for volume in spec.child("volumes").items() {
            let projected = volume.child("projected");
            for source in projected.child("sources").items() {
                let token = source.child("serviceAccountToken");
                if token.is_set() {
                    out.push(token.forbidden("must not be specified when serviceAccountName is not set"));
                }
            }
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        containers::pod_only(&spec.child(list), out);
    }
}
