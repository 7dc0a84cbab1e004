//! Cases for `lifecycle`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use serde_json::{Value, json};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec})).unwrap()
}

/// `name attempt state`, where the state is `run`, `made`, `lost` or an exit code.
fn runtime_of(sandboxes: &[(u32, bool)], containers: &[(&str, u32, &str, &str)]) -> PodRuntime {
    let sandboxes = sandboxes.iter().rev().map(|(attempt, ready)| Sandbox {
        id: format!("s{attempt}"),
        attempt: *attempt,
        ready: *ready,
        created_at: at(i64::from(*attempt)),
        ips: vec!["10.0.0.1".into()],
    });
    let containers = containers.iter().rev().map(|(name, attempt, sandbox, state)| {
        let exit: Option<i32> = state.parse().ok();
        runtime::Container {
            id: format!("{name}{attempt}"),
            sandbox_id: (*sandbox).to_owned(),
            name: (*name).to_owned(),
            attempt: *attempt,
            state: match *state {
                "run" => State::Running,
                "made" => State::Created,
                "lost" => State::Unknown,
                _ => State::Exited,
            },
            created_at: at(1),
            started_at: Some(at(2)),
            finished_at: exit.map(|_| at(100)),
            exit_code: exit.unwrap_or(0),
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_ref: String::new(),
            hash: String::new(),
            log_path: String::new(),
        }
    });
    PodRuntime { sandboxes: sandboxes.collect(), containers: containers.collect() }
}

fn plan_of(spec: Value, runtime: &PodRuntime, probes: &Probes, restarts: &BackOff, now: i64) -> String {
    let pod = pod(spec);
    let plan = decide(View { pod: &pod, runtime, probes, restarts, now: at(now) });
    let mut words = Vec::new();
    if plan.kill_pod {
        words.push("kill-pod".to_owned());
    }
    words.extend(plan.create_sandbox.map(|attempt| format!("sandbox:{attempt}")));
    words.extend(plan.kill.iter().map(|kill| format!("kill:{}", kill.id)));
    let name = |slot: Slot| slot.of(pod.spec.as_ref().unwrap()).unwrap().name.clone();
    words.extend(plan.start.iter().map(|start| format!("start:{}:{}", name(start.slot), start.attempt)));
    words.extend(plan.wait.iter().map(|wait| format!("wait:{}:{}", name(wait.slot), wait.until.as_second())));
    words.join(" ")
}

