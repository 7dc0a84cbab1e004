//! `navarch snapshot`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use navarch_auth::Pki;
use navarch_auth::pki::write_private;
use navarch_config::Settings;
use navarch_storage::archive::{self, Inspection, Saving};
use navarch_storage::rebase::Fate;
use navarch_storage::recovery::{self, NewMember};
use serde_json::{Value, json};

use super::{CommandError, ask};
use crate::cli::{OutputFormat, SnapshotCommand};
use crate::join::state::Joined;
use crate::roster::Member;
use crate::save::SNAPSHOT_PATH;
use crate::snapshots::asked;
use crate::{daemon, identity, store};

/// Saves, restores, looks into and checks snapshots.
pub fn run(settings: &Settings, command: &SnapshotCommand) -> Result<(), CommandError> {
    match command {
        SnapshotCommand::Save { file, server, output } => {
            let server = server.unwrap_or_else(|| ask::own_server(settings));
            let mut saving = Saving::begin(file, asked())?;
            ask::download(settings, server, SNAPSHOT_PATH, |bytes| Ok(saving.push(bytes)?))?;
            show(file, &saving.finish()?, *output, "saved")
        }
        SnapshotCommand::Inspect { file, output } => {
            let found = archive::inspect(file, asked()).map_err(|error| told(file, &error))?;
            match output {
                OutputFormat::Json => say!("{}", serde_json::to_string_pretty(&as_json(file, &found))?),
                OutputFormat::Text => say_part!("{}", render(&found)),
            }
            Ok(())
        }
        SnapshotCommand::Verify { file, output } => {
            let found = archive::inspect(file, asked()).map_err(|error| told(file, &error))?;
            show(file, &found, *output, "every byte is as it was written")
        }
        SnapshotCommand::Restore { file, pki, output } => restore(settings, file, pki.as_deref(), *output),
    }
}

fn told(file: &Path, error: &dyn std::fmt::Display) -> CommandError {
    format!("{}: {error}", file.display()).into()
}

fn show(file: &Path, found: &Inspection, output: OutputFormat, what: &str) -> Result<(), CommandError> {
    match output {
        OutputFormat::Json => say!("{}", serde_json::to_string_pretty(&as_json(file, found))?),
        OutputFormat::Text => {
            let keys: u64 = found.groups.values().map(|share| share.keys).sum();
            say!(
                "{}: {what}: revision {}, {keys} keys, {} bytes, hash {:016x}",
                file.display(),
                found.meta.revision,
                found.file_bytes,
                found.hash
            );
        }
    }
    Ok(())
}

fn members_of(found: &Inspection) -> Vec<Member> {
    found.records.iter().filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect()
}

