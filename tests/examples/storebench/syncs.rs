//! How often members sync, counted by strace in a run of its own. With a filter in the kernel only these calls are stopped,
//! so that the run is nearly as fast as one without; what is asked is how many puts share a sync.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Fallible;

/// Whatever brings a file's bytes to the disk.
const CALLS: &str = "trace=fdatasync,fsync,sync_file_range,msync,syncfs,sync";

/// The file with the trace of a member.
fn file(trace: &Path, at: usize) -> PathBuf {
    trace.with_extension(at.to_string())
}

/// What goes before a member's command.
pub fn tracer(trace: &Path, at: usize) -> Vec<String> {
    let file = file(trace, at).to_string_lossy().into_owned();
    ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", CALLS, "-o", &file].map(str::to_owned).to_vec()
}

/// The calls of each member within a time, by name, counted when they began. A call that others interrupt has two lines.
pub fn count(trace: &Path, members: usize, from: f64, until: f64) -> Fallible<Vec<BTreeMap<String, u64>>> {
    let mut all = Vec::new();
    for at in 0..members {
        let file = file(trace, at);
        let mut calls = BTreeMap::new();
        for line in std::fs::read_to_string(&file)?.lines() {
            // 4711  1763705370.123456 fdatasync(7) = 0
            let mut words = line.split_whitespace().skip(1);
            let (time, call) = (words.next().and_then(|word| word.parse::<f64>().ok()), words.next());
            let name = call.and_then(|call| call.split_once('(')).map(|(name, _)| name);
            if let (Some(time), Some(name)) = (time, name)
                && (from..until).contains(&time)
            {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
        }
        std::fs::remove_file(&file)?;
        all.push(calls);
    }
    Ok(all)
}

/// The most puts that these syncs of the members can have made durable, with so many clients that wait for each of theirs.
/// Each put needs a sync of a majority before it is acknowledged, and when a sync is done no more puts wait than there are
/// clients.
pub fn puts_max(calls: &[BTreeMap<String, u64>], clients: usize) -> u64 {
    let majority = calls.len() as u64 / 2 + 1;
    // One more of each member, that began before the time and ended in it.
    let syncs = calls.iter().flat_map(BTreeMap::values).sum::<u64>() + calls.len() as u64;
    syncs * clients as u64 / majority
}
