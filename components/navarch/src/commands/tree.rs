//! `navarch tree`.

use std::fmt::Write as _;

use navarch_config::Settings;
use navarch_supervision::{NodeState, TreeSnapshot};

use super::{CommandError, ask};
use crate::cli::TreeArgs;
use crate::endpoints::TREE_PATH;

/// Asks the running process for its tree, as the administrator.
pub fn run(settings: &Settings, args: &TreeArgs) -> Result<(), CommandError> {
    let text = ask::get(settings, ask::own_server(settings), TREE_PATH, ask::GET_TIMEOUT)?;
    if args.json {
        say!("{text}");
        return Ok(());
    }
    match serde_json::from_str::<Option<TreeSnapshot>>(&text)? {
        Some(snapshot) => say_part!("{}", render(&snapshot)),
        None => say!("the tree is starting"),
    }
    Ok(())
}

/// Whether the running process answers. It has made its keys: none are made here.
pub(super) fn answers(settings: &Settings) -> bool {
    ask::get(settings, ask::own_server(settings), TREE_PATH, ask::GET_TIMEOUT).is_ok()
}

fn render(snapshot: &TreeSnapshot) -> String {
    let mut out = format!("{:<52} {:<11} {:>8}  {}\n", "NAME", "STATE", "RESTARTS", "LAST FAILURE");
    render_below(snapshot, "", "", &mut out);
    out
}

fn render_below(node: &TreeSnapshot, branch: &str, indent: &str, out: &mut String) {
    let name = match &node.strategy {
        Some(strategy) => format!("{branch}{} ({strategy})", node.name),
        None => format!("{branch}{}", node.name),
    };
    let state = match node.state {
        NodeState::Running => "running".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let failure = node.last_failure.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
    // Writing to a String does not fail.
    let _ = writeln!(out, "{name:<52} {state:<11} {:>8}  {failure}", node.restarts);
    for (number, child) in node.children.iter().enumerate() {
        let last = number + 1 == node.children.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        render_below(child, &format!("{indent}{branch}"), &format!("{indent}{below}"), out);
    }
}
