//! Clients under whose load things break: registers that many change, and writes whose only purpose is not to be lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use navarch_chaos::check::history::{Act, Answer};
use navarch_chaos::check::recorder::Recorder;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Reply, revision};

/// Where everything that the load writes is.
pub const PATH: &str = "/api/v1/namespaces/default/configmaps";
/// Names of registers begin with this.
pub const REGISTERS: &str = "r-";
/// Names of writes that are made once begin with this.
pub const ONCE: &str = "u-";
/// Registers of a client that shares none.
const OWN: u32 = 50;
/// How long a client stays away from the member that it likes best after that one failed.
const AWAY: Duration = Duration::from_secs(2);

/// Where operations are recorded.
pub type Operations = Recorder<BufWriter<File>>;

/// What the load counted.
#[derive(Default)]
pub struct Tally {
    /// Writes that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Reads that were answered.
    pub reads: AtomicU64,
    /// Compares that failed.
    pub conflicts: AtomicU64,
    /// Requests that the server refused, and that therefore did not happen.
    pub refused: AtomicU64,
    /// Requests without an answer.
    pub open: AtomicU64,
    /// Answers by code that are neither success, conflict nor refusal.
    pub odd: Mutex<BTreeMap<u16, (u64, String)>>,
    /// When the last write was acknowledged, and the longest time without one since it was last looked at.
    gap: Mutex<(Option<Instant>, Duration)>,
}

impl Tally {
    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let mut gap = self.gap.lock();
        let now = Instant::now();
        if let Some(last) = gap.0.replace(now) {
            gap.1 = gap.1.max(now - last);
        }
    }

    /// The longest time without an acknowledged write since the last call; also a gap that lasts still.
    pub fn take_gap(&self) -> Duration {
        let mut gap = self.gap.lock();
        let lasting = gap.0.map_or(Duration::ZERO, |last| last.elapsed());
        std::mem::take(&mut gap.1).max(lasting)
    }
}

/// One client's means.
#[derive(Clone)]
pub struct Client {
    /// The members.
    pub api: Api,
    /// What it writes down.
    pub operations: Arc<Operations>,
    /// What it counts.
    pub tally: Arc<Tally>,
    /// It ends with this.
    pub stop: CancellationToken,
}

