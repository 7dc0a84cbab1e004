//! How an actor runs as a child.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use actix::dev::ContextFut;
use actix::{Actor, ActorContext, Addr, AsyncContext, Context};
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;

use crate::launch::Launch;
use crate::reference::Ref;
use crate::spec::{Body, ChildHandle, Exit};

pub(crate) fn body<A, F>(reference: Ref<A>, factory: F) -> Body
where
    A: Actor<Context = Context<A>>,
    F: Fn(&ChildHandle) -> A + Send + Sync + 'static,
{
    let factory = Arc::new(factory);
    Arc::new(move |launch: Launch| {
        let (reference, factory) = (reference.clone(), Arc::clone(&factory));
        async move {
            let handle = launch.handle.clone();
            let context = Context::new();
            let addr = context.address();
            let stop = launch.stop.clone();
            ActorRun {
                future: context.into_future(factory(&handle)),
                started: Some((addr, launch.ready)),
                stop: Some(async move { stop.cancelled().await }.boxed()),
                failed: handle.failed.clone().cancelled_owned().boxed(),
                handle,
                reference,
                stopping: false,
            }
            .await
        }
        .boxed_local()
    })
}

/// Owns the actor's future; publishes the address once `started` has returned.
struct ActorRun<A: Actor<Context = Context<A>>> {
    future: ContextFut<A, Context<A>>,
    started: Option<(Addr<A>, oneshot::Sender<()>)>,
    stop: Option<BoxFuture<'static, ()>>,
    failed: BoxFuture<'static, ()>,
    handle: ChildHandle,
    reference: Ref<A>,
    stopping: bool,
}

impl<A: Actor<Context = Context<A>>> Future for ActorRun<A> {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        if this.failed.poll_unpin(cx).is_ready() {
            let why = this.handle.failure.lock().take().unwrap_or_else(|| "unknown".into());
            return Poll::Ready(Exit::Failed(why));
        }
        if this.stop.as_mut().is_some_and(|stop| stop.poll_unpin(cx).is_ready()) {
            this.stop = None;
            this.stopping = true;
            // No new calls; those in the mailbox are answered with an error when the actor is dropped.
            this.reference.clear();
            this.future.ctx().stop();
        }
        let polled = Pin::new(&mut this.future).poll(cx);
        if let Some((addr, ready)) = this.started.take()
            && !this.stopping
        {
            if polled.is_pending() {
                this.reference.publish(addr);
            }
            let _ = ready.send(());
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(match this.handle.failure.lock().take() {
                Some(why) => Exit::Failed(why),
                None if this.stopping => Exit::Stopped,
                None => Exit::Normal,
            }),
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for ActorRun<A> {
    fn drop(&mut self) {
        self.reference.clear();
        // actix would poll a dropped actor once more to call `stopping`; one that panicked or was aborted must not run.
        self.future.ctx().terminate();
    }
}
