//! What is done to a cluster: each kind of fault begins, lasts, and is healed. Chosen by a seed.

use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Cluster, USUAL_SYNC};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The leader is killed (kill -9) and started again.
    KillLeader,
    /// A follower is killed and started again.
    KillFollower,
    /// All members are killed at once and started again.
    KillAll,
    /// The leader is paused (SIGSTOP) and goes on.
    PauseLeader,
    /// A follower is paused and goes on.
    PauseFollower,
    /// The leader is cut off from everybody.
    Isolate,
    /// The leader does not hear a follower, who hears it.
    LeaderDeaf,
    /// A follower does not hear the leader, who hears it.
    FollowerDeaf,
    /// The leader's disk is slow.
    SlowDisk,
    /// All disks are slow.
    SlowDisks,
    /// The leader's disk is full.
    FullDisk,
    /// All disks are full.
    FullDisks,
    /// A bit of a member's state on its disk is flipped: it takes itself out and gets another one's state.
    Damage,
    /// The leader's power is cut: what it had not synced is gone. It is started again.
    PowerCut,
    /// The power of all members is cut at once.
    PowerCutAll,
    /// A member's wall clock jumps, and later back.
    ClockJump,
    /// All members are stopped and started again, one after the other, the leader last.
    Roll,
    /// A follower dies for good, and a new member takes its place.
    Replace,
    /// The leader is killed while a follower's disk is slow and another one is paused for a moment.
    Several,
}

/// All kinds.
pub const KINDS: [Kind; 19] = [
    Kind::KillLeader,
    Kind::PauseLeader,
    Kind::Isolate,
    Kind::KillFollower,
    Kind::LeaderDeaf,
    Kind::FollowerDeaf,
    Kind::SlowDisk,
    Kind::PauseFollower,
    Kind::Several,
    Kind::KillAll,
    Kind::Roll,
    Kind::FullDisk,
    Kind::Replace,
    Kind::SlowDisks,
    Kind::FullDisks,
    Kind::Damage,
    Kind::PowerCut,
    Kind::PowerCutAll,
    Kind::ClockJump,
];

/// What a member logs when it has found its state to be damaged.
const TAKES_OUT: &str = "this member takes itself out";
/// What it logs when it has got another one's.
const INSTALLED: &str = "installed a snapshot";
/// By how many seconds a wall clock is wrong: back by less than certificates are made to bear, on by less than they last.
const CLOCK_WRONG: std::ops::Range<i64> = -240..7 * 24 * 3600;

/// Waits, while the load goes on.
fn last(rng: &mut ChaCha8Rng, ms: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}

/// Who leads in the newest term that any member knows of: one that was paused may believe for a moment that it still does.
///
/// # Panics
/// If nobody leads in time.
pub fn leader(cluster: &Cluster) -> usize {
    let members = &cluster.members;
    navarch_tests::eventually("somebody leads", || {
        let told = (0..members.count()).filter_map(|member| members.status(member).ok());
        let newest = told.max_by_key(|status| status["term"].as_u64()).ok_or("no member answers")?;
        let id = newest["leader"].as_u64().ok_or_else(|| newest.to_string())?;
        (0..members.count()).find(|member| members.id(*member) == id).ok_or_else(|| newest.to_string())
    })
}

/// Starts every member that does not run, and waits until all answer: a log that could not be written ends a process.
fn bring_back(cluster: &mut Cluster) {
    let members = &mut cluster.members;
    for asked in 0..members.count() {
        navarch_tests::eventually("the member serves", || {
            // All of them, or the one that is asked has no quorum.
            for member in 0..members.count() {
                if !members.runs(member) {
                    members.launch(member);
                }
            }
            members.kubectl(asked, &["get", "--raw", "/readyz"]).map_err(|why| format!("{why}: {}", members.log(asked)))
        });
    }
}

