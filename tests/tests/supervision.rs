//! A panic ends one child of the supervision tree and nothing else: ordered by fault points in the real process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use navarch_tests::kubectl::Kubectl;
use navarch_tests::server::Server;
use navarch_tests::{Cluster, binary, describe, eventually, must};
use serde_json::Value;

const LEADER: &str = "node/control-plane/leader-gate/leader";

/// What the tree says of one child.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    restarts: u64,
    state: String,
    failure: String,
}

type Tree = BTreeMap<String, Node>;

fn collect(node: &Value, above: &str, into: &mut Tree) {
    let name = node["name"].as_str().unwrap();
    let path = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
    for child in node["children"].as_array().map_or(&[] as &[Value], Vec::as_slice) {
        collect(child, &path, into);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (state, failure) = (text(&node["state"]), text(&node["lastFailure"]));
    into.insert(path, Node { restarts: node["restarts"].as_u64().unwrap(), state, failure });
}

/// Every child by its path.
fn tree_of(json: &str) -> Tree {
    let mut tree = Tree::new();
    collect(&serde_json::from_str(json).unwrap(), "", &mut tree);
    tree
}

/// The children that were started again between two looks.
fn restarted(before: &Tree, after: &Tree) -> Vec<String> {
    let again = |(path, node): &(&String, &Node)| before.get(*path).is_some_and(|was| was.restarts != node.restarts);
    after.iter().filter(again).map(|(path, _)| path.clone()).collect()
}

/// Workers of the pods that tests start and delete.
fn comes_and_goes(path: &str) -> bool {
    path.contains("/workers/") && !path.contains("/workers/default/steady/")
}

/// Waits until the child broke at this point and everything is again in the state that it was in; returns its path.
fn until_restarted(point: &str, before: &Tree, look: impl Fn() -> String) -> (String, Tree) {
    eventually(&format!("the child that broke at {point} runs again"), || {
        let tree = tree_of(&look());
        let broken = |node: &Node| node.failure.contains(&format!("fault point {point}"));
        let found: Vec<_> = restarted(before, &tree).into_iter().filter(|path| broken(&tree[path])).collect();
        match &found[..] {
            [path] if before.iter().all(|(path, was)| comes_and_goes(path) || tree[path].state == was.state) => {
                Ok((path.clone(), tree))
            }
            _ => Err(format!("{found:?} of {tree:#?}")),
        }
    })
}

/// Where the tree shows that a child was restarted so often: the metrics, and the command.
fn assert_shown(metrics: &str, printed: &str, path: &str, restarts: u64, point: &str) {
    let figure = format!("navarch_supervision_restarts_total{{path=\"{path}\"}} {restarts}\n");
    assert!(metrics.contains(&figure), "{figure} in {metrics}");
    assert!(metrics.contains(&format!("navarch_supervision_up{{path=\"{path}\"}} 1\n")), "{metrics}");
    let (point, restarts) = (format!("fault point {point}"), restarts.to_string());
    // A name has no spaces; branches come before it.
    let shows = |line: &str| line.contains(&point) && line.split_whitespace().any(|word| word == restarts);
    assert!(printed.lines().any(shows), "{printed}");
}

fn arm(kubectl: impl Fn(&[&str]) -> String, point: &str) {
    let said = kubectl(&["get", "--raw", &format!("/navarch/faults?arm={point}=1")]);
    assert!(said.starts_with("armed"), "{said}");
}

fn printed_tree(server: &Server) -> String {
    let mut command = Command::new(binary());
    command.arg("tree").arg("--data-dir").arg(server.data_dir());
    must(command.args(["--set", &format!("server.port={}", server.port())]))
}

#[test]
fn a_controller_that_panics_is_restarted_alone_and_does_its_work() {
    let server = Server::start();
    let look = || server.kubectl(&["get", "--raw", "/navarch/tree"]);
    eventually("everything runs", || {
        let tree = tree_of(&look());
        if tree.values().all(|node| node.state == "running") { Ok(()) } else { Err(format!("{tree:?}")) }
    });
    for (number, controller) in ["service-account-controller", "namespace-controller"].into_iter().enumerate() {
        let before = tree_of(&look());
        let point = format!("controllers/{}", controller.trim_end_matches("-controller"));
        arm(|args| server.kubectl(args), &point);
        let name = format!("wakes-{number}");
        server.kubectl(&["create", "namespace", &name]);
        let (path, after) = until_restarted(&point, &before, look);
        assert_eq!(path, format!("{LEADER}/controllers/{controller}"));
        assert_eq!(restarted(&before, &after), std::slice::from_ref(&path));
        eventually("the namespace has its account", || {
            let accounts = server.kubectl(&["get", "serviceaccounts", "-n", &name, "-o", "name"]);
            if accounts.contains("serviceaccount/default") { Ok(()) } else { Err(accounts) }
        });
        server.kubectl(&["delete", "namespace", &name, "--timeout=60s"]);
        let metrics = server.kubectl(&["get", "--raw", "/metrics"]);
        assert_shown(&metrics, &printed_tree(&server), &path, 1, &point);
    }
    assert_eq!(server.kubectl(&["get", "--raw", "/readyz"]), "ok");
}

/// The bodies and codes of requests over one connection, in order.
fn over_one_connection(server: &Server, version: &str, paths: &[&str]) -> Vec<(String, String)> {
    let mut command = server.curl();
    command.args([version, "-w", "\n%{http_code} %{num_connects}\u{1}"]);
    command.args(paths.iter().map(|path| server.url(path)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers = text.split('\u{1}').filter(|answer| !answer.is_empty());
    answers
        .map(|answer| answer.rsplit_once('\n').unwrap())
        .map(|(body, code)| (body.to_owned(), code.to_owned()))
        .collect()
}

#[test]
fn a_request_that_panics_is_answered_and_no_other_is_touched() {
    let server = Server::start();
    let look = || server.kubectl(&["get", "--raw", "/navarch/tree"]);
    server.kubectl(&["create", "configmap", "before"]);
    let config = server.data_dir().join("admin.kubeconfig");
    let kubectl = Kubectl::new(Path::new("kubectl"), move || {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", &config);
        command
    });
    let watch = kubectl.background("get configmaps --all-namespaces --watch");
    watch.until_printed("before");
    let before = tree_of(&look());
    let read = "/api/v1/namespaces/default/configmaps/before";
    let order = "/navarch/faults?arm=api-handler=1";
    for version in ["--http1.1", "--http2"] {
        let answers = over_one_connection(&server, version, &[read, order, read, read]);
        let codes: Vec<&str> = answers.iter().map(|(_, code)| code.as_str()).collect();
        assert_eq!(codes, ["200 1", "200 0", "500 0", "200 0"], "{answers:?}");
        let status: Value = serde_json::from_str(&answers[2].0).unwrap();
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["code"], 500);
        assert_eq!(status["reason"], "InternalError");
        let message = "This request caused apiserver to panic. Look in the logs for details.";
        assert_eq!(status["message"], message, "{status}");
        assert_eq!(answers[3].0, answers[0].0);
    }
    server.kubectl(&["create", "configmap", "after"]);
    watch.until_printed("after");
    assert_eq!(restarted(&before, &tree_of(&look())), Vec::<String>::new());
    let metrics = server.kubectl(&["get", "--raw", "/metrics"]);
    assert!(metrics.contains("navarch_apiserver_handler_panics_total 2\n"), "{metrics}");
    assert!(server.log().contains("fault point api-handler"), "the log has the panic");
}

fn pod(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n{extra}  containers:\n  - name: main\n    image: shop/busybox:1\n    \
         imagePullPolicy: Never\n    command: [sleep, '3600']\n"
    )
}

fn apply(cluster: &Cluster, document: &str) {
    let file = cluster.folder().join("document");
    std::fs::write(&file, document).unwrap();
    cluster.kubectl(&["apply", "-f", file.to_str().unwrap()]);
}

fn start_pod(cluster: &Cluster, name: &str) {
    apply(cluster, &pod(name, ""));
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=120s"]);
}

/// One fault: what is done to reach the point, and how to see that the work was done.
struct Fault {
    point: &'static str,
    /// In the path of the child that breaks, and of no other.
    child: &'static str,
    /// What is restarted with it, because it comes after it.
    with: &'static [&'static str],
    /// Makes the child work, and waits until that is done.
    work: fn(&Cluster),
}

