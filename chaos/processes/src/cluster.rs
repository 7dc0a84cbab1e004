//! Members whose disks can be slowed, filled and damaged, and whose clocks can be wrong.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use navarch_tests::members::{Members, Options};
use navarch_tests::must;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// The characters of a number in a member's file; see `faulty.c`.
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

fn numbers(folder: &Path, member: usize) -> PathBuf {
    folder.join(format!("machine-{member}"))
}

/// Compiles what slows disks down and moves clocks.
fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("faulty.c"), folder.join("faulty.so"));
    std::fs::write(&source, include_str!("faulty.c")).unwrap();
    must(Command::new("cc").args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    library
}

/// The files with this ending of the states that are in a folder of databases.
fn files(store: &Path, kind: &str) -> Vec<PathBuf> {
    let within = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let is_state = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"state"));
    let files = within(store).into_iter().filter(is_state).flat_map(|state| within(&state));
    files.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect()
}

impl Cluster {
    /// Starts so many members with these settings.
    ///
    /// # Panics
    /// If they do not get ready.
    pub fn start(name: &str, count: usize, settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("nv-faulty").tempdir().unwrap();
        for member in 0..MEMBERS_MAX {
            std::fs::write(numbers(folder.path(), member), [b' '; 2 * DIGITS]).unwrap();
        }
        let environment = vec![
            ("LD_PRELOAD".to_owned(), shim(folder.path()).display().to_string()),
            ("FAULTY_MACHINE".to_owned(), folder.path().join("machine-{member}").display().to_string()),
        ];
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let options = Options { settings, environment, disk_mib: Some(DISK_MIB) };
        let cluster = Self { members: Members::start_with(name, count, options), folder };
        for member in 0..count {
            cluster.slow(member, USUAL_SYNC);
        }
        cluster
    }

    fn write(&self, member: usize, which: usize, number: i64) {
        let text = format!("{number:<DIGITS$}");
        // In place: the member has it mapped.
        let file = File::options().write(true).open(numbers(self.folder.path(), member)).unwrap();
        file.write_all_at(text.as_bytes(), (which * DIGITS) as u64).unwrap();
    }

    /// How long a sync takes on a member's disk from now on.
    pub fn slow(&self, member: usize, sync: Duration) {
        self.write(member, 0, i64::try_from(sync.as_micros()).unwrap());
    }

    /// How many seconds a member's wall clock is ahead from now on.
    pub fn set_clock(&self, member: usize, ahead: i64) {
        self.write(member, 1, ahead);
    }

    /// Flips a bit of a member's state on the disk, in the largest file of its tables, or of the values that lie apart from
    /// them; a member that has none yet has nothing to be damaged. Returns what was flipped.
    pub fn damage(&self, member: usize, rng: &mut ChaCha8Rng) -> Option<String> {
        let kind = if rng.random_bool(0.5) { "sst" } else { "blob" };
        let tables = files(&self.members.data_dir(member).join("store"), kind);
        // It may be gone before it is opened: then the next attempt takes another one.
        let path = tables.into_iter().max_by_key(|path| path.metadata().map_or(0, |meta| meta.len()))?;
        let file = File::options().read(true).write(true).open(&path).ok()?;
        // The first half of a table is data.
        let at = rng.random_range(0..file.metadata().ok()?.len().max(2) / 2);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).ok()?;
        byte[0] ^= 1 << rng.random_range(0..8);
        file.write_all_at(&byte, at).ok()?;
        Some(format!("byte {at} of {}", path.display()))
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
