//! `navarch up --members 3`: three members of the control plane as processes of one machine.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Stdio};

use navarch_tests::{Cluster, describe, eventually, must};
use serde_json::Value;

fn status(cluster: &Cluster) -> Result<Value, String> {
    let output = cluster.navarch(&["status", "--json"]).output().unwrap();
    if !output.status.success() {
        return Err(describe(&output));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn until_votes(cluster: &Cluster, count: usize) {
    eventually("so many members vote", || {
        let status = status(cluster)?;
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let votes = members.iter().filter(|m| m["role"] == "leader" || m["role"] == "voter").count();
        if votes == count && members.len() == count { Ok(()) } else { Err(status.to_string()) }
    });
}

fn pid(cluster: &Cluster, member: u16) -> Option<u32> {
    let folder = if member == 1 { cluster.data_dir() } else { cluster.data_dir().join(format!("members/{member}")) };
    std::fs::read_to_string(folder.join("navarch.pid")).ok()?.trim().parse().ok()
}

fn runs(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
}

fn kubectl_of(cluster: &Cluster, port: u16, args: &[&str]) -> String {
    let server = format!("--server=https://127.0.0.1:{port}");
    must(cluster.command("kubectl").arg(server).args(args))
}

#[test]
fn three_members_run_on_one_machine() {
    let cluster = Cluster::stopped("up3", &[]);
    let refused = cluster.navarch(&["up", "--members", "2"]).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("must be 1, 3 or 5"), "{}", describe(&refused));
    println!("{}", must(&mut cluster.navarch(&["up", "--members", "3"])));
    until_votes(&cluster, 3);
    eventually("each says how it is", || {
        let status = status(&cluster)?;
        let room = |member: &Value| member.pointer("/reports/room") == Some(&Value::from("ample"));
        let all = status["members"].as_array().is_some_and(|members| members.iter().all(room));
        if all { Ok(()) } else { Err(status.to_string()) }
    });
    // Any of them serves; each has its own port.
    cluster.kubectl(&["create", "configmap", "before", "--from-literal=a=b"]);
    for port in [6443, 6445, 6447] {
        let names = kubectl_of(&cluster, port, &["get", "configmaps", "-o", "name"]);
        assert!(names.contains("configmap/before"), "{port}: {names}");
    }
    let role = cluster.kubectl(&["get", "nodes", "--no-headers"]);
    assert!(role.contains("control-plane"), "{role}");
    // Asked again, everything is there already; fewer is not what `up` does.
    let again = must(&mut cluster.navarch(&["up"]));
    assert!(again.contains("already running"), "{again}");
    let fewer = cluster.navarch(&["up", "--members", "1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&fewer.stderr).contains("navarch member remove"), "{}", describe(&fewer));

    // A member that was killed comes back with `up`, and the cluster worked without it.
    let killed = pid(&cluster, 2).unwrap();
    must(Command::new("kill").args(["-9", &killed.to_string()]));
    eventually("writes go on", || {
        let output = cluster.command("kubectl").args(["create", "configmap", "during"]).output().unwrap();
        let said = describe(&output);
        if output.status.success() || said.contains("AlreadyExists") { Ok(()) } else { Err(said) }
    });
    must(&mut cluster.navarch(&["up"]));
    assert!(kubectl_of(&cluster, 6445, &["get", "configmaps", "-o", "name"]).contains("configmap/during"));

    // A member that is removed ends by itself, and `up --members 3` makes another in its place.
    let removed = pid(&cluster, 3).unwrap();
    must(&mut cluster.navarch(&["member", "remove", "3"]));
    eventually("the removed member ends", || if runs(removed) { Err("it runs".to_owned()) } else { Ok(()) });
    until_votes(&cluster, 2);
    println!("{}", must(&mut cluster.navarch(&["up", "--members", "3"])));
    until_votes(&cluster, 3);

    // All of it stops, and starts again with what it had.
    let pids: Vec<u32> = (1..=3).filter_map(|member| pid(&cluster, member)).collect();
    assert_eq!(pids.len(), 3);
    println!("{}", must(&mut cluster.navarch(&["down"])));
    assert!(pids.iter().all(|pid| !runs(*pid)), "{pids:?}");
    println!("{}", must(&mut cluster.navarch(&["up"])));
    until_votes(&cluster, 3);
    assert!(cluster.kubectl(&["get", "configmaps", "-o", "name"]).contains("configmap/during"));
    all_killed_and_one_not_quite_gone(&cluster);
    for member in 1..=3 {
        must(Command::new("kill").args(["-9", &pid(&cluster, member).unwrap().to_string()]));
    }
    recovered_to_one_it_grows_again(&cluster);
    println!("{}", must(&mut cluster.navarch(&["reset", "--yes"])));
    assert!(!cluster.data_dir().exists());
}

/// Who is killed holds its files for a moment. `up` waits for its end, with the others started, and starts it again.
fn all_killed_and_one_not_quite_gone(cluster: &Cluster) {
    let killed: Vec<u32> = (1..=3).filter_map(|member| pid(cluster, member)).collect();
    must(Command::new("kill").arg("-9").args(killed.iter().map(u32::to_string)));
    eventually("they end", || if killed.iter().any(|pid| runs(*pid)) { Err("one runs".to_owned()) } else { Ok(()) });
    let held = std::fs::File::open(cluster.data_dir().join("members/2/navarch.pid")).unwrap();
    held.lock().unwrap();
    std::thread::scope(|scope| {
        let up = scope.spawn(|| must(&mut cluster.navarch(&["up"])));
        eventually("the others start", || match pid(cluster, 3) {
            Some(pid) if pid != killed[2] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        held.unlock().unwrap();
        println!("{}", up.join().unwrap());
    });
    assert!(kubectl_of(cluster, 6445, &["get", "configmaps", "-o", "name"]).contains("configmap/during"));
}

/// What is left of the other members belongs to the cluster that was: they are not waited for, and new ones take their place.
fn recovered_to_one_it_grows_again(cluster: &Cluster) {
    let told = eventually("the processes are gone", || {
        let output = cluster.navarch(&["recover", "--yes"]).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(describe(&output))
        }
    });
    for member in [2, 3] {
        let line = format!("members/{member} is marked as a removed member's");
        assert!(told.contains(&line), "{told}");
    }
    println!("{}", must(&mut cluster.navarch(&["up", "--members", "3"])));
    until_votes(cluster, 3);
    assert!(kubectl_of(cluster, 6447, &["get", "configmaps", "-o", "name"]).contains("configmap/during"));
}
