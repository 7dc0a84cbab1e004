//! Whether every watcher saw every event of its keys exactly once, in order, whatever it was connected to: across
//! reconnects to other members, where it goes on after the last revision that it has seen, and across compaction, where
//! it is told 410 and must list anew.

use super::{
    Fault, Judge,
    history::{Change, Item, Seen, WatchLog},
    retention::Floors,
    truth::{Truth, difference},
};

const JUDGE: Judge = Judge("watch");

/// What watchers are held to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expect<'a> {
    /// At the end every watcher has been delivered all up to here.
    pub complete_to: Option<u64>,
    /// The highest revisions up to which history was ever given up; 410 for a watch that begins there or later is wrong.
    /// `None`: not known, and not checked.
    pub floors: Option<&'a Floors>,
}

/// Checks all watchers.
///
/// # Errors
/// [`Fault::Broken`]: a gap, a duplicate, an event out of order, one that never happened or is not as it happened, a list
/// that is not the state of its revision, a revision that goes back, a watcher that goes on after 410 without a list.
pub fn check(truth: &Truth, logs: &[WatchLog], expect: Expect<'_>) -> Result<(), Fault> {
    logs.iter().try_for_each(|log| check_one(truth, log, expect))
}

/// Where a watcher is.
struct Place<'a> {
    truth: &'a Truth,
    log: &'a WatchLog,
    /// Everything up to here was delivered; `None` before anything was, and after 410.
    delivered: Option<u64>,
    /// No list may be older than this.
    newest: u64,
}

fn check_one(truth: &Truth, log: &WatchLog, expect: Expect<'_>) -> Result<(), Fault> {
    let mut place = Place { truth, log, delivered: None, newest: 0 };
    for (at, seen) in log.seen.iter().enumerate() {
        place.take(seen, expect).map_err(|fault| match fault {
            Fault::Broken { checker, what } => {
                Fault::Broken { checker, what: format!("watcher {:?}, {at}: {what}", log.watcher) }
            }
            other => other,
        })?;
    }
    match expect.complete_to {
        Some(revision) => place.nothing_missed(revision, "it ends"),
        None => Ok(()),
    }
}

