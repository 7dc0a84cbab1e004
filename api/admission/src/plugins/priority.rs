//! Priority: the number behind a pod's priority class, the preemption policy with it, and who may change classes.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use navarch_auth::ObjectView;
use navarch_auth::view::PRIORITY_CLASSES;
use serde_json::{Value, json};

use super::json::{at, is_unset, map_mut, text};
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

/// Classes that are there without an object, and cannot be changed.
const BUILT_IN: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) struct Priority {
    view: Arc<dyn ObjectView>,
}

/// What a class gives to a pod.
struct Class {
    name: String,
    value: i32,
    preemption: String,
}

impl Priority {
    pub(super) fn new(view: Arc<dyn ObjectView>) -> Self {
        Self { view }
    }

    fn class(&self, name: &str) -> Option<Class> {
        if let Some((name, value)) = BUILT_IN.iter().find(|(n, _)| *n == name) {
            return Some(Class { name: (*name).to_owned(), value: *value, preemption: PREEMPT.to_owned() });
        }
        let class = self.view.get(&PRIORITY_CLASSES, "", name)?.typed::<PriorityClass>().ok()?;
        Some(of(&class))
    }

    /// The class of pods that name none; of several the lowest.
    fn default_class(&self) -> Class {
        let classes = self.view.list(&PRIORITY_CLASSES, None);
        let defaults = classes.iter().filter_map(|o| o.typed::<PriorityClass>().ok());
        let lowest = defaults.filter(|c| c.global_default == Some(true)).min_by_key(|c| c.value.unwrap_or_default());
        lowest.map_or(Class { name: String::new(), value: 0, preemption: PREEMPT.to_owned() }, |c| of(&c))
    }

    fn admit_pod(&self, attributes: &AdmissionAttributes<'_>, pod: &mut Value) -> Verdict {
        let name = text(pod, &["spec", "priorityClassName"]).to_owned();
        let class = if name.is_empty() {
            self.default_class()
        } else {
            let missing = || attributes.forbidden(format!("no PriorityClass with name {name} was found"));
            self.class(&name).ok_or_else(missing)?
        };
        let given = at(pod, &["spec", "priority"]).and_then(Value::as_i64);
        if given.is_some_and(|g| g != i64::from(class.value)) {
            return Err(attributes.forbidden(format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
                 computed {} from the given PriorityClass name",
                given.unwrap_or_default(),
                class.value
            )));
        }
        let policy = text(pod, &["spec", "preemptionPolicy"]);
        if !policy.is_empty() && policy != class.preemption {
            return Err(attributes.forbidden(format!(
                "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                class.preemption
            )));
        }
        if let Some(spec) = map_mut(pod, &["spec"]) {
            spec.insert("priority".to_owned(), json!(class.value));
            spec.insert("preemptionPolicy".to_owned(), json!(class.preemption));
            if !class.name.is_empty() {
                spec.insert("priorityClassName".to_owned(), json!(class.name));
            }
        }
        FINE
    }
}

const PREEMPT: &str = "PreemptLowerPriority";

fn of(class: &PriorityClass) -> Class {
    Class {
        name: class.metadata.name.clone().unwrap_or_default(),
        value: class.value.unwrap_or_default(),
        preemption: class.preemption_policy.clone().unwrap_or_else(|| PREEMPT.to_owned()),
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let resource = attributes.is("", "pods") || attributes.is("scheduling.k8s.io", "priorityclasses");
        writes && attributes.subresource.is_empty() && resource
    }

    async fn mutate(&self, attributes: &AdmissionAttributes<'_>, object: &mut Value) -> Verdict {
        if !attributes.is("", "pods") {
            return FINE;
        }
        if attributes.operation == Operation::Create {
            return self.admit_pod(attributes, object);
        }
        // Older clients send pods back without what they do not know.
        let old = attributes.old.unwrap_or(&Value::Null);
        for field in ["priority", "preemptionPolicy"] {
            if let Some(value) = at(old, &["spec", field]).cloned()
                && is_unset(object, &["spec", field])
                && let Some(spec) = map_mut(object, &["spec"])
            {
                spec.insert(field.to_owned(), value);
            }
        }
        FINE
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        if attributes.is("", "pods") || at(object, &["globalDefault"]) != Some(&Value::Bool(true)) {
            return FINE;
        }
        let name = text(object, &["metadata", "name"]);
        let classes = self.view.list(&PRIORITY_CLASSES, None);
        let other = classes
            .iter()
            .filter_map(|o| o.typed::<PriorityClass>().ok())
            .find(|c| c.global_default == Some(true) && c.metadata.name.as_deref() != Some(name));
        match other {
            Some(other) => Err(attributes.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.metadata.name.as_deref().unwrap_or_default()
            ))),
            None => FINE,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::super::testing::Case;
    use super::*;

    fn class(name: &str, value: i32, default: bool) -> Value {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
               "value": value, "globalDefault": default, "preemptionPolicy": "Never"})
    }

    #[tokio::test]
    async fn a_pod_gets_the_number_of_its_class() {
        let case = Case::with_namespace();
        case.view.put(&PRIORITY_CLASSES, &class("high", 7, false)).unwrap();
        for (spec, expected) in [
            (json!({}), Ok((0, PREEMPT))),
            (json!({"priorityClassName": "high"}), Ok((7, "Never"))),
            (json!({"priorityClassName": "system-node-critical"}), Ok((2_000_001_000, PREEMPT))),
            (json!({"priorityClassName": "none"}), Err("no PriorityClass with name none was found")),
            (json!({"priority": 3}), Err("the integer value of priority (3)")),
            (json!({"preemptionPolicy": "Never"}), Err("the string value of PreemptionPolicy (Never)")),
        ] {
            let mut pod = json!({"spec": spec});
            let result = case.create("", "pods", "default", "web").mutate(&mut pod).await;
            match expected {
                Ok((value, policy)) => {
                    result.unwrap();
                    assert_eq!(pod["spec"]["priority"], value);
                    assert_eq!(pod["spec"]["preemptionPolicy"], policy);
                }
                Err(text) => assert!(result.unwrap_err().to_string().contains(text), "{text}"),
            }
        }
    }

    #[tokio::test]
    async fn there_is_one_default() {
        let case = Case::with_namespace();
        case.view.put(&PRIORITY_CLASSES, &class("one", 5, true)).unwrap();
        let mut pod = json!({"spec": {}});
        case.create("", "pods", "default", "web").mutate(&mut pod).await.unwrap();
        assert_eq!(pod["spec"]["priorityClassName"], "one");
        let create = case.create("scheduling.k8s.io", "priorityclasses", "", "two");
        assert!(create.validate(&class("two", 5, true)).await.is_err());
        assert!(create.validate(&class("one", 6, true)).await.is_ok());
        assert!(create.validate(&class("two", 5, false)).await.is_ok());
    }
}
