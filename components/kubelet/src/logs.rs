//! Containers' logs as the runtime writes them: a line is time, stream, `F` or `P`, and text. Reading, following, and
//! rotation.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub mod follow;
pub mod rotate;

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written.
    pub time: &'a str,
    /// Whether it is of stderr.
    pub stderr: bool,
    /// Whether it goes on in the next.
    pub partial: bool,
    /// The text.
    pub text: &'a [u8],
}

/// Reads one line, without its end. `None` if it is not of the format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // Tags are separated by colons; only the first is defined.
    let partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    time.parse::<Timestamp>().ok()?;
    Some(Line { time, stderr, partial, text: parts.next().unwrap_or_default() })
}

/// Up to so many bytes of a file; nothing if it cannot be read.
pub fn read_at_most(path: &Path, bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(bytes_max as u64).read_to_end(&mut out);
    }
    out
}

/// The end of a file, up to so many bytes.
fn read_tail(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut out = Vec::new();
    file.take(bytes_max).read_to_end(&mut out)?;
    Ok(out)
}

/// Upstream's limits for a termination message out of a log.
const MESSAGE_LOG_BYTES_MAX: usize = 2048;
const MESSAGE_LOG_LINES_MAX: usize = 80;

/// The last lines of a log, as a termination message.
pub fn tail_for_message(path: &Path) -> String {
    let Ok(tail) = read_tail(path, 64 << 10) else { return String::new() };
    let mut text: Vec<u8> = Vec::new();
    let lines: Vec<Line<'_>> = tail.split(|byte| *byte == b'\n').filter_map(parse).collect();
    for line in lines.iter().skip(lines.len().saturating_sub(MESSAGE_LOG_LINES_MAX)) {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let from = text.len().saturating_sub(MESSAGE_LOG_BYTES_MAX);
    String::from_utf8_lossy(&text[from..]).into_owned()
}

/// A log's rotated files, oldest first, and itself last.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(|name| name.to_string_lossy().into_owned()))
    else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut rotated: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    rotated.sort();
    rotated.push(path.to_path_buf());
    rotated
}

/// Removes a log and its rotated files.
pub fn remove(path: &Path) {
    if path.as_os_str().is_empty() {
        return;
    }
    for file in files_of(path) {
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn lines() {
        let line = parse(b"2024-05-01T10:00:00.123456789Z stdout F hello  world").unwrap();
        assert_eq!((line.stderr, line.partial, line.text), (false, false, &b"hello  world"[..]));
        let line = parse(b"2024-05-01T10:00:00.1+02:00 stderr P:x part").unwrap();
        assert_eq!((line.stderr, line.partial, line.text), (true, true, &b"part"[..]));
        assert_eq!(parse(b"2024-05-01T10:00:00Z stdout F ").unwrap().text, b"");
        assert_eq!(parse(b"2024-05-01T10:00:00Z stdout F").unwrap().text, b"");
        for bad in [
            "",
            "x",
            "2024-05-01T10:00:00Z",
            "2024-05-01T10:00:00Z stdin F a",
            "now stdout F a",
            "2024-05-01T10:00:00Z stdout Q a",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn message_out_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let lines: String = (0..100).map(|n| format!("2024-05-01T10:00:00Z stdout F line {n}\n")).collect();
        fs::write(&path, lines + "2024-05-01T10:00:00Z stderr P no\n2024-05-01T10:00:00Z stderr F end\n").unwrap();
        let text = tail_for_message(&path);
        assert!(text.starts_with("line 22\n"), "{text}");
        assert!(text.ends_with("line 99\nnoend\n"), "{text}");
        assert_eq!(tail_for_message(&folder.path().join("none")), "");
    }
}
