//! Several members of one control plane, each in a network namespace of its own, on one bridge. No containers.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::{binary, describe, eventually, must};

/// How members are run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Settings, such as `server.store.retention_minutes=1`.
    pub settings: Vec<String>,
    /// Environment of their processes; `{member}` in a value is the member's number.
    pub environment: Vec<(String, String)>,
    /// A disk of so many MiB for each member's data, whose power can be cut.
    pub disk_mib: Option<u32>,
}

/// A control plane of several members. Dropping it removes everything.
pub struct Members {
    name: String,
    /// The machines' own disks, if they have any. They are unmounted before the folder is removed, in this order.
    disks: Vec<Disk>,
    folder: TempDir,
    options: Options,
    running: Vec<Option<Child>>,
    /// Ids in the cluster: a machine that joins again gets another one.
    ids: Vec<u64>,
    /// The machines that are nodes and no members.
    nodes: Vec<usize>,
}

impl Members {
    /// Makes the network for so many members, and starts them: the first, and the others by joining it.
    ///
    /// # Panics
    /// If something is missing or they do not get ready.
    pub fn start(name: &str, count: usize) -> Self {
        Self::start_with(name, count, Options::default())
    }

    /// As [`Members::start`], with options.
    ///
    /// # Panics
    /// As there.
    pub fn start_with(name: &str, count: usize, options: Options) -> Self {
        let name = format!("nv-{name}-{}", std::process::id());
        let folder = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let mut members =
            Self { name, folder, options, running: Vec::new(), ids: Vec::new(), nodes: Vec::new(), disks: Vec::new() };
        let ip = |args: &[&str]| must(Command::new("ip").args(args));
        let switch = members.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &switch, "addr", "add", "10.77.0.254/24", "dev", "bridge"]);
        ip(&["-n", &switch, "link", "set", "bridge", "up"]);
        members.add();
        members.run(0);
        for _ in 1..count {
            members.join();
        }
        eventually("all vote", || {
            let status = members.status(0)?;
            let votes = |m: &&Value| m["role"] == "leader" || m["role"] == "voter";
            let voters = status["members"].as_array().into_iter().flatten().filter(votes).count();
            if voters == count { Ok(()) } else { Err(status.to_string()) }
        });
        members
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }

    fn namespace(&self, member: usize) -> String {
        format!("{}-{member}", self.name)
    }

    /// The address of a member's machine.
    pub fn address(&self, member: usize) -> String {
        format!("10.77.0.{}", member + 1)
    }

    /// A machine more.
    fn add(&mut self) -> usize {
        let member = self.running.len();
        let (inside, switch) = (self.namespace(member), self.switch());
        let port = format!("port{member}");
        let ip = |args: &[&str]| must(Command::new("ip").args(args));
        ip(&["netns", "add", &inside]);
        ip(&["-n", &inside, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch]);
        ip(&["-n", &inside, "addr", "add", &format!("{}/24", self.address(member)), "dev", "eth0"]);
        ip(&["-n", &inside, "link", "set", "lo", "up"]);
        ip(&["-n", &inside, "link", "set", "eth0", "up"]);
        ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"]);
        ip(&["-n", &inside, "route", "add", "default", "via", "10.77.0.254"]);
        if let Some(size) = self.options.disk_mib {
            std::fs::create_dir(self.data_dir(member)).unwrap();
            let image = self.folder.path().join(format!("disk-{member}"));
            self.disks.push(Disk::new(image, &self.data_dir(member), size));
        }
        self.running.push(None);
        self.ids.push(member as u64 + 1);
        member
    }

    /// The calling thread is on the switch from now on, and with it all threads that it starts: it reaches the members as a
    /// client of theirs does.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn enter_network(&self) {
        let network = std::fs::File::open(format!("/run/netns/{}", self.switch())).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
    }

    /// A member's id in the cluster.
    pub fn id(&self, member: usize) -> u64 {
        self.ids[member]
    }

    /// How many machines there have been.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Drops what a machine gets from another, or lets it through again. Its own packets still leave.
    ///
    /// # Panics
    /// If that fails.
    pub fn block(&self, from: usize, to: usize, blocked: bool) {
        let nft = |text: &str| must(self.command(to, "nft").arg(text));
        nft("add table inet chaos");
        nft("add chain inet chaos in { type filter hook input priority 0; }");
        nft("flush chain inet chaos in");
        if blocked {
            nft(&format!("add rule inet chaos in ip saddr {} drop", self.address(from)));
        }
    }

    /// Drops what comes to a port of a machine from other machines: whoever connects hears nothing.
    ///
    /// # Panics
    /// If that fails.
    pub fn deaf(&self, member: usize, port: u16) {
        let nft = |text: &str| must(self.command(member, "nft").arg(text));
        nft("add table inet deaf");
        nft("add chain inet deaf in { type filter hook input priority 0; }");
        nft(&format!("add rule inet deaf in tcp dport {port} drop"));
    }

    /// Cuts a machine off, or connects it again.
    ///
    /// # Panics
    /// If that fails.
    pub fn connect(&self, member: usize, connected: bool) {
        let state = if connected { "up" } else { "down" };
        must(Command::new("ip").args(["-n", &self.switch(), "link", "set", &format!("port{member}"), state]));
    }

    /// Where a member keeps its data.
    pub fn data_dir(&self, member: usize) -> PathBuf {
        self.folder.path().join(member.to_string())
    }

    /// A command on a member's machine, as its administrator.
    pub fn command(&self, member: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(member))).arg(program);
        command.env("KUBECONFIG", self.data_dir(member).join("admin.kubeconfig")).env("HOME", self.folder.path());
        command
    }

    /// The navarch binary on a member's machine.
    pub fn navarch(&self, member: usize, args: &[&str]) -> Command {
        let mut command = self.command(member, binary());
        command.args(args).arg("--data-dir").arg(self.data_dir(member));
        command.args(self.options.settings.iter().flat_map(|setting| ["--set", setting]));
        let own = |value: &String| value.replace("{member}", &member.to_string());
        command.envs(self.options.environment.iter().map(|(name, value)| (name, own(value))));
        command
    }

    fn spawn(&mut self, member: usize, mut command: Command) {
        let path = self.folder.path().join(format!("{member}.log"));
        let log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.running[member] = Some(child);
    }

    /// Waits until a member that was launched serves.
    ///
    /// # Panics
    /// If it ends, or does not.
    pub fn until_serves(&mut self, member: usize) {
        let pid = self.running[member].as_ref().unwrap().id();
        let mark = self.data_dir(member).join("run").join(format!("api-ready.{pid}"));
        eventually("the member serves", || {
            assert!(self.runs(member), "member {member} ended: {}", self.log(member));
            if mark.exists() { Ok(()) } else { Err(self.log(member)) }
        });
    }

    /// Whether a member's process is there. One that has ended by itself is forgotten.
    pub fn runs(&mut self, member: usize) -> bool {
        let Some(child) = self.running[member].as_mut() else { return false };
        if child.try_wait().unwrap().is_some() {
            self.running[member] = None;
        }
        self.running[member].is_some()
    }

    /// Starts a member that is one already, without waiting for it: alone it may have no quorum.
    pub fn launch(&mut self, member: usize) {
        let command = self.navarch(member, &["server"]);
        self.spawn(member, command);
    }

    /// Starts a member that is one already.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn run(&mut self, member: usize) {
        self.launch(member);
        self.until_serves(member);
    }

    /// A machine with an empty disk takes the place of a member's, with that one's address.
    ///
    /// # Panics
    /// If the member still runs, or the new one does not serve.
    pub fn replace(&mut self, member: usize) {
        assert!(!self.runs(member), "it runs");
        let by = (0..self.running.len()).find(|other| self.running[*other].is_some()).unwrap();
        for entry in std::fs::read_dir(self.data_dir(member)).unwrap() {
            let path = entry.unwrap().path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.unwrap();
        }
        let token = must(&mut self.navarch(by, &["token", "create", "--role", "server"]));
        let (id, name, server) =
            (self.ids[member].to_string(), format!("m{member}"), format!("https://{}:6443", self.address(by)));
        let args = ["join", "--token", token.trim(), "--replace", &id, "--no-agent", "--node-name", &name, &server];
        let command = self.navarch(member, &args);
        self.spawn(member, command);
        self.until_serves(member);
        let joined = std::fs::read(self.data_dir(member).join("join.json")).unwrap();
        let joined: Value = serde_json::from_slice(&joined).unwrap();
        self.ids[member] = joined["memberId"].as_u64().unwrap();
    }

    /// A new machine joins, by the first of those that run. Returns its number.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn join(&mut self) -> usize {
        self.join_with(|_| Vec::new())
    }

    /// As [`Members::join`], with more options, which may hold the new machine's address.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn join_with(&mut self, more: impl FnOnce(&str) -> Vec<String>) -> usize {
        let by = self.running.iter().position(Option::is_some).unwrap();
        let token = must(&mut self.navarch(by, &["token", "create", "--role", "server"]));
        let member = self.add();
        let server = format!("https://{}:6443", self.address(by));
        let name = format!("m{member}");
        let mut command =
            self.navarch(member, &["join", "--token", token.trim(), "--no-agent", "--node-name", &name, &server]);
        command.args(more(&self.address(member)));
        self.spawn(member, command);
        self.until_serves(member);
        member
    }

    /// A new machine joins as a node, by this member, with images preloaded. Returns its number.
    pub fn join_node(&mut self, by: usize) -> usize {
        let token = must(&mut self.navarch(by, &["token", "create", "--role", "node"]));
        let machine = self.add();
        self.nodes.push(machine);
        crate::images::preload(&self.data_dir(machine).join("images"));
        let (name, server) = (format!("m{machine}"), format!("https://{}:6443", self.address(by)));
        let address = self.address(machine);
        let args = ["join", "--token", token.trim(), "--node-name", &name, "--node-ip", &address, &server];
        let command = self.navarch(machine, &args);
        self.spawn(machine, command);
        machine
    }

    /// Starts the agent of a machine that has joined as a node.
    pub fn run_agent(&mut self, machine: usize) {
        let command = self.navarch(machine, &["agent"]);
        self.spawn(machine, command);
    }

    /// Resets a machine that has joined as a node. Its agent may have been killed: its containers run on then.
    ///
    /// # Panics
    /// If that fails, or leaves a process or a mount behind.
    pub fn reset_node(&mut self, machine: usize) {
        if self.runs(machine) {
            self.kill(machine);
        }
        must(&mut self.navarch(machine, &["reset", "--yes"]));
        let left = crate::traces_of(&self.data_dir(machine));
        assert!(left.is_empty(), "reset left behind: {left:?}");
        self.nodes.retain(|node| *node != machine);
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How often a member has logged this.
    pub fn times_said(&self, member: usize, what: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join(format!("{member}.log")));
        log.map_or(0, |log| log.matches(what).count())
    }

    /// Whether a member has logged this.
    pub fn said(&self, member: usize, what: &str) -> bool {
        self.times_said(member, what) > 0
    }

    /// The end of a member's log.
    pub fn log(&self, member: usize) -> String {
        let log = std::fs::read_to_string(self.folder.path().join(format!("{member}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Sends a signal to a member's process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, member: usize, signal: &str) {
        let pid = self.running[member].as_ref().unwrap().id();
        must(Command::new("kill").args([signal, &pid.to_string()]));
    }

    /// Kills a member without warning.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, member: usize) {
        let mut child = self.running[member].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Cuts a member's power: it is gone, and with it all that it had not synced. Its disk is there again.
    ///
    /// # Panics
    /// If it has no disk of its own.
    pub fn cut_power(&mut self, member: usize) {
        if self.runs(member) {
            self.kill(member);
        }
        self.disks[member].cut_power();
    }

    /// Asks a member to stop, and waits until it has.
    ///
    /// # Panics
    /// If it does not stop well.
    pub fn stop(&mut self, member: usize) {
        self.signal(member, "-TERM");
        let status = self.running[member].take().unwrap().wait().unwrap();
        assert!(status.success(), "member {member}: {status}: {}", self.log(member));
    }

    /// What `navarch status` tells on a member's machine.
    ///
    /// # Errors
    /// What it says.
    pub fn status(&self, member: usize) -> Result<Value, String> {
        let output = self.navarch(member, &["status", "--json"]).output().unwrap();
        if !output.status.success() {
            return Err(describe(&output));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// Waits until a member knows a leader other than `but`, and returns its number.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn leader(&self, asked: usize, but: Option<usize>) -> usize {
        eventually("somebody leads", || {
            let status = self.status(asked)?;
            let leader = status["leader"].as_u64().and_then(|id| self.ids.iter().position(|other| *other == id));
            leader.filter(|leader| Some(*leader) != but).ok_or_else(|| status.to_string())
        })
    }

    /// Runs kubectl on a member's machine.
    ///
    /// # Errors
    /// What it says.
    pub fn kubectl(&self, member: usize, args: &[&str]) -> Result<String, String> {
        let output = self.command(member, "kubectl").args(args).stdin(Stdio::null()).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(describe(&output))
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for (member, child) in self.running.iter_mut().enumerate() {
            if let Some(child) = child {
                // Also one that was paused.
                let _ = child.kill();
                let _ = child.wait();
            }
            if std::thread::panicking() {
                let log = std::fs::read_to_string(self.folder.path().join(format!("{member}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                println!("member {member}:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        for machine in &self.nodes {
            let reset = self.navarch(*machine, &["reset", "--yes"]).output();
            if let Some(failed) = reset.as_ref().ok().filter(|output| !output.status.success()) {
                println!("reset left something behind: {}", describe(failed));
            }
        }
        for member in 0..self.running.len() {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(member)]).output();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.switch()]).output();
    }
}
