//! Bad pods and the exact words about them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_types::UserInfo;
use serde_json::{Value, json};

use super::*;
use crate::kinds::rules::rendered;
use crate::strategy::Strategy;

/// A pod with defaults, changed by a JSON merge of its spec and its first container.
fn pod(spec: Value, container: Value) -> Value {
    let mut object = json!({"metadata": {"name": "p", "namespace": "d"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    merge(&mut object["spec"], spec);
    merge(&mut object["spec"]["containers"][0], container);
    POD.default(&mut object);
    object
}

fn merge(into: &mut Value, from: Value) {
    if let Value::Object(map) = from {
        for (key, value) in map {
            into[key] = value;
        }
    }
}

fn context(user: &UserInfo, subresource: Option<&'static str>) -> Context<'static> {
    // Leaked once a case: tests only.
    let user: &'static UserInfo = Box::leak(Box::new(user.clone()));
    Context { user, namespace: "d", subresource, now: "2026-01-01T00:00:00Z".parse().unwrap() }
}

fn create_findings(object: &Value) -> Vec<String> {
    rendered(&POD.validate_create(&context(&UserInfo::default(), None), object))
}

fn update_findings(subresource: Option<&'static str>, object: &Value, old: &Value) -> Vec<String> {
    rendered(&POD.validate_update(&context(&UserInfo::default(), subresource), object, old))
}

#[test]
fn good_pods_pass() {
    for (spec, container) in [
        (json!({}), json!({})),
        (
            json!({"initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always", "readinessProbe": {"exec": {"command": ["a"]}}}]}),
            json!({}),
        ),
        (
            json!({"volumes": [{"name": "v"}], "hostNetwork": true}),
            json!({"ports": [{"containerPort": 80}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        ),
        (json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b.", "."]}}), json!({})),
        (json!({"tolerations": [{"operator": "Exists"}]}), json!({"env": [{"name": "A", "value": "b"}]})),
    ] {
        assert_eq!(create_findings(&pod(spec, container)), Vec::<String>::new());
    }
}

#[test]
fn bad_specs_are_named() {
    let cases = [
        (json!({"containers": []}), "spec.containers: Required value"),
        (
            json!({"restartPolicy": "x"}),
            "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"dnsPolicy": "x"}),
            "spec.dnsPolicy: Unsupported value: \"x\": supported values: \"ClusterFirst\", \"ClusterFirstWithHostNet\", \"Default\", \"None\"",
        ),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (json!({"volumes": [{"name": "v"}, {"name": "v"}]}), "spec.volumes[1].name: Duplicate value: \"v\""),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}]}),
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (json!({"volumes": [{"name": "v", "secret": {}}]}), "spec.volumes[0].secret.secretName: Required value"),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}]}),
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": "x"}}]}),
            "spec.volumes[0].hostPath.type: Unsupported value: \"x\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
        ),
        (
            json!({"serviceAccountName": "a", "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}}]}),
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "p"}]}}]}),
            "spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required",
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "x", "imagePullPolicy": "Always", "terminationMessagePolicy": "File", "resources": {}}]}),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            json!({"schedulingGates": [{"name": "a"}], "nodeName": "n"}),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            json!({"initContainers": [{"name": "c", "image": "x"}]}),
            "spec.initContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "x", "lifecycle": {}}]}),
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            json!({"hostAliases": [{"ip": "x"}]}),
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"preemptionPolicy": "x"}),
            "spec.preemptionPolicy: Unsupported value: \"x\": supported values: \"PreemptLowerPriority\", \"Never\"",
        ),
        (
            json!({"os": {"name": "x"}}),
            "spec.os.name: Unsupported value: \"x\": supported values: \"linux\", \"windows\"",
        ),
        (json!({"hostUsers": false, "hostPID": true}), "spec.hostPID: Forbidden: when `hostUsers` is false"),
        (
            json!({"hostPID": true, "shareProcessNamespace": true}),
            "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            json!({"overhead": {"foo/bar baz": "1"}}),
            "spec.overhead[foo/bar baz]: Invalid value: \"foo/bar baz\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
    ];
    for (spec, want) in cases {
        let mut object = pod(json!({}), json!({}));
        merge(&mut object["spec"], spec);
        POD.default(&mut object);
        let found = create_findings(&object);
        assert!(found.iter().any(|f| f == want), "{want}\n{found:#?}");
    }
}

