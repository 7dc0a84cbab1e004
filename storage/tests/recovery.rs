//! Snapshots in files, clusters restored from them, members that go on alone, states that are condemned: over RocksDB.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use navarch_raft_contract::{
    Batch, Bootstrap, Command, CommandBody, CommittedEntry, ConfState, EntryKind, HardState, KeyRange, LogBatch,
    LogEntry, LogStore, Op, Payload, ReadError, SnapshotError, StateMachine, StateReader, Txn,
};
use navarch_storage::{
    DataFolder, FolderError, RocksConfig, RocksLog, StateDb,
    archive::{ArchiveHeader, Asked, Inspection, Saving, inspect, save},
    damage::{self, Condemned},
    rebase::Fate,
    recovery::{NewMember, Recovery, RecoveryError, restore},
};

const NOW_MS: u64 = 1_800_000_000_000;

fn open(path: &Path) -> (DataFolder, RocksLog, StateDb) {
    let folder = DataFolder::acquire(path).unwrap();
    let (log, state) = folder.open(&RocksConfig::default()).unwrap();
    (folder, log, state)
}

fn data(key: &str, value: &str) -> bytes::Bytes {
    let op = Op { kind: 0, key: key.to_owned().into(), value: value.to_owned().into(), expires_at_ms: 0 };
    let body = CommandBody::Txn(Txn { compares: vec![], ops: vec![op] });
    Batch { commands: vec![Command { fence_term: 0, body: Some(body) }] }.to_bytes()
}

fn put(index: u64, key: &str, value: &str) -> CommittedEntry {
    CommittedEntry { index, term: 1, payload: Payload::Commands(data(key, value)) }
}

fn asked() -> Asked<'static> {
    fn group(key: &[u8]) -> String {
        String::from_utf8_lossy(key.split(|byte| *byte == b'/').next().unwrap_or_default()).into_owned()
    }
    Asked { group, records: b"members/" }
}

fn header() -> ArchiveHeader {
    let (created_by, cluster_id) = ("test 1".to_owned(), "old-cluster".to_owned());
    ArchiveHeader { created_by, cluster_id, member: 2, taken_at_ms: NOW_MS }
}

/// A state of some keys with history, and its file.
fn saved(folder: &Path) -> (std::path::PathBuf, Inspection) {
    let (_folder, _, state) = open(&folder.join("from"));
    for index in 1..=40 {
        state.apply(&[put(index, &format!("pods/{}", index % 7), &"x".repeat(index as usize * 200))]).unwrap();
    }
    state.apply(&[put(41, "members/1", "one"), put(42, "members/2", "two")]).unwrap();
    let members = ConfState { voters: vec![1, 2], ..ConfState::default() };
    state.apply(&[CommittedEntry { index: 43, term: 4, payload: Payload::Members(members) }]).unwrap();
    let file = folder.join("a.snapshot");
    let found = save(&file, &header(), &mut state.snapshot().unwrap(), asked()).unwrap();
    assert_eq!(found.hash, state.hash());
    (file, found)
}

#[test]
fn a_file_says_what_it_holds() {
    let temp = tempfile::tempdir().unwrap();
    let (file, found) = saved(temp.path());
    assert_eq!(found.header, header());
    assert_eq!((found.meta.index, found.meta.term, found.meta.revision), (43, 4, 43));
    assert_eq!(found.meta.members.voters, [1, 2]);
    assert_eq!((found.groups["pods"].keys, found.groups["members"].keys), (7, 2));
    assert_eq!(found.groups["members"].bytes, 2 * (9 + 3));
    assert_eq!(found.records, [("members/1".into(), "one".into()), ("members/2".into(), "two".into())]);
    assert_eq!(found.file_bytes, fs::metadata(&file).unwrap().len());
    assert_eq!(inspect(&file, asked()).unwrap(), found);
    let names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // It is never overwritten.
    let error = save(&file, &header(), &mut &b""[..], asked()).unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");
}

