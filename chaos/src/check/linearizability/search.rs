//! The search for an order: calls and answers in a doubly linked list, taken out when placed and put back when given up.

use std::collections::HashSet;

use super::register::{State, Step, apply};

/// What the search came to.
pub(super) enum Verdict {
    /// There is an order.
    Explained { tried: u64 },
    /// There is none. The furthest that was got: so many placed, and the answer before which one more had to be.
    Impossible { placed: usize, stuck: usize, state: State },
    /// Not known.
    Undecided { tried: u64 },
}

/// A call (`2 * step`) or an answer (`2 * step + 1`), as a link of the list.
type Link = usize;
const END: Link = usize::MAX;

/// The list. Its head is one past the last link.
struct List {
    next: Vec<Link>,
    previous: Vec<Link>,
    head: Link,
}

impl List {
    fn new(steps: &[Step<'_>]) -> Self {
        let mut links: Vec<Link> = (0..steps.len()).map(|step| 2 * step).collect();
        links
            .extend((0..steps.len()).filter(|step| steps[*step].operation.answered.is_some()).map(|step| 2 * step + 1));
        // What is called at the very moment of an answer may still come before it.
        let time = |link: Link| match (&steps[link / 2].operation, link % 2) {
            (operation, 0) => operation.called,
            (operation, _) => operation.answered.as_ref().map_or(u64::MAX, |answered| answered.at),
        };
        links.sort_by_key(|link| (time(*link), link % 2, *link));
        let head = 2 * steps.len();
        let mut list = Self { next: vec![END; head + 1], previous: vec![END; head + 1], head };
        let mut before = head;
        for link in links {
            list.next[before] = link;
            list.previous[link] = before;
            before = link;
        }
        list
    }

    fn first(&self) -> Link {
        self.next[self.head]
    }

    fn take(&mut self, link: Link) {
        let (before, after) = (self.previous[link], self.next[link]);
        self.next[before] = after;
        if after != END {
            self.previous[after] = before;
        }
    }

    fn put_back(&mut self, link: Link) {
        let (before, after) = (self.previous[link], self.next[link]);
        self.next[before] = link;
        if after != END {
            self.previous[after] = link;
        }
    }
}

/// Which steps are placed.
struct Placed {
    words: Vec<u64>,
    count: usize,
}

impl Placed {
    fn set(&mut self, step: usize, placed: bool) {
        let bit = 1u64 << (step % 64);
        if placed {
            self.words[step / 64] |= bit;
            self.count += 1;
        } else {
            self.words[step / 64] &= !bit;
            self.count -= 1;
        }
    }

    /// Short where the beginning is all placed and the end is not, as it mostly is.
    fn key(&self) -> Box<[u64]> {
        let full = self.words.iter().take_while(|word| **word == u64::MAX).count();
        let end = self.words.iter().rposition(|word| *word != 0).map_or(full, |last| last + 1);
        std::iter::once(full as u64).chain(self.words[full..end.max(full)].iter().copied()).collect()
    }
}

/// Looks for an order of the steps; gives up after so many placements.
pub(super) fn search(steps: &[Step<'_>], steps_max: u64) -> Verdict {
    let answered = |step: usize| steps[step].operation.answered.is_some();
    let mut left = (0..steps.len()).filter(|step| answered(*step)).count();
    let mut list = List::new(steps);
    let mut placed = Placed { words: vec![0; steps.len().div_ceil(64)], count: 0 };
    let mut seen: HashSet<(Box<[u64]>, State)> = HashSet::new();
    let mut stack: Vec<(usize, State)> = Vec::new();
    let (mut state, mut tried) = (State::default(), 0);
    let mut best = (0, 0, state);
    let mut link = list.first();
    while left > 0 {
        let step = link / 2;
        // An answer is still in the list, so its end is never reached before one.
        if link % 2 == 0 {
            tried += 1;
            if tried > steps_max {
                return Verdict::Undecided { tried };
            }
            let after = apply(state, &steps[step]);
            placed.set(step, true);
            if let Some(after) = after.filter(|after| seen.insert((placed.key(), *after))) {
                stack.push((step, state));
                state = after;
                left -= usize::from(answered(step));
                take_step(&mut list, step, answered(step));
                link = list.first();
            } else {
                placed.set(step, false);
                link = list.next[link];
            }
            continue;
        }
        if placed.count >= best.0 {
            best = (placed.count, step, state);
        }
        let Some((given_up, before)) = stack.pop() else {
            return Verdict::Impossible { placed: best.0, stuck: best.1, state: best.2 };
        };
        state = before;
        placed.set(given_up, false);
        left += usize::from(answered(given_up));
        put_step_back(&mut list, given_up, answered(given_up));
        link = list.next[2 * given_up];
    }
    Verdict::Explained { tried }
}

fn take_step(list: &mut List, step: usize, answered: bool) {
    list.take(2 * step);
    if answered {
        list.take(2 * step + 1);
    }
}

fn put_step_back(list: &mut List, step: usize, answered: bool) {
    if answered {
        list.put_back(2 * step + 1);
    }
    list.put_back(2 * step);
}
