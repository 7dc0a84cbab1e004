//! The pods' part of the real cgroup tree.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Child, Command};

use navarch_kubelet::resources::Qos;
use navarch_kubelet::resources::cgroup::{Cgroups, PodLimits};

const LIMITS: PodLimits = PodLimits { cpu_shares: 2, cpu_quota: 0, memory_bytes: 0, pids_max: None };

/// A process in the cgroup of a pod, as one that got away from the runtime.
fn stray(cgroups: &Cgroups, root: &str, uid: &str) -> Child {
    cgroups.create_pod(Qos::BestEffort, uid, LIMITS).unwrap();
    let part = if cgroups.is_unified() { "" } else { "memory/" };
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let procs = format!("/sys/fs/cgroup/{part}{root}/besteffort/pod{uid}/cgroup.procs");
    std::fs::write(procs, child.id().to_string()).unwrap();
    child
}

#[test]
fn what_got_away_is_killed_and_other_agents_are_left_alone() {
    let roots = ["a", "b"].map(|name| format!("nvktest-cgroups-{}-{name}", std::process::id()));
    let [ours, theirs] = roots.each_ref().map(|root| Cgroups::new(root));
    let mut own = ["one", "two"].map(|uid| stray(&ours, &roots[0], uid));
    let mut other = stray(&theirs, &roots[1], "one");

    // The first attempt kills; the process may still be on its way out then.
    while let Err(error) = ours.remove_pod(Qos::BestEffort, "one") {
        assert!(error.to_string().contains(&format!("{}/besteffort/podone", roots[0])), "{error}");
        own[0].wait().unwrap();
    }
    assert!(own[1].try_wait().unwrap().is_none(), "another pod's process runs on");
    assert_eq!(ours.pods(), [(Qos::BestEffort, "two".to_owned())]);

    ours.remove_all().unwrap();
    assert!(ours.pods().is_empty());
    for child in &mut own {
        assert!(!child.wait().unwrap().success());
    }
    assert!(other.try_wait().unwrap().is_none(), "another agent's pod runs on");
    theirs.remove_all().unwrap();
    other.wait().unwrap();
}