impl Client {
    /// Makes a request and records it. Returns the answer, and whether the member is good for another.
    async fn act(&self, client: u64, server: &str, name: &str, act: Act) -> (Option<Answer>, bool) {
        let path = format!("{PATH}/{name}");
        let object = |value: &str, revision: Option<u64>| {
            let mut object =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value}});
            if let Some(revision) = revision {
                object["metadata"]["resourceVersion"] = revision.to_string().into();
            }
            object
        };
        let (method, path, body) = match &act {
            Act::Read => (Method::GET, path.as_str(), None),
            Act::Swap { expected: 0, value } => (Method::POST, PATH, Some(object(value, None))),
            Act::Swap { expected, value } => (Method::PUT, path.as_str(), Some(object(value, Some(*expected)))),
            Act::Delete { expected } => {
                let wanted = expected.map(|revision| json!({"resourceVersion": revision.to_string()}));
                let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": wanted});
                (Method::DELETE, path.as_str(), Some(options))
            }
            Act::Put { .. } | Act::Check { .. } => unreachable!("not used by this load"),
        };
        let called = self.operations.call(client, name, act.clone()).unwrap();
        let reply = self.api.ask(server, method, path, body.as_ref()).await;
        let (answer, good) = self.judge(&act, reply);
        if let Some(answer) = &answer {
            self.operations.answer(called, answer.clone(), None).unwrap();
        }
        (answer, good)
    }

    /// What a reply says about the operation; nothing, if it may have happened or not.
    fn judge(&self, act: &Act, reply: Reply) -> (Option<Answer>, bool) {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let (code, object) = match reply {
            Reply::Answer(code, object) => (code, object),
            Reply::NotSent => {
                count(&self.tally.refused);
                return (Some(Answer::Refused), false);
            }
            Reply::Silence(_) => {
                count(&self.tally.open);
                return (None, false);
            }
        };
        let answer = match (code, act) {
            (200, Act::Read) => {
                count(&self.tally.reads);
                let value = object.pointer("/data/v").and_then(Value::as_str).unwrap_or_default().to_owned();
                Answer::Found { value, revision: revision(&object).unwrap_or(0) }
            }
            (404, Act::Read) => {
                count(&self.tally.reads);
                Answer::Absent
            }
            (200 | 201, _) => {
                self.tally.acknowledge();
                // A delete is answered with a Status, or with what was there: neither tells the delete's own revision.
                let told = if matches!(act, Act::Delete { .. }) { None } else { revision(&object) };
                Answer::Done { revision: told }
            }
            (404, _) => {
                count(&self.tally.conflicts);
                Answer::Conflict { actual: Some(0) }
            }
            (409, _) => {
                count(&self.tally.conflicts);
                Answer::Conflict { actual: None }
            }
            (429 | 503, _) => {
                count(&self.tally.refused);
                return (Some(Answer::Refused), false);
            }
            // The quota alarm: nothing new is taken, and nothing happened.
            (500, _) if object["message"].as_str().is_some_and(|text| text.contains("NOSPACE")) => {
                count(&self.tally.refused);
                return (Some(Answer::Refused), false);
            }
            // The member is well: it does not know what became of the write.
            (504, _) => {
                count(&self.tally.open);
                return (None, true);
            }
            (code, _) => {
                let mut odd = self.tally.odd.lock();
                let (times, said) = odd.entry(code).or_default();
                *times += 1;
                *said = object.to_string();
                return (None, false);
            }
        };
        (Some(answer), true)
    }

    /// Reads and changes registers until told to stop: so many that all clients share, or some of its own.
    pub async fn registers(self, client: u64, seed: u64, shared: Option<u32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(client));
        let mut known: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut member, mut number) = (client as usize, 0_u64);
        while !self.stop.is_cancelled() {
            let register = rng.random_range(0..shared.unwrap_or(OWN));
            let name = match shared {
                Some(_) => format!("{REGISTERS}{register}"),
                None => format!("{REGISTERS}{client}-{register}"),
            };
            number += 1;
            let value = format!("{client}-{number}");
            let act = match (rng.random_range(0..100), known.get(&register)) {
                (0..40, _) => Act::Read,
                (40..50, Some(revision)) => Act::Delete { expected: Some(*revision) },
                (_, Some(revision)) => Act::Swap { expected: *revision, value },
                (_, None) => Act::Swap { expected: 0, value },
            };
            let deletes = matches!(act, Act::Delete { .. });
            // Mostly another member than before: what was written through one is read through the other.
            member = if rng.random_bool(0.5) { rng.random_range(0..64) } else { member };
            let (answer, good) = self.act(client, &self.api.server(member), &name, act).await;
            match answer {
                Some(Answer::Found { revision, .. }) => drop(known.insert(register, revision)),
                Some(Answer::Done { revision: Some(revision) }) if !deletes => drop(known.insert(register, revision)),
                Some(Answer::Refused) | None => {}
                // Somebody else was quicker, or it is gone.
                _ => drop(known.remove(&register)),
            }
            self.pause(&mut rng, good, 5..25).await;
            if !good {
                member += 1;
            }
        }
    }

    /// Makes one new object after the other, about `rate` a second, until told to stop.
    pub async fn once(self, client: u64, rate: f64) {
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Each has a member that it likes best, so that they spread; when that one fails, others serve for a while.
        let (home, mut away, mut number) = (client as usize, None, 0_u64);
        while !self.stop.is_cancelled() {
            ticks.tick().await;
            number += 1;
            let name = format!("{ONCE}{client}-{number}");
            let act = Act::Swap { expected: 0, value: format!("{client}-{number}") };
            let member = match away {
                Some((member, until)) if until > Instant::now() => member,
                _ => home,
            };
            let (_, good) = self.act(client, &self.api.server(member), &name, act).await;
            if !good {
                away = Some((member + 1, Instant::now() + AWAY));
            }
        }
    }

    async fn pause(&self, rng: &mut ChaCha8Rng, good: bool, ms: std::ops::Range<u64>) {
        let ms = if good { rng.random_range(ms) } else { 50 };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        }
    }
}
