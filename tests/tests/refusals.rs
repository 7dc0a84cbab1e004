//! Bad input: refused with the status that upstream gives, and without any effect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use navarch_tests::server::Server;
use serde_json::Value;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// As upstream: requests are read up to here.
const BODY_BYTES_MAX: usize = 3_145_728;

fn deployment(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  replicas: 2\n{extra}  selector:\n    \
         matchLabels: {{app: web}}\n  template:\n    metadata:\n      labels: {{app: web}}\n    spec:\n      \
         containers:\n      - name: web\n        image: web:1\n"
    )
}

fn config_map(name: &str, bytes: usize) -> String {
    let text = "x".repeat(bytes);
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"text":"{text}"}}}}"#)
}

/// The store's revision and every object of the kinds that the tests try to make.
fn state(server: &Server) -> String {
    let all = server.kubectl(&["get", "deployments,configmaps", "--all-namespaces", "-o", "json"]);
    let list: Value = serde_json::from_str(&all).unwrap();
    list["items"].to_string()
}

/// Posts, checks what every refusal has in common, and returns the status.
fn refused(server: &Server, path: &str, content_type: &str, body: &str, code: u16, reason: &str) -> Value {
    let before = state(server);
    let (answered, status) = server.post(path, content_type, body);
    assert_eq!(answered, code, "{status}");
    assert_eq!(status["kind"], "Status", "{status}");
    assert_eq!(status["apiVersion"], "v1");
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["code"], code);
    assert_eq!(status["reason"], reason, "{status}");
    assert_eq!(state(server), before, "nothing changed");
    status
}

#[test]
fn what_cannot_be_parsed_is_a_bad_request() {
    let server = Server::start();
    let broken = refused(&server, CONFIG_MAPS, YAML, "kind: [\n", 400, "BadRequest");
    let message = broken["message"].as_str().unwrap();
    assert!(message.contains("error converting YAML to JSON: yaml: line 1:"), "{message}");
    let broken = refused(&server, CONFIG_MAPS, JSON, "{\"kind\":", 400, "BadRequest");
    let message = broken["message"].as_str().unwrap();
    assert!(message.contains("couldn't get version/kind; json parse error"), "{message}");
    refused(&server, CONFIG_MAPS, "application/x-sh", "true", 415, "UnsupportedMediaType");
    let said = server.refused(&["apply", "-f", "-"], "kind: [\n");
    assert!(said.contains("error parsing STDIN: error converting YAML to JSON"), "{said}");
}

#[test]
fn an_unknown_field_and_a_wrong_type_are_named() {
    let server = Server::start();
    let unknown = refused(&server, DEPLOYMENTS, YAML, &deployment("a", "  replicaz: 3\n"), 400, "BadRequest");
    assert_eq!(
        unknown["message"],
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
         \"spec.replicaz\""
    );
    let mistyped = deployment("a", "").replace("replicas: 2", "replicas: many");
    let wrong = refused(&server, DEPLOYMENTS, YAML, &mistyped, 400, "BadRequest");
    assert_eq!(
        wrong["message"],
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct \
         field DeploymentSpec.spec.replicas of type int32"
    );
    let said = server.refused(&["apply", "-f", "-"], &deployment("a", "  replicaz: 3\n"));
    assert!(said.contains("strict decoding error: unknown field \"spec.replicaz\""), "{said}");
    let said = server.refused(&["apply", "-f", "-"], &mistyped);
    assert!(said.contains("replicas"), "{said}");
}

#[test]
fn what_is_invalid_is_refused_with_the_path_of_each_field() {
    let server = Server::start();
    let name = "a".repeat(300);
    let long = refused(&server, DEPLOYMENTS, YAML, &deployment(&name, ""), 422, "Invalid");
    let message = format!("Invalid value: \"{name}\": must be no more than 253 bytes");
    assert_eq!(long["message"], format!("Deployment.apps \"{name}\" is invalid: metadata.name: {message}"));
    assert_eq!(long["details"]["name"], name);
    assert_eq!(long["details"]["kind"], "Deployment");
    assert_eq!(long["details"]["group"], "apps");
    let causes = long["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0]["field"], "metadata.name");
    assert_eq!(causes[0]["reason"], "FieldValueInvalid");
    assert_eq!(causes[0]["message"], message);

    // Two mistakes are told at once.
    let twice = deployment("a", "")
        .replace("labels: {app: web}", "labels: {app: other}")
        .replace("replicas: 2", "replicas: -1");
    let twice = refused(&server, DEPLOYMENTS, YAML, &twice, 422, "Invalid");
    let fields: Vec<_> =
        twice["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.replicas", "spec.template.metadata.labels"]);
    let said = server.refused(&["apply", "-f", "-"], &deployment(&name, ""));
    assert!(said.contains("metadata.name: Invalid value"), "{said}");
    assert_eq!(server.kubectl(&["get", "deployments", "-A", "-o", "name"]), "");
}

#[test]
fn a_body_beyond_the_limits_is_refused_and_one_within_them_is_not() {
    let server = Server::start();
    let frame = config_map("large", 0).len();
    let above = config_map("large", BODY_BYTES_MAX + 1 - frame);
    let refusal = refused(&server, CONFIG_MAPS, JSON, &above, 413, "RequestEntityTooLarge");
    assert_eq!(refusal["message"], "Request entity too large: limit is 3145728");
    // As many bytes as are read, and more than a ConfigMap may hold.
    for bytes in [BODY_BYTES_MAX - frame, 1_572_864, 1_048_577] {
        let refusal = refused(&server, CONFIG_MAPS, JSON, &config_map("large", bytes), 422, "Invalid");
        let cause = &refusal["details"]["causes"][0];
        assert_eq!(cause["reason"], "FieldValueTooLong", "{refusal}");
        assert_eq!(cause["message"], "Too long: may not be more than 1048576 bytes");
    }
    assert_eq!(server.post(CONFIG_MAPS, JSON, &config_map("large", 1_048_576)).0, 201);
    let kept = server.kubectl(&["get", "configmap", "large", "-o", "jsonpath={.data.text}"]);
    assert_eq!(kept.len(), 1_048_576);
    let mut document = config_map("larger", 3 << 20);
    document.push('\n');
    let said = server.refused(&["create", "-f", "-"], &document);
    assert!(said.contains("Request entity too large: limit is 3145728"), "{said}");
}

#[test]
fn what_is_not_there_yet_is_said() {
    let server = Server::start();
    let document = config_map("applied", 1);
    let said = server.refused(&["apply", "--server-side", "-f", "-"], &document);
    assert!(said.contains("not supported by this server"), "{said}");
    assert!(!server.kubectl(&["get", "configmaps", "-o", "name"]).contains("applied"));
}
