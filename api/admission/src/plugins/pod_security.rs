//! PodSecurity: the pod security standards, by the labels of the namespace.
//!
//! `pod-security.kubernetes.io/enforce` refuses pods, `…/warn` warns of pods and of workloads whose pods would violate. The
//! checks are those of the newest version, whatever `…-version` asks for. A level that is not known enforces `restricted`.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::ObjectView;
use navarch_auth::view::NAMESPACES;
use serde_json::Value;

use super::json::at;
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

mod baseline;
mod containers;
mod restricted;

/// One violated control: what it is about, and the places.
pub(super) struct Violation {
    reason: &'static str,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

pub(super) struct PodSecurity {
    view: Arc<dyn ObjectView>,
}

/// Fields of a pod whose change is no matter of security.
fn is_same_for_security(old: &Value, new: &Value) -> bool {
    let strip = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
                spec.remove(field);
            }
        }
        spec
    };
    strip(old) == strip(new)
}

impl PodSecurity {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    /// Level and version of a mode.
    fn policy(&self, namespace: &str, mode: &str) -> (Level, String) {
        let metadata = self.view.get(&NAMESPACES, "", namespace);
        let labels =
            metadata.as_ref().and_then(|o| o.metadata().ok()).and_then(|m| m.labels.clone()).unwrap_or_default();
        let label = |suffix: &str| labels.get(&format!("pod-security.kubernetes.io/{mode}{suffix}")).cloned();
        let level = match label("").as_deref() {
            None | Some("privileged") => Level::Privileged,
            Some("baseline") => Level::Baseline,
            Some("restricted") => Level::Restricted,
            Some(_) if mode == "enforce" => Level::Restricted,
            Some(_) => Level::Privileged,
        };
        (level, label("-version").unwrap_or_else(|| "latest".to_owned()))
    }
}

fn violations(level: Level, pod: &Value) -> Vec<Violation> {
    match level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline::violations(pod),
        Level::Restricted => {
            let mut all = baseline::violations(pod);
            // Restricted has a stricter control of these two.
            all.retain(|v| !matches!(v.reason, "non-default capabilities" | "seccompProfile"));
            all.extend(restricted::violations(pod));
            all
        }
    }
}

fn describe(policy: &(Level, String), found: &[Violation]) -> String {
    let list: Vec<_> = found
        .iter()
        .map(|v| if v.detail.is_empty() { v.reason.to_owned() } else { format!("{} ({})", v.reason, v.detail) })
        .collect();
    format!("violate PodSecurity \"{}:{}\": {}", policy.0.name(), policy.1, list.join(", "))
}

/// The pod template in a workload.
fn template<'a>(resource: &str, object: &'a Value) -> Option<&'a Value> {
    let path: &[&str] = match resource {
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" | "jobs" | "replicationcontrollers" => {
            &["spec", "template"]
        }
        "cronjobs" => &["spec", "jobTemplate", "spec", "template"],
        "podtemplates" => &["template"],
        _ => return None,
    };
    at(object, path)
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let group = attributes.resource.group.as_ref();
        let workload = matches!(group, "apps" | "batch")
            || (group.is_empty()
                && matches!(attributes.resource.resource.as_ref(), "pods" | "replicationcontrollers" | "podtemplates"));
        let subresource = attributes.subresource.is_empty()
            || (attributes.is("", "pods") && attributes.subresource == "ephemeralcontainers");
        writes && workload && subresource
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let warn = self.policy(attributes.namespace, "warn");
        if attributes.is("", "pods") {
            if attributes.operation == Operation::Update
                && attributes.old.is_some_and(|old| is_same_for_security(old, object))
            {
                return FINE;
            }
            let enforce = self.policy(attributes.namespace, "enforce");
            let found = violations(enforce.0, object);
            if !found.is_empty() {
                let text = describe(&enforce, &found).replacen("violate", "violates", 1);
                return Err(attributes.forbidden(text));
            }
            let found = violations(warn.0, object);
            return Ok(if found.is_empty() { Vec::new() } else { vec![format!("would {}", describe(&warn, &found))] });
        }
        let Some(template) = template(&attributes.resource.resource, object) else { return FINE };
        let found = violations(warn.0, template);
        Ok(if found.is_empty() { Vec::new() } else { vec![format!("would {}", describe(&warn, &found))] })
    }
}

#[cfg(test)]
mod tests;
