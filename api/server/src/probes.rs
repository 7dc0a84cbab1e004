//! Paths that are no resources: version, health, metrics, discovery, OpenAPI, the keys of service account tokens.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use navarch_auth::Authenticator;
use navarch_telemetry::Metrics;
use navarch_types::{ApiError, Reason};
use serde_json::{Value, json};

use crate::discovery::Discovery;
use crate::info::Query;
use crate::service::PathService;

/// A named condition: `Err` says what is wrong.
pub type Check = (String, Arc<dyn Fn() -> Result<(), String> + Send + Sync>);
/// Answers a path: from method and query to code, content type and body.
pub type ExtraEndpoint = (String, Arc<dyn Fn(&http::Method, &str) -> (u16, &'static str, Bytes) + Send + Sync>);

/// Everything that is answered without the registry.
pub struct Endpoints {
    pub(crate) discovery: Discovery,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) metrics: Metrics,
    /// Whether the server is ready for requests.
    pub(crate) ready: Vec<Check>,
    /// Whether it must be started anew.
    pub(crate) live: Vec<Check>,
    pub(crate) extra: Vec<ExtraEndpoint>,
    pub(crate) services: Vec<(String, Arc<dyn PathService>)>,
    /// How clients reach this server, for documents that tell it.
    pub(crate) address: String,
}

impl Endpoints {
    /// Who answers a path, if it is one that needs the whole request.
    pub(crate) fn service(&self, path: &str) -> Option<Arc<dyn PathService>> {
        self.services.iter().find(|(known, _)| known == path).map(|(_, service)| Arc::clone(service))
    }

    /// Answers one request; the caller has authorized it.
    ///
    /// # Errors
    /// 404 for unknown paths, 405 for methods other than GET.
    pub async fn serve(&self, request: &HttpRequest, path: &str, query: &Query) -> Result<HttpResponse, ApiError> {
        if let Some((_, extra)) = self.extra.iter().find(|(known, _)| known == path) {
            let method = http::Method::from_bytes(request.method().as_str().as_bytes()).unwrap_or(http::Method::GET);
            let (code, content_type, body) = extra(&method, request.query_string());
            return Ok(response(code, content_type, body));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let why = "the server does not allow this method on the requested resource";
            return Err(ApiError::new(Reason::MethodNotAllowed, why));
        }
        let accept = request.headers().get("accept").and_then(|v| v.to_str().ok());
        if let Some((content_type, document)) = self.discovery.get(path, accept) {
            let mut response = response(200, content_type, document);
            response
                .headers_mut()
                .insert(actix_web::http::header::VARY, actix_web::http::header::HeaderValue::from_static("Accept"));
            return Ok(response);
        }
        match path {
            "/version" | "/version/" => Ok(json_response(&version())),
            "/metrics" => self.metrics(),
            "/.well-known/openid-configuration" => {
                Ok(json_response(&self.authenticator.tokens().openid_configuration(&self.address)))
            }
            "/openid/v1/jwks" => {
                let keys = self.authenticator.tokens().key_set().to_string();
                Ok(response(200, "application/jwk-set+json", keys.into()))
            }
            "/" => Ok(json_response(&json!({"paths": self.paths()}))),
            _ if path.starts_with("/openapi/") => crate::openapi::serve(request, path).await,
            _ => self.health(path, query),
        }
    }

    fn metrics(&self) -> Result<HttpResponse, ApiError> {
        let text = self.metrics.text().map_err(ApiError::internal)?;
        Ok(response(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", text.into()))
    }

    fn paths(&self) -> Vec<String> {
        let mut paths = self.discovery.paths().to_vec();
        for path in [
            "/.well-known/openid-configuration",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ] {
            paths.push(path.to_owned());
        }
        paths.extend(self.extra.iter().map(|(path, _)| path.clone()));
        paths.extend(self.services.iter().map(|(path, _)| path.clone()));
        paths.sort();
        paths
    }

    fn health(&self, path: &str, query: &Query) -> Result<HttpResponse, ApiError> {
        let trimmed = path.trim_end_matches('/');
        let (probe, one) = match trimmed.trim_start_matches('/').split_once('/') {
            Some((probe, one)) => (probe, Some(one)),
            None => (trimmed.trim_start_matches('/'), None),
        };
        let checks: Vec<&Check> = match probe {
            "livez" => self.live.iter().collect(),
            "readyz" | "healthz" => self.live.iter().chain(&self.ready).collect(),
            _ => return Err(navarch_registry::registry::no_such_path()),
        };
        if let Some(one) = one {
            let (_, check) =
                checks.iter().find(|(name, _)| name == one).ok_or_else(navarch_registry::registry::no_such_path)?;
            return Ok(match check() {
                Ok(()) => response(200, TEXT, Bytes::from_static(b"ok")),
                Err(why) => response(500, TEXT, format!("internal server error: {why}\n").into()),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        Ok(summary(probe, &checks, &excluded, query.has("verbose")))
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What upstream's health handlers write.
fn summary(probe: &str, checks: &[&Check], excluded: &[&str], verbose: bool) -> HttpResponse {
    let mut text = String::from("[+]ping ok\n");
    let mut failed = false;
    for (name, check) in checks {
        if excluded.contains(&name.as_str()) {
            text.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check() {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                failed = true;
                // The reason is for the log: health is open to everybody.
                tracing::warn!(check = %name, %why, "health check failed");
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if failed {
        text.push_str(&format!("{probe} check failed\n"));
        return response(500, TEXT, text.into());
    }
    if verbose {
        text.push_str(&format!("{probe} check passed\n"));
        return response(200, TEXT, text.into());
    }
    response(200, TEXT, Bytes::from_static(b"ok"))
}

/// What `/version` says: the version of Kubernetes whose API this is, and navarch's own behind the plus.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.0+navarch-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", go_arch()),
    })
}

pub(crate) fn response(code: u16, content_type: &str, body: Bytes) -> HttpResponse {
    let code = actix_web::http::StatusCode::from_u16(code).unwrap_or(actix_web::http::StatusCode::OK);
    HttpResponse::build(code).content_type(content_type).body(body)
}

pub(crate) fn json_response(value: &Value) -> HttpResponse {
    response(200, "application/json", value.to_string().into())
}

/// The architecture by Go's name.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
