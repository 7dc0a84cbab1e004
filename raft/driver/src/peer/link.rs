//! The way to one peer: a connection that is made again whenever it ends, and what goes over it.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use raft::eraftpb::{Message, MessageType};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    PeerConfig, PeerFigures,
    frame::{Body, Purpose, put},
    hello::{Connection, REMOVED, connect},
    net::Net,
    outbox::Outbox,
    send::Slot,
    wire::{Ended, FrameReader, FrameWriter},
};
use crate::shell::ProposeError;

/// Share of a new measurement in the round-trip time, one in this many, as TCP has it.
const ROUND_TRIP_WEIGHT: u64 = 8;

pub(super) struct Link {
    pub(super) member: u64,
    pub(super) address: String,
    pub(super) outbox: Outbox,
    pub(super) snapshot: Slot,
    /// This link ends, because the member stops or the peer is none any more.
    pub(super) stop: CancellationToken,
    /// The peer was just heard of: try to connect now.
    pub(super) nudge: Notify,
    /// Messages to it were lost.
    lost: Notify,
    /// Where the numbers in pings count from.
    epoch: Instant,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    messages_sent: AtomicU64,
    messages_dropped: AtomicU64,
    bytes_sent: AtomicU64,
    snapshots_sent: AtomicU64,
    /// Microseconds, 0 if not known.
    round_trip_us: AtomicU64,
}

impl Link {
    pub(super) fn new(config: &PeerConfig, member: u64, address: String, stop: CancellationToken) -> Self {
        Self {
            member,
            address,
            outbox: Outbox::new(config),
            snapshot: Slot::default(),
            stop,
            nudge: Notify::new(),
            lost: Notify::new(),
            epoch: Instant::now(),
            counters: Counters::default(),
        }
    }