fn run_a_pod(cluster: &Cluster) {
    start_pod(cluster, "more");
    cluster.kubectl(&["delete", "pod", "more", "--timeout=60s"]);
}

fn touch_the_pod(cluster: &Cluster) {
    cluster.kubectl(&["annotate", "pod", "steady", "--overwrite", "touched=yes"]);
}

/// A report that the reporter had in its hands when it broke is written when the pod is tried again; the next one at once.
fn fail_to_schedule(cluster: &Cluster) {
    for name in ["nowhere", "nowhere-too"] {
        apply(cluster, &pod(name, "  nodeSelector: {there: is-none}\n"));
    }
    eventually("it is said that the pod fits nowhere", || {
        let found = cluster.get(&["pod", "nowhere-too"])?;
        let condition = &found["status"]["conditions"][0];
        if condition["reason"] == "Unschedulable" { Ok(()) } else { Err(found.to_string()) }
    });
    cluster.kubectl(&["delete", "pod", "nowhere", "nowhere-too", "--timeout=60s"]);
}

fn roll_out(cluster: &Cluster) {
    cluster.kubectl(&["create", "deployment", "rolled", "--image=shop/busybox:1", "--", "sleep", "3600"]);
    cluster.kubectl(&["rollout", "status", "deployment/rolled", "--timeout=120s"]);
    cluster.kubectl(&["delete", "deployment", "rolled", "--timeout=60s"]);
}

