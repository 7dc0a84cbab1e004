//! Cases for `zone_tests`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;

/// Records out of lists.
#[derive(Default)]
pub(crate) struct Fixed {
    pub namespaces: Vec<&'static str>,
    pub services: Vec<Arc<Service>>,
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl Records for Fixed {
    fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(&namespace)
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.iter().find(|s| names(s) == (namespace, name)).cloned()
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        let matches = |s: &&Arc<EndpointSlice>| {
            s.metadata.namespace.as_deref() == Some(namespace)
                && s.metadata.labels.as_ref().unwrap()[SERVICE_NAME] == service
        };
        self.slices.iter().filter(matches).cloned().collect()
    }

    fn services_at(&self, address: Ipv4Addr) -> Vec<Arc<Service>> {
        self.services.iter().filter(|s| cluster_addresses(s).any(|a| a == address)).cloned().collect()
    }

    fn slices_at(&self, address: Ipv4Addr) -> Vec<Arc<EndpointSlice>> {
        let has =
            |s: &&Arc<EndpointSlice>| s.endpoints.iter().flatten().any(|e| e.addresses.contains(&address.to_string()));
        self.slices.iter().filter(has).cloned().collect()
    }
}

fn service(name: &str, spec: Value) -> Arc<Service> {
    Arc::new(serde_json::from_value(json!({"metadata": {"namespace": "d", "name": name}, "spec": spec})).unwrap())
}

fn slice(service: &str, endpoints: Value) -> Arc<EndpointSlice> {
    let value = json!({"metadata": {"namespace": "d", "name": format!("{service}-1"), "labels": {SERVICE_NAME: service}},
        "addressType": "IPv4", "ports": [{"name": "http", "protocol": "TCP", "port": 8080}], "endpoints": endpoints});
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn fixed() -> Fixed {
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    Fixed {
        namespaces: vec!["d"],
        services: vec![
            service("web", json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": ports})),
            service("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
            service("none", json!({"clusterIP": "None"})),
            service("out", json!({"type": "ExternalName", "externalName": "example.com"})),
        ],
        slices: vec![
            slice("web", json!([{"addresses": ["10.244.0.9"]}])),
            slice(
                "db",
                json!([{"addresses": ["10.244.0.2"], "hostname": "db-0"}, {"addresses": ["10.244.0.3"]},
                    {"addresses": ["10.244.0.4"], "conditions": {"ready": false}}]),
            ),
        ],
    }
}

pub(crate) fn zone() -> Zone {
    let ranges = ["10.96.0.0/16", "10.244.0.0/16"].map(|r| r.parse().unwrap()).into();
    Zone::new("cluster.local", ranges, "10.96.0.10".parse().unwrap()).unwrap()
}

fn ask(name: &str, kind: RecordType) -> String {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    let text = |record: &Record| format!("{} {}", record.record_type(), record.data);
    match zone().answer(&name, kind, &fixed()) {
        Answer::Records(answers, besides) => {
            assert!(answers.iter().all(|record| record.name == name));
            let mut all: Vec<_> = answers.iter().map(text).collect();
            all.extend(besides.iter().map(|record| format!("+{} {}", record.name, text(record))));
            all.join(", ")
        }
        Answer::Alias(record, _) => text(&record),
        Answer::NoData(soa) => {
            assert_eq!(soa.record_type(), RecordType::SOA);
            "no data".into()
        }
        Answer::Denied(_) => "denied".into(),
        Answer::Elsewhere => "elsewhere".into(),
    }
}

#[test]
fn answers() {
    use RecordType::{A, AAAA, NS, PTR, SOA, SRV, TXT};
    let cases = [
        ("web.d.svc.cluster.local", A, "A 10.96.0.7"),
        ("WEB.D.Svc.Cluster.Local", A, "A 10.96.0.7"),
        ("web.d.svc.cluster.local", AAAA, "no data"),
        ("web.d.svc.cluster.local", TXT, "no data"),
        ("web.e.svc.cluster.local", A, "denied"),
        ("nope.d.svc.cluster.local", A, "denied"),
        ("nope.d.svc.cluster.local", AAAA, "denied"),
        ("d.svc.cluster.local", A, "no data"),
        ("e.svc.cluster.local", A, "denied"),
        ("svc.cluster.local", A, "no data"),
        ("cluster.local", A, "no data"),
        ("x.cluster.local", A, "denied"),
        // What a search path makes of other names.
        ("web.d.svc.cluster.local.d.svc.cluster.local", A, "denied"),
        ("example.com.d.svc.cluster.local", A, "denied"),
        ("example.com", A, "elsewhere"),
        ("local", A, "elsewhere"),
        ("xcluster.local", A, "elsewhere"),
        ("db.d.svc.cluster.local", A, "A 10.244.0.2, A 10.244.0.3"),
        ("none.d.svc.cluster.local", A, "no data"),
        ("db-0.db.d.svc.cluster.local", A, "A 10.244.0.2"),
        ("db-0.db.d.svc.cluster.local", AAAA, "no data"),
        ("10-244-0-3.db.d.svc.cluster.local", A, "A 10.244.0.3"),
        ("10-244-0-4.db.d.svc.cluster.local", A, "denied"),
        ("10-244-0-9.web.d.svc.cluster.local", A, "A 10.244.0.9"),
        (
            "_http._tcp.web.d.svc.cluster.local",
            SRV,
            "SRV 0 100 80 web.d.svc.cluster.local., +web.d.svc.cluster.local. A 10.96.0.7",
        ),
        (
            "_dns._udp.web.d.svc.cluster.local",
            SRV,
            "SRV 0 100 53 web.d.svc.cluster.local., +web.d.svc.cluster.local. A 10.96.0.7",
        ),
        ("_dns._tcp.web.d.svc.cluster.local", SRV, "denied"),
        ("_http._tcp.web.d.svc.cluster.local", A, "no data"),
        (
            "_http._tcp.db.d.svc.cluster.local",
            SRV,
            "SRV 0 50 8080 db-0.db.d.svc.cluster.local., SRV 0 50 8080 10-244-0-3.db.d.svc.cluster.local., \
             +db-0.db.d.svc.cluster.local. A 10.244.0.2, +10-244-0-3.db.d.svc.cluster.local. A 10.244.0.3",
        ),
        ("1-2-3-4.d.pod.cluster.local", A, "A 1.2.3.4"),
        ("1-2-3-4.d.pod.cluster.local", AAAA, "no data"),
        ("1-2-3.d.pod.cluster.local", A, "denied"),
        ("1-2-3-4.e.pod.cluster.local", A, "denied"),
        ("out.d.svc.cluster.local", A, "CNAME example.com."),
        ("x.out.d.svc.cluster.local", A, "denied"),
        ("dns-version.cluster.local", TXT, "TXT 1.1.0"),
        ("dns-version.cluster.local", A, "no data"),
        ("cluster.local", NS, "NS ns.cluster.local., +ns.cluster.local. A 10.96.0.10"),
        ("ns.cluster.local", A, "A 10.96.0.10"),
        ("7.0.96.10.in-addr.arpa", PTR, "PTR web.d.svc.cluster.local."),
        ("2.0.244.10.in-addr.arpa", PTR, "PTR db-0.db.d.svc.cluster.local."),
        ("2.0.244.10.in-addr.arpa", A, "no data"),
        ("8.0.96.10.in-addr.arpa", PTR, "denied"),
        ("1.1.1.1.in-addr.arpa", PTR, "elsewhere"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
    assert!(ask("cluster.local", SOA).starts_with("SOA ns.cluster.local. hostmaster.cluster.local."));
}
