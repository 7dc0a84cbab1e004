//! The search for an order: calls and answers in a doubly linked list, taken out when placed and put back when given up.
//!
//! Operations without an answer are not in the list: they are tried last, and of two ways to the same place the one that
//! used fewer of them can do all that the other can. So only places that were not reached with fewer are gone on from.

use std::collections::HashMap;

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
    /// Of the operations that were answered.
    fn new(steps: &[Step<'_>]) -> Self {
        let answered = (0..steps.len()).filter(|step| steps[*step].operation.answered.is_some());
        let mut links: Vec<Link> = answered.flat_map(|step| [2 * step, 2 * step + 1]).collect();
        // What is called at the very moment of an answer may still come before it.
        links.sort_by_key(|link| (time(steps, *link), link % 2, *link));
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

    /// The first answer: what was called later cannot be placed before it.
    fn first_answer(&self) -> Link {
        let mut link = self.first();
        while link != END && link.is_multiple_of(2) {
            link = self.next[link];
        }
        link
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

/// When it was called, or answered.
fn time(steps: &[Step<'_>], link: Link) -> u64 {
    let operation = steps[link / 2].operation;
    match &operation.answered {
        Some(answered) if !link.is_multiple_of(2) => answered.at,
        _ => operation.called,
    }
}

/// A set of steps.
#[derive(Clone)]
struct Set(Vec<u64>);

impl Set {
    fn change(&mut self, step: usize, placed: bool) {
        let bit = 1u64 << (step % 64);
        if placed {
            self.0[step / 64] |= bit;
        } else {
            self.0[step / 64] &= !bit;
        }
    }

    fn has(&self, step: usize) -> bool {
        self.0[step / 64] & (1 << (step % 64)) != 0
    }

    /// Short where the beginning is all placed and the end is not, as it mostly is.
    fn key(&self) -> Box<[u64]> {
        let full = self.0.iter().take_while(|word| **word == u64::MAX).count();
        let end = self.0.iter().rposition(|word| *word != 0).map_or(full, |last| last + 1);
        std::iter::once(full as u64).chain(self.0[full..end.max(full)].iter().copied()).collect()
    }

    fn is_subset(&self, of: &Self) -> bool {
        self.0.iter().zip(&of.0).all(|(own, other)| own & !other == 0)
    }
}

/// Where the search goes on.
#[derive(Clone, Copy)]
enum At {
    /// At a link of the list.
    Link(Link),
    /// At one of the operations without an answer.
    Open(usize),
}

struct Search<'s, 'a> {
    steps: &'s [Step<'a>],
    /// Operations without an answer, in order of their calls.
    open: Vec<usize>,
    /// For each of them the one before it that can stand for it.
    twins: Vec<Option<usize>>,
    list: List,
    answered: Set,
    used: Set,
    /// By which answered operations are placed and what the key is then: which open ones were used on the ways there.
    seen: HashMap<(Box<[u64]>, State), Vec<Set>>,
    stack: Vec<(At, usize, State)>,
    state: State,
    /// Answered operations that are not placed.
    left: usize,
    /// The answered writes by the revisions that they took: so they must be placed.
    writes: Vec<(u64, usize)>,
    /// How many of them are placed.
    written: usize,
    /// The answered reads by the revisions that they found.
    reads: Vec<(u64, usize)>,
    /// All reads before this one are placed.
    first_read: usize,
}

/// Looks for an order of the steps; gives up after so many placements.
pub(super) fn search(steps: &[Step<'_>], steps_max: u64) -> Verdict {
    let mut open: Vec<usize> = (0..steps.len()).filter(|step| steps[*step].operation.answered.is_none()).collect();
    open.sort_by_key(|step| steps[*step].operation.called);
    let twin = |at: usize| open[..at].iter().copied().rfind(|before| steps[*before].is_twin(&steps[open[at]]));
    let twins = (0..open.len()).map(twin).collect();
    let empty = Set(vec![0; steps.len().div_ceil(64)]);
    let left = steps.len() - open.len();
    let answered_write = |step: usize| steps[step].answered_revision().map(|revision| (revision, step));
    let mut writes: Vec<(u64, usize)> = (0..steps.len()).filter_map(answered_write).collect();
    writes.sort_unstable();
    let answered_read = |step: usize| steps[step].found_revision().map(|revision| (revision, step));
    let mut reads: Vec<(u64, usize)> = (0..steps.len()).filter_map(answered_read).collect();
    reads.sort_unstable();
    let (list, state) = (List::new(steps), State::default());
    let (answered, used) = (empty.clone(), empty);
    let (seen, stack, written, first_read) = (HashMap::new(), Vec::new(), 0, 0);
    let mut search = Search {
        steps,
        open,
        twins,
        list,
        answered,
        used,
        seen,
        stack,
        state,
        left,
        writes,
        written,
        reads,
        first_read,
    };
    let (mut tried, mut best) = (0, (0, 0, state));
    let mut at = At::Link(search.list.first());
    while search.left > 0 {
        let Some(step) = search.candidate(at) else {
            if search.stack.len() >= best.0 {
                best = (search.stack.len(), search.list.first_answer() / 2, search.state);
            }
            match search.give_up() {
                Some(next) => at = next,
                None => return Verdict::Impossible { placed: best.0, stuck: best.1, state: best.2 },
            }
            continue;
        };
        tried += 1;
        if tried > steps_max {
            return Verdict::Undecided { tried };
        }
        at = if search.place(at, step) { At::Link(search.list.first()) } else { search.after(at) };
    }
    Verdict::Explained { tried }
}

impl Search<'_, '_> {
    /// The step there, if it can come next; skips what is placed. `None` at the end.
    fn candidate(&self, at: At) -> Option<usize> {
        match at {
            At::Link(link) => link.is_multiple_of(2).then_some(link / 2),
            At::Open(position) => {
                let step = *self.open.get(position)?;
                let bound = time(self.steps, self.list.first_answer());
                (self.steps[step].operation.called <= bound).then_some(step)
            }
        }
    }

    /// The next place to look at. After the calls before the first answer come those without an answer.
    fn after(&self, at: At) -> At {
        let mut position = match at {
            At::Link(link) if self.list.next[link].is_multiple_of(2) => return At::Link(self.list.next[link]),
            At::Link(_) => 0,
            At::Open(position) => position + 1,
        };
        while self.open.get(position).is_some_and(|step| self.used.has(*step) || self.has_earlier_twin(position)) {
            position += 1;
        }
        At::Open(position)
    }

    fn has_earlier_twin(&self, position: usize) -> bool {
        self.twins[position].is_some_and(|twin| !self.used.has(twin))
    }

    /// Places a step, if it can take effect and leads to where the search has not been.
    fn place(&mut self, at: At, step: usize) -> bool {
        let Some(state) = apply(self.state, &self.steps[step]) else { return false };
        let written = self.written + usize::from(self.is_write(step));
        // A write whose revision is passed could never be placed any more, nor could a read that found it.
        if self.writes.get(written).is_some_and(|(next, _)| *next <= state.least()) {
            return false;
        }
        while self.reads.get(self.first_read).is_some_and(|(_, read)| self.answered.has(*read)) {
            self.first_read += 1;
        }
        if self.reads.get(self.first_read).is_some_and(|(next, read)| *next < state.least() && *read != step) {
            return false;
        }
        self.mark(at, step, true);
        let ways = self.seen.entry((self.answered.key(), state)).or_default();
        if ways.iter().any(|way| way.is_subset(&self.used)) {
            self.mark(at, step, false);
            return false;
        }
        ways.retain(|way| !self.used.is_subset(way));
        ways.push(self.used.clone());
        self.stack.push((at, step, self.state));
        self.state = state;
        self.written = written;
        if let At::Link(_) = at {
            self.left -= 1;
            self.list.take(2 * step);
            self.list.take(2 * step + 1);
        }
        true
    }

    fn is_write(&self, step: usize) -> bool {
        self.steps[step].answered_revision().is_some()
    }

    fn mark(&mut self, at: At, step: usize, placed: bool) {
        match at {
            At::Link(_) => self.answered.change(step, placed),
            At::Open(_) => self.used.change(step, placed),
        }
    }

    /// Takes the last placement back, and says where to go on instead.
    fn give_up(&mut self) -> Option<At> {
        let (at, step, before) = self.stack.pop()?;
        self.state = before;
        self.mark(at, step, false);
        self.written -= usize::from(self.is_write(step));
        if let Some(found) = self.steps[step].found_revision() {
            self.first_read = self.first_read.min(self.reads.partition_point(|(revision, _)| *revision < found));
        }
        if let At::Link(_) = at {
            self.left += 1;
            self.list.put_back(2 * step + 1);
            self.list.put_back(2 * step);
        }
        Some(self.after(at))
    }
}
