//! When things go wrong around the process: a full disk, images that are missing or end, a container runtime that dies.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use navarch_tests::server::Server;
use navarch_tests::{Cluster, eventually, must, traces_of};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A file system of its own in memory, as small as one likes.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Makes one, or says why not on a machine where that is not possible.
    fn new(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "navarch-test"]).arg(folder.path());
        let output = mount.output().unwrap();
        if !output.status.success() {
            assert!(std::env::var_os("CI").is_none(), "cannot mount: {}", navarch_tests::describe(&output));
            println!("skipped: cannot mount");
            return None;
        }
        Some(Self { folder })
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Writes until not a byte more is taken.
    fn fill(&self) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        let mut piece = vec![0x5a; 1 << 20];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

/// What is known of writes by their answers.
#[derive(Default)]
struct Ledger {
    created: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// There was no answer.
    unknown: BTreeSet<String>,
}

impl Ledger {
    /// Creates something of many kilobytes and notes what was answered.
    fn create(&mut self, server: &Server, name: &str) -> (u16, Value) {
        let text = "x".repeat(40_000);
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"text":"{text}"}}}}"#
        );
        let (code, answer) = server.post(CONFIG_MAPS, "application/json", &body);
        let noted = match code {
            201 => &mut self.created,
            0 => &mut self.unknown,
            _ => &mut self.refused,
        };
        noted.insert(name.to_owned());
        (code, answer)
    }

    /// Deletes something that was created and notes what was answered.
    fn delete(&mut self, server: &Server, name: &str) {
        let output = server.kubectl_command(&["delete", "configmap", name]).output().unwrap();
        self.created.remove(name);
        if !output.status.success() {
            self.unknown.insert(name.to_owned());
        }
    }

    /// Everything that was acknowledged is there, whole, and nothing that was refused.
    fn check(&self, server: &Server) {
        let list = server.kubectl(&["get", "configmaps", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut there = BTreeSet::new();
        for item in list["items"].as_array().unwrap() {
            let name = item["metadata"]["name"].as_str().unwrap();
            if name != "kube-root-ca.crt" {
                assert_eq!(item["data"]["text"].as_str().map(str::len), Some(40_000), "{name}");
                there.insert(name.to_owned());
            }
        }
        let lost: Vec<_> = self.created.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let extra = there.iter().find(|name| !self.created.contains(*name) && !self.unknown.contains(*name));
        assert_eq!(extra, None, "refused and there");
    }
}

/// Makes room, starts the server again if it ended, and checks that all is well.
fn recover(server: &mut Server, disk: &Disk, ledger: &mut Ledger, round: &str) {
    if !server.runs() {
        assert!(server.log().contains("the store failed; ending the process"), "{}", server.log());
    }
    disk.make_room();
    if !server.runs() {
        server.run();
    }
    ledger.check(server);
    eventually("there is room again", || {
        let (code, answer) = ledger.create(server, &format!("after-{round}-{}", ledger.refused.len()));
        if code == 201 { Ok(()) } else { Err(answer["message"].to_string()) }
    });
    server.kill();
    server.run();
    ledger.check(server);
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_kept() {
    let Some(disk) = Disk::new(96) else { return };
    let mut server = Server::start_in(tempfile::tempdir_in(disk.folder.path()).unwrap());
    let mut ledger = Ledger::default();
    for round in ["one", "two"] {
        for number in 0..5 {
            let (code, answer) = ledger.create(&server, &format!("before-{round}-{number}"));
            assert_eq!(code, 201, "{answer}");
        }
        disk.fill();
        for number in 0..10 {
            if number == 5 {
                // The reserve that was given back for deletes is used up too.
                disk.fill();
            }
            let (code, answer) = ledger.create(&server, &format!("during-{round}-{number}"));
            assert_eq!(code, 500, "{answer}");
            assert_eq!(answer["kind"], "Status");
            assert_eq!(answer["reason"], "InternalError");
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains("nearly full") && message.contains("NOSPACE"), "{message}");
        }
        // Reads go on, and deletes as long as the log has room for them.
        ledger.check(&server);
        for number in 0..5 {
            ledger.delete(&server, &format!("before-{round}-{number}"));
        }
        recover(&mut server, &disk, &mut ledger, round);
    }
}

#[test]
fn a_disk_that_fills_up_under_writes_loses_none_of_them() {
    let Some(disk) = Disk::new(48) else { return };
    let mut server = Server::start_in(tempfile::tempdir_in(disk.folder.path()).unwrap());
    let mut ledger = Ledger::default();
    for round in ["one", "two", "three"] {
        std::thread::scope(|scope| {
            let filling = scope.spawn(|| disk.fill());
            let mut number = 0;
            while !filling.is_finished() || number % 8 != 0 {
                ledger.create(&server, &format!("{round}-{number}"));
                number += 1;
            }
        });
        recover(&mut server, &disk, &mut ledger, round);
    }
}

/// Text that does not get smaller when it is compressed.
fn noise(bytes: usize, seed: &mut u64) -> String {
    let letter = |_| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(*seed >> 58) as usize])
    };
    (0..bytes).map(letter).collect()
}

