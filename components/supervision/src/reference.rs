//! References that survive restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::watch;

/// Why a message got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The actor is not running now: starting, restarting or stopped. It did not get the message; try later.
    #[error("the actor is not running")]
    NotRunning,
    /// The mailbox is full. The actor did not get the message; try later.
    #[error("the actor's mailbox is full")]
    Full,
    /// The actor went away with the message. Whether it was handled is unknown.
    #[error("the actor ended before it answered")]
    Interrupted,
}

/// A reference to a supervised actor, whichever incarnation of it runs. Make it first, hand clones to whoever needs it,
/// and give it to [`crate::ChildSpec::actor`].
pub struct Ref<A: Actor> {
    current: Arc<watch::Sender<Option<Addr<A>>>>,
    pending: Arc<AtomicUsize>,
}

impl<A: Actor> Clone for Ref<A> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current), pending: Arc::clone(&self.pending) }
    }
}

impl<A: Actor> Default for Ref<A> {
    fn default() -> Self {
        Self { current: Arc::new(watch::Sender::new(None)), pending: Arc::default() }
    }
}

struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<A: Actor<Context = Context<A>>> Ref<A> {
    /// To an actor that does not run yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The address of the present incarnation. Do not keep it.
    pub fn addr(&self) -> Option<Addr<A>> {
        self.current.borrow().clone()
    }

    /// Waits until the actor runs.
    pub async fn ready(&self) {
        let mut receiver = self.current.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = receiver.wait_for(Option::is_some).await;
    }

    /// Sends a message and waits for the answer. Waits while the mailbox is full.
    ///
    /// # Errors
    /// If the actor is not running or ends before it answers.
    pub async fn send<M>(&self, message: M) -> Result<M::Result, CallError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let addr = self.addr().ok_or(CallError::NotRunning)?;
        self.pending.fetch_add(1, Ordering::Relaxed);
        let _pending = Pending(Arc::clone(&self.pending));
        addr.send(message).await.map_err(|_| CallError::Interrupted)
    }

    /// Puts a message into the mailbox, without an answer.
    ///
    /// # Errors
    /// If the actor is not running or its mailbox is full.
    pub fn try_send<M>(&self, message: M) -> Result<(), CallError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let addr = self.addr().ok_or(CallError::NotRunning)?;
        addr.try_send(message).map_err(|error| match error {
            actix::prelude::SendError::Full(_) => CallError::Full,
            actix::prelude::SendError::Closed(_) => CallError::NotRunning,
        })
    }

    /// Calls that wait for the actor now: its mailbox and what it works on.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn pending_counter(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.pending)
    }

    pub(crate) fn publish(&self, addr: Addr<A>) {
        self.current.send_replace(Some(addr));
    }

    pub(crate) fn clear(&self) {
        self.current.send_replace(None);
    }
}
