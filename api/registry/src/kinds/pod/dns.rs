//! How a pod's names are resolved: policy, resolver settings, lines of /etc/hosts.

use navarch_types::field::FieldError;
use navarch_types::validate::names;

use crate::kinds::at::At;
use crate::kinds::kind::Findings;
use crate::kinds::rules::{ip, one_of, texts};

/// Limits of resolvers in use.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

/// Rules for `dnsPolicy`, `dnsConfig` and `hostAliases`.
pub(crate) fn policy(at: &At<'_, '_>, out: &mut Findings) {
    one_of(at, &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], out);
}

/// Rules for `dnsConfig`, which has to say everything when the policy says nothing.
pub(crate) fn config(at: &At<'_, '_>, policy: &str, out: &mut Findings) {
    let (servers, searches) = (at.child("nameservers"), at.child("searches"));
    if policy == "None" {
        if !at.is_set() {
            out.push(at.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            out.push(servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        out.push(servers.invalid(format!("must not have more than {NAMESERVERS_MAX} nameservers")));
    }
    for server in servers.items() {
        ip(&server, out);
    }
    if searches.len() > SEARCHES_MAX {
        out.push(searches.invalid(format!("must not have more than {SEARCHES_MAX} search paths")));
    }
    let characters = searches.items().map(|s| s.text().len() + 1).sum::<usize>().saturating_sub(1);
    if characters > SEARCH_CHARACTERS_MAX {
        const WHY: &str = "must not have more than 2048 characters (including spaces) in the search list";
        out.push(searches.invalid(WHY));
    }
    for search in searches.items() {
        let text = search.text();
        if text != "." {
            let name = text.strip_suffix('.').unwrap_or(text);
            let wrong = names::dns1123_subdomain_with_underscore(name);
            out.extend(wrong.into_iter().map(|t| FieldError::invalid(&search.path, name, t)));
        }
    }
    for option in at.child("options").items() {
        if option.child("name").is_empty() {
            out.push(option.required("must not be empty"));
        }
    }
}

/// Rules for `hostAliases`.
pub(crate) fn host_aliases(at: &At<'_, '_>, out: &mut Findings) {
    for alias in at.items() {
        ip(&alias.child("ip"), out);
        for name in alias.child("hostnames").items() {
            texts(&name, names::dns1123_subdomain(name.text()), out);
        }
    }
}