fn add_a_service(cluster: &Cluster) {
    cluster.kubectl(&["expose", "pod", "steady", "--port=80", "--name=added"]);
    let service = cluster.get(&["service", "added"]).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    eventually("the service is in the tables", || {
        let rules = must(cluster.command("nft").args(["list", "ruleset"]));
        if rules.contains(&address) { Ok(()) } else { Err(rules) }
    });
    cluster.kubectl(&["delete", "service", "added"]);
}

const FAULTS: &[Fault] = &[
    Fault {
        point: "scheduler/queue",
        child: "/scheduler/queue",
        with: &["/scheduler/loop", "/scheduler/binder", "/scheduler/reporter"],
        work: run_a_pod,
    },
    Fault {
        point: "scheduler/loop",
        child: "/scheduler/loop",
        with: &["/scheduler/binder", "/scheduler/reporter"],
        work: run_a_pod,
    },
    Fault {
        point: "scheduler/cycle",
        child: "/scheduler/loop",
        with: &["/scheduler/binder", "/scheduler/reporter"],
        work: run_a_pod,
    },
    Fault { point: "scheduler/binder", child: "/scheduler/binder", with: &["/scheduler/reporter"], work: run_a_pod },
    Fault { point: "scheduler/reporter", child: "/scheduler/reporter", with: &[], work: fail_to_schedule },
    Fault { point: "controllers/replicaset", child: "/replicaset-controller", with: &[], work: roll_out },
    Fault { point: "kubelet/pod", child: "/workers/default/steady/", with: &[], work: touch_the_pod },
    Fault {
        point: "kubelet/manager",
        child: "/pods/manager",
        with: &["/pods/lifecycle-events", "/pods/sweeper"],
        work: run_a_pod,
    },
    Fault { point: "network/services", child: "/services", with: &[], work: add_a_service },
];

/// Containers and restarts of every pod that is there all the time.
fn steady(cluster: &Cluster) -> String {
    let found = cluster.get(&["pod", "steady"]).unwrap();
    let status = &found["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 0, "{status}");
    assert_eq!(status["ready"], true, "{status}");
    format!("{} {}", found["metadata"]["uid"], status["containerID"])
}

#[test]
fn a_panic_in_the_scheduler_the_node_agent_or_the_network_restarts_that_child_alone() {
    let cluster = Cluster::start("faults", &[]);
    let look = || cluster.kubectl(&["get", "--raw", "/navarch/tree"]);
    start_pod(&cluster, "steady");
    let runs = steady(&cluster);
    for fault in FAULTS {
        let before = tree_of(&look());
        arm(|args| cluster.kubectl(args), fault.point);
        (fault.work)(&cluster);
        let (path, after) = until_restarted(fault.point, &before, look);
        assert!(path.contains(fault.child), "{path} broke at {}", fault.point);
        let others = restarted(&before, &after).into_iter().filter(|other| *other != path);
        let unexpected: Vec<_> = others.filter(|other| !fault.with.iter().any(|end| other.ends_with(end))).collect();
        assert!(unexpected.is_empty(), "{unexpected:?} were restarted by a panic at {}", fault.point);
        assert_eq!(steady(&cluster), runs, "after a panic at {}", fault.point);
        let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]);
        let printed = must(&mut cluster.navarch(&["tree"]));
        assert_shown(&metrics, &printed, &path, after[&path].restarts, fault.point);
    }
    run_a_pod(&cluster);
    roll_out(&cluster);
    assert_eq!(steady(&cluster), runs);
}
