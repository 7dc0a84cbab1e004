//! The agent of this machine: its settings, its subtree, and removing what it leaves running on purpose.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint};
use navarch_auth::pki::KUBELET_CLIENT_USER;
use navarch_client::http::{Credentials, HttpTransport, Servers};
use navarch_client::kubeconfig::Kubeconfig;
use navarch_client::{Client, InformerFactory};
use navarch_config::{Settings, parse_taint};
use navarch_kubelet::KubeletContext;
use navarch_kubelet::containerd::ContainerdConfig;
use navarch_kubelet::context::{KubeletConfig, ServerConfig};
use navarch_network::{CniSettings, NetworkContext, NetworkSettings};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec, TaskContext};
use navarch_types::{ApiError, PatchType, UserInfo};
use serde_json::json;

use crate::commands::CommandError;
use crate::control_plane::{self, ControlPlane, OpenError};
use crate::join::state::more_servers;
use crate::machine;
use crate::process::{Stages, stage};

/// Who the node's network agent is to the API.
pub const NETWORK_USER: &str = navarch_auth::PROXY_USER;
/// Grace for containers when the cluster is taken down.
const DOWN_GRACE: Duration = Duration::from_secs(2);
/// How upstream's tools mark a node that runs the control plane.
const ROLE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Between two looks at whether the node is ready.
const READY_POLL: Duration = Duration::from_millis(20);

fn base(settings: &Settings) -> PathBuf {
    settings.data_dir.join("agent")
}

/// The node's name.
pub fn name(settings: &Settings) -> String {
    settings.agent.node_name.clone().unwrap_or_else(machine::host_name)
}

fn node_ip(settings: &Settings) -> IpAddr {
    settings.agent.node_ip.unwrap_or_else(machine::address)
}

fn kubelet_config(settings: &Settings) -> KubeletConfig {
    let base = base(settings);
    let agent = &settings.agent;
    let mut config = KubeletConfig::new(&name(settings), &base);
    config.hostname = machine::host_name();
    config.node_ip = node_ip(settings);
    config.max_pods = agent.pods_max;
    config.cluster_domain.clone_from(&settings.cluster.domain);
    config.node_labels = agent.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    // What is none was refused when the settings were read.
    let taints = agent.taints.iter().filter_map(|taint| parse_taint(taint).ok());
    let taint = |(key, value, effect): (&str, &str, &str)| Taint {
        key: key.to_owned(),
        value: (!value.is_empty()).then(|| value.to_owned()),
        effect: effect.to_owned(),
        time_added: None,
    };
    config.node_taints = taints.map(taint).collect();
    if agent.network {
        config.cluster_dns = vec![settings.cluster.dns_service_ip()];
    }
    match agent.container_runtime_endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix("unix://")) {
        Some(socket) => config.cri_socket = PathBuf::from(socket),
        None => {
            let mut own = ContainerdConfig::new(&settings.data_dir.join("containerd"));
            own.cni_bin_dir.clone_from(&agent.cni_bin_dir);
            own.cni_conf_dir = base.join("cni");
            config.cri_socket = own.socket();
            config.containerd = Some(own);
        }
    }
    config.preload_dir = Some(agent.images_dir.clone().unwrap_or_else(|| settings.data_dir.join("images")));
    config
}

fn network_settings(settings: &Settings) -> Option<NetworkSettings> {
    if !settings.agent.network {
        return None;
    }
    let address = match node_ip(settings) {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
    };
    let cluster = &settings.cluster;
    let mut network = NetworkSettings::new(&name(settings), address, cluster.pod_cidr, cluster.service_cidr);
    network.cluster_domain.clone_from(&cluster.domain);
    if let IpAddr::V4(dns) = cluster.dns_service_ip() {
        network.dns_listen = Some(SocketAddrV4::new(dns, 53));
    }
    let base = base(settings);
    network.cni = Some(CniSettings {
        conf_dir: base.join("cni"),
        plugin_dir: settings.agent.cni_bin_dir.clone(),
        data_dir: base.join("cni-addresses"),
        mtu: None,
    });
    Some(network)
}

/// Which of the network's plugins the agent would need and does not find.
pub fn missing_plugins(settings: &Settings) -> Vec<PathBuf> {
    let cni = network_settings(settings).and_then(|network| network.cni);
    cni.map_or_else(Vec::new, |cni| navarch_network::cni::missing_plugins(&cni))
}

/// The agent beside a control plane of the same process.
///
/// # Errors
/// If its certificate cannot be made.
pub fn local_spec(settings: &Settings, control_plane: &ControlPlane, stages: &Stages) -> Result<ChildSpec, OpenError> {
    let node = name(settings);
    let mut config = kubelet_config(settings);
    let pki = control_plane.pki();
    let serving = pki.kubelet_serving(&node, &[node_ip(settings)])?;
    config.server = Some(ServerConfig {
        listen: SocketAddr::new(settings.server.bind_address, settings.agent.port),
        cert_pem: serving.certificate_pem.into_bytes(),
        key_pem: serving.key_pem.into_bytes(),
        client_ca_pem: pki.ca_pem().as_bytes().to_vec(),
        allowed_names: vec![KUBELET_CLIENT_USER.to_owned()],
    });
    let client = control_plane.client(navarch_auth::node_identity(&node));
    let labeller = control_plane.client(navarch_auth::service_account_identity("kube-system", "node-controller", ""));
    let network_client = control_plane.client(UserInfo::new(NETWORK_USER, &["system:authenticated"]));
    Ok(ChildSpec::supervisor(spec(settings, config, client, network_client, stages).child(role(labeller, node))))
}

