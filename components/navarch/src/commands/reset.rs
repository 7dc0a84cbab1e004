//! `navarch reset`.

use std::io::{IsTerminal, Write};

use navarch_config::Settings;

use super::{CommandError, down, status};
use crate::cli::{MemberCommand, ResetArgs};
use crate::join::state::Joined;
use crate::{daemon, siblings};

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
    leave(settings);
    down::stop(settings, true)?;
    down::run(settings)?;
    std::fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    say!("deleted {}", folder.display());
    Ok(())
}

/// A member that others count on tells them that it goes. They may all be gone too, so this may fail.
fn leave(settings: &Settings) {
    let member = match Joined::load(&settings.data_dir) {
        Ok(Some(Joined::Server(server))) => server.member_id,
        _ => return,
    };
    if siblings::is_removed(&settings.data_dir) || !matches!(daemon::running(&settings.data_dir), Ok(Some(_))) {
        say!(
            "this machine is member {member}; on another one, `navarch member remove {member}` takes it out of the cluster"
        );
        return;
    }
    if let Err(error) = status::member(settings, &MemberCommand::Remove { id: member }) {
        say!(
            "cannot take member {member} out of the cluster ({error}); on another machine, `navarch member remove {member}` does"
        );
    }
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
