//! Ends the shims of a containerd of our own: the processes that hold its containers and outlive it by design.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tracing::warn;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Kills the shims that report to a containerd's socket, and waits until they are gone. Their containers, if any run, pass to
/// init: whoever calls this kills them by their cgroup.
///
/// # Errors
/// If one is still there after five seconds.
pub async fn end(socket: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut system = System::new();
    loop {
        let wanted = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
        let left: Vec<_> = system.processes().values().filter(|process| is_shim_of(process.cmd(), socket)).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let left: Vec<_> = left.iter().map(|process| process.pid().as_u32()).collect();
            return Err(io::Error::other(format!("these containerd shims do not end: {left:?}")));
        }
        for process in left {
            warn!(pid = process.pid().as_u32(), "a shim was left by containerd; killing it");
            // One that has ended meanwhile is what is wanted.
            process.kill();
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a command line is that of a shim which reports to `socket`. A zombie has none.
fn is_shim_of(command: &[OsString], socket: &Path) -> bool {
    let mut words = command.iter();
    let program = words.next().and_then(|word| Path::new(word).file_name());
    program.is_some_and(|name| name.as_bytes().starts_with(b"containerd-shim"))
        && words.skip_while(|word| *word != OsStr::new("-address")).nth(1).map(OsString::as_os_str)
            == Some(socket.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_this_socket_are_found() {
        let is_ours = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            is_shim_of(&words, Path::new("/data/containerd.sock"))
        };
        let shim = |program, address| is_ours(&[program, "-namespace", "k8s.io", "-id", "a1", "-address", address]);
        assert!(shim("/usr/bin/containerd-shim-runc-v2", "/data/containerd.sock"));
        assert!(!shim("/usr/bin/containerd-shim-runc-v2", "/data2/containerd.sock"));
        assert!(!shim("/usr/bin/containerd-shim-runc-v2", "/data/containerd.sock.old"));
        assert!(!shim("/usr/bin/less", "/data/containerd.sock"));
        assert!(!is_ours(&["/usr/bin/containerd-shim-runc-v2", "-address"]));
        assert!(!is_ours(&[]));
    }
}