#[test]
fn bad_containers_are_named() {
    let at = "spec.containers[0]";
    let cases = [
        (json!({"name": ""}), ".name: Required value"),
        (json!({"image": ""}), ".image: Required value"),
        (json!({"image": " x"}), ".image: Invalid value: \" x\": must not have leading or trailing whitespace"),
        (
            json!({"imagePullPolicy": "x"}),
            ".imagePullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"terminationMessagePolicy": "x"}),
            ".terminationMessagePolicy: Unsupported value: \"x\": supported values: \"FallbackToLogsOnError\", \"File\"",
        ),
        (json!({"ports": [{"containerPort": 0}]}), ".ports[0].containerPort: Required value"),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            ".ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"containerPort": 1, "protocol": "x"}]}),
            ".ports[0].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            ".ports[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
            ".ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (json!({"env": [{"name": ""}]}), ".env[0].name: Required value"),
        (
            json!({"env": [{"name": "a=b"}]}),
            ".env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ".env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]}),
            ".env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.foo\": error converting fieldPath: field label not supported: spec.foo",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}),
            ".env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}]}),
            ".env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}),
            ".env[0].valueFrom.secretKeyRef.key: Required value",
        ),
        (json!({"envFrom": [{}]}), ".envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"),
        (json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), ".volumeMounts[0].name: Not found: \"v\""),
        (json!({"livenessProbe": {}}), ".livenessProbe: Required value: must specify a handler type"),
        (
            json!({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}),
            ".livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}),
            ".livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"readinessProbe": {"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 2}}),
            ".readinessProbe.terminationGracePeriodSeconds: Invalid value: 2: must not be set for readinessProbes",
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": 0}}}),
            ".readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "x"}}}),
            ".readinessProbe.httpGet.scheme: Unsupported value: \"x\": supported values: \"HTTP\", \"HTTPS\"",
        ),
        (
            json!({"readinessProbe": {"exec": {"command": ["a"]}, "periodSeconds": -1}}),
            ".readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            ".lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}),
            ".resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}),
            ".restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
    ];
    for (container, want) in cases {
        let found = create_findings(&pod(json!({}), container));
        let want = format!("{at}{want}");
        assert!(found.contains(&want), "{want}\n{found:#?}");
    }
}

#[test]
fn mounts_are_judged_against_volumes() {
    let spec = || json!({"volumes": [{"name": "v"}, {"name": "b", "persistentVolumeClaim": {"claimName": "x"}}]});
    for (container, want) in [
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]}),
            "volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}),
            "volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a", "subPathExpr": "b"}]}),
            "volumeMounts[0].subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]}),
            "volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
        ),
        (
            json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]}),
            "volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
        ),
    ] {
        let found = create_findings(&pod(spec(), container));
        assert_eq!(found, [format!("spec.containers[0].{want}")]);
    }
}

