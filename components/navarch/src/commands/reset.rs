//! `navarch reset`.

use std::io::{IsTerminal, Write};

use navarch_config::Settings;

use super::{CommandError, down};
use crate::cli::ResetArgs;

/// As `down`, and deletes the data folder, after asking.
pub fn run(settings: &Settings, args: &ResetArgs) -> Result<(), CommandError> {
    let folder = &settings.data_dir;
    // What is deleted must be a data folder of ours, whatever the setting says.
    let ours = ["cluster-id", "navarch.pid", "join.json"].iter().any(|file| folder.join(file).exists());
    if !ours {
        say!("{} holds no navarch data: nothing to do", folder.display());
        return Ok(());
    }
    if !args.yes && !confirmed(folder)? {
        return Err("not confirmed; nothing was done".into());
    }
    down::run(settings)?;
    std::fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    say!("deleted {}", folder.display());
    Ok(())
}

fn confirmed(folder: &std::path::Path) -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err("reset deletes all data of the cluster: confirm with --yes".into());
    }
    say_part!("Delete all data of the cluster in {}? [y/N] ", folder.display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
