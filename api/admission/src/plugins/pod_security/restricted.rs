//! What the level `restricted` asks for beyond `baseline`: current practice of hardening pods.

use serde_json::Value;

use super::super::json::{at, items, text};
use super::Violation;
use super::containers::{context, quoted, violation, which};

/// The types of volume that do not reach out of the pod.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];

/// The violated controls, in upstream's order.
pub(super) fn violations(pod: &Value) -> Vec<Violation> {
    // Windows knows neither of the first two, nor seccomp.
    let windows = text(pod, &["spec", "os", "name"]) == "windows";
    let mut all = Vec::new();
    if !windows {
        all.extend(privilege_escalation(pod));
        all.extend(capabilities(pod));
    }
    all.extend(volumes(pod));
    all.extend(run_as_non_root(pod));
    all.extend(run_as_user(pod));
    if !windows {
        all.extend(seccomp(pod));
    }
    all
}

fn privilege_escalation(pod: &Value) -> Option<Violation> {
    let names = which(pod, |c| context(c, &["allowPrivilegeEscalation"]) != Some(&Value::Bool(false)));
    let rest = "must set securityContext.allowPrivilegeEscalation=false";
    violation("allowPrivilegeEscalation != false", &names, rest)
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let has = |c: &Value, field: &str, test: &dyn Fn(&str) -> bool| {
        let list = context(c, &["capabilities", field]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).any(test)
    };
    let keep = which(pod, |c| !has(c, "drop", &|d| d == "ALL"));
    let add = which(pod, |c| has(c, "add", &|a| a != "NET_BIND_SERVICE"));
    let parts: Vec<_> = [
        violation("", &keep, "must set securityContext.capabilities.drop=[\"ALL\"]"),
        violation("", &add, "must not include anything but \"NET_BIND_SERVICE\" in securityContext.capabilities.add"),
    ]
    .into_iter()
    .flatten()
    .map(|v| v.detail)
    .collect();
    (!parts.is_empty()).then(|| Violation { reason: "unrestricted capabilities", detail: parts.join("; ") })
}

fn volumes(pod: &Value) -> Option<Violation> {
    let (mut names, mut types) = (Vec::new(), Vec::new());
    for volume in items(pod, &["spec", "volumes"]) {
        let sources = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).filter(|k| *k != "name");
        for source in sources.filter(|s| !VOLUMES.contains(s)) {
            names.push(text(volume, &["name"]).to_owned());
            types.push(source.to_owned());
        }
    }
    types.sort_unstable();
    types.dedup();
    let (noun, verb) = if names.len() == 1 { ("volume", "uses") } else { ("volumes", "use") };
    let plural = if types.len() == 1 { "" } else { "s" };
    let detail = format!("{noun} {} {verb} restricted volume type{plural} {}", quoted(&names), quoted(&types));
    (!names.is_empty()).then_some(Violation { reason: "restricted volume types", detail })
}

fn run_as_non_root(pod: &Value) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let yes = |v: Option<&Value>| v == Some(&Value::Bool(true));
    let whole = at(pod, &["spec", "securityContext", "runAsNonRoot"]);
    let explicit = which(pod, |c| context(c, &["runAsNonRoot"]) == Some(&Value::Bool(false)));
    if !explicit.is_empty() {
        return violation(reason, &explicit, "must not set securityContext.runAsNonRoot=false");
    }
    if yes(whole) {
        return None;
    }
    let names = which(pod, |c| !yes(context(c, &["runAsNonRoot"])));
    let found = violation(reason, &names, "must set securityContext.runAsNonRoot=true")?;
    Some(Violation { reason, detail: format!("pod or {}", found.detail) })
}

fn run_as_user(pod: &Value) -> Option<Violation> {
    let root = |v: Option<&Value>| v.and_then(Value::as_i64) == Some(0);
    let mut parts = Vec::new();
    if root(at(pod, &["spec", "securityContext", "runAsUser"])) {
        parts.push("pod".to_owned());
    }
    let names = which(pod, |c| root(context(c, &["runAsUser"])));
    if !names.is_empty() {
        parts.push(format!("container{} {}", if names.len() == 1 { "" } else { "s" }, quoted(&names)));
    }
    let detail = format!("{} must not set runAsUser=0", parts.join(" and "));
    (!parts.is_empty()).then_some(Violation { reason: "runAsUser=0", detail })
}

fn seccomp(pod: &Value) -> Option<Violation> {
    let reason = "seccompProfile";
    let fine = |profile: &str| matches!(profile, "RuntimeDefault" | "Localhost");
    let own = |c: &Value| text(c, &["securityContext", "seccompProfile", "type"]).to_owned();
    let rest = "securityContext.seccompProfile.type to";
    let bad = which(pod, |c| !own(c).is_empty() && !fine(&own(c)));
    if !bad.is_empty() {
        return violation(reason, &bad, &format!("must not set {rest} \"Unconfined\""));
    }
    let whole = text(pod, &["spec", "securityContext", "seccompProfile", "type"]);
    if fine(whole) {
        return None;
    }
    let names = which(pod, |c| !fine(&own(c)));
    let found = violation(reason, &names, &format!("must set {rest} \"RuntimeDefault\" or \"Localhost\""))?;
    Some(Violation { reason, detail: format!("pod or {}", found.detail) })
}
