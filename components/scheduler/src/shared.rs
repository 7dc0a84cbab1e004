//! What the scheduler's tasks share: the state, and the bounded channels between them. Outlives each of the tasks; the
//! feed makes the state anew when it starts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use navarch_client::{EventRecorder, EventType};
use navarch_supervision::Ref;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::framework::Framework;
use crate::pod::PodInfo;
use crate::queue::Depth;
use crate::run::{SchedulingLoop, Wake};
use crate::state::{SCHEDULER_NAME, State};

/// Decisions that wait for the binder. More than this stop the loop: cycles must not run far ahead of the API server.
pub(crate) const BINDS_QUEUED_MAX: usize = 128;
/// Conditions that wait to be written. More are dropped: they explain, they do not decide, and the next attempt writes
/// them again.
pub(crate) const REPORTS_QUEUED_MAX: usize = 1024;

/// A decision for the binder.
#[derive(Debug)]
pub(crate) struct Bind {
    pub pod: Arc<PodInfo>,
    pub node: String,
}

/// Why a pod has no node, for its condition.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub pod: Arc<PodInfo>,
    pub reason: &'static str,
    pub message: String,
}

/// What the scheduler did, for metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Pods bound.
    pub scheduled: AtomicU64,
    /// Cycles that found no node.
    pub unschedulable: AtomicU64,
    /// Bindings that failed.
    pub errors: AtomicU64,
    /// Conditions not written because too many waited.
    pub reports_dropped: AtomicU64,
    depth: Mutex<Depth>,
}

impl Figures {
    /// How many pods wait where, as of the latest idle moment or batch.
    pub fn depth(&self) -> Depth {
        *self.depth.lock()
    }

    pub(crate) fn set_depth(&self, depth: Depth) {
        *self.depth.lock() = depth;
    }
}

pub(crate) struct Shared {
    pub framework: Arc<Framework>,
    /// None until the informers are complete.
    pub state: Mutex<Option<State>>,
    cycles: Ref<SchedulingLoop>,
    pub binds: mpsc::Sender<Bind>,
    pub binds_out: tokio::sync::Mutex<mpsc::Receiver<Bind>>,
    pub reports: mpsc::Sender<Report>,
    pub reports_out: tokio::sync::Mutex<mpsc::Receiver<Report>>,
    /// What the reporter is writing, by the pod's uid: one that fails leaves these to the next.
    pub reports_in_hand: Mutex<HashMap<String, Report>>,
    pub recorder: EventRecorder,
    pub figures: Arc<Figures>,
}

impl Shared {
    pub fn new(framework: Arc<Framework>, figures: Arc<Figures>, cycles: Ref<SchedulingLoop>) -> Self {
        let (binds, binds_out) = mpsc::channel(BINDS_QUEUED_MAX);
        let (reports, reports_out) = mpsc::channel(REPORTS_QUEUED_MAX);
        Self {
            framework,
            state: Mutex::new(None),
            cycles,
            binds,
            binds_out: tokio::sync::Mutex::new(binds_out),
            reports,
            reports_out: tokio::sync::Mutex::new(reports_out),
            reports_in_hand: Mutex::default(),
            recorder: EventRecorder::new(SCHEDULER_NAME, None),
            figures,
        }
    }

    /// There may be something to decide.
    pub fn wake(&self) {
        // A full mailbox holds a wake already; an actor that is starting looks by itself.
        let _ = self.cycles.try_send(Wake);
    }

    /// Does something with the state, once there is one.
    pub fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.state.lock().as_mut().map(act)
    }

    /// Tells a user that a pod has its node.
    pub fn tell_scheduled(&self, pod: &PodInfo, node: &str) {
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        self.recorder.event(pod.pod.as_ref(), EventType::Normal, "Scheduled", message);
    }

    /// Tells a user why a pod has none.
    pub fn tell_failed(&self, pod: Arc<PodInfo>, reason: &'static str, message: String) {
        self.recorder.event(pod.pod.as_ref(), EventType::Warning, "FailedScheduling", message.clone());
        if self.reports.try_send(Report { pod, reason, message }).is_err() {
            self.figures.reports_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
