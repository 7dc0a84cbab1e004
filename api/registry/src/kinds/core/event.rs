//! Events, as both groups serve them; stored in the form of the core group.

use jiff::Timestamp;
use navarch_types::validate::names;
use serde_json::Value;

use crate::kinds::at::At;
use crate::kinds::cells::{UNKNOWN, name, number, since, text};
use crate::kinds::kind::{Findings, Kind, column, wide};
use crate::kinds::rules::required_shape;
use crate::strategy::{Column, SelectableField};

/// Events are for looking at what just happened.
const LIFETIME_MS: u64 = 3_600_000;
const MESSAGE_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 128;

const fn field(name: &'static str, path: &'static [&'static str]) -> SelectableField {
    SelectableField { name, path, absent: "" }
}

/// The strategy.
pub(crate) static EVENT: Kind = Kind {
    create: |_, object, out| event(object, out),
    name: names::path_segment,
    create_on_update: true,
    ttl_ms: Some(LIFETIME_MS),
    selectable: &[
        field("involvedObject.kind", &["involvedObject", "kind"]),
        field("involvedObject.namespace", &["involvedObject", "namespace"]),
        field("involvedObject.name", &["involvedObject", "name"]),
        field("involvedObject.uid", &["involvedObject", "uid"]),
        field("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
        field("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
        field("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
        field("reason", &["reason"]),
        field("reportingComponent", &["reportingComponent"]),
        field("source", &["source", "component"]),
        field("type", &["type"]),
    ],
    columns: COLUMNS,
    row,
    ..Kind::PLAIN
};

/// Rules: of the new style if `eventTime` is set, else only that the event lies beside its object.
fn event(object: &Value, out: &mut Findings) {
    let involved = At::root(object, "involvedObject");
    let theirs = involved.child("namespace");
    let own = text(object, &["metadata", "namespace"]);
    let beside = if theirs.is_empty() { matches!(own, "" | "default" | "kube-system") } else { own == theirs.text() };
    if !beside {
        out.push(theirs.invalid("does not match event.namespace"));
    }
    if object["eventTime"].is_null() {
        return;
    }
    let controller = At::root(object, "reportingComponent");
    required_shape(&controller, names::qualified_name, out);
    let instance = At::root(object, "reportingInstance");
    if instance.is_empty() {
        out.push(instance.required(""));
    }
    for key in ["action", "reason"] {
        let at = At::root(object, key);
        if at.is_empty() {
            out.push(at.required(""));
        }
    }
    for (key, max) in [
        ("reportingInstance", NAME_BYTES_MAX),
        ("action", NAME_BYTES_MAX),
        ("reason", NAME_BYTES_MAX),
        ("message", MESSAGE_BYTES_MAX),
    ] {
        let at = At::root(object, key);
        if at.text().len() > max {
            let mut finding = at.invalid(format!("can have at most {max} bytes"));
            finding.bad_value = "".into();
            out.push(finding);
        }
    }
    let kind = At::root(object, "type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        let mut finding = kind.invalid(format!("has invalid value: {}", kind.text()));
        finding.bad_value = "".into();
        out.push(finding);
    }
}

const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "When it happened last"),
    column("Type", "string", "Normal or a warning"),
    column("Reason", "string", "Why, in a word"),
    column("Object", "string", "What it is about"),
    wide("Subobject", "string", "Which part of it"),
    wide("Source", "string", "Who says so"),
    column("Message", "string", "What happened"),
    wide("First Seen", "string", "When it happened first"),
    wide("Count", "string", "How often"),
    Column { priority: 1, ..crate::kinds::kind::NAME },
];

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let ago = |time: &Value| Some(since(time, now)).filter(|text| text != UNKNOWN);
    let first = ago(&object["firstTimestamp"]).or_else(|| ago(&object["eventTime"])).unwrap_or(UNKNOWN.to_owned());
    let series = &object["series"];
    let (last, count) = if series.is_null() {
        (ago(&object["lastTimestamp"]), number(object, &["count"]))
    } else {
        (ago(&series["lastObservedTime"]), number(series, &["count"]))
    };
    let involved = &object["involvedObject"];
    let (component, host) = (text(object, &["source", "component"]), text(object, &["source", "host"]));
    let component = if component.is_empty() { text(object, &["reportingComponent"]) } else { component };
    let host = if host.is_empty() { text(object, &["reportingInstance"]) } else { host };
    let source: Vec<&str> = [component, host].into_iter().filter(|s| !s.is_empty()).collect();
    vec![
        last.unwrap_or_else(|| first.clone()).into(),
        text(object, &["type"]).into(),
        text(object, &["reason"]).into(),
        format!("{}/{}", text(involved, &["kind"]).to_lowercase(), text(involved, &["name"])).into(),
        text(involved, &["fieldPath"]).into(),
        source.join(", ").into(),
        text(object, &["message"]).trim().into(),
        first.into(),
        count.max(1).into(),
        name(object),
    ]
}
