//! Members of either kind as processes, pinned to a processor, each run in folders of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Channel;
use crate::{Fallible, certs, rpc};

/// How long members may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Etcd,
    Navarch,
}

impl Side {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Navarch => "navarch",
        }
    }
}

/// Where things are, and which processors are whose.
#[derive(Clone, Debug)]
pub struct Place {
    /// Data of members goes below it.
    pub dir: PathBuf,
    pub certs: PathBuf,
    pub etcd: PathBuf,
    /// For the servers, as `taskset -c` takes it; empty: any.
    pub server_cpus: String,
    /// For the load.
    pub load_cpus: String,
}

/// A command on these processors only. `before` comes in front of the program: a tracer.
pub fn pinned(cpus: &str, before: &[String], program: &Path) -> Command {
    let mut words: Vec<std::ffi::OsString> = Vec::new();
    if !cpus.is_empty() {
        words.extend(["taskset", "-c", cpus].map(Into::into));
    }
    words.extend(before.iter().map(Into::into));
    words.push(program.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Processor time that a process has used in all its threads, microseconds.
pub fn cpu_micros(pid: u32) -> Fallible<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).ok_or("/proc: no times");
    // In hundredths of a second, whatever the kernel's own clock is.
    Ok((ticks(11)? + ticks(12)?) * 10_000.0)
}

fn free_ports(count: usize) -> Fallible<Vec<u16>> {
    // All at once, so that none is given twice.
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}

/// Running members. Dropping them kills them and removes their data.
pub struct Members {
    children: Vec<Child>,
    traced: bool,
    folder: PathBuf,
    pub endpoints: Vec<SocketAddr>,
}

fn etcd(place: &Place, before: &[String], folder: &Path, at: usize, clients: &[u16], peers: &[u16]) -> Command {
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    let all = peers.iter().enumerate().map(|(at, port)| format!("m{}={}", at + 1, url(*port)));
    let file = |name: &str| place.certs.join(name);
    let mut command = pinned(&place.server_cpus, before, &place.etcd);
    command.args(["--name", &format!("m{}", at + 1), "--initial-cluster-state", "new", "--log-level", "error"]);
    command.arg("--data-dir").arg(folder).args(["--initial-cluster", &all.collect::<Vec<_>>().join(",")]);
    command.args(["--listen-client-urls", &url(clients[at]), "--advertise-client-urls", &url(clients[at])]);
    command.args(["--listen-peer-urls", &url(peers[at]), "--initial-advertise-peer-urls", &url(peers[at])]);
    command.arg("--cert-file").arg(file("server.crt")).arg("--key-file").arg(file("server.key"));
    command.arg("--trusted-ca-file").arg(file("ca.crt")).arg("--client-cert-auth");
    command.arg("--peer-cert-file").arg(file("server.crt")).arg("--peer-key-file").arg(file("server.key"));
    command.arg("--peer-trusted-ca-file").arg(file("ca.crt")).arg("--peer-client-cert-auth");
    // Two gigabytes, the default, end before a long run does.
    command.arg("--quota-backend-bytes=8589934592");
    command
}

fn navarch(
    place: &Place,
    before: &[String],
    folder: &Path,
    at: usize,
    clients: &[u16],
    peers: &[u16],
) -> Fallible<Command> {
    let mut command = pinned(&place.server_cpus, before, &std::env::current_exe()?);
    let ports: Vec<String> = peers.iter().map(u16::to_string).collect();
    command.args(["serve", "--member", &(at + 1).to_string(), "--port", &clients[at].to_string()]);
    command.arg("--data").arg(folder).arg("--certs").arg(&place.certs).args(["--peer-ports", &ports.join(",")]);
    Ok(command)
}

async fn takes_a_put(endpoint: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> Fallible<()> {
    let put = rpc::PutRequest { key: "ready".into(), ..rpc::PutRequest::default() };
    let channel = Channel::connect(endpoint, tls).await?;
    channel.call::<rpc::PutResponse>(rpc::PUT, &put).await?;
    Ok(())
}

impl Members {
    /// Starts a new cluster of so many and waits until each of them takes a put. With a trace file, each runs under strace
    /// and writes what [`crate::syncs`] reads.
    pub fn start(place: &Place, side: Side, count: usize, trace: Option<&Path>) -> Fallible<Self> {
        let folder = place.dir.join("data");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let ports = free_ports(2 * count)?;
        let (clients, peers) = ports.split_at(count);
        let endpoints = clients.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
        let mut members = Self { children: Vec::new(), traced: trace.is_some(), folder, endpoints };
        for at in 0..count {
            let before = trace.map(|trace| crate::syncs::tracer(trace, at)).unwrap_or_default();
            let own = members.folder.join((at + 1).to_string());
            let mut command = match side {
                Side::Etcd => etcd(place, &before, &own, at, clients, peers),
                Side::Navarch => navarch(place, &before, &own, at, clients, peers)?,
            };
            let log = std::fs::File::create(place.dir.join(format!("{}-{}.log", side.name(), at + 1)))?;
            members.children.push(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        }
        members.until_ready(place)?;
        Ok(members)
    }

    fn until_ready(&mut self, place: &Place) -> Fallible<()> {
        let tls = certs::client_config(&place.certs)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deadline = Instant::now() + PATIENCE;
        for endpoint in self.endpoints.clone() {
            while let Err(error) = runtime.block_on(takes_a_put(endpoint, &tls)) {
                for child in &mut self.children {
                    if let Some(status) = child.try_wait()? {
                        return Err(format!("a member ended: {status}; see its log in {}", place.dir.display()).into());
                    }
                }
                if Instant::now() > deadline {
                    return Err(format!("{endpoint} does not serve: {error}").into());
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// The processes of the members themselves.
    pub fn pids(&self) -> Fallible<Vec<u32>> {
        let own = |child: &Child| -> Fallible<u32> {
            if !self.traced {
                return Ok(child.id());
            }
            // strace has one child.
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
            Ok(children.split_whitespace().next().ok_or("strace runs nothing")?.parse()?)
        };
        self.children.iter().map(own).collect()
    }

    /// Asks them to stop, waits, and removes their data.
    pub fn stop(mut self) -> Fallible<()> {
        for pid in self.pids()? {
            Command::new("kill").arg(pid.to_string()).status()?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.children.is_empty() && Instant::now() < deadline {
            self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            std::thread::sleep(POLL);
        }
        // What is left is killed as it is dropped.
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // A tracer that is killed lets its program go on: that one first.
        for pid in self.pids().unwrap_or_default() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
