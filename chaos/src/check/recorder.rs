//! Records as lines of JSON, written while things happen: a call has its line before the request leaves, so that a harness
//! that dies leaves operations open instead of losing them.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    time::Instant,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::history::{Act, Answer, Answered, Operation, Seen, WatchLog};

/// One line about an operation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Call { id: u64, operation: Operation },
    Answer { id: u64, answered: Answered },
}

/// One line about a watcher.
#[derive(Debug, Serialize, Deserialize)]
struct Sight {
    watcher: String,
    prefix: String,
    seen: Seen,
}

/// Writes operations down from many threads, with times of one clock in nanoseconds.
pub struct Recorder<W> {
    start: Instant,
    inner: Mutex<Inner<W>>,
}

struct Inner<W> {
    out: W,
    next: u64,
}

/// A call that was written down and waits for its answer.
#[derive(Debug)]
#[must_use = "dropped, it stays open: as if no answer had come"]
pub struct Called(u64);

impl<W: Write> Recorder<W> {
    /// Writes to `out`. Each line is written whole, by one call.
    pub fn new(out: W) -> Self {
        Self { start: Instant::now(), inner: Mutex::new(Inner { out, next: 0 }) }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
    }

    /// To be called before the request leaves.
    pub fn call(&self, client: u64, key: impl Into<String>, act: Act) -> io::Result<Called> {
        let mut inner = self.inner.lock();
        let id = inner.next;
        inner.next += 1;
        let operation = Operation { client, key: key.into(), called: self.now(), act, answered: None };
        inner.line(&Line::Call { id, operation })?;
        Ok(Called(id))
    }

    /// To be called when the answer is there. `store`: the revision that a read was served from, if it was told.
    pub fn answer(&self, called: Called, what: Answer, store: Option<u64>) -> io::Result<()> {
        let answered = Answered { at: self.now(), what, store };
        self.inner.lock().line(&Line::Answer { id: called.0, answered })
    }

    /// A watcher came across something. Not to be mixed with operations in one file.
    pub fn seen(&self, watcher: &str, prefix: &str, seen: Seen) -> io::Result<()> {
        let sight = Sight { watcher: watcher.to_owned(), prefix: prefix.to_owned(), seen };
        self.inner.lock().line(&sight)
    }

    /// What it wrote to.
    pub fn into_inner(self) -> W {
        self.inner.into_inner().out
    }
}

impl<W: Write> Inner<W> {
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        write_line(&mut self.out, line)
    }
}

/// Writes one record of any kind.
pub fn write_line(out: &mut impl Write, record: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Reads records of one kind. A last line without its end was cut off by the writer's death and is left out.
pub fn read_lines<T: DeserializeOwned>(mut from: impl BufRead) -> io::Result<Vec<T>> {
    let (mut records, mut line) = (Vec::new(), Vec::new());
    while from.read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            break;
        }
        records.push(serde_json::from_slice(&line)?);
        line.clear();
    }
    Ok(records)
}

/// Puts the operations that a [`Recorder`] wrote together again, in order of their calls.
///
/// # Errors
/// If a line cannot be read, or answers what was never called, or what was answered before.
pub fn operations(from: impl BufRead) -> io::Result<Vec<Operation>> {
    let mut found = BTreeMap::new();
    for line in read_lines(from)? {
        let wrong = |what: &str, id: u64| io::Error::new(io::ErrorKind::InvalidData, format!("{what} {id}"));
        match line {
            Line::Call { id, operation } => match found.insert(id, operation) {
                None => {}
                Some(_) => return Err(wrong("called twice:", id)),
            },
            Line::Answer { id, answered } => {
                let operation: &mut Operation = found.get_mut(&id).ok_or_else(|| wrong("never called:", id))?;
                if operation.answered.replace(answered).is_some() {
                    return Err(wrong("answered twice:", id));
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Puts what watchers saw together again.
pub fn watch_logs(from: impl BufRead) -> io::Result<Vec<WatchLog>> {
    let mut logs: BTreeMap<String, WatchLog> = BTreeMap::new();
    for Sight { watcher, prefix, seen } in read_lines(from)? {
        let empty = || WatchLog { watcher: watcher.clone(), prefix: prefix.clone(), seen: Vec::new() };
        logs.entry(watcher.clone()).or_insert_with(empty).seen.push(seen);
    }
    Ok(logs.into_values().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn operations_come_back_as_they_were_and_open_ones_stay_open() {
        let recorder = Recorder::new(Vec::new());
        let first = recorder.call(1, "a", Act::Swap { expected: 3, value: "x".into() }).unwrap();
        let _open = recorder.call(2, "a", Act::Delete { expected: None }).unwrap();
        recorder.answer(first, Answer::Conflict { actual: Some(4) }, None).unwrap();
        let mut bytes = recorder.into_inner();
        bytes.extend_from_slice(b"{\"answer\":{\"id\":1,\"ans");
        let found = operations(bytes.as_slice()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].answered.as_ref().unwrap().what, Answer::Conflict { actual: Some(4) });
        assert!(found[0].answered.as_ref().unwrap().at >= found[1].called);
        assert_eq!(found[1].answered, None);
    }

    #[test]
    fn lines_that_cannot_be_are_refused() {
        let answer = br#"{"answer":{"id":1,"answered":{"at":1,"what":"held"}}}"#;
        assert!(operations([answer.as_slice(), b"\n"].concat().as_slice()).is_err());
        assert!(operations(b"nonsense\n".as_slice()).is_err());
    }

    #[test]
    fn watchers_come_back_by_name() {
        let recorder = Recorder::new(Vec::new());
        for (watcher, revision) in [("one", 1), ("two", 2), ("one", 3)] {
            recorder.seen(watcher, "a/", Seen::Bookmark { revision }).unwrap();
        }
        let logs = watch_logs(recorder.into_inner().as_slice()).unwrap();
        assert_eq!(logs.len(), 2);
        assert_eq!(logs[0].seen, [Seen::Bookmark { revision: 1 }, Seen::Bookmark { revision: 3 }]);
    }
}
