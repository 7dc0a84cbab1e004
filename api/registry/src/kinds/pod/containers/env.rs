//! Environment variables and where their values come from; also the references that downward API volumes share.

use navarch_types::field::FieldError;
use navarch_types::quantity::Quantity;
use navarch_types::validate::names;

use super::Surroundings;
use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{local_non_reserved_path, quantity, required, required_shape, texts};

/// Pod fields that a variable may take its value from, in order.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Pod fields that a volume may show, in order.
const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Pod fields that are known at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Rules for `env`.
pub(crate) fn variables(at: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    for variable in at.items() {
        required_shape(&variable.child("name"), names::env_var_name, out);
        let source = variable.child("valueFrom");
        if source.is_set() {
            value_from(&source, !variable.child("value").is_empty(), pod, out);
        }
    }
}

fn value_from(at: &At<'_, '_>, has_value: bool, pod: &Surroundings<'_>, out: &mut Findings) {
    let field = at.child("fieldRef");
    if field.is_set() {
        field_ref(&field, false, out);
    }
    let resource = at.child("resourceFieldRef");
    if resource.is_set() {
        resource_ref(&resource, false, out);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let reference = at.child(key);
        if reference.is_set() {
            required(&reference.child("name"), out);
            required_shape(&reference.child("key"), names::config_map_key, out);
        }
    }
    let file = at.child("fileKeyRef");
    if file.is_set() {
        file_ref(&file, pod, out);
    }
    let sources = SOURCES.iter().filter(|key| at.child(key).is_set()).count();
    let finding = |detail: &str| FieldError::invalid(&at.path, "", detail);
    match sources {
        0 => out.push(finding(
            "must specify one of: `configMapKeyRef`, `fieldRef`, `resourceFieldRef`, `fileKeyRef` or `secretKeyRef`",
        )),
        _ if has_value => out.push(finding("may not be specified when `value` is not empty")),
        1 => {}
        _ => out.push(finding("may not have more than one field specified at a time")),
    }
}

fn file_ref(at: &At<'_, '_>, pod: &Surroundings<'_>, out: &mut Findings) {
    required_shape(&at.child("key"), names::strict_env_var_name, out);
    let path = at.child("path");
    if required(&path, out) {
        local_non_reserved_path(&path, out);
    }
    let volume = at.child("volumeName");
    if required(&volume, out) {
        match pod.volumes.get(volume.text()) {
            None => out.push(volume.not_found()),
            Some(source) if source["emptyDir"].is_null() => {
                out.push(volume.invalid("referenced volume must be of type emptyDir"));
            }
            Some(_) => {}
        }
    }
}

/// Rules for `envFrom`.
pub(crate) fn sources(at: &At<'_, '_>, out: &mut Findings) {
    for source in at.items() {
        let prefix = source.child("prefix");
        if !prefix.is_empty() {
            texts(&prefix, names::env_var_name(prefix.text()), out);
        }
        let set: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|k| source.child(k).is_set()).collect();
        for key in &set {
            required(&source.child(key).child("name"), out);
        }
        match set.len() {
            0 => out.push(FieldError::invalid(&at.path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => out.push(FieldError::invalid(&at.path, "", "may not have more than one field specified at a time")),
        }
    }
}

/// Rules for a reference to a field of the pod; volumes may show fewer and may not name single labels there.
pub(crate) fn field_ref(at: &At<'_, '_>, volume: bool, out: &mut Findings) {
    let (version, field) = (at.child("apiVersion"), at.child("fieldPath"));
    if !required(&version, out) || !required(&field, out) {
        return;
    }
    let text = field.text();
    let subscript = text.strip_suffix("']").and_then(|t| t.split_once("['"));
    let path = subscript.map_or(text, |(path, _)| path);
    if version.text() != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {}", version.text());
        out.push(field.invalid(why));
    } else if !KNOWN_FIELDS.contains(&path) || (subscript.is_some() && !path.starts_with("metadata.")) {
        out.push(field.invalid(format!("error converting fieldPath: field label not supported: {text}")));
    } else if let Some((path, key)) = subscript {
        let finding = |value: &str, text: String| FieldError::invalid(&at.path, value, text);
        match path {
            "metadata.annotations" => {
                out.extend(names::qualified_name(&key.to_lowercase()).into_iter().map(|t| finding(key, t)));
            }
            "metadata.labels" => out.extend(names::qualified_name(key).into_iter().map(|t| finding(key, t))),
            _ => out.push(finding(path, "does not support subscript".to_owned())),
        }
    } else {
        let allowed = if volume { VOLUME_FIELDS } else { ENV_FIELDS };
        if !allowed.contains(&path) {
            out.push(field.not_supported(allowed));
        }
    }
}

/// Rules for a reference to a container's requests or limits; a volume has to say whose.
pub(crate) fn resource_ref(at: &At<'_, '_>, volume: bool, out: &mut Findings) {
    let (container, resource) = (at.child("containerName"), at.child("resource"));
    let name = resource.text();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if volume && container.is_empty() {
        out.push(container.required(""));
    } else if name.is_empty() {
        out.push(resource.required(""));
    } else if !huge && !RESOURCES.contains(&name) {
        out.push(resource.not_supported(RESOURCES));
    }
    divisor(&at.child("divisor"), name, out);
}

fn divisor(at: &At<'_, '_>, resource: &str, out: &mut Findings) {
    const SIZES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let Some(divisor) = quantity(at.value).filter(|q| *q != Quantity::ZERO) else { return };
    let is = |text: &&str| Quantity::parse(text).is_ok_and(|q| q == divisor);
    let name = match resource.split_once('.').map_or(resource, |(_, name)| name) {
        "cpu" => {
            if !["1m", "1"].iter().any(is) {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                out.push(FieldError::invalid(&at.path, resource, why));
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        name if name.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    if !SIZES.iter().any(is) {
        let why = format!("only divisor's values {} are supported with the {name} resource", SIZES.join(", "));
        out.push(FieldError::invalid(&at.path, resource, why));
    }
}
