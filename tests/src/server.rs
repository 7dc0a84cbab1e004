//! A control plane alone, on loopback: no root, no containers.

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, binary, describe};

/// A running `navarch server`.
pub struct Server {
    folder: TempDir,
    /// What belongs to the test: never on the server's disk.
    files: TempDir,
    port: u16,
    child: Option<Child>,
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one in a folder of its own and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Starts one in this folder and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_in(folder: TempDir) -> Self {
        let mut server = Self { folder, files: tempfile::tempdir().unwrap(), port: free_port(), child: None };
        server.run();
        server
    }

    /// The command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("server").arg("--data-dir").arg(self.data_dir());
        command.args(["--set", "server.bind_address=127.0.0.1", "--set", "server.peer_port=0", "--set"]);
        command.arg(format!("server.port={}", self.port));
        command.stdin(Stdio::null()).env("NAVARCH_FAULTS", "1");
        command
    }

    /// Starts it, again after [`Server::kill`].
    ///
    /// # Panics
    /// If it does not serve in time.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.files.path().join("log")).unwrap();
        let mut child = self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mark = self.data_dir().join("run").join(format!("api-ready.{}", child.id()));
        let deadline = Instant::now() + PATIENCE;
        while !mark.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the server ended: {}", self.log());
            assert!(Instant::now() < deadline, "the server does not serve: {}", self.log());
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        self.child = Some(child);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.files.path().join("log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether its process is still there.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop and waits. Returns how it ended.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("it runs");
        crate::must(Command::new("kill").arg(child.id().to_string()));
        child.wait().unwrap()
    }

    /// kubectl against it.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", self.data_dir().join("admin.kubeconfig"));
        command.env("HOME", self.files.path()).stdin(Stdio::null());
        command
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.kubectl_command(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}\nlog: {}", describe(&output), self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl with a document on its standard input.
    pub fn kubectl_with(&self, args: &[&str], document: &str) -> Output {
        let file = self.files.path().join("document");
        std::fs::write(&file, document).unwrap();
        let mut command = self.kubectl_command(args);
        command.stdin(std::fs::File::open(file).unwrap()).output().unwrap()
    }

    /// curl with the administrator's certificate, over one HTTP/1.1 connection. The arguments name whole URLs: see
    /// [`Server::url`].
    ///
    /// # Panics
    /// If there is no kubeconfig.
    pub fn curl(&self) -> Command {
        let file = |name: &str| self.files.path().join(name);
        if !file("client.key").exists() {
            let text = self.kubectl(&["config", "view", "--raw", "-o", "json"]);
            let config: Value = serde_json::from_str(&text).unwrap();
            let write = |name: &str, encoded: &Value| {
                std::fs::write(file(name), BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap()).unwrap();
            };
            let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
            write("ca.pem", &cluster["certificate-authority-data"]);
            write("client.pem", &user["client-certificate-data"]);
            write("client.key", &user["client-key-data"]);
        }
        let mut command = Command::new("curl");
        command.args(["-sS", "--http1.1", "--max-time", "60"]).stdin(Stdio::null());
        command.arg("--cacert").arg(file("ca.pem")).arg("--cert").arg(file("client.pem"));
        command.arg("--key").arg(file("client.key"));
        command
    }

    /// The whole URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// POSTs a body and returns the code and what was answered; code 0 if there was no answer.
    pub fn post(&self, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let file = self.files.path().join("body");
        std::fs::write(&file, body).unwrap();
        let mut command = self.curl();
        command.args(["-H", &format!("content-type: {content_type}"), "-H", "expect:", "-w", "\n%{http_code}"]);
        command.arg("--data-binary").arg(format!("@{}", file.display())).arg(self.url(path));
        let text = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
        let (answer, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), serde_json::from_str(answer).unwrap_or_default())
    }

    /// Runs kubectl, which must fail, and returns what it said.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn refused(&self, args: &[&str], document: &str) -> String {
        let output = self.kubectl_with(args, document);
        assert!(!output.status.success(), "kubectl {args:?} succeeded: {}", describe(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