#[test]
fn a_wrong_byte_is_told_by_its_place_and_a_missing_one_as_such() {
    let temp = tempfile::tempdir().unwrap();
    let (file, _) = saved(temp.path());
    let good = fs::read(&file).unwrap();
    let wrong = temp.path().join("wrong");
    let mut told = std::collections::BTreeSet::new();
    for at in (0..good.len()).step_by(997).chain(0..120).chain(good.len() - 60..good.len()) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x04;
        fs::write(&wrong, &bytes).unwrap();
        let error = inspect(&wrong, asked()).unwrap_err().to_string();
        // Where a block is told, the byte is in it.
        if let Some((from, to)) = error.strip_prefix("snapshot is damaged: between byte ").and_then(|rest| {
            let (from, to) = rest.split_once(" and byte ")?;
            Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
        }) {
            // Positions are those of the stream, which begins after the header.
            let start = header().encoded().len();
            assert!((from + start..to + start).contains(&at), "byte {at}: {error}");
            told.insert("block");
        } else {
            told.insert("other");
        }
        fs::write(&wrong, &good[..at]).unwrap();
        let error = inspect(&wrong, asked()).unwrap_err().to_string();
        assert!(error.contains("ends early") || error.contains("does not begin"), "cut at {at}: {error}");
    }
    assert_eq!(told.len(), 2);
    fs::write(&wrong, [good.as_slice(), b"x"].concat()).unwrap();
    assert!(inspect(&wrong, asked()).unwrap_err().to_string().contains("bytes after its end"));
}

#[test]
fn another_form_is_told_and_not_called_damage() {
    let temp = tempfile::tempdir().unwrap();
    let (file, _) = saved(temp.path());
    let good = fs::read(&file).unwrap();
    let (other, start) = (temp.path().join("other"), header().encoded().len());
    for (at, form) in [(7, b'0'), (start + 7, b'1')] {
        let mut bytes = good.clone();
        bytes[at] = form;
        fs::write(&other, bytes).unwrap();
        let error = inspect(&other, asked()).unwrap_err();
        assert!(matches!(&error, SnapshotError::Io(_)), "{error}");
        assert!(error.to_string().contains("it is of form") && !error.is_damage(), "{error}");
    }
}

#[test]
fn what_is_not_whole_gets_no_name() {
    let temp = tempfile::tempdir().unwrap();
    let (file, _) = saved(temp.path());
    let good = fs::read(&file).unwrap();
    let other = temp.path().join("b.snapshot");
    {
        let mut saving = Saving::begin(&other, asked()).unwrap();
        saving.push(&good[..good.len() / 2]).unwrap();
        assert!(saving.finish().is_err());
    }
    {
        let mut saving = Saving::begin(&other, asked()).unwrap();
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        assert!(saving.push(&bytes).is_err());
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "neither a part nor a file is left");
}

fn new() -> NewMember {
    NewMember { cluster_id: "new-cluster".to_owned(), member: 1, now_ms: NOW_MS }
}

fn without_members(key: &[u8], _: &[u8]) -> Fate {
    if key.starts_with(b"members/") { Fate::Drop } else { Fate::Keep }
}

#[test]
fn a_file_becomes_a_cluster_of_one_with_newer_revisions() {
    let temp = tempfile::tempdir().unwrap();
    let (file, found) = saved(temp.path());
    let to = temp.path().join("to");
    let config = RocksConfig::default();
    let restored = restore(&to, &file, &new(), &config, &without_members).unwrap();
    assert_eq!((restored.header, restored.from), (header(), found.meta));
    {
        let (_folder, log, state) = open(&to);
        let began = log.state().unwrap();
        let bootstrap = began.bootstrap.unwrap();
        let only = ConfState { voters: vec![1], ..ConfState::default() };
        assert_eq!((bootstrap.cluster_id.as_str(), bootstrap.member), ("new-cluster", 1));
        assert_eq!(bootstrap.members, Some(only.clone()));
        assert_eq!((began.prefix_index, began.prefix_term, began.last_index), (43, 4, 43));
        assert_eq!(began.hard_state, Some(HardState { term: 4, vote: 0, commit: 43 }));
        let applied = state.applied();
        assert_eq!((applied.index, applied.term, applied.members), (43, 4, Some(only)));
        assert!(state.revision() > 43 + (1 << 40) && state.revision() < 1 << 53);
        assert_eq!(state.compacted(), state.revision());
        assert_eq!(state.count(&KeyRange::prefix(b"members/")).unwrap(), 0);
        assert_eq!(state.count(&KeyRange::prefix(b"pods/")).unwrap(), 7);
        assert!(matches!(state.get(b"pods/1", Some(43)), Err(ReadError::Compacted { .. })));
        state.check(&mut |_| true).unwrap();
    }
    // Restored again later, it is ahead of what the first one can have come to.
    let again = temp.path().join("again");
    let later = NewMember { now_ms: NOW_MS + 60_000, ..new() };
    let second = restore(&again, &file, &later, &config, &without_members).unwrap();
    assert!(second.now.revision > restored.now.revision + 60 * 1_000_000);
    let error = restore(&to, &file, &new(), &config, &without_members).unwrap_err();
    assert!(matches!(error, RecoveryError::Exists(_)), "{error}");
}