fn taken_at(found: &Inspection) -> String {
    let ms = i64::try_from(found.header.taken_at_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

fn as_json(file: &Path, found: &Inspection) -> Value {
    let resources: serde_json::Map<String, Value> = found
        .groups
        .iter()
        .map(|(name, share)| (name.clone(), json!({"keys": share.keys, "bytes": share.bytes})))
        .collect();
    json!({
        "file": file,
        "fileBytes": found.file_bytes,
        "createdBy": found.header.created_by,
        "takenAt": taken_at(found),
        "clusterId": found.header.cluster_id,
        "member": found.header.member,
        "revision": found.meta.revision,
        "compactedRevision": found.compacted,
        "index": found.meta.index,
        "term": found.meta.term,
        "hash": format!("{:016x}", found.hash),
        "members": members_of(found),
        "voters": found.meta.members.voters,
        "learners": found.meta.members.learners,
        "resources": resources,
    })
}

fn render(found: &Inspection) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(out, "cluster    {}", found.header.cluster_id);
    let _ = writeln!(
        out,
        "taken      {} of member {}, by {}",
        taken_at(found),
        found.header.member,
        found.header.created_by
    );
    let _ = writeln!(out, "revision   {}, history since {}", found.meta.revision, found.compacted);
    let _ = writeln!(out, "log        entry {}, term {}", found.meta.index, found.meta.term);
    let _ = writeln!(out, "hash       {:016x}", found.hash);
    let _ = writeln!(out, "size       {} bytes\n", found.file_bytes);
    for member in members_of(found) {
        let _ =
            writeln!(out, "member {:<3} {:<20} {:<22} {}", member.id, member.name, member.peer_address, member.server);
    }
    let _ = writeln!(out, "\n{:<55} {:>9} {:>12}", "RESOURCE", "KEYS", "BYTES");
    for (name, share) in &found.groups {
        let _ = writeln!(out, "{name:<55} {:>9} {:>12}", share.keys, share.bytes);
    }
    out
}

/// What belongs to the old cluster's members does not come along.
fn fate(key: &[u8], _: &[u8]) -> Fate {
    if key.starts_with(b"navarch/") { Fate::Drop } else { Fate::Keep }
}

fn restore(settings: &Settings, file: &Path, pki: Option<&Path>, output: OutputFormat) -> Result<(), CommandError> {
    let data_dir = &settings.data_dir;
    let _held = daemon::PidFile::acquire(data_dir)?;
    if Joined::load(data_dir)?.is_some() {
        let why = "this machine has joined a cluster; `navarch reset` makes it leave";
        return Err(format!("{}: {why}", data_dir.display()).into());
    }
    let folder = store::folder_of(data_dir);
    if folder.exists() {
        let why = "there is a control plane's data already: move it away, or restore to another --data-dir";
        return Err(format!("{}: {why}", folder.display()).into());
    }
    // Before anything is written: a wrong file is noticed here.
    let found = archive::inspect(file, asked()).map_err(|error| told(file, &error))?;
    if let Some(from) = pki {
        copy_keys(from, &data_dir.join("pki"))?;
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let new = NewMember {
        cluster_id: uuid::Uuid::new_v4().to_string(),
        member: identity::FIRST,
        now_ms: u64::try_from(now_ms).unwrap_or(u64::MAX),
    };
    // The folder gets its name last: without it this is the beginning of an empty cluster, and the next call repeats it all.
    write_private(&data_dir.join("cluster-id"), &format!("{}\n", new.cluster_id))?;
    let restored = recovery::restore(&folder, file, &new, &store::rocks_config(settings), &fate)?;
    match output {
        OutputFormat::Json => {
            let value = json!({
                "clusterId": new.cluster_id,
                "member": new.member,
                "dataDir": data_dir,
                "from": as_json(file, &found),
                "revision": restored.now.revision,
            });
            say!("{}", serde_json::to_string_pretty(&value)?);
        }
        OutputFormat::Text => {
            say!("restored {} to {}", file.display(), data_dir.display());
            say!("  cluster    {} (the snapshot's: {})", new.cluster_id, found.header.cluster_id);
            say!("  member     {}, the only one; others join with `navarch join`", new.member);
            say!("  revision   {} (the snapshot's: {})", restored.now.revision, found.meta.revision);
            if pki.is_none() && !data_dir.join("pki").exists() {
                say!("  keys       new ones: clients, nodes and service accounts of the old cluster are not known");
                say!("             (--pki FOLDER takes the old cluster's, from the data folder of one of its members)");
            }
            say!("`navarch server` or `navarch up` runs it");
        }
    }
    Ok(())
}

/// Takes the old cluster's keys over, completely or not at all.
fn copy_keys(from: &Path, to: &Path) -> Result<(), CommandError> {
    if !from.join("ca.crt").exists() {
        return Err(format!("{}: holds no cluster's keys", from.display()).into());
    }
    Pki::import(to, &Pki::open(from)?.member_secrets()?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_their_alarms_are_left_behind() {
        assert_eq!(fate(b"navarch/members/1", b""), Fate::Drop);
        assert_eq!(fate(b"navarch/alarms/1", b""), Fate::Drop);
        assert_eq!(fate(b"core/pods/navarch/x", b""), Fate::Keep);
    }

    #[test]
    fn the_old_cluster_s_keys_are_taken_over_and_others_never_overwritten() -> Result<(), CommandError> {
        let temp = tempfile::tempdir()?;
        let (from, to, other) = (temp.path().join("from"), temp.path().join("to"), temp.path().join("other"));
        assert!(copy_keys(&from, &to).is_err());
        let hash = Pki::open(&from)?.ca_hash().to_owned();
        copy_keys(&from, &to)?;
        copy_keys(&from, &to)?;
        assert_eq!(Pki::open(&to)?.ca_hash(), hash);
        Pki::open(&other)?;
        assert!(copy_keys(&from, &other).is_err());
        Ok(())
    }
}
