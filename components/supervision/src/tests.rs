//! The tree as a whole, with real actors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseActFuture, Running};
use parking_lot::Mutex;

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Calm,
    PanicInStarted,
    RefusesToStop,
}

struct Probe {
    name: &'static str,
    log: Log,
    mode: Mode,
    starts: Arc<AtomicUsize>,
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let starts = self.starts.fetch_add(1, Ordering::SeqCst);
        assert!(!(self.mode == Mode::PanicInStarted && starts < 2), "cannot start");
        self.log.lock().push(format!("+{}", self.name));
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        if self.mode == Mode::RefusesToStop { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.log.lock().push(format!("-{}", self.name));
    }
}

#[derive(Message)]
#[rtype(result = "usize")]
struct Starts;
#[derive(Message)]
#[rtype(result = "()")]
struct PanicNow;
#[derive(Message)]
#[rtype(result = "()")]
struct PanicLater;
#[derive(Message)]
#[rtype(result = "()")]
struct Never;

impl Handler<Starts> for Probe {
    type Result = usize;
    fn handle(&mut self, _: Starts, _: &mut Self::Context) -> usize {
        self.starts.load(Ordering::SeqCst)
    }
}
impl Handler<PanicNow> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicNow, _: &mut Self::Context) {
        panic!("in a handler");
    }
}
impl Handler<PanicLater> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicLater, context: &mut Self::Context) {
        context.spawn(actix::fut::wrap_future(async { panic!("in a spawned future") }));
    }
}
impl Handler<Never> for Probe {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, _: Never, _: &mut Self::Context) -> Self::Result {
        Box::pin(actix::fut::wrap_future(std::future::pending()))
    }
}

struct World {
    log: Log,
    refs: Vec<Ref<Probe>>,
    spec: SupervisorSpec,
}

fn quick() -> Backoff {
    Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(4), reset_after: Duration::from_secs(60) }
}

fn probe(name: &'static str, reference: &Ref<Probe>, log: &Log, mode: Mode) -> ChildSpec {
    let (log, starts) = (Arc::clone(log), Arc::new(AtomicUsize::new(0)));
    ChildSpec::actor(name, reference, move |_| Probe { name, log: Arc::clone(&log), mode, starts: Arc::clone(&starts) })
        .backoff(quick())
}