#[test]
fn a_restore_that_was_killed_or_refused_leaves_nothing_in_the_way() {
    let temp = tempfile::tempdir().unwrap();
    let (file, _) = saved(temp.path());
    let (to, config) = (temp.path().join("to"), RocksConfig::default());
    let bytes = fs::read(&file).unwrap();
    let cut = temp.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    assert!(restore(&to, &cut, &new(), &config, &without_members).is_err());
    assert!(!to.exists() && !temp.path().join("to.restoring").exists());
    // As a process leaves it that was killed.
    fs::create_dir_all(temp.path().join("to.restoring/state-1")).unwrap();
    fs::write(temp.path().join("to.restoring/STATE"), "state-9").unwrap();
    restore(&to, &file, &new(), &config, &without_members).unwrap();
    assert!(!temp.path().join("to.restoring").exists());
    // And one that is held by another restore is left alone.
    let held = DataFolder::acquire(&temp.path().join("held.restoring")).unwrap();
    let error = restore(&temp.path().join("held"), &file, &new(), &config, &without_members).unwrap_err();
    assert!(matches!(error, RecoveryError::Folder(FolderError::InUse(_))), "{error}");
    drop(held);
}

/// Member 2 of three, whose state is behind its log: three entries are not known to be committed, and one of them changes the
/// members.
fn survivor(path: &Path) {
    let (_folder, log, state) = open(path);
    let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    log.bootstrap(&Bootstrap { cluster_id: "group".into(), member: 2, members: Some(members.clone()) }).unwrap();
    let entry = |index: u64, term, kind, data| LogEntry { index, term, kind, data, context: Default::default() };
    let normal = |index: u64, term| entry(index, term, EntryKind::Normal, data(&format!("key-{index}"), "value"));
    let mut entries: Vec<_> = (1..=6).map(|index| normal(index, 1)).collect();
    entries.push(entry(7, 3, EntryKind::Normal, bytes::Bytes::new()));
    entries.push(normal(8, 3));
    entries.push(entry(9, 3, EntryKind::ConfChangeV2, bytes::Bytes::from_static(b"not looked into")));
    entries.push(entry(10, 3, EntryKind::Normal, data("members/2", "two")));
    let hard_state = Some(HardState { term: 5, vote: 3, commit: 7 });
    log.append(&LogBatch { entries, hard_state }).unwrap();
    let payload = Payload::Members(members);
    state.apply(&[CommittedEntry { index: 1, term: 1, payload }]).unwrap();
    for index in 2..=4 {
        state.apply(&[put(index, &format!("key-{index}"), "value")]).unwrap();
    }
    state.flush().unwrap();
    log.compact(2).unwrap();
}

fn only_two(key: &[u8], _: &[u8]) -> Fate {
    if key == b"members/2" { Fate::Replace(b"alone".to_vec()) } else { Fate::Keep }
}

fn check_recovered(path: &Path) {
    let (_folder, log, state) = open(path);
    let began = log.state().unwrap();
    let bootstrap = began.bootstrap.unwrap();
    let only = ConfState { voters: vec![2], ..ConfState::default() };
    assert_eq!(
        (bootstrap.cluster_id.as_str(), bootstrap.member, bootstrap.members),
        ("group-2", 2, Some(only.clone()))
    );
    assert_eq!((began.prefix_index, began.prefix_term, began.last_index), (10, 3, 10));
    assert_eq!(began.hard_state, Some(HardState { term: 5, vote: 0, commit: 10 }));
    let applied = state.applied();
    assert_eq!((applied.index, applied.term, applied.members), (10, 3, Some(only)));
    assert!(state.revision() > 1 << 40);
    let keys: Vec<_> = state.range(&KeyRange::prefix(b""), None, 99).unwrap().0.items;
    let keys: Vec<_> = keys.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
    assert_eq!(keys, ["key-2", "key-3", "key-4", "key-5", "key-6", "key-8", "members/2"]);
    assert_eq!(state.get(b"members/2", None).unwrap().unwrap().value, "alone");
    state.check(&mut |_| true).unwrap();
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let states: Vec<_> = names.filter(|n| n.starts_with("state") || n.starts_with("copy") || n == "RECOVERY").collect();
    assert_eq!(states.len(), 1, "{states:?}");
}

