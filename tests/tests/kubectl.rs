//! Every kubectl of the machine against a control plane: the commands that need no containers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use navarch_tests::kubectl::{Kubectl, every_kubectl};
use navarch_tests::server::Server;
use navarch_tests::{describe, eventually};

/// Runs a check with every kubectl, each in a namespace of its own.
fn with_every_kubectl(check: fn(&Kubectl)) {
    let server = Server::start();
    for program in every_kubectl() {
        let (config, file) = (server.data_dir().join("admin.kubeconfig"), program.clone());
        let kubectl = Kubectl::new(&program, move || {
            let mut command = Command::new(&file);
            command.env("KUBECONFIG", &config);
            command
        });
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n", kubectl.namespace());
        kubectl.run_with("apply -f -", &namespace);
        check(&kubectl);
        kubectl.run("delete namespace of-% --timeout=120s");
    }
}

fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 2\n  selector:\n    \
         matchLabels: {{app: web}}\n  template:\n    metadata:\n      labels: {{app: web}}\n    spec:\n      \
         containers:\n      - name: web\n        image: {image}\n"
    )
}

/// Waits until a command prints this.
fn until(kubectl: &Kubectl, words: &str, expected: &str) {
    eventually(&format!("{words} prints {expected}"), || {
        let printed = kubectl.run(words);
        if printed.contains(expected) { Ok(()) } else { Err(printed) }
    });
}

#[test]
fn objects_are_applied_changed_and_deleted() {
    with_every_kubectl(|kubectl| {
        let watch = kubectl.background("get deployments -w");
        assert!(
            kubectl.run_with("apply --dry-run=server -f -", &deployment("web:1")).contains("created (server dry run)")
        );
        assert_eq!(kubectl.run("get deployment web --ignore-not-found"), "");
        assert!(kubectl.run_with("apply -f -", &deployment("web:1")).ends_with("/web created\n"));
        watch.until_printed("web ");
        assert!(kubectl.run_with("apply -f -", &deployment("web:1")).ends_with("/web unchanged\n"));
        let same = kubectl.output_with("diff -f -", &deployment("web:1"));
        assert_eq!(same.status.code(), Some(0), "{}", describe(&same));
        let other = kubectl.output_with("diff -f -", &deployment("web:2"));
        assert_eq!(other.status.code(), Some(1), "{}", describe(&other));
        assert!(String::from_utf8_lossy(&other.stdout).contains("image: web:2\n"), "{}", describe(&other));
        assert!(kubectl.run_with("apply -f -", &deployment("web:2")).ends_with("/web configured\n"));
        assert!(kubectl.run("apply view-last-applied deployment web").contains("image: web:2"));

        let mut edit = kubectl.command("edit deployment web");
        edit.env("KUBE_EDITOR", "sed -i -e s/replicas:.2/replicas:\\ 4/");
        let edited = kubectl.output_of(edit, "");
        assert!(edited.status.success(), "{}", describe(&edited));
        kubectl.all(&[
            ("get deployment web -o jsonpath={.spec.replicas}", "4"),
            ("patch deployment web --type=strategic -p {\"spec\":{\"replicas\":3}}", "patched"),
            ("get deployment web -o jsonpath={.spec.replicas}", "3"),
            ("patch deployment web --type=merge -p {\"spec\":{\"replicas\":2}}", "patched"),
            ("get deployment web -o jsonpath={.spec.replicas}", "2"),
            (
                "patch deployment web --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":1}]",
                "patched",
            ),
            ("get deployment web -o jsonpath={.spec.replicas}", "1"),
            ("patch deployment web --subresource=status -p {\"status\":{\"observedGeneration\":1}}", "patched"),
            ("label deployment web team=a", "labeled"),
            ("label deployment web team=b --overwrite", "labeled"),
            ("get deployments -l team=b -o name", "deployment.apps/web"),
            ("get deployments -l team!=b -o name", ""),
            ("label deployment web team-", ""),
            ("annotate deployment web note=here", "annotate"),
            ("set image deployment/web web=web:3", "image updated"),
            ("set env deployment/web COLOUR=blue", "env updated"),
            ("set env deployment/web --list", "COLOUR=blue"),
            ("set resources deployment/web --limits=cpu=200m,memory=64Mi", "resource requirements updated"),
            ("set serviceaccount deployment/web default", "serviceaccount updated"),
        ]);
        assert!(kubectl.run_with("replace -f -", &deployment("web:4")).contains("replaced"));
        assert!(kubectl.run_with("replace --force -f -", &deployment("web:5")).contains("replaced"));
        kubectl.all(&[
            ("wait --for=jsonpath={.spec.replicas}=2 deployment/web --timeout=60s", "condition met"),
            ("delete deployment web --cascade=orphan", "deleted"),
        ]);
        assert!(kubectl.refused("get deployment web").contains("deployments.apps \"web\" not found"));
        assert!(kubectl.run("get replicasets -l app=web -o name").contains("replicaset"));
        kubectl.all(&[("delete replicasets -l app=web", "deleted")]);
    });
}