    /// Takes a message in. `false`: it is a snapshot that will not be sent, and nobody will say so.
    pub(super) fn send(&self, message: Message) -> bool {
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return self.snapshot.offer(message);
        }
        if !self.outbox.message(message) {
            self.messages_lost(1);
        }
        true
    }

    fn messages_lost(&self, count: u64) {
        self.counters.messages_dropped.fetch_add(count, Ordering::Relaxed);
        self.lost.notify_one();
    }

    pub(super) fn snapshot_sent(&self) {
        self.counters.snapshots_sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> PeerFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let round_trip_us = count(&self.counters.round_trip_us);
        PeerFigures {
            address: self.address.clone(),
            connected: self.outbox.is_connected(),
            connections: count(&self.counters.connections),
            messages_sent: count(&self.counters.messages_sent),
            messages_dropped: count(&self.counters.messages_dropped),
            bytes_sent: count(&self.counters.bytes_sent),
            proposals: self.outbox.proposals(),
            snapshots_sent: count(&self.counters.snapshots_sent),
            round_trip: (round_trip_us > 0).then(|| Duration::from_micros(round_trip_us)),
        }
    }

    /// Runs the link until it is stopped. A panic in it, which is a defect, costs the connection and not the link.
    pub(super) async fn run(&self, net: &Net) {
        while !self.stop.is_cancelled() {
            let work =
                async { tokio::join!(self.keep_connected(net), self.report_lost(net), self.send_snapshots(net)) };
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                tracing::error!(peer = self.member, "the link panicked: it begins anew");
                self.disconnected(net);
                self.end_snapshots(net);
                self.snapshot.done();
                self.pause(&net.inner.config, net.inner.config.backoff_max).await;
            }
        }
        self.end_snapshots(net);
    }

    async fn keep_connected(&self, net: &Net) {
        let config = &net.inner.config;
        let (mut backoff, mut told) = (config.backoff_min, String::new());
        while !self.stop.is_cancelled() {
            let connected = tokio::select! {
                () = self.stop.cancelled() => return,
                connected = connect(config, self.member, &self.address, Purpose::Link) => connected,
            };
            match connected {
                Ok(connection) => {
                    told.clear();
                    if self.session(net, connection).await {
                        backoff = config.backoff_min;
                    }
                }
                Err(Ended::There(reason)) if reason == REMOVED => {
                    net.inner.removed_here.cancel();
                }
                // Once for each reason: it is tried again and again.
                Err(ended) if ended.to_string() != told => {
                    told = ended.to_string();
                    tracing::warn!(peer = self.member, address = self.address, %ended, "no connection to the peer");
                }
                Err(_) => {}
            }
            // The spread keeps members from trying in step.
            self.pause(config, backoff.mul_f64(rand::random_range(0.5..1.0))).await;
            backoff = (backoff * 2).min(config.backoff_max);
        }
    }

    /// Waits before the next attempt: less if the peer is heard of, but never so little that two members which cannot
    /// talk to each other keep each other busy.
    async fn pause(&self, config: &PeerConfig, duration: Duration) {
        let nudged = async {
            self.nudge.notified().await;
            sleep(config.backoff_min).await;
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = nudged => {}
            () = sleep(duration) => {}
        }
    }

    /// One connection, until it ends. Whether the peer was heard on it.
    async fn session(&self, net: &Net, mut connection: Connection) -> bool {
        tracing::info!(peer = self.member, address = self.address, "connected to the peer");
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.outbox.connected();
        let mut heard = false;
        let ended = {
            let Connection { reader, writer, .. } = &mut connection;
            tokio::select! {
                () = self.stop.cancelled() => Ended::Stopped,
                ended = self.hear(reader, &mut heard) => ended,
                ended = self.speak(writer, net.inner.config.keepalive) => ended,
            }
        };
        self.disconnected(net);
        if ended.is_loss() {
            net.local.lost(self.member);
        }
        tracing::info!(peer = self.member, %ended, "connection to the peer ended");
        match ended {
            // The process ends: what the peer sees then, the end of the stream, is the truth.
            Ended::Stopped if net.inner.stop.is_cancelled() => {}
            Ended::Stopped => connection.goodbye(Some("no peer any more, or at another address".to_owned())).await,
            Ended::Here(_) | Ended::Silent(_) => connection.goodbye(Some(ended.to_string())).await,
            Ended::There(_) | Ended::Io(_) => {}
        }
        heard
    }

    fn disconnected(&self, net: &Net) {
        let stopping = net.inner.stop.is_cancelled();
        let unsent = if stopping { ProposeError::Stopped } else { ProposeError::NotLeader { leader: None } };
        self.messages_lost(self.outbox.disconnected(unsent));
    }

    /// Reads until the connection ends.
    async fn hear<R>(&self, reader: &mut FrameReader<R>, heard: &mut bool) -> Ended
    where
        R: tokio::io::AsyncRead + Unpin,
    {
        loop {
            match reader.next().await {
                Ok(Body::Pong(sent_us)) => {
                    *heard = true;
                    self.measured(sent_us);
                }
                Ok(Body::Answer(answer)) => self.outbox.answer(answer.id, answer.result()),
                Ok(Body::Close(reason)) => return Ended::There(reason),
                Ok(_) => return Ended::here("a frame that does not belong here"),
                Err(ended) => return ended,
            }
        }
    }

    /// Writes what waits, and pings, until the connection ends.
    async fn speak<W>(&self, writer: &mut FrameWriter<W>, keepalive: Duration) -> Ended
    where
        W: tokio::io::AsyncWrite + Unpin,
    {
        let mut ping = tokio::time::interval(keepalive);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ping.tick() => put(Body::Ping(self.now_us()), &mut writer.buffer),
                () = self.outbox.filled() => {}
            }
            let messages = self.outbox.take(&mut writer.buffer);
            if let Err(ended) = writer.flush(&self.counters.bytes_sent).await {
                return ended;
            }
            self.counters.messages_sent.fetch_add(messages, Ordering::Relaxed);
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn measured(&self, sent_us: u64) {
        let Some(sample) = self.now_us().checked_sub(sent_us) else { return };
        let before = self.counters.round_trip_us.load(Ordering::Relaxed);
        let now = match before {
            0 => sample,
            _ => (before * (ROUND_TRIP_WEIGHT - 1) + sample) / ROUND_TRIP_WEIGHT,
        };
        // 0 stands for unknown.
        self.counters.round_trip_us.store(now.max(1), Ordering::Relaxed);
    }

    /// Says that messages to the peer are lost, not for each of them.
    async fn report_lost(&self, net: &Net) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.lost.notified() => net.local.unreachable(self.member),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(net.inner.config.unreachable_interval) => {}
            }
        }
    }
}