fn world(strategy: Strategy, modes: &[Mode]) -> World {
    let log = Log::default();
    let refs: Vec<Ref<Probe>> = modes.iter().map(|_| Ref::new()).collect();
    let names = ["a", "b", "c", "d"];
    let mut spec = SupervisorSpec::new("root", strategy);
    for ((mode, reference), name) in modes.iter().zip(&refs).zip(names) {
        spec = spec.child(probe(name, reference, &log, *mode));
    }
    World { log, refs, spec }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn taken(log: &Log) -> String {
    std::mem::take(&mut *log.lock()).concat()
}

#[actix::test]
async fn starts_in_order_and_stops_in_reverse() {
    let world = world(Strategy::OneForOne, &[Mode::Calm; 3]);
    let tree = Tree::start(world.spec).await.unwrap();
    assert_eq!(taken(&world.log), "+a+b+c");
    assert_eq!(tree.stop(Duration::from_secs(5)).await, Exit::Stopped);
    assert_eq!(taken(&world.log), "-c-b-a");
    assert_eq!(world.refs[0].send(Starts).await, Err(CallError::NotRunning));
}

#[actix::test]
async fn a_panic_restarts_as_the_strategy_says_and_references_live_on() {
    for (strategy, expected) in
        [(Strategy::OneForOne, "+b"), (Strategy::RestForOne, "-d-c+b+c+d"), (Strategy::OneForAll, "-d-c-a+a+b+c+d")]
    {
        let world = world(strategy, &[Mode::Calm; 4]);
        let tree = Tree::start(world.spec).await.unwrap();
        taken(&world.log);
        assert_eq!(world.refs[1].send(PanicNow).await, Err(CallError::Interrupted));
        until("restarted", || world.log.lock().concat() == expected).await;
        for reference in &world.refs {
            reference.ready().await;
            assert!(reference.send(Starts).await.unwrap() >= 1);
        }
        let snapshot = tree.snapshot();
        let b = snapshot.find(&["b"]).unwrap();
        assert_eq!((b.restarts, b.state), (1, NodeState::Running));
        assert!(b.last_failure.as_ref().unwrap().contains("in a handler"), "{b:?}");
        let a = snapshot.find(&["a"]).unwrap();
        assert_eq!(a.restarts, u64::from(strategy == Strategy::OneForAll));
        assert!(a.last_failure.is_none());
        tree.stop(Duration::from_secs(5)).await;
    }
}

#[actix::test]
async fn panics_in_started_and_in_spawned_futures_are_seen() {
    let world = world(Strategy::OneForOne, &[Mode::PanicInStarted, Mode::Calm]);
    let tree = Tree::start(world.spec).await.unwrap();
    world.refs[0].ready().await;
    assert_eq!(world.refs[0].send(Starts).await, Ok(3), "two starts panicked, the third held");
    world.refs[1].send(PanicLater).await.unwrap();
    until("restart", || tree.snapshot().find(&["b"]).unwrap().restarts == 1).await;
    world.refs[1].ready().await;
    assert!(tree.snapshot().find(&["b"]).unwrap().last_failure.as_ref().unwrap().contains("in a spawned future"));
    tree.stop(Duration::from_secs(5)).await;
}

#[actix::test]
async fn too_many_restarts_escalate_to_the_parent_and_then_end_the_root() {
    let log = Log::default();
    let reference = Ref::new();
    let inner = SupervisorSpec::new("inner", Strategy::OneForOne)
        .intensity(Intensity::new(1, Duration::from_secs(60)))
        .child(probe("x", &Ref::new(), &log, Mode::Calm))
        .child(probe("bad", &reference, &log, Mode::Calm));
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .intensity(Intensity::new(1, Duration::from_secs(60)))
        .child(ChildSpec::supervisor(inner).backoff(quick()));
    let tree = Tree::start(root).await.unwrap();
    for round in 0..4 {
        reference.ready().await;
        if round == 2 {
            assert_eq!(tree.snapshot().find(&["inner"]).unwrap().restarts, 1, "escalated");
            assert_eq!(tree.snapshot().find(&["inner", "bad"]).unwrap().restarts, 0, "built anew");
        }
        let _ = reference.send(PanicNow).await;
        until("gone", || reference.addr().is_none() || round == 3).await;
    }
    let exit = tree.wait().await;
    assert!(matches!(&exit, Exit::Failed(why) if why.contains("too many restarts") && why.contains("inner")), "{exit}");
    assert!(log.lock().concat().ends_with("-x"), "the sibling was stopped");
}

#[actix::test]
async fn a_child_that_does_not_stop_is_dropped_at_its_deadline() {
    let log = Log::default();
    let (stubborn, calm) = (Ref::new(), Ref::new());
    let spec = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(probe("calm", &calm, &log, Mode::Calm))
        .child(probe("stubborn", &stubborn, &log, Mode::RefusesToStop).stop_deadline(Duration::from_millis(30)));
    let tree = Tree::start(spec).await.unwrap();
    let call = stubborn.clone();
    let waiting = actix::spawn(async move { call.send(Never).await });
    until("pending", || stubborn.pending() == 1).await;
    assert_eq!(tree.snapshot().find(&["stubborn"]).unwrap().pending, Some(1));
    assert_eq!(tree.stop(Duration::from_secs(5)).await, Exit::Stopped);
    assert_eq!(waiting.await.unwrap(), Err(CallError::Interrupted));
    assert!(tree.snapshot().find(&["stubborn"]).unwrap().last_failure.as_ref().unwrap().contains("deadline"));
    assert!(log.lock().concat().ends_with("-calm"));
}

#[actix::test]
async fn tasks_fail_end_and_stop_by_their_policy() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    let spec = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(
            ChildSpec::task("fails-thrice", move |_| {
                let run = counter.fetch_add(1, Ordering::SeqCst);
                async move {
                    match run {
                        0 => Err("an error"),
                        1 => panic!("a panic"),
                        _ => Ok(()),
                    }
                }
            })
            .restart(Restart::Transient)
            .backoff(quick())
            .on_thread("elsewhere"),
        )
        .child(ChildSpec::task("patient", |context: TaskContext| async move {
            context.stopped().await;
            Ok::<_, String>(())
        }));
    let tree = Tree::start(spec).await.unwrap();
    until("done", || tree.snapshot().find(&["fails-thrice"]).unwrap().state == NodeState::Stopped).await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert!(tree.snapshot().find(&["fails-thrice"]).unwrap().last_failure.as_ref().unwrap().contains("a panic"));
    assert_eq!(tree.stop(Duration::from_secs(5)).await, Exit::Stopped);
}

