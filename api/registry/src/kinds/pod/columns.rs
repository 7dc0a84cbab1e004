//! What `kubectl get pods` shows.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::cells::{NONE, age_cell, condition, condition_is_true, list, name, number, text, text_or, timestamp};
use crate::kinds::kind::{AGE, NAME, column, wide};
use crate::strategy::{Column, human_duration};

/// The headings.
pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many containers are ready, of how many"),
    column("Status", "string", "What the containers are doing, as one word"),
    column("Restarts", "string", "How often containers were restarted, and when last"),
    AGE,
    wide("IP", "string", "Address of the pod"),
    wide("Node", "string", "Node that the pod is bound to"),
    wide("Nominated Node", "string", "Node that room is being made on"),
    wide("Readiness Gates", "string", "How many readiness gates are open, of how many"),
];

/// What was found out from the container statuses.
struct Picture {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// The cells.
pub(crate) fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let init = list(object, &["spec", "initContainers"]);
    let total = list(object, &["spec", "containers"]).len() + init.iter().filter(|c| is_sidecar(c)).count();
    let picture = picture(object);
    let mut restarts = picture.restarts.to_string();
    if let Some(last) = picture.last_restart.filter(|_| picture.restarts != 0) {
        restarts = format!("{restarts} ({} ago)", human_duration(now.as_second() - last.as_second()));
    }
    let ip = list(object, &["status", "podIPs"]).first().map(|ip| text(ip, &["ip"])).filter(|ip| !ip.is_empty());
    vec![
        name(object),
        format!("{}/{total}", picture.ready).into(),
        picture.reason.into(),
        restarts.into(),
        age_cell(object, now),
        ip.unwrap_or_else(|| text_or(object, &["status", "podIP"], NONE)).into(),
        text_or(object, &["spec", "nodeName"], NONE).into(),
        text_or(object, &["status", "nominatedNodeName"], NONE).into(),
        readiness_gates(object).into(),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn readiness_gates(object: &Value) -> String {
    let gates = list(object, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|g| condition_is_true(object, text(g, &["conditionType"]))).count();
    format!("{open}/{}", gates.len())
}

fn picture(object: &Value) -> Picture {
    let phase = text(object, &["status", "phase"]);
    let mut reason = text_or(object, &["status", "reason"], phase).to_owned();
    if condition(object, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut reason);
    }
    let mut picture = Picture { reason, ready: 0, restarts: 0, last_restart: None };
    let sidecars = Sidecars::of(object);
    let initializing = initialization(object, &sidecars, &mut picture);
    if !initializing || condition_is_true(object, "Initialized") {
        picture.restarts = sidecars.restarts(object);
        picture.last_restart = sidecars.last_restart(object);
        ordinary(object, &mut picture);
    }
    if !object["metadata"]["deletionTimestamp"].is_null() {
        if text(object, &["status", "reason"]) == "NodeLost" {
            "Unknown".clone_into(&mut picture.reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut picture.reason);
        }
    }
    picture
}

/// The names of the init containers that keep running.
struct Sidecars<'v>(Vec<&'v str>);

impl<'v> Sidecars<'v> {
    fn of(object: &'v Value) -> Self {
        let init = list(object, &["spec", "initContainers"]);
        Self(init.iter().filter(|c| is_sidecar(c)).map(|c| text(c, &["name"])).collect())
    }

    fn has(&self, status: &Value) -> bool {
        self.0.contains(&text(status, &["name"]))
    }