#[test]
fn rollouts_are_followed_and_steered() {
    with_every_kubectl(|kubectl| {
        kubectl.run_with("apply -f -", &deployment("web:1"));
        until(kubectl, "rollout history deployment/web", "\n1 ");
        assert!(kubectl.refused("rollout status deployment/web --timeout=1s").contains("timed out"));
        assert!(kubectl.run("rollout status deployment/web --watch=false").contains("Waiting for deployment"));
        kubectl.run("set image deployment/web web=web:2");
        until(kubectl, "rollout history deployment/web", "\n2 ");
        kubectl.all(&[
            ("rollout history deployment/web --revision=2", "web:2"),
            ("rollout pause deployment/web", "paused"),
            ("get deployment web -o jsonpath={.spec.paused}", "true"),
            ("rollout resume deployment/web", "resumed"),
            ("rollout undo deployment/web --to-revision=1", "rolled back"),
            ("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}", "web:1"),
        ]);
        until(kubectl, "rollout history deployment/web", "\n3 ");
        kubectl.all(&[
            ("rollout undo deployment/web", "rolled back"),
            ("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}", "web:2"),
            ("rollout restart deployment/web", "restarted"),
            (
                "get deployment web -o jsonpath={.spec.template.metadata.annotations}",
                "kubectl.kubernetes.io/restartedAt",
            ),
        ]);
        kubectl.run("delete deployment web --cascade=foreground --timeout=60s");
        assert_eq!(kubectl.run("get replicasets,pods -o name"), "");
    });
}

#[test]
fn objects_are_read_in_every_form() {
    with_every_kubectl(|kubectl| {
        kubectl.run_with("apply -f -", &deployment("web:1"));
        until(kubectl, "get pods --no-headers -o custom-columns=NAME:.metadata.name", "web-");
        eventually("both pods are there", || {
            let count = kubectl.run("get pods -o name").lines().count();
            if count == 2 { Ok(()) } else { Err(count.to_string()) }
        });
        until(kubectl, "get events", "FailedScheduling");
        kubectl.all(&[
            ("get deployments", "NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nweb    0/2"),
            ("get deployments -o wide", "CONTAINERS   IMAGES   SELECTOR"),
            ("get deployments --show-labels", "LABELS"),
            ("get pods -L app", "APP"),
            ("get deployment web -o yaml", "kind: Deployment"),
            ("get deployment web -o json", "\"kind\": \"Deployment\""),
            ("get deployments -o jsonpath={.items[*].metadata.name}", "web"),
            ("get deployments -o go-template={{range.items}}{{.metadata.name}}{{end}}", "web"),
            ("get deployments -o custom-columns=N:.metadata.name,R:.spec.replicas", "N     R\nweb   2"),
            ("get pods --chunk-size=1 --no-headers", "Pending"),
            ("get pods --field-selector=status.phase=Pending -o name", "pod/web-"),
            ("get pods --sort-by=.metadata.creationTimestamp", "web-"),
            ("get all", "deployment.apps/web"),
            ("get events --sort-by=.lastTimestamp", "SuccessfulCreate"),
            ("events", "SuccessfulCreate"),
            ("get deployments -A", "NAMESPACE"),
            ("get --raw /readyz", "ok"),
            ("describe deployment web", "StrategyType:"),
            ("describe replicasets", "Controlled By:  Deployment/web"),
            ("describe pods", "FailedScheduling"),
            ("describe namespace of-%", "Status:       Active"),
            ("describe service kubernetes -n default", "Endpoints:"),
            ("describe serviceaccount default", "Name:"),
            ("describe clusterrole view", "PolicyRule:"),
        ]);
        assert_eq!(kubectl.run("get pods --chunk-size=1 -o name").lines().count(), 2);
        assert_eq!(kubectl.run("get pods --field-selector=status.phase=Running -o name"), "");
    });
}

