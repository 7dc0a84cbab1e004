//! Rules that several kinds share, each as upstream words it. They add to what was found so far and change nothing.

use std::net::IpAddr;

use navarch_types::field::FieldError;
use navarch_types::quantity::Quantity;
use navarch_types::validate::{names, ranges};
use serde_json::Value;

use super::at::{At, same};
use super::kind::Findings;

/// Upstream's wording for what may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";
/// Upstream's wording for numbers below zero.
pub(crate) const NEGATIVE: &str = "must be greater than or equal to 0";

/// One finding for each text.
pub(crate) fn texts(at: &At<'_, '_>, texts: Vec<String>, out: &mut Findings) {
    out.extend(texts.into_iter().map(|text| at.invalid(text)));
}

/// A text that must be there.
pub(crate) fn required(at: &At<'_, '_>, out: &mut Findings) -> bool {
    if at.is_empty() {
        out.push(at.required(""));
    }
    !at.is_empty()
}

/// A required text of a shape.
pub(crate) fn required_shape(at: &At<'_, '_>, shape: fn(&str) -> Vec<String>, out: &mut Findings) {
    if required(at, out) {
        texts(at, shape(at.text()), out);
    }
}

/// An optional text of a shape.
pub(crate) fn shape(at: &At<'_, '_>, shape: fn(&str) -> Vec<String>, out: &mut Findings) {
    if !at.is_empty() {
        texts(at, shape(at.text()), out);
    }
}

/// A text out of a set; required.
pub(crate) fn one_of(at: &At<'_, '_>, supported: &[&str], out: &mut Findings) {
    if at.is_empty() {
        out.push(at.required(""));
    } else {
        supported_if_set(at, supported, out);
    }
}

/// A text out of a set, if there is one.
pub(crate) fn supported_if_set(at: &At<'_, '_>, supported: &[&str], out: &mut Findings) {
    if at.is_set() && !supported.contains(&at.text()) {
        out.push(at.not_supported(supported));
    }
}

/// A number that is not below zero.
pub(crate) fn non_negative(at: &At<'_, '_>, out: &mut Findings) {
    if at.int().is_some_and(|n| n < 0) {
        out.push(at.invalid(NEGATIVE));
    }
}

/// A number in a range, if there is one.
pub(crate) fn within(at: &At<'_, '_>, low: i64, high: i64, out: &mut Findings) {
    if let Some(number) = at.int() {
        texts(at, ranges::in_range(number, low, high), out);
    }
}

/// What may not change.
pub(crate) fn immutable(at: &At<'_, '_>, old: &Value, out: &mut Findings) {
    if !same(at.value, old) {
        out.push(at.invalid(IMMUTABLE));
    }
}

/// Label keys and values.
pub(crate) fn labels(at: &At<'_, '_>, out: &mut Findings) {
    for (key, value) in at.entries() {
        out.extend(names::qualified_name(key).into_iter().map(|t| FieldError::invalid(&at.path, key, t)));
        let text = value.text();
        out.extend(names::label_value(text).into_iter().map(|t| FieldError::invalid(&at.path, text, t)));
    }
}

/// A key of a label.
pub(crate) fn label_name(at: &At<'_, '_>, out: &mut Findings) {
    texts(at, names::qualified_name(at.text()), out);
}

/// A label selector; whether it is required is the caller's matter.
pub(crate) fn label_selector(at: &At<'_, '_>, out: &mut Findings) {
    labels(&at.child("matchLabels"), out);
    let expressions = at.child("matchExpressions");
    for expression in expressions.items() {
        let values = expression.child("values");
        let operator = expression.child("operator");
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                out.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                out.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => out.push(operator.invalid("not a valid selector operator")),
        }
        label_name(&expression.child("key"), out);
        for value in values.items() {
            texts(&value, names::label_value(value.text()), out);
        }
    }
}

/// Whether a selector selects nothing in particular.
pub(crate) fn selector_is_empty(selector: &Value) -> bool {
    let none = |key: &str| match &selector[key] {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    };
    none("matchLabels") && none("matchExpressions")
}

