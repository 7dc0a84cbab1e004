//! Cases for the choice of a server: steps and the order that follows, and random events.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn urls(names: &str) -> Vec<Arc<str>> {
    names.split_whitespace().map(Arc::from).collect()
}

fn listed(names: &str) -> Vec<(Arc<str>, bool)> {
    urls(names).into_iter().map(|url| (url.trim_end_matches('?').into(), !url.ends_with('?'))).collect()
}

/// A selector whose first choice is `a`, then `b`, then `c`, whatever the hash says.
fn selector(seeds: &str, learnt: &str, now: Instant) -> Selector {
    let mut this = Selector::new("me", urls(seeds), &urls(learnt), now).unwrap();
    for server in &mut this.servers {
        server.weight = u64::MAX - u64::from(server.url.as_bytes()[0]);
    }
    this.servers.sort_by_key(|server| (server.tier, std::cmp::Reverse(server.weight)));
    this.current = Arc::clone(&this.servers[0].url);
    this
}

fn order(this: &Selector, now: Instant) -> String {
    let mut tried = Vec::new();
    while let Some(next) = this.pick(&tried, now) {
        tried.push(next);
    }
    tried.concat()
}

/// Steps: `+a` answered, `-a!` failed (`r`efused, `s`ilent, `n`ot ready, `u`ntrusted), `=a b?` learnt, `500` so many
/// milliseconds pass, `^` a better one is tried and answers. After them: the current one, then the order in which all
/// would be asked.
#[test]
fn the_order_of_servers() {
    let cases: &[(&str, &str, &[&str], &str, &str)] = &[
        ("a b c", "", &[], "a", "abc"),
        // A failure alone moves nobody, but others are asked first.
        ("a b c", "", &["-ar"], "a", "bca"),
        ("a b c", "", &["-ar", "500"], "a", "abc"),
        // It moves when another has answered, and then stays there.
        ("a b c", "", &["-ar", "+b"], "b", "bca"),
        ("a b c", "", &["-ar", "+b", "60000"], "b", "bac"),
        ("a b c", "", &["-ar", "+b", "60000", "+a"], "b", "bac"),
        // Nobody serves: all are asked all the same, the first to be well again first.
        ("a b c", "", &["-an", "-bs", "100", "-cn"], "a", "acb"),
        ("a b c", "", &["-an", "-bn", "-cn", "500", "+a"], "a", "abc"),
        // What fails at once counts once; again and again counts more.
        ("a b", "", &["-ar", "-ar", "-ar", "500"], "a", "ab"),
        ("a b", "", &["-ar", "500", "-ar", "500"], "a", "ba"),
        ("a b", "", &["-ar", "500", "-ar", "1000"], "a", "ab"),
        ("a b", "", &["-ar", "500", "-ar", "1000", "+a", "-ar", "500"], "a", "ab"),
        // Who is not trusted is not asked at all for a while.
        ("a b", "", &["-au"], "a", "b"),
        ("a", "", &["-au"], "a", ""),
        ("a", "", &["-ar", "-au"], "a", ""),
        ("a", "", &["-au", "30000"], "a", "a"),
        ("a", "", &["-au", "30000", "-au", "30000"], "a", ""),
        ("a", "", &["-au", "!"], "a", "a"),
        // What was learnt comes before what was told; what the cluster has not, is left.
        ("z", "b c", &[], "b", "bcz"),
        ("a b", "", &["=b c"], "a", "abc"),
        ("a b", "", &["=b c", "+b"], "b", "bca"),
        ("a b", "", &["=b c", "^"], "b", "bca"),
        ("z", "a b c", &["=b c"], "b", "bcz"),
        ("z", "a b c", &["=b c", "=a b c"], "b", "bacz"),
        ("z", "a b c", &["-bs", "=b c"], "c", "czb"),
        ("z", "a b c", &["=", "-ar"], "a", "bcza"),
        // One that is not live is asked after those that are, and its clients stay until it fails.
        ("z", "a b", &["=a? b"], "a", "abz"),
        ("z", "a b", &["=a? b", "-ar"], "a", "bza"),
        // Home after a while, if home answers.
        ("a b c", "", &["-ar", "+b", "299000", "^"], "b", "bac"),
        ("a b c", "", &["-ar", "+b", "301000", "^"], "a", "abc"),
        ("a b c", "", &["-ar", "+b", "301000", "-ar", "^"], "b", "bca"),
        ("a b c", "", &["-ar", "^"], "b", "bca"),
        ("a b c", "", &["^"], "a", "abc"),
    ];
    for (seeds, learnt, steps, current, expected) in cases {
        let mut now = Instant::now();
        let mut this = selector(seeds, learnt, now);
        for step in *steps {
            let name = step.get(1..2).unwrap_or_default();
            match (&step[..1], step.as_bytes().last()) {
                ("+", _) => this.answered(name, now),
                ("-", Some(b'r')) => this.failed(name, Trouble::Refused, now),
                ("-", Some(b's')) => this.failed(name, Trouble::Silent, now),
                ("-", Some(b'n')) => this.failed(name, Trouble::NotReady, now),
                ("-", Some(b'u')) => this.failed(name, Trouble::Untrusted, now),
                ("!", _) => this.forgive(now),
                ("=", _) => {
                    this.learn(&listed(&step[1..]), now);
                    for server in &mut this.servers {
                        server.weight = u64::MAX - u64::from(server.url.as_bytes()[0]);
                    }
                    this.servers.sort_by_key(|server| (server.tier, std::cmp::Reverse(server.weight)));
                }
                ("^", _) => {
                    if let Some(better) = this.better(now) {
                        this.answered(&better, now);
                        this.settle(&better, now);
                    }
                }
                _ => now += Duration::from_millis(step.parse().unwrap()),
            }
        }
        let told = (&**this.current(), order(&this, now));
        assert_eq!(told, (*current, (*expected).to_owned()), "{seeds:?} {learnt:?} {steps:?}");
    }
}

