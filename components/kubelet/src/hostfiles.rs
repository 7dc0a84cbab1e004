//! `/etc/hosts` and `/etc/resolv.conf` of pods, and their host names. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use crate::cri::api::DnsConfig;

/// Linux takes no longer host names.
const HOSTNAME_BYTES_MAX: usize = 63;

/// A pod's host name and, with a subdomain, its full name.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let Some(spec) = &pod.spec else { return (String::new(), None) };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(over) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return (over.to_owned(), None);
    }
    let base = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
    let short = base.get(..HOSTNAME_BYTES_MAX).unwrap_or(base).trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let full = subdomain.map(|subdomain| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        format!("{short}.{subdomain}.{namespace}.svc.{cluster_domain}")
    });
    match &full {
        Some(full) if spec.set_hostname_as_fqdn == Some(true) => (full.clone(), Some(full.clone())),
        _ => (short, full),
    }
}

/// The hosts file of a pod. `host_file` is the host's own, for pods on its network.
pub fn hosts(pod: &Pod, ips: &[String], cluster_domain: &str, host_file: Option<&str>) -> String {
    let mut out = match host_file {
        Some(text) => format!("# Kubernetes-managed hosts file (host network).\n{text}"),
        None => {
            let mut out = String::from("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
            out.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n");
            out.push_str("fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
            let (short, full) = hostname(pod, cluster_domain);
            for ip in ips {
                match &full {
                    Some(full) if *full != short => out.push_str(&format!("{ip}\t{full}\t{short}\n")),
                    _ => out.push_str(&format!("{ip}\t{short}\n")),
                }
            }
            out
        }
    };
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            out.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    out
}

/// The lines of a resolver file that matter.
pub fn parse_resolv(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(str::to_owned).collect(),
            Some("domain") if config.searches.is_empty() => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

/// libc looks at three name servers, upstream allows no more.
const SERVERS_MAX: usize = 3;
/// Upstream's limit for search domains.
const SEARCHES_MAX: usize = 32;

/// The resolver settings of a pod by its policy.
pub fn dns(pod: &Pod, host: &DnsConfig, cluster_dns: &[IpAddr], cluster_domain: &str) -> DnsConfig {
    let Some(spec) = &pod.spec else { return host.clone() };
    let host_network = spec.host_network == Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if cluster && !cluster_dns.is_empty() => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let mut searches = vec![
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            searches.extend(host.searches.iter().cloned());
            DnsConfig {
                servers: cluster_dns.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ => host.clone(),
    };
    if let Some(extra) = &spec.dns_config {
        add(&mut config.servers, extra.nameservers.iter().flatten());
        add(&mut config.searches, extra.searches.iter().flatten());
        for option in extra.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let prefix = format!("{name}:");
            config.options.retain(|old| old != name && !old.starts_with(&prefix));
            config.options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    config.servers.truncate(SERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    config
}

fn add<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    #[test]
    fn names() {
        let long = "a".repeat(62) + "-bcd";
        let mut renamed = pod(json!({}));
        renamed.metadata.name = Some(long);
        assert_eq!(hostname(&renamed, "c.l").0.len(), 62);
        let cases = [
            (json!({}), "web-0", None),
            (json!({"hostname": "h"}), "h", None),
            (json!({"hostname": "h", "subdomain": "s"}), "h", Some("h.s.ns.svc.c.l")),
            (json!({"subdomain": "s", "setHostnameAsFQDN": true}), "web-0.s.ns.svc.c.l", Some("web-0.s.ns.svc.c.l")),
        ];
        for (spec, short, full) in cases {
            let found = hostname(&pod(spec.clone()), "c.l");
            assert_eq!((found.0.as_str(), found.1.as_deref()), (short, full), "{spec}");
        }
    }

    #[test]
    fn hosts_files() {
        let aliases = json!([{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}]);
        let text = hosts(&pod(json!({"subdomain": "s", "hostAliases": aliases})), &["10.0.0.5".into()], "c.l", None);
        assert!(text.contains("10.0.0.5\tweb-0.s.ns.svc.c.l\tweb-0\n"), "{text}");
        assert!(text.contains("1.2.3.4\tfoo\tbar\n"), "{text}");
        let text = hosts(&pod(json!({})), &[], "c.l", Some("9.9.9.9 host\n"));
        assert!(text.ends_with("9.9.9.9 host\n"), "{text}");
    }

    #[test]
    fn policies() {
        let host = parse_resolv("nameserver 8.8.8.8\nsearch example.org\noptions edns0\n");
        let cluster = [IpAddr::from([10, 96, 0, 10])];
        let run = |spec: Value| dns(&pod(spec), &host, &cluster, "c.l");
        let first = run(json!({}));
        assert_eq!(first.servers, ["10.96.0.10"]);
        assert_eq!(first.searches, ["ns.svc.c.l", "svc.c.l", "c.l", "example.org"]);
        assert_eq!(first.options, ["ndots:5"]);
        assert_eq!(run(json!({"hostNetwork": true})).servers, ["8.8.8.8"]);
        assert_eq!(run(json!({"dnsPolicy": "Default"})).options, ["edns0"]);
        let with = json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert_eq!(run(with).servers, ["10.96.0.10"]);
        let none = run(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}}));
        assert_eq!((none.servers, none.searches), (vec!["1.1.1.1".to_owned()], vec!["x".to_owned()]));
        assert_eq!(none.options, ["ndots:2", "rotate"]);
        let changed = run(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}));
        assert_eq!(changed.options, ["ndots:1"]);
    }
}