/// Labels the node of a control-plane member as such: agents may not do that themselves (NodeRestriction).
fn role(client: Client, node: String) -> ChildSpec {
    let work = move |context: TaskContext| {
        let (client, node) = (client.clone(), node.clone());
        async move {
            let api = client.all::<Node>();
            loop {
                let found = api.get(&node).await;
                let labelled = found.as_ref().ok().and_then(|node| node.metadata.labels.as_ref());
                if labelled.is_some_and(|labels| labels.contains_key(ROLE_LABEL)) {
                    return Ok::<(), ApiError>(());
                }
                if found.is_ok() {
                    let patch = json!({"metadata": {"labels": {ROLE_LABEL: ""}}});
                    api.patch(&node, None, PatchType::Merge, patch).await?;
                    return Ok(());
                }
                tokio::select! {
                    () = context.stopped() => return Ok(()),
                    () = tokio::time::sleep(READY_POLL) => {}
                }
            }
        }
    };
    ChildSpec::task("node-role", work).restart(navarch_supervision::Restart::Transient)
}

/// The agent of a control plane that is reached over the network.
///
/// # Errors
/// If the kubeconfig cannot be read, or lacks what an agent needs.
pub fn remote_spec(settings: &Settings, stages: &Stages) -> Result<ChildSpec, CommandError> {
    let Some(path) = &settings.agent.kubeconfig else {
        return Err("agent.kubeconfig is not set: join a cluster first (`navarch join`), or give --kubeconfig FILE, which `navarch \
                    kubeconfig --node NAME --node-ip ADDRESS` prints on a server"
            .into());
    };
    let kubeconfig = Kubeconfig::read(path)?;
    let own = kubeconfig.current()?;
    let mut told = own.servers.clone();
    told.extend(more_servers(&settings.data_dir, path));
    told.extend(settings.agent.servers.iter().cloned());
    // All of the node's clients go to the same server, and leave it together.
    let servers = Servers::new(&told, &name(settings), Some(base(settings).join("servers.json")))?;
    let Credentials::Certificate { certificate, key } = &own.credentials else {
        return Err(format!(
            "{}: the current user needs a client certificate: the agent's own API shows it too",
            path.display()
        )
        .into());
    };
    let mut config = kubelet_config(settings);
    config.server = Some(ServerConfig {
        listen: SocketAddr::new(settings.server.bind_address, settings.agent.port),
        cert_pem: certificate.clone(),
        key_pem: key.clone(),
        client_ca_pem: own.ca_pem.clone(),
        allowed_names: vec![KUBELET_CLIENT_USER.to_owned()],
    });
    let network = if settings.agent.network { kubeconfig.user(NETWORK_USER)? } else { own.clone() };
    let own = Arc::new(HttpTransport::sharing(own, Arc::clone(&servers))?);
    let network = Client::new(Arc::new(HttpTransport::sharing(network, servers)?));
    let agent = spec(settings, config, Client::new(Arc::<HttpTransport>::clone(&own)), network, stages);
    Ok(ChildSpec::supervisor(agent.child(servers_spec(own))))
}

/// Keeps the node's list of servers, and its choice among them, good.
fn servers_spec(transport: Arc<HttpTransport>) -> ChildSpec {
    ChildSpec::task("servers", move |context: TaskContext| {
        let transport = Arc::clone(&transport);
        async move {
            tokio::select! {
                () = context.stopped() => {}
                () = transport.tend() => {}
            }
            Ok::<(), Infallible>(())
        }
    })
}

fn spec(
    settings: &Settings,
    config: KubeletConfig,
    client: Client,
    network_client: Client,
    stages: &Stages,
) -> SupervisorSpec {
    let node = config.node_name.clone();
    let mut agent = SupervisorSpec::new("node-agent", Strategy::OneForOne);
    if let Some(network) = network_settings(settings) {
        let informers = InformerFactory::new(network_client);
        let context = NetworkContext { informers: informers.clone(), settings: network };
        let supervisor = SupervisorSpec::new("network", Strategy::OneForOne)
            .child(control_plane::informers_spec(&informers))
            .children(navarch_network::specs(&context));
        agent = agent.child(ChildSpec::supervisor(supervisor));
    }
    let kubelet = SupervisorSpec::new("kubelet", Strategy::OneForOne)
        .children(navarch_kubelet::specs(KubeletContext { client: client.clone(), config }));
    agent.child(ChildSpec::supervisor(kubelet)).child(stage("node-ready", stages, move || {
        let (client, node) = (client.clone(), node.clone());
        async move { until_ready(&client, &node).await }
    }))
}

async fn until_ready(client: &Client, name: &str) -> Result<(), OpenError> {
    loop {
        if let Ok(node) = client.all::<Node>().get(name).await {
            let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
            if conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True") {
                return Ok(());
            }
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Removes every pod, container, mount, network rule and interface that the agent of this machine made.
///
/// # Errors
/// The first thing that could not be removed; it can be called again.
pub fn clean_up(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        navarch_kubelet::cleanup::remove_everything(&kubelet_config(settings), DOWN_GRACE).await?;
        if let Some(network) = network_settings(settings) {
            navarch_network::cleanup(&network).await?;
        }
        Ok(())
    })
}
