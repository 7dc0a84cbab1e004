//! The actor of one pod: its mailbox, its timer, its probes. One round of [`PodWorker`] runs at a time; whatever arrives
//! meanwhile asks for one more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use jiff::Timestamp;
use navarch_supervision::fault;

use super::{Next, PodWorker, report};
use crate::probes::{self, Report};
use crate::shared::{PodHandle, Shared};

/// Look again: the wish, the runtime or something the pod refers to has changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Sync;

/// See the module.
pub struct PodActor {
    shared: Arc<Shared>,
    handle: Arc<PodHandle>,
    /// `None` while a round runs.
    worker: Option<Box<PodWorker>>,
    again: bool,
    volumes_stale: bool,
    reports: Vec<Report>,
    timer: Option<SpawnHandle>,
    sources: Option<SpawnHandle>,
    probing: BTreeMap<String, SpawnHandle>,
}

impl PodActor {
    /// For one pod. Everything else is read from the runtime and the API.
    pub fn new(shared: Arc<Shared>, handle: Arc<PodHandle>) -> Self {
        Self {
            shared,
            handle,
            worker: None,
            again: false,
            volumes_stale: false,
            reports: Vec::new(),
            timer: None,
            sources: None,
            probing: BTreeMap::new(),
        }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        let Some(mut worker) = self.worker.take() else {
            self.again = true;
            return;
        };
        fault::point("kubelet/pod");
        for handle in [self.timer.take(), self.sources.take()].into_iter().flatten() {
            ctx.cancel_future(handle);
        }
        if std::mem::take(&mut self.volumes_stale) {
            worker.sources_changed();
        }
        for report in self.reports.drain(..) {
            worker.take_report(report);
        }
        self.again = false;
        let mut desired = self.handle.desired.subscribe();
        let round = async move {
            let wish = desired.borrow_and_update().clone();
            worker.adopt(&wish);
            let next = worker.step(&wish, &mut desired).await;
            (worker, next)
        };
        ctx.spawn(round.into_actor(self).map(|(worker, next), actor, ctx| actor.after(worker, &next, ctx)));
    }

    fn after(&mut self, mut worker: Box<PodWorker>, next: &Next, ctx: &mut Context<Self>) {
        let (begin, end) = worker.probe_changes();
        for id in end {
            if let Some(handle) = self.probing.remove(&id) {
                ctx.cancel_future(handle);
            }
        }
        for target in begin {
            let id = target.id.clone();
            let task = probes::run(target, ctx.address().recipient());
            let handle = ctx.spawn(task.into_actor(self));
            if let Some(old) = self.probing.insert(id, handle) {
                ctx.cancel_future(old);
            }
        }
        let until = match next {
            Next::Done => return ctx.stop(),
            Next::At(until) => *until,
        };
        let changed = worker.followed.changed();
        self.sources = Some(ctx.spawn(changed.into_actor(self).map(|(), actor, ctx| {
            actor.sources = None;
            actor.volumes_stale = true;
            actor.round(ctx);
        })));
        self.worker = Some(worker);
        if self.again {
            return self.round(ctx);
        }
        let wait = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        self.timer = Some(ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            actor.round(ctx);
        }));
    }
}

impl Actor for PodActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let first = self.handle.desired.borrow().clone();
        let (worker, wished, progress) = PodWorker::new(Arc::clone(&self.shared), Arc::clone(&self.handle), &first);
        let address = ctx.address();
        // A full mailbox holds a wish to look already.
        let told = move || drop(address.try_send(Sync));
        let reporting = report::run(Arc::clone(&self.shared), first.pod, wished, progress, told);
        ctx.spawn(reporting.into_actor(self));
        self.worker = Some(Box::new(worker));
        self.round(ctx);
    }
}

impl Handler<Sync> for PodActor {
    type Result = ();

    fn handle(&mut self, _: Sync, ctx: &mut Context<Self>) {
        self.round(ctx);
    }
}

impl Handler<Report> for PodActor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Context<Self>) {
        self.reports.push(report);
        self.round(ctx);
    }
}
