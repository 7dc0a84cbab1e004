//! `navarch reset`.

use std::io::{IsTerminal, Write};

use navarch_config::Settings;

use super::{CommandError, down, status};
use crate::cli::{MemberCommand, ResetArgs};
use crate::identity::FIRST;
use crate::join::state::Joined;
use crate::{daemon, roster, siblings};

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
    leave(settings, args.force)?;
    down::stop(settings, true)?;
    down::run(settings)?;
    std::fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    say!("deleted {}", folder.display());
    Ok(())
}

/// A member that others count on tells them that it goes. Without that its vote would be missing from then on, and maybe
/// the quorum.
fn leave(settings: &Settings, force: bool) -> Result<(), CommandError> {
    let member = match Joined::load(&settings.data_dir)? {
        Some(Joined::Server(server)) => server.member_id,
        Some(Joined::Node(_)) => return Ok(()),
        // The first of a cluster. Members beside it on this machine are deleted with it.
        None if siblings::all(settings)?.is_empty() => FIRST,
        None => return Ok(()),
    };
    let others = roster::noted_addresses(&settings.data_dir).into_keys().any(|other| other != member);
    if siblings::is_removed(&settings.data_dir) || !others {
        return Ok(());
    }
    let later = format!("on another one, `navarch member remove {member}` takes it out of the cluster");
    if !matches!(daemon::running(&settings.data_dir), Ok(Some(_))) {
        say!("this machine is member {member}; {later}");
        return Ok(());
    }
    match status::member(settings, &MemberCommand::Remove { id: member }) {
        Err(error) if !force => Err(format!(
            "member {member} cannot leave the cluster, and nothing was deleted: {error}; `--force` deletes it nevertheless, \
             then {later}"
        )
        .into()),
        Err(error) => {
            say!("member {member} has not left the cluster ({error}); {later}");
            Ok(())
        }
        Ok(()) => Ok(()),
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
