//! Label selectors: a conjunction of requirements on labels.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::{Map, Value};

use super::SelectorError;
use crate::field::{FieldError, Path};
use crate::validate::{invalid_all, names};

/// How a requirement relates a key to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `a=b`
    Equals,
    /// `a==b`
    DoubleEquals,
    /// `a!=b`, also true without the key
    NotEquals,
    /// `a in (b,c)`
    In,
    /// `a notin (b,c)`, also true without the key
    NotIn,
    /// `a`
    Exists,
    /// `!a`
    DoesNotExist,
    /// `a>1`
    GreaterThan,
    /// `a<1`
    LessThan,
}

/// Where labels are looked up.
pub trait Labels {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for HashMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    /// Sorted, each once.
    values: Vec<String>,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// If key or values are not labels, or the number of values does not suit the operator.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        use Operator::{DoesNotExist, DoubleEquals, Equals, Exists, GreaterThan, In, LessThan, NotEquals, NotIn};
        let mut findings = invalid_key(&Path::root("key"), key);
        let at = Path::root("values");
        let why = match operator {
            In | NotIn if values.is_empty() => Some("for 'in', 'notin' operators, values set can't be empty"),
            Equals | DoubleEquals | NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Exists | DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            GreaterThan | LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        findings.extend(why.map(|why| FieldError::invalid(&at, values.clone(), why)));
        for (index, value) in values.iter().enumerate() {
            let at = at.index(index);
            if matches!(operator, GreaterThan | LessThan) && value.parse::<i64>().is_err() {
                const WHY: &str = "for 'Gt', 'Lt' operators, the value must be an integer";
                findings.push(FieldError::invalid(&at, value.as_str(), WHY));
            }
            let texts = names::label_value(value);
            if !texts.is_empty() {
                findings.push(FieldError::invalid(&at.key(key), value.as_str(), texts.join("; ")));
            }
        }
        if !findings.is_empty() {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let text = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
            return Err(SelectorError(text));
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The relation.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|v| v == value)
    }

    /// Whether labels meet this requirement.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let found = labels.label(&self.key);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => found.is_some_and(|v| self.has(v)),
            Operator::NotIn | Operator::NotEquals => found.is_none_or(|v| !self.has(v)),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (found.and_then(|v| v.parse::<i64>().ok()), bound) {
                    (Some(value), Some(bound)) if self.operator == Operator::GreaterThan => value > bound,
                    (Some(value), Some(bound)) => value < bound,
                    _ => false,
                }
            }
        }
    }
}

/// The one finding on a key that upstream makes of all texts.
pub(super) fn invalid_key(path: &Path<'_>, key: &str) -> Vec<FieldError> {
    let texts = names::qualified_name(key);
    if texts.is_empty() { Vec::new() } else { vec![FieldError::invalid(path, key, texts.join("; "))] }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A selector of labels. `Default` selects everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// `None` selects nothing at all.
    requirements: Option<Vec<Requirement>>,
}

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    /// Selects every object.
    pub const fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Selects no object.
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Of requirements, which it sorts by key.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: Some(requirements) }
    }

    /// Parses the text of a query: `app=web,tier in (a,b),!old`.
    ///
    /// # Errors
    /// If it is no selector; the text is upstream's and goes into a 400.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        super::parse::parse(text).map(Self::new)
    }

    /// Exactly these labels, unchecked, as `spec.selector` of Services and ReplicationControllers has it. An empty map
    /// selects everything: callers for whom it means nothing must say so themselves.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self { requirements: Some(labels.iter().map(requirement).collect()) }
    }

    /// From the structure of the API. Absent selects nothing, empty everything.
    ///
    /// # Errors
    /// If an operator is unknown, or a key or value is no label.
    pub fn from_label_selector(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            requirements.push(requirement_of(expression)?);
        }
        Ok(Self::new(requirements))
    }

    /// From the JSON of a `LabelSelector`. Null selects nothing, `{}` everything.
    ///
    /// # Errors
    /// If it is not of that form, or an operator, key or value is wrong.
    pub fn from_value(value: &Value) -> Result<Self, SelectorError> {
        let selector: Option<LabelSelector> =
            serde_json::from_value(value.clone()).map_err(|e| SelectorError(e.to_string()))?;
        Self::from_label_selector(selector.as_ref())
    }

    /// Whether labels are selected.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(labels)))
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it surely selects nothing.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The requirements; none for both everything and nothing.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }
}

