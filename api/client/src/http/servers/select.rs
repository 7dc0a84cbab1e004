//! Which server a request goes to: a state machine without clock, I/O or randomness.
//!
//! - A client begins at a server that its name chooses, so that many clients spread over all servers, and stays there
//!   while that one is well: what it reads does not jump between members.
//! - A failure puts a server behind the others for a while. The client moves only when another one has answered: while
//!   nobody serves (an election), it stays where it is.
//! - Servers that belong to the cluster come before those that were only named at the start.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No connection: refused, reset, no route.
    Refused,
    /// The connection ended in the middle of something.
    Lost,
    /// Nothing came in time.
    Silent,
    /// It says that it cannot serve.
    NotReady,
    /// It has not seen a revision that others have.
    Behind,
    /// TLS failed: it shows a certificate of somebody else, or does not like ours.
    Untrusted,
}

impl Trouble {
    /// How long a server is asked last: the first time, and at most after it failed again and again.
    fn back_off(self) -> (Duration, Duration) {
        let (first_ms, longest_ms) = match self {
            // A restart takes less than a second, and asking costs nothing.
            Self::Refused | Self::Lost | Self::NotReady | Self::Behind => (500, 10_000),
            // Asking costs the time until one gives up.
            Self::Silent => (2_000, 30_000),
            // That does not mend itself.
            Self::Untrusted => (30_000, 300_000),
        };
        (Duration::from_millis(first_ms), Duration::from_millis(longest_ms))
    }
}

/// How good an address is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Belongs to the cluster, and was there when somebody looked.
    Live,
    /// Belongs to the cluster.
    Listed,
    /// Named when the client was made, and not by the cluster: another address of a member, or one that has left.
    Seed,
}

struct Server {
    url: Arc<str>,
    tier: Tier,
    /// The higher, the earlier among those of its tier.
    weight: u64,
    /// In a row.
    failures: u32,
    trouble: Option<Trouble>,
    until: Instant,
}

impl Server {
    fn available(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// Not even to be asked last.
    fn shunned(&self, now: Instant) -> bool {
        self.trouble == Some(Trouble::Untrusted) && !self.available(now)
    }
}

/// See the module.
pub struct Selector {
    name: String,
    seeds: Vec<Arc<str>>,
    /// In the order of preference; never empty.
    servers: Vec<Server>,
    current: Arc<str>,
    moved: Instant,
}

/// After so long elsewhere a client goes back to the server that its name chooses: a rolling restart would otherwise
/// leave all clients with the member that was restarted first.
pub const HOME_AFTER: Duration = Duration::from_secs(300);

/// Rendezvous hashing: when a server comes or goes, only its own clients move.
fn weight(name: &str, url: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, url).hash(&mut hasher);
    hasher.finish()
}

impl Selector {
    /// For the client of a name, with at least one of both lists: the servers that it was told of, and those that it had
    /// learnt the last time.
    pub fn new(name: &str, seeds: Vec<Arc<str>>, learnt: &[Arc<str>], now: Instant) -> Option<Self> {
        let anyone = learnt.iter().chain(&seeds).next()?.clone();
        let mut this = Self { name: name.to_owned(), seeds, servers: Vec::new(), current: anyone, moved: now };
        let learnt: Vec<_> = learnt.iter().map(|url| (Arc::clone(url), true)).collect();
        this.take(&learnt, now);
        this.current = Arc::clone(&this.servers.first()?.url);
        Some(this)
    }

    /// The one that requests go to.
    pub fn current(&self) -> &Arc<str> {
        &self.current
    }

    /// All, the best first.
    pub fn known(&self) -> impl Iterator<Item = (&Arc<str>, Tier)> {
        self.servers.iter().map(|server| (&server.url, server.tier))
    }

    /// Takes what the cluster says of its members: address, and whether it is live. Nothing changes if that is nobody.
    /// Says whether anything did.
    pub fn learn(&mut self, listed: &[(Arc<str>, bool)], now: Instant) -> bool {
        if listed.is_empty() {
            return false;
        }
        let before: Vec<_> = self.known().map(|(url, tier)| (Arc::clone(url), tier)).collect();
        self.take(listed, now);
        if self.find(&self.current).is_none()
            && let Some(next) = self.pick(&[], now)
        {
            self.settle(&next, now);
        }
        !self.known().eq(before.iter().map(|(url, tier)| (url, *tier)))
    }