#[test]
fn decisions() {
    let plain = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    let init = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let sidecar = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}], "restartPolicy": "Never"});
    let one = [(0, true)];
    type Containers<'a> = &'a [(&'a str, u32, &'a str, &'a str)];
    let cases: Vec<(&str, Value, &[(u32, bool)], Containers<'_>, &str)> = vec![
        ("new", plain("Always"), &[], &[], "sandbox:0"),
        ("sandbox made", plain("Always"), &one, &[], "start:a:0 start:b:0"),
        ("one runs", plain("Always"), &one, &[("a", 0, "s0", "run")], "start:b:0"),
        ("all run", plain("Always"), &one, &[("a", 0, "s0", "run"), ("b", 0, "s0", "run")], ""),
        ("made but not started", plain("Never"), &one, &[("a", 0, "s0", "made"), ("b", 0, "s0", "run")], "start:a:1"),
        ("lost", plain("Never"), &one, &[("a", 0, "s0", "lost"), ("b", 0, "s0", "run")], "start:a:1"),
        ("ended well, always", plain("Always"), &one, &[("a", 0, "s0", "0"), ("b", 0, "s0", "run")], "start:a:1"),
        ("ended well, on failure", plain("OnFailure"), &one, &[("a", 0, "s0", "0"), ("b", 0, "s0", "run")], ""),
        ("failed, on failure", plain("OnFailure"), &one, &[("a", 0, "s0", "1"), ("b", 0, "s0", "run")], "start:a:1"),
        ("failed, never", plain("Never"), &one, &[("a", 0, "s0", "1"), ("b", 0, "s0", "run")], ""),
        ("all done, never", plain("Never"), &one, &[("a", 0, "s0", "1"), ("b", 0, "s0", "0")], "kill-pod"),
        ("all done, on failure", plain("OnFailure"), &one, &[("a", 0, "s0", "0"), ("b", 0, "s0", "0")], "kill-pod"),
        ("sandbox lost", plain("Always"), &[(0, false)], &[("a", 0, "s0", "run")], "kill-pod sandbox:1"),
        (
            "sandbox lost, all ended",
            plain("Always"),
            &[(0, false)],
            &[("a", 0, "s0", "137"), ("b", 0, "s0", "137")],
            "sandbox:1",
        ),
        (
            "sandbox lost, never",
            plain("Never"),
            &[(0, false)],
            &[("a", 0, "s0", "137"), ("b", 0, "s0", "run")],
            "kill-pod",
        ),
        ("sandbox lost before containers, never", plain("Never"), &[(0, false)], &[], "sandbox:1"),
        (
            "sandbox lost, all succeeded",
            plain("OnFailure"),
            &[(0, false)],
            &[("a", 0, "s0", "0"), ("b", 0, "s0", "0")],
            "kill-pod",
        ),
        ("two sandboxes", plain("Always"), &[(0, true), (1, true)], &[], "kill-pod sandbox:2"),
        (
            "new sandbox, old containers",
            plain("Always"),
            &[(0, false), (1, true)],
            &[("a", 0, "s0", "137"), ("b", 0, "s0", "137")],
            "start:a:1 start:b:1",
        ),
        ("first init", init("Always"), &one, &[], "start:i:0"),
        ("init runs", init("Always"), &one, &[("i", 0, "s0", "run")], ""),
        ("second init", init("Always"), &one, &[("i", 0, "s0", "0")], "start:j:0"),
        ("inits done", init("Always"), &one, &[("i", 0, "s0", "0"), ("j", 0, "s0", "0")], "start:a:0"),
        ("init failed", init("Always"), &one, &[("i", 0, "s0", "1")], "start:i:1"),
        ("init failed, on failure", init("OnFailure"), &one, &[("i", 0, "s0", "1")], "start:i:1"),
        ("init failed, never", init("Never"), &one, &[("i", 0, "s0", "1")], "kill-pod"),
        (
            "inits once more in a new sandbox",
            init("Always"),
            &[(0, false), (1, true)],
            &[("i", 0, "s0", "0"), ("j", 0, "s0", "0"), ("a", 0, "s0", "137")],
            "start:i:1",
        ),
        ("init removed later", init("Always"), &one, &[("a", 0, "s0", "run")], ""),
        ("sidecar first", sidecar.clone(), &one, &[], "start:s:0"),
        ("sidecar runs, then init", sidecar.clone(), &one, &[("s", 0, "s0", "run")], "start:i:0"),
        (
            "sidecar ended during init",
            sidecar.clone(),
            &one,
            &[("s", 0, "s0", "1"), ("i", 0, "s0", "run")],
            "start:s:1",
        ),
        (
            "sidecar ended beside main",
            sidecar.clone(),
            &one,
            &[("s", 0, "s0", "1"), ("i", 0, "s0", "0"), ("a", 0, "s0", "run")],
            "start:s:1",
        ),
        (
            "main done, sidecar runs",
            sidecar,
            &one,
            &[("s", 0, "s0", "run"), ("i", 0, "s0", "0"), ("a", 0, "s0", "0")],
            "kill-pod",
        ),
    ];
    for (name, spec, sandboxes, containers, expected) in cases {
        let runtime = runtime_of(sandboxes, containers);
        let got = plan_of(spec, &runtime, &Probes::new(), &BackOff::kubernetes(), 1000);
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn probes_kill_and_hold_back() {
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}],
        "containers": [{"name": "a", "livenessProbe": {"exec": {}}}]});
    let run = |containers: &[(&str, u32, &str, &str)], probes: &[(&str, ProbeState)]| {
        let probes: Probes = probes.iter().map(|(id, state)| ((*id).to_owned(), *state)).collect();
        plan_of(spec.clone(), &runtime_of(&[(0, true)], containers), &probes, &BackOff::kubernetes(), 1000)
    };
    let started = ProbeState { started: Some(true), ..ProbeState::default() };
    let dead = ProbeState { live: Some(false), ..ProbeState::default() };
    let unstarted = ProbeState { started: Some(false), ..ProbeState::default() };
    let both = [("s", 0, "s0", "run"), ("a", 0, "s0", "run")];
    assert_eq!(run(&both[..1], &[]), "");
    assert_eq!(run(&both[..1], &[("s0", started)]), "start:a:0");
    assert_eq!(run(&both[..1], &[("s0", unstarted)]), "kill:s0");
    assert_eq!(run(&both, &[("s0", started), ("a0", dead)]), "kill:a0");
    assert_eq!(run(&both, &[("a0", ProbeState { live: Some(true), ..ProbeState::default() })]), "");
}

