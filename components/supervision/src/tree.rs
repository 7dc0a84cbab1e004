//! The running tree and its picture.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::launch::{self, Running};
use crate::spec::{ChildSpec, Exit, SupervisorSpec};
use crate::watchdog;

/// What a node of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An actix actor.
    Actor,
    /// A plain future.
    Task,
    /// A supervisor.
    Supervisor,
    /// A subtree that runs only under a condition.
    Gate,
}

/// What a node does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Being built.
    Starting,
    /// Running.
    Running,
    /// A gate that is closed.
    Waiting,
    /// Asked to stop.
    Stopping,
    /// Ended; comes back after its back-off.
    Restarting,
    /// Ended without a failure, for good.
    Stopped,
    /// Ended by a failure, for good.
    Failed,
}

struct Life {
    state: NodeState,
    since: Instant,
    restarts: u64,
    last_failure: Option<(Arc<str>, SystemTime)>,
}

/// A node of the running tree: written by its supervisor and launcher, read by whoever wants a picture.
pub(crate) struct Cell {
    pub name: Arc<str>,
    kind: Kind,
    detail: Option<&'static str>,
    pending: Option<Arc<AtomicUsize>>,
    life: Mutex<Life>,
    /// Milliseconds since the process began at which the present poll began, plus one; 0 between polls.
    polled_at: AtomicU64,
    pub stalls: AtomicU64,
    pub children: Mutex<Vec<Arc<Cell>>>,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_ms() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

impl Cell {
    pub fn new(spec: &ChildSpec) -> Arc<Self> {
        Arc::new(Self {
            name: Arc::clone(&spec.name),
            kind: spec.kind,
            detail: spec.detail,
            pending: spec.pending.clone(),
            life: Mutex::new(Life {
                state: NodeState::Starting,
                since: Instant::now(),
                restarts: 0,
                last_failure: None,
            }),
            polled_at: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            children: Mutex::default(),
        })
    }

    pub fn set(&self, state: NodeState) {
        let mut life = self.life.lock();
        if life.state != state {
            life.state = state;
            life.since = Instant::now();
        }
    }

    /// The child is ready. It may have said more about itself by now: a gate that waits keeps that.
    pub fn started(&self) {
        let mut life = self.life.lock();
        if life.state == NodeState::Starting {
            life.state = NodeState::Running;
            life.since = Instant::now();
        }
    }

    pub fn ran_for(&self, now: Instant) -> Duration {
        let life = self.life.lock();
        if life.state == NodeState::Running { now.saturating_duration_since(life.since) } else { Duration::ZERO }
    }

    pub fn failed(&self, exit: &Exit) {
        self.life.lock().last_failure = Some((exit.to_string().into(), SystemTime::now()));
    }

    pub fn restarted(&self) {
        self.life.lock().restarts += 1;
    }

    pub fn enter(&self) {
        self.polled_at.store(now_ms(), Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.polled_at.store(0, Ordering::Relaxed);
    }

    /// How long the child has held its thread.
    pub fn busy(&self) -> Option<Duration> {
        let at = self.polled_at.load(Ordering::Relaxed);
        (at != 0).then(|| Duration::from_millis(now_ms().saturating_sub(at)))
    }

    fn snapshot(&self) -> TreeSnapshot {
        let children: Vec<Arc<Self>> = self.children.lock().clone();
        let life = self.life.lock();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        TreeSnapshot {
            name: self.name.to_string(),
            kind: self.kind,
            strategy: self.detail.map(str::to_owned),
            state: life.state,
            state_for_ms: millis(life.since.elapsed()),
            restarts: life.restarts,
            last_failure: life.last_failure.as_ref().map(|(text, _)| text.to_string()),
            last_failure_unix_ms: life
                .last_failure
                .as_ref()
                .and_then(|(_, at)| at.duration_since(UNIX_EPOCH).ok())
                .map(millis),
            pending: self.pending.as_ref().map(|p| p.load(Ordering::Relaxed)),
            busy_ms: self.busy().map(millis),
            stalls: self.stalls.load(Ordering::Relaxed),
            children: children.iter().map(|c| c.snapshot()).collect(),
        }
    }
}

/// The tree at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeSnapshot {
    /// Unique among siblings.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// A supervisor's strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// What it does.
    pub state: NodeState,
    /// For how long it has done that.
    pub state_for_ms: u64,
    /// How often it was started again since its supervisor started.
    pub restarts: u64,
    /// How it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// When it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_unix_ms: Option<u64>,
    /// An actor's calls that wait for an answer. Messages without an answer are not counted: actix does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<usize>,
    /// For how long it has held its thread, if it does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_ms: Option<u64>,
    /// How often the watchdog found that it held its thread too long.
    pub stalls: u64,
    /// In the order they start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TreeSnapshot>,
}

impl TreeSnapshot {
    /// Visits every node, parents first, with its path (`node/controlplane/…`).
    pub fn visit(&self, f: &mut impl FnMut(&str, &TreeSnapshot)) {
        self.visit_below(&mut String::new(), f);
    }

    fn visit_below(&self, path: &mut String, f: &mut impl FnMut(&str, &TreeSnapshot)) {
        let parent = path.len();
        if parent > 0 {
            path.push('/');
        }
        path.push_str(&self.name);
        f(path, self);
        for child in &self.children {
            child.visit_below(path, f);
        }
        path.truncate(parent);
    }

    /// The node at a path of names below this one.
    pub fn find(&self, path: &[&str]) -> Option<&TreeSnapshot> {
        match path.split_first() {
            None => Some(self),
            Some((first, rest)) => self.children.iter().find(|c| c.name == *first)?.find(rest),
        }
    }
}

/// A running tree. Dropping the last clone drops the tree without an orderly stop.
#[derive(Clone)]
pub struct Tree {
    root: Arc<Cell>,
    running: Arc<Running>,
}

impl Tree {
    /// Starts the root supervisor on this thread, which must run an actix system, and waits until its children started
    /// once.
    ///
    /// # Errors
    /// If the root gave up before.
    pub async fn start(spec: SupervisorSpec) -> Result<Self, Exit> {
        let spec = ChildSpec::supervisor(spec);
        let root = Cell::new(&spec);
        let (running, ready) = launch::launch(&spec.body, &spec.placement, &root);
        let tree = Self { root, running: Arc::new(running) };
        watchdog::start(Arc::downgrade(&tree.root));
        tokio::select! {
            biased;
            Ok(()) = ready => Ok(tree),
            exit = tree.running.ended() => Err(exit),
        }
    }

    /// The picture of the tree now. Asks nobody: it works whatever hangs.
    pub fn snapshot(&self) -> TreeSnapshot {
        self.root.snapshot()
    }

    /// Something that can make pictures without keeping the tree alive.
    pub fn viewer(&self) -> impl Fn() -> Option<TreeSnapshot> + Send + Sync + Clone + 'static {
        let root: Weak<Cell> = Arc::downgrade(&self.root);
        move || root.upgrade().map(|root| root.snapshot())
    }

    /// Waits until the root ends: stopped, or failed for good.
    pub async fn wait(&self) -> Exit {
        self.running.ended().await
    }

    /// Stops everything in reverse order of start. Past the deadline, what is left is dropped.
    pub async fn stop(&self, deadline: Duration) -> Exit {
        self.running.stop.cancel();
        match tokio::time::timeout(deadline, self.wait()).await {
            Ok(exit) => exit,
            Err(_) => {
                self.running.kill.cancel();
                self.wait().await
            }
        }
    }
}
