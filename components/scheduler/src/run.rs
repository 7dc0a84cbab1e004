//! The scheduler's place in the tree: four tasks around the shared state. The loop decides; the others bring it news and
//! carry its decisions out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use navarch_client::{Client, InformerFactory};
use navarch_supervision::{ChildSpec, Ref, Strategy as RestartStrategy, SupervisorSpec, fault};

use crate::framework::Framework;
use crate::shared::{Bind, Figures, Shared};
use crate::state::Decision;
use crate::{binder, feed, report};

/// Cycles between two looks at what else is to do.
const CYCLES_AT_ONCE: usize = 32;
/// How often pods that wait for long are looked for.
const FLUSH_EVERY: Duration = Duration::from_secs(30);
/// The thread of the scheduler's tasks: a burst of cycles delays nobody else.
const THREAD: &str = "scheduler";

/// What the scheduler needs.
#[derive(Clone)]
pub struct SchedulerContext {
    /// The API as `system:kube-scheduler`; in a leader its writes carry the term.
    pub client: Client,
    /// The shared informers, run by somebody else.
    pub informers: InformerFactory,
    /// The plugins.
    pub framework: Arc<Framework>,
    /// What it did, for metrics.
    pub figures: Arc<Figures>,
}

/// The scheduler as a child: `rest_for_one`, its queue first.
pub fn spec(context: SchedulerContext) -> ChildSpec {
    let SchedulerContext { client, informers, framework, figures } = context;
    let cycles = Ref::<SchedulingLoop>::new();
    let shared = Arc::new(Shared::new(framework, figures, cycles.clone()));
    let queue = {
        let shared = Arc::clone(&shared);
        ChildSpec::task("queue", move |ctx| feed::run(Arc::clone(&shared), informers.clone(), ctx))
    };
    let cycles = {
        let shared = Arc::clone(&shared);
        ChildSpec::actor("loop", &cycles, move |_| SchedulingLoop::new(Arc::clone(&shared)))
    };
    let binder = {
        let (shared, client) = (Arc::clone(&shared), client.clone());
        ChildSpec::task("binder", move |ctx| binder::run(Arc::clone(&shared), client.clone(), ctx))
    };
    let reporter = ChildSpec::task("reporter", move |ctx| report::run(Arc::clone(&shared), client.clone(), ctx));
    let children = [queue, cycles, binder, reporter].map(|child| child.on_thread(THREAD));
    ChildSpec::supervisor(SupervisorSpec::new("scheduler", RestartStrategy::RestForOne).children(children))
}

/// Why the loop stopped running cycles.
enum Pause {
    /// It had its share; there may be more.
    Turn,
    /// Nothing is ready before this time.
    Idle(Option<Instant>),
    /// The binder has enough.
    Full,
}

fn run_cycles(shared: &Shared) -> Pause {
    for _ in 0..CYCLES_AT_ONCE {
        let Ok(permit) = shared.binds.try_reserve() else { return Pause::Full };
        let mut guard = shared.state.lock();
        let Some(state) = guard.as_mut() else { return Pause::Idle(None) };
        fault::point("scheduler/cycle");
        match state.next(Instant::now()) {
            None => {
                shared.figures.set_depth(state.depth());
                return Pause::Idle(state.next_due());
            }
            // Sent under the lock: see the binder's start.
            Some(Decision::Bind { pod, node }) => permit.send(Bind { pod, node }),
            Some(Decision::Unschedulable { pod, error }) => {
                drop(guard);
                shared.figures.unschedulable.fetch_add(1, Ordering::Relaxed);
                shared.tell_failed(pod, "Unschedulable", error.to_string());
            }
        }
    }
    Pause::Turn
}

/// There may be something to decide.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// The actor that runs cycles: a share of them a message, then everybody else's turn.
pub(crate) struct SchedulingLoop {
    shared: Arc<Shared>,
    timer: Option<SpawnHandle>,
    /// A turn or room at the binder is awaited; it wakes by itself.
    waits: bool,
}

impl SchedulingLoop {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, timer: None, waits: false }
    }

    fn wake_after(&mut self, future: impl Future<Output = ()> + 'static, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.waits, true) {
            let wake = future.into_actor(self).map(|(), this, ctx| {
                this.waits = false;
                ctx.notify(Wake);
            });
            ctx.spawn(wake);
        }
    }
}

impl Actor for SchedulingLoop {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // The cycle in which an earlier incarnation broke has a pod out of the queue.
        self.shared.with(|state| state.recover_cycles(Instant::now()));
        ctx.run_interval(FLUSH_EVERY, |this, ctx| {
            this.shared.with(|state| state.flush(Instant::now()));
            ctx.notify(Wake);
        });
        ctx.notify(Wake);
    }
}

impl Handler<Wake> for SchedulingLoop {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        fault::point("scheduler/loop");
        if self.waits {
            return;
        }
        match run_cycles(&self.shared) {
            Pause::Turn => self.wake_after(tokio::task::yield_now(), ctx),
            Pause::Full => {
                let binds = self.shared.binds.clone();
                // Only waits for room; the next turn reserves it.
                self.wake_after(async move { drop(binds.reserve().await) }, ctx);
            }
            Pause::Idle(due) => {
                if let Some(timer) = self.timer.take() {
                    ctx.cancel_future(timer);
                }
                self.timer = due.map(|due| {
                    let wait = due.saturating_duration_since(Instant::now());
                    ctx.run_later(wait, |_, ctx| ctx.notify(Wake))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
