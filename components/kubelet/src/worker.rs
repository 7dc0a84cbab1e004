//! The worker of one pod: looks, decides by [`crate::lifecycle`], carries out, reports, and waits for the next change.
//!
//! It keeps nothing that it cannot read again: after a panic or a restart of the agent it finds its containers by their
//! labels. Only it changes anything of its pod, and it does one thing at a time; a wish to stop cuts short what it does.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::backoff::BackOff;
use crate::cri::CriError;
use crate::events::{Level, pod_reference};
use crate::images::PullState;
use crate::lifecycle::status::{self, StatusView, Verdict, WaitingReasons};
use crate::lifecycle::{self, Plan, Probes, Slot, View};
use crate::probes::{self, Report};
use crate::resources::Qos;
use crate::runtime::{self, PodRuntime, State};
use crate::shared::{Desired, PodHandle, Shared};
use crate::sources::Followed;
use crate::tokens::Tokens;
use crate::volumes::VolumePaths;

mod actor;
mod finish;
mod report;
mod start;
pub mod stop;

pub use actor::{PodActor, Sync};
use report::{Progress, Wish};

/// Without any change the worker looks again this often.
const IDLE: SignedDuration = SignedDuration::from_secs(60);
/// After the runtime did not answer.
const RETRY: SignedDuration = SignedDuration::from_millis(500);
/// Waits between attempts to make a sandbox or volumes.
const SETUP_FIRST: SignedDuration = SignedDuration::from_millis(500);
const SETUP_LONGEST: SignedDuration = SignedDuration::from_secs(15);
/// Dead containers kept for each name, for logs of the previous one.
const DEAD_KEPT: usize = 2;

/// When to look again.
enum Next {
    /// At the latest then.
    At(Timestamp),
    /// There is nothing left of the pod.
    Done,
}

pub(crate) struct PodWorker {
    shared: Arc<Shared>,
    handle: Arc<PodHandle>,
    pod: Arc<Pod>,
    seen: PodRuntime,
    last: PodStatus,
    waiting: WaitingReasons,
    messages: HashMap<String, String>,
    restarts: BackOff,
    setups: BackOff,
    pulls: PullState,
    probes: Probes,
    probing: BTreeSet<String>,
    begin_probes: Vec<probes::Target>,
    end_probes: Vec<String>,
    followed: Followed,
    tokens: Tokens,
    volumes: Option<VolumePaths>,
    volumes_stale: bool,
    wishes: watch::Sender<Wish>,
    progress: watch::Receiver<Progress>,
    told_backoff: BTreeSet<(String, u32)>,
    verdict: Option<Verdict>,
    stopped: bool,
    cleaned: bool,
    given_up: bool,
    object_deleted: bool,
    hooked: stop::Hooked,
}

impl PodWorker {
    /// The worker, and the other ends of what reports its status.
    fn new(
        shared: Arc<Shared>,
        handle: Arc<PodHandle>,
        first: &Desired,
    ) -> (Self, watch::Receiver<Wish>, watch::Sender<Progress>) {
        let (wishes, wished) = watch::channel(Wish::default());
        let (sender, progress) = watch::channel(Progress::default());
        let worker = Self {
            pod: Arc::clone(&first.pod),
            seen: PodRuntime::default(),
            last: first.pod.status.clone().unwrap_or_default(),
            waiting: WaitingReasons::new(),
            messages: HashMap::new(),
            restarts: BackOff::kubernetes(),
            setups: BackOff::new(SETUP_FIRST, SETUP_LONGEST),
            pulls: PullState::default(),
            probes: Probes::new(),
            probing: BTreeSet::new(),
            begin_probes: Vec::new(),
            end_probes: Vec::new(),
            followed: Followed::default(),
            tokens: Tokens::default(),
            volumes: None,
            volumes_stale: true,
            wishes,
            progress,
            told_backoff: BTreeSet::new(),
            verdict: None,
            stopped: false,
            cleaned: false,
            given_up: false,
            object_deleted: false,
            hooked: stop::Hooked::default(),
            shared,
            handle,
        };
        (worker, wished, sender)
    }

