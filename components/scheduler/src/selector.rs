//! Label selectors and node selectors, compiled once an object. Compares labels; reads nothing else.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::NodeSelectorRequirement;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::new);

/// The labels of an object; none is empty.
pub fn labels_of(metadata: &ObjectMeta) -> &Labels {
    metadata.labels.as_ref().unwrap_or(&NO_LABELS)
}

/// What a requirement asks of a label's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    key: String,
    operator: Operator,
}

impl Requirement {
    /// The label has this value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), operator: Operator::In(vec![value.to_owned()]) }
    }

    /// The label is missing or has another value.
    pub fn differs(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), operator: Operator::NotIn(vec![value.to_owned()]) }
    }

    /// From its parts. `None` if they are not a requirement: the selector then matches nothing.
    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Option<Self> {
        let values = values.cloned().unwrap_or_default();
        let number = || values.first().filter(|_| values.len() == 1).and_then(|v| v.parse::<i64>().ok());
        let operator = match operator {
            "In" if !values.is_empty() => Operator::In(values),
            "NotIn" if !values.is_empty() => Operator::NotIn(values),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt(number()?),
            "Lt" => Operator::Lt(number()?),
            _ => return None,
        };
        Some(Self { key: key.to_owned(), operator })
    }

    /// From a node selector's requirement.
    pub fn from_node(requirement: &NodeSelectorRequirement) -> Option<Self> {
        Self::new(&requirement.key, &requirement.operator, requirement.values.as_ref())
    }

    /// The label it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether a label's value satisfies it.
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        match (&self.operator, value) {
            (Operator::In(values), Some(value)) => values.iter().any(|v| v == value),
            (Operator::NotIn(values), Some(value)) => !values.iter().any(|v| v == value),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::NotIn(_), None) => true,
            (Operator::Gt(limit), Some(value)) => value.parse::<i64>().is_ok_and(|v| v > *limit),
            (Operator::Lt(limit), Some(value)) => value.parse::<i64>().is_ok_and(|v| v < *limit),
            (Operator::In(_) | Operator::Gt(_) | Operator::Lt(_), None) => false,
        }
    }

    /// Whether labels satisfy it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key).map(String::as_str))
    }

    /// The values that `In` allows.
    pub fn allowed(&self) -> Option<&[String]> {
        match &self.operator {
            Operator::In(values) => Some(values),
            _ => None,
        }
    }
}

/// Requirements that must all hold, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Matches no object.
    Nothing,
    /// Matches what satisfies all of them; everything, if there are none.
    All(Vec<Requirement>),
}

impl Selector {
    /// Compiles a label selector: a missing one matches nothing, an empty one everything.
    pub fn from_labels(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self::Nothing };
        let mut all: Vec<_> =
            selector.match_labels.iter().flatten().map(|(key, value)| Requirement::equals(key, value)).collect();
        for expression in selector.match_expressions.iter().flatten() {
            match Requirement::new(&expression.key, &expression.operator, expression.values.as_ref()) {
                Some(requirement) => all.push(requirement),
                None => return Self::Nothing,
            }
        }
        all.sort();
        all.dedup();
        Self::All(all)
    }

    /// A selector of equalities, as Services have it.
    pub fn from_map(map: &Labels) -> Self {
        Self::All(map.iter().map(|(key, value)| Requirement::equals(key, value)).collect())
    }

    /// Whether labels match.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(all) => all.iter().all(|requirement| requirement.matches(labels)),
        }
    }

    /// Whether it matches every object.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(all) if all.is_empty())
    }

    /// Both must match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All(mut one), Self::All(two)) => {
                one.extend(two);
                one.sort();
                one.dedup();
                Self::All(one)
            }
            _ => Self::Nothing,
        }
    }

    /// One requirement more.
    #[must_use]
    pub fn require(self, requirement: Requirement) -> Self {
        self.and(Self::All(vec![requirement]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors_match_as_documented() {
        let labels = Labels::from([("app".into(), "web".into()), ("n".into(), "7".into())]);
        let cases = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}), true),
            (json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "n", "operator": "Gt", "values": ["6"]}]}), true),
            (json!({"matchExpressions": [{"key": "n", "operator": "Lt", "values": ["7"]}]}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "Gt", "values": ["6"]}]}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["6"]}]}), false),
        ];
        for (value, expected) in cases {
            let selector: LabelSelector = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(Selector::from_labels(Some(&selector)).matches(&labels), expected, "{value}");
        }
        assert!(!Selector::from_labels(None).matches(&labels));
    }
}
