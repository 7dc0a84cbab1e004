//! The room that is left in a data folder, and a reserve that is kept for getting out of trouble.
//!
//! The reserve is a file of allocated, unused bytes. While there is room it exists; when the disk is nearly full it is given
//! back, so that deletes, compaction and the next start still find some. It is made again when there is room.

use std::{
    fs::{self, File},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use navarch_raft_contract::{Room, RoomLevel};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Free bytes below which things are refused. Each is more than the log and the state can grow between two checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceConfig {
    /// Below it nothing new is created.
    pub low_bytes: u64,
    /// Below it only deletes go through.
    pub critical_bytes: u64,
    /// Kept for that time.
    pub reserve_bytes: u64,
}

impl Default for SpaceConfig {
    fn default() -> Self {
        Self { low_bytes: 512 << 20, critical_bytes: 128 << 20, reserve_bytes: 64 << 20 }
    }
}

impl SpaceConfig {
    /// On a small disk the bounds and the reserve are a share of it: they must leave room to work in, which is at least
    /// `working_bytes`.
    fn for_disk(self, total_bytes: u64, working_bytes: u64) -> Self {
        Self {
            low_bytes: self.low_bytes.min(total_bytes / 20).max(working_bytes),
            critical_bytes: self.critical_bytes.min(total_bytes / 50).max(working_bytes / 2),
            reserve_bytes: self.reserve_bytes.min(total_bytes / 10),
        }
    }
}

/// The state writes what lives of it again in so many parts, or more.
const STATE_PARTS: u64 = 8;

/// Watches one folder.
pub struct Space {
    folder: PathBuf,
    config: SpaceConfig,
    /// What the state needs to get rid of what is dead in it: it first writes again what lives, a part at a time.
    working_bytes: AtomicU64,
    state: Mutex<State>,
}

struct State {
    level: RoomLevel,
    reserved: bool,
}

/// The level for so many free bytes. Going back up takes half as much again, so that it does not flutter.
fn level_for(free: u64, before: RoomLevel, config: &SpaceConfig) -> RoomLevel {
    let bound = |bytes: u64, level| if before >= level { bytes + bytes / 2 } else { bytes };
    if free < bound(config.critical_bytes, RoomLevel::Critical) {
        RoomLevel::Critical
    } else if free < bound(config.low_bytes, RoomLevel::Low) {
        RoomLevel::Low
    } else {
        RoomLevel::Ample
    }
}

/// Free bytes for new things: the reserve that was given back is for getting out of trouble.
fn room(free: u64, state: &State, config: &SpaceConfig) -> u64 {
    let given_back = state.level != RoomLevel::Ample && !state.reserved;
    if given_back { free.saturating_sub(config.reserve_bytes) } else { free }
}

impl Space {
    /// Begins to watch; if there is no room, the reserve of the time before is given back at once.
    pub fn watch(folder: &Path, config: SpaceConfig) -> Self {
        let reserved = folder.join("reserve").exists();
        let state = Mutex::new(State { level: RoomLevel::Ample, reserved });
        let space = Self { folder: folder.to_owned(), config, working_bytes: AtomicU64::new(0), state };
        space.measure();
        space.level();
        space
    }

    /// Looks how much the databases take; how much the state does decides how much must stay free. Bytes of the log's files, and
    /// of the state's.
    pub fn measure(&self) -> (u64, u64) {
        let (mut log, mut state) = (0, 0);
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let of = match entry.file_name().to_str() {
                Some("log") => &mut log,
                Some(name) if name.starts_with("state") => &mut state,
                _ => continue,
            };
            let files = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            // One that is gone meanwhile takes nothing.
            *of += files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum::<u64>();
        }
        self.working_bytes.store(state / STATE_PARTS, Ordering::Relaxed);
        (log, state)
    }

    /// Whether there is ample room even after so many bytes are written.
    pub fn leaves_room(&self, bytes: u64) -> bool {
        let state = self.state.lock();
        let Some((free, total)) = self.free_and_total_bytes() else { return true };
        let config = self.config.for_disk(total, self.working_bytes.load(Ordering::Relaxed));
        // As much as it takes to be out of trouble again, so that it does not begin by this.
        level_for(room(free.saturating_sub(bytes), &state, &config), RoomLevel::Critical, &config) == RoomLevel::Ample
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that this process may still write, and the file system's size, if it tells.
    pub fn free_and_total_bytes(&self) -> Option<(u64, u64)> {
        let found = statvfs(&self.folder).ok()?;
        Some((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
    }

    fn reserve(&self, bytes: u64) -> std::io::Result<()> {
        let path = self.folder.join("reserve");
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        if let Err(errno) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            fs::remove_file(&path)?;
            return Err(errno.into());
        }
        Ok(())
    }

    fn give_back(&self) -> std::io::Result<()> {
        match fs::remove_file(self.folder.join("reserve")) {
            // There was no room for it in the first place.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn keep_reserve(&self, state: &mut State, bytes: u64) {
        let wanted = match state.level {
            RoomLevel::Ample => true,
            RoomLevel::Low => state.reserved,
            RoomLevel::Critical => false,
        };
        if wanted == state.reserved {
            return;
        }
        let done = if wanted { self.reserve(bytes) } else { self.give_back() };
        if let Err(error) = done {
            tracing::warn!(%error, folder = %self.folder.display(), "the reserve of disk space cannot be changed");
        }
        // Not tried again at every write when the file system cannot do it.
        state.reserved = wanted;
    }
}

impl Room for Space {
    fn level(&self) -> RoomLevel {
        let mut state = self.state.lock();
        // A file system that does not tell is taken at its word when it refuses a write.
        let (free, total) = self.free_and_total_bytes().unwrap_or((u64::MAX, u64::MAX));
        let config = self.config.for_disk(total, self.working_bytes.load(Ordering::Relaxed));
        let free = room(free, &state, &config);
        let level = level_for(free, state.level, &config);
        if level != state.level {
            tracing::warn!(free_bytes = free, ?level, folder = %self.folder.display(), "room in the data folder");
            state.level = level;
        }
        self.keep_reserve(&mut state, config.reserve_bytes);
        level
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use RoomLevel::{Ample, Critical, Low};

    use super::*;

    #[test]
    fn levels_fall_early_and_rise_late() {
        let config = SpaceConfig { low_bytes: 100, critical_bytes: 20, reserve_bytes: 0 };
        let cases = [
            (100, Ample, Ample),
            (99, Ample, Low),
            (120, Low, Low),
            (150, Low, Ample),
            (19, Low, Critical),
            (25, Critical, Critical),
            (30, Critical, Low),
            (200, Critical, Ample),
        ];
        for (free, before, after) in cases {
            assert_eq!(level_for(free, before, &config), after, "{free} free, {before:?} before");
        }
    }

    #[test]
    fn the_reserve_is_there_while_there_is_room_and_given_back_when_there_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("reserve");
        let config = SpaceConfig { low_bytes: 1, critical_bytes: 1, reserve_bytes: 1 << 16 };
        assert_eq!(Space::watch(temp.path(), config).level(), Ample);
        assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 16);
        let space = Space::watch(temp.path(), config);
        let mut state = space.state.lock();
        state.level = Low;
        space.keep_reserve(&mut state, config.reserve_bytes);
        assert!(file.exists());
        state.level = Critical;
        space.keep_reserve(&mut state, config.reserve_bytes);
        assert!(!file.exists());
        state.level = Low;
        space.keep_reserve(&mut state, config.reserve_bytes);
        assert!(!file.exists(), "made again only when there is room");
    }

    #[test]
    fn what_is_given_back_is_no_room_for_new_things() {
        let config = SpaceConfig { low_bytes: 100, critical_bytes: 20, reserve_bytes: 50 };
        let level = |free, level, reserved| level_for(room(free, &State { level, reserved }, &config), level, &config);
        assert_eq!(level(60, Critical, false), Critical);
        assert_eq!(level(80, Critical, false), Low);
        assert_eq!(level(199, Low, false), Low);
        assert_eq!(level(200, Low, false), Ample);
        assert_eq!(level(150, Low, true), Ample);
        assert_eq!(level(100, Ample, false), Ample, "not made yet");
    }

    #[test]
    fn what_the_databases_take_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        for (name, bytes) in [("log/1.sst", 100), ("state-2/1.sst", 30), ("state-2/2.blob", 50), ("other/1", 1000)] {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        }
        let space = Space::watch(temp.path(), SpaceConfig::default());
        assert_eq!(space.measure(), (100, 80));
        assert_eq!(space.working_bytes.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn bounds_are_a_share_of_a_small_disk() {
        let config = SpaceConfig::default().for_disk(1 << 30, 0);
        assert_eq!((config.low_bytes, config.critical_bytes), ((1 << 30) / 20, (1 << 30) / 50));
        assert_eq!(SpaceConfig::default().for_disk(1 << 40, 1 << 20), SpaceConfig::default());
        let config = SpaceConfig::default().for_disk(1 << 40, 2 << 30);
        assert_eq!((config.low_bytes, config.critical_bytes), (2 << 30, 1 << 30), "a large state");
    }
}