/// Damages a member's state, until it takes itself out, and waits until it has another one.
fn damage(cluster: &mut Cluster, victim: usize, rng: &mut ChaCha8Rng) {
    let said = |cluster: &Cluster, what| cluster.members.times_said(victim, what);
    let (out, installed) = (said(cluster, TAKES_OUT), said(cluster, INSTALLED));
    // A table that was replaced before anybody read it again hurts nobody.
    let mut flipped = Vec::new();
    for turn in 0.. {
        if said(cluster, TAKES_OUT) > out {
            break;
        }
        if turn % 50 == 0 {
            flipped.extend(cluster.damage(victim, rng));
        }
        assert!(turn < 500, "nobody noticed that {flipped:?} were flipped: {}", cluster.members.log(victim));
        last(rng, 100..101);
    }
    navarch_tests::eventually("the member has another state", || {
        if said(cluster, INSTALLED) > installed { Ok(()) } else { Err(cluster.members.log(victim)) }
    });
    bring_back(cluster);
}

/// Does it, lets it last, and heals it. Returns with all members serving.
///
/// # Panics
/// If a member does not come back.
pub fn inflict(cluster: &mut Cluster, kind: Kind, rng: &mut ChaCha8Rng) {
    let count = cluster.members.count();
    let leader = leader(cluster);
    let follower = (leader + rng.random_range(1..count)) % count;
    let members = &mut cluster.members;
    match kind {
        Kind::KillLeader | Kind::KillFollower => {
            let victim = if kind == Kind::KillLeader { leader } else { follower };
            members.kill(victim);
            last(rng, 200..3000);
            members.run(victim);
        }
        Kind::KillAll => {
            (0..count).for_each(|member| members.kill(member));
            last(rng, 0..500);
            (0..count).for_each(|member| members.launch(member));
            (0..count).for_each(|member| members.until_serves(member));
        }
        Kind::PauseLeader | Kind::PauseFollower => {
            let victim = if kind == Kind::PauseLeader { leader } else { follower };
            members.signal(victim, "-STOP");
            last(rng, 100..4000);
            members.signal(victim, "-CONT");
        }
        Kind::Isolate => {
            members.connect(leader, false);
            last(rng, 500..4000);
            members.connect(leader, true);
        }
        Kind::LeaderDeaf | Kind::FollowerDeaf => {
            let (from, to) = if kind == Kind::LeaderDeaf { (follower, leader) } else { (leader, follower) };
            members.block(from, to, true);
            last(rng, 500..4000);
            members.block(from, to, false);
        }
        Kind::SlowDisk => {
            cluster.slow(leader, Duration::from_millis(rng.random_range(5..200)));
            last(rng, 1000..4000);
            cluster.slow(leader, USUAL_SYNC);
        }
        Kind::SlowDisks => {
            (0..count).for_each(|member| cluster.slow(member, Duration::from_millis(rng.random_range(5..150))));
            last(rng, 1000..4000);
            (0..count).for_each(|member| cluster.slow(member, USUAL_SYNC));
        }
        Kind::FullDisk | Kind::FullDisks => {
            let victims = if kind == Kind::FullDisk { leader..leader + 1 } else { 0..count };
            victims.clone().for_each(|member| cluster.fill(member));
            last(rng, 1000..3000);
            victims.for_each(|member| cluster.make_room(member));
            bring_back(cluster);
        }
        Kind::Damage => damage(cluster, rng.random_range(0..count), rng),
        Kind::PowerCut | Kind::PowerCutAll => {
            let victims = if kind == Kind::PowerCut { leader..leader + 1 } else { 0..count };
            victims.clone().for_each(|member| members.kill(member));
            victims.for_each(|member| members.cut_power(member));
            last(rng, 0..1000);
            bring_back(cluster);
        }
        Kind::ClockJump => {
            let victim = rng.random_range(0..count);
            cluster.set_clock(victim, rng.random_range(CLOCK_WRONG));
            last(rng, 500..4000);
            cluster.set_clock(victim, 0);
        }
        Kind::Roll => {
            for member in (0..count).filter(|member| *member != leader).chain([leader]) {
                members.stop(member);
                members.run(member);
            }
        }
        Kind::Replace => {
            members.kill(follower);
            last(rng, 0..500);
            members.replace(follower);
        }
        Kind::Several => {
            let third = (0..count).find(|other| *other != leader && *other != follower);
            cluster.slow(follower, Duration::from_millis(50));
            cluster.members.kill(leader);
            if let Some(third) = third {
                cluster.members.signal(third, "-STOP");
                last(rng, 50..1000);
                cluster.members.signal(third, "-CONT");
            }
            last(rng, 0..1000);
            cluster.members.run(leader);
            cluster.slow(follower, USUAL_SYNC);
        }
    }
}
