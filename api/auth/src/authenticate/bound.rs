//! Whether what a token is bound to still lives, and the user it stands for.

use jiff::Timestamp;
use navarch_types::UserInfo;

use crate::token::{BoundObject, Claims};
use crate::view::{NODES, ObjectView, PODS, SECRETS, SERVICE_ACCOUNTS, Viewed};

/// How long after its deletion time an object still keeps its tokens good, so that its owner can finish.
const DELETED_LEEWAY_SECONDS: i64 = 60;

pub(super) fn user(claims: &Claims, view: &dyn ObjectView, now: Timestamp) -> Result<UserInfo, String> {
    let bound = &claims.kubernetes;
    let account = &bound.serviceaccount;
    if claims.sub != crate::service_account_user(&bound.namespace, &account.name) {
        return Err("the subject does not match the service account".to_owned());
    }
    if claims.exp < now.as_second() - crate::token::claims::LEEWAY_SECONDS {
        return Err("the token has expired".to_owned());
    }
    lives(view, &SERVICE_ACCOUNTS, &bound.namespace, account, now)?;
    if let Some(secret) = &bound.secret {
        lives(view, &SECRETS, &bound.namespace, secret, now)?;
    }
    let mut user = crate::service_account_identity(&bound.namespace, &account.name, &account.uid);
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        lives(view, &PODS, &bound.namespace, pod, now)?;
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        // A pod's token says on which node it runs; it does not die with that node's object.
        if bound.pod.is_none() {
            lives(view, &NODES, "", node, now)?;
        }
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    Ok(user)
}

fn lives(
    view: &dyn ObjectView,
    resource: &Viewed,
    namespace: &str,
    bound: &BoundObject,
    now: Timestamp,
) -> Result<(), String> {
    let what = || format!("{} {namespace}/{}", resource.resource, bound.name);
    let object = view.get(resource, namespace, &bound.name).ok_or_else(|| format!("{} does not exist", what()))?;
    let metadata = object.metadata().map_err(|e| e.to_string())?;
    if metadata.uid.as_deref().unwrap_or_default() != bound.uid {
        return Err(format!("{} is another one", what()));
    }
    let deleted = metadata.deletion_timestamp.as_ref().map(|t| t.0.as_second());
    if deleted.is_some_and(|at| at < now.as_second() - DELETED_LEEWAY_SECONDS) {
        return Err(format!("{} has been deleted", what()));
    }
    Ok(())
}
