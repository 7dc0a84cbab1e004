//! Answers in protobuf over HTTP: the same as in JSON.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use navarch_types::protobuf;
use navarch_types::schema::Schema;
use serde_json::{Value, json};

use crate::http::{JSON, MAPS, Served, serve};

/// As client-go sends it.
const ACCEPT: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf, */*");
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A body in an envelope, with the kind that it names; structures of `meta.k8s.io` by those that they look like.
fn read(body: &[u8]) -> Value {
    let envelope = protobuf::open(body).unwrap();
    let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
    let schema = Schema::builtin();
    let id = match envelope.kind.as_str() {
        "PartialObjectMetadata" => schema.by_kind("", "v1", "ConfigMap"),
        "PartialObjectMetadataList" => schema.by_kind("", "v1", "ConfigMapList"),
        kind => schema.by_kind(group, version, kind),
    };
    let mut object = protobuf::decode(schema, id.unwrap(), envelope.raw).unwrap();
    object.insert("apiVersion".to_owned(), envelope.api_version.clone().into());
    object.insert("kind".to_owned(), envelope.kind.into());
    object.into()
}

async fn taken(response: Response<Incoming>) -> (u16, String, Bytes) {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let content_type = headers["content-type"].to_str().unwrap().to_owned();
    (status, content_type, response.into_body().collect().await.unwrap().to_bytes())
}

async fn get(served: &Served, path: &str, accept: (&str, &str)) -> (u16, Value) {
    let (status, content_type, body) = taken(served.admin("GET", path, &[accept], vec![]).await).await;
    assert_eq!(content_type, PROTOBUF, "{path}");
    (status, read(&body))
}

/// Items say no more what they are.
fn without_kinds(mut list: Value) -> Value {
    for item in list["items"].as_array_mut().unwrap() {
        let item = item.as_object_mut().unwrap();
        item.remove("apiVersion");
        item.remove("kind");
    }
    list
}

#[tokio::test]
async fn objects_lists_and_errors() {
    let served = serve();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}});
    let map = protobuf::body(Schema::builtin(), &map).unwrap();
    let (status, content_type, body) =
        taken(served.admin("POST", MAPS, &[("content-type", PROTOBUF), ACCEPT], map.clone()).await).await;
    assert_eq!((status, content_type.as_str(), &read(&body)["data"]), (201, PROTOBUF, &json!({"x": "y"})));
    let (status, _, body) = taken(served.admin("POST", MAPS, &[("content-type", PROTOBUF), ACCEPT], map).await).await;
    assert_eq!((status, &read(&body)["reason"]), (409, &json!("AlreadyExists")));

    let path = format!("{MAPS}/a");
    assert_eq!(get(&served, &path, ACCEPT).await, served.json("GET", &path, &[], "").await);
    let (code, missing) = get(&served, &format!("{MAPS}/b"), ACCEPT).await;
    assert_eq!((code, missing), served.json("GET", &format!("{MAPS}/b"), &[], "").await);
    for count in [1, 150] {
        for i in 0..count {
            let body = json!({"metadata": {"name": format!("m{i}")}, "data": {"x": "y".repeat(1000)}}).to_string();
            served.json("POST", MAPS, &[JSON], &body).await;
        }
        for path in
            [MAPS.to_owned(), format!("{MAPS}?limit=1"), "/api/v1/namespaces".to_owned(), "/api/v1/pods".to_owned()]
        {
            let (code, list) = served.json("GET", &path, &[], "").await;
            let (found, mut same) = get(&served, &path, ACCEPT).await;
            // An empty list has no items on the wire.
            same.as_object_mut().unwrap().entry("items").or_insert_with(|| json!([]));
            same["metadata"].as_object_mut().unwrap().remove("continue");
            let mut list = without_kinds(list);
            list["metadata"].as_object_mut().unwrap().remove("continue");
            assert_eq!((found, same), (code, list), "{path}");
        }
    }
    let (status, _, body) = taken(served.admin("DELETE", &path, &[ACCEPT], vec![]).await).await;
    assert_eq!((status, &read(&body)["status"]), (200, &json!("Success")));
}

#[tokio::test]
async fn reviews_and_other_views() {
    let served = serve();
    served.json("POST", MAPS, &[JSON], r#"{"metadata":{"name":"a","labels":{"x":"y"}},"data":{"x":"y"}}"#).await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let body = protobuf::body(Schema::builtin(), &review).unwrap();
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (status, _, body) =
        taken(served.admin("POST", reviews, &[("content-type", PROTOBUF), ACCEPT], body).await).await;
    assert_eq!((status, &read(&body)["status"]["allowed"]), (201, &json!(true)));

    let partial = ("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (_, list) = get(&served, MAPS, partial).await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["labels"], json!({"x": "y"}));
    assert_eq!(list["items"][0].get("data"), None);
    let partial = ("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let (_, object) = get(&served, &format!("{MAPS}/a"), partial).await;
    assert_eq!((&object["kind"], object.get("data")), (&json!("PartialObjectMetadata"), None));

    // Tables have no such form, and what follows in the list is taken.
    let table = ("accept", "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json");
    let (_, content_type, _) = taken(served.admin("GET", MAPS, &[table], vec![]).await).await;
    assert_eq!(content_type, "application/json");
}

/// Reads one event: four bytes of length, then the event.
fn event(buffer: &mut Vec<u8>) -> Option<Value> {
    let length = u32::from_be_bytes(buffer.get(..4)?.try_into().unwrap()) as usize;
    let frame = buffer.get(4..4 + length)?.to_vec();
    buffer.drain(..4 + length);
    // The object is no JSON, which the structure says, so it is found where it stands: behind the type.
    let kind_length = usize::from(frame[1]);
    let kind = String::from_utf8(frame[2..2 + kind_length].to_vec()).unwrap();
    let at = frame.windows(4).position(|w| w == b"k8s\0").unwrap();
    Some(json!({"type": kind, "object": read(&frame[at..])}))
}

#[tokio::test]
async fn watches() {
    let served = serve();
    let path = format!("{MAPS}?watch=true&timeoutSeconds=60");
    let accept = ("accept", "application/vnd.kubernetes.protobuf;stream=watch,application/vnd.kubernetes.protobuf,*/*");
    let watch = served.admin("GET", &path, &[accept], vec![]).await;
    assert_eq!(watch.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut frames = watch.into_body();
    served.json("POST", MAPS, &[JSON], r#"{"metadata":{"name":"a"},"data":{"x":"y"}}"#).await;
    served.json("DELETE", &format!("{MAPS}/a"), &[], "").await;
    let (mut buffer, mut events) = (Vec::new(), Vec::new());
    while events.len() < 2 {
        let frame = tokio::time::timeout(Duration::from_secs(10), frames.frame()).await.unwrap().unwrap().unwrap();
        buffer.extend_from_slice(frame.data_ref().unwrap());
        events.extend(std::iter::from_fn(|| event(&mut buffer)));
    }
    assert_eq!((&events[0]["type"], &events[1]["type"]), (&json!("ADDED"), &json!("DELETED")));
    for event in &events {
        assert_eq!((&event["object"]["kind"], &event["object"]["data"]), (&json!("ConfigMap"), &json!({"x": "y"})));
    }
    let (code, status) = get(&served, &format!("{MAPS}?watch=true&resourceVersion=x"), ACCEPT).await;
    assert_eq!((code, &status["kind"]), (400, &json!("Status")));
}