#[test]
fn a_member_goes_on_alone_with_all_that_it_has() {
    let temp = tempfile::tempdir().unwrap();
    survivor(temp.path());
    let config = RocksConfig::default();
    {
        let recovery = Recovery::prepare(temp.path(), &config).unwrap();
        let facts = recovery.facts();
        assert_eq!((facts.group.as_str(), facts.member, &facts.members.voters), ("group", 2, &vec![1, 2, 3]));
        assert_eq!((facts.flushed, facts.committed, facts.last), (4, 7, 10));
        assert_eq!((facts.last_term, facts.term, facts.uncommitted, facts.member_changes), (3, 5, 3, 1));
        assert_eq!((facts.revision, facts.completed), (8, false));
        assert_eq!(recovery.records(b"members/").unwrap(), [("members/2".into(), "two".into())]);
        let error = Recovery::prepare(temp.path(), &config).err().unwrap();
        assert!(matches!(error, RecoveryError::Folder(FolderError::InUse(_))), "{error}");
    }
    // To look changes nothing.
    {
        let (_folder, log, state) = open(temp.path());
        assert_eq!((log.state().unwrap().last_index, state.applied_index()), (10, 4));
    }
    Recovery::prepare(temp.path(), &config).unwrap().carry_out("group-2", NOW_MS, &only_two).unwrap();
    check_recovered(temp.path());
}

#[test]
fn a_recovery_that_was_killed_is_completed_or_never_was() {
    let config = RocksConfig::default();
    let temp = tempfile::tempdir().unwrap();
    // A copy of the folder at each moment: taken while the plan is written, by making its last step fail.
    let original = temp.path().join("original");
    survivor(&original);
    let plan = original.join("RECOVERY.new");
    fs::create_dir(&plan).unwrap();
    // Before the decision: nothing is changed.
    let recovery = Recovery::prepare(&original, &config).unwrap();
    assert!(recovery.carry_out("group-2", NOW_MS, &only_two).is_err());
    fs::remove_dir(&plan).unwrap();
    {
        let (_folder, log, state) = open(&original);
        let began = log.state().unwrap();
        assert_eq!((began.last_index, began.bootstrap.unwrap().cluster_id.as_str()), (10, "group"));
        assert_eq!(state.applied_index(), 4);
    }
    // After it, before anything was done: the state's pointer cannot be written, the log is begun anew already.
    fs::create_dir(original.join("STATE.new")).unwrap();
    let recovery = Recovery::prepare(&original, &config).unwrap();
    assert!(recovery.carry_out("group-2", NOW_MS, &only_two).is_err());
    fs::remove_dir(original.join("STATE.new")).unwrap();
    assert!(original.join("RECOVERY").exists());
    // The next start completes it, and so does the next recovery.
    let again = Recovery::prepare(&original, &config).unwrap();
    assert!(again.facts().completed);
    assert_eq!((again.facts().group.as_str(), again.facts().uncommitted), ("group-2", 0));
    drop(again);
    check_recovered(&original);
}

#[test]
fn a_folder_without_a_member_is_not_recovered() {
    let temp = tempfile::tempdir().unwrap();
    let error = Recovery::prepare(temp.path(), &RocksConfig::default()).err().unwrap();
    assert!(matches!(error, RecoveryError::Empty(_)), "{error}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "nothing was made");
    drop(open(temp.path()));
    assert!(matches!(Recovery::prepare(temp.path(), &RocksConfig::default()).err().unwrap(), RecoveryError::Empty(_)));
}

/// Flips a bit in each file of the state that has this ending: tables, or values that lie apart.
fn flip(path: &Path, kind: &str) -> usize {
    let mut flipped = 0;
    for entry in fs::read_dir(path.join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == kind) {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.windows(9).position(|window| window == b"the value").unwrap_or(40);
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            flipped += 1;
        }
    }
    flipped
}

#[test]
fn a_flipped_byte_on_the_disk_is_found_while_it_runs() {
    found_while_it_runs("sst", "the value of some length");
    found_while_it_runs("blob", &"the value of some length ".repeat(40));
}

fn found_while_it_runs(kind: &str, value: &str) {
    let temp = tempfile::tempdir().unwrap();
    let (_folder, _, state) = open(temp.path());
    for index in 1..=50 {
        state.apply(&[put(index, &format!("key-{index}"), value)]).unwrap();
    }
    state.flush().unwrap();
    // Read once, so that blocks are in the cache.
    assert!(state.get(b"key-9", None).unwrap().is_some());
    let mut read = 0;
    state
        .check(&mut |bytes| {
            read += bytes;
            true
        })
        .unwrap();
    assert!(read > 50 * value.len());
    assert_eq!(state.damage().found(), None);
    assert!(flip(temp.path(), kind) > 0);
    let error = state.check(&mut |_| true).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert!(state.damage().found().unwrap().contains("Corruption"), "{:?}", state.damage().found());
}

