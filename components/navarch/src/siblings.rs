//! Further members of a control plane on one machine: processes of their own, each with a data folder below the first
//! member's and ports after its. `up --members` makes them; `up`, `down` and `reset` find them again.

use std::path::{Path, PathBuf};

use navarch_config::Settings;

use crate::cli::Options;
use crate::commands::CommandError;

/// Ports from one member to the next: its API's, and its peers'.
const PORTS_EACH: u16 = 2;
/// Tells that a member was taken out of its cluster: its data is good for nothing any more.
const REMOVED: &str = "removed";

/// A member beside the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Two for the second.
    pub number: u16,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// The port of its API; its peers' is the next.
    pub port: u16,
}

impl Sibling {
    fn new(settings: &Settings, number: u16) -> Option<Self> {
        let data_dir = folder(&settings.data_dir).join(number.to_string());
        let port = settings.server.port.checked_add(number.checked_sub(1)?.checked_mul(PORTS_EACH)?)?;
        port.checked_add(1)?;
        Some(Self { number, data_dir, port })
    }

    /// The options of its process: those of the first, but for folder and ports.
    pub fn options(&self, first: &Options) -> Options {
        let mut options = first.clone();
        options.data_dir = Some(self.data_dir.clone());
        options.set.push(format!("server.port={}", self.port));
        options.set.push(format!("server.peer_port={}", self.port + 1));
        options
    }

    /// Whether it was taken out of its cluster.
    pub fn removed(&self) -> bool {
        is_removed(&self.data_dir)
    }
}

fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("members")
}

/// Whether the member with this data folder was taken out of its cluster.
pub fn is_removed(data_dir: &Path) -> bool {
    data_dir.join(REMOVED).exists()
}

/// Marks a member's data folder so that no process starts on it again.
///
/// # Errors
/// If that cannot be written.
pub fn mark_removed(data_dir: &Path) -> std::io::Result<()> {
    let why = b"This member was removed from its cluster. `navarch reset` deletes its data.\n";
    navarch_storage::damage::write_whole(data_dir, REMOVED, why)
}

/// The members that are there, removed ones too, by number.
///
/// # Errors
/// If the folder cannot be read, or the ports after `server.port` do not suffice.
pub fn all(settings: &Settings) -> Result<Vec<Sibling>, CommandError> {
    let folder = folder(&settings.data_dir);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", folder.display()).into()),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| format!("{}: {error}", folder.display()))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u16>().ok()).filter(|number| *number > 1));
    }
    numbers.sort_unstable();
    numbers.into_iter().map(|number| Sibling::new(settings, number).ok_or_else(|| no_ports(settings))).collect()
}

/// So many more members, with numbers that are not in use.
///
/// # Errors
/// If the ports after `server.port` do not suffice.
pub fn more(settings: &Settings, present: &[Sibling], count: usize) -> Result<Vec<Sibling>, CommandError> {
    let free = (2..=u16::MAX).filter(|number| present.iter().all(|sibling| sibling.number != *number));
    free.take(count).map(|number| Sibling::new(settings, number).ok_or_else(|| no_ports(settings))).collect()
}

fn no_ports(settings: &Settings) -> CommandError {
    format!("server.port: {}: leaves no ports for more members", settings.server.port).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn members_are_found_again_and_new_ones_get_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
        assert_eq!(all(&settings).unwrap(), []);
        for name in ["3", "2", "1", "x", "70000"] {
            std::fs::create_dir_all(folder.path().join("members").join(name)).unwrap();
        }
        let present = all(&settings).unwrap();
        assert_eq!(present.iter().map(|s| (s.number, s.port)).collect::<Vec<_>>(), [(2, 6445), (3, 6447)]);
        let new = more(&settings, &present[1..], 2).unwrap();
        assert_eq!(new.iter().map(|s| s.number).collect::<Vec<_>>(), [2, 4]);
        assert!(!present[0].removed());
        mark_removed(&present[0].data_dir).unwrap();
        assert!(present[0].removed());
        settings.server.port = u16::MAX - 2;
        assert!(all(&settings).unwrap_err().to_string().contains("no ports"));
    }

    #[test]
    fn a_member_s_process_has_its_own_folder_and_ports() {
        let settings = Settings::default();
        let first = Options {
            config: None,
            data_dir: Some(settings.data_dir.clone()),
            log_level: None,
            set: vec!["server.port=7000".to_owned()],
        };
        let sibling = more(
            &Settings { server: navarch_config::ServerSettings { port: 7000, ..settings.server.clone() }, ..settings },
            &[],
            1,
        )
        .unwrap()
        .remove(0);
        let of_it = sibling.options(&first).settings().unwrap();
        assert_eq!((of_it.server.port, of_it.server.peer_port()), (7002, 7003));
        assert!(of_it.data_dir.ends_with("members/2"));
    }
}