impl Place<'_> {
    fn take(&mut self, seen: &Seen, expect: Expect<'_>) -> Result<(), Fault> {
        match seen {
            Seen::Listed { revision, items } => self.listed(*revision, items),
            Seen::Opened { after, .. } => match self.delivered {
                Some(_) => self.nothing_missed(*after, "it goes on"),
                // Without a list: from a revision that it has from elsewhere.
                None if self.newest == 0 => {
                    self.reach(*after);
                    Ok(())
                }
                None => Err(JUDGE.broken("it goes on after 410 without a new list")),
            },
            Seen::Event(event) => self.event(event),
            Seen::Bookmark { revision } => {
                self.nothing_missed(*revision, "a bookmark stands")?;
                JUDGE.demand(*revision >= self.newest, || format!("a bookmark goes back to {revision}"))?;
                self.reach(*revision);
                Ok(())
            }
            Seen::Expired { after } => {
                let floor = expect.floors.map(|floors| floors.of(&self.log.prefix));
                JUDGE.demand(floor.is_none_or(|floor| *after < floor), || {
                    format!("410 after {after}, and history was never given up beyond {floor:?}")
                })?;
                self.delivered = None;
                self.newest = self.newest.max(1);
                Ok(())
            }
        }
    }

    fn reach(&mut self, revision: u64) {
        self.newest = self.newest.max(revision);
        self.delivered = Some(self.newest);
    }

    fn listed(&mut self, revision: u64, items: &[Item]) -> Result<(), Fault> {
        JUDGE.demand(revision >= self.newest, || format!("a list of {revision}, and {} was seen", self.newest))?;
        let Some(expected) = self.truth.at(&self.log.prefix, revision) else {
            return Err(JUDGE.unusable(format!("a list of {revision}, and all is known from {} on", self.truth.base())));
        };
        if let Some(difference) = difference(items, &expected) {
            return Err(JUDGE.broken(format!("the list of {revision}: {difference}")));
        }
        self.reach(revision);
        Ok(())
    }

    fn event(&mut self, event: &Change) -> Result<(), Fault> {
        let Some(delivered) = self.delivered else {
            return Err(JUDGE.broken(format!("{event:?} came without a list before it")));
        };
        JUDGE.demand(event.revision > delivered, || {
            format!("{event:?} came when all up to {delivered} was delivered: twice, or out of order")
        })?;
        let happened = self.truth.change(event.revision);
        let Some(happened) = happened.filter(|happened| happened.key == event.key) else {
            return Err(JUDGE.broken(format!("{event:?} never happened")));
        };
        JUDGE.demand(event.key.starts_with(&self.log.prefix), || format!("{event:?} is none of its keys"))?;
        let same = event.kind == happened.kind
            && event.value == happened.value
            && (event.previous.is_none() || event.previous == happened.previous);
        JUDGE.demand(same, || format!("{event:?} came, {happened:?} happened"))?;
        self.nothing_missed(event.revision - 1, "the next event came")?;
        self.reach(event.revision);
        Ok(())
    }

    /// Nothing of its keys happened after what was delivered, up to `revision`.
    fn nothing_missed(&self, revision: u64, when: &str) -> Result<(), Fault> {
        let Some(delivered) = self.delivered else {
            return Err(JUDGE.broken(format!("{when} at {revision} without a list before it")));
        };
        match self.truth.between(&self.log.prefix, delivered, revision).next() {
            None => Ok(()),
            Some(missed) => Err(JUDGE
                .broken(format!("{when} at {revision}, all up to {delivered} was delivered: {missed:?} was missed"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::check::{
        history::Kind,
        truth::tests::{change, item, story},
    };

    fn log(prefix: &str, seen: Vec<Seen>) -> [WatchLog; 1] {
        [WatchLog { watcher: "w".into(), prefix: prefix.into(), seen }]
    }

    fn listed(revision: u64, items: Vec<Item>) -> Seen {
        Seen::Listed { revision, items }
    }

    fn event(revision: u64) -> Seen {
        Seen::Event(story().change(revision).unwrap().clone())
    }

    fn opened(after: u64) -> Seen {
        Seen::Opened { after, member: "m".into() }
    }

    fn verdict(prefix: &str, seen: Vec<Seen>) -> Result<(), String> {
        let floors = Floors { all: 5, ..Floors::default() };
        let expect = Expect { complete_to: None, floors: Some(&floors) };
        check(&story(), &log(prefix, seen), expect).map_err(|fault| fault.to_string())
    }

    #[test]
    fn complete_logs_are_accepted() {
        let all = vec![listed(1, vec![]), event(2), event(3), event(5), event(6), event(8), event(9)];
        verdict("", all.clone()).unwrap();
        check(&story(), &log("", all), Expect { complete_to: Some(9), floors: Some(&Floors::default()) }).unwrap();
        let hops = vec![
            opened(1),
            event(2),
            opened(2),
            event(5),
            event(6),
            opened(6),
            Seen::Bookmark { revision: 7 },
            event(8),
        ];
        verdict("a", hops).unwrap();
        let again = vec![
            listed(2, vec![item("a", "a2", 2)]),
            Seen::Expired { after: 2 },
            listed(5, vec![item("a", "a5", 5)]),
            opened(5),
            event(6),
        ];
        verdict("a", again).unwrap();
        let mut untold = change(5, "a", Kind::Modified, "a5", 2);
        untold.previous = None;
        verdict("a", vec![opened(2), Seen::Event(untold)]).unwrap();
    }

    #[test]
    fn broken_logs_are_refused() {
        let changed = |revision, edit: fn(&mut Change)| {
            let mut event = story().change(revision).unwrap().clone();
            edit(&mut event);
            Seen::Event(event)
        };
        let cases = vec![
            ("a gap", vec![opened(1), event(2), event(5)], "was missed"),
            ("a gap at a reconnect", vec![opened(1), event(2), opened(3), event(5)], "was missed"),
            ("a gap hidden by a bookmark", vec![opened(1), event(2), Seen::Bookmark { revision: 4 }], "was missed"),
            ("a duplicate", vec![opened(1), event(2), event(2)], "twice"),
            ("a duplicate after a reconnect", vec![opened(1), event(2), event(3), opened(3), event(3)], "twice"),
            ("out of order", vec![opened(1), event(3), event(2)], "was missed"),
            ("back in order", vec![opened(2), event(3), event(5), event(3)], "out of order"),
            ("a bookmark that goes back", vec![opened(1), event(2), Seen::Bookmark { revision: 1 }], "goes back"),
            ("a list that goes back", vec![opened(1), event(2), event(3), listed(2, vec![])], "and 3 was seen"),
            ("another kind", vec![opened(1), changed(2, |e| e.kind = Kind::Modified)], "happened"),
            ("another value", vec![opened(1), changed(2, |e| e.value = "z".into())], "happened"),
            ("another key", vec![opened(1), changed(2, |e| e.key = "z".into())], "never happened"),
            ("another predecessor", vec![opened(3), changed(5, |e| e.previous = Some(3))], "happened"),
            ("a revision of nothing", vec![opened(6), changed(8, |e| e.revision = 7)], "never happened"),
            ("a wrong list", vec![listed(5, vec![item("a", "a2", 2), item("b/1", "b3", 3)])], "instead of"),
            ("a short list", vec![listed(5, vec![item("a", "a5", 5)])], "is missing"),
            ("410 without reason", vec![opened(6), Seen::Expired { after: 6 }], "never given up"),
            ("on after 410", vec![opened(2), Seen::Expired { after: 2 }, event(3)], "without a list"),
            ("reopened after 410", vec![opened(2), Seen::Expired { after: 2 }, opened(2)], "without a new list"),
            ("no list", vec![event(2)], "without a list"),
        ];
        for (what, seen, words) in cases {
            let error = verdict("", seen).expect_err(what);
            assert!(error.contains(words), "{what}: {error}");
        }
        let foreign = verdict("b", vec![opened(1), event(2)]).unwrap_err();
        assert!(foreign.contains("none of its keys"), "{foreign}");
    }

    #[test]
    fn a_watcher_that_stops_too_early_is_refused() {
        let seen = vec![opened(1), event(2), event(3)];
        let expect = Expect { complete_to: Some(9), floors: None };
        let error = check(&story(), &log("", seen), expect).unwrap_err().to_string();
        assert!(error.contains("it ends at 9"), "{error}");
        let silent = check(&story(), &log("", vec![]), expect).unwrap_err().to_string();
        assert!(silent.contains("without a list"), "{silent}");
    }

    #[test]
    fn a_list_from_before_all_is_known_cannot_be_judged() {
        let truth = Truth::new(5, &[item("a", "x", 3)], &[]).unwrap();
        let error = check(&truth, &log("", vec![listed(4, vec![])]), Expect::default()).unwrap_err();
        assert!(matches!(error, Fault::Unusable { .. }), "{error}");
    }
}
