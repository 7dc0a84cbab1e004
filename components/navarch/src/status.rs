//! The cluster as one member sees it: members, roles, lag, links, room on the disk.

use std::fmt;
use std::sync::Arc;

use navarch_raft_contract::Room;
use navarch_raft_driver::Role;
use navarch_telemetry::prometheus_client::collector::Collector;
use navarch_telemetry::prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use navarch_telemetry::prometheus_client::metrics::family::Family;
use navarch_telemetry::prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};

use crate::alarms::{Alarm, AlarmKind, Alarms, room_name};
use crate::members::Members;
use crate::roster::Wanted;
use crate::snapshots::{SnapshotStatus, Snapshots};

/// What is shown of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster_id: String,
    /// The member that tells this.
    pub member: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Last entry known to be committed.
    pub committed: u64,
    /// Last entry applied by this member.
    pub applied: u64,
    /// Last entry whose effect is flushed.
    pub durable: u64,
    /// The store's revision.
    pub revision: u64,
    /// History is kept above this revision.
    pub compacted: u64,
    /// How full this member's disk is: `ample`, `low` (nothing new) or `critical` (deletes only).
    pub room: String,
    /// What is wrong with members, as far as this one knows.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
    /// The snapshots that this member takes by itself.
    #[serde(default)]
    pub snapshots: SnapshotStatus,
    /// The name under which members know each other.
    #[serde(default)]
    pub group: String,
    /// All members.
    pub members: Vec<MemberStatus>,
}

/// What is shown of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `leader`, `voter`, `learner`, or `joining` before it is either.
    pub role: String,
    /// What it is meant to be.
    pub wanted: Wanted,
    /// Where it takes its peers' connections.
    pub peer_address: String,
    /// Where its API is.
    pub server: String,
    /// Whether the member that tells this has a connection to it.
    pub connected: bool,
    /// Entries by which it is behind; only the leader knows.
    pub lag: Option<u64>,
    /// Whether a snapshot is on its way to it; only the leader knows.
    pub snapshot: bool,
    /// Round-trip time to it, in microseconds.
    pub round_trip_us: Option<u64>,
    /// What it says of itself. A member does not know it of another one: who shows the cluster asks each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<Report>,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Last entry it has applied.
    pub applied: u64,
    /// Last entry whose effect it has flushed.
    pub durable: u64,
    /// How full its disk is, as in [`ClusterStatus::room`].
    pub room: String,
    /// Its snapshots.
    pub snapshots: SnapshotStatus,
}

impl From<ClusterStatus> for Report {
    fn from(status: ClusterStatus) -> Self {
        let ClusterStatus { applied, durable, room, snapshots, .. } = status;
        Self { applied, durable, room, snapshots }
    }
}

/// Collects it.
pub struct StatusSource {
    pub cluster_id: String,
    pub members: Members,
    pub room: Arc<dyn Room>,
    pub alarms: Arc<Alarms>,
    pub snapshots: Arc<Snapshots>,
}

impl StatusSource {
    /// As it is now.
    pub fn status(&self) -> ClusterStatus {
        let Members { store, raft, roster, .. } = &self.members;
        let (status, figures) = (raft.status(), raft.figures());
        let room = room_name(self.room.level());
        ClusterStatus {
            cluster_id: self.cluster_id.clone(),
            member: status.member,
            leader: if status.role == Role::Leader { Some(status.member) } else { status.leader },
            term: status.term,
            committed: figures.committed,
            applied: figures.applied,
            durable: figures.durable,
            revision: store.revision(),
            compacted: store.reader().compacted(),
            room: room.to_owned(),
            alarms: self.alarms.all(),
            snapshots: self.snapshots.status(),
            group: raft.group().unwrap_or_default(),
            members: roster.members().into_values().filter_map(|(member, _)| self.member(&member)).collect(),
        }
    }

