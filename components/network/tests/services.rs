//! Services over a real nftables, in network namespaces of the test's own: a node and two pods on point-to-point links.
//! Needs root, `ip`, `nft` and `conntrack`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use navarch_network::Runner;
use navarch_network::services::apply::Applier;
use navarch_network::services::model::{PortName, Protocol, ServicePort, Services, Target};
use navarch_network::services::plan::TableConfig;

const TABLE: &str = "navarch_test";
const NODE: &str = "192.0.2.1";

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A node and its pods; gone when dropped.
struct World {
    node: String,
    pods: Vec<String>,
}

impl World {
    fn new(name: &str) -> Self {
        let node = format!("nvt{}{name}", std::process::id());
        let world = Self { pods: (1..=2).map(|i| format!("{node}p{i}")).collect(), node };
        let node = &world.node;
        sh(&format!(
            "ip netns add {node}; ip -n {node} link set lo up; ip -n {node} addr add {NODE}/32 dev lo
             ip -n {node} route add 10.96.0.0/16 dev lo src {NODE}
             ip netns exec {node} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"
        ));
        for (i, pod) in world.pods.iter().enumerate() {
            let address = pod_address(i);
            sh(&format!(
                "ip netns add {pod}; ip -n {pod} link set lo up
                 ip link add eth0 netns {pod} type veth peer name pod{i} netns {node}
                 ip -n {node} addr add 10.244.0.1/32 dev pod{i}; ip -n {node} link set pod{i} up
                 ip -n {node} route add {address}/32 dev pod{i}
                 ip -n {pod} addr add {address}/32 dev eth0; ip -n {pod} link set eth0 up
                 ip -n {pod} route add 10.244.0.1 dev eth0; ip -n {pod} route add default via 10.244.0.1"
            ));
            serve(pod, i);
        }
        world
    }

    fn applier(&self) -> Applier {
        let runner = self.runner();
        Applier::new(
            runner,
            TableConfig {
                table: TABLE.into(),
                cluster_ranges: vec!["10.244.0.0/16".parse().unwrap()],
                pod_range: Some("10.244.0.0/24".parse().unwrap()),
                service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
                served_here: BTreeSet::new(),
                mark: 0x4000,
            },
        )
    }

    fn runner(&self) -> Runner {
        Runner { prefix: ["ip", "netns", "exec", &self.node].map(str::to_owned).into() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.pods.iter().chain([&self.node]) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn pod_address(i: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 0, u8::try_from(i).unwrap() + 2)
}

/// Runs something in a namespace, on a thread of its own.
fn within<T: Send + 'static>(namespace: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        act()
    })
    .join()
    .unwrap()
}

/// A pod says its number and who asks, over TCP and UDP, for as long as the test runs.
fn serve(pod: &str, i: usize) {
    let (tcp, udp) =
        within(pod, || (TcpListener::bind("0.0.0.0:8080").unwrap(), UdpSocket::bind("0.0.0.0:8080").unwrap()));
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = tcp.accept() {
            let _ = stream.write_all(format!("{i} {}", from.ip()).as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(format!("{i} {}", from.ip()).as_bytes(), from);
        }
    });
}

/// What answers at an address, asked from a namespace: a pod's number and whom it saw, or the kind of error.
fn dial(from: &str, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    within(from, move || {
        let mut stream = match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
            Ok(stream) => stream,
            Err(error) => return format!("{:?}", error.kind()),
        };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Ok(_) => text,
            Err(error) => format!("{:?}", error.kind()),
        }
    })
}

