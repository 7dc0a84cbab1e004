//! Snapshots of the store that a member takes by itself.
//!
//! Every member takes its own: then whichever disk is left has one, a member that is cut off goes on, and nobody has to
//! agree on who does it. A file has its name only when it is whole and on the disk; it is read once more then, as whoever
//! restores it will. A failure is an alarm, and keeps nothing from being served.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use navarch_config::SnapshotSettings;
use navarch_raft_contract::SnapshotError;
use navarch_raft_driver::RaftHandle;
use navarch_storage::Space;
use navarch_storage::archive::{self, ArchiveHeader, Asked, PART};
use navarch_supervision::{ChildSpec, TaskContext};
use serde::{Deserialize, Serialize};

use crate::alarms::{AlarmKind, Alarms};

/// What names of snapshots end with.
const ENDING: &str = ".snapshot";
/// Time of a snapshot in its name: they sort by it.
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// Between a failure and the next attempt, at most.
const RETRY: Duration = Duration::from_secs(60);
/// The first one after a start, if one is due: the start comes first.
const SETTLE: Duration = Duration::from_secs(60);

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotInfo {
    /// The file.
    pub path: PathBuf,
    /// When it was taken, seconds since the Unix epoch.
    pub taken_at_s: i64,
    /// The store's revision in it.
    pub revision: u64,
    /// Its size.
    pub bytes: u64,
}

/// How snapshots go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// Time between two, in seconds; `None`: none are taken.
    pub every_s: Option<u64>,
    /// The newest one of this member.
    pub last: Option<SnapshotInfo>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// Attempts that failed since the start.
    pub failures: u64,
}

/// The group that a key is counted in: its resource.
pub fn group(key: &[u8]) -> String {
    let prefix = navarch_store::key::prefix_of(key).unwrap_or(key);
    let text = String::from_utf8_lossy(prefix);
    let text = text.trim_end_matches('/');
    // As kubectl names it: `pods`, `leases.coordination.k8s.io`.
    match text.split_once('/') {
        Some(("core", resource)) => resource.to_owned(),
        Some((group, resource)) => format!("{resource}.{group}"),
        None => text.to_owned(),
    }
}

/// What is asked of every file.
pub fn asked() -> Asked<'static> {
    Asked { group, records: crate::roster::PREFIX }
}

