//! What the node itself needs before pods and Services work: forwarding, the range of its pods, the address of the DNS
//! server, and a route that keeps Service addresses on the node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use navarch_client::InformerFactory;
use navarch_supervision::{TaskContext, fault};
use tokio::sync::{Notify, watch};

use crate::services::nft::CommandError;
use crate::settings::NetworkSettings;
use crate::{CleanupError, cni};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// How often everything is looked after again: somebody may have flushed addresses or routes.
const AGAIN_EVERY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// What the task works with.
#[derive(Clone)]
pub(crate) struct NodeTask {
    pub informers: InformerFactory,
    pub settings: NetworkSettings,
    pub pod_range: watch::Sender<Option<Ipv4Net>>,
}

/// Why the node is not ready for pods.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cannot turn on forwarding: {0}")]
    Forwarding(std::io::Error),
    #[error("cannot write the CNI configuration: {0}")]
    Cni(std::io::Error),
    #[error("CNI plugins are missing: {0}")]
    Plugins(String),
}

fn pod_range_of(node: &Node) -> Option<Ipv4Net> {
    let spec = node.spec.as_ref()?;
    spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).find_map(|range| range.parse().ok())
}

/// Turns forwarding on, if it is off.
fn forward() -> Result<(), SetupError> {
    if std::fs::read_to_string(IP_FORWARD).is_ok_and(|now| now.trim() == "1") {
        return Ok(());
    }
    std::fs::write(IP_FORWARD, "1").map_err(SetupError::Forwarding)
}

/// The commands that give the node its addresses and routes; doing them again changes nothing.
fn commands(settings: &NetworkSettings) -> Vec<Vec<String>> {
    let words = |text: String| text.split(' ').map(str::to_owned).collect();
    let mut all = vec![words("link set lo up".to_owned())];
    for address in settings.own_addresses() {
        all.push(words(format!("address replace {address}/32 dev lo")));
    }
    for range in &settings.service_ranges {
        // The node's own connections need a route before they are translated. With this one they have it without a
        // default route too, and what is not translated stays here.
        all.push(words(format!("route replace {range} dev lo src {}", settings.node_address)));
    }
    all
}

async fn set_up(settings: &NetworkSettings, pod_range: Option<Ipv4Net>) -> Result<(), SetupError> {
    for command in commands(settings) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        settings.runner.run("ip", &words, None).await?;
    }
    if settings.runner.prefix.is_empty() {
        forward()?;
    } else {
        let script = format!("echo 1 > {IP_FORWARD}");
        settings.runner.run("sh", &["-c", &script], None).await?;
    }
    if let (Some(cni), Some(range)) = (&settings.cni, pod_range) {
        let missing = cni::missing_plugins(cni);
        if !missing.is_empty() {
            let paths: Vec<_> = missing.iter().map(|path| path.display().to_string()).collect();
            return Err(SetupError::Plugins(paths.join(", ")));
        }
        cni::write(cni, &cni::config(cni, range, cni::can_map_host_ports(cni))).map_err(SetupError::Cni)?;
    }
    Ok(())
}

/// Takes the addresses and routes back.
pub(crate) async fn remove(settings: &NetworkSettings) -> Result<(), CleanupError> {
    for command in commands(settings).iter().skip(1).rev() {
        let words: Vec<&str> = command.iter().map(|word| if word == "replace" { "del" } else { word }).collect();
        match settings.runner.run("ip", &words, None).await {
            // What is not there cannot be removed.
            Ok(_) | Err(CommandError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The task.
pub(crate) async fn run(task: NodeTask, ctx: TaskContext) -> Result<(), Infallible> {
    let NodeTask { informers, settings, pod_range } = task;
    let nodes = informers.informer::<Node>();
    let wake = Arc::new(Notify::new());
    let (note, own) = (Arc::clone(&wake), settings.node_name.clone());
    let _subscription = nodes.subscribe(move |change| {
        if *change.key().name == *own {
            note.notify_one();
        }
    });
    let mut warned = false;
    loop {
        fault::point("network/pods");
        let node = nodes.store().find("", &settings.node_name);
        let range = settings.pod_range.or_else(|| pod_range_of(node.as_deref()?));
        let wait = match set_up(&settings, range).await {
            Ok(()) => {
                pod_range.send_if_modified(|now| std::mem::replace(now, range) != range);
                warned = false;
                AGAIN_EVERY
            }
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::error!(%error, "the node's network is not set up");
                }
                RETRY
            }
        };
        tokio::select! {
            () = ctx.stopped() => return Ok(()),
            () = wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn addresses_and_routes() {
        let net = |text: &str| text.parse().unwrap();
        let mut settings =
            NetworkSettings::new("n", "192.0.2.1".parse().unwrap(), net("10.244.0.0/16"), net("10.96.0.0/16"));
        settings.dns_listen = Some("10.96.0.10:53".parse().unwrap());
        let text: Vec<_> = commands(&settings).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            text,
            [
                "link set lo up",
                "address replace 10.96.0.10/32 dev lo",
                "route replace 10.96.0.0/16 dev lo src 192.0.2.1"
            ]
        );
        settings.dns_listen = Some("127.0.0.1:5353".parse().unwrap());
        assert_eq!(commands(&settings).len(), 2);
    }

    #[test]
    fn the_range_of_a_node() {
        let node = |spec| serde_json::from_value::<Node>(serde_json::json!({"spec": spec})).unwrap();
        let cases = [
            (serde_json::json!({}), None),
            (serde_json::json!({"podCIDR": "10.1.0.0/24"}), Some("10.1.0.0/24")),
            (serde_json::json!({"podCIDRs": ["fd00::/64", "10.2.0.0/24"]}), Some("10.2.0.0/24")),
            (serde_json::json!({"podCIDR": "nonsense"}), None),
        ];
        for (spec, expected) in cases {
            assert_eq!(pod_range_of(&node(spec)), expected.map(|e| e.parse().unwrap()));
        }
    }
}