fn requirement_of(expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    Requirement::new(&expression.key, operator, expression.values.clone().unwrap_or_default())
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

/// Findings on a `LabelSelector` in an object. With `values_checked`, values of expressions must be label values (upstream
/// asks that of new selectors and keeps old ones that fail).
pub fn validate_label_selector(path: &Path<'_>, selector: &Value, values_checked: bool) -> Vec<FieldError> {
    let mut findings = Vec::new();
    if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
        findings.extend(crate::validate::validate_labels(&path.child("matchLabels"), labels));
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let list = path.child("matchExpressions");
    for (index, expression) in expressions.into_iter().flatten().enumerate() {
        let at = list.index(index);
        let at_values = at.child("values");
        let values = expression.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match expression.get("operator").and_then(Value::as_str).unwrap_or_default() {
            "In" | "NotIn" if values.is_empty() => {
                const WHY: &str = "must be specified when `operator` is 'In' or 'NotIn'";
                findings.push(FieldError::required(&at_values, WHY));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                const WHY: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                findings.push(FieldError::forbidden(&at_values, WHY));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                findings.push(FieldError::invalid(&at.child("operator"), other, "not a valid selector operator"));
            }
        }
        let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
        findings.extend(invalid_all(&at.child("key"), key, names::qualified_name(key)));
        for (index, value) in values.iter().map(|v| v.as_str().unwrap_or_default()).enumerate() {
            if values_checked {
                findings.extend(invalid_all(&at_values.index(index), value, names::label_value(value)));
            }
        }
    }
    findings
}

impl From<&BTreeMap<String, String>> for Selector {
    fn from(labels: &BTreeMap<String, String>) -> Self {
        Self::from_map(labels)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn structures_select_as_the_api_says() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("n".to_owned(), "5".to_owned())]);
        for (selector, selects) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "x"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "web"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a", "web"]}]}), false),
            (json!({"matchExpressions": [{"key": "no", "operator": "NotIn", "values": ["a"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "n", "operator": "In", "values": ["6"]}]}),
                false,
            ),
        ] {
            assert_eq!(Selector::from_value(&selector).unwrap().matches(&labels), selects, "{selector}");
        }
        assert!(Selector::nothing().is_nothing() && !Selector::nothing().matches(&labels));
        assert!(Selector::default().is_everything() && Selector::default().matches(&None::<&BTreeMap<String, String>>));
    }

    #[test]
    fn wrong_structures_are_named() {
        for (selector, text) in [
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
                "\"Like\" is not a valid label selector operator",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}),
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "values: Invalid value: [\"b\"]: values set must be empty for exists and does not exist",
            ),
        ] {
            assert_eq!(Selector::from_value(&selector).unwrap_err().0, text);
        }
        let wrong = json!({"matchLabels": {"-": "x"}, "matchExpressions": [
            {"key": "a", "operator": "In"}, {"key": "", "operator": "Exists", "values": ["b"]},
            {"key": "a", "operator": "x"}, {"key": "a", "operator": "In", "values": ["b c"]}]});
        let findings = validate_label_selector(&Path::root("spec").child("selector"), &wrong, true);
        let fields: Vec<&str> = findings.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.selector.matchLabels",
                "spec.selector.matchExpressions[0].values",
                "spec.selector.matchExpressions[1].values",
                "spec.selector.matchExpressions[1].key",
                "spec.selector.matchExpressions[1].key",
                "spec.selector.matchExpressions[2].operator",
                "spec.selector.matchExpressions[3].values[0]",
            ]
        );
    }
}
