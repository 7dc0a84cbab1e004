//! Ends the helpers of a containerd of our own that can outlive it: the shims, which hold its containers, and imports of
//! images.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use sysinfo::{Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tracing::warn;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Kills the helpers that talk to a containerd's socket, and waits until they are gone. Their containers, if any run, pass to
/// init: whoever calls this kills them by their cgroup. Helpers in another mount namespace are those of another containerd,
/// whose socket has the same name there.
///
/// # Errors
/// If one is still there after five seconds.
pub async fn end(socket: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut system = System::new();
    loop {
        let wanted = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
        let left: Vec<_> = system.processes().values().filter(|process| is_of(process, socket)).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let left: Vec<_> = left.iter().map(|process| process.pid().as_u32()).collect();
            return Err(io::Error::other(format!("these helpers of containerd do not end: {left:?}")));
        }
        for process in left {
            warn!(pid = process.pid().as_u32(), "a helper was left by containerd; killing it");
            // One that has ended meanwhile is what is wanted.
            process.kill();
        }
        tokio::time::sleep(POLL).await;
    }
}

fn is_of(process: &Process, socket: &Path) -> bool {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    talks_to(process.cmd(), socket) && namespace(&process.pid().to_string()) == namespace("self")
}

/// Whether a command line is that of a helper which talks to `socket`. A zombie has none.
fn talks_to(command: &[OsString], socket: &Path) -> bool {
    let mut words = command.iter();
    let program = words.next().and_then(|word| Path::new(word).file_name()).unwrap_or_default();
    let flag = if program.as_bytes().starts_with(b"containerd-shim") {
        "-address"
    } else if program == "ctr" {
        "--address"
    } else {
        return false;
    };
    words.skip_while(|word| *word != flag).nth(1).map(OsString::as_os_str) == Some(socket.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_helpers_of_this_socket_are_found() {
        let is_ours = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            talks_to(&words, Path::new("/data/containerd.sock"))
        };
        let shim = |program, address| is_ours(&[program, "-namespace", "k8s.io", "-id", "a1", "-address", address]);
        assert!(shim("/usr/bin/containerd-shim-runc-v2", "/data/containerd.sock"));
        assert!(!shim("/usr/bin/containerd-shim-runc-v2", "/data2/containerd.sock"));
        assert!(!shim("/usr/bin/containerd-shim-runc-v2", "/data/containerd.sock.old"));
        assert!(!shim("/usr/bin/less", "/data/containerd.sock"));
        assert!(!is_ours(&["/usr/bin/containerd-shim-runc-v2", "-address"]));
        assert!(is_ours(&["ctr", "--address", "/data/containerd.sock", "images", "import", "a.tar"]));
        assert!(!is_ours(&["ctr", "--address", "/run/containerd.sock", "images", "import", "/data/containerd.sock"]));
        assert!(!is_ours(&[]));
    }
}