#[test]
fn a_disk_that_is_full_of_objects_gets_room_by_deleting_some_of_them() {
    let Some(disk) = Disk::new(256) else { return };
    let mut server = Server::start_in(tempfile::tempdir_in(disk.folder.path()).unwrap());
    // Of the days before.
    let snapshots = ["20260101", "20260102"].map(|day| {
        let folder = server.data_dir().join("snapshots");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{day}T000000Z-r0000000000000007.snapshot"));
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        path
    });
    let (mut seed, mut number) = (1, 0);
    // A few of almost a megabyte each; the server's answer to the first one that it does not take.
    let mut create = |server: &Server, count| {
        let maps = (0..count).map(|_| {
            number += 1;
            let (metadata, data) = (json!({"name": format!("c{number}")}), json!({"text": noise(900_000, &mut seed)}));
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": maps.collect::<Vec<_>>()});
        let output = server.kubectl_with(&["create", "--validate=false", "-f", "-"], &list.to_string());
        if output.status.success() { Ok(()) } else { Err(navarch_tests::describe(&output)) }
    };
    let names = |server: &Server| {
        let table = server.kubectl(&["get", "configmaps", "--no-headers"]);
        let names = table.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
        names.filter(|name| name != "kube-root-ca.crt").collect::<Vec<_>>()
    };
    // The log gives way too, and what is left of the disk fills up then.
    let why = eventually("the disk is full, and a snapshot has given way", || match create(&server, 10) {
        Ok(()) => Err("it has room".into()),
        Err(why) if snapshots.iter().all(|path| path.exists()) => Err(why),
        Err(why) => Ok(why),
    });
    assert!(why.contains("NOSPACE"), "{why}");
    let (gone, stay): (Vec<_>, Vec<_>) = names(&server).into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    assert!(gone.len() > 30, "{} are not much for such a disk", gone.len() + stay.len());
    // Every second one: no file of values is all dead.
    let gone: Vec<&str> = gone.iter().map(|(_, name)| name.as_str()).collect();
    server.kubectl(&[&["delete", "configmap", "--wait=false"], gone.as_slice()].concat());
    eventually("there is room again", || create(&server, 1));
    assert!(server.runs(), "{}", server.log());
    assert_eq!(
        snapshots.each_ref().map(|path| path.exists()),
        [false, true],
        "the oldest gives way, and not the newest"
    );
    let there = names(&server);
    assert!(stay.iter().all(|(_, name)| there.contains(name)), "{there:?}");
    assert_eq!(there.len(), stay.len() + 1);
}

/// A pod whose container runs `command` from an image.
fn pod(name: &str, image: &str, pull: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - name: main\n    image: {image}\n    imagePullPolicy: {pull}\n    \
         command: [sh, -c, '{command}']\n"
    )
}

fn apply(cluster: &Cluster, document: &str) {
    let file = cluster.folder().join("document");
    std::fs::write(&file, document).unwrap();
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
}

/// Applies a pod that runs, and waits for it.
fn start(cluster: &Cluster, name: &str) {
    apply(cluster, &pod(name, "shop/busybox:1", "Never", "sleep 3600"));
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
}

fn container(cluster: &Cluster, pod: &str) -> Result<Value, String> {
    Ok(cluster.get(&["pod", pod])?["status"]["containerStatuses"][0].clone())
}

/// Waits until the container waits for this reason; returns what it says.
fn until_waiting(cluster: &Cluster, pod: &str, reason: &str) -> Value {
    eventually(&format!("{pod} waits because of {reason}"), || {
        let status = container(cluster, pod)?;
        if status["state"]["waiting"]["reason"] == reason { Ok(status) } else { Err(status.to_string()) }
    })
}

/// Waits until there is an event of this reason about the pod whose message contains the text.
fn until_event(cluster: &Cluster, pod: &str, reason: &str, text: &str) {
    let of_pod = format!("involvedObject.name={pod},reason={reason}");
    eventually(&format!("{reason} is told of {pod}"), || {
        let events = cluster.get(&["events", "--field-selector", &of_pod])?;
        let mut messages = events["items"].as_array().unwrap().iter().filter_map(|event| event["message"].as_str());
        if messages.any(|message| message.contains(text)) { Ok(()) } else { Err(events.to_string()) }
    });
}

#[test]
fn images_that_are_missing_or_end_are_told_and_touch_no_other_pod() {
    let cluster = Cluster::start("images", &[]);
    start(&cluster, "steady");
    let steady = container(&cluster, "steady").unwrap();
    apply(&cluster, &pod("never", "shop/missing:9", "Never", "true"));
    apply(&cluster, &pod("unreachable", "127.0.0.1:1/shop/missing:9", "IfNotPresent", "true"));
    apply(&cluster, &pod("crashes", "shop/busybox:1", "Never", "echo going; exit 3"));

    let never = until_waiting(&cluster, "never", "ErrImageNeverPull");
    let message = "Container image \"shop/missing:9\" is not present with pull policy of Never";
    assert_eq!(never["state"]["waiting"]["message"], message);
    assert_eq!(never["restartCount"], 0);
    until_event(&cluster, "never", "ErrImageNeverPull", message);

    let image = "\"127.0.0.1:1/shop/missing:9\"";
    until_event(&cluster, "unreachable", "Pulling", &format!("Pulling image {image}"));
    until_event(&cluster, "unreachable", "Failed", &format!("Failed to pull image {image}: "));
    until_event(&cluster, "unreachable", "Failed", "Error: ErrImagePull");
    until_event(&cluster, "unreachable", "BackOff", &format!("Back-off pulling image {image}"));
    let backing_off = until_waiting(&cluster, "unreachable", "ImagePullBackOff");
    let said = backing_off["state"]["waiting"]["message"].as_str().unwrap();
    assert!(said.starts_with(&format!("Back-off pulling image {image}")), "{said}");
    assert!(said.contains("connection refused"), "{said}");
    for name in ["never", "unreachable"] {
        assert_eq!(cluster.get(&["pod", name]).unwrap()["status"]["phase"], "Pending");
    }

    let crashed = until_waiting(&cluster, "crashes", "CrashLoopBackOff");
    assert_eq!(crashed["lastState"]["terminated"]["exitCode"], 3, "{crashed}");
    assert_eq!(crashed["lastState"]["terminated"]["reason"], "Error");
    let said = crashed["state"]["waiting"]["message"].as_str().unwrap();
    assert!(said.contains("restarting failed container=main pod=crashes_default"), "{said}");
    until_event(&cluster, "crashes", "BackOff", "Back-off restarting failed container main in pod crashes_default");
    eventually("it is started again and again", || {
        let status = container(&cluster, "crashes")?;
        if status["restartCount"].as_u64() >= Some(3) { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(cluster.kubectl(&["logs", "crashes", "--previous"]), "going\n");
    assert_eq!(container(&cluster, "steady").unwrap(), steady, "a pod beside them is as it was");
}

#[test]
fn pods_run_on_without_containerd_and_new_ones_start_when_it_is_back() {
    let cluster = Cluster::start("runtime", &[]);
    start(&cluster, "steady");
    let before = container(&cluster, "steady").unwrap();
    let file = cluster.data_dir().join("containerd/containerd.pid");
    let pid = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    for round in 0..2 {
        let killed = pid();
        must(Command::new("kill").args(["-9", &killed]));
        let name = format!("new-{round}");
        start(&cluster, &name);
        assert_ne!(pid(), killed);
        let after = container(&cluster, "steady").unwrap();
        assert_eq!(after["containerID"], before["containerID"]);
        assert_eq!(after["restartCount"], 0);
        assert_eq!(after["ready"], true);
        assert_eq!(cluster.kubectl(&["exec", "steady", "--", "echo", "here"]), "here\n");
        assert_eq!(container(&cluster, &name).unwrap()["restartCount"], 0);
    }
    let nodes = cluster.get(&["nodes"]).unwrap();
    let conditions = nodes["items"][0]["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"), "{conditions:?}");
    cluster.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
}

/// The shims of the cluster's containerd.
fn shims(cluster: &Cluster) -> Vec<String> {
    let pattern = format!("^[^ ]*containerd-shim.*{}", cluster.folder().display());
    let found = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn reset_ends_pods_whose_shim_does_not_answer() {
    let cluster = Cluster::start("mute", &[]);
    start(&cluster, "mute");
    let shims = shims(&cluster);
    assert_eq!(shims.len(), 1);
    must(Command::new("kill").arg("-STOP").args(&shims));
    must(&mut cluster.navarch(&["reset", "--yes"]));
    assert_eq!(traces_of(cluster.folder()), Vec::<String>::new());
}

#[test]
fn down_ends_pods_whose_containerd_hangs() {
    let cluster = Cluster::start("hangs", &[]);
    start(&cluster, "one");
    cluster.kill();
    let pid = std::fs::read_to_string(cluster.data_dir().join("containerd/containerd.pid")).unwrap();
    must(Command::new("kill").args(["-STOP", pid.trim()]));
    must(&mut cluster.navarch(&["down"]));
    assert_eq!(traces_of(cluster.folder()), Vec::<String>::new());
}

#[test]
fn reset_ends_pods_that_containerd_does_not_know() {
    let cluster = Cluster::start("lost", &[]);
    start(&cluster, "one");
    start(&cluster, "two");
    // The agent would start containerd again.
    cluster.kill();
    let base = cluster.data_dir().join("containerd");
    let pid = std::fs::read_to_string(base.join("containerd.pid")).unwrap();
    must(Command::new("kill").args(["-9", pid.trim()]));
    let tasks = base.join("state/io.containerd.runtime.v2.task");
    std::fs::rename(&tasks, tasks.with_extension("lost")).unwrap();
    assert_eq!(shims(&cluster).len(), 2);
    must(&mut cluster.navarch(&["reset", "--yes"]));
    assert_eq!(traces_of(cluster.folder()), Vec::<String>::new());
}
