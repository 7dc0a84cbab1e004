//! Probes of running containers: one task a container, which reports changes of verdict. Thresholds are pure.

use std::time::Duration;

use actix::{Message, Recipient};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Probe};

use crate::cri::Cri;
use crate::events::{Level, Recorder};
use crate::handlers::{self, Outcome};
use crate::lifecycle::ProbeState;

/// How probes introduce themselves.
const AGENT: &str = "kube-probe/1.36";

/// The kinds of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `startupProbe`.
    Startup,
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// Writes a verdict into the state.
    pub fn set(self, state: &mut ProbeState, passes: bool) {
        match self {
            Self::Startup => state.started = Some(passes),
            Self::Liveness => state.live = Some(passes),
            Self::Readiness => state.ready = Some(passes),
        }
    }
}

/// A new verdict.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Report {
    /// The container's id.
    pub id: String,
    /// Which probe.
    pub kind: Kind,
    /// Whether it passes now.
    pub passes: bool,
}

/// Turns single results into verdicts.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    success: i32,
    failure: i32,
    run: i32,
    last: Option<bool>,
    verdict: Option<bool>,
}

impl Threshold {
    /// For a probe, with a verdict known before.
    pub fn new(probe: &Probe, verdict: Option<bool>) -> Self {
        let at_least_one = |value: Option<i32>, default: i32| value.filter(|value| *value > 0).unwrap_or(default);
        Self {
            success: at_least_one(probe.success_threshold, 1),
            failure: at_least_one(probe.failure_threshold, 3),
            run: 0,
            last: None,
            verdict,
        }
    }

    /// One more result. Answers the verdict if it is new.
    pub fn push(&mut self, passes: bool) -> Option<bool> {
        self.run = if self.last == Some(passes) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(passes);
        let needed = if passes { self.success } else { self.failure };
        if self.run < needed || self.verdict == Some(passes) {
            return None;
        }
        self.verdict = Some(passes);
        Some(passes)
    }
}

/// What a container's probes need.
pub struct Target {
    /// The runtime.
    pub cri: Cri,
    /// Events.
    pub events: Recorder,
    /// Whom events are about.
    pub reference: ObjectReference,
    /// The container as specified.
    pub container: Container,
    /// The runtime's id.
    pub id: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The pod's address.
    pub pod_ip: String,
    /// What was known before, if the agent restarted.
    pub known: ProbeState,
}

/// Whether a container has any probe.
pub fn has_probes(container: &Container) -> bool {
    container.startup_probe.is_some() || container.liveness_probe.is_some() || container.readiness_probe.is_some()
}

/// Probes a container until the future is dropped.
pub async fn run(target: Target, reports: Recipient<Report>) {
    if let Some(probe) = &target.container.startup_probe
        && target.known.started != Some(true)
    {
        watch(&target, Kind::Startup, probe, &reports).await;
    }
    let liveness = async {
        if let Some(probe) = &target.container.liveness_probe {
            watch(&target, Kind::Liveness, probe, &reports).await;
        }
    };
    let readiness = async {
        if let Some(probe) = &target.container.readiness_probe {
            watch(&target, Kind::Readiness, probe, &reports).await;
        }
    };
    tokio::join!(liveness, readiness);
    std::future::pending().await
}

/// Probes by period. A startup probe ends with its success; after a failure that kills there is nothing left to ask.
async fn watch(target: &Target, kind: Kind, probe: &Probe, reports: &Recipient<Report>) {
    let seconds = |value: Option<i32>, default: u64| {
        value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
    };
    let period = Duration::from_secs(seconds(probe.period_seconds, 10));
    let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1));
    let delay = Duration::from_secs(seconds(probe.initial_delay_seconds, 0));
    let running = Timestamp::now().duration_since(target.started_at);
    let running = Duration::try_from(running).unwrap_or_default();
    tokio::time::sleep(delay.saturating_sub(running)).await;
    let known = match kind {
        Kind::Readiness => target.known.ready,
        Kind::Startup | Kind::Liveness => None,
    };
    let mut threshold = Threshold::new(probe, known);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = once(target, probe, timeout).await;
        if let Err(why) = &outcome {
            let message = format!("{} probe failed: {why}", kind.as_str());
            target.events.record(target.reference.clone(), Level::Warning, "Unhealthy", message);
        }
        let Some(passes) = threshold.push(outcome.is_ok()) else { continue };
        let report = Report { id: target.id.clone(), kind, passes };
        if reports.send(report).await.is_err() {
            return;
        }
        match (kind, passes) {
            (Kind::Startup, true) => return,
            (Kind::Startup | Kind::Liveness, false) => std::future::pending().await,
            _ => {}
        }
    }
}

async fn once(target: &Target, probe: &Probe, timeout: Duration) -> Outcome {
    if let Some(action) = &probe.exec {
        handlers::exec(&target.cri, &target.id, action, timeout).await
    } else if let Some(action) = &probe.http_get {
        handlers::http_get(action, &target.container, &target.pod_ip, timeout, AGENT).await
    } else if let Some(action) = &probe.tcp_socket {
        handlers::tcp(action, &target.container, &target.pod_ip, timeout).await
    } else if let Some(action) = &probe.grpc {
        handlers::grpc(action, &target.pod_ip, timeout).await
    } else {
        Err("missing probe handler".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let cases: [(&[bool], &[Option<bool>]); 4] = [
            (&[true, true, true], &[None, Some(true), None]),
            (&[false, false, false, false], &[None, None, Some(false), None]),
            (&[true, false, true, true, false, false, false], &[None, None, None, Some(true), None, None, Some(false)]),
            (&[false, false, true, false, false, false], &[None, None, None, None, None, Some(false)]),
        ];
        for (results, expected) in cases {
            let mut threshold = Threshold::new(&probe, None);
            let got: Vec<_> = results.iter().map(|passes| threshold.push(*passes)).collect();
            assert_eq!(got, expected, "{results:?}");
        }
    }
}