#[test]
fn the_server_tells_what_it_is_and_serves() {
    with_every_kubectl(|kubectl| {
        kubectl.all(&[
            ("version -o json", "v1.36"),
            ("api-versions", "apps/v1\n"),
            ("api-resources", "deployments"),
            ("api-resources --api-group=apps -o name --verbs=list,watch", "deployments.apps\n"),
            ("explain deployment.spec.replicas", "Number of desired pods"),
            ("explain pods --recursive", "terminationGracePeriodSeconds"),
            ("explain deployment --api-version=apps/v1", "VERSION:"),
            ("cluster-info", "control plane"),
            ("cluster-info dump", "\"kind\": \"NodeList\""),
            ("config current-context", ""),
        ]);
    });
}

const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata:\n  name: of-NAME\n";

/// Applied instead of made by openssl: a request for `O=readers, CN=jane`.
const SIGNING_REQUEST: &str = "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata:\n  \
    name: VERB-NAME\nspec:\n  signerName: kubernetes.io/kube-apiserver-client\n  usages: [client auth]\n  request: \
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIYk1JR0RBZ0VBTUNFeEVEQU9CZ05WQkFvTUIzSmxZV1JsY25NeERUQUxCZ05W\
    QkFNTUJHcGhibVV3V1RBVApCZ2NxaGtqT1BRSUJCZ2dxaGtqT1BRTUJCd05DQUFRbnNTY2h6MDFRQmV1eFY1bEZtejZYNkZXSWc2Q0ZsRXM0CisxR\
    mNpN2xjbmdTNjNIM1VJaTByUTZLNGVtd3RBZDdGeUxuMjAva1dsZURaMG5LVFRSUVVvQUF3Q2dZSUtvWkkKemowRUF3SURSd0F3UkFJZ2NIVzF6R0\
    lhKzVpWEpLU01TWjl1S3JXbmlHekpiY0FkcG9hcjR4UU5SaklDSUU0YwpYSnVTRVAvRkprcDBCOHRZa2g2R3FhaUpEanc1aE1qTS8vbFVsV24vCi0\
    tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=\n";

#[test]
fn nodes_and_signing_requests_are_administered() {
    with_every_kubectl(|kubectl| {
        kubectl.run_with("apply -f -", &NODE.replace("NAME", &kubectl.name));
        kubectl.all(&[
            ("cordon of-%", "cordoned"),
            ("get node of-%", "SchedulingDisabled"),
            ("uncordon of-%", "uncordoned"),
            ("taint nodes of-% dedicated=tests:NoSchedule", "tainted"),
            ("describe node of-%", "dedicated=tests:NoSchedule"),
            ("taint nodes of-% dedicated-", "untainted"),
            ("label node of-% zone=a", "labeled"),
            ("delete node of-%", "deleted"),
        ]);
        for verb in ["approve", "deny"] {
            let request = SIGNING_REQUEST.replace("VERB", verb).replace("NAME", &kubectl.name);
            kubectl.run_with("apply -f -", &request);
            let name = format!("{verb}-%");
            kubectl.run(&format!("certificate {verb} {name}"));
            let conditions = kubectl.run(&format!("get csr {name} -o jsonpath={{.status.conditions[*].type}}"));
            assert_eq!(conditions, if verb == "approve" { "Approved" } else { "Denied" });
            kubectl.run(&format!("delete csr {name}"));
        }
    });
}

