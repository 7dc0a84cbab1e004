//! Where a stream goes: the node of a pod, the container, and the kubelet's path. Pure.

use k8s_openapi::api::core::v1::{Node, Pod};
use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::{ApiError, GroupVersionKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::info::Query;

/// Everything but what needs no escape in a path or query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Where kubelets listen unless the node's status says otherwise.
const KUBELET_PORT: u16 = 10_250;

/// A kubelet that can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubelet {
    /// The node's name; its serving certificate must be for it.
    pub node: String,
    /// An address or a name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// How to reach a node's kubelet: by its internal address first.
///
/// # Errors
/// 500 if the node has no address.
pub fn kubelet(node: &Node) -> Result<Kubelet, ApiError> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let status = node.status.as_ref();
    let addresses = status.and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    let wanted = ["InternalIP", "ExternalIP", "Hostname"];
    let host = wanted
        .iter()
        .find_map(|kind| addresses.iter().find(|a| a.type_ == *kind && !a.address.is_empty()))
        .ok_or_else(|| ApiError::internal(format!("no preferred addresses found on node {name:?}")))?;
    let port = status
        .and_then(|s| s.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref())
        .and_then(|e| u16::try_from(e.port).ok())
        .filter(|port| *port != 0);
    Ok(Kubelet { node: name, host: host.address.clone(), port: port.unwrap_or(KUBELET_PORT) })
}

fn names(pod: &Pod) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    let Some(spec) = pod.spec.as_ref() else { return Default::default() };
    let ordinary = spec.containers.iter().map(|c| c.name.as_str()).collect();
    let init = spec.init_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    (ordinary, init, ephemeral)
}

/// The container that a request is for: the one it names, or the pod's only one.
///
/// # Errors
/// 400 if it names none of the pod's, or none although there are several.
pub fn container<'a>(pod: &'a Pod, asked: &'a str) -> Result<&'a str, ApiError> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let (ordinary, init, ephemeral) = names(pod);
    if !asked.is_empty() {
        let known = [&ordinary, &init, &ephemeral].iter().any(|list| list.contains(&asked));
        let unknown = || ApiError::bad_request(format!("container {asked} is not valid for pod {pod_name}"));
        return if known { Ok(asked) } else { Err(unknown()) };
    }
    match ordinary.as_slice() {
        [only] => Ok(only),
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        several => {
            let mut why = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                several.join(" ")
            );
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            if !ephemeral.is_empty() {
                why.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
            }
            Err(ApiError::bad_request(why))
        }
    }
}

/// Joins a path from parts and a query from pairs.
fn url(parts: &[&str], query: &[(&str, String)]) -> String {
    let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let mut out: String = parts.iter().map(|p| format!("/{}", escape(p))).collect();
    for (at, (key, value)) in query.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(&format!("{key}={}", escape(value)));
    }
    out
}

/// What exec and attach ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Whether the client sends standard input.
    pub stdin: bool,
    /// Whether it wants standard output.
    pub stdout: bool,
    /// Whether it wants standard error.
    pub stderr: bool,
    /// Whether they are a terminal.
    pub tty: bool,
}

impl Streams {
    /// From a query.
    ///
    /// # Errors
    /// 422 if no stream is wanted, or standard error of a terminal.
    pub fn parse(query: &Query, kind: &'static str) -> Result<Self, ApiError> {
        let flag = |name: &str| query.flag(name).unwrap_or_default();
        let streams = Self { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr"), tty: flag("tty") };
        let mut findings = Vec::new();
        if !streams.stdin && !streams.stdout && !streams.stderr {
            let why = "must specify at least one of stdin, stdout, stderr";
            findings.push(FieldError::required(&Path::root("stdin"), why));
        }
        if streams.tty && streams.stderr {
            let why = "tty and stderr cannot both be true";
            findings.push(FieldError::invalid(&Path::root("stderr"), true, why));
        }
        into_result(&GroupVersionKind::new("", "v1", kind), "", findings)?;
        Ok(streams)
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let all = [("input", self.stdin), ("output", self.stdout), ("error", self.stderr), ("tty", self.tty)];
        all.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "1".to_owned())).collect()
    }
}

/// The kubelet's path of exec.
///
/// # Errors
/// 422 without a command.
pub fn exec(namespace: &str, pod: &str, container: &str, streams: &Streams, query: &Query) -> Result<String, ApiError> {
    let commands: Vec<_> = query.all("command").map(|c| ("command", c.to_owned())).collect();
    if commands.is_empty() {
        let missing = FieldError::required(&Path::root("command"), "");
        into_result(&GroupVersionKind::new("", "v1", "PodExecOptions"), "", vec![missing])?;
    }
    let mut pairs = streams.query();
    pairs.extend(commands);
    Ok(url(&["exec", namespace, pod, container], &pairs))
}

/// The kubelet's path of attach.
pub fn attach(namespace: &str, pod: &str, container: &str, streams: &Streams) -> String {
    url(&["attach", namespace, pod, container], &streams.query())
}