    /// Something that the pod refers to has changed: what failed for its sake may succeed now.
    fn sources_changed(&mut self) {
        self.followed.mark_read();
        self.volumes_stale = true;
        self.setups = BackOff::new(SETUP_FIRST, SETUP_LONGEST);
    }

    /// Probes to begin and to end since the last call.
    fn probe_changes(&mut self) -> (Vec<probes::Target>, Vec<String>) {
        (std::mem::take(&mut self.begin_probes), std::mem::take(&mut self.end_probes))
    }

    fn tell(&self, container: Option<(&str, bool)>, level: Level, reason: &str, message: String) {
        self.shared.events.record(pod_reference(&self.pod, container), level, reason, message);
    }

    fn take_report(&mut self, report: Report) {
        report.kind.set(self.probes.entry(report.id).or_default(), report.passes);
    }

    /// Takes the newest state of the pod over.
    fn adopt(&mut self, wish: &Desired) {
        if !Arc::ptr_eq(&self.pod, &wish.pod) {
            let (old, new) = (&self.pod.metadata, &wish.pod.metadata);
            self.volumes_stale |= old.labels != new.labels || old.annotations != new.annotations;
            self.pod = Arc::clone(&wish.pod);
        }
    }

    async fn observe(&mut self) -> Result<(), CriError> {
        let seen =
            runtime::observe(&self.shared.cri, &self.shared.config.node_name, &self.handle.uid, &self.seen).await?;
        self.seen = seen;
        let ids: BTreeSet<&str> = self.seen.containers.iter().map(|container| container.id.as_str()).collect();
        self.messages.retain(|id, _| ids.contains(id.as_str()));
        let pod_dir = self.pod_dir();
        for container in self.seen.containers.iter().filter(|container| container.state == State::Exited) {
            if !self.messages.contains_key(&container.id) {
                let message = termination_message(&self.pod, container, &pod_dir);
                self.messages.insert(container.id.clone(), message);
            }
        }
        self.watch_probes();
        Ok(())
    }

    /// One round: look, decide, carry out.
    async fn step(&mut self, wish: &Desired, desired: &mut watch::Receiver<Desired>) -> Next {
        let now = Timestamp::now();
        let soon = |wait: SignedDuration| Next::At(now.checked_add(wait).unwrap_or(now));
        if let Err(error) = self.observe().await {
            debug!(pod = self.handle.uid, "cannot look at the runtime: {error}");
            return soon(RETRY);
        }
        if let Some(verdict) = self.over(wish, now) {
            return self.finish(wish, verdict, desired).await;
        }
        self.follow();
        let mut until = now.checked_add(IDLE).unwrap_or(now);
        for _ in 0..16 {
            let now = Timestamp::now();
            let plan = lifecycle::decide(self.view(now));
            self.announce_waits(&plan);
            self.report(false);
            if plan.kill_pod && plan.create_sandbox.is_none() {
                if status::is_final(self.last.phase.as_deref()) {
                    return self.finish(wish, None, desired).await;
                }
                if self.seen.is_stopped() {
                    // Nothing runs and nothing will, but some container's end was never seen.
                    self.given_up = true;
                    return self.finish(wish, None, desired).await;
                }
                self.halt(desired).await;
                return soon(SignedDuration::from_millis(50));
            }
            until = plan.wait.iter().map(|wait| wait.until).fold(until, Timestamp::min);
            // What takes long is cut short by a wish to stop; the next round begins with a look.
            let carried = tokio::select! {
                carried = self.carry_out(&plan) => carried,
                () = stop_wanted(desired) => return soon(SignedDuration::ZERO),
            };
            match carried {
                Carried::Nothing => break,
                Carried::Changed => {}
                Carried::Wait(at) => until = until.min(at),
            }
            // Some of it may have been done even when the rest has to wait.
            if let Err(error) = self.observe().await {
                debug!(pod = self.handle.uid, "cannot look at the runtime: {error}");
                return soon(RETRY);
            }
            if matches!(carried, Carried::Wait(_)) {
                break;
            }
        }
        self.report(false);
        self.remove_dead().await;
        let dues = [lifecycle::deadline(&self.pod), self.tokens.due()];
        Next::At(dues.into_iter().flatten().fold(until, Timestamp::min))
    }

