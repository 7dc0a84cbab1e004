//! The controls of the level `baseline`: no known ways out of a container.

use serde_json::Value;

use super::super::json::{at, items, text};
use super::Violation;
use super::containers::{all, context, quoted, violation, which};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];

/// The violated controls, in upstream's order.
pub(super) fn violations(pod: &Value) -> Vec<Violation> {
    let controls: [fn(&Value) -> Option<Violation>; 12] = [
        app_armor,
        capabilities,
        host_namespaces,
        host_path,
        host_ports,
        probe_hosts,
        privileged,
        proc_mount,
        selinux,
        seccomp,
        sysctls,
        windows_host_process,
    ];
    controls.iter().filter_map(|control| control(pod)).collect()
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool) == Some(true)
}

fn app_armor(pod: &Value) -> Option<Violation> {
    let bad = |profile: &str| !profile.is_empty() && profile != "RuntimeDefault" && profile != "Localhost";
    let mut places = Vec::new();
    let whole = text(pod, &["spec", "securityContext", "appArmorProfile", "type"]);
    if bad(whole) {
        places.push(format!("pod must not set AppArmor profile type to {whole:?}"));
    }
    let names = which(pod, |c| bad(text(c, &["securityContext", "appArmorProfile", "type"])));
    if let Some(v) = violation("", &names, "must not set AppArmor profile type to \"Unconfined\"") {
        places.push(v.detail);
    }
    let annotations = at(pod, &["metadata", "annotations"]).and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        let profile = value.as_str().unwrap_or_default();
        let fine = profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !fine {
            places.push(format!("{key}={profile:?}"));
        }
    }
    (!places.is_empty()).then(|| Violation { reason: "forbidden AppArmor profile", detail: places.join(", ") })
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let mut forbidden = Vec::new();
    let names = which(pod, |c| {
        let added = context(c, &["capabilities", "add"]).and_then(Value::as_array).into_iter().flatten();
        let bad: Vec<_> =
            added.filter_map(Value::as_str).filter(|a| !CAPABILITIES.contains(a)).map(str::to_owned).collect();
        let any = !bad.is_empty();
        forbidden.extend(bad);
        any
    });
    forbidden.sort_unstable();
    forbidden.dedup();
    let rest = format!("must not include {} in securityContext.capabilities.add", quoted(&forbidden));
    violation("non-default capabilities", &names, &rest)
}

fn host_namespaces(pod: &Value) -> Option<Violation> {
    let set: Vec<_> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| is_true(at(pod, &["spec", field])))
        .map(|field| format!("{field}=true"))
        .collect();
    (!set.is_empty()).then(|| Violation { reason: "host namespaces", detail: set.join(", ") })
}

fn host_path(pod: &Value) -> Option<Violation> {
    let names: Vec<_> = items(pod, &["spec", "volumes"])
        .filter(|v| at(v, &["hostPath"]).is_some())
        .map(|v| text(v, &["name"]).to_owned())
        .collect();
    let noun = if names.len() == 1 { "volume" } else { "volumes" };
    (!names.is_empty()).then(|| Violation { reason: "hostPath volumes", detail: format!("{noun} {}", quoted(&names)) })
}

fn host_ports(pod: &Value) -> Option<Violation> {
    let mut ports = Vec::new();
    let names = which(pod, |c| {
        let own: Vec<_> =
            items(c, &["ports"]).filter_map(|p| at(p, &["hostPort"])?.as_i64()).filter(|p| *p != 0).collect();
        ports.extend(own.iter().copied());
        !own.is_empty()
    });
    ports.sort_unstable();
    ports.dedup();
    let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
    violation("hostPort", &names, &format!("{verb} {noun} {list}"))
}

/// A probe or hook with a host of its own makes the kubelet call anybody.
fn probe_hosts(pod: &Value) -> Option<Violation> {
    let handlers: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let names = which(pod, |c| {
        handlers
            .iter()
            .filter_map(|path| at(c, path))
            .any(|handler| ["httpGet", "tcpSocket"].iter().any(|kind| !text(handler, &[kind, "host"]).is_empty()))
    });
    violation("probe or lifecycle host", &names, "must not set host in probes or lifecycle hooks")
}

fn privileged(pod: &Value) -> Option<Violation> {
    let names = which(pod, |c| is_true(context(c, &["privileged"])));
    violation("privileged", &names, "must not set securityContext.privileged=true")
}

fn proc_mount(pod: &Value) -> Option<Violation> {
    // In a user namespace of its own the pod's proc is harmless.
    if at(pod, &["spec", "hostUsers"]) == Some(&Value::Bool(false)) {
        return None;
    }
    let names = which(pod, |c| {
        context(c, &["procMount"]).and_then(Value::as_str).is_some_and(|m| m != "Default" && !m.is_empty())
    });
    violation("procMount", &names, "must not set securityContext.procMount to \"Unmasked\"")
}

fn selinux(pod: &Value) -> Option<Violation> {
    let bad = |options: Option<&Value>| {
        options.is_some_and(|o| {
            let field = |name| text(o, &[name]);
            !SELINUX_TYPES.contains(&field("type")) || !field("user").is_empty() || !field("role").is_empty()
        })
    };
    let whole = bad(at(pod, &["spec", "securityContext", "seLinuxOptions"]));
    let names = which(pod, |c| bad(context(c, &["seLinuxOptions"])));
    let mut who = Vec::new();
    if whole {
        who.push("pod".to_owned());
    }
    if !names.is_empty() {
        who.push(format!("container{} {}", if names.len() == 1 { "" } else { "s" }, quoted(&names)));
    }
    let detail = format!("{} set forbidden securityContext.seLinuxOptions: type, user or role", who.join(" and "));
    (!who.is_empty()).then_some(Violation { reason: "seLinuxOptions", detail })
}

fn seccomp(pod: &Value) -> Option<Violation> {
    let bad = |profile: &str| profile == "Unconfined";
    let mut who = Vec::new();
    if bad(text(pod, &["spec", "securityContext", "seccompProfile", "type"])) {
        who.push("pod".to_owned());
    }
    let names = which(pod, |c| bad(text(c, &["securityContext", "seccompProfile", "type"])));
    if !names.is_empty() {
        who.push(format!("container{} {}", if names.len() == 1 { "" } else { "s" }, quoted(&names)));
    }
    let detail = format!("{} must not set securityContext.seccompProfile.type to \"Unconfined\"", who.join(" and "));
    (!who.is_empty()).then_some(Violation { reason: "seccompProfile", detail })
}

fn sysctls(pod: &Value) -> Option<Violation> {
    let names: Vec<_> = items(pod, &["spec", "securityContext", "sysctls"])
        .map(|s| text(s, &["name"]).to_owned())
        .filter(|name| !SYSCTLS.contains(&name.as_str()))
        .collect();
    (!names.is_empty()).then(|| Violation { reason: "forbidden sysctls", detail: names.join(", ") })
}

fn windows_host_process(pod: &Value) -> Option<Violation> {
    let whole = is_true(at(pod, &["spec", "securityContext", "windowsOptions", "hostProcess"]));
    let any = all(pod).any(|c| is_true(context(c, &["windowsOptions", "hostProcess"])));
    let detail = "must not set securityContext.windowsOptions.hostProcess=true".to_owned();
    (whole || any).then_some(Violation { reason: "hostProcess", detail })
}
