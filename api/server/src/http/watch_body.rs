//! The body of a watch: one JSON document an event, as they come, or one frame of protobuf.
//!
//! A client that has gone is noticed when something is written to it, so something is: over HTTP/2 a watch that has nothing
//! to say would otherwise be kept for its whole time. Protobuf has nothing to write that says nothing: there, the bookmark
//! that comes every minute does it, which client-go always asks for.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, http::header};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::Stream;
use navarch_registry::Resource;
use navarch_registry::ops::watch::Watch;
use navarch_telemetry::prometheus_client::metrics::gauge::Gauge;
use navarch_types::protobuf::watch_frame;
use navarch_types::{ApiError, WatchEvent};
use serde_json::{Value, json};

use super::accept::{Form, Syntax, View};
use super::protobuf;
use super::table::{self, Include};
use crate::info::Query;
use tokio_util::sync::CancellationToken;

/// How often a silent watch is written to: a line break, which no decoder minds between documents.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Events that are there already go out in one write, up to about this size.
const FRAME_BYTES: usize = 64 * 1024;

struct State {
    watch: Watch,
    form: Form,
    include: Include,
    over: bool,
    stop: CancellationToken,
    _open: Open,
}

/// Counts a watch while it is open.
struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The response of a watch.
pub fn response(watch: Watch, form: Form, query: &Query, server: &super::State) -> HttpResponse {
    let include = match Include::parse(query.get("includeObject")) {
        Ok(include) => include,
        Err(error) => return super::respond::error(&error, form),
    };
    let media_type = match (form.syntax, form.view) {
        (Syntax::Protobuf, _) => "application/vnd.kubernetes.protobuf;stream=watch",
        (_, View::Full) => "application/json",
        (_, View::Table) => "application/json;as=Table;g=meta.k8s.io;v=v1",
        (_, View::Metadata) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    };
    let state = State {
        watch,
        form,
        include,
        over: false,
        stop: server.stop.clone(),
        _open: Open::new(&server.metrics.watches),
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, media_type));
    response.streaming(frames(state))
}

fn frames(state: State) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures::stream::unfold(state, |mut state| async move {
        if state.over {
            return None;
        }
        let frame = state.frame().await?;
        Some((Ok(frame), state))
    })
}

impl State {
    /// The next write, or nothing at the end.
    async fn frame(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        let heartbeat = if self.form.syntax == Syntax::Protobuf { Duration::MAX } else { HEARTBEAT };
        let next = tokio::select! {
            () = self.stop.cancelled() => return None,
            next = tokio::time::timeout(heartbeat, self.watch.next()) => next,
        };
        match next {
            Err(_) => out.put_u8(b'\n'),
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(event))) => self.write(&event, &mut out),
            Ok(Err(error)) => self.fail(&error, &mut out),
        }
        while !self.over && out.len() < FRAME_BYTES {
            match self.watch.next().now_or_never_ready() {
                Some(Ok(Some(event))) => self.write(&event, &mut out),
                Some(Ok(None)) => self.over = true,
                Some(Err(error)) => self.fail(&error, &mut out),
                None => break,
            }
        }
        Some(out.freeze())
    }

    fn fail(&mut self, error: &ApiError, out: &mut BytesMut) {
        self.over = true;
        write_error(error, self.form.syntax, out);
    }

    fn write(&mut self, event: &WatchEvent, out: &mut BytesMut) {
        if self.form.syntax == Syntax::Protobuf {
            match self.protobuf(event) {
                Ok(frame) => out.put_slice(&frame),
                Err(error) => self.fail(&error, out),
            }
            return;
        }
        let resource = Arc::clone(self.watch.resource());
        match self.form.view {
            View::Full => {
                out.reserve(event.object.served_len() + 40);
                out.put_slice(b"{\"type\":\"");
                out.put_slice(event.event_type.as_str().as_bytes());
                out.put_slice(b"\",\"object\":");
                event.object.write_served(out);
                out.put_slice(b"}\n");
            }
            View::Table | View::Metadata => match self.shown(&resource, event) {
                Ok(object) => {
                    let event = json!({"type": event.event_type.as_str(), "object": object});
                    out.put_slice(event.to_string().as_bytes());
                    out.put_u8(b'\n');
                }
                Err(error) => self.fail(&error, out),
            },
        }
    }

    /// Every watcher of a change gets the same bytes, so they are made once.
    fn protobuf(&self, event: &WatchEvent) -> Result<Vec<u8>, ApiError> {
        let name = event.event_type.as_str();
        if self.form.view == View::Full {
            return Ok(watch_frame(name, &event.object.shared_protobuf().map_err(ApiError::internal)?));
        }
        let partial = table::partial(&event.object.to_value().map_err(ApiError::internal)?);
        Ok(watch_frame(name, &protobuf::encode(&partial)?))
    }

    fn shown(&self, resource: &Resource, event: &WatchEvent) -> Result<Value, ApiError> {
        let value = event.object.to_value().map_err(ApiError::internal)?;
        if self.form.view == View::Metadata {
            return Ok(table::partial(&value));
        }
        if event.event_type == navarch_types::WatchEventType::Bookmark {
            return table::table(resource, std::iter::empty(), value["metadata"].clone(), self.include);
        }
        let metadata = json!({"resourceVersion": event.object.revision().to_string()});
        table::table(resource, std::iter::once(&*event.object), metadata, self.include)
    }
}

/// The last event of a watch that fails.
fn write_error(error: &ApiError, syntax: Syntax, out: &mut BytesMut) {
    if syntax == Syntax::Protobuf {
        // A Status has a protobuf form; a watch that only ends is what is left if it had not.
        let status = serde_json::to_value(error.status()).map_err(ApiError::internal);
        if let Ok(body) = status.and_then(|status| protobuf::encode(&status)) {
            out.put_slice(&watch_frame("ERROR", &body));
        }
        return;
    }
    let event = json!({"type": "ERROR", "object": error.status()});
    out.put_slice(event.to_string().as_bytes());
    out.put_u8(b'\n');
}

/// Polls a future once.
trait NowOrNever: Future + Sized {
    fn now_or_never_ready(self) -> Option<Self::Output> {
        futures::FutureExt::now_or_never(self)
    }
}

impl<F: Future + Sized> NowOrNever for F {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use navarch_types::Reason;

    use super::*;

    #[test]
    fn failures_are_events() {
        let error = ApiError::new(Reason::Expired, "too old resource version");
        let mut out = BytesMut::new();
        write_error(&error, Syntax::Json, &mut out);
        let event: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
        let mut out = BytesMut::new();
        write_error(&error, Syntax::Protobuf, &mut out);
        let body = protobuf::encode(&serde_json::to_value(error.status()).unwrap()).unwrap();
        assert_eq!(out, watch_frame("ERROR", &body));
        assert!(body.starts_with(b"k8s\0"));
    }
}
