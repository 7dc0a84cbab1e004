//! A disk whose power can be cut: a file system of its own on an image in memory.
//!
//! What a process wrote and did not sync is in the kernel's cache and not in the image; so a copy of the image, made before
//! the file system is unmounted, is what a disk would hold after the power went.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::must;

/// See the module. Dropping it unmounts it.
pub struct Disk {
    /// Where the image is.
    memory: PathBuf,
    /// Where its files are.
    mounted: PathBuf,
}

impl Disk {
    /// A new, empty disk of so many MiB at `mounted`, which must be an empty folder; the image is at `memory`, which must
    /// not be there yet.
    ///
    /// # Panics
    /// If it cannot be made: it takes root, `mkfs.ext4` and a loop device.
    pub fn new(memory: PathBuf, mounted: &Path, mib: u32) -> Self {
        let this = Self { memory, mounted: mounted.to_owned() };
        std::fs::create_dir(&this.memory).unwrap();
        // Beside the image there is its copy for a moment.
        let size = format!("size={}m", 2 * mib + 64);
        must(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "navarch-test"]).arg(&this.memory));
        let image = std::fs::File::create_new(this.image()).unwrap();
        image.set_len(u64::from(mib) << 20).unwrap();
        let made = ["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"];
        must(Command::new("mkfs.ext4").args(made).arg(this.image()));
        this.mount();
        std::fs::remove_dir(this.mounted.join("lost+found")).unwrap();
        this
    }

    fn image(&self) -> PathBuf {
        self.memory.join("image")
    }

    fn mount(&self) {
        // Without ext4's own syncs when a file is renamed over another: only what was asked for is durable.
        let options = "loop,discard,noatime,noauto_da_alloc";
        must(Command::new("mount").args(["-t", "ext4", "-o", options]).arg(self.image()).arg(&self.mounted));
    }

    /// Cuts the power and turns it on again: all that was not synced is gone. Nobody may have a file of it open.
    ///
    /// # Panics
    /// If somebody has.
    pub fn cut_power(&self) {
        let left = self.memory.join("left");
        must(Command::new("cp").args(["--sparse=always"]).arg(self.image()).arg(&left));
        must(Command::new("umount").arg(&self.mounted));
        std::fs::rename(left, self.image()).unwrap();
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for folder in [&self.mounted, &self.memory] {
            let _ = Command::new("umount").arg("-l").arg(folder).output();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_not_synced_is_gone_after_the_power_was_cut() {
        let folder = tempfile::Builder::new().prefix("nv-disk").tempdir().unwrap();
        let mounted = folder.path().join("data");
        std::fs::create_dir(&mounted).unwrap();
        let disk = Disk::new(folder.path().join("memory"), &mounted, 64);
        let mut synced = std::fs::File::create(mounted.join("synced")).unwrap();
        synced.write_all(b"kept").unwrap();
        synced.sync_all().unwrap();
        std::fs::File::open(&mounted).unwrap().sync_all().unwrap();
        synced.write_all(b"lost").unwrap();
        std::fs::write(mounted.join("unsynced"), "lost").unwrap();
        drop(synced);
        disk.cut_power();
        assert_eq!(std::fs::read(mounted.join("synced")).unwrap(), b"kept");
        assert!(!mounted.join("unsynced").exists());
    }
}
