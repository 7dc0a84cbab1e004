//! System calls of a running process, seen or made to fail by strace.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::eventually;

/// strace, attached to a process until it is told to let go.
pub struct Tracer {
    child: Child,
    folder: TempDir,
}

impl Tracer {
    /// Attaches to every thread. `None` where there is no strace, which is not allowed in CI.
    ///
    /// # Panics
    /// If it cannot attach.
    pub fn attach(pid: u32, arguments: &[&str]) -> Option<Self> {
        if Command::new("strace").arg("-V").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "strace is not installed");
            println!("skipped: strace is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let said = std::fs::File::create(folder.path().join("said")).unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-tt"]).args(arguments).arg("-o").arg(folder.path().join("trace"));
        command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let tracer = Self { child: command.spawn().unwrap(), folder };
        let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path());
        eventually("every thread is traced", || {
            let untraced = |task: &PathBuf| {
                let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
                status.contains("TracerPid:\t0\n")
            };
            let left = threads().filter(untraced).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} threads are not: {}", tracer.said())) }
        });
        Some(tracer)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// Lets go, or finds that the process has ended, and returns what was seen.
    ///
    /// # Panics
    /// If there is no trace.
    pub fn detach(mut self) -> String {
        if self.child.try_wait().unwrap().is_none() {
            let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        }
        self.child.wait().unwrap();
        std::fs::read_to_string(self.folder.path().join("trace")).unwrap()
    }
}
