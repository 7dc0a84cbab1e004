//! Reads a container's log as a client wants it: from a time or the last lines, with times, up to a number of bytes, and
//! on while the container runs. Blocks of text go into a bounded channel; whoever stops reading stops it.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::{files_of, parse};

/// What a client wants to see of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on while the container runs.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u64>,
    /// Only what is not older.
    pub since: Option<Timestamp>,
    /// The time before each line.
    pub timestamps: bool,
    /// No more than so many bytes.
    pub limit_bytes: Option<u64>,
    /// `Stdout` or `Stderr` alone.
    pub stream: Option<bool>,
}

/// How much is read at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Between looks at a file that grows.
const POLL: Duration = Duration::from_millis(100);

/// Turns lines of a log file into what the client sees.
#[derive(Debug)]
pub struct Filter {
    options: LogOptions,
    sent: u64,
    inside: bool,
}

impl Filter {
    /// For these options.
    pub fn new(options: LogOptions) -> Self {
        Self { options, sent: 0, inside: false }
    }

    /// One line of the file. Answers whether more is wanted.
    pub fn push(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(line) = parse(line) else { return true };
        if self.options.stream.is_some_and(|stderr| stderr != line.stderr) {
            return true;
        }
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return true;
        }
        let before = out.len();
        if self.options.timestamps && !self.inside {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        self.inside = line.partial;
        if !line.partial {
            out.push(b'\n');
        }
        let Some(limit) = self.options.limit_bytes else { return true };
        let room = usize::try_from(limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        if out.len() - before > room {
            out.truncate(before + room);
        }
        self.sent += (out.len() - before) as u64;
        self.sent < limit
    }
}

/// Reads a log into `sink` until it ends, the limit is reached, or nobody listens. `runs` says whether the container
/// still runs.
pub async fn read<F, Fut>(path: PathBuf, options: LogOptions, sink: mpsc::Sender<Bytes>, runs: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let mut files = files_of(&path);
    // Compressed or vanished ones are skipped when they cannot be opened.
    let current = files.pop();
    let mut filter = Filter::new(options.clone());
    let start = match options.tail {
        Some(lines) => tail_start(&path, lines).await,
        None => {
            for file in files {
                let Ok(mut file) = File::open(file).await else { continue };
                if !drain(&mut file, &mut filter, &sink, &mut Vec::new()).await {
                    return;
                }
            }
            0
        }
    };
    let Some(current) = current else { return };
    if options.tail == Some(0) && !options.follow {
        return;
    }
    let Ok(mut file) = File::open(&current).await else { return };
    if file.seek(SeekFrom::Start(start)).await.is_err() {
        return;
    }
    let mut rest = Vec::new();
    loop {
        let running = !options.follow || runs().await;
        if !drain(&mut file, &mut filter, &sink, &mut rest).await || !options.follow || !running {
            return;
        }
        tokio::select! {
            () = sink.closed() => return,
            () = tokio::time::sleep(POLL) => {}
        }
        if rotated(&file, &current).await {
            // What was written before the new file was opened is still to be read.
            if !drain(&mut file, &mut filter, &sink, &mut rest).await {
                return;
            }
            match File::open(&current).await {
                Ok(opened) => file = opened,
                Err(_) => continue,
            }
        }
    }
}

async fn rotated(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(open), Ok(named)) = (file.metadata().await, tokio::fs::metadata(path).await) else { return false };
    open.ino() != named.ino()
}

/// Reads to the end of the file. Answers whether more is wanted.
async fn drain(file: &mut File, filter: &mut Filter, sink: &mpsc::Sender<Bytes>, rest: &mut Vec<u8>) -> bool {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = match file.read(&mut block).await {
            Ok(0) | Err(_) => return true,
            Ok(read) => read,
        };
        rest.extend_from_slice(&block[..read]);
        let mut out = Vec::new();
        let mut more = true;
        let mut from = 0;
        while let Some(at) = rest[from..].iter().position(|byte| *byte == b'\n') {
            more = filter.push(&rest[from..from + at], &mut out);
            from += at + 1;
            if !more {
                break;
            }
        }
        rest.drain(..from);
        if !out.is_empty() && sink.send(Bytes::from(out)).await.is_err() {
            return false;
        }
        if !more {
            return false;
        }
    }
}

/// Where the last lines of a file begin.
async fn tail_start(path: &Path, lines: u64) -> u64 {
    let Ok(mut file) = File::open(path).await else { return 0 };
    let Ok(length) = file.seek(SeekFrom::End(0)).await else { return 0 };
    if lines == 0 {
        return length;
    }
    let (mut position, mut found) = (length, 0_u64);
    let mut block = vec![0; BLOCK_BYTES];
    while position > 0 {
        let size = position.min(BLOCK_BYTES as u64);
        position -= size;
        let part = &mut block[..usize::try_from(size).unwrap_or(BLOCK_BYTES)];
        if file.seek(SeekFrom::Start(position)).await.is_err() || file.read_exact(part).await.is_err() {
            return 0;
        }
        for (at, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let end_of_file = position + at as u64 + 1 == length;
            if end_of_file {
                continue;
            }
            found += 1;
            if found == lines {
                return position + at as u64 + 1;
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const LOG: &str = "2024-05-01T10:00:00Z stdout F one\n2024-05-01T10:00:01Z stdout P tw\n\
        2024-05-01T10:00:01Z stdout F o\n2024-05-01T10:00:02Z stderr F three\n";

    async fn run(options: LogOptions) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sink, mut source) = mpsc::channel(16);
        read(path, options, sink, || async { false }).await;
        let mut out = Vec::new();
        while let Some(block) = source.recv().await {
            out.extend_from_slice(&block);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let base = LogOptions::default();
        let since = Some("2024-05-01T10:00:02Z".parse().unwrap());
        let cases = [
            (base.clone(), "one\ntwo\nthree\n"),
            (LogOptions { tail: Some(1), ..base.clone() }, "three\n"),
            (LogOptions { tail: Some(0), ..base.clone() }, ""),
            (LogOptions { tail: Some(99), ..base.clone() }, "one\ntwo\nthree\n"),
            (LogOptions { since, ..base.clone() }, "three\n"),
            (LogOptions { limit_bytes: Some(5), ..base.clone() }, "one\nt"),
            (LogOptions { stream: Some(true), ..base.clone() }, "three\n"),
            (LogOptions { follow: true, ..base.clone() }, "one\ntwo\nthree\n"),
            (
                LogOptions { timestamps: true, ..base },
                "2024-05-01T10:00:00Z one\n2024-05-01T10:00:01Z two\n2024-05-01T10:00:02Z three\n",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(run(options.clone()).await, expected, "{options:?}");
        }
    }

    #[tokio::test]
    async fn rotated_files_come_first_and_following_goes_on_in_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let line = |text: &str| format!("2024-05-01T10:00:00Z stdout F {text}\n");
        std::fs::write(folder.path().join("0.log.20240501-100000"), line("old")).unwrap();
        std::fs::write(&path, line("current")).unwrap();
        let (sink, mut source) = mpsc::channel(16);
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let reader = tokio::spawn(read(path.clone(), options, sink, || async { true }));
        assert_eq!(source.recv().await.unwrap(), "old\n");
        assert_eq!(source.recv().await.unwrap(), "current\n");
        std::fs::rename(&path, folder.path().join("0.log.20240501-110000")).unwrap();
        std::fs::write(&path, line("new")).unwrap();
        assert_eq!(source.recv().await.unwrap(), "new\n");
        drop(source);
        reader.await.unwrap();
    }
}
