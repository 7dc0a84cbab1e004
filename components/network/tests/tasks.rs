//! The network's tasks against an API server in memory and a network namespace of the test's own. Needs root, `ip`, `nft`
//! and the CNI plugins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use navarch_client::InformerFactory;
use navarch_client::testing::FakeServer;
use navarch_network::{CniSettings, NetworkContext, NetworkSettings, Runner, cleanup, specs};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec, Tree, fault};
use serde_json::json;
use tokio_util::sync::CancellationToken;

struct Namespaced(String);

impl Namespaced {
    fn new() -> Self {
        let name = format!("nvt{}t", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        let world = Self(name);
        world.run("ip link set lo up");
        world.run("ip address add 192.0.2.1/32 dev lo");
        world
    }

    fn run(&self, command: &str) -> String {
        let output = Command::new("ip").args(["netns", "exec", &self.0]).args(command.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespaced {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks the server on a thread of its own: the tasks run on this one.
async fn resolve(listen: SocketAddrV4, name: &'static str) -> Vec<String> {
    let ask = move || {
        let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).ok()?, RecordType::A));
        socket.send_to(&message.to_vec().ok()?, listen).ok()?;
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).ok()?;
        let answer = Message::from_vec(&buffer[..length]).ok()?;
        Some(answer.answers.iter().map(|record| record.data.to_string()).collect())
    };
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answers) = tokio::task::spawn_blocking(ask).await.unwrap() {
            return answers;
        }
        assert!(Instant::now() < end, "no answer for {name}");
    }
}

fn service(server: &FakeServer, address: &str) {
    server.put_json::<Service>(json!({"metadata": {"namespace": "d", "name": "web"},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]}}));
}

#[actix::test]
async fn tasks_follow_the_api_and_leave_nothing() {
    let (world, server, folder) = (Namespaced::new(), FakeServer::new(), tempfile::tempdir().unwrap());
    server.put_json::<Namespace>(json!({"metadata": {"name": "d"}}));
    server.put_json::<Node>(json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.7.0/24"}}));
    service(&server, "10.96.0.7");
    server.put_json::<EndpointSlice>(json!({"metadata": {"namespace": "d", "name": "web-1",
        "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": ["10.244.7.2"]}]}));
    let net = |text: &str| text.parse().unwrap();
    let mut settings =
        NetworkSettings::new("n", "192.0.2.1".parse().unwrap(), net("10.244.0.0/16"), net("10.96.0.0/16"));
    settings.runner = Runner { prefix: ["ip", "netns", "exec", &world.0].map(str::to_owned).into() };
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = SocketAddrV4::new("127.0.0.1".parse().unwrap(), port);
    settings.dns_listen = Some(listen);
    let conf_dir = folder.path().join("net.d");
    settings.cni = Some(CniSettings {
        conf_dir: conf_dir.clone(),
        plugin_dir: "/usr/lib/cni".into(),
        data_dir: folder.path().join("ipam"),
        mtu: None,
    });
    let informers = InformerFactory::new(server.client());
    let stop = CancellationToken::new();
    let (running, token) = (informers.clone(), stop.clone());
    let informer_task = ChildSpec::task("informers", move |_| {
        let (informers, token) = (running.clone(), token.clone());
        async move { informers.run(token).await }
    });
    let children = specs(&NetworkContext { informers, settings: settings.clone() });
    let root = SupervisorSpec::new("test", Strategy::OneForOne).child(informer_task).children(children);
    let tree = Tree::start(root).await.unwrap();

    let table = || world.run("nft list table ip navarch");
    until("the Service is in the table", || table().contains("10.96.0.7 . tcp . 80")).await;
    until("the node's pods are masqueraded", || table().contains("ip saddr 10.244.7.0/24")).await;
    let conf = conf_dir.join("10-navarch.conflist");
    until("CNI is configured", || std::fs::read_to_string(&conf).is_ok_and(|c| c.contains("10.244.7.0/24"))).await;
    assert!(world.run("ip route").contains("10.96.0.0/16 dev lo"));
    assert_eq!(resolve(listen, "web.d.svc.cluster.local.").await, ["10.96.0.7"]);
    // A change is followed, also by tasks that broke.
    fault::enable();
    for point in ["network/services", "network/dns", "network/pods"] {
        fault::arm(point, 1).unwrap();
    }
    service(&server, "10.96.0.8");
    until("the change is in the table", || table().contains("10.96.0.8 . tcp . 80") && !table().contains("10.96.0.7 "))
        .await;
    assert_eq!(resolve(listen, "web.d.svc.cluster.local.").await, ["10.96.0.8"]);
    stop.cancel();
    tree.stop(Duration::from_secs(20)).await;
    cleanup(&settings).await.unwrap();
    assert!(!conf.exists());
    assert_eq!(world.run("nft list ruleset").trim(), "");
    assert!(!world.run("ip route").contains("10.96.0.0/16"));
}
