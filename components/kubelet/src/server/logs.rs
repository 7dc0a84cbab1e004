//! `/containerLogs`: one container's log.

use std::path::PathBuf;
use std::sync::Arc;

use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::query::Query;
use super::{Body, text};
use crate::logs::follow::{LogOptions, read};
use crate::shared::{PodHandle, Shared};

/// Blocks on their way to a slow reader.
const BLOCKS_MAX: usize = 4;

/// What the client asks for.
fn options(query: &Query) -> Result<LogOptions, String> {
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("invalid {name}: {text:?}")),
    };
    let since_time = match query.get("sinceTime") {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| format!("invalid sinceTime: {text:?}"))?),
    };
    let since_seconds = number("sinceSeconds")?
        .and_then(|seconds| Timestamp::now().checked_sub(SignedDuration::from_secs(i64::try_from(seconds).ok()?)).ok());
    Ok(LogOptions {
        follow: query.flag(&["follow"]),
        tail: number("tailLines")?,
        since: since_time.or(since_seconds),
        timestamps: query.flag(&["timestamps"]),
        limit_bytes: number("limitBytes")?,
        stream: match query.get("stream") {
            Some("Stdout") => Some(false),
            Some("Stderr") => Some(true),
            _ => None,
        },
    })
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.container_statuses.iter().chain(&status.init_container_statuses).flatten()
}

/// Which attempt's log is meant.
fn attempt(status: Option<&PodStatus>, pod: &str, container: &str, previous: bool) -> Result<i32, String> {
    let found = status.into_iter().flat_map(statuses).find(|status| status.name == container);
    let Some(found) = found else {
        return Err(format!("container {container:?} in pod {pod:?} is not available"));
    };
    let state = found.state.clone().unwrap_or_default();
    let last = found.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    if previous {
        if last.is_none() {
            return Err(format!("previous terminated container {container:?} in pod {pod:?} not found"));
        }
        // While it waits for its restart the last one that ended is also the newest.
        return Ok(if state.waiting.is_some() { found.restart_count } else { found.restart_count - 1 });
    }
    if let Some(waiting) = &state.waiting {
        if last.is_some() {
            return Ok(found.restart_count);
        }
        let reason = waiting.reason.as_deref().unwrap_or_default();
        return Err(match reason {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                format!("container {container:?} in pod {pod:?} is waiting to start: trying and failing to pull image")
            }
            _ => format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"),
        });
    }
    Ok(found.restart_count)
}

/// Answers a request for a log.
pub(super) fn serve(shared: &Arc<Shared>, namespace: &str, pod: &str, container: &str, query: &str) -> Response<Body> {
    let query = Query::parse(query);
    let options = match options(&query) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let Some(handle) = shared.pod_named(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} not found"));
    };
    let status = handle.status.lock().clone().or_else(|| handle.desired.borrow().pod.status.clone());
    let attempt = match attempt(status.as_ref(), pod, container, query.flag(&["previous"])) {
        Ok(attempt) => attempt,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let folder = shared.config.pod_log_dir(namespace, pod, &handle.uid);
    let path: PathBuf = folder.join(container).join(format!("{attempt}.log"));
    let (sink, source) = mpsc::channel(BLOCKS_MAX);
    let name = container.to_owned();
    let runs = move || {
        let running = runs(&handle, &name, attempt);
        async move { running }
    };
    // Owned by the connection: when the client goes, the channel closes and the task ends.
    tokio::spawn(read(path, options, sink, runs));
    let frames = ReceiverStream::new(source).map(|block| Ok::<_, std::io::Error>(Frame::data(block)));
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
    response
}

fn runs(handle: &PodHandle, container: &str, attempt: i32) -> bool {
    let status = handle.status.lock();
    let found = status.as_ref().into_iter().flat_map(statuses).find(|status| status.name == container);
    found.is_some_and(|found| {
        found.restart_count == attempt && found.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn attempts() {
        let running = json!({"running": {}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = json!({"terminated": {"exitCode": 1}});
        let cases: Vec<(Value, Value, i32, bool, Result<i32, &str>)> = vec![
            (running.clone(), Value::Null, 0, false, Ok(0)),
            (running.clone(), ended.clone(), 2, false, Ok(2)),
            (running.clone(), ended.clone(), 2, true, Ok(1)),
            (waiting("CrashLoopBackOff"), ended.clone(), 2, false, Ok(2)),
            (waiting("CrashLoopBackOff"), ended.clone(), 2, true, Ok(2)),
            (ended.clone(), Value::Null, 0, false, Ok(0)),
            (running, Value::Null, 0, true, Err("previous terminated container \"c\" in pod \"p\" not found")),
            (
                waiting("ContainerCreating"),
                Value::Null,
                0,
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            ),
            (
                waiting("ImagePullBackOff"),
                Value::Null,
                0,
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"),
            ),
        ];
        for (state, last, count, previous, expected) in cases {
            let one = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": count,
                "state": state, "lastState": last});
            let status: PodStatus = serde_json::from_value(json!({"containerStatuses": [one]})).unwrap();
            let got = attempt(Some(&status), "p", "c", previous);
            assert_eq!(got, expected.map_err(str::to_owned), "{status:?} {previous}");
        }
        assert!(attempt(None, "p", "c", false).is_err());
    }
}
