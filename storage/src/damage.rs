//! A state that is not to be trusted any more: how that is noticed while reading, and how the next start is told.
//!
//! A file beside the databases says that the state is condemned, why, and who the members were, because the state that
//! knew them is the one that is thrown away. A member with others discards its state at the next start and gets another
//! one from them; the only member does not start, since its state is all there is.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use navarch_raft_contract::ConfState;
use parking_lot::Mutex;

const CONDEMNED: &str = "CONDEMNED";
const MEMBERS: &str = "MEMBERS";

/// The first thing that was found wrong with a state. Shared by all who read it.
#[derive(Debug, Default)]
pub struct Damage(Mutex<Option<String>>);

impl Damage {
    /// Notes what was found, unless something was found before.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let mut first = self.0.lock();
        if first.is_none() {
            let what = what();
            tracing::error!(what, "the state on the disk is damaged");
            *first = Some(what);
        }
    }

    /// What was found.
    pub fn found(&self) -> Option<String> {
        self.0.lock().clone()
    }

    /// The state was replaced.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}

/// Why a state is thrown away, and who the members were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condemned {
    /// What was found, for people.
    pub reason: String,
    /// The members, as far as is known.
    pub members: ConfState,
}

impl Condemned {
    /// Whether there is anybody to get another state from.
    pub fn has_others(&self, member: u64) -> bool {
        let ConfState { voters, learners, voters_outgoing, .. } = &self.members;
        voters.iter().chain(learners).chain(voters_outgoing).any(|other| *other != member)
    }

    fn text(&self) -> String {
        let list = |name: &str, ids: &[u64]| {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            format!("{name} {}\n", ids.join(" "))
        };
        let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = &self.members;
        [
            format!("{}\n", self.reason.replace('\n', " ")),
            list("voters", voters),
            list("learners", learners),
            list("outgoing", voters_outgoing),
            list("next", learners_next),
            list("auto-leave", &[u64::from(*auto_leave)]),
        ]
        .concat()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut this = Self { reason: lines.next()?.to_owned(), members: ConfState::default() };
        for line in lines {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let ids = words.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
            match name {
                "voters" => this.members.voters = ids,
                "learners" => this.members.learners = ids,
                "outgoing" => this.members.voters_outgoing = ids,
                "next" => this.members.learners_next = ids,
                "auto-leave" => this.members.auto_leave = ids.first() == Some(&1),
                _ => return None,
            }
        }
        Some(this)
    }
}

/// Writes a file as a whole: after a crash it is the old one or the new one.
///
/// # Errors
/// What the file system says.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Removes a file if it is there, for good.
pub(crate) fn remove_file(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(folder.join(name)) {
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(folder: &Path, name: &str) -> io::Result<Option<Condemned>> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Condemned::parse(&text).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: cannot be read", folder.join(name).display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Condemns the state in a data folder: the next start discards it.
///
/// # Errors
/// What the file system says.
pub fn condemn(folder: &Path, condemned: &Condemned) -> io::Result<()> {
    write_whole(folder, CONDEMNED, condemned.text().as_bytes())
}

/// Whether the state in a data folder is condemned.
///
/// # Errors
/// If that cannot be told.
pub fn condemned(folder: &Path) -> io::Result<Option<Condemned>> {
    read(folder, CONDEMNED)
}

/// Another state is in its place.
pub(crate) fn pardon(folder: &Path) -> io::Result<()> {
    remove_file(folder, CONDEMNED)
}

/// The state is that of another cluster: nothing holds that was noted.
pub(crate) fn forget(folder: &Path) -> io::Result<()> {
    pardon(folder)?;
    remove_file(folder, MEMBERS)
}

/// Notes who the members are, for the case that the state cannot even be opened one day.
///
/// # Errors
/// What the file system says.
pub fn note_members(folder: &Path, members: &ConfState) -> io::Result<()> {
    let note = Condemned { reason: "the members, as of the last time they were seen".into(), members: members.clone() };
    write_whole(folder, MEMBERS, note.text().as_bytes())
}

/// Who the members were when that was noted last.
///
/// # Errors
/// If that cannot be told.
pub fn noted_members(folder: &Path) -> io::Result<Option<ConfState>> {
    Ok(read(folder, MEMBERS)?.map(|note| note.members))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_condemned_is_read_back_and_pardoned() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(condemned(temp.path()).unwrap(), None);
        let members = ConfState {
            voters: vec![1, 22],
            learners: vec![3],
            voters_outgoing: vec![4],
            learners_next: vec![],
            auto_leave: true,
        };
        let verdict = Condemned { reason: "two\nlines".into(), members: members.clone() };
        condemn(temp.path(), &verdict).unwrap();
        let found = condemned(temp.path()).unwrap().unwrap();
        assert_eq!((found.reason.as_str(), &found.members), ("two lines", &members));
        assert!(found.has_others(1));
        let alone = ConfState { voters: vec![1], ..ConfState::default() };
        assert!(!Condemned { reason: String::new(), members: alone }.has_others(1));
        pardon(temp.path()).unwrap();
        pardon(temp.path()).unwrap();
        assert_eq!(condemned(temp.path()).unwrap(), None);
        note_members(temp.path(), &members).unwrap();
        assert_eq!(noted_members(temp.path()).unwrap(), Some(members));
        fs::write(temp.path().join(CONDEMNED), "x\nodd 1\n").unwrap();
        assert!(condemned(temp.path()).is_err());
    }

    #[test]
    fn the_first_finding_counts() {
        let damage = Damage::default();
        damage.note(|| "one".into());
        damage.note(|| "two".into());
        assert_eq!(damage.found().as_deref(), Some("one"));
        damage.forget();
        assert_eq!(damage.found(), None);
    }
}
