//! Security contexts, of the pod and of its containers.

use std::collections::HashSet;

use navarch_types::field::FieldError;
use navarch_types::validate::ranges;

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{one_of, supported_if_set, texts};

const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const SYSCTL_BYTES_MAX: usize = 253;

fn id(at: &At<'_, '_>, out: &mut Findings) {
    if let Some(number) = at.int() {
        texts(at, ranges::user_id(number), out);
    }
}

/// Rules for a container's `securityContext`.
pub(crate) fn container(at: &At<'_, '_>, host_users: bool, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    id(&at.child("runAsUser"), out);
    id(&at.child("runAsGroup"), out);
    profile(&at.child("seccompProfile"), "seccomp", out);
    let proc_mount = at.child("procMount");
    supported_if_set(&proc_mount, &["Default", "Unmasked"], out);
    if host_users && proc_mount.text() == "Unmasked" {
        out.push(proc_mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    if at.child("allowPrivilegeEscalation").value == &serde_json::Value::Bool(false) {
        if at.child("privileged").is_true() {
            out.push(at.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
        }
        let capabilities = at.child("capabilities");
        let added = capabilities.child("add");
        if added.items().any(|c| c.text() == "CAP_SYS_ADMIN") {
            const WHY: &str = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            out.push(at.invalid(WHY));
        }
    }
    windows_options(&at.child("windowsOptions"), out);
    profile(&at.child("appArmorProfile"), "AppArmor", out);
}

/// Rules for the pod's `securityContext`.
pub(crate) fn pod(at: &At<'_, '_>, out: &mut Findings) {
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&at.child(key), out);
    }
    for group in at.child("supplementalGroups").items() {
        id(&group, out);
    }
    sysctls(&at.child("sysctls"), out);
    supported_if_set(&at.child("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], out);
    supported_if_set(&at.child("supplementalGroupsPolicy"), &["Merge", "Strict"], out);
    supported_if_set(&at.child("seLinuxChangePolicy"), &["MountOption", "Recursive"], out);
    profile(&at.child("seccompProfile"), "seccomp", out);
    windows_options(&at.child("windowsOptions"), out);
    profile(&at.child("appArmorProfile"), "AppArmor", out);
}

fn profile(at: &At<'_, '_>, what: &str, out: &mut Findings) {
    if !at.is_set() {
        return;
    }
    let (kind, local) = (at.child("type"), at.child("localhostProfile"));
    if kind.is_empty() {
        let field = if what == "seccomp" { "seccompProfile" } else { "appArmorProfile" };
        out.push(kind.required(&format!("type is required when {field} is set")));
    } else {
        one_of(&kind, PROFILE_TYPES, out);
    }
    if kind.text() == "Localhost" {
        if local.text().trim().is_empty() {
            out.push(local.required(&format!("must be set when {what} type is Localhost")));
        } else if what == "seccomp" {
            out.extend(ranges::local_descending_path(&local.path, local.text()));
        } else if local.text().trim() != local.text() {
            out.push(local.invalid("must not be padded with whitespace"));
        }
    } else if local.is_set() {
        out.push(local.invalid(format!("can only be set when {what} type is Localhost")));
    }
}

fn is_sysctl(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= SYSCTL_BYTES_MAX
        && name
            .split(['.', '/'])
            .all(|part| edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner))
}

fn sysctls(at: &At<'_, '_>, out: &mut Findings) {
    const PATTERN: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen = HashSet::new();
    for sysctl in at.items() {
        let name = sysctl.child("name");
        if name.is_empty() {
            out.push(name.required(""));
        } else if !is_sysctl(name.text()) {
            out.push(
                name.invalid(format!("must have at most {SYSCTL_BYTES_MAX} characters and match regex {PATTERN}")),
            );
        } else if !seen.insert(name.text().replace('/', ".")) {
            out.push(name.duplicate());
        }
    }
}

fn windows_options(at: &At<'_, '_>, out: &mut Findings) {
    const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;
    let credential = at.child("gmsaCredentialSpec");
    if credential.is_set() {
        if credential.is_empty() {
            out.push(credential.invalid("gmsaCredentialSpec cannot be an empty string"));
        } else if credential.text().len() > CREDENTIALS_BYTES_MAX {
            out.push(FieldError::too_long(&credential.path, CREDENTIALS_BYTES_MAX));
        }
    }
    let user = at.child("runAsUserName");
    if user.is_set() && user.is_empty() {
        out.push(user.invalid("runAsUserName cannot be an empty string"));
    } else if user.text().matches('\\').count() > 1 {
        out.push(user.invalid("runAsUserName cannot contain more than one backslash"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::rules::rendered;

    #[test]
    fn contexts_are_judged() {
        let cases: [(bool, Value, &str); 9] = [
            (
                false,
                json!({"runAsUser": -1}),
                "c.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ),
            (
                false,
                json!({"allowPrivilegeEscalation": false, "privileged": true}),
                "c: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ),
            (
                false,
                json!({"procMount": "x"}),
                "c.procMount: Unsupported value: \"x\": supported values: \"Default\", \"Unmasked\"",
            ),
            (
                false,
                json!({"seccompProfile": {"type": "Localhost"}}),
                "c.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ),
            (
                false,
                json!({"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "a"}}),
                "c.seccompProfile.localhostProfile: Invalid value: \"a\": can only be set when seccomp type is Localhost",
            ),
            (
                false,
                json!({"appArmorProfile": {}}),
                "c.appArmorProfile.type: Required value: type is required when appArmorProfile is set",
            ),
            (
                true,
                json!({"supplementalGroups": [1, -5]}),
                "c.supplementalGroups[1]: Invalid value: -5: must be between 0 and 2147483647, inclusive",
            ),
            (
                true,
                json!({"fsGroupChangePolicy": "x"}),
                "c.fsGroupChangePolicy: Unsupported value: \"x\": supported values: \"Always\", \"OnRootMismatch\"",
            ),
            (
                true,
                json!({"sysctls": [{"name": "a.b"}, {"name": "a/b"}]}),
                "c.sysctls[1].name: Duplicate value: \"a/b\"",
            ),
        ];
        for (of_pod, context, want) in cases {
            let object = json!({"c": context});
            let (at, mut out) = (At::root(&object, "c"), Findings::new());
            if of_pod {
                pod(&at, &mut out);
            } else {
                container(&at, true, &mut out);
            }
            assert_eq!(rendered(&out), [want]);
        }
    }
}