#[test]
fn back_off_holds_a_container_until_its_time() {
    let spec = json!({"containers": [{"name": "a"}]});
    let key = backoff_key(&serde_json::from_value(json!({"name": "a"})).unwrap());
    let mut restarts = BackOff::kubernetes();
    let runtime = runtime_of(&[(0, true)], &[("a", 0, "s0", "1")]);
    let run = |restarts: &BackOff, now: i64| plan_of(spec.clone(), &runtime, &Probes::new(), restarts, now);
    assert_eq!(run(&restarts, 100), "start:a:1");
    restarts.next(&key, at(90));
    assert_eq!(run(&restarts, 101), "wait:a:110");
    assert_eq!(run(&restarts, 110), "start:a:1");
}

mod statuses {
    use super::*;
    use crate::lifecycle::status::{StatusView, Verdict, WaitingReasons, generate};
    use k8s_openapi::api::core::v1::PodStatus;

    struct Case<'a> {
        pod: &'a Pod,
        runtime: &'a PodRuntime,
        probes: Probes,
        waiting: WaitingReasons,
        verdict: Option<Verdict>,
        finished: bool,
    }

    fn make(case: Case<'_>) -> PodStatus {
        generate(&StatusView {
            pod: case.pod,
            runtime: case.runtime,
            probes: &case.probes,
            waiting: &case.waiting,
            messages: &HashMap::new(),
            verdict: case.verdict.as_ref(),
            node_ip: "10.9.9.9",
            qos: "BestEffort",
            finished: case.finished,
            now: at(1000),
        })
    }

    fn simple(pod: &Pod, runtime: &PodRuntime) -> PodStatus {
        let (probes, waiting) = (Probes::new(), WaitingReasons::new());
        make(Case { pod, runtime, probes, waiting, verdict: None, finished: false })
    }

    fn condition(status: &PodStatus, kind: &str) -> (String, String, String) {
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        (found.status.clone(), text(&found.reason), text(&found.message))
    }

    #[test]
    fn phases() {
        let cases: Vec<(&str, &[(&str, u32, &str, &str)], &str)> = vec![
            ("Always", &[], "Pending"),
            ("Always", &[("a", 0, "s0", "run")], "Pending"),
            ("Always", &[("a", 0, "s0", "run"), ("b", 0, "s0", "run")], "Running"),
            ("Always", &[("a", 0, "s0", "0"), ("b", 0, "s0", "run")], "Running"),
            ("Always", &[("a", 0, "s0", "0"), ("b", 0, "s0", "1")], "Running"),
            ("OnFailure", &[("a", 0, "s0", "0"), ("b", 0, "s0", "1")], "Running"),
            ("OnFailure", &[("a", 0, "s0", "0"), ("b", 0, "s0", "0")], "Succeeded"),
            ("Never", &[("a", 0, "s0", "0"), ("b", 0, "s0", "0")], "Succeeded"),
            ("Never", &[("a", 0, "s0", "0"), ("b", 0, "s0", "1")], "Failed"),
            ("Never", &[("a", 0, "s0", "0"), ("b", 0, "s0", "run")], "Running"),
        ];
        for (policy, containers, expected) in cases {
            let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
            let status = simple(&pod, &runtime_of(&[(0, true)], containers));
            assert_eq!(status.phase.as_deref(), Some(expected), "{policy} {containers:?}");
        }
    }

    #[test]
    fn conditions_in_upstreams_words() {
        let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}));
        let status = simple(&pod, &runtime_of(&[], &[]));
        let incomplete =
            ("False".into(), "ContainersNotInitialized".into(), "containers with incomplete status: [i]".into());
        assert_eq!(condition(&status, "Initialized"), incomplete);
        let unready = ("False".into(), "ContainersNotReady".into(), "containers with unready status: [a b]".into());
        assert_eq!(condition(&status, "Ready"), unready);
        assert_eq!(condition(&status, "PodReadyToStartContainers").0, "False");
        assert_eq!(condition(&status, "PodScheduled").0, "True");
        let runtime = runtime_of(&[(0, true)], &[("i", 0, "s0", "0"), ("a", 0, "s0", "run"), ("b", 0, "s0", "run")]);
        let status = simple(&pod, &runtime);
        for kind in ["Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers"] {
            assert_eq!(condition(&status, kind).0, "True", "{kind}");
        }
        assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn readiness_gates_hold_ready_back() {
        let mut pod = pod(json!({"readinessGates": [{"conditionType": "x.io/g"}], "containers": [{"name": "a"}]}));
        let runtime = runtime_of(&[(0, true)], &[("a", 0, "s0", "run")]);
        let ready = condition(&simple(&pod, &runtime), "Ready");
        assert_eq!((ready.0.as_str(), ready.1.as_str()), ("False", "ReadinessGatesNotReady"));
        pod.status = serde_json::from_value(json!({"conditions": [{"type": "x.io/g", "status": "True"}]})).unwrap();
        let status = simple(&pod, &runtime);
        assert_eq!(condition(&status, "Ready").0, "True");
        assert_eq!(condition(&status, "x.io/g").0, "True");
    }

    #[test]
    fn a_container_that_waits_shows_why_and_how_it_ended() {
        let pod = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
        let runtime = runtime_of(&[(0, true)], &[("a", 3, "s0", "7")]);
        let waiting = [("a".to_owned(), ("CrashLoopBackOff".to_owned(), "back-off".to_owned()))].into();
        let status =
            make(Case { pod: &pod, runtime: &runtime, probes: Probes::new(), waiting, verdict: None, finished: false });
        let a = &status.container_statuses.unwrap()[0];
        assert_eq!(a.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
        assert_eq!(a.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 7);
        assert_eq!(a.restart_count, 3);
        assert_eq!(status.phase.as_deref(), Some("Running"));
    }

    #[test]
    fn a_pod_that_was_stopped_has_ended_whatever_its_policy() {
        let pod = pod(json!({"containers": [{"name": "a"}, {"name": "never-made"}]}));
        let runtime = runtime_of(&[(0, false)], &[("a", 0, "s0", "0")]);
        let (probes, waiting) = (Probes::new(), WaitingReasons::new());
        let status = make(Case { pod: &pod, runtime: &runtime, probes, waiting, verdict: None, finished: true });
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        let made = &status.container_statuses.unwrap()[1];
        let ended = made.state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    }

    #[test]
    fn a_verdict_is_shown() {
        let pod = pod(json!({"containers": [{"name": "a"}]}));
        let verdict = Verdict { phase: Some("Failed"), reason: "OutOfcpu".into(), message: "m".into() };
        let (probes, waiting) = (Probes::new(), WaitingReasons::new());
        let runtime = PodRuntime::default();
        let status =
            make(Case { pod: &pod, runtime: &runtime, probes, waiting, verdict: Some(verdict), finished: true });
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
        assert_eq!(condition(&status, "Ready").1, "PodFailed");
    }
}
