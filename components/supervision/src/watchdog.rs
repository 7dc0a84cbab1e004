//! Finds handlers that never yield. It runs on a thread of its own, so nothing that hangs can stop it; it reports and
//! counts, since no thread can be ended from outside.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::tree::Cell;

/// Longer than any handler may take, and short enough that a Lease (40 s) survives what follows.
const STALL_AFTER: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches a tree for as long as it exists.
pub(crate) fn start(root: Weak<Cell>) {
    let spawned = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut known: Vec<Arc<Cell>> = Vec::new();
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(root) = root.upgrade() else { return };
            known.retain(|cell| {
                let stalled = cell.busy().is_some_and(|busy| busy >= STALL_AFTER);
                if !stalled {
                    tracing::warn!(child = &*cell.name, "yields its thread again");
                }
                stalled
            });
            look(&root, &mut known);
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no watchdog: cannot make its thread");
    }
}

fn look(cell: &Arc<Cell>, known: &mut Vec<Arc<Cell>>) {
    if let Some(busy) = cell.busy().filter(|busy| *busy >= STALL_AFTER)
        && !known.iter().any(|k| Arc::ptr_eq(k, cell))
    {
        let stalls = cell.stalls.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(child = &*cell.name, busy_ms = busy.as_millis(), stalls, "holds its thread and does not yield");
        known.push(Arc::clone(cell));
    }
    let children: Vec<Arc<Cell>> = cell.children.lock().clone();
    for child in &children {
        look(child, known);
    }
}
