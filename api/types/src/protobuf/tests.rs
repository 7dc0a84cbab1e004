//! Upstream's own test data, byte for byte; and what it does not have: pointers to zeros, damaged bytes.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::name::GroupVersionKind;
use crate::schema::Target;

fn id(group: &str, version: &str, kind: &str) -> DefinitionId {
    Schema::builtin().by_kind(group, version, kind).unwrap()
}

fn round_trip(group: &str, version: &str, kind: &str, object: &Value) -> Value {
    let schema = Schema::builtin();
    let id = id(group, version, kind);
    decode(schema, id, &encode(schema, id, object).unwrap()).unwrap().into()
}

/// The files of upstream's API round-trip tests: bytes, and the JSON of the same object.
fn golden() -> Option<Vec<(String, Vec<u8>, Value)>> {
    let Some(folder) = std::env::var_os("NAVARCH_K8S_DATA") else {
        println!("skipped: NAVARCH_K8S_DATA is not set");
        return None;
    };
    let folder = PathBuf::from(folder).join("api-golden-v1.36");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "pb") && !path.to_string_lossy().contains("after_roundtrip") {
            let json = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            found.push((name, std::fs::read(&path).unwrap(), json));
        }
    }
    Some(found)
}

fn kind_of(object: &Value) -> Option<GroupVersionKind> {
    let api_version = object["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let schema = Schema::builtin();
    let id = schema.by_kind(group, version, object["kind"].as_str()?)?;
    schema.definition(id).kind.clone()
}

#[test]
fn upstreams_objects_are_read_and_written_byte_for_byte() {
    let Some(golden) = golden() else { return };
    let schema = Schema::builtin();
    let (mut kinds, mut wrong) = (0, Vec::new());
    for (name, bytes, json) in &golden {
        let Some(kind) = kind_of(json) else { continue };
        kinds += 1;
        let envelope = open(bytes).unwrap();
        assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), (&*kind.api_version(), &*kind.kind));
        let mut expected = json.clone();
        let object = expected.as_object_mut().unwrap();
        object.remove("apiVersion");
        object.remove("kind");
        match decode(schema, schema.by_gvk(&kind).unwrap(), envelope.raw) {
            Ok(object) if Value::Object(object.clone()) == expected => {}
            Ok(object) => wrong.push(format!("{name}: read {}\nwanted {expected}", Value::Object(object))),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        match body(schema, json) {
            Ok(written) if written == *bytes => {}
            Ok(written) => {
                let at = written.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                wrong.push(format!("{name}: written otherwise at {at} of {}", bytes.len()));
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kinds > 80, "only {kinds} kinds");
}

#[test]
fn every_prefix_of_an_object_is_read_or_refused() {
    let Some(golden) = golden() else { return };
    let schema = Schema::builtin();
    for (_, bytes, json) in &golden {
        let Some(kind) = kind_of(json) else { continue };
        let raw = open(bytes).unwrap().raw;
        for end in (0..bytes.len()).step_by(7) {
            drop(open(&bytes[..end]).map(|envelope| decode(schema, schema.by_gvk(&kind).unwrap(), envelope.raw)));
        }
        for end in (0..raw.len()).step_by(7) {
            drop(decode(schema, schema.by_gvk(&kind).unwrap(), &raw[..end]));
        }
    }
}

#[test]
fn zeros_of_pointers_survive_and_others_are_left_out() {
    for spec in [json!({"replicas": 0}), json!({})] {
        let sent = round_trip("apps", "v1", "Deployment", &json!({"spec": spec}));
        assert_eq!(sent["spec"].get("replicas"), spec.get("replicas"));
        for absent in ["paused", "minReadySeconds", "selector", "progressDeadlineSeconds"] {
            assert_eq!(sent["spec"].get(absent), None, "{absent}");
        }
        assert_eq!(sent["spec"]["strategy"], json!({}));
        // Upstream's JSON has no time that is not set.
        assert_eq!(sent["metadata"], json!({}));
    }
    let pod = json!({
        "metadata": {"name": "", "deletionGracePeriodSeconds": 0, "labels": {"a": ""}},
        "spec": {
            "automountServiceAccountToken": false,
            "hostNetwork": false,
            "nodeName": "",
            "runtimeClassName": "",
            "securityContext": {"runAsUser": 0},
            "containers": [{"name": "", "stdin": false, "env": [{"name": "A", "value": ""}], "livenessProbe": {
                "httpGet": {"port": "http", "path": ""}, "initialDelaySeconds": 0}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w"}],
        },
    });
    let expected = json!({
        "metadata": {"deletionGracePeriodSeconds": 0, "labels": {"a": ""}},
        "spec": {
            "automountServiceAccountToken": false,
            "runtimeClassName": "",
            "securityContext": {"runAsUser": 0},
            "containers": [{"name": "", "resources": {}, "env": [{"name": "A"}], "livenessProbe": {
                "httpGet": {"port": "http"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w"}],
        },
        "status": {},
    });
    assert_eq!(round_trip("", "v1", "Pod", &pod), expected);
}

#[test]
fn extra_values_schemas_and_raw_json_have_forms_of_their_own() {
    let review = json!({"spec": {"user": "u", "extra": {"a": ["b", "c"], "d": []}}});
    let sent = round_trip("authorization.k8s.io", "v1", "SubjectAccessReview", &review);
    assert_eq!(sent["spec"], review["spec"]);
    let schema = json!({
        "type": "object",
        "default": {"a": [1, null]},
        "enum": ["a", 1, {"b": null}],
        "minimum": 1.5,
        "maximum": 3,
        "items": [{"type": "string"}],
        "additionalProperties": false,
        "additionalItems": {"type": "string"},
        "dependencies": {"a": ["b"], "c": {"type": "string"}},
        "properties": {"x": {"items": {"type": "string"}, "additionalProperties": true}},
    });
    let builtin = Schema::builtin();
    let id = builtin.by_name(special::JSON_SCHEMA).unwrap();
    let sent: Value = decode(builtin, id, &encode(builtin, id, &schema).unwrap()).unwrap().into();
    assert_eq!(sent, schema);
    let revision = json!({"metadata": {}, "revision": -1, "data": {"spec": {"a": [1]}}});
    assert_eq!(round_trip("apps", "v1", "ControllerRevision", &revision), revision);
}

#[test]
fn times_and_numbers_are_those_of_json() {
    let lease = json!({"metadata": {"creationTimestamp": "1969-12-31T23:59:59Z"}, "spec": {
        "renewTime": "1969-12-31T23:59:59.000001Z", "leaseDurationSeconds": -1}});
    assert_eq!(round_trip("coordination.k8s.io", "v1", "Lease", &lease), lease);
    let unset = json!({"metadata": {"creationTimestamp": "0001-01-01T00:00:00Z"}, "spec": {}});
    let sent = round_trip("coordination.k8s.io", "v1", "Lease", &unset);
    assert_eq!(sent, json!({"metadata": {}, "spec": {}}));
}

#[test]
fn damaged_bytes_are_refused_with_a_reason() {
    let schema = Schema::builtin();
    for (body, why) in [
        (&b""[..], "empty data"),
        (b"k8s\0", "empty body"),
        (b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        (b"k8s\0\x0a\x05", "unexpected EOF"),
        (b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "unexpected EOF"),
        (b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "proto: integer overflow"),
        (b"k8s\0\x00\x00", "proto: illegal tag 0 (wire type 0)"),
        (b"k8s\0\x08\x00", "proto: wrong wireType = 0 for field typeMeta"),
        (b"k8s\0\x2c", "proto: unexpected end of group"),
        (b"k8s\0\x2f", "proto: illegal tag 5 (wire type 7)"),
        (b"k8s\0\x0a\x03\x0a\x01\xff", "proto: invalid UTF-8 in field apiVersion"),
    ] {
        assert_eq!(open(body).unwrap_err().to_string(), why);
    }
    let deployment = id("apps", "v1", "Deployment");
    for (raw, why) in [
        (&b"\x12\x02\x08"[..], "unexpected EOF"),
        (b"\x12\x02\x0a\x00", "proto: wrong wireType = 2 for field replicas"),
        (b"\x0a\x05\x42\x03\x12\x01\x00", "proto: wrong wireType = 2 for field creationTimestamp"),
        (b"\x0a\x0b\x42\x09\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "proto: no time in field creationTimestamp"),
    ] {
        assert_eq!(decode(schema, deployment, raw).unwrap_err().to_string(), why);
    }
    let revision = id("apps", "v1", "ControllerRevision");
    let error = decode(schema, revision, b"\x12\x03\x0a\x01{").unwrap_err().to_string();
    assert!(error.starts_with("proto: field data: "), "{error}");
    // Unknown fields, groups among them, are passed over.
    let odd = b"\xfa\x3e\x01a\xf8\x3e\x01\xfb\x3e\xfb\x3e\xfc\x3e\xfc\x3e\x12\x02\x08\x00";
    assert_eq!(Value::Object(decode(schema, deployment, odd).unwrap()), json!({"spec": {"replicas": 0}}));
}

#[test]
fn nesting_is_bounded() {
    let schema = Schema::builtin();
    let mut raw = Vec::new();
    for _ in 0..2000 {
        // `not`, a schema in a schema.
        let mut outer = Writer::with_capacity(raw.len() + 8);
        outer.field(28, &raw);
        raw = outer.finish();
    }
    let id = schema.by_name(special::JSON_SCHEMA).unwrap();
    assert_eq!(decode(schema, id, &raw), Err(DecodeError::Deep));
}

#[test]
fn objects_that_do_not_fit_are_not_written() {
    let schema = Schema::builtin();
    for object in [json!({"spec": 1}), json!({"spec": {"replicas": "1"}}), json!({"metadata": {"labels": {"a": 1}}})] {
        assert!(encode(schema, id("apps", "v1", "Deployment"), &object).is_err(), "{object}");
    }
}

#[test]
fn lists_are_their_metadata_and_their_items() {
    let schema = Schema::builtin();
    let mut lists = 0;
    for resource in schema.resources() {
        let Some(id) = schema.by_kind(&resource.group, &resource.version, &format!("{}List", resource.kind)) else {
            continue;
        };
        lists += 1;
        let definition = schema.definition(id);
        let names: Vec<_> = definition.message().entries().iter().map(|e| (e.number, &e.target)).collect();
        let [(1, Target::Field(metadata)), (2, Target::Field(items))] = names[..] else {
            panic!("{}", definition.name);
        };
        assert_eq!(definition.fields()[*metadata].name, "metadata");
        assert_eq!(definition.fields()[*items].name, "items");
    }
    assert!(lists > 60, "only {lists}");
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7", "continue": "c"},
        "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}, "data": {"x": "y"}}]});
    let mut parts = list_metadata(schema, &list["metadata"]).unwrap();
    for item in list["items"].as_array().unwrap() {
        parts.extend(list_item(&encode(schema, id("", "v1", "ConfigMap"), item).unwrap()));
    }
    assert_eq!(enclose("v1", "ConfigMapList", &parts), body(schema, &list).unwrap());
}

#[test]
fn events_are_framed() {
    assert_eq!(watch_frame("ADDED", b"xyz"), b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03xyz");
    let schema = Schema::builtin();
    let event = decode(schema, id("", "v1", "WatchEvent"), &watch_frame("ADDED", b"{}")[4..]).unwrap();
    assert_eq!(Value::Object(event), json!({"type": "ADDED", "object": {}}));
}

#[test]
fn metadata_alone_is_an_object() {
    let object = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a"}});
    let bytes = body(Schema::builtin(), &object).unwrap();
    let envelope = open(&bytes).unwrap();
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("meta.k8s.io/v1", "PartialObjectMetadata"));
    let read = decode(Schema::builtin(), id("", "v1", "ConfigMap"), envelope.raw).unwrap();
    assert_eq!(read["metadata"], object["metadata"]);
    assert!(body(Schema::builtin(), &json!({"apiVersion": "example.com/v1", "kind": "Custom"})).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let schema = Schema::builtin();
        let _ = open(&bytes);
        for (id, _) in schema.definitions().step_by(17) {
            let _ = decode(schema, id, &bytes);
        }
    }

    #[test]
    fn what_is_read_is_read_again_from_what_is_written(bytes in prop::collection::vec(0_u8..24, 0..48)) {
        let schema = Schema::builtin();
        for (id, _) in schema.definitions().step_by(5) {
            // Reading what is sparse leaves out what writing sends; after that nothing changes.
            let Ok(sparse) = decode(schema, id, &bytes) else { continue };
            let Ok(written) = encode(schema, id, &Value::Object(sparse)) else { continue };
            let full = decode(schema, id, &written).unwrap();
            prop_assert_eq!(encode(schema, id, &Value::Object(full)).unwrap(), written);
        }
    }
}
