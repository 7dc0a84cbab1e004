//! Numbers, addresses and paths.

use std::net::IpAddr;

use serde_json::Value;

use crate::field::{FieldError, Path};

/// `must be between LOW and HIGH, inclusive`.
pub fn range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A number in a range.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) { Vec::new() } else { vec![range_error(low, high)] }
}

/// A port's number: 1 to 65535.
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65_535)
}

/// A user or group id.
pub fn user_id(value: i64) -> Vec<String> {
    in_range(value, 0, i64::from(i32::MAX))
}

/// A finding if the number is below zero.
pub fn non_negative(path: &Path<'_>, value: i64) -> Option<FieldError> {
    (value < 0).then(|| FieldError::invalid(path, value, "must be greater than or equal to 0"))
}

/// A finding if the number is below one.
pub fn positive(path: &Path<'_>, value: i64) -> Option<FieldError> {
    (value < 1).then(|| FieldError::invalid(path, value, "must be greater than 0"))
}

/// An IPv4 or IPv6 address in text form, without a zone.
pub fn ip_address(value: &str) -> Vec<String> {
    match value.parse::<IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// A path that starts at the root.
pub fn absolute_path(path: &Path<'_>, value: &str) -> Option<FieldError> {
    (!value.starts_with('/')).then(|| FieldError::invalid(path, value, "must be an absolute path"))
}

/// A path below something: neither absolute nor climbing out.
pub fn local_descending_path(path: &Path<'_>, value: &str) -> Vec<FieldError> {
    let mut findings = Vec::new();
    if value.starts_with('/') {
        findings.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    findings.extend(no_back_steps(path, value));
    findings
}

/// A path without `..`.
pub fn no_back_steps(path: &Path<'_>, value: &str) -> Option<FieldError> {
    value.split('/').any(|part| part == "..").then(|| FieldError::invalid(path, value, "must not contain '..'"))
}

/// An int-or-string as a count: not negative, or a percentage.
pub fn non_negative_int_or_percent(path: &Path<'_>, value: &Value) -> Vec<FieldError> {
    match value {
        Value::String(text) => super::invalid_all(path, text, super::names::percent(text)),
        Value::Number(number) => number.as_i64().and_then(|n| non_negative(path, n)).into_iter().collect(),
        other => vec![FieldError::invalid(path, other.clone(), "must be an integer or percentage (e.g '5%%')")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_addresses() {
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(port_number(65_535).is_empty());
        assert!(!user_id(-1).is_empty());
        assert!(ip_address("10.0.0.1").is_empty() && ip_address("::1").is_empty());
        for wrong in ["", "10.0.0", "010.0.0.1", "1.2.3.4/8", "fe80::1%eth0", "a"] {
            assert!(!ip_address(wrong).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn paths_and_percentages() {
        let path = Path::root("spec");
        assert!(absolute_path(&path, "/a").is_none() && absolute_path(&path, "a").is_some());
        assert!(local_descending_path(&path, "a/..b").is_empty());
        assert_eq!(local_descending_path(&path, "/a/../b").len(), 2);
        for (value, findings) in [(json!(0), 0), (json!(-1), 1), (json!("5%"), 0), (json!("5"), 1), (json!(true), 1)] {
            assert_eq!(non_negative_int_or_percent(&path, &value).len(), findings, "{value}");
        }
    }
}