#[test]
fn learning_says_whether_anything_is_new() {
    let now = Instant::now();
    let mut this = selector("a", "", now);
    assert!(!this.learn(&[], now));
    assert!(this.learn(&listed("a b"), now));
    assert!(!this.learn(&listed("b a"), now));
    assert!(this.learn(&listed("b? a"), now));
    assert!(Selector::new("me", Vec::new(), &[], now).is_none());
}

#[test]
fn clients_spread_and_only_those_of_a_lost_server_move() {
    let now = Instant::now();
    let home = |client: usize, servers: &str| {
        let this = Selector::new(&format!("node-{client}"), urls(servers), &[], now).unwrap();
        this.current().to_string()
    };
    let mut each: BTreeMap<String, usize> = BTreeMap::new();
    for client in 0..300 {
        let with_all = home(client, "https://10.0.0.1:6443 https://10.0.0.2:6443 https://10.0.0.3:6443");
        let without = home(client, "https://10.0.0.1:6443 https://10.0.0.2:6443");
        assert!(with_all == without || with_all.contains("10.0.0.3"), "client {client}");
        *each.entry(with_all).or_default() += 1;
    }
    assert_eq!(each.len(), 3);
    assert!(each.values().all(|clients| (60..=140).contains(clients)), "{each:?}");
}

#[derive(Clone, Debug)]
enum Act {
    Answered(usize),
    Failed(usize, Trouble),
    Learn(Vec<usize>),
    Wait(u64),
    Look(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let troubles = [Trouble::Refused, Trouble::Lost, Trouble::Silent, Trouble::NotReady, Trouble::Untrusted];
    prop_oneof![
        (0..4_usize).prop_map(Act::Answered),
        (0..4_usize, proptest::sample::select(troubles.to_vec())).prop_map(|(server, how)| Act::Failed(server, how)),
        proptest::collection::vec(0..4_usize, 0..4).prop_map(Act::Learn),
        (0..400_000_u64).prop_map(Act::Wait),
        any::<bool>().prop_map(Act::Look),
    ]
}

proptest! {
    /// Whatever happens: everybody who may be asked is asked once, a current server that is well is asked first, and
    /// nobody moves for a failure alone.
    #[test]
    fn somebody_is_always_asked(acts in proptest::collection::vec(act(), 1..60)) {
        let all = urls("a b c d");
        let mut now = Instant::now();
        let mut this = Selector::new("me", all[..2].to_vec(), &[], now).unwrap();
        for act in acts {
            let before = Arc::clone(this.current());
            match &act {
                Act::Answered(server) => this.answered(&all[*server], now),
                Act::Failed(server, how) => this.failed(&all[*server], *how, now),
                Act::Learn(servers) => {
                    let listed: Vec<_> = servers.iter().map(|server| (Arc::clone(&all[*server]), true)).collect();
                    this.learn(&listed, now);
                }
                Act::Wait(ms) => now += Duration::from_millis(*ms),
                Act::Look(answers) => {
                    let better = this.better(now);
                    prop_assert_ne!(better.as_ref(), Some(&before));
                    if let Some(better) = better.filter(|_| *answers) {
                        this.answered(&better, now);
                        this.settle(&better, now);
                    }
                }
            }
            if matches!(act, Act::Failed(..) | Act::Wait(_) | Act::Look(false)) {
                prop_assert_eq!(&before, this.current(), "moved by {:?}", act);
            }
            let order = order(&this, now);
            let shunned = this.shunned(now).len();
            prop_assert_eq!(order.len() + shunned, this.known().count(), "each once: {}", order);
            if let Some(current) = this.find(this.current()).filter(|current| current.available(now)) {
                prop_assert!(order.starts_with(&*current.url), "{} is not first of {}", current.url, order);
            }
        }
    }
}
