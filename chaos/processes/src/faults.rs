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
    /// The leader's disk is full.
    FullDisk,
    /// All members are stopped and started again, one after the other, the leader last.
    Roll,
    /// A follower dies for good, and a new member takes its place.
    Replace,
    /// The leader is killed while a follower's disk is slow and another one is paused for a moment.
    Several,
}

/// All kinds.
pub const KINDS: [Kind; 13] = [
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
];

/// Waits, while the load goes on.
fn last(rng: &mut ChaCha8Rng, ms: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}

/// Does it, lets it last, and heals it. Returns with all members serving.
///
/// # Panics
/// If a member does not come back.
pub fn inflict(cluster: &mut Cluster, kind: Kind, rng: &mut ChaCha8Rng) {
    let count = cluster.members.count();
    let leader = cluster.members.leader(rng.random_range(0..count), None);
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
        Kind::FullDisk => {
            cluster.fill(leader);
            last(rng, 1000..3000);
            cluster.make_room(leader);
            // A log that cannot be written ends the process.
            if !cluster.members.runs(leader) {
                cluster.members.run(leader);
            }
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
