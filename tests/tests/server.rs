//! A control plane as kubectl sees it, and what it does when things go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::process::{Command, Stdio};

use navarch_tests::server::{Server, free_port};
use navarch_tests::{binary, describe, eventually};

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: blue\n";

#[test]
fn objects_are_created_read_changed_and_deleted() {
    let server = Server::start();
    assert!(server.kubectl_with(&["apply", "-f", "-"], CONFIG_MAP).status.success());
    assert_eq!(server.kubectl(&["get", "cm", "settings", "-o", "jsonpath={.data.colour}"]), "blue");
    let again = server.kubectl_with(&["apply", "-f", "-"], CONFIG_MAP);
    assert!(String::from_utf8_lossy(&again.stdout).contains("unchanged"), "{}", describe(&again));
    let changed = server.kubectl_with(&["apply", "-f", "-"], &CONFIG_MAP.replace("blue", "green"));
    assert!(String::from_utf8_lossy(&changed.stdout).contains("configured"), "{}", describe(&changed));
    server.kubectl(&["patch", "cm", "settings", "--type=merge", "-p", "{\"data\":{\"size\":\"7\"}}"]);
    server.kubectl(&["label", "cm", "settings", "team=a"]);
    server.kubectl(&["annotate", "cm", "settings", "note=b"]);
    assert_eq!(server.kubectl(&["get", "cm", "-l", "team=a", "-o", "name"]), "configmap/settings\n");
    let data = server.kubectl(&["get", "cm", "settings", "-o", "jsonpath={.data}"]);
    assert_eq!(data, "{\"colour\":\"green\",\"size\":\"7\"}");
    server.kubectl(&["delete", "cm", "settings"]);
    assert!(server.refused(&["get", "cm", "settings"], "").contains("configmaps \"settings\" not found"));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut server = Server::start();
    for round in 0..3 {
        for n in 0..5 {
            let document = CONFIG_MAP.replace("settings", &format!("kept-{round}-{n}"));
            assert!(server.kubectl_with(&["create", "-f", "-"], &document).status.success());
        }
        server.kill();
        server.run();
        let kept = server.kubectl(&["get", "cm", "-n", "default", "-o", "name"]);
        assert_eq!(kept.lines().filter(|line| line.contains("kept-")).count(), (round + 1) * 5, "{kept}");
    }
    assert!(server.stop().success(), "{}", server.log());
    server.run();
    assert!(server.kubectl(&["get", "cm", "-o", "name"]).contains("kept-2-4"));
}

#[test]
fn one_folder_has_one_server_and_one_port_one_listener() {
    let server = Server::start();
    let second = server.command().output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    let expected = format!("is in use by another navarch process (pid {})", server.pid());
    assert!(said.contains(&expected), "{said}");

    let taken = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["server", "--set", "server.bind_address=127.0.0.1", "--data-dir"]).arg(folder.path().join("data"));
    command.arg("--set").arg(format!("server.port={}", taken.local_addr().unwrap().port()));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {}", taken.local_addr().unwrap())), "{said}");
    assert_eq!(server.kubectl(&["get", "--raw", "/readyz"]), "ok");
}

#[test]
fn as_many_files_can_be_open_as_the_machine_allows() {
    let mut command = Command::new("prlimit");
    let folder = tempfile::tempdir().unwrap();
    command.args(["--nofile=300:4000", "--"]).arg(binary()).args(["server", "--set", "server.bind_address=127.0.0.1"]);
    command.args(["--set", &format!("server.port={}", free_port()), "--set", "server.peer_port=0", "--data-dir"]);
    let mut server = command.arg(folder.path().join("data")).stdin(Stdio::null()).spawn().unwrap();
    let limits = format!("/proc/{}/limits", server.id());
    let raised = std::panic::catch_unwind(|| {
        eventually("the limit is raised", || {
            let text = std::fs::read_to_string(&limits).map_err(|error| error.to_string())?;
            let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
            if line.split_whitespace().nth(3) == Some("4000") { Ok(()) } else { Err(line) }
        });
    });
    server.kill().unwrap();
    server.wait().unwrap();
    raised.unwrap();
}

#[test]
fn whoever_asks_where_no_cluster_is_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["status", "tree"] {
        let output = Command::new(binary()).arg(command).arg("--data-dir").arg(folder.path()).output().unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("--data-dir"), "{}", describe(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was made");
}

#[test]
fn unknown_settings_are_refused_by_name() {
    let output = Command::new(binary()).args(["server", "--set", "server.prot=1"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("prot"), "{}", describe(&output));
}
