//! Every kubectl of the machine against a whole cluster: the commands that reach into pods.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use navarch_tests::kubectl::{Kubectl, every_kubectl};
use navarch_tests::{Cluster, describe, eventually};

/// Two containers of which one serves a page; one that ends, and was restarted; one that reads its input.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: two
  labels: {app: two}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: shop/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir /www; echo welcome > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www']
    ports: [{containerPort: 8080}]
  - name: ticker
    image: shop/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.2; done']
---
apiVersion: v1
kind: Pod
metadata:
  name: counts
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: shop/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'for n in 1 2 3 4 5; do echo line $n; sleep 0.1; done']
---
apiVersion: v1
kind: Pod
metadata:
  name: again
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: kept, emptyDir: {}}]
  containers:
  - name: main
    image: shop/busybox:1
    imagePullPolicy: Never
    volumeMounts: [{name: kept, mountPath: /kept}]
    command: [sh, -c, 'if [ -e /kept/mark ]; then echo second; sleep 3600; fi; touch /kept/mark; echo first; exit 1']
---
apiVersion: v1
kind: Pod
metadata:
  name: reads
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: shop/busybox:1
    imagePullPolicy: Never
    stdin: true
    stdinOnce: true
    command: [sh, -c, 'while read line; do echo got $line; done; sleep 3600']
---
apiVersion: v1
kind: Service
metadata: {name: two}
spec:
  selector: {app: two}
  ports: [{port: 80, targetPort: 8080}]
";

/// The commands of one program in a cluster.
fn kubectl_of(cluster: &Cluster, program: &Path) -> Kubectl {
    let (name, config, program) = (cluster.name().to_owned(), cluster.kubeconfig(), program.to_owned());
    let file = program.clone();
    Kubectl::new(&program, move || {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}")).arg(&file).env("KUBECONFIG", &config);
        command
    })
}

#[test]
fn every_kubectl_reaches_into_pods() {
    let cluster = Cluster::start("kubectl", &[]);
    for program in every_kubectl() {
        let kubectl = kubectl_of(&cluster, &program);
        kubectl.run_with(
            "apply -f -",
            &format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n", kubectl.namespace()),
        );
        eventually("the namespace is ready for pods", || {
            let accounts = kubectl.run("get serviceaccounts -o name");
            if accounts.contains("default") { Ok(()) } else { Err(accounts) }
        });
        kubectl.run_with("apply -f -", PODS);
        kubectl.run("wait --for=condition=Ready pod/two pod/reads --timeout=120s");
        logs(&kubectl);
        exec(&kubectl);
        terminal(&cluster, &program, &kubectl);
        copy(&kubectl);
        forward(&cluster, &kubectl);
        attach(&kubectl);
        kubectl.run("delete pods --all --timeout=60s");
        kubectl.run("delete namespace of-% --timeout=60s");
    }
}

fn logs(kubectl: &Kubectl) {
    assert_eq!(kubectl.run("logs two -c web"), "serving\n");
    let follow = kubectl.background("logs -f two -c ticker");
    follow.until_printed("tick 3");
    // Follows until the container ends, and returns then.
    assert_eq!(kubectl.run("logs -f counts"), "line 1\nline 2\nline 3\nline 4\nline 5\n");
    assert_eq!(kubectl.run("logs counts --tail=2"), "line 4\nline 5\n");
    assert_eq!(kubectl.run("logs counts --limit-bytes=6"), "line 1");
    assert_eq!(kubectl.run("logs counts --tail=-1 --since=1h").lines().count(), 5);
    let stamped = kubectl.run("logs counts --timestamps --tail=1");
    assert!(stamped.contains("T") && stamped.ends_with("Z line 5\n"), "{stamped}");
    assert_eq!(kubectl.run("logs -l app=two -c web"), "serving\n");
    assert_eq!(kubectl.run("logs service/two -c web"), "serving\n");
    assert!(kubectl.run("logs two --all-containers --prefix").contains("[pod/two/web] serving"));
    assert!(kubectl.refused("logs two -c nobody").contains("container nobody is not valid for pod two"));
    eventually("the container was restarted", || {
        let count = kubectl.run("get pod again -o jsonpath={.status.containerStatuses[0].restartCount}");
        let log = kubectl.run("logs again");
        if count == "1" && log == "second\n" { Ok(()) } else { Err(log) }
    });
    assert_eq!(kubectl.run("logs again --previous"), "first\n");
    assert!(kubectl.refused("logs two -c web --previous").contains("previous terminated container \"web\""));
}

