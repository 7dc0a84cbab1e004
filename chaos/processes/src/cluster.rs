//! Members whose disks can be slowed and filled, with what is needed to know how they are.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use navarch_tests::members::{Members, Options};
use navarch_tests::must;

/// The digits of a delay in its file.
const DIGITS: usize = 16;
/// More machines than any run has.
const MEMBERS_MAX: usize = 16;
/// A member's disk. Its quota alarm is at a share of it.
const DISK_MIB: u32 = 1024;
/// What a disk of this kind of machine needs for a sync: the members' own are in memory.
pub const USUAL_SYNC: Duration = Duration::from_micros(150);

/// Members with their disks.
pub struct Cluster {
    /// The members.
    pub members: Members,
    /// The shim, and a file for each member.
    folder: tempfile::TempDir,
}

fn delay(folder: &Path, member: usize) -> PathBuf {
    folder.join(format!("delay-{member}"))
}

/// Compiles what slows a disk down.
fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("slow.c"), folder.join("slow.so"));
    std::fs::write(&source, include_str!("slow.c")).unwrap();
    must(Command::new("cc").args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    library
}

impl Cluster {
    /// Starts so many members.
    ///
    /// # Panics
    /// If they do not get ready.
    pub fn start(name: &str, count: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("nv-slow").tempdir().unwrap();
        for member in 0..MEMBERS_MAX {
            std::fs::write(delay(folder.path(), member), [b' '; DIGITS]).unwrap();
        }
        let environment = vec![
            ("LD_PRELOAD".to_owned(), shim(folder.path()).display().to_string()),
            ("SLOW_DISK".to_owned(), folder.path().join("delay-{member}").display().to_string()),
        ];
        let settings = vec!["server.store.retention_minutes=1".to_owned()];
        let options = Options { settings, environment, disk_mib: Some(DISK_MIB) };
        let cluster = Self { members: Members::start_with(name, count, options), folder };
        for member in 0..count {
            cluster.slow(member, USUAL_SYNC);
        }
        cluster
    }

    /// How long a sync takes on a member's disk from now on.
    ///
    /// # Panics
    /// If that cannot be written.
    pub fn slow(&self, member: usize, sync: Duration) {
        let text = format!("{:<DIGITS$}", sync.as_micros());
        // In place: the member has it mapped.
        let mut file = File::options().write(true).open(delay(self.folder.path(), member)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn filler(&self, member: usize) -> PathBuf {
        self.members.data_dir(member).join("filler")
    }

    /// Fills a member's disk until not a byte more is taken.
    ///
    /// # Panics
    /// If the file cannot be opened.
    pub fn fill(&self, member: usize) {
        let mut file = File::options().create(true).append(true).open(self.filler(member)).unwrap();
        let mut piece = vec![0x5a; 1 << 20];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it cannot.
    pub fn make_room(&self, member: usize) {
        std::fs::remove_file(self.filler(member)).unwrap();
    }
}
