//! What every controller is: one actor around a work queue, a reconciler below it, and nothing that carries data between
//! the two but a key.
//!
//! A reconciler looks at the informers' stores, decides, and writes. It is called with one key at a time for each key;
//! after an error the key comes back, later each time. A panic ends the actor; the supervisor builds a new one, whose
//! subscriptions bring every key again.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message};
use async_trait::async_trait;
use navarch_client::{Change, Client, EventRecorder, Item, ObjectKey, Subscription, WorkQueue};
use navarch_supervision::{Backoff, ChildSpec, Ref, fault};
use navarch_types::{ApiError, Reason};

/// What is to happen to a key that was reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until something changes.
    Done,
    /// Look again after a while, even if nothing changes.
    After(Duration),
}

impl Next {
    /// The earlier of two.
    pub fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (Self::Done, next) | (next, Self::Done) => next,
        }
    }
}

/// The part of a controller that knows what it controls.
#[async_trait(?Send)]
pub(crate) trait Reconcile: 'static {
    /// Keys worked on at a time.
    fn workers(&self) -> usize {
        5
    }

    /// Waits until the informers that it reads have their first list.
    async fn synced(&self);

    /// Subscribes to what can change its decisions; the handlers put keys into the queue and do nothing else.
    fn subscribe(&self, queue: &WorkQueue<ObjectKey>) -> Vec<Subscription>;

    /// Brings one key's object closer to what it should be.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, ApiError>;
}

/// The actor.
pub(crate) struct Controller<R> {
    name: Arc<str>,
    fault_point: Arc<str>,
    queue: WorkQueue<ObjectKey>,
    reconciler: Arc<R>,
    recorder: Option<(EventRecorder, Client)>,
    subscriptions: Vec<Subscription>,
}

/// Wants a key to be looked at.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Activate(pub ObjectKey);

impl<R: Reconcile> Controller<R> {
    fn begin(&mut self, context: &mut Context<Self>) {
        self.subscriptions = self.reconciler.subscribe(&self.queue);
        for _ in 0..self.reconciler.workers() {
            let (name, point) = (Arc::clone(&self.name), Arc::clone(&self.fault_point));
            let (queue, reconciler) = (self.queue.clone(), Arc::clone(&self.reconciler));
            let worker = async move { work(&name, &point, &queue, &*reconciler).await };
            context.spawn(actix::fut::wrap_future(worker));
        }
        // A queue that had to refuse keys gets all of them again.
        context.run_interval(Duration::from_secs(10), |actor, _| {
            if actor.queue.take_incomplete() {
                tracing::warn!(controller = &*actor.name, "queue overflowed, all keys again");
                actor.subscriptions = actor.reconciler.subscribe(&actor.queue);
            }
        });
    }
}

impl<R: Reconcile> Actor for Controller<R> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let reconciler = Arc::clone(&self.reconciler);
        let synced = actix::fut::wrap_future::<_, Self>(async move { reconciler.synced().await });
        context.spawn(synced.map(|(), actor, context| actor.begin(context)));
        if let Some((recorder, client)) = self.recorder.clone() {
            context.spawn(actix::fut::wrap_future(async move { recorder.run(&client).await }));
        }
    }

    fn stopping(&mut self, context: &mut Self::Context) -> actix::Running {
        self.queue.shut_down();
        context.terminate();
        actix::Running::Stop
    }
}

impl<R: Reconcile> Handler<Activate> for Controller<R> {
    type Result = ();

    fn handle(&mut self, message: Activate, _: &mut Self::Context) {
        self.queue.add(message.0);
    }
}

async fn work<R: Reconcile>(name: &str, point: &str, queue: &WorkQueue<ObjectKey>, reconciler: &R) {
    while let Some(key) = queue.get().await {
        fault::point(point);
        match reconciler.reconcile(&key).await {
            Ok(next) => {
                queue.forget(&key);
                if let Next::After(delay) = next {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                // A conflict means that the informer is about to bring something newer; a fence, that somebody else leads.
                if error.is(Reason::Conflict) || error.is(Reason::NotFound) {
                    tracing::debug!(controller = name, %key, %error, "again");
                } else {
                    tracing::warn!(controller = name, %key, %error, failures = queue.failures(&key), "reconcile failed");
                }
                queue.add_rate_limited(key.clone());
            }
        }
        queue.done(&key);
    }
}

/// The child spec of a controller. The factory builds the reconciler anew for every start.
pub(crate) fn spec<R: Reconcile>(
    name: &str,
    client: Client,
    factory: impl Fn(Client, EventRecorder) -> R + Send + Sync + 'static,
) -> ChildSpec {
    let reference: Ref<Controller<R>> = Ref::new();
    let recorder = EventRecorder::new(name, None);
    let title: Arc<str> = name.into();
    let fault_point: Arc<str> = format!("controllers/{}", name.trim_end_matches("-controller")).into();
    ChildSpec::actor(name, &reference, move |_| Controller {
        name: Arc::clone(&title),
        fault_point: Arc::clone(&fault_point),
        queue: WorkQueue::new(),
        reconciler: Arc::new(factory(client.clone(), recorder.clone())),
        recorder: Some((recorder.clone(), client.clone())),
        subscriptions: Vec::new(),
    })
    // An object that makes a controller panic each time must not take the others with it: with these waits it never
    // reaches the supervisor's limit.
    .backoff(Backoff {
        initial: Duration::from_millis(100),
        max: Duration::from_secs(30),
        reset_after: Duration::from_secs(120),
    })
    .stop_deadline(Duration::from_secs(2))
}

/// A write to an object that is gone was not needed.
pub(crate) fn gone<T>(result: Result<T, ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if error.is(Reason::NotFound) => Ok(()),
        result => result.map(drop),
    }
}

/// A handler that enqueues the object's own key.
pub(crate) fn own_key<T: Item>(queue: &WorkQueue<ObjectKey>) -> impl Fn(&Change<T>) + Send + Sync + use<T> {
    let queue = queue.clone();
    move |change| queue.add(change.key())
}
