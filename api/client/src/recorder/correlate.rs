//! Which events are new, which repeat an earlier one, and which are too many. Pure: the caller brings the time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::Recorded;

/// Keys remembered; the least recently used half goes when there are more.
const REMEMBERED_MAX: usize = 4096;
/// This many different messages within [`SIMILAR_WITHIN`] are combined.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// An object's budget.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// Events with the same key are one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    similar: Similar,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Similar {
    object: Subject,
    event_type: super::EventType,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field_path: String,
}

pub(super) enum Verdict {
    Drop,
    Send { key: Key, message: String },
}

struct Budget {
    tokens: f64,
    at: Instant,
}

#[derive(Default)]
pub(super) struct Correlator {
    sent: HashMap<Key, (String, i32, Instant)>,
    similar: HashMap<Similar, (BTreeSet<String>, Instant)>,
    budgets: HashMap<Subject, Budget>,
}

impl Correlator {
    pub fn judge(&mut self, recorded: &Recorded, now: Instant) -> Verdict {
        let text = |o: &Option<String>| o.clone().unwrap_or_default();
        let object = Subject {
            kind: text(&recorded.about.kind),
            namespace: text(&recorded.about.namespace),
            name: text(&recorded.about.name),
            uid: text(&recorded.about.uid),
            field_path: text(&recorded.about.field_path),
        };
        if !self.afford(&object, now) {
            return Verdict::Drop;
        }
        let similar = Similar { object, event_type: recorded.event_type, reason: recorded.reason.clone() };
        if self.is_one_of_many(&similar, &recorded.message, now) {
            let message = format!("(combined from similar events): {}", recorded.message);
            return Verdict::Send { key: Key { similar, message: "(combined)".to_owned() }, message };
        }
        let message = recorded.message.clone();
        Verdict::Send { key: Key { similar, message: message.clone() }, message }
    }

    fn afford(&mut self, object: &Subject, now: Instant) -> bool {
        forget_oldest(&mut self.budgets, |b| b.at);
        let budget = self.budgets.entry(object.clone()).or_insert(Budget { tokens: BURST, at: now });
        let passed = now.saturating_duration_since(budget.at).as_secs_f64();
        budget.tokens = (budget.tokens + passed * REFILL_PER_SECOND).min(BURST);
        budget.at = now;
        let affordable = budget.tokens >= 1.0;
        if affordable {
            budget.tokens -= 1.0;
        }
        affordable
    }

    fn is_one_of_many(&mut self, similar: &Similar, message: &str, now: Instant) -> bool {
        forget_oldest(&mut self.similar, |s| s.1);
        let (messages, last) = self.similar.entry(similar.clone()).or_insert_with(|| (BTreeSet::new(), now));
        if now.saturating_duration_since(*last) > SIMILAR_WITHIN {
            messages.clear();
        }
        *last = now;
        messages.insert(message.to_owned());
        if messages.len() < SIMILAR_MAX {
            return false;
        }
        // Enough to know that there are many.
        while messages.len() > SIMILAR_MAX {
            messages.pop_first();
        }
        true
    }

    /// The stored event of a key: its name and count.
    pub fn sent(&self, key: &Key) -> Option<(String, i32)> {
        self.sent.get(key).map(|(name, count, _)| (name.clone(), *count))
    }

    pub fn note(&mut self, key: Key, name: String, count: i32, now: Instant) {
        forget_oldest(&mut self.sent, |s| s.2);
        self.sent.insert(key, (name, count, now));
    }

    pub fn forget(&mut self, key: &Key) -> bool {
        self.sent.remove(key).is_some()
    }
}

fn forget_oldest<K: Eq + Hash, V>(map: &mut HashMap<K, V>, used: impl Fn(&V) -> Instant) {
    if map.len() < REMEMBERED_MAX {
        return;
    }
    let mut times: Vec<Instant> = map.values().map(&used).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    map.retain(|_, value| used(value) > median);
}
