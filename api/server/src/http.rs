//! The HTTP adapter: from an actix-web request to the pipeline and back. Decides nothing but form.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::FutureExt as _;
use navarch_auth::impersonation::Impersonation;
use navarch_auth::{Attributes, Authenticator, Credentials};
use navarch_types::{ApiError, Body, PatchType, Reason, ResourceRequest, UserInfo, Verb};
use tokio_util::sync::CancellationToken;

use crate::info::{self, Query, ResourceTarget, Target};
use crate::metrics::RequestMetrics;
use crate::pipeline::Pipeline;
use crate::probes::Endpoints;
use crate::service;
use crate::streaming::{self, StreamRequest, UPGRADE_HEADER};

pub mod accept;
mod body;
mod list_body;
mod protobuf;
mod respond;
mod table;
mod watch_body;

use accept::Form;
pub use respond::accepts_gzip;

/// The certificate that a client showed, in DER. Part of a connection's data.
#[derive(Clone)]
pub struct PeerCertificate(pub Bytes);

/// What handlers share.
pub struct State {
    /// Requests for resources go there.
    pub pipeline: Arc<Pipeline>,
    /// Everything else is answered there.
    pub endpoints: Endpoints,
    /// Cancelled when the server stops: watches end then.
    pub stop: CancellationToken,
    /// What is counted.
    pub metrics: RequestMetrics,
}

/// Every request ends here. A panic in it is this request's failure and no other's.
pub async fn handle(request: HttpRequest, payload: web::Payload, state: web::Data<State>) -> HttpResponse {
    let began = std::time::Instant::now();
    let mut payload = Some(payload);
    let served = AssertUnwindSafe(serve(&request, &mut payload, &state)).catch_unwind().await;
    if let (Some(unread), false) = (&mut payload, matches!(served, Ok(Ok(_)))) {
        body::drain(unread).await;
    }
    let mut response = match served {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond::error(&error, form_of_errors(&request)),
        Err(_) => {
            state.metrics.panics.inc();
            tracing::error!(method = %request.method(), path = request.path(), "a handler panicked");
            let why = "This request caused apiserver to panic. Look in the logs for details.";
            respond::error(&ApiError::new(Reason::InternalError, why), form_of_errors(&request))
        }
    };
    let (verb, resource) = labels(&request, &state);
    state.metrics.observe(verb, &resource, response.status().as_u16(), began.elapsed());
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, private"));
    }
    if let Ok(id) = header::HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        headers.insert(header::HeaderName::from_static("audit-id"), id);
    }
    response
}

/// Verb and resource of a request for what is served; other paths share one empty label.
fn labels(request: &HttpRequest, state: &State) -> (&'static str, String) {
    let Target::Resource(target) = info::parse_path(request.path()) else { return ("path", String::new()) };
    let query = Query::parse(request.query_string());
    let verb = verb_of(request, &target, &query).map_or("other", Verb::as_str);
    match state.pipeline.registry().resource(&target.resource) {
        Ok(resource) => (verb, resource.served.resource.to_string()),
        Err(_) => (verb, String::new()),
    }
}

/// Takes the payload only for a connection that goes on behind the head.
async fn serve(
    request: &HttpRequest,
    payload: &mut Option<web::Payload>,
    state: &web::Data<State>,
) -> Result<HttpResponse, ApiError> {
    navarch_supervision::fault::point("api-handler");
    let query = Query::parse(request.query_string());
    let user = authenticate(request, state)?;
    match info::parse_path(request.path()) {
        Target::Path(path) => {
            let method = request.method().as_str().to_ascii_lowercase();
            authorize_path(state, &user, &method, &path)?;
            if let Some(found) = state.endpoints.service(&path) {
                return service::serve(request, payload, user, found).await;
            }
            state.endpoints.serve(request, &path, &query).await
        }
        Target::Resource(target) => resource(request, payload, state, user, target, query).await,
    }
}

/// The whole body of a request whose payload was not taken.
pub(crate) async fn read_body(payload: &mut Option<web::Payload>) -> Result<Bytes, ApiError> {
    match payload {
        Some(payload) => body::read(payload).await,
        None => Ok(Bytes::new()),
    }
}