    fn view(&self, now: Timestamp) -> View<'_> {
        View { pod: &self.pod, runtime: &self.seen, probes: &self.probes, restarts: &self.restarts, now }
    }

    /// Whether the pod shall run no more: `None` if it shall; else with the verdict that ends it, if there is one.
    fn over(&self, wish: &Desired, now: Timestamp) -> Option<Option<Verdict>> {
        if let Some(refusal) = &wish.refusal {
            let (reason, message) = (refusal.reason.clone(), refusal.message.clone());
            return Some(Some(Verdict { phase: Some("Failed"), reason, message }));
        }
        let deleted = wish.gone || self.pod.metadata.deletion_timestamp.is_some();
        let api_phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if self.verdict.is_some() {
            return Some(self.verdict.clone());
        }
        if lifecycle::deadline(&self.pod).is_some_and(|deadline| deadline <= now)
            && !status::is_final(api_phase)
            && !deleted
        {
            return Some(Some(Verdict {
                phase: Some("Failed"),
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            }));
        }
        (deleted || self.given_up || status::is_final(api_phase) || status::is_final(self.last.phase.as_deref()))
            .then_some(None)
    }

    /// Stops what runs, because the sandbox is lost; the pod goes on.
    async fn halt(&mut self, desired: &mut watch::Receiver<Desired>) {
        if self.seen.running().next().is_some() || self.seen.sandboxes.iter().any(|sandbox| sandbox.ready) {
            let grace = stop::grace_of(&self.pod);
            let stopping = async {
                stop::all(&self.shared, &self.pod, &self.seen, grace, &self.hooked).await?;
                for sandbox in self.seen.sandboxes.iter().filter(|sandbox| sandbox.ready) {
                    self.shared.cri.stop_pod_sandbox(&sandbox.id).await?;
                }
                Ok::<(), CriError>(())
            };
            tokio::select! {
                stopped = stopping => if let Err(error) = stopped { debug!("cannot stop a pod's containers: {error}") },
                () = stop_wanted(desired) => {}
            }
        }
    }

    async fn carry_out(&mut self, plan: &Plan) -> Carried {
        let now = Timestamp::now();
        let fresh = self.volumes.is_none();
        let wanted = plan.create_sandbox.is_some() || !plan.start.is_empty();
        let renew = self.tokens.due().is_some_and(|due| due <= now);
        let needed = if fresh { wanted || self.seen.running().next().is_some() } else { self.volumes_stale || renew };
        if needed {
            if let Some(until) = self.setups.until_since_update("volumes", now) {
                return Carried::Wait(until);
            }
            if let Err(message) = self.set_up_volumes().await {
                self.setups.next("volumes", Timestamp::now());
                self.tell(None, Level::Warning, "FailedMount", message);
                if fresh {
                    let until = self.setups.until_since_update("volumes", Timestamp::now());
                    return Carried::Wait(until.unwrap_or(now));
                }
            } else {
                self.setups.reset("volumes");
            }
        }
        if let Some(attempt) = plan.create_sandbox {
            return self.renew_sandbox(plan, attempt, now).await;
        }
        let mut changed = false;
        for kill in &plan.kill {
            self.kill(kill).await;
            changed = true;
        }
        let mut until: Option<Timestamp> = None;
        for start in &plan.start {
            match self.try_start(start, now).await {
                Ok(()) => changed = true,
                Err(at) => until = Some(until.map_or(at, |until| until.min(at))),
            }
        }
        match until {
            Some(until) => Carried::Wait(until),
            None if changed => Carried::Changed,
            None => Carried::Nothing,
        }
    }

    async fn renew_sandbox(&mut self, plan: &Plan, attempt: u32, now: Timestamp) -> Carried {
        if let Some(until) = self.setups.until_since_update("sandbox", now) {
            return Carried::Wait(until);
        }
        if plan.kill_pod {
            if attempt > 0 {
                let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                self.tell(None, Level::Normal, "SandboxChanged", message);
            }
            let _ = stop::all(&self.shared, &self.pod, &self.seen, stop::grace_of(&self.pod), &self.hooked).await;
        }
        // The network of a sandbox that died must be taken down before its pod gets another.
        for sandbox in &self.seen.sandboxes {
            if let Err(error) = self.shared.cri.stop_pod_sandbox(&sandbox.id).await {
                debug!("cannot stop a sandbox: {error}");
            }
        }
        if let Err(error) = self.create_sandbox(attempt).await {
            debug!(pod = self.handle.uid, "{error}");
            self.setups.next("sandbox", Timestamp::now());
            return Carried::Wait(self.setups.until_since_update("sandbox", Timestamp::now()).unwrap_or(now));
        }
        self.setups.reset("sandbox");
        Carried::Changed
    }

    /// Starts a container; on failure says when to try again.
    async fn try_start(&mut self, start: &lifecycle::Start, now: Timestamp) -> Result<(), Timestamp> {
        let pod = Arc::clone(&self.pod);
        let Some(container) = pod.spec.as_ref().and_then(|spec| start.slot.of(spec)) else { return Ok(()) };
        let key = lifecycle::backoff_key(container);
        let retry = format!("start/{key}");
        let restarted = self.seen.newest(&container.name).is_some_and(|observed| observed.state == State::Exited);
        if let Some(until) = self.setups.until_since_update(&retry, now) {
            return Err(until);
        }
        match self.start_container(start).await {
            Ok(()) => {
                self.waiting.remove(&container.name);
                self.setups.reset(&retry);
                // The first start is no failure: only starts after an end count.
                if restarted {
                    self.restarts.next(&key, Timestamp::now());
                }
                Ok(())
            }
            Err((reason, message)) => {
                let image = container.image.as_deref().unwrap_or_default();
                let due = self.pulls.due(image, Timestamp::now()).filter(|_| reason == "ImagePullBackOff");
                if reason != "ContainerCreating" {
                    self.waiting.insert(container.name.clone(), (reason, message));
                }
                self.setups.next(&retry, Timestamp::now());
                // A pull that failed shows its back-off at the next look, as upstream's next round does.
                let until = self.setups.until_since_update(&retry, Timestamp::now()).unwrap_or(now);
                Err(due.unwrap_or(until))
            }
        }
    }

    async fn kill(&mut self, kill: &lifecycle::Kill) {
        let pod = Arc::clone(&self.pod);
        let Some(container) = pod.spec.as_ref().and_then(|spec| kill.slot.of(spec)) else { return };
        let init = matches!(kill.slot, Slot::Init(_));
        self.tell(Some((&container.name, init)), Level::Normal, "Killing", kill.message.clone());
        let own = match kill.probe {
            Some(lifecycle::ProbeKind::Liveness) => container.liveness_probe.as_ref(),
            Some(lifecycle::ProbeKind::Startup) => container.startup_probe.as_ref(),
            None => None,
        };
        let own = own.and_then(|probe| probe.termination_grace_period_seconds);
        let grace = own.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let grace = grace.unwrap_or_else(|| stop::grace_of(&pod));
        let pod_ip = stop::pod_ip(&self.shared, &pod, &self.seen);
        let Some(observed) = self.seen.containers.iter().find(|observed| observed.id == kill.id).cloned() else {
            return;
        };
        if let Err(error) =
            stop::container(&self.shared, &pod, Some(container), &observed, &pod_ip, grace, &self.hooked).await
        {
            warn!(container = container.name, "cannot stop a container: {error}");
        }
    }

    /// Shows containers that wait for their back-off, and tells of each once.
    fn announce_waits(&mut self, plan: &Plan) {
        let pod = Arc::clone(&self.pod);
        let Some(spec) = &pod.spec else { return };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.waiting.retain(|_, (reason, _)| reason != "CrashLoopBackOff");
        for wait in &plan.wait {
            let Some(container) = wait.slot.of(spec) else { continue };
            let seconds = self.restarts.wait(&lifecycle::backoff_key(container)).as_secs();
            let span =
                if seconds >= 60 { format!("{}m{}s", seconds / 60, seconds % 60) } else { format!("{seconds}s") };
            let message = format!(
                "back-off {span} restarting failed container={} pod={name}_{namespace}({})",
                container.name, self.handle.uid
            );
            self.waiting.insert(container.name.clone(), ("CrashLoopBackOff".to_owned(), message));
            let attempt = self.seen.newest(&container.name).map_or(0, |observed| observed.attempt);
            if self.told_backoff.insert((container.name.clone(), attempt)) {
                let init = matches!(wait.slot, Slot::Init(_));
                let text = format!(
                    "Back-off restarting failed container {} in pod {name}_{namespace}({})",
                    container.name, self.handle.uid
                );
                self.tell(Some((&container.name, init)), Level::Warning, "BackOff", text);
            }
        }
    }

    /// Works the status out and wishes it reported, if it changed.
    fn report(&mut self, finished: bool) -> u64 {
        let mut pod = (*self.pod).clone();
        let mut before = self.last.clone();
        let theirs = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let ours = |condition: &k8s_openapi::api::core::v1::PodCondition| {
            lifecycle::conditions::OURS.contains(&condition.type_.as_str())
        };
        let mut conditions: Vec<_> = before.conditions.unwrap_or_default().into_iter().filter(ours).collect();
        conditions.extend(theirs.into_iter().filter(|condition| !ours(condition)));
        before.conditions = Some(conditions);
        pod.status = Some(before);
        let node_ip = self.shared.config.node_ip.to_string();
        let view = StatusView {
            pod: &pod,
            runtime: &self.seen,
            probes: &self.probes,
            waiting: &self.waiting,
            messages: &self.messages,
            verdict: self.verdict.as_ref(),
            node_ip: &node_ip,
            qos: Qos::of(&self.pod).as_str(),
            finished,
            now: now_in_seconds(),
        };
        let status = status::generate(&view);
        let seen = Some((report::revision_of(&self.pod), Arc::clone(&self.pod)));
        let old = self.wishes.borrow().clone();
        let number = old.number + 1;
        let old_seen = old.seen.as_ref().map_or(0, |(revision, _)| *revision);
        if old.number > 0 && *old.status == status && old_seen == report::revision_of(&self.pod) {
            return old.number;
        }
        *self.handle.status.lock() = Some(status.clone());
        self.last = status.clone();
        self.wishes.send_replace(Wish { number, status: Arc::new(status), seen });
        number
    }

    /// Starts probes of new containers and ends those of others.
    fn watch_probes(&mut self) {
        let pod = Arc::clone(&self.pod);
        let Some(spec) = &pod.spec else { return };
        let running: BTreeSet<String> = self.seen.running().map(|observed| observed.id.clone()).collect();
        let ended: Vec<String> = self.probing.iter().filter(|id| !running.contains(*id)).cloned().collect();
        for id in ended {
            self.probing.remove(&id);
            self.probes.remove(&id);
            self.end_probes.push(id);
        }
        if self.verdict.is_some() || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let sidecars = lifecycle::init_containers(spec).iter().filter(|container| lifecycle::is_sidecar(container));
        let lists = spec.containers.iter().map(|c| (c, false)).chain(sidecars.map(|c| (c, true)));
        for (container, init) in lists.filter(|(container, _)| probes::has_probes(container)) {
            let observed = self.seen.newest(&container.name).filter(|observed| observed.state == State::Running);
            let Some(observed) = observed.cloned() else { continue };
            if self.probing.contains(&observed.id) {
                continue;
            }
            let known = self.known_probes(container, &observed);
            self.probes.insert(observed.id.clone(), known);
            let target = probes::Target {
                cri: self.shared.cri.clone(),
                events: self.shared.events.clone(),
                reference: pod_reference(&pod, Some((&container.name, init))),
                container: container.clone(),
                id: observed.id.clone(),
                started_at: observed.started_at.unwrap_or(observed.created_at),
                pod_ip: stop::pod_ip(&self.shared, &pod, &self.seen),
                known,
            };
            self.probing.insert(target.id.clone());
            self.begin_probes.push(target);
        }
    }

    /// What the API says of a container that ran before this worker did: it stays ready until a probe fails.
    fn known_probes(&self, container: &Container, observed: &runtime::Container) -> lifecycle::ProbeState {
        let id = format!("containerd://{}", observed.id);
        let status = self.pod.status.as_ref();
        let statuses = status.into_iter().flat_map(|status| {
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
        });
        let known = statuses.into_iter().find(|status| status.container_id.as_deref() == Some(id.as_str()));
        let started = known.is_some_and(|known| known.started == Some(true));
        lifecycle::ProbeState {
            started: started.then_some(true).filter(|_| container.startup_probe.is_some()),
            ready: known.map(|known| known.ready).filter(|ready| *ready),
            live: None,
        }
    }

    /// Removes dead containers beyond those kept for their logs.
    async fn remove_dead(&mut self) {
        let mut kept: HashMap<&str, usize> = HashMap::new();
        let mut remove = Vec::new();
        for container in &self.seen.containers {
            let count = kept.entry(container.name.as_str()).or_default();
            *count += 1;
            if *count > DEAD_KEPT && container.state != State::Running {
                remove.push((container.id.clone(), container.log_path.clone()));
            }
        }
        for (id, log) in remove {
            if self.shared.cri.remove_container(&id).await.is_ok() {
                crate::logs::remove(Path::new(&log));
                self.seen.containers.retain(|container| container.id != id);
            }
        }
    }
}

