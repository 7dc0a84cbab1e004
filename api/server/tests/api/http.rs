//! The same pipeline over HTTP/1.1 and HTTP/2, through TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use navarch_auth::pki::ServingNames;
use navarch_server::metrics::RequestMetrics;
use navarch_server::{ApiServer, ServerConfig};
use navarch_telemetry::Metrics;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use crate::requests::{Client, NAMESPACES};
use crate::world::World;

/// A server on a thread of its own, and how to reach it.
pub struct Served {
    address: SocketAddr,
    tls: rustls::ClientConfig,
    anonymous: rustls::ClientConfig,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

pub fn serve() -> Served {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let dir = tempfile::tempdir().unwrap();
            let world = World::open(dir.path()).await;
            let client = Client(world.client());
            client.create(&NAMESPACES, None, json!({"metadata": {"name": "default"}})).await.unwrap();
            let names = ServingNames { dns: vec![], addresses: vec!["127.0.0.1".parse().unwrap()] };
            let mut tls = world.pki.server_config(&world.pki.apiserver_serving(&names).unwrap()).unwrap();
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let metrics = Metrics::default();
            let config = ServerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                tls: Arc::new(ArcSwap::from_pointee(tls)),
                workers: 2,
                address: "https://127.0.0.1:6443".to_owned(),
                metrics: metrics.clone(),
                requests: RequestMetrics::register(&metrics),
                ready: vec![("store".to_owned(), Arc::new(|| Ok(())))],
                live: vec![],
                extra: vec![],
                services: Vec::new(),
            };
            let server = ApiServer::bind(Arc::clone(&world.pipeline), config).unwrap();
            let address = server.local_addr();
            let handle = server.start().unwrap();
            let client = world.pki.client_config(&world.pki.admin().unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let anonymous = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(world.pki.roots().unwrap())
                .with_no_client_auth();
            tell.send((address, client, anonymous)).unwrap();
            let _ = stopped.await;
            handle.stop().await;
        });
    });
    let (address, tls, anonymous) = told.recv().unwrap();
    Served { address, tls, anonymous, stop: Some(stop), thread: Some(thread) }
}

impl Served {
    /// What the administrator sends over HTTP/1.1.
    pub async fn admin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Incoming> {
        let request = self.request(method, path, headers, "").map(|_| Full::new(Bytes::from(body)));
        self.send(&self.tls, false, request).await
    }