fn exec(kubectl: &Kubectl) {
    assert_eq!(kubectl.run("exec two -c ticker -- echo here"), "here\n");
    assert_eq!(kubectl.run_with("exec -i two -c web -- cat", "to and fro\n"), "to and fro\n");
    let large = "0123456789abcdef\n".repeat(40_000);
    assert!(kubectl.run_with("exec -i two -c web -- cat", &large) == large, "as much comes back as was sent");
    let mut command = kubectl.command("exec two -c web -- sh -c");
    command.arg("echo out; echo err >&2; exit 7");
    let ended = kubectl.output_of(command, "");
    assert_eq!(ended.status.code(), Some(7), "{}", describe(&ended));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "out\n");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.starts_with("err\n") && said.contains("command terminated with exit code 7"), "{said}");
    assert!(kubectl.refused("exec two -c web -- nothing-such").contains("nothing-such"));
}

/// With a terminal on both sides.
fn terminal(cluster: &Cluster, program: &Path, kubectl: &Kubectl) {
    let line = format!(
        "stty rows 33 cols 77; nsenter --net=/run/netns/{} {} -n {} exec -it two -c web -- sh",
        cluster.name(),
        program.display(),
        kubectl.namespace()
    );
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).env("KUBECONFIG", cluster.kubeconfig());
    let output = kubectl.output_of(command, "tty\nstty size\necho $((40 + 2)) of them\nexit 9\n");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("/dev/pts/"), "{printed}");
    assert!(printed.contains("33 77"), "the size of the terminal: {printed}");
    assert!(printed.contains("42 of them"), "{printed}");
    assert_eq!(output.status.code(), Some(9), "{}", describe(&output));
}

fn copy(kubectl: &Kubectl) {
    let (here, back) = (kubectl.folder().join("here"), kubectl.folder().join("back"));
    let content = "copied there and back\n".repeat(50_000);
    std::fs::write(&here, &content).unwrap();
    kubectl.run(&format!("cp {} two:/www/there -c web", here.display()));
    assert!(kubectl.run("exec two -c web -- cat /www/there") == content, "what was copied is there");
    kubectl.run(&format!("cp two:/www/there {} -c web", back.display()));
    assert!(std::fs::read_to_string(back).unwrap() == content, "and back");
}

fn forward(cluster: &Cluster, kubectl: &Kubectl) {
    for (target, port) in [("pod/two", 8080), ("service/two", 80)] {
        let forward = kubectl.background(&format!("port-forward {target} :{port}"));
        let line = forward.until_printed("Forwarding from 127.0.0.1:");
        let local = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap();
        for _ in 0..3 {
            assert_eq!(cluster.curl(&format!("http://127.0.0.1:{local}/")).unwrap(), "welcome\n");
        }
    }
}

fn attach(kubectl: &Kubectl) {
    kubectl.background("attach two -c ticker").until_printed("tick ");
    // The end of the input ends what reads it, not the attachment.
    let input = kubectl.folder().join("said");
    std::fs::write(&input, "hello\n").unwrap();
    let attached = kubectl.background_with("attach -i reads", &input);
    attached.until_printed("got hello");
    let words = "run asked -i --rm --restart=Never --image=shop/busybox:1 --image-pull-policy=Never --quiet -- cat";
    let printed = kubectl.run_with(words, "asked and told\n");
    assert!(printed.contains("asked and told\n"), "{printed}");
}
