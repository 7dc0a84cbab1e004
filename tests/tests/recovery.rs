//! Snapshots in files, and a cluster that lost its quorum.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Output;

use navarch_tests::members::{Members, Options};
use navarch_tests::{describe, eventually, must};
use serde_json::Value;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn value(members: &Members, by: usize) -> Result<(String, u64), String> {
    let path = "jsonpath={.data.k} {.metadata.resourceVersion}";
    let text = members.kubectl(by, &["get", "configmap", "kept", "-o", path])?;
    let (value, revision) = text.split_once(' ').ok_or_else(|| text.clone())?;
    Ok((value.to_owned(), revision.parse().map_err(|_| text.clone())?))
}

#[test]
fn a_snapshot_is_checked_and_restored_with_newer_revisions() {
    let mut members = Members::start_with("save", 1, Options::default());
    members.kubectl(0, &["create", "configmap", "kept", "--from-literal=k=v"]).unwrap();
    let before = value(&members, 0).unwrap();
    let (good, bad) = (members.folder().join("good.snap"), members.folder().join("bad.snap"));
    must(members.navarch(0, &["snapshot", "save"]).arg(&good));
    must(members.navarch(0, &["snapshot", "verify"]).arg(&good));
    let missing = members.folder().join("missing/good.snap");
    let output = members.navarch(0, &["snapshot", "save"]).arg(&missing).output().unwrap();
    assert!(said(&output).contains("missing/good.snap"), "{}", describe(&output));
    let seen = must(members.navarch(0, &["snapshot", "inspect"]).arg(&good));
    assert!(seen.contains("configmaps"), "{seen}");
    let mut bytes = std::fs::read(&good).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bad, &bytes).unwrap();
    for command in ["verify", "inspect", "restore"] {
        let output = members.navarch(0, &["snapshot", command]).arg(&bad).output().unwrap();
        assert!(!output.status.success(), "{command}: {}", describe(&output));
    }
    // A folder that holds a cluster is not written over.
    let output = members.navarch(0, &["snapshot", "restore"]).arg(&good).output().unwrap();
    assert!(!output.status.success(), "{}", describe(&output));
    assert_eq!(value(&members, 0).unwrap(), before);

    // What is written after the snapshot is not in it, and no revision is ever given again.
    members.kubectl(0, &["create", "configmap", "later"]).unwrap();
    let at = members.kubectl(0, &["get", "configmap", "later", "-o", "jsonpath={.metadata.resourceVersion}"]).unwrap();
    members.stop(0);
    std::fs::remove_dir_all(members.data_dir(0)).unwrap();
    must(members.navarch(0, &["snapshot", "restore"]).arg(&good));
    members.run(0);
    let (kept, revision) = value(&members, 0).unwrap();
    assert_eq!(kept, "v");
    assert!(revision > at.parse().unwrap(), "{revision} after {at}");
    let gone = members.kubectl(0, &["get", "configmap", "later"]).unwrap_err();
    assert!(gone.contains("NotFound"), "{gone}");
}

#[test]
fn a_cluster_without_a_quorum_is_recovered_from_one_member_and_never_with_one() {
    let mut members = Members::start("lost", 3);
    members.kubectl(0, &["create", "configmap", "kept", "--from-literal=k=v"]).unwrap();
    let before = value(&members, 0).unwrap();
    let output = members.navarch(0, &["recover", "--yes"]).output().unwrap();
    assert!(said(&output).contains("stop it first"), "{}", describe(&output));
    // With this one the two others are more than a quorum; with one of them it is one still.
    members.kill(0);
    for _ in 0..2 {
        let output = members.navarch(0, &["recover", "--yes"]).output().unwrap();
        assert!(said(&output).contains("a quorum lives"), "{}", describe(&output));
        if members.runs(1) {
            members.kill(1);
        }
    }
    // A member that is paused may be one that no longer takes its peers' connections.
    members.signal(2, "-STOP");
    members.deaf(2, 6444);
    let output = members.navarch(0, &["recover", "--yes"]).output().unwrap();
    assert!(said(&output).contains("a quorum lives"), "{}", describe(&output));
    members.kill(2);
    // Somebody else at its address is not it, but that must be said.
    let mut other = members.command(2, "busybox").args(["httpd", "-f", "-p", "6443"]).spawn().unwrap();
    let recover =
        |lost: &[&str]| members.navarch(0, &[&["recover", "--output", "json"], lost].concat()).output().unwrap();
    eventually("it is found", || {
        let told: Value = serde_json::from_slice(&recover(&[]).stdout).unwrap();
        if told["quorumLives"] == true { Ok(()) } else { Err(told.to_string()) }
    });
    let told: Value = serde_json::from_slice(&recover(&["--lost", "3"]).stdout).unwrap();
    assert_eq!(told["quorumLives"], false, "{told}");
    assert!(said(&recover(&["--lost", "7"])).contains("--lost 7"));
    other.kill().unwrap();
    other.wait().unwrap();
    // Nobody is there to confirm.
    let output = members.navarch(0, &["recover"]).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{}", describe(&output));
    let told = must(&mut members.navarch(0, &["recover", "--yes"]));
    assert!(told.contains("what may be lost") && told.contains("recovered"), "{told}");
    members.run(0);
    let (kept, revision) = value(&members, 0).unwrap();
    assert_eq!(kept, "v");
    assert!(revision > before.1);
    members.kubectl(0, &["create", "configmap", "after"]).unwrap();
    // The others are members of another cluster now: they are not let in, and new ones are.
    members.launch(1);
    let new = members.join();
    eventually("the new one has everything", || members.kubectl(new, &["get", "configmap", "after"]).map(drop));
    let status = members.status(0).unwrap();
    let ids: Vec<u64> = status["members"].as_array().unwrap().iter().filter_map(|m| m["id"].as_u64()).collect();
    assert_eq!(ids, [1, 4]);
}
