//! Runs a child's future on its thread, sees its panic, and measures how long it holds the thread.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::{Arbiter, ArbiterHandle};
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::panics;
use crate::spec::{Body, ChildHandle, Exit, Placement};
use crate::tree::Cell;

/// What a body is started with.
pub(crate) struct Launch {
    pub cell: Arc<Cell>,
    pub handle: ChildHandle,
    /// Asks for an orderly stop.
    pub stop: CancellationToken,
    /// Told when the child runs.
    pub ready: oneshot::Sender<()>,
}

/// A child that was launched.
pub(crate) struct Running {
    pub stop: CancellationToken,
    pub kill: CancellationToken,
    pub done: watch::Receiver<Option<Exit>>,
}

impl Running {
    /// Resolves when the child's future is gone.
    pub fn ended(&self) -> impl Future<Output = Exit> + 'static {
        let mut done = self.done.clone();
        async move {
            match done.wait_for(Option::is_some).await {
                Ok(exit) => exit.clone().unwrap_or(Exit::Normal),
                Err(_) => Exit::Failed("its thread ended".into()),
            }
        }
    }
}

impl Drop for Running {
    /// Nobody owns the child any more, so it must not go on.
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

/// Launches a child. The second part resolves when it is ready, or with an error when it ended before.
pub(crate) fn launch(body: &Body, placement: &Placement, cell: &Arc<Cell>) -> (Running, oneshot::Receiver<()>) {
    let (ready, is_ready) = oneshot::channel();
    let (done_sender, done) = watch::channel(None);
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    let handle = ChildHandle::new(Arc::clone(&cell.name));
    let launch = Launch { cell: Arc::clone(cell), handle, stop: stop.clone(), ready };
    let (body, killed, cell) = (Arc::clone(body), kill.clone(), Arc::clone(cell));
    let run = move || {
        actix::spawn(async move {
            let future = match catch_unwind(AssertUnwindSafe(|| body(launch))) {
                Ok(future) => Guarded { future: Some(future), cell },
                Err(panic) => {
                    done_sender.send_replace(Some(Exit::Panicked(panics::describe(&*panic))));
                    return;
                }
            };
            let exit = tokio::select! {
                biased;
                () = killed.cancelled() => Exit::Aborted,
                exit = future => exit,
            };
            done_sender.send_replace(Some(exit));
        });
    };
    match placement {
        Placement::Inherit => run(),
        // If the thread is gone the closure is dropped, and with it the sender: `ended` reports that.
        Placement::Thread(name) => drop(thread(name).map(|thread| thread.spawn_fn(run))),
    }
    (Running { stop, kill, done }, is_ready)
}

static THREADS: Mutex<BTreeMap<Arc<str>, ArbiterHandle>> = Mutex::new(BTreeMap::new());

/// The arbiter of this name; a new one if there is none or it has ended.
fn thread(name: &Arc<str>) -> Option<ArbiterHandle> {
    let mut threads = THREADS.lock();
    // An arbiter outlives its users but not its system (each test has one): probe before reuse.
    if let Some(handle) = threads.get(name).filter(|handle| handle.spawn_fn(|| ())) {
        return Some(handle.clone());
    }
    let handle = Arbiter::try_new().map(|arbiter| arbiter.handle());
    match handle {
        Ok(handle) => {
            threads.insert(Arc::clone(name), handle.clone());
            Some(handle)
        }
        Err(error) => {
            tracing::error!(%error, thread = &**name, "cannot make a thread");
            None
        }
    }
}

/// Polls a child with its panic caught and its time taken.
struct Guarded {
    future: Option<LocalBoxFuture<'static, Exit>>,
    cell: Arc<Cell>,
}

impl Future for Guarded {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Exit> {
        let this = &mut *self;
        let Some(future) = this.future.as_mut() else { return Poll::Ready(Exit::Normal) };
        this.cell.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let exit = match polled {
            Ok(Poll::Pending) => {
                this.cell.leave();
                return Poll::Pending;
            }
            Ok(Poll::Ready(exit)) => exit,
            Err(panic) => Exit::Panicked(panics::describe(&*panic)),
        };
        this.release();
        this.cell.leave();
        Poll::Ready(exit)
    }
}

impl Guarded {
    /// Drops the child. What its own drop does may panic too.
    fn release(&mut self) {
        let future = self.future.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            tracing::error!(
                child = &*self.cell.name,
                panic = &*panics::describe(&*panic),
                "panic while dropping a child"
            );
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.release();
    }
}
