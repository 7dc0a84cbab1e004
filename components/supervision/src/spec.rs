//! Child specs: what a supervisor knows of a child before it runs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix::{Actor, Context};
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::launch::Launch;
use crate::policy::{Backoff, Intensity, Restart, Strategy};
use crate::reference::Ref;
use crate::supervisor::SupervisorRef;
use crate::task::{self, TaskContext};
use crate::tree::Kind;
use crate::{actor, gate, supervisor};

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, having nothing more to do.
    Normal,
    /// Because it was asked to.
    Stopped,
    /// With an error.
    Failed(Arc<str>),
    /// By a panic.
    Panicked(Arc<str>),
    /// It was asked to stop, did not within its deadline, and was dropped.
    Aborted,
    /// It was asked to stop and does not even yield. Its thread is lost; it is not replaced.
    Stuck,
}

impl Exit {
    /// Whether a transient child comes back after it.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Normal | Self::Stopped)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("ended"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Panicked(why) => write!(f, "panicked: {why}"),
            Self::Aborted => f.write_str("did not stop within its deadline and was dropped"),
            Self::Stuck => f.write_str("does not yield and cannot be stopped"),
        }
    }
}

/// On which thread a child runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On its supervisor's.
    #[default]
    Inherit,
    /// On the actix arbiter of this name, shared with all children placed there; made when first needed.
    Thread(Arc<str>),
}

/// What a child can say about itself. Given to every factory.
#[derive(Clone, Debug)]
pub struct ChildHandle {
    pub(crate) name: Arc<str>,
    pub(crate) failure: Arc<Mutex<Option<Arc<str>>>>,
    pub(crate) failed: CancellationToken,
}

impl ChildHandle {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self { name, failure: Arc::default(), failed: CancellationToken::new() }
    }

    /// The child's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the child as failed. The first text counts.
    pub fn fail(&self, why: impl fmt::Display) {
        self.failure.lock().get_or_insert_with(|| why.to_string().into());
        self.failed.cancel();
    }
}

pub(crate) type Body = Arc<dyn Fn(Launch) -> LocalBoxFuture<'static, Exit> + Send + Sync>;

/// A child: its name, how to build it, and what happens when it ends. Clones build the same child.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) detail: Option<&'static str>,
    pub(crate) restart: Restart,
    pub(crate) backoff: Backoff,
    pub(crate) placement: Placement,
    pub(crate) stop_deadline: Duration,
    pub(crate) start_deadline: Duration,
    pub(crate) pending: Option<Arc<AtomicUsize>>,
    pub(crate) body: Body,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl ChildSpec {
    fn new(name: &str, kind: Kind, body: Body) -> Self {
        Self {
            name: name.into(),
            kind,
            detail: None,
            restart: Restart::Permanent,
            backoff: Backoff::default(),
            placement: Placement::Inherit,
            stop_deadline: Duration::from_secs(10),
            start_deadline: Duration::from_secs(60),
            pending: None,
            body,
        }
    }

    /// An actor. `reference` leads to whichever incarnation runs. The factory runs on the actor's thread, for every start.
    pub fn actor<A, F>(name: &str, reference: &Ref<A>, factory: F) -> Self
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&ChildHandle) -> A + Send + Sync + 'static,
    {
        let mut spec = Self::new(name, Kind::Actor, actor::body(reference.clone(), factory));
        spec.pending = Some(reference.pending_counter());
        spec
    }

    /// A plain future. Stop is asked for through the context; a future that ends by itself is [`Exit::Normal`].
    pub fn task<F, Fut, E>(name: &str, factory: F) -> Self
    where
        F: Fn(TaskContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + 'static,
        E: fmt::Display + 'static,
    {
        Self::new(name, Kind::Task, task::body(factory))
    }

    /// A supervisor below this one.
    pub fn supervisor(spec: SupervisorSpec) -> Self {
        let (name, strategy) = (Arc::clone(&spec.name), spec.strategy);
        let mut child = Self::new(&name, Kind::Supervisor, supervisor::body(spec));
        child.detail = Some(strategy.as_str());
        // Its children have deadlines of their own, one after the other; this one is the net below them.
        child.stop_deadline = Duration::from_secs(60);
        child
    }

    /// A subtree that runs only while `gate` holds a value, built anew for every value. A change of the value stops it
    /// whole, then builds the next.
    pub fn gate<T, F>(name: &str, gate: tokio::sync::watch::Receiver<Option<T>>, factory: F) -> Self
    where
        T: Clone + PartialEq + Send + Sync + 'static,
        F: Fn(T) -> SupervisorSpec + Send + Sync + 'static,
    {
        let mut child = Self::new(name, Kind::Gate, gate::body(gate, factory));
        child.stop_deadline = Duration::from_secs(60);
        child
    }

    /// When it comes back; [`Restart::Permanent`] by default.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How long to wait before it comes back.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Runs it on the named thread.
    #[must_use]
    pub fn on_thread(mut self, name: &str) -> Self {
        self.placement = Placement::Thread(name.into());
        self
    }

    /// How long it may take to stop before it is dropped; 10 s by default.
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.stop_deadline = deadline;
        self
    }

    /// How long it may take to start before that counts as a failure; 60 s by default.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    /// The name, unique among its siblings.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A supervisor: its children in the order they start, and its rules.
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    pub(crate) name: Arc<str>,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) children: Vec<ChildSpec>,
    pub(crate) reference: SupervisorRef,
}

impl SupervisorSpec {
    /// Without children yet.
    pub fn new(name: &str, strategy: Strategy) -> Self {
        Self {
            name: name.into(),
            strategy,
            intensity: Intensity::default(),
            children: Vec::new(),
            reference: SupervisorRef::default(),
        }
    }

    /// How many restarts it bears.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Adds a child, started after those before it.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children in order.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(children);
        self
    }

    /// Lets `reference` add and remove children while it runs. Added children are gone when the supervisor itself
    /// restarts: whoever owns them adds them again.
    #[must_use]
    pub fn controlled_by(mut self, reference: &SupervisorRef) -> Self {
        self.reference = reference.clone();
        self
    }
}
