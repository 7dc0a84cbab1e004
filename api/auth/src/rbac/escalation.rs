//! Nobody gives away more than they have: the check of writes of roles and bindings.
//!
//! A role may be written by who holds all its rules, or has the verb `escalate` on it; a binding by who holds all rules of
//! its role, or has the verb `bind` on that role.

use k8s_openapi::api::rbac::v1::PolicyRule;
use navarch_types::{ApiError, GroupResource, UserInfo};
use serde_json::Value;

use super::rule::{ALL, compact, path_matches};
use super::{GROUP, Rbac};
use crate::attributes::Attributes;
use crate::authorize::Authorizer;

/// Checks a create or update of a role, cluster role or binding; anything else passes. `old` is the object before an
/// update: what it gave already may stay.
///
/// # Errors
/// 403 if the user would give away more than they have, 404 if a binding's role does not exist.
pub fn check(
    authorizer: &Authorizer,
    user: &UserInfo,
    resource: &str,
    namespace: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if user.groups.iter().any(|g| g == crate::PRIVILEGED_GROUP) {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let about = About { authorizer, user, resource, namespace, name };
    match resource {
        "roles" | "clusterroles" => about.role(object, old),
        "rolebindings" | "clusterrolebindings" => about.binding(object, old),
        _ => Ok(()),
    }
}

struct About<'a> {
    authorizer: &'a Authorizer,
    user: &'a UserInfo,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl About<'_> {
    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let mut attributes = Attributes::resource(self.user, verb, GROUP, "v1", resource);
        attributes.namespace = self.namespace;
        attributes.name = name;
        self.authorizer.authorize(&attributes).allowed()
    }

    fn role(&self, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        // Changing labels alone gives nothing away, and lets the garbage collector and the like do their work.
        let unchanged =
            old.is_some_and(|o| o["rules"] == object["rules"] && o["aggregationRule"] == object["aggregationRule"]);
        if unchanged || self.may("escalate", self.resource, self.name) {
            return Ok(());
        }
        let aggregates = object.get("aggregationRule").is_some_and(|a| !a.is_null());
        if aggregates && old.is_none_or(|o| o["aggregationRule"] != object["aggregationRule"]) {
            // What will be aggregated is not known yet, so it takes the right to everything.
            return self.confirm(&everything(), "must have cluster-admin privileges to use the aggregationRule");
        }
        self.confirm(&rules_of(object)?, "")
    }

    fn binding(&self, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let same = |field: &str| old.is_some_and(|o| o[field] == object[field]);
        if same("roleRef") && same("subjects") {
            return Ok(());
        }
        let text = |field: &str| object["roleRef"][field].as_str().unwrap_or_default();
        let (kind, role) = (text("kind"), text("name"));
        let role_resource = if kind == "Role" { "roles" } else { "clusterroles" };
        if self.may("bind", role_resource, role) {
            return Ok(());
        }
        let rules = self.authorizer.rbac().role_rules(self.namespace, kind, role).ok_or_else(|| {
            let resource = GroupResource { group: GROUP.into(), resource: role_resource.to_owned().into() };
            ApiError::not_found(&resource, role)
        })?;
        self.confirm(&rules, "")
    }

    fn confirm(&self, rules: &[PolicyRule], instead: &str) -> Result<(), ApiError> {
        let (held, errors) = self.authorizer.rbac().rules_for(self.user, self.namespace);
        let missing = not_covered(&held, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let mut why = if instead.is_empty() {
            let mut list: Vec<_> = missing.iter().map(compact).collect();
            list.sort_unstable();
            format!(
                "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
                self.user.name,
                groups(self.user),
                list.join("\n")
            )
        } else {
            instead.to_owned()
        };
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        let resource = GroupResource { group: GROUP.into(), resource: self.resource.to_owned().into() };
        Err(ApiError::forbidden(&resource, self.name, &why))
    }
}

fn groups(user: &UserInfo) -> String {
    let quoted: Vec<_> = user.groups.iter().map(|g| format!("{g:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn everything() -> Vec<PolicyRule> {
    let all = || vec![ALL.to_owned()];
    let resources =
        PolicyRule { api_groups: Some(all()), resources: Some(all()), verbs: all(), ..PolicyRule::default() };
    let paths = PolicyRule { non_resource_urls: Some(all()), verbs: all(), ..PolicyRule::default() };
    vec![resources, paths]
}

fn rules_of(role: &Value) -> Result<Vec<PolicyRule>, ApiError> {
    match role.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => serde_json::from_value(rules.clone())
            .map_err(|e| ApiError::bad_request(format!("cannot decode the role's rules: {e}"))),
    }
}

/// The atoms of `wanted` (one verb, one group, one resource, one name each) that no rule of `held` covers.
pub fn not_covered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut missing = Vec::new();
    for atom in wanted.iter().flat_map(atoms) {
        if !held.iter().any(|rule| covers(rule, &atom)) {
            missing.push(atom);
        }
    }
    missing
}

fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    let list = |l: &Option<Vec<String>>| l.clone().unwrap_or_default();
    let names: Vec<Option<String>> = match rule.resource_names.as_deref() {
        None | Some([]) => vec![None],
        Some(names) => names.iter().cloned().map(Some).collect(),
    };
    for verb in &rule.verbs {
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                out.extend(names.iter().map(|name| PolicyRule {
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    resource_names: name.clone().map(|n| vec![n]),
                    verbs: vec![verb.clone()],
                    non_resource_urls: None,
                }));
            }
        }
        out.extend(list(&rule.non_resource_urls).into_iter().map(|url| PolicyRule {
            non_resource_urls: Some(vec![url]),
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        }));
    }
    out
}

fn covers(rule: &PolicyRule, atom: &PolicyRule) -> bool {
    let only = |l: &Option<Vec<String>>| l.as_ref().and_then(|l| l.first()).cloned();
    let has = |l: &Option<Vec<String>>, wanted: &str| l.iter().flatten().any(|e| e == ALL || e == wanted);
    let verb = atom.verbs.first().map(String::as_str).unwrap_or_default();
    if !rule.verbs.iter().any(|v| v == ALL || v == verb) {
        return false;
    }
    if let Some(url) = only(&atom.non_resource_urls) {
        return rule.non_resource_urls.iter().flatten().any(|u| path_matches(u, &url));
    }
    let (Some(group), Some(resource)) = (only(&atom.api_groups), only(&atom.resources)) else { return false };
    let resource_covered = has(&rule.resources, &resource)
        || resource.split_once('/').is_some_and(|(_, sub)| {
            rule.resources.iter().flatten().any(|r| r.strip_prefix("*/").is_some_and(|s| s == sub))
        });
    let name_covered = match rule.resource_names.as_deref() {
        None | Some([]) => true,
        Some(names) => only(&atom.resource_names).is_some_and(|n| names.contains(&n)),
    };
    has(&rule.api_groups, &group) && resource_covered && name_covered
}

/// Whether a user's RBAC rules cover others; used where no single object is written.
pub fn held(rbac: &Rbac, user: &UserInfo, namespace: &str, wanted: &[PolicyRule]) -> bool {
    not_covered(&rbac.rules_for(user, namespace).0, wanted).is_empty()
}