    /// Nothing of one that is none any more.
    fn member(&self, member: &crate::roster::Member) -> Option<MemberStatus> {
        let Members { raft, peers, .. } = &self.members;
        let (status, view) = (raft.status(), raft.view());
        let (votes, learns) = (view.members.voters.contains(&member.id), view.members.learners.contains(&member.id));
        if member.wanted == Wanted::Removed && !votes && !learns {
            return None;
        }
        let link = peers.figures().remove(&member.id);
        let progress = view.peers.iter().find(|peer| peer.id == member.id);
        let own = member.id == status.member;
        let role = match (status.leader == Some(member.id), votes, learns) {
            (true, ..) => "leader",
            (_, true, _) => "voter",
            (_, _, true) => "learner",
            _ => "joining",
        };
        Some(MemberStatus {
            id: member.id,
            name: member.name.clone(),
            role: role.to_owned(),
            wanted: member.wanted,
            peer_address: member.peer_address.clone(),
            server: member.server.clone(),
            connected: own || link.as_ref().is_some_and(|link| link.connected),
            lag: progress.map(|peer| raft.figures().committed.saturating_sub(peer.matched)),
            snapshot: progress.is_some_and(|peer| peer.snapshot),
            round_trip_us: link.and_then(|link| link.round_trip).map(|time| time.as_micros() as u64),
            reports: None,
        })
    }
}

impl fmt::Debug for StatusSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusSource").finish_non_exhaustive()
    }
}

/// Figures as dashboards of etcd know them, where there are such.
#[derive(Debug)]
pub struct StatusMetrics(pub Arc<StatusSource>);

impl Collector for StatusMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let status = self.0.status();
        let figures = self.0.members.raft.figures();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("etcd_server_has_leader", "Whether a leader is known", u64::from(status.leader.is_some())),
            ("etcd_server_is_leader", "Whether this member leads", u64::from(status.leader == Some(status.member))),
            ("etcd_server_proposals_committed_total", "Last entry known to be committed", figures.committed),
            ("etcd_server_proposals_applied_total", "Last entry applied by this member", figures.applied),
            ("etcd_server_proposals_pending", "Proposals without an answer", figures.pending),
            ("etcd_debugging_mvcc_current_revision", "The store's revision", status.revision),
            ("etcd_debugging_mvcc_compact_revision", "History is kept above this revision", status.compacted),
            ("navarch_raft_term", "The term of consensus", status.term),
            ("navarch_raft_flushed_index", "Last entry whose effect is flushed to the disk", figures.durable),
            ("navarch_snapshot_failures", "Snapshots that could not be taken, since start", status.snapshots.failures),
            (
                "navarch_snapshot_last_timestamp_seconds",
                "When the newest snapshot was taken; 0: there is none",
                status.snapshots.last.as_ref().map_or(0, |last| u64::try_from(last.taken_at_s).unwrap_or_default()),
            ),
            ("navarch_raft_log_syncs", "Synced writes of the log since start", figures.log.syncs),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(number(value));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let (up, lag) = (Family::<Labels, Gauge>::default(), Family::<Labels, Gauge>::default());
        for member in status.members.iter().filter(|member| member.id != status.member) {
            let labels = vec![("peer", member.id.to_string())];
            up.get_or_create(&labels).set(i64::from(member.connected));
            if let Some(entries) = member.lag {
                lag.get_or_create(&labels).set(number(entries));
            }
        }
        let alarms = Family::<Labels, Gauge>::default();
        for kind in AlarmKind::ALL {
            let raised = status.alarms.iter().any(|alarm| alarm.kind == kind && alarm.member == status.member);
            alarms.get_or_create(&vec![("alarm", kind.as_str().to_owned())]).set(i64::from(raised));
        }
        let help = "Whether something is wrong with this member";
        alarms.encode(encoder.encode_descriptor("navarch_alarm", help, None, alarms.metric_type())?)?;
        let help = "Whether there is a connection to another member";
        up.encode(encoder.encode_descriptor("navarch_peer_connected", help, None, up.metric_type())?)?;
        let help = "Entries by which another member is behind, as the leader knows";
        lag.encode(encoder.encode_descriptor("navarch_peer_lag_entries", help, None, lag.metric_type())?)
    }
}

type Labels = Vec<(&'static str, String)>;