#[test]
fn a_condemned_state_is_discarded_if_there_are_others_and_kept_if_not() {
    let temp = tempfile::tempdir().unwrap();
    let config = RocksConfig::default();
    {
        let (_folder, _, state) = open(temp.path());
        state.apply(&[put(1, "key", "the value")]).unwrap();
        state.flush().unwrap();
    }
    flip(temp.path(), "sst");
    let alone = ConfState { voters: vec![1], ..ConfState::default() };
    damage::condemn(temp.path(), &Condemned { reason: "a flipped byte".into(), members: alone }).unwrap();
    let folder = DataFolder::acquire(temp.path()).unwrap();
    let error = folder.open_as(1, &config).err().unwrap().to_string();
    assert!(error.contains("a flipped byte") && error.contains("navarch snapshot restore"), "{error}");
    assert!(temp.path().join("state").exists());
    let three = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    damage::condemn(temp.path(), &Condemned { reason: "a flipped byte".into(), members: three.clone() }).unwrap();
    let from = tempfile::tempdir().unwrap();
    let (_other, _, sender) = open(from.path());
    sender.apply(&[put(1, "key", "the value"), put(2, "more", "values")]).unwrap();
    // Killed before another state came, it begins again.
    for _ in 0..2 {
        let (_, state) = folder.open_as(1, &config).unwrap();
        assert_eq!(state.applied_index(), 0);
        assert_eq!(folder.rebuilding().unwrap().unwrap().members, three);
    }
    {
        let (_, state) = folder.open_as(1, &config).unwrap();
        let mut sink = state.stage().unwrap();
        std::io::copy(&mut sender.snapshot().unwrap(), &mut sink).unwrap();
        sink.finish().unwrap();
        assert!(folder.rebuilding().unwrap().is_some());
        state.install(2).unwrap();
        assert_eq!(folder.rebuilding().unwrap(), None);
    }
    let (_, state) = folder.open_as(1, &config).unwrap();
    assert_eq!((state.applied_index(), state.hash()), (2, sender.hash()));
}

#[test]
fn a_value_that_is_not_what_was_written_is_not_taken_over() {
    use navarch_storage::kv::{Kv, WriteSet};
    let temp = tempfile::tempdir().unwrap();
    survivor(temp.path());
    {
        let (_folder, _, state) = open(temp.path());
        let key = navarch_storage::keys::version(b"key-3", 3);
        let kv = state.kv();
        let mut value = kv.get(&key).unwrap().unwrap();
        *value.last_mut().unwrap() ^= 1;
        let mut set = WriteSet::default();
        set.put(key, value);
        kv.write(set).unwrap();
        kv.flush().unwrap();
    }
    let recovery = Recovery::prepare(temp.path(), &RocksConfig::default()).unwrap();
    let error = recovery.carry_out("group-2", NOW_MS, &only_two).unwrap_err().to_string();
    assert!(error.contains("the value of key-3 is not what was written"), "{error}");
    // And one that is condemned is not condemned any more once it was made anew.
    let temp = tempfile::tempdir().unwrap();
    survivor(temp.path());
    let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    damage::note_members(temp.path(), &members).unwrap();
    damage::condemn(temp.path(), &Condemned { reason: "a doubt".into(), members }).unwrap();
    Recovery::prepare(temp.path(), &RocksConfig::default()).unwrap().carry_out("group-2", NOW_MS, &only_two).unwrap();
    assert_eq!(damage::condemned(temp.path()).unwrap(), None);
    assert_eq!(damage::noted_members(temp.path()).unwrap(), None);
    check_recovered(temp.path());
}

#[test]
fn a_state_that_cannot_be_opened_is_told_as_damaged() {
    use navarch_raft_contract::ApplyError;
    let temp = tempfile::tempdir().unwrap();
    {
        let (_folder, _, state) = open(temp.path());
        state.apply(&[put(1, "key", "the value")]).unwrap();
        state.flush().unwrap();
    }
    for file in fs::read_dir(temp.path().join("state")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "sst") {
            let mut bytes = fs::read(&path).unwrap();
            bytes.iter_mut().take(200).for_each(|byte| *byte ^= 0x55);
            fs::write(&path, bytes).unwrap();
        }
    }
    let folder = DataFolder::acquire(temp.path()).unwrap();
    let error = folder.open(&RocksConfig::default()).err().unwrap();
    assert!(matches!(error, FolderError::State { source: ApplyError::Corrupt(_), .. }), "{error}");
}
