//! Cases for `plan_tests`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn config() -> TableConfig {
    TableConfig {
        table: "t".into(),
        cluster_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        pod_range: Some("10.244.0.0/24".parse().unwrap()),
        service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
        served_here: BTreeSet::new(),
        mark: 0x4000,
    }
}

fn targets(list: &[&str]) -> BTreeSet<Target> {
    list.iter().map(|a| Target { address: a.parse().unwrap(), port: 8080 }).collect()
}

fn one(change: impl FnOnce(&mut ServicePort)) -> Plan {
    let name = PortName { namespace: "d".into(), service: "s".into(), port: String::new(), protocol: Protocol::Tcp };
    let mut service = ServicePort {
        cluster_addresses: ["10.96.0.1".parse().unwrap()].into(),
        port: 80,
        targets: targets(&["10.244.0.2", "10.244.1.3"]),
        local_targets: targets(&["10.244.0.2"]),
        ..ServicePort::default()
    };
    change(&mut service);
    plan(&[(name, service)].into(), &config())
}

/// Elements and chains with hashes left out.
fn text(plan: &Plan) -> Vec<String> {
    let short = |text: &str| {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('_') {
            let (head, tail) = rest.split_at(at + 1);
            out.push_str(head);
            let hex = tail.chars().take_while(char::is_ascii_hexdigit).count();
            rest = if hex == 16 { &tail[16..] } else { tail };
        }
        out + rest
    };
    let mut lines: Vec<_> = plan
        .elements
        .iter()
        .map(|((map, key), verdict)| format!("{} {key} : {}", map.name(), short(verdict)))
        .collect();
    lines.extend(plan.chains.iter().flat_map(|(name, rules)| {
        let name = short(name);
        rules.iter().map(move |rule| format!("{name} {}", short(rule))).collect::<Vec<_>>()
    }));
    lines.sort();
    lines
}

#[test]
fn a_cluster_address() {
    assert_eq!(
        text(&one(|_| {})),
        [
            "endpoint_ ip saddr 10.244.0.2 jump mark_for_masquerade",
            "endpoint_ ip saddr 10.244.1.3 jump mark_for_masquerade",
            "endpoint_ meta l4proto tcp dnat to 10.244.0.2:8080",
            "endpoint_ meta l4proto tcp dnat to 10.244.1.3:8080",
            "service_ ip daddr 10.96.0.1 ip saddr != { 10.244.0.0/16 } jump mark_for_masquerade",
            "service_ numgen random mod 2 vmap { 0 : goto endpoint_, 1 : goto endpoint_ }",
            "service_addresses 10.96.0.1 . tcp . 80 : goto service_",
        ]
    );
}

fn elements(plan: &Plan) -> Vec<String> {
    text(plan)
        .into_iter()
        .filter(|line| Map::ALL.iter().any(|map| line.starts_with(&format!("{} ", map.name()))))
        .collect()
}

#[test]
fn where_each_address_leads() {
    let external = || [("1.2.3.4".parse().unwrap(), Vec::new())].into();
    let cases: Vec<(&str, Plan, Vec<&str>)> = vec![
        (
            "none at all",
            one(|s| {
                s.targets.clear();
                s.local_targets.clear();
                s.node_port = Some(30000);
                s.external_addresses = external();
            }),
            vec![
                "refused_addresses 1.2.3.4 . tcp . 80 : goto refuse",
                "refused_addresses 10.96.0.1 . tcp . 80 : goto refuse",
                "refused_node_ports tcp . 30000 : goto refuse",
            ],
        ),
        (
            "node port",
            one(|s| s.node_port = Some(30000)),
            vec!["node_ports tcp . 30000 : goto external_", "service_addresses 10.96.0.1 . tcp . 80 : goto service_"],
        ),
        (
            "inside, own node",
            one(|s| s.internal_local = true),
            vec!["service_addresses 10.96.0.1 . tcp . 80 : goto local_"],
        ),
        (
            "inside, own node has none",
            one(|s| {
                s.internal_local = true;
                s.local_targets.clear();
            }),
            vec!["refused_addresses 10.96.0.1 . tcp . 80 : drop"],
        ),
        (
            "source ranges",
            one(|s| s.external_addresses = [("1.2.3.4".parse().unwrap(), vec!["5.0.0.0/8".parse().unwrap()])].into()),
            vec![
                "firewalled 1.2.3.4 . tcp . 80 : jump firewall_",
                "service_addresses 1.2.3.4 . tcp . 80 : goto external_",
                "service_addresses 10.96.0.1 . tcp . 80 : goto service_",
            ],
        ),
    ];
    for (name, plan, expected) in cases {
        assert_eq!(elements(&plan), expected, "{name}");
    }
}

#[test]
fn traffic_from_outside() {
    let external = |plan: &Plan| text(plan).into_iter().filter(|l| l.starts_with("external_ ")).collect::<Vec<_>>();
    let cluster = one(|s| s.node_port = Some(30000));
    assert_eq!(external(&cluster), ["external_ goto service_", "external_ jump mark_for_masquerade"]);
    let local = one(|s| {
        s.node_port = Some(30000);
        s.external_local = true;
    });
    assert_eq!(
        external(&local),
        [
            "external_ fib saddr type local goto service_",
            "external_ fib saddr type local jump mark_for_masquerade",
            "external_ goto local_",
            "external_ ip saddr { 10.244.0.0/16 } goto service_",
        ]
    );
    let nobody_here = one(|s| {
        s.node_port = Some(30000);
        s.external_local = true;
        s.local_targets.clear();
    });
    assert!(external(&nobody_here).contains(&"external_ drop".to_owned()));
    assert!(!nobody_here.chains.keys().any(|name| name.starts_with("local_")));
}

#[test]
fn affinity_keeps_a_set_an_endpoint() {
    let plan = one(|s| s.affinity_seconds = Some(60));
    assert_eq!(plan.sets.len(), 2);
    assert!(plan.sets.values().all(|set| set.timeout_seconds == 60));
    let lines = text(&plan);
    assert_eq!(lines.iter().filter(|l| l.starts_with("service_ ip saddr @affinity_ goto endpoint_")).count(), 2);
    assert_eq!(lines.iter().filter(|l| l.contains("update @affinity_ { ip saddr }")).count(), 2);
}

#[test]
fn the_first_of_two_services_has_an_external_address() {
    let service = |targets: BTreeSet<Target>| ServicePort {
        external_addresses: [("1.2.3.4".parse().unwrap(), Vec::new())].into(),
        port: 80,
        targets,
        ..ServicePort::default()
    };
    let name = |name: &str| PortName {
        namespace: "d".into(),
        service: name.into(),
        port: String::new(),
        protocol: Protocol::Tcp,
    };
    let services =
        [(name("a"), service(targets(&["10.244.0.2"]))), (name("b"), service(targets(&["10.244.0.3"])))].into();
    let plan = plan(&services, &config());
    let first = super::names(&name("a")).external;
    assert_eq!(plan.elements.len(), 1);
    assert_eq!(plan.elements.values().next(), Some(&format!("goto {first}")));
}
