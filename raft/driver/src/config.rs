//! What the driver is told at start. Every bound of every queue is here.

use std::time::Duration;

use navarch_raft_contract::ConfState;

use crate::core::CoreConfig;

/// Settings of one member.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member; not 0.
    pub member: u64,
    /// The cluster; a data folder of another one is refused.
    pub cluster_id: String,
    /// The voters of a cluster that begins now. Not looked at when the log says how it began.
    pub voters: Vec<u64>,
    /// Length of a tick.
    pub tick: Duration,
    /// Length of a tick while this member is the only voter: nothing depends on it then.
    pub tick_alone: Duration,
    /// Ticks without a leader until an election; the real number is drawn between this and twice this.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Where election timeouts are drawn from.
    pub seed: u64,
    /// Proposals that are accepted and not answered yet; beyond it: busy.
    pub proposals_max: usize,
    /// Their bytes.
    pub proposal_bytes_max: usize,
    /// One proposal's bytes.
    pub command_bytes_max: usize,
    /// Reads waiting for a read index; beyond it: busy.
    pub reads_max: usize,
    /// Messages from peers waiting for the driver; more are dropped, as a network would.
    pub messages_max: usize,
    /// Bytes of commands that share an entry.
    pub entry_bytes_max: usize,
    /// Bytes of entries kept in memory for peers and for the applier.
    pub window_bytes: usize,
    /// Batches handed to the log writer or to the applier that wait there.
    pub stage_queue_max: usize,
    /// Bytes of applied commands after which the state is flushed and the log cut.
    pub flush_bytes: usize,
    /// Time after which they are, if anything was applied.
    pub flush_interval: Duration,
    /// Entries kept in the log behind the flushed state, so that a peer that is a little behind needs no snapshot.
    pub log_keep_entries: u64,
    /// And their bytes: when that many were applied after them, entries go although there are not so many.
    pub log_keep_bytes: usize,
    /// The state was discarded because it was damaged, and another one is to come from a peer; the members as far as they are
    /// known. Until then nothing is applied, and this member does not stand for election.
    pub rebuild: Option<ConfState>,
    /// Changes below the floor that one compaction slice removes.
    pub sweep_slice: usize,
}

impl Config {
    /// Settings of the only member of a cluster.
    pub fn single(member: u64, cluster_id: impl Into<String>) -> Self {
        Self {
            member,
            cluster_id: cluster_id.into(),
            voters: vec![member],
            tick: Duration::from_millis(20),
            tick_alone: Duration::from_millis(500),
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed: 0,
            proposals_max: 4096,
            proposal_bytes_max: 64 << 20,
            command_bytes_max: 8 << 20,
            reads_max: 16_384,
            messages_max: 4096,
            entry_bytes_max: 1 << 20,
            window_bytes: 8 << 20,
            stage_queue_max: 1024,
            flush_bytes: 8 << 20,
            flush_interval: Duration::from_secs(300),
            log_keep_entries: 1000,
            log_keep_bytes: 64 << 20,
            rebuild: None,
            sweep_slice: 500,
        }
    }

    /// The core's share.
    pub fn core(&self) -> CoreConfig {
        CoreConfig {
            member: self.member,
            election_ticks: self.election_ticks,
            heartbeat_ticks: self.heartbeat_ticks,
            seed: self.seed,
            message_bytes_max: self.entry_bytes_max as u64,
            inflight_messages_max: 256,
            uncommitted_bytes_max: 2 * self.proposal_bytes_max as u64,
            committed_bytes_max: 4 << 20,
            window_bytes: self.window_bytes,
        }
    }
}
