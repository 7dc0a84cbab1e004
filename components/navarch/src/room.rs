//! Keeps room on the disk: what the state takes decides how much must stay free, and what is dead in it is freed when the
//! disk is nearly full.

use std::sync::Arc;
use std::time::{Duration, Instant};

use navarch_raft_contract::{Room as _, RoomLevel};
use navarch_storage::{Space, StateDb};
use navarch_supervision::{ChildSpec, TaskContext};

use crate::snapshots::Snapshots;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same while merging frees next to nothing: something else fills the disk.
const LOOK_EVERY_AT_MOST: Duration = Duration::from_secs(60);
/// What makes it worth its while, bytes.
const WORTH_BYTES: u64 = 1 << 20;

/// What runs on every member.
pub fn spec(state: Arc<StateDb>, space: Arc<Space>, snapshots: Arc<Snapshots>) -> ChildSpec {
    ChildSpec::task("room", move |context: TaskContext| {
        let (state, space, snapshots) = (Arc::clone(&state), Arc::clone(&space), Arc::clone(&snapshots));
        async move {
            let mut wait = LOOK_EVERY;
            loop {
                tokio::select! {
                    () = context.stopped() => return Ok::<(), tokio::task::JoinError>(()),
                    () = tokio::time::sleep(wait) => {}
                }
                let (state, space, snapshots) = (Arc::clone(&state), Arc::clone(&space), Arc::clone(&snapshots));
                let looked = tokio::task::spawn_blocking(move || look(&state, &space, &snapshots)).await?;
                match looked {
                    Looked::Well => wait = LOOK_EVERY,
                    Looked::Idle => {}
                    Looked::InVain => wait = (2 * wait).min(LOOK_EVERY_AT_MOST),
                }
            }
        }
    })
}

enum Looked {
    /// There is room, or will be.
    Well,
    /// There is nothing to be done.
    Idle,
    /// What was done freed next to nothing.
    InVain,
}

fn look(state: &StateDb, space: &Space, snapshots: &Snapshots) -> Looked {
    let before = space.measure();
    if space.level() == RoomLevel::Ample {
        return Looked::Well;
    }
    match snapshots.give_way() {
        Ok(false) => {}
        // That may be enough.
        Ok(true) => return Looked::Well,
        Err(error) => tracing::warn!(%error, "an old snapshot cannot be deleted"),
    }
    // What merging writes before it frees anything must not take the last bytes.
    let free = space.free_and_total_bytes().map_or(u64::MAX, |(free, _)| free);
    if !state.can_reclaim() || free < state.reclaim_needs_bytes() {
        return Looked::Idle;
    }
    let started = Instant::now();
    state.reclaim();
    let after = space.measure();
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(?before, ?after, ms, "merged the state because the disk is nearly full");
    if before.1.saturating_sub(after.1) >= WORTH_BYTES { Looked::Well } else { Looked::InVain }
}
