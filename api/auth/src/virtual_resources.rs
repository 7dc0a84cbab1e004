//! Resources that are never stored: reviews of access, tokens and oneself, and token requests. Creating one asks a
//! question; the answer is in its status.

use std::sync::Arc;

use navarch_types::{ApiError, GroupVersionResource, UserInfo};
use serde_json::{Value, json};

use crate::authenticate::Authenticator;
use crate::authorize::Authorizer;
use crate::token;
use crate::view::ObjectView;

mod access;
mod rules;

/// Answers them. The server has authorized the request, decoded the body and filled in defaults.
#[derive(Clone)]
pub struct VirtualResources {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
    view: Arc<dyn ObjectView>,
}

impl std::fmt::Debug for VirtualResources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualResources").finish_non_exhaustive()
    }
}

/// One create of such a resource.
#[derive(Clone, Debug)]
pub struct VirtualRequest<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// For what.
    pub resource: &'a GroupVersionResource,
    /// `token` of `serviceaccounts`; empty otherwise.
    pub subresource: &'a str,
    /// Of the request; empty for resources of the cluster.
    pub namespace: &'a str,
    /// The service account's name for `serviceaccounts/token`; empty otherwise.
    pub name: &'a str,
    /// The body.
    pub object: Value,
}

/// Whether a resource (with subresource, empty for none) is answered by [`VirtualResources::handle`].
pub fn is_virtual(group: &str, resource: &str, subresource: &str) -> bool {
    matches!(
        (group, resource, subresource),
        (
            "authorization.k8s.io",
            "subjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "selfsubjectrulesreviews",
            ""
        ) | ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews", "")
            | ("", "serviceaccounts", "token")
    )
}

impl VirtualResources {
    /// From the two that know the answers.
    pub fn new(authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>, view: Arc<dyn ObjectView>) -> Self {
        Self { authenticator, authorizer, view }
    }

    /// The answer: the object with its status, to be sent with 201.
    ///
    /// # Errors
    /// If the object is invalid, or the resource is none of these (404).
    pub fn handle(&self, request: VirtualRequest<'_>) -> Result<Value, ApiError> {
        let (group, resource) = (request.resource.group.as_ref(), request.resource.resource.as_ref());
        match (group, resource, request.subresource) {
            ("", "serviceaccounts", "token") => {
                let now = self.authenticator.now();
                let (namespace, name) = (request.namespace, request.name);
                let tokens = self.authenticator.tokens();
                token::request::issue(tokens, &*self.view, namespace, name, request.object, now)
            }
            ("authentication.k8s.io", "tokenreviews", "") => self.token_review(request.object),
            ("authentication.k8s.io", "selfsubjectreviews", "") => Ok(self_review(request.user, request.object)),
            ("authorization.k8s.io", "selfsubjectrulesreviews", "") => {
                rules::review(self.authorizer.rbac(), request.user, request.object)
            }
            ("authorization.k8s.io", review, "") if is_virtual(group, review, "") => {
                access::review(&self.authorizer, request.user, review, request.namespace, request.object)
            }
            _ => Err(ApiError::not_found(&request.resource.group_resource(), request.name)),
        }
    }

    fn token_review(&self, mut object: Value) -> Result<Value, ApiError> {
        let token = object["spec"]["token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = match object["spec"].get("audiences").and_then(Value::as_array) {
            Some(list) if !list.is_empty() => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => self.authenticator.tokens().audiences().to_vec(),
        };
        object["status"] = match self.authenticator.token(&token, &audiences) {
            Ok((user, matching)) => json!({"authenticated": true, "user": user_value(&user), "audiences": matching}),
            Err(_) => json!({"user": {}, "error": "invalid bearer token"}),
        };
        Ok(object)
    }
}

/// A user as `UserInfo` of the API.
pub fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name});
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        value["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

fn self_review(user: &UserInfo, mut object: Value) -> Value {
    object["status"] = json!({"userInfo": user_value(user)});
    object
}

#[cfg(test)]
mod tests;