    fn take(&mut self, listed: &[(Arc<str>, bool)], now: Instant) {
        let mut old = std::mem::take(&mut self.servers);
        let seeds = self.seeds.iter().map(|url| (url, Tier::Seed));
        let tier = |live| if live { Tier::Live } else { Tier::Listed };
        for (url, tier) in listed.iter().map(|(url, live)| (url, tier(*live))).chain(seeds) {
            if self.servers.iter().any(|server| server.url == *url) {
                continue;
            }
            self.servers.push(match old.iter().position(|server| server.url == *url) {
                Some(index) => Server { tier, ..old.swap_remove(index) },
                None => Server {
                    url: Arc::clone(url),
                    tier,
                    weight: weight(&self.name, url),
                    failures: 0,
                    trouble: None,
                    until: now,
                },
            });
        }
        self.servers.sort_by_key(|server| (server.tier, std::cmp::Reverse(server.weight)));
    }

    fn find(&self, url: &str) -> Option<&Server> {
        self.servers.iter().find(|server| &*server.url == url)
    }

    /// The one to ask next, of those that were not tried yet: the current one, then the best that is well, then the one
    /// whose time is up first. None if all were tried, or TLS with the rest has failed lately.
    pub fn pick(&self, tried: &[Arc<str>], now: Instant) -> Option<Arc<str>> {
        let left = || self.servers.iter().filter(|server| !tried.contains(&server.url) && !server.shunned(now));
        let well = || left().filter(|server| server.available(now));
        let found = well().find(|server| server.url == self.current).or_else(|| well().next());
        found.or_else(|| left().min_by_key(|server| server.until)).map(|server| Arc::clone(&server.url))
    }

    /// Those that are not asked because TLS failed, and for how long.
    pub fn shunned(&self, now: Instant) -> Vec<(Arc<str>, Duration)> {
        let all = self.servers.iter().filter(|server| server.shunned(now));
        all.map(|server| (Arc::clone(&server.url), server.until.saturating_duration_since(now))).collect()
    }

    /// A server answered as one that is well. If the current one is not, or is none of the cluster's, this one takes its
    /// place.
    pub fn answered(&mut self, url: &str, now: Instant) {
        let Some(server) = self.servers.iter_mut().find(|server| &*server.url == url) else { return };
        (server.failures, server.trouble, server.until) = (0, None, now);
        let tier = server.tier;
        let worse = self
            .find(&self.current)
            .is_none_or(|current| current.trouble.is_some() || (current.tier == Tier::Seed && tier != Tier::Seed));
        if worse {
            self.settle(url, now);
        }
    }

    /// A server failed. What fails together counts once.
    pub fn failed(&mut self, url: &str, trouble: Trouble, now: Instant) {
        let Some(server) = self.servers.iter_mut().find(|server| &*server.url == url) else { return };
        let known = server.trouble == Some(Trouble::Untrusted) || trouble != Trouble::Untrusted;
        if known && !server.available(now) {
            return;
        }
        let (first, longest) = trouble.back_off();
        let doubled = first.saturating_mul(1 << server.failures.min(16)).min(longest);
        (server.failures, server.trouble, server.until) = (server.failures + 1, Some(trouble), now + doubled);
    }

    /// A better server than the current one, that is to be tried: if it answers, [`Selector::settle`] there.
    pub fn better(&self, now: Instant) -> Option<Arc<str>> {
        let tried = [Arc::clone(&self.current)];
        let Some(current) = self.find(&self.current).filter(|current| current.trouble.is_none()) else {
            return self.pick(&tried, now);
        };
        let best = self.servers.iter().find(|server| server.available(now))?;
        let home = best.tier <= current.tier && now.saturating_duration_since(self.moved) >= HOME_AFTER;
        let outside = current.tier == Tier::Seed && best.tier != Tier::Seed;
        (best.url != self.current && (home || outside)).then(|| Arc::clone(&best.url))
    }

    /// Requests go to this one from now on.
    pub fn settle(&mut self, url: &str, now: Instant) {
        if *self.current != *url
            && let Some(server) = self.find(url)
        {
            (self.current, self.moved) = (Arc::clone(&server.url), now);
        }
    }

    /// Forgets that TLS failed: the client has other credentials.
    pub fn forgive(&mut self, now: Instant) {
        for server in self.servers.iter_mut().filter(|server| server.trouble == Some(Trouble::Untrusted)) {
            server.until = now;
        }
    }
}

#[cfg(test)]
mod tests;
