//! A control plane as kubectl sees it, and what it does when things go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::process::{Command, Stdio};

use navarch_tests::server::{Server, free_port};
use navarch_tests::{binary, describe, eventually};

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: blue\n";

fn deployment(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  replicas: 2\n{extra}  selector:\n    \
         matchLabels: {{app: web}}\n  template:\n    metadata:\n      labels: {{app: web}}\n    spec:\n      \
         containers:\n      - name: web\n        image: web:1\n"
    )
}

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
fn every_kubectl_on_this_machine_applies_and_explains() {
    let server = Server::start();
    let found = Command::new("sh").args(["-c", "readlink -f \"$(command -v kubectl)\""]).output().unwrap();
    let main = std::path::PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let mut programs: Vec<_> = std::fs::read_dir(main.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl.1")))
        .collect();
    programs.push(main);
    let document = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(document.path(), deployment("web", "")).unwrap();
    for program in programs {
        let run = |args: &[&str]| {
            let mut command = Command::new(&program);
            command.args(args).env("KUBECONFIG", server.data_dir().join("admin.kubeconfig"));
            let output = command.env("HOME", server.data_dir()).stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{} {args:?}: {}", program.display(), describe(&output));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        run(&["apply", "-f", document.path().to_str().unwrap()]);
        let table = run(&["get", "deployments"]);
        assert!(table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE\n"), "{table}");
        assert!(run(&["describe", "deployment", "web"]).contains("Replicas:"), "{}", program.display());
        assert!(run(&["api-resources"]).contains("deployments"), "{}", program.display());
        assert!(run(&["explain", "deployment.spec.replicas"]).contains("replicas"), "{}", program.display());
        run(&["delete", "deployment", "web"]);
    }
}

#[test]
fn bad_input_is_refused_precisely_and_changes_nothing() {
    let server = Server::start();
    let create = |document: &str| server.refused(&["create", "-f", "-"], document);
    let unknown = create(&deployment("a", "  replicaz: 3\n"));
    assert!(unknown.contains("unknown field \"spec.replicaz\""), "{unknown}");
    let mistyped = create(&deployment("a", "").replace("replicas: 2", "replicas: many"));
    assert!(mistyped.contains("replicas"), "{mistyped}");
    let long = create(&deployment(&"a".repeat(300), ""));
    assert!(long.contains("metadata.name: Invalid value") && long.contains("must be no more than 253"), "{long}");
    let selector = create(&deployment("a", "").replace("labels: {app: web}", "labels: {app: other}"));
    assert!(selector.contains("`selector` does not match template `labels`"), "{selector}");
    let broken = server.refused(&["create", "-f", "-"], "kind: [\n");
    assert!(broken.contains("error"), "{broken}");
    assert_eq!(server.kubectl(&["get", "deployments", "-o", "name"]), "");
    let large = format!("{CONFIG_MAP}  large: {}\n", "x".repeat(3 << 20));
    let refused = server.refused(&["create", "-f", "-"], &large);
    assert!(refused.to_lowercase().contains("too large") || refused.contains("Too long"), "{refused}");
    assert!(!server.kubectl(&["get", "cm", "-o", "name"]).contains("settings"));
    let applied = server.refused(&["apply", "--server-side", "-f", "-"], CONFIG_MAP);
    assert!(applied.contains("not supported by this server"), "{applied}");
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
fn unknown_settings_are_refused_by_name() {
    let output = Command::new(binary()).args(["server", "--set", "server.prot=1"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("prot"), "{}", describe(&output));
}

#[test]
fn a_panic_in_a_supervised_child_restarts_only_that_child() {
    let server = Server::start();
    let armed = server.kubectl(&["get", "--raw", "/navarch/faults?arm=controllers/service-account=1"]);
    assert!(armed.starts_with("armed"), "{armed}");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: wakes-it\n";
    assert!(server.kubectl_with(&["create", "-f", "-"], namespace).status.success());
    eventually("the controller was restarted and did its work", || {
        let tree = server.kubectl(&["get", "--raw", "/navarch/tree"]);
        let restarted = tree.contains("fault point controllers/service-account");
        let accounts = server.kubectl(&["get", "serviceaccounts", "-n", "wakes-it", "-o", "name"]);
        if restarted && accounts.contains("serviceaccount/default") { Ok(()) } else { Err(tree) }
    });
    assert_eq!(server.kubectl(&["get", "--raw", "/readyz"]), "ok");
}