/// The header of a snapshot that is taken now.
pub fn header(cluster_id: &str, member: u64) -> ArchiveHeader {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ArchiveHeader {
        created_by: concat!("navarch ", env!("CARGO_PKG_VERSION")).to_owned(),
        cluster_id: cluster_id.to_owned(),
        member,
        taken_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Takes them.
pub struct Snapshots {
    pub raft: RaftHandle,
    pub alarms: Arc<Alarms>,
    pub space: Arc<Space>,
    pub cluster_id: String,
    pub own: u64,
    pub folder: PathBuf,
    pub settings: SnapshotSettings,
    status: ArcSwap<SnapshotStatus>,
}

/// Time and revision of a file by its name.
fn parse_name(name: &str) -> Option<(Timestamp, u64)> {
    let (time, revision) = name.strip_suffix(ENDING)?.split_once("-r")?;
    let time = jiff::civil::DateTime::strptime(TIME, time).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some((time.timestamp(), revision.parse().ok()?))
}

fn name_of(at: Timestamp, revision: u64) -> String {
    // Of one length, so that they sort as they were taken.
    format!("{}-r{revision:016}{ENDING}", at.strftime(TIME))
}

/// The snapshots in a folder, the oldest first, and the parts of those that were never completed.
fn found(folder: &Path) -> std::io::Result<(Vec<(Timestamp, u64, PathBuf)>, Vec<PathBuf>)> {
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.strip_suffix(PART).and_then(parse_name).is_some() {
            parts.push(path);
        } else if let Some((at, revision)) = parse_name(name) {
            whole.push((at, revision, path));
        }
    }
    whole.sort();
    Ok((whole, parts))
}

impl Snapshots {
    /// Looks what is there.
    pub fn new(
        raft: RaftHandle,
        alarms: Arc<Alarms>,
        space: Arc<Space>,
        cluster_id: &str,
        own: u64,
        settings: &navarch_config::Settings,
    ) -> Arc<Self> {
        let folder = settings.snapshots.folder.clone().unwrap_or_else(|| settings.data_dir.join("snapshots"));
        let newest = found(&folder).ok().and_then(|(mut whole, _)| whole.pop());
        let last = newest.map(|(at, revision, path)| SnapshotInfo {
            bytes: std::fs::metadata(&path).map_or(0, |file| file.len()),
            path,
            taken_at_s: at.as_second(),
            revision,
        });
        let settings = settings.snapshots.clone();
        let every_s = settings.interval().map(|every| every.as_secs());
        let status = ArcSwap::from_pointee(SnapshotStatus { every_s, last, ..SnapshotStatus::default() });
        let cluster_id = cluster_id.to_owned();
        Arc::new(Self { raft, alarms, space, cluster_id, own, folder, settings, status })
    }

    /// How they go.
    pub fn status(&self) -> SnapshotStatus {
        SnapshotStatus::clone(&self.status.load())
    }

    /// Takes one, checks it, and deletes those that are too many.
    ///
    /// # Errors
    /// What went wrong. Nothing is left that is not whole.
    fn take(&self) -> Result<SnapshotInfo, SnapshotError> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700).create(&self.folder)?;
        for part in found(&self.folder)?.1 {
            std::fs::remove_file(part)?;
        }
        self.make_sure_it_fits()?;
        let mut source = self.raft.take_snapshot()?;
        let at = Timestamp::now();
        let revision = source.meta().revision;
        let path = self.folder.join(name_of(at, revision));
        let written = archive::save(&path, &header(&self.cluster_id, self.own), &mut source, asked())?;
        drop(source);
        // What was written passed through memory; this is what the disk has.
        if archive::inspect(&path, asked()).map(|read| read == written).unwrap_or(false) {
            self.delete_old()?;
            return Ok(SnapshotInfo { path, taken_at_s: at.as_second(), revision, bytes: written.file_bytes });
        }
        std::fs::remove_file(&path)?;
        Err(SnapshotError::Damaged(format!("{} does not read as it was written", path.display())))
    }

    /// On the disk of the store, one more must leave room for it, if need be in the place of older ones.
    fn make_sure_it_fits(&self) -> std::io::Result<()> {
        if !self.shares_the_disk() {
            return Ok(());
        }
        let (whole, _) = found(&self.folder)?;
        let sizes: Vec<u64> =
            whole.iter().map(|(.., path)| std::fs::metadata(path).map_or(0, |file| file.len())).collect();
        let bytes = match sizes.last() {
            Some(last) => last + last / 4,
            // The state's values are compressed.
            None => 2 * self.space.measure().1,
        };
        let spare: u64 = sizes.iter().rev().skip(1).sum();
        if self.space.leaves_room(bytes.saturating_sub(spare)) {
            while !self.space.leaves_room(bytes) && self.give_way()? {}
        }
        if self.space.leaves_room(bytes) {
            return Ok(());
        }
        let free = self.space.free_and_total_bytes().map_or(0, |(free, _)| free >> 20);
        let why = format!("the disk is nearly full: it takes about {} MiB, and {free} MiB are free", bytes >> 20);
        Err(std::io::Error::new(std::io::ErrorKind::StorageFull, why))
    }

    /// The disk of the store is nearly full: the oldest is deleted if it is there, but never the only one. Whether one was.
    ///
    /// # Errors
    /// What the file system says.
    pub fn give_way(&self) -> std::io::Result<bool> {
        if !self.shares_the_disk() {
            return Ok(false);
        }
        let (whole, _) = found(&self.folder)?;
        let [(_, _, oldest), _, ..] = whole.as_slice() else { return Ok(false) };
        tracing::warn!(path = %oldest.display(), "a snapshot is deleted because the disk is nearly full");
        match std::fs::remove_file(oldest) {
            // Somebody else was faster.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }

    /// Whether snapshots are below the data folder, and on the disk of the store.
    fn shares_the_disk(&self) -> bool {
        let disk = |folder: &Path| std::fs::metadata(folder).map(|folder| folder.dev()).ok();
        self.settings.folder.is_none() && disk(&self.folder).is_some_and(|ours| disk(self.space.folder()) == Some(ours))
    }

    fn delete_old(&self) -> std::io::Result<()> {
        let (whole, _) = found(&self.folder)?;
        let too_many = whole.len().saturating_sub(self.settings.keep);
        for (_, _, path) in whole.into_iter().take(too_many) {
            tracing::debug!(path = %path.display(), "an old snapshot is deleted");
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn take_and_tell(&self) -> bool {
        let taken = self.take();
        let mut status = self.status();
        let well = taken.is_ok();
        match taken {
            Ok(info) => {
                tracing::info!(path = %info.path.display(), revision = info.revision, bytes = info.bytes, "took a snapshot");
                self.alarms.set(AlarmKind::Snapshot, None);
                (status.last, status.failure) = (Some(info), None);
            }
            Err(error) => {
                tracing::error!(%error, folder = %self.folder.display(), "no snapshot could be taken");
                let why = format!("{}: {error}", self.folder.display());
                self.alarms.set(AlarmKind::Snapshot, Some(format!("no snapshot could be taken: {why}")));
                status.failures += 1;
                status.failure = Some(why);
            }
        }
        self.status.store(Arc::new(status));
        well
    }

    /// How long until the next one, `now_s` being the time.
    fn wait(&self, every: Duration, now_s: i64) -> Duration {
        let last = self.status.load().last.as_ref().map(|last| last.taken_at_s);
        // A clock that was set back must not stop them.
        let age = last.map(|last| Duration::from_secs(now_s.abs_diff(last)));
        age.map_or(SETTLE, |age| every.saturating_sub(age).max(SETTLE)).min(every)
    }

    /// What runs on every member.
    pub fn spec(self: &Arc<Self>) -> ChildSpec {
        let this = Arc::clone(self);
        ChildSpec::task("snapshots", move |context: TaskContext| {
            let this = Arc::clone(&this);
            async move {
                let Some(every) = this.settings.interval() else {
                    context.stopped().await;
                    return Ok::<(), tokio::task::JoinError>(());
                };
                let mut wait = this.wait(every, Timestamp::now().as_second());
                loop {
                    tokio::select! {
                        () = context.stopped() => return Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                    let taking = Arc::clone(&this);
                    let well = tokio::task::spawn_blocking(move || taking.take_and_tell()).await?;
                    wait = if well { every } else { every.min(RETRY) };
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_tell_time_and_revision_and_sort_by_them() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(name_of(at, 42), "20270115T080000Z-r0000000000000042.snapshot");
        assert_eq!(parse_name(&name_of(at, 42)), Some((at, 42)));
        assert!(name_of(at, 9) < name_of(at, 10));
        for other in ["notes.snapshot", "20270115T080000Z-r1.tar", "20270115T080000Z-rx.snapshot", "x-r1.snapshot"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
        let folder = tempfile::tempdir().unwrap();
        for name in [name_of(at, 42), format!("{}{PART}", name_of(at, 43)), "mine.part".to_owned()] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let (whole, parts) = found(folder.path()).unwrap();
        assert_eq!((whole.len(), parts.len()), (1, 1), "what is not ours is left alone");
    }

    #[test]
    fn keys_are_counted_as_kubectl_names_their_resources() {
        for (key, expected) in [
            ("core/pods/default/web", "pods"),
            ("coordination.k8s.io/leases/a/b", "leases.coordination.k8s.io"),
            ("navarch/members/1", "members.navarch"),
            ("odd", "odd"),
        ] {
            assert_eq!(group(key.as_bytes()), expected);
        }
    }
}