/// The kubelet's path of port-forward. Ports are in the headers of streams, and in the query for old WebSocket clients.
pub fn port_forward(namespace: &str, pod: &str, query: &Query) -> String {
    let ports: Vec<_> = query.all("ports").flat_map(|p| p.split(',')).map(|p| ("port", p.to_owned())).collect();
    url(&["portForward", namespace, pod], &ports)
}

/// The kubelet's path of logs.
///
/// # Errors
/// 422 if an option has an impossible value.
pub fn logs(namespace: &str, pod: &str, container: &str, query: &Query) -> Result<String, ApiError> {
    let mut pairs = Vec::new();
    let mut findings = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) == Some(true) {
            pairs.push((name, "true".to_owned()));
        }
    }
    for (name, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ] {
        let Some(text) = query.get(name).filter(|t| !t.is_empty()) else { continue };
        match text.parse::<i64>() {
            Ok(number) if number >= least => pairs.push((name, text.to_owned())),
            Ok(number) => findings.push(FieldError::invalid(&Path::root(name), number, why)),
            Err(_) => {
                return Err(ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
            }
        }
    }
    if let Some(time) = query.get("sinceTime").filter(|t| !t.is_empty()) {
        if time.parse::<jiff::Timestamp>().is_err() {
            return Err(ApiError::bad_request(format!("parsing time {time:?} as RFC 3339 failed")));
        }
        if query.get("sinceSeconds").is_some_and(|s| !s.is_empty()) {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            findings.push(FieldError::forbidden(&Path::root("sinceSeconds"), why));
        }
        pairs.push(("sinceTime", time.to_owned()));
    }
    if let Some(stream) = query.get("stream").filter(|s| !s.is_empty()) {
        if !matches!(stream, "All" | "Stdout" | "Stderr") {
            findings.push(FieldError::not_supported(&Path::root("stream"), stream, &["All", "Stderr", "Stdout"]));
        }
        pairs.push(("stream", stream.to_owned()));
    }
    into_result(&GroupVersionKind::new("", "v1", "PodLogOptions"), "", findings)?;
    Ok(url(&["containerLogs", namespace, pod, container], &pairs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Pod {
        let list = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": list(containers), "initContainers": list(init)}}))
        .unwrap()
    }

    #[test]
    fn a_container_is_named_or_the_only_one() {
        assert_eq!(container(&pod(&["a"], &["i"]), "").unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"], &["i"]), "i").unwrap(), "i");
        assert_eq!(
            container(&pod(&["a", "b"], &["i"]), "").unwrap_err().to_string(),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&pod(&["a"], &[]), "x").unwrap_err().to_string(), "container x is not valid for pod p");
    }

    #[test]
    fn kubelet_addresses() {
        let node = |status| {
            serde_json::from_value::<Node>(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1"}, "status": status}))
            .unwrap()
        };
        let found = kubelet(&node(json!({"addresses": [{"type": "Hostname", "address": "h"},
            {"type": "InternalIP", "address": "10.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 999}}})));
        assert_eq!(found.unwrap(), Kubelet { node: "n1".into(), host: "10.0.0.1".into(), port: 999 });
        assert_eq!(kubelet(&node(json!({}))).unwrap_err().code(), 500);
    }

    #[test]
    fn kubelet_paths() {
        let query = |text| Query::parse(text);
        let streams = |text| Streams::parse(&query(text), "PodExecOptions");
        let both = streams("stdin=true&stdout=1&stderr=true").unwrap();
        assert_eq!(
            exec("ns", "p", "c", &both, &query("command=sh&command=-c&command=a%20b%26c")).unwrap(),
            "/exec/ns/p/c?input=1&output=1&error=1&command=sh&command=-c&command=a%20b%26c"
        );
        assert_eq!(exec("ns", "p", "c", &both, &query("")).unwrap_err().code(), 422);
        assert_eq!(streams("stdin=false").unwrap_err().code(), 422);
        assert_eq!(streams("tty=true&stderr=true").unwrap_err().code(), 422);
        assert_eq!(attach("ns", "p", "c", &streams("stdout=true&tty=true").unwrap()), "/attach/ns/p/c?output=1&tty=1");
        assert_eq!(port_forward("ns", "p", &query("ports=80,81")), "/portForward/ns/p?port=80&port=81");
    }

    #[test]
    fn log_options() {
        for (text, expected) in [
            ("", Ok("/containerLogs/ns/p/c")),
            (
                "follow=true&tailLines=0&timestamps=true",
                Ok("/containerLogs/ns/p/c?follow=true&timestamps=true&tailLines=0"),
            ),
            ("follow=false&previous=true", Ok("/containerLogs/ns/p/c?previous=true")),
            ("sinceTime=2026-01-01T00:00:00Z", Ok("/containerLogs/ns/p/c?sinceTime=2026-01-01T00%3A00%3A00Z")),
            ("tailLines=-1", Err(422)),
            ("tailLines=x", Err(400)),
            ("sinceSeconds=0", Err(422)),
            ("limitBytes=0", Err(422)),
            ("sinceTime=yesterday", Err(400)),
            ("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=5", Err(422)),
        ] {
            let found = logs("ns", "p", "c", &Query::parse(text));
            assert_eq!(found.map_err(|e| e.code()), expected.map(str::to_owned), "{text}");
        }
    }
}