#[test]
fn objects_are_made_by_create_run_expose_and_scale() {
    with_every_kubectl(|kubectl| {
        kubectl.all(&[
            ("create namespace more-%", "namespace/more-"),
            ("delete namespace more-% --timeout=60s", "deleted"),
            ("create configmap settings --from-literal=colour=blue", "configmap/settings created"),
            ("get configmap settings -o jsonpath={.data.colour}", "blue"),
            ("create secret generic key --from-literal=word=sesame", "secret/key created"),
            ("get secret key -o jsonpath={.data.word}", "c2VzYW1l"),
            (
                "create secret docker-registry pull --docker-server=r --docker-username=u --docker-password=p",
                "secret/pull",
            ),
            ("create deployment web --image=web:1 --replicas=2 --port=80", "deployment.apps/web created"),
            ("scale deployment web --replicas=3", "scaled"),
            ("scale deployment web --current-replicas=3 --replicas=1", "scaled"),
            ("get deployment web -o jsonpath={.spec.replicas}", "1"),
            ("autoscale deployment web --min=1 --max=3", "autoscaled"),
            ("expose deployment web --port=80 --target-port=8080", "service/web exposed"),
            ("get service web -o jsonpath={.spec.ports[0].targetPort}", "8080"),
            ("create service clusterip inner --tcp=80:8080", "service/inner created"),
            ("create service nodeport outer --tcp=80:8080", "service/outer created"),
            ("create service externalname far --external-name=example.org", "service/far created"),
            ("set selector service/inner app=web", "selector updated"),
            ("run one --image=web:1 --dry-run=client -o yaml", "kind: Pod"),
            ("run one --image=web:1 --dry-run=server", "created (server dry run)"),
            ("run one --image=web:1 --labels=app=one --env=A=b --port=80 -- sleep 60", "pod/one created"),
            ("expose pod one --port=80", "service/one exposed"),
            ("get pod one -o jsonpath={.spec.containers[0].args}", "[\"sleep\",\"60\"]"),
            ("create job work --image=web:1 -- true", "job.batch/work created"),
            ("create cronjob nightly --image=web:1 --schedule=@daily -- true", "cronjob.batch/nightly created"),
            ("create job now --from=cronjob/nightly", "job.batch/now created"),
            ("create quota small --hard=pods=9,configmaps=9", "resourcequota/small created"),
            ("create poddisruptionbudget keep --selector=app=web --min-available=1", "keep created"),
            ("create priorityclass high-% --value=1000", "priorityclass.scheduling.k8s.io/high-"),
            ("delete priorityclass high-%", "deleted"),
            ("create ingress door --rule=example.org/*=web:80", "ingress.networking.k8s.io/door created"),
        ]);
        let stale = kubectl.refused("scale deployment web --current-replicas=3 --replicas=2");
        assert!(stale.contains("Expected replicas to be 3, was 1"), "{stale}");
        let twice = kubectl.refused("create configmap settings");
        assert!(twice.contains("configmaps \"settings\" already exists"), "{twice}");
        let unknown =
            kubectl.output_with("create --validate=strict -f -", &deployment("web:1").replace("replicas", "replicaz"));
        assert!(!unknown.status.success(), "{}", describe(&unknown));
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("unknown field \"spec.replicaz\""));
    });
}

#[test]
fn who_may_do_what_is_made_and_asked() {
    with_every_kubectl(|kubectl| {
        kubectl.all(&[
            ("create serviceaccount robot", "serviceaccount/robot created"),
            ("create role reader --verb=get,list --resource=pods", "role.rbac.authorization.k8s.io/reader created"),
            ("create rolebinding reads --role=reader --serviceaccount=of-%:robot", "reads created"),
            ("create clusterrole looks-% --verb=get --resource=nodes", "looks-"),
            ("create clusterrolebinding looks-% --clusterrole=looks-% --serviceaccount=of-%:robot", "looks-"),
            ("auth can-i list pods --as=system:serviceaccount:of-%:robot", "yes"),
            ("auth can-i get nodes --as=system:serviceaccount:of-%:robot", "yes"),
            ("auth can-i --list --as=system:serviceaccount:of-%:robot", "pods"),
            ("auth can-i * *", "yes"),
            ("create token robot --duration=10m", "ey"),
        ]);
        let no = kubectl.output_with("auth can-i delete pods --as=system:serviceaccount:of-%:robot", "");
        assert_eq!(String::from_utf8_lossy(&no.stdout), "no\n");
        assert_eq!(no.status.code(), Some(1));
        if kubectl.minor >= 28 {
            assert!(kubectl.run("auth whoami").contains("system:masters"));
        }
        let refused = kubectl.refused("get secrets --as=system:serviceaccount:of-%:robot");
        assert!(refused.contains("cannot list resource \"secrets\" in API group \"\""), "{refused}");
        let role = kubectl.run("get role reader -o yaml").replace("- list", "- list\n  - watch");
        assert!(kubectl.run_with("auth reconcile -f -", &role).contains("reconciled"));
        kubectl.all(&[
            ("get role reader -o jsonpath={.rules}", "watch"),
            ("delete clusterrole,clusterrolebinding looks-%", "deleted"),
        ]);
    });
}