#[test]
fn updates_are_judged() {
    let old = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}], "activeDeadlineSeconds": 10}), json!({}));
    let changed = |change: fn(&mut Value)| {
        let mut object = old.clone();
        change(&mut object["spec"]);
        update_findings(None, &object, &old)
    };
    assert_eq!(changed(|s| s["containers"][0]["image"] = json!("other:2")), Vec::<String>::new());
    assert_eq!(changed(|s| s["activeDeadlineSeconds"] = json!(5)), Vec::<String>::new());
    assert_eq!(
        changed(|s| s["activeDeadlineSeconds"] = json!(50)),
        ["spec.activeDeadlineSeconds: Invalid value: 50: must be less than or equal to previous value"]
    );
    assert_eq!(
        changed(|s| s["tolerations"] =
            json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}])),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    assert_eq!(
        changed(|s| s["tolerations"] = json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}])),
        Vec::<String>::new()
    );
    assert_eq!(
        changed(|s| s["schedulingGates"] = json!([{"name": "x"}])),
        ["spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'x'"]
    );
    assert_eq!(
        changed(|s| s["containers"] = json!([]))[1..],
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let found = changed(|s| s["nodeName"] = json!("n"));
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"),
        "{found:?}"
    );
    assert!(found[0].ends_with("spec.nodeName: null → \"n\""), "{found:?}");
}

#[test]
fn gated_pods_may_be_narrowed() {
    let old = pod(json!({"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}}), json!({}));
    let mut object = old.clone();
    object["spec"]["nodeSelector"] = json!({"a": "b", "c": "d"});
    assert_eq!(update_findings(None, &object, &old), Vec::<String>::new());
    object["spec"]["nodeSelector"] = json!({"c": "d"});
    assert_eq!(
        update_findings(None, &object, &old),
        ["spec.nodeSelector: Invalid value: {\"c\":\"d\"}: only additions are allowed when pod is gated"]
    );
}

#[test]
fn a_new_pod_gets_its_status_and_no_other() {
    let mut object = pod(json!({"schedulingGates": [{"name": "g"}]}), json!({}));
    object["status"] = json!({"phase": "Running"});
    POD.prepare_create(&context(&UserInfo::default(), None), &mut object);
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(object["status"]["qosClass"], "BestEffort");
    assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
}

#[test]
fn subresources_change_only_their_part() {
    let mut old = pod(json!({}), json!({}));
    old["status"] = json!({"phase": "Running", "qosClass": "BestEffort"});
    let mut object = old.clone();
    object["spec"]["nodeName"] = json!("n");
    object["status"] = json!({"phase": "Failed"});
    POD.prepare_update(&context(&UserInfo::default(), Some("status")), &mut object, &old);
    assert_eq!(object["spec"], old["spec"]);
    assert_eq!(object["status"], json!({"phase": "Failed", "qosClass": "BestEffort"}));

    let mut object = old.clone();
    object["spec"]["nodeName"] = json!("n");
    object["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
    POD.prepare_update(&context(&UserInfo::default(), Some("ephemeralcontainers")), &mut object, &old);
    assert_eq!(
        (&object["spec"]["nodeName"], &object["spec"]["ephemeralContainers"][0]["name"]),
        (&Value::Null, &json!("e"))
    );

    let mut object = old.clone();
    object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    POD.prepare_update(&context(&UserInfo::default(), Some("resize")), &mut object, &old);
    assert_eq!(
        update_findings(Some("resize"), &object, &old),
        ["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"]
    );
}

#[test]
fn an_ended_container_stays_ended() {
    let mut old = pod(json!({"restartPolicy": "Never"}), json!({}));
    old["status"] = json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]});
    let mut object = old.clone();
    object["status"] = json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
    assert_eq!(
        update_findings(Some("status"), &object, &old),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    old["spec"]["restartPolicy"] = json!("OnFailure");
    assert_eq!(update_findings(Some("status"), &object, &old), Vec::<String>::new());
}

#[test]
fn grace_is_the_pods_own_unless_it_runs_nowhere() {
    let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
    for (object, asked, want) in [
        (running.clone(), None, Some(30)),
        (running.clone(), Some(0), Some(0)),
        (running.clone(), Some(-5), Some(1)),
        (json!({"spec": {"terminationGracePeriodSeconds": 30}}), None, Some(0)),
        (
            json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Failed"}}),
            None,
            Some(0),
        ),
    ] {
        assert_eq!(POD.grace_period(&object, asked), want, "{object}");
    }
}
