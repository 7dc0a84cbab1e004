//! What the process shows of itself beside the Kubernetes API: the supervision tree, faults to order, and how to join.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use navarch_auth::Pki;
use navarch_auth::view::ObjectView;
use navarch_config::Settings;
use navarch_server::join::{Join, Membership};
use navarch_server::service::{PathRequest, PathService};
use navarch_supervision::{NodeState, Tree, fault};
use navarch_telemetry::prometheus_client::collector::Collector;
use navarch_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use navarch_telemetry::prometheus_client::metrics::counter::Counter;
use navarch_telemetry::prometheus_client::metrics::family::Family;
use navarch_telemetry::prometheus_client::metrics::gauge::Gauge;
use navarch_types::ApiError;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use crate::identity::Identity;
use crate::machine;
use crate::members::Members;
use crate::roster::Wanted;
use crate::status::StatusSource;

/// Where the supervision tree is shown.
pub const TREE_PATH: &str = "/navarch/tree";
/// Where the cluster is shown.
pub const STATUS_PATH: &str = "/navarch/status";
/// Where orders for members are taken.
pub const MEMBERS_PATH: &str = "/navarch/v1/members";

/// The environment variable that allows faults to be ordered. Meant for tests of a running cluster.
const FAULTS_VARIABLE: &str = "NAVARCH_FAULTS";

type Labels = Vec<(&'static str, String)>;

/// The tree once it runs.
#[derive(Clone, Default)]
pub struct TreeView(Arc<ArcSwapOption<Tree>>);

impl TreeView {
    /// From now on shows this tree.
    pub fn show(&self, tree: &Tree) {
        self.0.store(Some(Arc::new(tree.clone())));
    }

    /// The tree as JSON; `null` while it starts.
    pub fn json(&self) -> String {
        let snapshot = self.0.load().as_ref().map(|tree| tree.snapshot());
        serde_json::to_string(&snapshot).unwrap_or_else(|_| "null".to_owned())
    }
}

impl fmt::Debug for TreeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeView").finish_non_exhaustive()
    }
}

/// The tree's figures, read anew whenever metrics are asked for.
impl Collector for TreeView {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(snapshot) = self.0.load().as_ref().map(|tree| tree.snapshot()) else { return Ok(()) };
        let restarts = Family::<Labels, Counter>::default();
        let up = Family::<Labels, Gauge>::default();
        snapshot.visit(&mut |path, node| {
            let labels = vec![("path", path.to_owned())];
            restarts.get_or_create(&labels).inc_by(node.restarts);
            up.get_or_create(&labels).set(i64::from(node.state == NodeState::Running));
        });
        let help = "How often a supervised child was started again";
        let name = "navarch_supervision_restarts";
        restarts.encode(encoder.encode_descriptor(name, help, None, restarts.metric_type())?)?;
        let help = "Whether a supervised child runs";
        up.encode(encoder.encode_descriptor("navarch_supervision_up", help, None, up.metric_type())?)
    }
}

/// What the API server answers beside the API and what belongs to it.
pub struct OwnPaths {
    /// The supervision tree.
    pub tree: TreeView,
    /// The cluster.
    pub status: Arc<StatusSource>,
    /// The way into the cluster.
    pub join: Arc<dyn PathService>,
    /// Orders for members.
    pub members: Arc<dyn PathService>,
    /// Snapshots.
    pub save: Arc<dyn PathService>,
}

/// The way into the cluster for machines with a token.
pub fn join(
    settings: &Settings,
    pki: &Arc<Pki>,
    view: &Arc<dyn ObjectView>,
    identity: &Identity,
    membership: Arc<dyn Membership>,
) -> Arc<dyn PathService> {
    let mut reserved =
        vec![machine::host_name(), identity.address.to_string(), settings.server.bind_address.to_string()];
    reserved.push(settings.cluster.kubernetes_service_ip().to_string());
    reserved.extend(settings.server.extra_sans.iter().cloned());
    Arc::new(Join {
        pki: Arc::clone(pki),
        view: Arc::clone(view),
        membership,
        cluster_name: settings.cluster.name.clone(),
        cluster_id: identity.cluster_id.clone(),
        settings: serde_json::to_value(&settings.cluster).unwrap_or_default(),
        reserved,
    })
}

/// An order for a member.
#[derive(Deserialize)]
struct MemberOrder {
    id: u64,
    wanted: Wanted,
}

#[async_trait]
impl PathService for Members {
    async fn answer(&self, request: PathRequest) -> Result<Value, ApiError> {
        let order: MemberOrder = serde_json::from_slice(&request.body)
            .map_err(|error| ApiError::bad_request(format!("the body is no order for a member: {error}")))?;
        tracing::info!(user = %request.user.name, member = order.id, wanted = ?order.wanted, "members are to change");
        let member = self.order(order.id, order.wanted).await?;
        // One that goes itself may not live to hear that it has gone.
        let own = self.raft.status().member;
        tokio::select! {
            reached = self.until(order.id, order.wanted) => reached?,
            () = self.removed(own), if order.id == own && order.wanted == Wanted::Removed => {}
        }
        serde_json::to_value(member).map_err(ApiError::internal)
    }
}

/// Allows faults if the environment asks for them.
pub fn allow_faults() {
    if std::env::var_os(FAULTS_VARIABLE).is_some_and(|value| value == "1") {
        tracing::warn!("faults can be ordered: {FAULTS_VARIABLE} is set");
        fault::enable();
    }
}

/// Orders panics: `controllers/deployment=1,scheduler/cycle=2`, as [`fault::arm_all`] reads it. Refused unless faults are
/// allowed. Without an order: every point that was passed, how often, and what is still armed.
pub fn order_fault(query: &str) -> (u16, String) {
    match query.strip_prefix("arm=") {
        None => {
            let lines = fault::list().into_iter().map(|(name, hits, armed)| format!("{name} {hits} {armed}\n"));
            (200, lines.collect())
        }
        Some(order) => match fault::arm_all(&percent_decode_str(order).decode_utf8_lossy()) {
            Ok(()) => (200, format!("armed {order}\n")),
            Err(error) => {
                (403, format!("{error}; faults are ordered only of a process started with {FAULTS_VARIABLE}=1\n"))
            }
        },
    }
}
