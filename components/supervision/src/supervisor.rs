//! The supervisor: starts its children in order, brings them back by its rules, stops them in reverse order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use crate::launch::{Launch, Running, launch};
use crate::policy::{RestartWindow, Strategy};
use crate::spec::{Body, ChildSpec, Exit, SupervisorSpec};
use crate::tree::{Cell, NodeState};

/// Commands that wait for a supervisor. It handles one in microseconds; more than this many waiting means it hangs.
const COMMANDS_MAX: usize = 256;

/// After a child was told to go at once, how long until it is given up as stuck.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Why a child could not be added or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChildError {
    /// The supervisor is not running now.
    #[error("the supervisor is not running")]
    NotRunning,
    /// There is a child of that name, perhaps one that is being stopped.
    #[error("there is already a child named {0:?}")]
    Exists(String),
    /// There is no child of that name.
    #[error("there is no child named {0:?}")]
    NotFound(String),
}

enum Command {
    Add(ChildSpec, oneshot::Sender<Result<(), ChildError>>),
    Remove(String, oneshot::Sender<Result<Exit, ChildError>>),
}

/// Adds children to a running supervisor and removes them; stays valid over its restarts. See
/// [`SupervisorSpec::controlled_by`].
#[derive(Clone, Debug)]
pub struct SupervisorRef(Arc<watch::Sender<Option<mpsc::Sender<Command>>>>);

impl Default for SupervisorRef {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl SupervisorRef {
    /// To a supervisor that does not run yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a child after the present ones. Answers when it is launched, which may be before it is ready.
    ///
    /// # Errors
    /// If the supervisor is not running or has a child of that name.
    pub async fn add(&self, child: ChildSpec) -> Result<(), ChildError> {
        self.call(|reply| Command::Add(child, reply)).await?
    }

    /// Stops a child and forgets it. Answers when it is gone.
    ///
    /// # Errors
    /// If the supervisor is not running or has no such child.
    pub async fn remove(&self, name: &str) -> Result<Exit, ChildError> {
        self.call(|reply| Command::Remove(name.to_owned(), reply)).await?
    }

