//! Carries decisions out: many bindings at a time, up to a bound, while the loop goes on deciding.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use navarch_client::Client;
use navarch_supervision::{TaskContext, fault};
use navarch_types::{ApiError, Reason};

use crate::framework::{BindContext, Framework};
use crate::shared::{Bind, Shared};

/// Bindings in flight. Enough to fill the batches of the store, few enough not to crowd out other clients.
const BINDS_MAX: usize = 64;

async fn bind(framework: Arc<Framework>, client: Client, bind: Bind) -> (Bind, Result<(), ApiError>) {
    let ctx = BindContext { client: &client, pod: &bind.pod, node: &bind.node };
    let result = framework.bind(&ctx).await;
    (bind, result)
}

fn finish(shared: &Shared, bind: Bind, result: Result<(), ApiError>) {
    let Bind { pod, node } = bind;
    shared.with(|state| state.bound(&pod, &node, result.as_ref().err(), Instant::now()));
    match result {
        Ok(()) => {
            shared.figures.scheduled.fetch_add(1, Ordering::Relaxed);
            shared.tell_scheduled(&pod, &node);
        }
        // Deleted meanwhile: nobody is left to be told.
        Err(error) if error.is(Reason::NotFound) => {}
        Err(error) => {
            shared.figures.errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(namespace = pod.namespace(), pod = pod.name(), node, %error, "binding failed");
            shared.tell_failed(pod, "SchedulerError", format!("binding rejected: {error}"));
        }
    }
    shared.wake();
}

/// The task.
pub(crate) async fn run(shared: Arc<Shared>, client: Client, ctx: TaskContext) -> Result<(), Infallible> {
    let mut decisions = shared.binds_out.lock().await;
    let mut running = FuturesUnordered::new();
    {
        // What an earlier incarnation had in hand is lost: its pods are decided anew. What waits here is not: the loop may
        // have begun before this task. Under one lock with the loop's decisions, so that none slips in between.
        let mut state = shared.state.lock();
        let mut waiting = HashSet::new();
        while let Ok(decision) = decisions.try_recv() {
            waiting.insert(decision.pod.uid().to_owned());
            running.push(bind(Arc::clone(&shared.framework), client.clone(), decision));
        }
        if let Some(state) = state.as_mut() {
            state.recover_bindings(&waiting, Instant::now());
        }
    }
    shared.wake();
    loop {
        tokio::select! {
            biased;
            () = ctx.stopped() => return Ok(()),
            Some((decision, result)) = running.next() => finish(&shared, decision, result),
            Some(decision) = decisions.recv(), if running.len() < BINDS_MAX => {
                fault::point("scheduler/binder");
                running.push(bind(Arc::clone(&shared.framework), client.clone(), decision));
            }
        }
    }
}