enum Carried {
    Nothing,
    Changed,
    Wait(Timestamp),
}

/// Resolves when the pod is to be stopped. The wish stays unread.
async fn stop_wanted(desired: &mut watch::Receiver<Desired>) {
    let stop = |wish: &Desired| wish.gone || wish.refusal.is_some() || wish.pod.metadata.deletion_timestamp.is_some();
    let mut own = desired.clone();
    if own.wait_for(stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The API keeps whole seconds: anything finer would differ from what comes back.
fn now_in_seconds() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn termination_message(pod: &Pod, observed: &runtime::Container, pod_dir: &Path) -> String {
    let spec = pod.spec.as_ref();
    let container = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter().chain(lifecycle::init_containers(spec)))
        .find(|container| container.name == observed.name);
    let file = start::message_file(pod_dir, &observed.name, observed.attempt);
    let read = crate::logs::read_at_most(&file, start::MESSAGE_BYTES_MAX);
    if !read.is_empty() {
        return String::from_utf8_lossy(&read).into_owned();
    }
    let policy = container.and_then(|container| container.termination_message_policy.as_deref());
    if policy == Some("FallbackToLogsOnError") && observed.exit_code != 0 {
        return crate::logs::tail_for_message(Path::new(&observed.log_path));
    }
    String::new()
}