    async fn send(&self, tls: &rustls::ClientConfig, h2: bool, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), h2);
        if h2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
    }

    async fn text(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let response = self.send(&self.tls, false, self.request(method, path, headers, body)).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    pub async fn json(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let (code, text) = self.text(method, path, headers, body).await;
        (code, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}")))
    }
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn objects_travel_over_both_protocols() {
    let served = serve();
    let (code, made) = served.json("POST", MAPS, &[JSON], r#"{"metadata":{"name":"a"},"data":{"x":"y"}}"#).await;
    assert_eq!((code, &made["kind"]), (201, &json!("ConfigMap")), "{made}");
    for h2 in [false, true] {
        let response = served.send(&served.tls, h2, served.request("GET", MAPS, &[], "")).await;
        assert_eq!(response.status(), 200);
        let list: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!((&list["kind"], &list["items"][0]["data"]["x"]), (&json!("ConfigMapList"), &json!("y")));
    }
    let yaml = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let (code, text) = served.text("POST", MAPS, &yaml, "metadata:\n  name: b\ndata:\n  on: 'yes'\n").await;
    assert_eq!(code, 201, "{text}");
    assert!(text.contains("name: b") && text.contains("kind: ConfigMap"), "{text}");
    let (code, status) = served.json("DELETE", &format!("{MAPS}/b"), &[], "").await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
}

#[tokio::test]
async fn forms_of_answers() {
    let served = serve();
    served.json("POST", MAPS, &[JSON], r#"{"metadata":{"name":"a"}}"#).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (_, found) = served.json("GET", MAPS, &table, "").await;
    assert_eq!((&found["kind"], &found["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert_eq!(found["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let (_, found) = served.json("GET", MAPS, &partial, "").await;
    assert_eq!(found["kind"], "PartialObjectMetadataList");
    let (code, _) = served.json("GET", MAPS, &[("accept", "text/html")], "").await;
    assert_eq!(code, 406);
    let (_, text) = served.text("GET", &format!("{MAPS}/a?pretty=true"), &[], "").await;
    assert!(text.contains("\n  \"kind\": \"ConfigMap\""), "{text}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let served = serve();
    let big = format!(r#"{{"metadata":{{"name":"a"}},"data":{{"x":"{}"}}}}"#, "x".repeat(3 << 20));
    for (method, path, headers, body, code, text) in [
        ("POST", MAPS, JSON, big.as_str(), 413, "limit is 3145728"),
        ("POST", MAPS, ("content-type", "text/plain"), "x", 415, "unknown format"),
        ("POST", MAPS, ("content-type", "application/vnd.kubernetes.protobuf"), "x", 400, "expected prefix"),
        ("POST", MAPS, JSON, "{", 400, "unrecognized"),
        (
            "PATCH",
            "/api/v1/namespaces/default",
            ("content-type", "application/apply-patch+yaml"),
            "{}",
            415,
            "server-side apply",
        ),
        ("PATCH", "/api/v1/namespaces/default", ("content-type", "text/plain"), "{}", 415, "accepted media types"),
        ("PUT", MAPS, JSON, "{}", 405, "does not allow this method"),
        ("GET", "/api/v1/nothings", JSON, "", 404, "could not find the requested resource"),
        ("GET", "/nothing", JSON, "", 404, "could not find the requested resource"),
        ("GET", "/api/v1/pods?limit=x", JSON, "", 400, "invalid syntax"),
        ("POST", "/version", JSON, "", 405, "does not allow this method"),
    ] {
        let (found, status) = served.json(method, path, &[headers], body).await;
        assert_eq!((found, &status["kind"]), (code, &json!("Status")), "{method} {path}: {status}");
        assert!(status["message"].as_str().unwrap().contains(text), "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn strangers_see_health_and_no_more() {
    let served = serve();
    for (path, code) in
        [("/readyz", 200), ("/livez?verbose", 200), ("/version", 403), ("/api/v1/pods", 401), ("/metrics", 401)]
    {
        let response = served.send(&served.anonymous, false, served.request("GET", path, &[], "")).await;
        assert_eq!(response.status(), code, "{path}");
    }
    let response = served
        .send(&served.anonymous, false, served.request("GET", "/api", &[("authorization", "Bearer x")], ""))
        .await;
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn documents_are_served() {
    let served = serve();
    let (_, version) = served.json("GET", "/version", &[], "").await;
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.0+navarch"));
    let (_, groups) = served.json("GET", "/apis", &[], "").await;
    assert_eq!(groups["kind"], "APIGroupList");
    let (_, resources) = served.json("GET", "/apis/apps/v1", &[], "").await;
    assert_eq!(resources["groupVersion"], "apps/v1");
    let aggregated =
        [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let (_, all) = served.json("GET", "/apis", &aggregated, "").await;
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    let (_, index) = served.json("GET", "/openapi/v3", &[], "").await;
    assert!(index["paths"]["apis/apps/v1"]["serverRelativeURL"].is_string());
    let (_, text) = served.text("GET", "/readyz?verbose", &[], "").await;
    assert_eq!(text, "[+]ping ok\n[+]store ok\nreadyz check passed\n");
    let (_, text) = served.text("GET", "/metrics", &[], "").await;
    assert!(text.contains("apiserver_request_total"), "{text}");
    let (_, keys) = served.json("GET", "/openid/v1/jwks", &[], "").await;
    assert!(keys["keys"].is_array());
}

#[tokio::test]
async fn watches_stream_events_and_warnings_are_headers() {
    let served = serve();
    let watch = served.request("GET", &format!("{MAPS}?watch=true&timeoutSeconds=60"), &[], "");
    let mut events = served.send(&served.tls, true, watch).await.into_body();
    let create = served.request("POST", MAPS, &[JSON], r#"{"metadata":{"name":"a"},"nope":1}"#);
    let response = served.send(&served.tls, false, create).await;
    assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"nope\\\"\"");
    let frame = tokio::time::timeout(Duration::from_secs(10), events.frame()).await.unwrap().unwrap().unwrap();
    let event: Value = serde_json::from_slice(frame.data_ref().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let names = ServingNames { dns: vec![], addresses: vec![] };
    let tls = world.pki.server_config(&world.pki.apiserver_serving(&names).unwrap()).unwrap();
    let config = ServerConfig {
        listen: address,
        tls: Arc::new(ArcSwap::from_pointee(tls)),
        workers: 1,
        address: String::new(),
        requests: RequestMetrics::register(&Metrics::default()),
        metrics: Metrics::default(),
        ready: vec![],
        live: vec![],
        extra: vec![],
        services: Vec::new(),
    };
    let error = ApiServer::bind(world.pipeline, config).err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
}