#[actix::test]
async fn dynamic_children_come_and_go() {
    let pods = SupervisorRef::new();
    let log = Log::default();
    let tree = Tree::start(
        SupervisorSpec::new("pods", Strategy::OneForOne).intensity(Intensity::unlimited()).controlled_by(&pods),
    )
    .await
    .unwrap();
    let references: Vec<Ref<Probe>> = (0..3).map(|_| Ref::new()).collect();
    for (name, reference) in ["p", "q", "r"].into_iter().zip(&references) {
        pods.add(probe(name, reference, &log, Mode::Calm)).await.unwrap();
        reference.ready().await;
    }
    assert_eq!(pods.add(probe("q", &Ref::new(), &log, Mode::Calm)).await, Err(ChildError::Exists("q".into())));
    assert_eq!(pods.remove("nobody").await, Err(ChildError::NotFound("nobody".into())));
    let _ = references[0].send(PanicNow).await;
    until("restarted", || tree.snapshot().find(&["p"]).unwrap().restarts == 1).await;
    assert_eq!(pods.remove("q").await, Ok(Exit::Stopped));
    let names: Vec<String> = tree.snapshot().children.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["p", "r"]);
    for restart in [Restart::Temporary, Restart::Transient] {
        pods.add(ChildSpec::task("once", |_| async { Ok::<_, String>(()) }).restart(restart)).await.unwrap();
        until("forgotten", || tree.snapshot().children.len() == 2).await;
    }
    tree.stop(Duration::from_secs(5)).await;
    assert_eq!(pods.remove("p").await, Err(ChildError::NotRunning));
}

#[actix::test]
async fn a_gate_runs_its_subtree_only_while_open() {
    let (gate, state) = tokio::sync::watch::channel(None);
    let log = Log::default();
    let reference = Ref::new();
    let (in_gate, gate_log) = (reference.clone(), Arc::clone(&log));
    let tree = Tree::start(SupervisorSpec::new("root", Strategy::OneForOne).child(ChildSpec::gate(
        "leader",
        state,
        move |term: u64| {
            gate_log.lock().push(format!("t{term}"));
            SupervisorSpec::new("controllers", Strategy::OneForOne).child(probe("c", &in_gate, &gate_log, Mode::Calm))
        },
    )))
    .await
    .unwrap();
    until("waiting", || tree.snapshot().find(&["leader"]).unwrap().state == NodeState::Waiting).await;
    gate.send_replace(Some(4));
    reference.ready().await;
    gate.send_replace(Some(5));
    until("new term", || log.lock().concat() == "t4+c-ct5+c").await;
    gate.send_replace(None);
    until("closed", || tree.snapshot().find(&["leader"]).unwrap().children.is_empty()).await;
    assert_eq!(log.lock().concat(), "t4+c-ct5+c-c");
    tree.stop(Duration::from_secs(5)).await;
}

#[actix::test]
async fn the_watchdog_sees_a_handler_that_does_not_yield() {
    let spec = SupervisorSpec::new("root", Strategy::OneForOne).child(
        ChildSpec::task("hog", |_| async {
            std::thread::sleep(Duration::from_millis(2200));
            Ok::<_, String>(())
        })
        .restart(Restart::Transient)
        .on_thread("hog"),
    );
    let tree = Tree::start(spec).await.unwrap();
    until("stall", || tree.snapshot().find(&["hog"]).unwrap().stalls == 1).await;
    assert!(tree.snapshot().find(&["hog"]).unwrap().busy_ms.unwrap() >= 1000);
    until("over", || tree.snapshot().find(&["hog"]).unwrap().state == NodeState::Stopped).await;
    let json = serde_json::to_value(tree.snapshot()).unwrap();
    assert_eq!(json["children"][0]["kind"], "task");
    tree.stop(Duration::from_secs(5)).await;
}
