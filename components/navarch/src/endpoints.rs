//! What the process shows of itself beside the Kubernetes API: the supervision tree, and faults to order.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use navarch_supervision::{Tree, TreeSnapshot, fault};
use percent_encoding::percent_decode_str;

/// The environment variable that allows faults to be ordered. Meant for tests of a running cluster.
const FAULTS_VARIABLE: &str = "NAVARCH_FAULTS";

/// The tree once it runs.
#[derive(Clone, Default)]
pub struct TreeView(Arc<ArcSwapOption<Tree>>);

impl TreeView {
    /// From now on shows this tree.
    pub fn show(&self, tree: &Tree) {
        self.0.store(Some(Arc::new(tree.clone())));
    }

    /// The tree as JSON; `null` while it starts.
    pub fn json(&self) -> String {
        let snapshot = self.0.load().as_ref().map(|tree| tree.snapshot());
        serde_json::to_string(&snapshot).unwrap_or_else(|_| "null".to_owned())
    }

    /// The tree's figures as metrics.
    pub fn metrics(&self) -> String {
        let Some(snapshot) = self.0.load().as_ref().map(|tree| tree.snapshot()) else { return String::new() };
        metrics_of(&snapshot)
    }
}

fn metrics_of(snapshot: &TreeSnapshot) -> String {
    let mut restarts = String::from(
        "# HELP navarch_supervision_restarts How often a supervised child was started again.\n\
         # TYPE navarch_supervision_restarts counter\n",
    );
    let mut up = String::from(
        "# HELP navarch_supervision_up Whether a supervised child runs.\n# TYPE navarch_supervision_up gauge\n",
    );
    snapshot.visit(&mut |path, node| {
        let running = u8::from(node.state == navarch_supervision::NodeState::Running);
        // Writing to a String does not fail.
        let _ = writeln!(restarts, "navarch_supervision_restarts_total{{path=\"{path}\"}} {}", node.restarts);
        let _ = writeln!(up, "navarch_supervision_up{{path=\"{path}\"}} {running}");
    });
    restarts + &up
}

/// Allows faults if the environment asks for them.
pub fn allow_faults() {
    if std::env::var_os(FAULTS_VARIABLE).is_some_and(|value| value == "1") {
        tracing::warn!("faults can be ordered: {FAULTS_VARIABLE} is set");
        fault::enable();
    }
}

/// Orders panics: `controllers/deployment=1,scheduler/cycle=2`, as [`fault::arm_all`] reads it. Refused unless faults are
/// allowed. Without an order: every point that was passed, how often, and what is still armed.
pub fn order_fault(query: &str) -> (u16, String) {
    match query.strip_prefix("arm=") {
        None => {
            let lines = fault::list().into_iter().map(|(name, hits, armed)| format!("{name} {hits} {armed}\n"));
            (200, lines.collect())
        }
        Some(order) => match fault::arm_all(&percent_decode_str(order).decode_utf8_lossy()) {
            Ok(()) => (200, format!("armed {order}\n")),
            Err(error) => {
                (403, format!("{error}; faults are ordered only of a process started with {FAULTS_VARIABLE}=1\n"))
            }
        },
    }
}
