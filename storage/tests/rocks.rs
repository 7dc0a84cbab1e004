//! Both databases on RocksDB: what survives closing, what is refused, what another process sees.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use navarch_raft_contract::{
    Batch, Bootstrap, Command, CommandBody, CommittedEntry, ConfState, EntryKind, HardState, KeyRange, LogBatch,
    LogEntry, LogError, LogStore, Op, Payload, StateMachine, StateReader, Txn,
};
use navarch_storage::{DataFolder, FolderError, RocksConfig, RocksLog, StateDb};

fn open(path: &std::path::Path) -> (DataFolder, RocksLog, StateDb) {
    let folder = DataFolder::acquire(path).unwrap();
    let (log, state) = folder.open(&RocksConfig::default()).unwrap();
    (folder, log, state)
}

fn entry(index: u64, term: u64) -> LogEntry {
    let data = Bytes::from(format!("entry {index} of term {term}"));
    LogEntry { index, term, kind: EntryKind::Normal, data, context: Bytes::new() }
}

fn batch(entries: impl IntoIterator<Item = (u64, u64)>) -> LogBatch {
    LogBatch { entries: entries.into_iter().map(|(index, term)| entry(index, term)).collect(), hard_state: None }
}

fn terms(log: &RocksLog, low: u64, high: u64) -> Vec<(u64, u64)> {
    log.entries(low, high, usize::MAX).unwrap().iter().map(|entry| (entry.index, entry.term)).collect()
}

#[test]
fn the_log_comes_back_as_it_was_written() {
    let temp = tempfile::tempdir().unwrap();
    let members = ConfState { voters: vec![3], ..ConfState::default() };
    let bootstrap = Bootstrap { cluster_id: "c".into(), member: 3, members: Some(members) };
    let hard_state = HardState { term: 2, vote: 3, commit: 4 };
    {
        let (_folder, log, _) = open(temp.path());
        assert_eq!(log.state().unwrap(), Default::default());
        log.bootstrap(&bootstrap).unwrap();
        log.append(&batch((1..=6).map(|index| (index, 1)))).unwrap();
        // A new leader's entries replace the end, which was longer.
        let mut replacing = batch([(4, 2), (5, 2)]);
        replacing.hard_state = Some(hard_state);
        log.append(&replacing).unwrap();
        assert_eq!(log.counters().syncs, 3);
    }
    let (_folder, log, _) = open(temp.path());
    let state = log.state().unwrap();
    assert_eq!((state.prefix_index, state.last_index), (0, 5));
    assert_eq!((state.hard_state, state.bootstrap), (Some(hard_state), Some(bootstrap)));
    assert_eq!(terms(&log, 1, 9), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]);
    assert_eq!(log.entries(5, 6, 1).unwrap(), [entry(5, 2)]);
    assert_eq!(log.entries(1, 6, 1).unwrap().len(), 1, "one at least, whatever the bound");
    assert_eq!((log.term(5), log.term(6), log.term(0)), (Ok(Some(2)), Ok(None), Ok(Some(0))));
}

#[test]
fn the_log_is_cut_at_the_front_and_begun_anew() {
    let temp = tempfile::tempdir().unwrap();
    {
        let (_folder, log, _) = open(temp.path());
        log.append(&batch((1..=9).map(|index| (index, 1)))).unwrap();
        log.compact(4).unwrap();
        log.compact(2).unwrap();
        assert!(matches!(log.compact(10), Err(LogError::Misuse(_))));
        assert!(matches!(log.append(&batch([(4, 2)])), Err(LogError::Misuse(_))));
        assert!(matches!(log.append(&batch([(11, 2)])), Err(LogError::Misuse(_))));
    }
    {
        let (_folder, log, _) = open(temp.path());
        let state = log.state().unwrap();
        assert_eq!((state.prefix_index, state.prefix_term, state.last_index), (4, 1, 9));
        assert_eq!((log.term(4), log.term(3)), (Ok(Some(1)), Ok(None)));
        assert_eq!(terms(&log, 5, 7), [(5, 1), (6, 1)]);
        log.reset(20, 3).unwrap();
        log.append(&batch([(21, 3)])).unwrap();
    }
    let (_folder, log, _) = open(temp.path());
    let state = log.state().unwrap();
    assert_eq!((state.prefix_index, state.prefix_term, state.last_index), (20, 3, 21));
}

fn put(index: u64, key: &str, value: &str) -> CommittedEntry {
    let op = Op { kind: 0, key: key.to_owned().into(), value: value.to_owned().into(), expires_at_ms: 0 };
    let body = CommandBody::Txn(Txn { compares: vec![], ops: vec![op] });
    let commands = vec![Command { fence_term: 0, body: Some(body) }];
    CommittedEntry { index, term: 1, payload: Payload::Commands(Batch { commands }.to_bytes()) }
}

