//! Machines join a cluster with a token, by the real program against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use navarch_tests::server::Server;
use navarch_tests::{binary, describe, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

const JOIN: &str = "/navarch/v1/join";

/// A server, and folders of other machines.
struct World {
    server: Server,
    files: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { server: Server::start(), files: tempfile::tempdir().unwrap() };
        let config: Value =
            serde_json::from_str(&world.server.kubectl(&["config", "view", "--raw", "-o", "json"])).unwrap();
        let ca = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
        std::fs::write(world.file("ca.pem"), BASE64_STANDARD.decode(ca).unwrap()).unwrap();
        world
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn token_command(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("token").args(args).arg("--data-dir").arg(self.server.data_dir()).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn token(&self, args: &[&str]) -> String {
        let output = self.token_command(args);
        assert!(output.status.success(), "{args:?}: {}", describe(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn join(&self, token: &str, machine: &str, more: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(["join", "--prepare", "--token", token, "--node-name", machine, "--node-ip", "10.1.2.3"]);
        command.arg(self.server.url("")).args(more).arg("--data-dir").arg(self.file(machine));
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn joined(&self, token: &str, machine: &str) -> PathBuf {
        let output = self.join(token, machine, &[]);
        assert!(output.status.success(), "{}\n{}", describe(&output), self.server.log());
        self.file(machine)
    }

    /// What a join that must fail says. It leaves nothing behind.
    fn refused(&self, token: &str, machine: &str, more: &[&str]) -> String {
        let output = self.join(token, machine, more);
        assert!(!output.status.success(), "{}", describe(&output));
        assert!(!self.file(machine).exists(), "something was written");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(token.rsplit('.').next().unwrap()), "the secret is shown: {said}");
        said
    }

    /// Posts with a bearer token and no certificate.
    fn post(&self, bearer: Option<&str>, body: &Value) -> (u16, Value) {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}", "-d", &body.to_string()]);
        command.arg("--cacert").arg(self.file("ca.pem")).arg(self.server.url(JOIN));
        if let Some(bearer) = bearer {
            command.args(["-H", &format!("authorization: Bearer {bearer}")]);
        }
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let (answer, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), serde_json::from_str(answer).unwrap_or_default())
    }

    fn whoami_by_token(&self, bearer: &str) -> Output {
        let mut command = Command::new("kubectl");
        command.args(["auth", "whoami", "-o", "json", "--token", bearer, "--server", &self.server.url("")]);
        command.arg("--certificate-authority").arg(self.file("ca.pem")).env("KUBECONFIG", "/dev/null");
        command.env("HOME", self.files.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn secret_of(&self, token: &str) -> String {
        format!("secret/bootstrap-token-{}", parts(token)[2])
    }
}

fn parts(token: &str) -> Vec<&str> {
    token.split('.').collect()
}

fn bearer(token: &str) -> String {
    let parts = parts(token);
    format!("{}.{}", parts[2], parts[3])
}

fn user(output: &Output) -> Value {
    assert!(output.status.success(), "{}", describe(output));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["status"]["userInfo"].clone()
}

fn whoami(kubeconfig: &Path) -> Value {
    let mut command = Command::new("kubectl");
    command.args(["auth", "whoami", "-o", "json"]).env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
    user(&command.output().unwrap())
}

#[test]
fn a_node_joins_with_a_token_and_is_itself_then() {
    let world = World::new();
    let token = world.token(&["create", "--role", "node", "--ttl", "2h", "--description", "for n2"]);
    assert_eq!(parts(&token).iter().map(|part| part.len()).collect::<Vec<_>>(), [3, 64, 6, 16], "{token}");
    let folder = world.joined(&token, "n2");
    let node = whoami(&folder.join("agent.kubeconfig"));
    assert_eq!(node["username"], "system:node:n2");
    assert!(node["groups"].as_array().unwrap().contains(&json!("system:nodes")), "{node}");
    let network: Value = {
        let mut command = Command::new("kubectl");
        command.args(["auth", "whoami", "-o", "json", "--context", "system:kube-proxy@navarch"]);
        user(&command.env("KUBECONFIG", folder.join("agent.kubeconfig")).output().unwrap())
    };
    assert_eq!(network["username"], "system:kube-proxy");
    let state: Value = serde_json::from_slice(&std::fs::read(folder.join("join.json")).unwrap()).unwrap();
    assert_eq!((&state["role"], &state["name"]), (&json!("node"), &json!("n2")));
    assert_eq!(state["settings"]["service_cidr"], "10.96.0.0/16");
    let mut command = Command::new("kubectl");
    command.args(["get", "--raw", "/navarch/v1/servers"]).env("KUBECONFIG", folder.join("agent.kubeconfig"));
    let output = command.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", describe(&output)));
    assert_eq!((&told["ready"], &told["clusterId"]), (&json!(true), &state["clusterId"]));
    assert_eq!(told["servers"].as_array().unwrap().len(), 1);
    let id = std::fs::read_to_string(world.server.data_dir().join("cluster-id")).unwrap();
    assert_eq!(state["clusterId"], id.trim());

    // Through the first server that answers.
    let mut command = Command::new(binary());
    command.args(["join", "--prepare", "--token", &token, "--node-name", "n4", "--node-ip", "10.1.2.4"]);
    command.args(["https://127.0.0.1:1", "--server", &world.server.url(""), "--data-dir"]).arg(world.file("n4"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && world.file("n4").join("join.json").exists(), "{}", describe(&output));

    // Others too, until it expires; and this machine again needs no token that is good.
    world.joined(&token, "n3");
    world.token(&["delete", &token]);
    let again = world.join(&token, "n2", &[]);
    assert!(
        again.status.success() && String::from_utf8_lossy(&again.stdout).contains("already"),
        "{}",
        describe(&again)
    );
    // A node's certificate is no way to the keys, nor to join others.
    let mut command = Command::new("kubectl");
    command.args(["create", "--raw", JOIN, "-f", "-"]).env("KUBECONFIG", folder.join("agent.kubeconfig"));
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot post path"), "{}", describe(&output));
}

#[test]
fn tokens_are_upstream_s_secrets_and_bearer_tokens() {
    let world = World::new();
    let token = world.token(&["create", "--role", "server", "--description", "the second"]);
    let listed = world.server.kubectl(&["get", "secrets", "-n", "kube-system"]);
    assert!(listed.contains("bootstrap.kubernetes.io/token"), "{listed}");
    let shown = world.token(&["list"]);
    assert!(shown.contains(parts(&token)[2]) && shown.contains("server") && shown.contains("the second"), "{shown}");
    assert!(!shown.contains(parts(&token)[3]), "{shown}");
    let user = user(&world.whoami_by_token(&bearer(&token)));
    assert_eq!(user["username"], format!("system:bootstrap:{}", parts(&token)[2]));
    let groups = json!(["system:bootstrappers", "system:bootstrappers:navarch:servers", "system:authenticated"]);
    assert_eq!(user["groups"], groups);
    // It may ask who it is, and join; nothing else.
    let mut command = Command::new("kubectl");
    command.args(["get", "secrets", "-A", "--token", &bearer(&token), "--server", &world.server.url("")]);
    command.arg("--certificate-authority").arg(world.file("ca.pem")).env("KUBECONFIG", "/dev/null");
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("forbidden"), "{}", describe(&output));
    let deleted = world.token(&["delete", parts(&token)[2]]);
    assert!(deleted.contains(parts(&token)[2]), "{deleted}");
    assert!(!world.whoami_by_token(&bearer(&token)).status.success());
    assert_eq!(world.token(&["list"]), "no tokens");
    for bad in
        [&["delete", "nonsense"][..], &["delete", "zzzzzz"], &["create", "--ttl", "0s"], &["create", "--role", "x"]]
    {
        assert!(!world.token_command(bad).status.success(), "{bad:?}");
    }
}

#[test]
fn what_is_over_or_deleted_or_of_another_cluster_is_refused() {
    let world = World::new();
    let token = world.token(&["create", "--ttl", "1h"]);
    let expired = json!({"stringData": {"expiration": "2020-01-01T00:00:00Z"}}).to_string();
    world.server.kubectl(&["patch", &world.secret_of(&token), "-n", "kube-system", "--type=merge", "-p", &expired]);
    let said = world.refused(&token, "n2", &[]);
    assert!(said.contains("deleted or has expired"), "{said}");
    assert_eq!(world.post(Some(&bearer(&token)), &json!({"role": "node"})).0, 401);
    eventually("the cleaner deletes the token", || match world.token(&["list"]).as_str() {
        "no tokens" => Ok(()),
        left => Err(left.to_owned()),
    });
    let token = world.token(&["create"]);
    world.token(&["delete", &token]);
    assert!(world.refused(&token, "n2", &[]).contains("deleted or has expired"));

    let token = world.token(&["create"]);
    let other = token.replace(parts(&token)[1], &"0".repeat(64));
    let said = world.refused(&other, "n2", &[]);
    assert!(said.contains("nothing was sent to it") && said.contains("not the one that the token names"), "{said}");
    assert!(world.refused("nv1.x.abcdef.0123456789abcdef", "n2", &[]).contains("--token: "));
    let invalid = world.refused(&token, "N_2", &[]);
    assert!(invalid.contains("(422)") && invalid.contains("name: Invalid value"), "{invalid}");
}

#[test]
fn the_keys_are_for_server_tokens_alone() {
    let world = World::new();
    let (node, server) = (world.token(&["create"]), world.token(&["create", "--role", "server"]));
    let wanted = json!({"role": "server", "name": "s2", "addresses": ["10.1.2.3"], "peerAddress": "10.1.2.3:6444",
                        "server": "https://10.1.2.3:6443"});
    let (code, status) = world.post(Some(&bearer(&node)), &wanted);
    assert_eq!((code, &status["kind"], &status["reason"]), (403, &json!("Status"), &json!("Forbidden")), "{status}");
    assert!(status["message"].as_str().unwrap().contains("the token is for joining as a node"), "{status}");
    assert!(world.refused(&node, "s2", &["--role", "server"]).contains("(403)"));
    let (code, status) = world.post(None, &wanted);
    assert_eq!((code, &status["reason"]), (401, &json!("Unauthorized")));
    // The administrator has other ways; this one is for tokens.
    assert_eq!(world.server.post(JOIN, "application/json", &wanted.to_string()).0, 403);
    let (code, status) = world.post(Some(&bearer(&server)), &json!({"role": "server", "name": "s2"}));
    assert_eq!(code, 422);
    let fields: Vec<_> = status["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert_eq!(json!(fields), json!(["addresses", "peerAddress", "server"]), "{status}");
    // Whoever may have the keys is a member from then on.
    let (code, answer) = world.post(Some(&bearer(&server)), &wanted);
    assert_eq!((code, &answer["memberId"]), (200, &json!(2)), "{}", answer["message"]);
    assert!(answer["secrets"].to_string().contains("PRIVATE"));
    let (code, status) = world.post(
        Some(&bearer(&server)),
        &json!({"role": "server", "name": "s2",
        "addresses": ["10.1.2.3"], "peerAddress": "10.1.2.3:7444", "server": "https://10.1.2.3:6443"}),
    );
    assert_eq!(code, 400, "a name is one member's: {status}");
}