/// Whether a label selector (`matchLabels`, `matchExpressions`) selects these labels.
pub(crate) fn selector_matches(selector: &Value, labels: &Value) -> bool {
    let by_labels = selector["matchLabels"].as_object().into_iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    let by_expressions = selector["matchExpressions"].as_array().into_iter().flatten().all(|e| {
        let value = e["key"].as_str().and_then(|key| labels.get(key));
        let listed = |v: &Value| e["values"].as_array().is_some_and(|values| values.contains(v));
        match e["operator"].as_str() {
            Some("In") => value.is_some_and(listed),
            Some("NotIn") => !value.is_some_and(listed),
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            _ => false,
        }
    });
    by_labels && by_expressions
}

/// A port by number or name.
pub(crate) fn port_number_or_name(at: &At<'_, '_>, out: &mut Findings) {
    match at.value {
        Value::String(name) => texts(at, names::port_name(name), out),
        value => out.extend(
            ranges::port_number(value.as_i64().unwrap_or(0))
                .into_iter()
                .map(|t| FieldError::invalid(&at.path, value.as_i64().unwrap_or(0), t)),
        ),
    }
}

/// An IP address.
pub(crate) fn ip(at: &At<'_, '_>, out: &mut Findings) {
    texts(at, ranges::ip_address(at.text()), out);
}

/// An address, if the text is one.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An address that traffic can be sent to.
pub(crate) fn non_special_ip(at: &At<'_, '_>, out: &mut Findings) {
    let Some(address) = parse_ip(at.text()) else { return };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() {
        out.push(at.invalid(format!("may not be unspecified ({address})")));
    }
    if address.is_loopback() {
        out.push(at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    if link_local {
        out.push(at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if link_local_multicast {
        out.push(at.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
    }
}

/// The quantity in a value.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// A quantity that is not below zero.
pub(crate) fn non_negative_quantity(at: &At<'_, '_>, out: &mut Findings) {
    if quantity(at.value).is_some_and(|q| q < Quantity::ZERO) {
        out.push(at.invalid(NEGATIVE));
    }
}

/// A count as an integer or a percentage.
pub(crate) fn int_or_percent(at: &At<'_, '_>, out: &mut Findings) {
    match at.value {
        Value::Null => {}
        Value::String(text) => texts(at, names::percent(text), out),
        Value::Number(_) => non_negative(at, out),
        _ => out.push(at.invalid("must be an integer or percentage (e.g '5%%')")),
    }
}

/// The percentage of a text `25%`.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// At most 100 %.
pub(crate) fn not_above_100_percent(at: &At<'_, '_>, out: &mut Findings) {
    if percent(at.value).is_some_and(|p| p > 100) {
        out.push(at.invalid("must not be greater than 100%"));
    }
}

/// A path below something, neither absolute nor climbing out, nor starting with `..`.
pub(crate) fn local_non_reserved_path(at: &At<'_, '_>, out: &mut Findings) {
    out.extend(ranges::local_descending_path(&at.path, at.text()));
    if at.text().starts_with("..") && !at.text().starts_with("../") && at.text() != ".." {
        out.push(at.invalid("must not start with '..'"));
    }
}

/// Findings as their texts, for tests.
#[cfg(test)]
pub(crate) fn rendered(found: &Findings) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_say_what_is_wrong() {
        for (selector, want) in [
            (json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}), vec![]),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "In"}]}),
                vec![
                    "spec.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                ],
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "Exists", "values": ["a"]}]}),
                vec![
                    "spec.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ],
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "Near"}]}),
                vec!["spec.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator"],
            ),
        ] {
            let object = json!({"spec": selector});
            let mut out = Findings::new();
            label_selector(&At::root(&object, "spec"), &mut out);
            assert_eq!(rendered(&out), want);
        }
    }

    #[test]
    fn selectors_select() {
        let labels = json!({"app": "web", "tier": "front"});
        for (selector, want) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}), true),
            (json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}), false),
            (json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}), true),
        ] {
            assert_eq!(selector_matches(&selector, &labels), want, "{selector}");
        }
    }
}
