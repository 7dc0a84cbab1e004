//! `TokenRequest`: issues tokens of a service account, bound to a pod, secret or node.
//!
//! Decides from the request and what is in the view; the caller has authorized it. Nothing is stored.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::{ApiError, GroupVersionKind};
use serde_json::{Value, json};

use super::{BoundObject, Claims, KubernetesClaims, Tokens};
use crate::view::{NODES, ObjectView, PODS, SECRETS, SERVICE_ACCOUNTS, Viewed};

/// The shortest lifetime that may be asked for.
const MIN_EXPIRATION_SECONDS: i64 = 10 * 60;
/// The longest.
const MAX_EXPIRATION_SECONDS: i64 = 1 << 32;
/// What the projected volume of every pod asks for: an hour and seven seconds, the latter to be recognized by.
const WARN_ONLY_EXPIRATION_SECONDS: i64 = 3607;
/// How long such a token is really accepted, for clients that never read it again.
const EXTENDED_EXPIRATION_SECONDS: i64 = 365 * 24 * 60 * 60;

const KIND: GroupVersionKind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");

/// Answers a `TokenRequest` for the service account `namespace/name` with the token in its status.
///
/// # Errors
/// If the service account or the bound object does not exist, or the request is invalid.
pub fn issue(
    tokens: &Tokens,
    view: &dyn ObjectView,
    namespace: &str,
    name: &str,
    mut body: Value,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let request: TokenRequest = serde_json::from_value(body.clone())
        .map_err(|e| ApiError::bad_request(format!("cannot decode TokenRequest: {e}")))?;
    let missing = || ApiError::not_found(&SERVICE_ACCOUNTS.resource, name);
    let account = view.get(&SERVICE_ACCOUNTS, namespace, name).ok_or_else(missing)?;
    let account = account.metadata().map_err(ApiError::internal)?;
    let spec = request.spec.unwrap_or_default();
    validate(&spec, name)?;

    let seconds = spec.expiration_seconds.unwrap_or(3600);
    let audiences = spec.audiences.as_deref().filter(|a| !a.is_empty()).unwrap_or(tokens.audiences());
    let mut kubernetes = KubernetesClaims {
        namespace: namespace.to_owned(),
        serviceaccount: BoundObject { name: name.to_owned(), uid: account.uid.clone().unwrap_or_default() },
        ..KubernetesClaims::default()
    };
    if let Some(reference) = &spec.bound_object_ref {
        let to = Binding {
            kind: reference.kind.as_deref().unwrap_or_default(),
            api_version: reference.api_version.as_deref().unwrap_or_default(),
            name: reference.name.as_deref().unwrap_or_default(),
            uid: reference.uid.as_deref().unwrap_or_default(),
        };
        bind(&mut kubernetes, view, namespace, name, &to)?;
    }
    let issued = now.as_second();
    let mut lifetime = seconds;
    // Only pods' own tokens for this server are extended: nobody else relies on never reading the file again.
    let default_audience = audiences == tokens.audiences();
    if kubernetes.pod.is_some() && seconds == WARN_ONLY_EXPIRATION_SECONDS && default_audience {
        kubernetes.warnafter = Some(issued + seconds);
        lifetime = EXTENDED_EXPIRATION_SECONDS;
    }
    let claims = Claims {
        aud: audiences.to_vec(),
        exp: issued + lifetime,
        iat: issued,
        iss: tokens.issuer().to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        kubernetes,
        nbf: issued,
        sub: crate::service_account_user(namespace, name),
    };
    let token = tokens.sign(&claims).map_err(ApiError::internal)?;
    let expires = now.checked_add(SignedDuration::from_secs(seconds)).map_err(ApiError::internal)?;
    let expires = Timestamp::from_second(expires.as_second()).map_err(ApiError::internal)?;
    body["apiVersion"] = json!("authentication.k8s.io/v1");
    body["kind"] = json!("TokenRequest");
    body["metadata"]["name"] = json!(name);
    body["metadata"]["namespace"] = json!(namespace);
    body["metadata"]["creationTimestamp"] = json!(Timestamp::from_second(issued).map_err(ApiError::internal)?);
    body["spec"]["audiences"] = json!(audiences);
    body["spec"]["expirationSeconds"] = json!(seconds);
    body["status"] = json!({"token": token, "expirationTimestamp": expires});
    Ok(body)
}

fn validate(spec: &TokenRequestSpec, name: &str) -> Result<(), ApiError> {
    let root = Path::root("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = spec.expiration_seconds {
        let path = root.child("expirationSeconds");
        if seconds < MIN_EXPIRATION_SECONDS {
            errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > MAX_EXPIRATION_SECONDS {
            errors.push(FieldError::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    }
    into_result(&KIND, name, errors)
}

struct Binding<'a> {
    kind: &'a str,
    api_version: &'a str,
    name: &'a str,
    uid: &'a str,
}

/// Finds the object that the token is to be bound to, and writes it into the claims.
fn bind(
    claims: &mut KubernetesClaims,
    view: &dyn ObjectView,
    namespace: &str,
    account: &str,
    to: &Binding<'_>,
) -> Result<(), ApiError> {
    let (resource, scope): (&Viewed, &str) = match (to.api_version, to.kind) {
        ("v1" | "", "Pod") => (&PODS, namespace),
        ("v1" | "", "Secret") => (&SECRETS, namespace),
        ("v1" | "", "Node") => (&NODES, ""),
        _ => {
            let why = format!("cannot bind token for serviceaccount {account:?} to object of type {:?}", to.kind);
            return Err(ApiError::bad_request(why));
        }
    };
    let object = view.get(resource, scope, to.name).ok_or_else(|| ApiError::not_found(&resource.resource, to.name))?;
    let metadata = object.metadata().map_err(ApiError::internal)?;
    let uid = metadata.uid.clone().unwrap_or_default();
    if !to.uid.is_empty() && to.uid != uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object \
            might have been deleted and then recreated",
            to.uid
        );
        return Err(ApiError::conflict(&resource.resource, to.name, &why));
    }
    let bound = BoundObject { name: to.name.to_owned(), uid };
    match to.kind {
        "Pod" => {
            let pod = object.typed::<k8s_openapi::api::core::v1::Pod>().map_err(ApiError::internal)?;
            let spec = pod.spec.as_ref();
            if spec.and_then(|s| s.service_account_name.as_deref()) != Some(account) {
                let why = format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different \
                    serviceaccount name"
                );
                return Err(ApiError::bad_request(why));
            }
            claims.node = spec.and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty()).map(|node| {
                let uid = view.get(&NODES, "", node).and_then(|n| n.metadata().ok().and_then(uid_of));
                BoundObject { name: node.to_owned(), uid: uid.unwrap_or_default() }
            });
            claims.pod = Some(bound);
        }
        "Secret" => claims.secret = Some(bound),
        _ => claims.node = Some(bound),
    }
    Ok(())
}

fn uid_of(metadata: &std::sync::Arc<ObjectMeta>) -> Option<String> {
    metadata.uid.clone()
}
