//! How a plain future runs as a child.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::launch::Launch;
use crate::spec::{Body, ChildHandle, Exit};

/// What a task gets.
#[derive(Clone, Debug)]
pub struct TaskContext {
    stop: CancellationToken,
    handle: ChildHandle,
}

impl TaskContext {
    /// Resolves when the task is asked to stop. A task that ignores it is dropped at its deadline.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// The token behind [`TaskContext::stopped`].
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Ends the task as failed, at its next await.
    pub fn fail(&self, why: impl fmt::Display) {
        self.handle.fail(why);
    }
}

pub(crate) fn body<F, Fut, E>(factory: F) -> Body
where
    F: Fn(TaskContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + 'static,
    E: fmt::Display + 'static,
{
    let factory = Arc::new(factory);
    Arc::new(move |launch: Launch| {
        let factory = Arc::clone(&factory);
        async move {
            let handle = launch.handle.clone();
            let stop = launch.stop.clone();
            let future = factory(TaskContext { stop: stop.clone(), handle: handle.clone() });
            let _ = launch.ready.send(());
            let result = tokio::select! {
                biased;
                () = handle.failed.cancelled() => Ok(()),
                result = future => result,
            };
            let failure = handle.failure.lock().take();
            match (failure, result) {
                (Some(why), _) => Exit::Failed(why),
                (None, Err(error)) => Exit::Failed(error.to_string().into()),
                (None, Ok(())) if stop.is_cancelled() => Exit::Stopped,
                (None, Ok(())) => Exit::Normal,
            }
        }
        .boxed_local()
    })
}