#[test]
fn the_state_comes_back_as_of_the_last_flush_and_never_half() {
    let temp = tempfile::tempdir().unwrap();
    let range = KeyRange::prefix(b"");
    {
        let (_folder, _, state) = open(temp.path());
        state.apply(&[put(1, "a", "1"), put(2, "b", "1")]).unwrap();
        assert_eq!((state.durable(), state.flush().unwrap(), state.durable()), (0, 2, 2));
        state.apply(&[put(3, "c", "1")]).unwrap();
        assert_eq!(state.range(&range, None, 9).unwrap().0.items.len(), 3);
        assert_eq!(state.range(&range, Some(3), 9).unwrap().0.items.len(), 2);
        assert_eq!(state.events(&range, 1, usize::MAX).unwrap().0.len(), 3);
        // Closing RocksDB would flush by itself; a process that is killed does not close.
        std::mem::forget(state);
    }
    // The lock went with the folder; RocksDB's own is still held by the state that was forgotten.
    let copy = tempfile::tempdir().unwrap();
    for name in ["log", "state"] {
        std::fs::create_dir(copy.path().join(name)).unwrap();
        for file in std::fs::read_dir(temp.path().join(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(name).join(file.file_name())).unwrap();
        }
    }
    let (_folder, _, state) = open(copy.path());
    assert_eq!((state.applied_index(), state.revision(), state.durable()), (2, 3, 2));
    assert_eq!(state.range(&range, None, 9).unwrap().0.items.len(), 2);
    state.apply(&[put(3, "c", "1")]).unwrap();
    assert_eq!(state.get(b"c", None).unwrap().unwrap().mod_revision, 4);
}

#[test]
fn a_folder_in_use_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("made/on/the/way");
    let first = DataFolder::acquire(&path).unwrap();
    let error = DataFolder::acquire(&path).unwrap_err();
    assert!(matches!(error, FolderError::InUse(_)));
    assert_eq!(error.to_string(), format!("data folder {} is in use by another process", path.display()));
    drop(first);
    DataFolder::acquire(&path).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = DataFolder::acquire(&file.join("data")).unwrap_err();
    assert!(error.to_string().starts_with(&format!("data folder {}: ", file.join("data").display())), "{error}");
}

/// The newest write-ahead log of the log database.
fn wal(path: &std::path::Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(path.join("log")).unwrap().map(|file| file.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect();
    logs.sort();
    logs.pop().unwrap()
}

fn three_entries() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let (_folder, log, _) = open(temp.path());
    for index in 1..=3 {
        log.append(&batch([(index, 1)])).unwrap();
    }
    temp
}

#[test]
fn a_torn_tail_of_the_log_is_tolerated() {
    for torn in [1, 20, 40] {
        let temp = three_entries();
        let path = wal(temp.path());
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length - torn).unwrap();
        let (_folder, log, _) = open(temp.path());
        assert_eq!(log.state().unwrap().last_index, 2, "{torn} bytes torn off");
        log.append(&batch([(3, 2)])).unwrap();
    }
}

#[test]
fn a_corrupt_middle_of_the_log_is_refused() {
    let temp = three_entries();
    let path = wal(temp.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let second = bytes.windows(7).position(|window| window == b"entry 2").unwrap();
    bytes[second] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let folder = DataFolder::acquire(temp.path()).unwrap();
    let error = folder.open(&RocksConfig::default()).err().unwrap();
    assert!(matches!(error, FolderError::Log { .. }), "{error}");
    assert!(error.to_string().contains("Corruption"), "{error}");
}

#[test]
fn a_received_state_takes_the_place_of_the_old_one_for_good() {
    use std::io::{Read, Write};
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_other, _, sender) = open(from.path());
    sender.apply(&[put(1, "kept", "value")]).unwrap();
    sender.apply(&[put(2, "other", "more")]).unwrap();
    let names = |path: &std::path::Path| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter(|name| name.starts_with("state") || name.starts_with("copy")).collect();
        names.sort();
        names
    };
    let mut bytes = Vec::new();
    {
        let mut source = sender.snapshot().unwrap();
        sender.apply(&[put(3, "too-late", "value")]).unwrap();
        assert_eq!(names(from.path()).len(), 2, "a copy is there while it is read");
        source.read_to_end(&mut bytes).unwrap();
    }
    assert_eq!(names(from.path()), ["state"]);
    let receive = |state: &StateDb| {
        let mut sink = state.stage().unwrap();
        sink.write_all(&bytes).unwrap();
        sink.finish().unwrap()
    };
    let check = |state: &StateDb| {
        assert_eq!(state.applied().index, 2);
        assert!(state.get(b"kept", None).unwrap().is_some() && state.get(b"mine", None).unwrap().is_none());
    };
    {
        let (_folder, _, state) = open(to.path());
        state.apply(&[put(1, "mine", "value")]).unwrap();
        drop(state.stage().unwrap());
        assert_eq!(names(to.path()), ["state"], "what was not finished leaves nothing");
        assert_eq!(receive(&state).index, 2);
        assert!(state.get(b"mine", None).unwrap().is_some());
    }
    {
        let (_folder, _, state) = open(to.path());
        assert_eq!((state.applied().index, names(to.path())), (1, vec!["state".to_owned()]), "staged is not installed");
        receive(&state);
        state.install(2).unwrap();
        check(&state);
        assert_eq!(names(to.path()).len(), 1, "the old one is gone");
    }
    let (_folder, _, state) = open(to.path());
    check(&state);
    assert_ne!(names(to.path()), ["state"]);
}
