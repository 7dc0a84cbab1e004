//! Probes and lifecycle hooks.

use navarch_types::field::FieldError;
use navarch_types::validate::names;

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{non_negative, one_of, port_number_or_name, required};

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Rules for a liveness probe.
pub(crate) fn liveness(at: &At<'_, '_>, grace_seconds: i64, out: &mut Findings) {
    if at.is_set() {
        probe(at, grace_seconds, out);
        one_success(at, out);
    }
}

/// Rules for a readiness probe, which ends nothing and so has no grace period.
pub(crate) fn readiness(at: &At<'_, '_>, grace_seconds: i64, out: &mut Findings) {
    if at.is_set() {
        probe(at, grace_seconds, out);
        let grace = at.child("terminationGracePeriodSeconds");
        if grace.is_set() {
            out.push(grace.invalid("must not be set for readinessProbes"));
        }
    }
}

/// Rules for a startup probe.
pub(crate) fn startup(at: &At<'_, '_>, grace_seconds: i64, out: &mut Findings) {
    if at.is_set() {
        probe(at, grace_seconds, out);
        one_success(at, out);
    }
}

fn one_success(at: &At<'_, '_>, out: &mut Findings) {
    let threshold = at.child("successThreshold");
    if threshold.int_or_zero() != 1 {
        out.push(FieldError::invalid(&threshold.path, threshold.int_or_zero(), "must be 1"));
    }
}

fn probe(at: &At<'_, '_>, grace_seconds: i64, out: &mut Findings) {
    handler(at, grace_seconds, out);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        non_negative(&at.child(key), out);
    }
    let grace = at.child("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|n| n <= 0) {
        out.push(grace.invalid("must be greater than 0"));
    }
}

/// Rules for hooks.
pub(crate) fn lifecycle(at: &At<'_, '_>, grace_seconds: i64, os: &str, out: &mut Findings) {
    for key in ["postStart", "preStop"] {
        let hook = at.child(key);
        if hook.is_set() {
            handler(&hook, grace_seconds, out);
        }
    }
    let signal = at.child("stopSignal");
    if !signal.is_empty() {
        match os {
            "" => out.push(signal.forbidden("may not be set for containers with empty `spec.os.name`")),
            "windows" => {
                if !matches!(signal.text(), "SIGTERM" | "SIGKILL") {
                    out.push(signal.not_supported(&["SIGKILL", "SIGTERM"]));
                }
            }
            _ => {
                if !signal.text().starts_with("SIG") {
                    out.push(signal.invalid("must be the name of a signal"));
                }
            }
        }
    }
}

fn handler(at: &At<'_, '_>, grace_seconds: i64, out: &mut Findings) {
    let mut handlers = 0;
    for key in HANDLERS {
        let action = at.child(key);
        if !action.is_set() {
            continue;
        }
        if handlers > 0 {
            out.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        handlers += 1;
        match key {
            "exec" => {
                required(&action.child("command"), out);
            }
            "httpGet" => http_get(&action, out),
            "tcpSocket" | "grpc" => port_number_or_name(&action.child("port"), out),
            _ => sleep(&action, grace_seconds, out),
        }
    }
    if handlers == 0 {
        out.push(at.required("must specify a handler type"));
    }
}

fn http_get(at: &At<'_, '_>, out: &mut Findings) {
    required(&at.child("path"), out);
    port_number_or_name(&at.child("port"), out);
    one_of(&at.child("scheme"), &["HTTP", "HTTPS"], out);
    let headers = at.child("httpHeaders");
    for header in headers.items() {
        let name = header.child("name");
        let wrong = names::http_header_name(name.text());
        out.extend(wrong.into_iter().map(|text| FieldError::invalid(&headers.path, name.text(), text)));
    }
}

fn sleep(at: &At<'_, '_>, grace_seconds: i64, out: &mut Findings) {
    let seconds = at.child("seconds").int_or_zero();
    if seconds < 0 || seconds > grace_seconds {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})");
        out.push(FieldError::invalid(&at.path, seconds, why));
    }
}
