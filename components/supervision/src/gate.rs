//! A subtree that runs only while a condition holds.

use std::sync::Arc;

use futures::future::FutureExt;
use tokio::sync::watch;

use crate::launch::{Launch, Running, launch};
use crate::spec::{Body, ChildSpec, Exit, SupervisorSpec};
use crate::supervisor::stop_running;
use crate::tree::{Cell, NodeState};

/// What opens and closes a gate: `None` is closed.
pub type GateState<T> = watch::Receiver<Option<T>>;

pub(crate) fn body<T, F>(gate: GateState<T>, factory: F) -> Body
where
    T: Clone + PartialEq + Send + Sync + 'static,
    F: Fn(T) -> SupervisorSpec + Send + Sync + 'static,
{
    let factory = Arc::new(factory);
    Arc::new(move |launch: Launch| run(launch, gate.clone(), Arc::clone(&factory)).boxed_local())
}

struct Open<T> {
    value: T,
    spec: ChildSpec,
    cell: Arc<Cell>,
    running: Running,
}

async fn run<T, F>(launched: Launch, mut gate: GateState<T>, factory: Arc<F>) -> Exit
where
    T: Clone + PartialEq + Send + Sync + 'static,
    F: Fn(T) -> SupervisorSpec + Send + Sync + 'static,
{
    let _ = launched.ready.send(());
    let mut open: Option<Open<T>> = None;
    loop {
        let wanted = gate.borrow_and_update().clone();
        if open.as_ref().map(|o| &o.value) != wanted.as_ref() {
            if let Some(open) = open.take() {
                let exit = close(&launched.cell, open).await;
                if exit == Exit::Stuck {
                    return exit;
                }
            }
            open = wanted.map(|value| start(&launched.cell, value, &*factory));
        }
        launched.cell.set(if open.is_some() { NodeState::Running } else { NodeState::Waiting });
        let ended = async {
            match &open {
                Some(open) => open.running.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = launched.stop.cancelled() => {
                if let Some(open) = open.take() {
                    close(&launched.cell, open).await;
                }
                return Exit::Stopped;
            }
            // Whoever opened the gate is gone for good: so is the reason to run.
            changed = gate.changed() => if changed.is_err() {
                if let Some(open) = open.take() {
                    close(&launched.cell, open).await;
                }
                return Exit::Failed("the owner of the gate is gone".into());
            },
            exit = ended => {
                launched.cell.children.lock().clear();
                return Exit::Failed(exit.to_string().into());
            }
        }
    }
}

fn start<T: Clone>(parent: &Cell, value: T, factory: &dyn Fn(T) -> SupervisorSpec) -> Open<T> {
    let spec = ChildSpec::supervisor(factory(value.clone()));
    let cell = Cell::new(&spec);
    *parent.children.lock() = vec![Arc::clone(&cell)];
    let (running, _ready) = launch(&spec.body, &spec.placement, &cell);
    Open { value, spec, cell, running }
}

async fn close<T>(parent: &Cell, open: Open<T>) -> Exit {
    open.cell.set(NodeState::Stopping);
    let exit = stop_running(&open.running, open.spec.stop_deadline).await;
    parent.children.lock().clear();
    exit
}
