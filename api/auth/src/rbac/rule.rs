//! Whether one rule allows one request.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::attributes::Attributes;

/// Stands for everything in any list of a rule.
pub const ALL: &str = "*";

fn any(list: Option<&Vec<String>>, mut matches: impl FnMut(&str) -> bool) -> bool {
    list.is_some_and(|l| l.iter().any(|entry| matches(entry)))
}

/// Whether a rule allows a request.
pub fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !rule.verbs.iter().any(|v| v == ALL || v == attributes.verb) {
        return false;
    }
    if attributes.is_resource_request {
        any(rule.api_groups.as_ref(), |g| g == ALL || g == attributes.group)
            && any(rule.resources.as_ref(), |r| resource_matches(r, attributes.resource, attributes.subresource))
            && name_matches(rule, attributes.name)
    } else {
        any(rule.non_resource_urls.as_ref(), |u| path_matches(u, attributes.path))
    }
}

/// `*` covers every resource and subresource, `*/scale` one subresource of every resource, `pods/log` just that.
pub fn resource_matches(of_rule: &str, resource: &str, subresource: &str) -> bool {
    if of_rule == ALL {
        return true;
    }
    match of_rule.split_once('/') {
        None => subresource.is_empty() && of_rule == resource,
        Some((of_resource, of_subresource)) => {
            !subresource.is_empty() && of_subresource == subresource && (of_resource == ALL || of_resource == resource)
        }
    }
}

fn name_matches(rule: &PolicyRule, name: &str) -> bool {
    match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => names.iter().any(|n| n == name),
    }
}

/// `*` covers every path, `/healthz/*` all that begins so.
pub fn path_matches(of_rule: &str, path: &str) -> bool {
    of_rule == ALL || of_rule == path || of_rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// A rule as upstream writes it in messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
pub fn compact(rule: &PolicyRule) -> String {
    let list = |entries: &[String]| {
        let quoted: Vec<_> = entries.iter().map(|e| format!("{e:?}")).collect();
        format!("[{}]", quoted.join(" "))
    };
    let mut parts = Vec::new();
    let mut part = |name: &str, entries: Option<&Vec<String>>| {
        if let Some(entries) = entries.filter(|e| !e.is_empty()) {
            parts.push(format!("{name}:{}", list(entries)));
        }
    };
    part("APIGroups", rule.api_groups.as_ref());
    part("Resources", rule.resources.as_ref());
    part("NonResourceURLs", rule.non_resource_urls.as_ref());
    part("ResourceNames", rule.resource_names.as_ref());
    part("Verbs", Some(&rule.verbs));
    format!("{{{}}}", parts.join(", "))
}