fn pods_that_answer(from: &str, to: &str, times: usize) -> BTreeSet<String> {
    (0..times).map(|_| dial(from, to).split(' ').next().unwrap().to_owned()).collect()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn service(pods: &[usize], change: impl FnOnce(&mut ServicePort)) -> ServicePort {
    let targets: BTreeSet<_> = pods.iter().map(|i| Target { address: pod_address(*i), port: 8080 }).collect();
    let mut service = ServicePort {
        cluster_addresses: ["10.96.0.1".parse().unwrap()].into(),
        port: 80,
        local_targets: targets.clone(),
        targets,
        ..ServicePort::default()
    };
    change(&mut service);
    service
}

fn services(all: Vec<(&str, ServicePort)>) -> Services {
    let name = |name: &str| PortName {
        namespace: "d".into(),
        service: name.into(),
        port: String::new(),
        protocol: Protocol::Tcp,
    };
    all.into_iter().map(|(n, service)| (name(n), service)).collect()
}

#[tokio::test]
async fn services_are_reached_and_refused() {
    let world = World::new("a");
    let mut applier = world.applier();
    let (node, pod) = (&world.node, &world.pods[0]);
    let node_port = format!("{NODE}:30080");
    let empty = |s: &mut ServicePort| {
        s.cluster_addresses = ["10.96.0.2".parse().unwrap()].into();
        s.node_port = Some(30081);
    };
    let sticky = |s: &mut ServicePort| {
        s.cluster_addresses = ["10.96.0.3".parse().unwrap()].into();
        s.affinity_seconds = Some(100);
    };
    let web = |pods: &[usize]| service(pods, |s| s.node_port = Some(30080));
    applier
        .apply(services(vec![
            ("web", web(&[0, 1])),
            ("empty", service(&[], empty)),
            ("sticky", service(&[0, 1], sticky)),
        ]))
        .await
        .unwrap();
    // From the node and from a pod, by cluster address and by node port. 40 tries miss one of two once in 10^12.
    for from in [node, pod] {
        for to in ["10.96.0.1:80", &node_port] {
            assert_eq!(pods_that_answer(from, to, 40), set(&["0", "1"]), "{from} to {to}");
        }
        for to in ["10.96.0.2:80", "192.0.2.1:30081", "10.96.0.1:81", "10.96.9.9:80"] {
            assert_eq!(dial(from, to), "ConnectionRefused", "{from} to {to}");
        }
        assert_eq!(pods_that_answer(from, "10.96.0.3:80", 12).len(), 1, "{from} stays with one");
    }
    // Pods see each other's addresses; a pod that reaches itself sees the node.
    let seen: BTreeSet<_> = (0..40).map(|_| dial(pod, "10.96.0.1:80")).collect();
    assert_eq!(seen, set(&["0 10.244.0.1", "1 10.244.0.2"]));
    assert!(applier.is_intact().await);
    // One endpoint goes; then the Service.
    applier.apply(services(vec![("web", web(&[1]))])).await.unwrap();
    assert_eq!(pods_that_answer(pod, "10.96.0.1:80", 10), set(&["1"]));
    assert_eq!(dial(pod, "10.96.0.3:80"), "ConnectionRefused");
    applier.apply(services(vec![("web", web(&[]))])).await.unwrap();
    assert_eq!(dial(node, &node_port), "ConnectionRefused");
    applier.apply(services(vec![("web", web(&[0]))])).await.unwrap();
    assert_eq!(pods_that_answer(node, &node_port, 10), set(&["0"]));
    // Somebody else's hand is noticed, and undone.
    sh(&format!("ip netns exec {node} nft flush chain ip {TABLE} services"));
    assert!(!applier.is_intact().await);
    applier.distrust();
    applier.apply(services(vec![("web", web(&[0]))])).await.unwrap();
    assert_eq!(pods_that_answer(node, "10.96.0.1:80", 4), set(&["0"]));
    world.runner().delete_table(TABLE).await.unwrap();
    world.runner().delete_table(TABLE).await.unwrap();
    let left = Command::new("ip").args(["netns", "exec", node, "nft", "list", "ruleset"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "");
}

#[tokio::test]
async fn every_change_applies_to_every_state() {
    let world = World::new("b");
    let mut applier = world.applier();
    let source = |s: &mut ServicePort| {
        s.external_addresses = [("198.51.100.7".parse().unwrap(), vec!["10.244.0.2/32".parse().unwrap()])].into();
    };
    let variants = [
        services(vec![]),
        services(vec![("a", service(&[0, 1], |s| s.affinity_seconds = Some(5)))]),
        services(vec![("a", service(&[0], |s| s.affinity_seconds = Some(6)))]),
        services(vec![("a", service(&[0, 1], |s| s.internal_local = true))]),
        services(vec![(
            "a",
            service(&[0, 1], |s| {
                s.external_local = true;
                s.node_port = Some(30000);
            }),
        )]),
        services(vec![(
            "a",
            service(&[0, 1], |s| {
                s.internal_local = true;
                s.local_targets.clear();
            }),
        )]),
        services(vec![
            ("a", service(&[1], source)),
            ("b", service(&[0], |s| s.cluster_addresses = ["10.96.0.9".parse().unwrap()].into())),
        ]),
        services(vec![("a", service(&[], source))]),
    ];
    for from in &variants {
        for to in &variants {
            applier.apply(from.clone()).await.unwrap();
            applier.apply(to.clone()).await.unwrap();
        }
    }
    // Load balancers' source ranges: one pod may, the other may not.
    applier.apply(variants[6].clone()).await.unwrap();
    assert_eq!(dial(&world.pods[0], "198.51.100.7:80").split(' ').next(), Some("1"));
    assert_eq!(dial(&world.pods[1], "198.51.100.7:80"), "TimedOut");
    // What was written change by change is what would be written at once.
    let listed = world.runner().list_table(TABLE).await.unwrap();
    applier.distrust();
    applier.apply(variants[6].clone()).await.unwrap();
    let sorted = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(world.runner().list_table(TABLE).await.unwrap()), sorted(listed));
}

#[tokio::test]
async fn udp_clients_follow_their_service() {
    let world = World::new("c");
    let mut applier = world.applier();
    let udp = |pods: &[usize]| -> Services {
        let name =
            PortName { namespace: "d".into(), service: "u".into(), port: String::new(), protocol: Protocol::Udp };
        [(name, service(pods, |_| {}))].into()
    };
    // One socket, one source port: the kernel takes all it sends for one connection.
    let socket = within(&world.pods[0], || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.96.0.1:80").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    });
    let ask = || {
        let mut buffer = [0; 64];
        // A refusal that is still on its way shows as an error of the send.
        socket.send(b"x").or_else(|_| socket.send(b"x")).unwrap();
        socket.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n])[..1].to_owned()).unwrap_or_default()
    };
    applier.apply(udp(&[])).await.unwrap();
    assert_eq!(ask(), "");
    applier.apply(udp(&[1])).await.unwrap();
    assert_eq!(ask(), "1");
    applier.apply(udp(&[0])).await.unwrap();
    assert_eq!(ask(), "0");
}