    fn statuses(&self, object: &'v Value) -> impl Iterator<Item = &'v Value> {
        list(object, &["status", "initContainerStatuses"]).iter().filter(|s| self.has(s))
    }

    fn restarts(&self, object: &'v Value) -> i64 {
        self.statuses(object).map(|s| number(s, &["restartCount"])).sum()
    }

    fn last_restart(&self, object: &'v Value) -> Option<Timestamp> {
        self.statuses(object).filter_map(ended).max()
    }
}

fn ended(status: &Value) -> Option<Timestamp> {
    timestamp(&status["lastState"]["terminated"]["finishedAt"])
}

/// How a container ended, when it gives no reason.
fn exit(terminated: &Value) -> String {
    match number(terminated, &["signal"]) {
        0 => format!("ExitCode:{}", number(terminated, &["exitCode"])),
        signal => format!("Signal:{signal}"),
    }
}

/// Looks at the init containers up to the first that is not done; whether there is such a one.
fn initialization(object: &Value, sidecars: &Sidecars<'_>, picture: &mut Picture) -> bool {
    let count = list(object, &["spec", "initContainers"]).len();
    for (i, status) in list(object, &["status", "initContainerStatuses"]).iter().enumerate() {
        picture.restarts += number(status, &["restartCount"]);
        picture.last_restart = picture.last_restart.max(ended(status));
        let (terminated, waiting) = (&status["state"]["terminated"], text(status, &["state", "waiting", "reason"]));
        if !terminated.is_null() && number(terminated, &["exitCode"]) == 0 {
            continue;
        }
        if sidecars.has(status) && status["started"] == true {
            picture.ready += usize::from(status["ready"] == true);
            continue;
        }
        picture.reason = if !terminated.is_null() {
            match text(terminated, &["reason"]) {
                "" => format!("Init:{}", exit(terminated)),
                reason => format!("Init:{reason}"),
            }
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{count}")
        };
        return true;
    }
    false
}

fn ordinary(object: &Value, picture: &mut Picture) {
    let mut running = false;
    for status in list(object, &["status", "containerStatuses"]).iter().rev() {
        picture.restarts += number(status, &["restartCount"]);
        picture.last_restart = picture.last_restart.max(ended(status));
        let state = &status["state"];
        let (waiting, terminated) = (text(state, &["waiting", "reason"]), &state["terminated"]);
        if !waiting.is_empty() {
            waiting.clone_into(&mut picture.reason);
        } else if !terminated.is_null() {
            picture.reason = match text(terminated, &["reason"]) {
                "" => exit(terminated),
                reason => reason.to_owned(),
            };
        } else if status["ready"] == true && !state["running"].is_null() {
            running = true;
            picture.ready += 1;
        }
    }
    if picture.reason == "Completed" && running {
        let ready = condition_is_true(object, "Ready");
        if ready { "Running" } else { "NotReady" }.clone_into(&mut picture.reason);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn cells(status: Value, spec: Value, metadata: Value) -> Vec<String> {
        let object = json!({"metadata": metadata, "spec": spec, "status": status});
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        row(&object, now).into_iter().map(|c| c.as_str().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn the_status_word_follows_the_containers() {
        let one = json!({"containers": [{"name": "a"}]});
        let init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
        let sidecar =
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
        let up = json!({"name": "a", "ready": true, "state": {"running": {}}});
        let cases = [
            (json!({"phase": "Pending"}), &one, json!({}), "0/1", "Pending", "0"),
            (json!({"phase": "Running", "containerStatuses": [up]}), &one, json!({}), "1/1", "Running", "0"),
            (
                json!({"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                &one,
                json!({}),
                "0/1",
                "ContainerCreating",
                "0",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"finishedAt": "2026-01-01T00:09:30Z"}}}]}),
                &one,
                json!({}),
                "0/1",
                "CrashLoopBackOff",
                "3 (30s ago)",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
                &one,
                json!({}),
                "0/1",
                "ExitCode:3",
                "0",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"reason": "Completed"}}}]}),
                &one,
                json!({}),
                "0/1",
                "Completed",
                "0",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [up]}),
                &one,
                json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
                "1/1",
                "Terminating",
                "0",
            ),
            (json!({"phase": "Failed", "reason": "Evicted"}), &one, json!({}), "0/1", "Evicted", "0"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                &init,
                json!({}),
                "0/1",
                "Init:0/1",
                "0",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                &init,
                json!({}),
                "0/1",
                "Init:Error",
                "2",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [up],
                    "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}]}),
                &sidecar,
                json!({}),
                "2/2",
                "Running",
                "1",
            ),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                &one,
                json!({}),
                "0/1",
                "SchedulingGated",
                "0",
            ),
        ];
        for (status, spec, metadata, ready, word, restarts) in cases {
            let cells = cells(status.clone(), spec.clone(), metadata);
            assert_eq!((cells[1].as_str(), cells[2].as_str(), cells[3].as_str()), (ready, word, restarts), "{status}");
        }
    }

    #[test]
    fn wide_cells() {
        let status = json!({"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "x/y", "status": "True"}]});
        let spec = json!({"nodeName": "n", "readinessGates": [{"conditionType": "x/y"}, {"conditionType": "x/z"}]});
        assert_eq!(cells(status, spec, json!({}))[5..], ["10.0.0.1", "n", "<none>", "1/2"]);
        assert_eq!(cells(json!({}), json!({}), json!({}))[5..], ["<none>", "<none>", "<none>", "<none>"]);
    }
}
