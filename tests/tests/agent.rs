//! A control plane and a node agent as two processes with nothing in common but a token.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use navarch_tests::{Cluster, describe, eventually, images, must};

const NODE: &str = "n2";
const ADDRESS: &str = "192.168.77.2";

const PAGE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: page}
spec:
  replicas: 1
  selector: {matchLabels: {app: page}}
  template:
    metadata: {labels: {app: page}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: docker.io/shop/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, \"mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www\"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: page}
spec:
  selector: {app: page}
  ports: [{port: 80, targetPort: 8080}]
";

/// A process of ours, ended with the test.
struct Process(Child);

impl Process {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The agent's own folder, of which nothing stays.
struct Agent<'a> {
    cluster: &'a Cluster,
    data_dir: PathBuf,
    process: Option<Process>,
}

impl<'a> Agent<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let data_dir = cluster.folder().join("agent-data");
        images::preload(&data_dir.join("images"));
        Self { cluster, data_dir, process: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cluster.command(navarch_tests::binary());
        command.args(args).arg("--data-dir").arg(&self.data_dir).args(["--set", &format!("agent.node_name={NODE}")]);
        command
    }

    fn start(&mut self, args: &[&str]) {
        let command = self.command(args);
        self.process = Some(Process::start(command, &self.cluster.folder().join("agent.log")));
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["server.log", "agent.log"] {
                let text = std::fs::read_to_string(self.cluster.folder().join(log)).unwrap_or_default();
                println!("{log}:\n{text}");
            }
        }
        self.process = None;
        let _ = self.command(&["reset", "--yes"]).output();
    }
}

fn serve(cluster: &Cluster) -> Process {
    let server = Process::start(cluster.navarch(&["server"]), &cluster.folder().join("server.log"));
    eventually("the API is ready", || {
        let output = cluster.command("kubectl").args(["get", "--raw", "/readyz"]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(describe(&output)) }
    });
    server
}

fn ready_replicas(cluster: &Cluster) -> Result<u64, String> {
    let deployment = cluster.get(&["deployment", "page"])?;
    Ok(deployment["status"]["readyReplicas"].as_u64().unwrap_or(0))
}

#[test]
fn a_node_of_its_own_runs_pods_and_outlives_the_control_plane() {
    let cluster = Cluster::stopped("agent", &[]);
    let mut server = serve(&cluster);
    let mut agent = Agent::new(&cluster);

    let missing = agent.command(&["agent", "--kubeconfig=/nowhere"]).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && said.contains("/nowhere: No such file"), "{said}");
    let administrator = agent.command(&["agent"]).output().unwrap();
    let said = String::from_utf8_lossy(&administrator.stderr).into_owned();
    assert!(said.contains("agent.kubeconfig is not set"), "{said}");

    let text = must(&mut cluster.navarch(&["kubeconfig", "--node", NODE, "--node-ip", ADDRESS]));
    let printed = cluster.folder().join("printed.kubeconfig");
    std::fs::write(&printed, text).unwrap();
    let user = must(cluster.command("kubectl").args(["auth", "whoami"]).env("KUBECONFIG", &printed));
    assert!(user.contains("system:node:n2"), "{user}");

    let token = must(&mut cluster.navarch(&["token", "create", "--role", "node"]));
    agent.start(&["join", "--token", token.trim(), &format!("https://{ADDRESS}:6443")]);
    eventually("the node is there", || cluster.get(&["node", NODE]));
    cluster.kubectl(&["wait", "--for=condition=Ready", "node/n2", "--timeout=120s"]);
    let manifest = cluster.folder().join("page.yaml");
    std::fs::write(&manifest, PAGE).unwrap();
    cluster.kubectl(&["apply", "-f", manifest.to_str().unwrap()]);
    cluster.kubectl(&["rollout", "status", "deployment/page", "--timeout=120s"]);
    let service = cluster.get(&["service", "page"]).unwrap();
    let url = format!("http://{}/", service["spec"]["clusterIP"].as_str().unwrap());
    eventually("the Service answers", || cluster.curl(&url));
    assert_eq!(cluster.kubectl(&["exec", "deploy/page", "--", "cat", "/www/index.html"]), "served\n");

    // The control plane goes without a word: what runs goes on, and the agent finds the next one by itself.
    let pod = cluster.get(&["pods", "-l", "app=page"]).unwrap()["items"][0].clone();
    server.kill();
    assert_eq!(cluster.curl(&url).unwrap(), "served\n");
    server = serve(&cluster);
    cluster.kubectl(&["scale", "deployment/page", "--replicas=2"]);
    eventually("the second pod is ready", || match ready_replicas(&cluster)? {
        2 => Ok(()),
        other => Err(format!("{other} ready")),
    });
    let name = pod["metadata"]["name"].as_str().unwrap();
    let kept = cluster.get(&["pod", name]).unwrap();
    assert_eq!(
        kept["status"]["containerStatuses"][0]["containerID"],
        pod["status"]["containerStatuses"][0]["containerID"]
    );

    // The agent too: its pods go on without it, and it takes them over again.
    agent.process = None;
    assert_eq!(cluster.curl(&url).unwrap(), "served\n");
    agent.start(&["agent"]);
    cluster.kubectl(&["delete", "deployment", "page", "--timeout=60s"]);
    eventually("no pod is left", || {
        let left = cluster.get(&["pods"])?;
        if left["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(left.to_string()) }
    });
    drop(agent);
    drop(server);
}
