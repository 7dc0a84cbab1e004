//! What a member does for its store beside serving: expiry, compaction, snapshots, checks. What changes the state is
//! proposed while leading only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use navarch_config::StoreSettings;
use navarch_raft_contract::RoomLevel;
use navarch_store::upkeep::{self, Retention, RetentionRules};
use navarch_store::{Store, StoreError, key};
use navarch_supervision::{ChildSpec, Strategy, SupervisorSpec, TaskContext};
use navarch_types::GroupResource;
use tokio::time::Instant;

/// Between two looks for keys to expire.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at what history may be forgotten.
const COMPACT_EVERY: Duration = Duration::from_secs(10);
/// The same on a disk that is nearly full.
const COMPACT_EVERY_TIGHT: Duration = Duration::from_secs(2);
/// One proposal of the upkeep.
const UPKEEP_DEADLINE: Duration = Duration::from_secs(10);

/// Resources whose history is kept for the shorter time: they change all the time, and nobody goes on from far back.
const SHORT_LIVED: [(&str, &str); 3] = [("coordination.k8s.io", "leases"), ("", "events"), ("events.k8s.io", "events")];

/// The subtree; `children` run beside.
pub fn spec(store: &Store, settings: &StoreSettings, children: impl IntoIterator<Item = ChildSpec>) -> ChildSpec {
    let spec = SupervisorSpec::new("store-maintenance", Strategy::OneForOne);
    ChildSpec::supervisor(spec.child(expiry(store)).child(compactor(store, settings)).children(children))
}

fn expiry(store: &Store) -> ChildSpec {
    let store = store.clone();
    ChildSpec::task("expiry", move |context: TaskContext| {
        let store = store.clone();
        async move {
            while sleep_unless_stopped(&context, EXPIRE_EVERY).await {
                // A full batch means that there is more.
                while upkeep::expire(&store, now_ms(), Instant::now() + UPKEEP_DEADLINE).await? > 0 {}
            }
            Ok::<(), StoreError>(())
        }
    })
}

fn compactor(store: &Store, settings: &StoreSettings) -> ChildSpec {
    let (store, rules) = (store.clone(), rules(settings));
    ChildSpec::task("compactor", move |context: TaskContext| {
        let (store, rules) = (store.clone(), rules.clone());
        async move {
            let mut retention = Retention::new(rules);
            let mut tight = false;
            while sleep_unless_stopped(&context, if tight { COMPACT_EVERY_TIGHT } else { COMPACT_EVERY }).await {
                tight = store.room() != RoomLevel::Ample;
                let floors = retention.observe(now_ms(), store.revision(), store.written_bytes(), tight);
                upkeep::compact(&store, floors, Instant::now() + UPKEEP_DEADLINE).await?;
            }
            Ok::<(), StoreError>(())
        }
    })
}

fn rules(settings: &StoreSettings) -> RetentionRules {
    let short_ms = settings.short_retention_minutes * 60_000;
    let prefix = |(group, resource): (&'static str, &'static str)| {
        let prefix = key::resource_prefix(&GroupResource { group: group.into(), resource: resource.into() });
        (Bytes::from(prefix), short_ms)
    };
    RetentionRules {
        all_ms: settings.retention_minutes * 60_000,
        prefixes: SHORT_LIVED.map(prefix).into(),
        bytes_max: settings.history_mib << 20,
    }
}

async fn sleep_unless_stopped(context: &TaskContext, time: Duration) -> bool {
    tokio::select! {
        () = context.stopped() => false,
        () = tokio::time::sleep(time) => true,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