fn header_text<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn authenticate(request: &HttpRequest, state: &State) -> Result<UserInfo, ApiError> {
    let bearer = header_text(request.headers(), "authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token);
    let certificate = request.conn_data::<PeerCertificate>();
    let credentials = Credentials { bearer, client_cert_der: certificate.map(|c| c.0.as_ref()) };
    let user = match state.pipeline.authenticator.authenticate(&credentials)? {
        Some(user) => user,
        None => Authenticator::anonymous(request.path())
            .ok_or_else(|| ApiError::new(Reason::Unauthorized, "Unauthorized"))?,
    };
    let mut impersonation = Impersonation::default();
    for (name, value) in request.headers() {
        if let Ok(value) = value.to_str() {
            impersonation.header(name.as_str(), value);
        }
    }
    if impersonation.is_empty() {
        return Ok(user);
    }
    impersonation.apply(&user, &state.pipeline.authorizer)
}

fn authorize_path(state: &State, user: &UserInfo, method: &str, path: &str) -> Result<(), ApiError> {
    let attributes = Attributes::path(user, method, path);
    let decision = state.pipeline.authorizer.authorize(&attributes);
    if decision.allowed() { Ok(()) } else { Err(attributes.forbidden(decision.reason())) }
}

async fn resource(
    request: &HttpRequest,
    payload: &mut Option<web::Payload>,
    state: &web::Data<State>,
    user: UserInfo,
    target: ResourceTarget,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let verb = verb_of(request, &target, &query)?;
    let mut wanted = ResourceRequest::new(verb, target.resource.clone());
    wanted.namespace.clone_from(&target.namespace);
    wanted.name.clone_from(&target.name);
    wanted.subresource = target.subresource.clone().map(Into::into);
    let connects = wanted.subresource.as_deref().is_some_and(|s| is_connection(&target, s));
    if connects {
        state.pipeline.authorize(&user, &wanted)?;
        let headers = request.headers();
        let upgrade = header_text(headers, UPGRADE_HEADER).or_else(|| header_text(headers, "upgrade"));
        let payload = payload.take().ok_or_else(|| ApiError::internal("the request has no payload"))?;
        return streaming::serve(StreamRequest {
            verb,
            user,
            query,
            upgrade: upgrade.map(str::to_owned),
            request: request.clone(),
            payload,
            pipeline: Arc::clone(&state.pipeline),
            target,
        })
        .await;
    }
    let protobuf = state.pipeline.registry().resource(&target.resource).is_ok_and(|r| respond::has_protobuf(r));
    let form = form_of(request, &query, protobuf)?;
    match verb {
        Verb::Get | Verb::List | Verb::Watch => wanted.list = query.list_options()?,
        Verb::DeleteCollection => {
            wanted.list = query.list_options()?;
            wanted.write = query.write_options("DeleteOptions")?;
        }
        Verb::Create => wanted.write = query.write_options("CreateOptions")?,
        Verb::Update => wanted.write = query.write_options("UpdateOptions")?,
        Verb::Patch => wanted.write = query.write_options("PatchOptions")?,
        Verb::Delete => wanted.write = query.write_options("DeleteOptions")?,
    }
    if verb == Verb::Watch {
        let watch = state.pipeline.watch(&user, &wanted).await?;
        return Ok(watch_body::response(watch, form, &query, state));
    }
    if !matches!(verb, Verb::Get | Verb::List) {
        let content = read_body(payload).await?;
        wanted.body = body_of(request, content);
        if matches!(verb, Verb::Delete | Verb::DeleteCollection) {
            options_of_query(&mut wanted, &query);
        }
        if verb == Verb::Patch {
            wanted.patch = patch_type(request);
        }
    }
    let resource = state.pipeline.registry().resource(&target.resource).map(Arc::clone);
    let answer = state.pipeline.request(&user, wanted).await?;
    let compress = respond::accepts_gzip(header_text(request.headers(), "accept-encoding"));
    respond::answer(&*resource?, answer, form, &query, compress).await
}

/// Subresources that are connections, or streams.
fn is_connection(target: &ResourceTarget, subresource: &str) -> bool {
    target.resource.group.is_empty()
        && matches!(
            (target.resource.resource.as_ref(), subresource),
            ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") | ("nodes" | "services", "proxy")
        )
}

fn verb_of(request: &HttpRequest, target: &ResourceTarget, query: &Query) -> Result<Verb, ApiError> {
    let watches = target.watch || query.flag("watch") == Some(true);
    Ok(match (request.method().as_str(), &target.name) {
        ("GET" | "HEAD", _) if target.watch => Verb::Watch,
        ("GET" | "HEAD", None) if watches => Verb::Watch,
        ("GET" | "HEAD", None) => Verb::List,
        ("GET" | "HEAD", Some(_)) => Verb::Get,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", Some(_)) => Verb::Delete,
        ("DELETE", None) => Verb::DeleteCollection,
        _ => {
            let why = "the server does not allow this method on the requested resource";
            return Err(ApiError::new(Reason::MethodNotAllowed, why));
        }
    })
}

fn body_of(request: &HttpRequest, content: Bytes) -> Body {
    if content.is_empty() {
        return Body::Empty;
    }
    let media_type = header_text(request.headers(), "content-type").unwrap_or("application/json").to_owned();
    Body::Bytes { media_type: media_type.into(), content }
}

/// Options of a delete that stand in the query count if there is no body.
fn options_of_query(wanted: &mut ResourceRequest, query: &Query) {
    if !matches!(wanted.body, Body::Empty) {
        return;
    }
    let mut options = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    let mut any = false;
    if let Some(seconds) = query.get("gracePeriodSeconds").and_then(|s| s.parse::<i64>().ok()) {
        options["gracePeriodSeconds"] = seconds.into();
        any = true;
    }
    if let Some(policy) = query.get("propagationPolicy").filter(|p| !p.is_empty()) {
        options["propagationPolicy"] = policy.into();
        any = true;
    }
    if let Some(orphan) = query.flag("orphanDependents") {
        options["orphanDependents"] = orphan.into();
        any = true;
    }
    if any {
        wanted.body = Body::Value(options);
    }
}

fn patch_type(request: &HttpRequest) -> Option<PatchType> {
    let media_type = header_text(request.headers(), "content-type")?.split(';').next()?.trim();
    let all = [PatchType::Json, PatchType::Merge, PatchType::Strategic, PatchType::Apply];
    all.into_iter().find(|p| p.media_type() == media_type)
}

fn form_of(request: &HttpRequest, query: &Query, protobuf: bool) -> Result<Form, ApiError> {
    let headers = request.headers();
    // People at a command line read what they get.
    let agent = header_text(headers, "user-agent").unwrap_or_default();
    let by_hand = ["curl", "Wget", "Mozilla/5.0"].iter().any(|a| agent.starts_with(a));
    accept::negotiate(header_text(headers, "accept"), query.flag("pretty").unwrap_or(by_hand), protobuf)
}

fn form_of_errors(request: &HttpRequest) -> Form {
    let query = Query::parse(request.query_string());
    let plain = Form { syntax: accept::Syntax::Json, view: accept::View::Full, pretty: false };
    form_of(request, &query, true).unwrap_or(plain)
}