    /// Waits until the supervisor takes commands; again after each restart of it.
    pub async fn ready(&self) {
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    async fn call<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ChildError> {
        let sender = self.0.borrow().clone().ok_or(ChildError::NotRunning)?;
        let (reply, answer) = oneshot::channel();
        sender.send(command(reply)).await.map_err(|_| ChildError::NotRunning)?;
        answer.await.map_err(|_| ChildError::NotRunning)
    }
}

struct Child {
    id: u64,
    spec: ChildSpec,
    cell: Arc<Cell>,
    running: Option<Running>,
    failures: u32,
    /// When it is to be started; `None` if it runs or ended for good.
    start_at: Option<Instant>,
    started_before: bool,
    /// While the supervisor ran.
    added: bool,
    removal: Option<Vec<oneshot::Sender<Result<Exit, ChildError>>>>,
}

type Ended = LocalBoxFuture<'static, (u64, Exit)>;

struct Supervisor {
    spec: SupervisorSpec,
    cell: Arc<Cell>,
    children: Vec<Child>,
    next_id: u64,
    window: RestartWindow,
    /// One for each launched child. A child whose end was dealt with elsewhere has a new id by then.
    ends: FuturesUnordered<Ended>,
}

pub(crate) fn body(spec: SupervisorSpec) -> Body {
    Arc::new(move |launch: Launch| run(spec.clone(), launch).boxed_local())
}

async fn run(spec: SupervisorSpec, launched: Launch) -> Exit {
    let (sender, mut commands) = mpsc::channel(COMMANDS_MAX);
    let reference = spec.reference.clone();
    let mut supervisor = Supervisor::new(spec, &launched.cell);
    launched.cell.set(NodeState::Running);
    let mut ready = Some(launched.ready);
    let mut published = Some(sender);
    let exit = loop {
        let settled = supervisor.children.iter().all(|c| c.started_before);
        if settled && let Some(ready) = ready.take() {
            reference.0.send_replace(published.take());
            let _ = ready.send(());
        }
        let next_start = supervisor.children.iter().filter_map(|c| c.start_at).min();
        let due = async {
            match next_start {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let failed = tokio::select! {
            biased;
            () = launched.stop.cancelled() => break Exit::Stopped,
            Some((id, exit)) = supervisor.ends.next() => supervisor.ended(id, exit).await,
            Some(command) = commands.recv() => { supervisor.command(command); None }
            () = due => tokio::select! {
                biased;
                () = launched.stop.cancelled() => break Exit::Stopped,
                failed = supervisor.start_due() => failed,
            },
        };
        if let Some(why) = failed {
            tracing::error!(supervisor = &*supervisor.spec.name, why = &*why, "supervisor gives up");
            break Exit::Failed(why);
        }
    };
    reference.0.send_replace(None);
    launched.cell.set(NodeState::Stopping);
    let len = supervisor.children.len();
    match supervisor.stop_range(0, len).await {
        Some(stuck) => Exit::Failed(stuck),
        None => exit,
    }
}

/// Asks a child to stop; past its deadline tells it to go at once.
pub(crate) async fn stop_running(running: &Running, deadline: Duration) -> Exit {
    running.stop.cancel();
    if let Ok(exit) = tokio::time::timeout(deadline, running.ended()).await {
        return exit;
    }
    running.kill.cancel();
    tokio::time::timeout(KILL_GRACE, running.ended()).await.unwrap_or(Exit::Stuck)
}

impl Supervisor {
    fn new(mut spec: SupervisorSpec, cell: &Arc<Cell>) -> Self {
        let initial = std::mem::take(&mut spec.children);
        let mut supervisor = Self {
            spec,
            cell: Arc::clone(cell),
            children: Vec::new(),
            next_id: 0,
            window: RestartWindow::default(),
            ends: FuturesUnordered::new(),
        };
        supervisor.cell.children.lock().clear();
        for child in initial {
            supervisor.adopt(child);
        }
        supervisor
    }

    fn adopt(&mut self, spec: ChildSpec) -> usize {
        let cell = Cell::new(&spec);
        self.cell.children.lock().push(Arc::clone(&cell));
        self.next_id += 1;
        self.children.push(Child {
            id: self.next_id,
            spec,
            cell,
            running: None,
            failures: 0,
            start_at: Some(Instant::now()),
            started_before: false,
            added: false,
            removal: None,
        });
        self.children.len() - 1
    }

    fn forget(&mut self, index: usize) {
        let child = self.children.remove(index);
        self.cell.children.lock().retain(|cell| !Arc::ptr_eq(cell, &child.cell));
    }

    fn index_of(&self, id: u64) -> Option<usize> {
        self.children.iter().position(|c| c.id == id)
    }

    /// Launches a child; every incarnation has its own id, so that ends of earlier ones are not mistaken for its own.
    fn launch(&mut self, index: usize) -> oneshot::Receiver<()> {
        self.next_id += 1;
        let id = self.next_id;
        let child = &mut self.children[index];
        child.cell.set(NodeState::Starting);
        if child.started_before {
            child.cell.restarted();
        }
        child.started_before = true;
        child.start_at = None;
        child.id = id;
        let (running, ready) = launch(&child.spec.body, &child.spec.placement, &child.cell);
        self.ends.push(running.ended().map(move |exit| (id, exit)).boxed_local());
        child.running = Some(running);
        ready
    }

    /// Starts what is due, in order, each after the one before it is ready. Returns why the supervisor must give up.
    async fn start_due(&mut self) -> Option<Arc<str>> {
        let now = Instant::now();
        let mut index = 0;
        while index < self.children.len() {
            if self.children[index].start_at.is_none_or(|at| at > now) {
                index += 1;
                continue;
            }
            let ready = self.launch(index);
            let child = &self.children[index];
            let deadline = child.spec.start_deadline;
            let Some(running) = &child.running else { return None };
            let failure = tokio::select! {
                biased;
                Ok(()) = ready => None,
                exit = running.ended() => Some(exit),
                () = tokio::time::sleep(deadline) => Some(match stop_running(running, Duration::ZERO).await {
                    Exit::Stuck => Exit::Stuck,
                    _ => Exit::Failed("did not start within its deadline".into()),
                }),
            };
            match failure {
                None => self.children[index].cell.started(),
                Some(exit) => return self.on_end(index, exit).await,
            }
            index += 1;
        }
        None
    }

    async fn ended(&mut self, id: u64, exit: Exit) -> Option<Arc<str>> {
        let index = self.index_of(id)?;
        self.on_end(index, exit).await
    }

    /// A child ended that nobody asked to, or one whose removal is under way.
    async fn on_end(&mut self, index: usize, exit: Exit) -> Option<Arc<str>> {
        let now = Instant::now();
        self.next_id += 1;
        let child = &mut self.children[index];
        let ran_for = child.cell.ran_for(now);
        child.running = None;
        child.id = self.next_id;
        if exit == Exit::Stuck {
            return Some(format!("{} does not yield and cannot be stopped", child.spec.name).into());
        }
        if let Some(removal) = child.removal.take() {
            self.forget(index);
            removal.into_iter().for_each(|reply| drop(reply.send(Ok(exit.clone()))));
            return None;
        }
        let name = Arc::clone(&child.spec.name);
        if exit.is_failure() {
            child.cell.failed(&exit);
            tracing::error!(supervisor = &*self.spec.name, child = &*name, %exit, "child failed");
        }
        if !child.spec.restart.applies(exit.is_failure()) {
            child.cell.set(if exit.is_failure() { NodeState::Failed } else { NodeState::Stopped });
            // Only what may come back with a sibling stays on the list. What was added, ended well and has no such sibling
            // does not: there may be any number of those.
            let done = child.added && !exit.is_failure() && self.spec.strategy == Strategy::OneForOne;
            if done || child.spec.restart == crate::policy::Restart::Temporary {
                self.forget(index);
            }
            return None;
        }
        if ran_for >= child.spec.backoff.reset_after {
            child.failures = 0;
        }
        let delay = child.spec.backoff.delay(child.failures);
        child.failures = child.failures.saturating_add(1);
        if !self.window.admit(self.spec.intensity, now) {
            child.cell.set(NodeState::Failed);
            return Some(format!("too many restarts; last {name} {exit}").into());
        }
        let affected = self.spec.strategy.affected(index, self.children.len());
        let stuck = self.stop_range(affected.start, affected.end).await;
        let at = Instant::now() + delay;
        for child in &mut self.children[affected] {
            child.start_at = Some(at);
            child.cell.set(NodeState::Restarting);
        }
        self.finish_removals();
        stuck
    }

    /// Stops children in reverse order, each fully before the next. Returns who could not be stopped.
    async fn stop_range(&mut self, from: usize, to: usize) -> Option<Arc<str>> {
        let mut stuck = None;
        for index in (from..to).rev() {
            self.next_id += 1;
            let child = &mut self.children[index];
            child.start_at = None;
            let Some(running) = child.running.take() else { continue };
            child.id = self.next_id;
            child.cell.set(NodeState::Stopping);
            let exit = stop_running(&running, child.spec.stop_deadline).await;
            child.cell.set(NodeState::Stopped);
            if exit.is_failure() {
                child.cell.failed(&exit);
                tracing::error!(supervisor = &*self.spec.name, child = &*child.spec.name, %exit, "child did not stop well");
            }
            if exit == Exit::Stuck {
                stuck = Some(format!("{} does not yield and cannot be stopped", child.spec.name).into());
            }
        }
        stuck
    }

    /// Children that were being removed when their group was stopped do not come back with it.
    fn finish_removals(&mut self) {
        for index in (0..self.children.len()).rev() {
            if self.children[index].running.is_none()
                && let Some(removal) = self.children[index].removal.take()
            {
                self.forget(index);
                removal.into_iter().for_each(|reply| drop(reply.send(Ok(Exit::Stopped))));
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Add(spec, reply) => {
                if self.children.iter().any(|c| c.spec.name == spec.name) {
                    let _ = reply.send(Err(ChildError::Exists(spec.name.to_string())));
                    return;
                }
                let index = self.adopt(spec);
                self.children[index].added = true;
                // Not waited for: a child that starts slowly must not keep its siblings from being looked after.
                drop(self.launch(index));
                self.children[index].cell.started();
                let _ = reply.send(Ok(()));
            }
            Command::Remove(name, reply) => self.remove(&name, reply),
        }
    }

    /// Begins to stop a child without waiting, so that many can stop at once; its end completes the removal.
    fn remove(&mut self, name: &str, reply: oneshot::Sender<Result<Exit, ChildError>>) {
        let Some(index) = self.children.iter().position(|c| &*c.spec.name == name) else {
            let _ = reply.send(Err(ChildError::NotFound(name.to_owned())));
            return;
        };
        let child = &mut self.children[index];
        if let Some(waiting) = &mut child.removal {
            waiting.push(reply);
            return;
        }
        let Some(running) = &child.running else {
            self.forget(index);
            let _ = reply.send(Ok(Exit::Normal));
            return;
        };
        child.removal = Some(vec![reply]);
        child.cell.set(NodeState::Stopping);
        running.stop.cancel();
        let (id, deadline) = (child.id, child.spec.stop_deadline);
        let (ended, kill) = (running.ended(), running.kill.clone());
        let again = running.ended();
        // The end that `launch` registered also fires; whichever comes first completes the removal, the other finds nothing.
        self.ends.push(
            async move {
                if let Ok(exit) = tokio::time::timeout(deadline, ended).await {
                    return (id, exit);
                }
                kill.cancel();
                (id, tokio::time::timeout(KILL_GRACE, again).await.unwrap_or(Exit::Stuck))
            }
            .boxed_local(),
        );
    }
}
