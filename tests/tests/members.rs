//! Three members: any of them serves, and what was acknowledged survives any of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_tests::members::Members;
use navarch_tests::{describe, eventually, must};
use serde_json::{Value, json};

fn put(members: &Members, by: usize, name: &str) -> Result<String, String> {
    members.kubectl(by, &["create", "configmap", name, "--from-literal=by=x"])
}

/// Names of the ConfigMaps that a member knows, by a consistent read.
fn names(members: &Members, by: usize) -> Result<Vec<String>, String> {
    let text = members.kubectl(by, &["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])?;
    Ok(text.split(' ').filter(|name| name.starts_with("w-")).map(str::to_owned).collect())
}

/// How many servers a member tells clients of, and how many of them it has a connection to.
fn servers(members: &Members, by: usize) -> Result<(usize, usize), String> {
    let text = members.kubectl(by, &["get", "--raw", "/navarch/v1/servers"])?;
    let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let all = list["servers"].as_array().cloned().unwrap_or_default();
    Ok((all.len(), all.iter().filter(|server| server["live"] == true).count()))
}

fn tells(members: &Members, by: usize, expected: (usize, usize)) {
    eventually("clients are told of the servers", || {
        let told = servers(members, by)?;
        if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

fn put_until_acknowledged(members: &Members, by: usize, name: &str) {
    eventually("a write is acknowledged", || match put(members, by, name) {
        Err(error) if error.contains("AlreadyExists") => Ok(()),
        other => other.map(drop),
    });
}

fn endpoints(members: &Members, by: usize) -> Result<Vec<String>, String> {
    let text = members.kubectl(by, &["get", "endpoints", "kubernetes", "-o", "json"])?;
    let object: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let addresses = object["subsets"][0]["addresses"].as_array().cloned().unwrap_or_default();
    Ok(addresses.iter().filter_map(|address| address["ip"].as_str().map(str::to_owned)).collect())
}

#[test]
fn any_member_serves_and_the_leader_may_die() {
    let mut members = Members::start("trio", 3);
    // What is written by one is there for all at once.
    for by in 0..3 {
        put(&members, by, &format!("w-by-{by}")).unwrap();
        for reader in 0..3 {
            assert_eq!(names(&members, reader).unwrap().len(), by + 1, "member {reader}");
        }
    }
    let all: Vec<String> = (0..3).map(|member| members.address(member)).collect();
    eventually("the Service has all members", || {
        let present = endpoints(&members, 0)?;
        if present == all { Ok(()) } else { Err(format!("{present:?}")) }
    });
    (0..3).for_each(|by| tells(&members, by, (3, 3)));
    let mut expected = 3;
    for round in 0..3 {
        let other = (members.leader(0, None) + 1) % 3;
        let leader = members.leader(other, None);
        members.kill(leader);
        put_until_acknowledged(&members, other, &format!("w-after-{round}"));
        expected += 1;
        let next = members.leader(other, Some(leader));
        assert_ne!(next, leader);
        assert_eq!(names(&members, other).unwrap().len(), expected);
        eventually("the Service has the living members", || {
            let present = endpoints(&members, other)?;
            if present.len() == 2 { Ok(()) } else { Err(format!("{present:?}")) }
        });
        tells(&members, other, (3, 2));
        members.run(leader);
        assert_eq!(names(&members, leader).unwrap().len(), expected, "it has caught up before it serves");
    }
}

#[test]
fn a_paused_or_parted_leader_is_replaced_and_comes_back_as_a_follower() {
    let members = Members::start("pause", 3);
    put(&members, 0, "w-first").unwrap();
    let leader = members.leader(0, None);
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    members.signal(leader, "-STOP");
    put_until_acknowledged(&members, other, "w-paused");
    members.signal(leader, "-CONT");
    eventually("the one that woke up knows what happened", || {
        let known = names(&members, leader)?;
        if known.len() == 2 { Ok(()) } else { Err(format!("{known:?}")) }
    });
    assert_ne!(members.leader(leader, None), leader);

    let leader = members.leader(third, None);
    let other = (leader + 1) % 3;
    members.connect(leader, false);
    put_until_acknowledged(&members, other, "w-parted");
    // Cut off, it has no quorum: it must not acknowledge, nor answer a consistent read.
    let refused = members.kubectl(leader, &["create", "configmap", "w-lost", "--request-timeout=3s"]);
    assert!(refused.is_err(), "{refused:?}");
    eventually("the one that is cut off sends clients to the others", || match servers(&members, leader) {
        Err(error) if error.contains("unable to handle the request") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    members.connect(leader, true);
    eventually("the one that was cut off knows what happened", || {
        let known = names(&members, leader)?;
        if known.contains(&"w-parted".to_owned()) { Ok(()) } else { Err(format!("{known:?}")) }
    });
}

#[test]
fn a_dead_member_is_replaced_and_the_new_one_gets_a_snapshot() {
    let mut members = Members::start("replace", 3);
    // More than the log keeps: the new one cannot get all from the log.
    let filling = "x".repeat(30_000);
    let object = |number: u32| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w-{number}")}, "data": {"f": filling}});
    let all: Vec<Value> = (0..1500).map(object).collect();
    let file = members.folder().join("many.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string()).unwrap();
    members.kubectl(0, &["create", "-f", &file.to_string_lossy()]).unwrap();
    let leader = members.leader(0, None);
    let dead = (leader + 1) % 3;
    members.kill(dead);
    let alive = members.leader(leader, None);
    let id = (dead + 1).to_string();
    let said = members.navarch(alive, &["member", "remove", &id]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let new = members.join();
    eventually("the new one votes", || {
        let status = members.status(alive)?;
        let list = status["members"].as_array().cloned().unwrap_or_default();
        let votes = list.iter().any(|m| m["id"] == 4 && m["role"] == "voter");
        if votes && list.len() == 3 { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(names(&members, new).unwrap().len(), 1500);
    assert!(members.said(new, "installed a snapshot"), "{}", members.log(new));
    // A planned stop hands over, and the new one counts: with the dead one gone, two of three are needed.
    let leader = members.leader(alive, None);
    members.stop(leader);
    let other = if leader == new { alive } else { new };
    put_until_acknowledged(&members, other, "w-last");
}

/// Pods of a Deployment that are ready.
fn ready(members: &Members, by: usize) -> Result<u64, String> {
    let text = members.kubectl(by, &["get", "deployment", "page", "-o", "json"])?;
    let object: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(object["status"]["readyReplicas"].as_u64().unwrap_or(0))
}

fn until_ready(members: &Members, by: usize, replicas: u64) {
    members.kubectl(by, &["scale", "deployment/page", &format!("--replicas={replicas}")]).unwrap();
    eventually("so many pods are ready", || match ready(members, by)? {
        now if now == replicas => Ok(()),
        now => Err(format!("{now} ready")),
    });
}

#[test]
fn a_node_goes_on_with_other_members_than_the_one_it_joined_by() {
    let mut members = Members::start("roam", 3);
    let node = members.join_node(0);
    let container = json!({"name": "web", "image": "docker.io/shop/busybox:1", "imagePullPolicy": "Never",
        "command": ["sleep", "100000"]});
    let page = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "page"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "page"}},
            "template": {"metadata": {"labels": {"app": "page"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}}});
    let file = members.folder().join("page.json");
    std::fs::write(&file, page.to_string()).unwrap();
    members.kubectl(0, &["create", "-f", &file.to_string_lossy()]).unwrap();
    until_ready(&members, 0, 1);
    // One member after the other is away; the node is a node all the time.
    for (away, by, replicas) in [(0, 1, 2), (1, 2, 3), (2, 0, 2)] {
        members.kill(away);
        members.leader(by, Some(away));
        until_ready(&members, by, replicas);
        members.run(away);
    }
    // An agent that starts while the member it joined by is gone knows the others.
    members.kill(0);
    members.kill(node);
    members.run_agent(node);
    members.leader(1, Some(0));
    until_ready(&members, 1, 4);
    members.reset_node(node);
}

#[test]
fn members_leave_down_to_the_last_one_and_never_take_the_quorum_with_them() {
    let mut members = Members::start("leave", 3);
    let remove = |members: &Members, id: u64| {
        let output = members.navarch(0, &["member", "remove", &id.to_string()]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(describe(&output)) }
    };
    members.kill(2);
    eventually("the dead one is noticed", || {
        let status = members.status(0)?;
        let dead = status["members"].as_array().into_iter().flatten().find(|member| member["id"] == 3);
        if dead.is_some_and(|dead| dead["connected"] == false) { Ok(()) } else { Err(status.to_string()) }
    });
    // With one of three dead, the other living one has to stay; the dead one may go.
    let refused = remove(&members, 2).unwrap_err();
    assert!(refused.contains("there would be no quorum") && refused.contains("[3] cannot be reached"), "{refused}");
    remove(&members, 3).unwrap();
    // Of two that live, one goes by its own acknowledgement.
    remove(&members, 2).unwrap();
    eventually("the removed one ends", || if members.runs(1) { Err(members.log(1)) } else { Ok(()) });
    members.kubectl(0, &["create", "configmap", "alone"]).unwrap();
    let refused = remove(&members, 1).unwrap_err();
    assert!(refused.contains("member 1 is the last one with a vote"), "{refused}");
    // Whoever takes its place has to vote first.
    let token = must(&mut members.navarch(0, &["token", "create", "--role", "server"]));
    let server = format!("https://{}:6443", members.address(0));
    let args = ["join", "--prepare", "--replace", "1", "--token", token.trim(), "--node-name", "n", &server];
    let mut join = members.command(0, navarch_tests::binary());
    let output = join.args(args).arg("--data-dir").arg(members.folder().join("new")).output().unwrap();
    assert!(describe(&output).contains("the last one with a vote"), "{}", describe(&output));
    members.stop(0);
    members.run(0);
    assert!(members.kubectl(0, &["get", "configmaps", "-o", "name"]).unwrap().contains("configmap/alone"));
}

#[test]
fn reset_leaves_the_cluster_or_keeps_the_data() {
    let mut members = Members::start("reset", 3);
    // Also the first one, which never joined anything.
    must(&mut members.navarch(0, &["reset", "--yes"]));
    assert!(!members.data_dir(0).exists());
    eventually("the others are two", || {
        let status = members.status(1)?;
        let left = status["members"].as_array().map_or(0, Vec::len);
        if left == 2 && !members.runs(0) { Ok(()) } else { Err(status.to_string()) }
    });
    members.kill(2);
    eventually("the dead one is noticed", || match members.status(1) {
        Ok(status) if status["members"][1]["connected"] == false => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(why) => Err(why),
    });
    let kept = members.navarch(1, &["reset", "--yes"]).output().unwrap();
    assert!(!kept.status.success() && describe(&kept).contains("nothing was deleted"), "{}", describe(&kept));
    assert!(members.runs(1) && members.data_dir(1).join("store").exists());
    must(&mut members.navarch(1, &["reset", "--yes", "--force"]));
    assert!(!members.data_dir(1).exists());
}

#[test]
fn what_a_machine_was_told_when_it_joined_holds() {
    let mut members = Members::start("told", 1);
    let new = members.join_with(|own| vec!["--peer-address".to_owned(), format!("{own}:7000")]);
    let told = format!("{}:7000", members.address(new));
    let address = |members: &Members| {
        let status = members.status(0)?;
        let all = status["members"].as_array().ok_or("no members")?;
        let own = all.iter().find(|member| member["id"] == 2).ok_or("it is no member")?;
        Ok::<_, String>(own["peerAddress"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(address(&members).unwrap(), told);
    members.stop(new);
    // It is what it became, whatever is asked for now.
    let token = must(&mut members.navarch(0, &["token", "create", "--role", "server"]));
    let server = format!("https://{}:6443", members.address(0));
    for (wrong, value) in
        [("--role", "node"), ("--replace", "1"), ("--node-name", "m9"), ("--peer-address", "10.77.0.9:1")]
    {
        let args = ["join", "--prepare", "--token", token.trim(), wrong, value, &server];
        let output = members.navarch(new, &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&format!("{wrong} {value}: ")), "{}", describe(&output));
    }
    let args = ["join", "--prepare", "--token", token.trim(), "--role", "server", "--node-name", "m1", &server];
    must(&mut members.navarch(new, &args));
    members.run(new);
    members.kubectl(new, &["create", "configmap", "through-it"]).unwrap();
    assert_eq!(address(&members).unwrap(), told);
}
