//! Requests as method, path and query.

use std::fmt::Write;

use http::Method;
use navarch_types::{ResourceRequest, Verb};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands for itself in paths and queries.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

pub(super) fn method(verb: Verb) -> Method {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => Method::GET,
        Verb::Create => Method::POST,
        Verb::Update => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete | Verb::DeleteCollection => Method::DELETE,
    }
}

pub(super) fn of(request: &ResourceRequest) -> String {
    let gvr = &request.resource;
    let mut path = if gvr.group.is_empty() {
        format!("/api/{}", gvr.version)
    } else {
        format!("/apis/{}/{}", gvr.group, gvr.version)
    };
    let mut push = |segment: &str| {
        path.push('/');
        path.extend(utf8_percent_encode(segment, ESCAPED));
    };
    if let Some(namespace) = &request.namespace {
        push("namespaces");
        push(namespace);
    }
    push(&gvr.resource);
    // A watch on one object is a watch on the collection, by its name.
    let by_name = request.verb == Verb::Watch || request.verb == Verb::List;
    if let Some(name) = request.name.as_deref().filter(|_| !by_name) {
        push(name);
    }
    if let Some(subresource) = &request.subresource {
        push(subresource);
    }
    let query = query(request, by_name);
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    path
}

fn query(request: &ResourceRequest, by_name: bool) -> String {
    let mut query = String::new();
    let mut push = |key: &str, value: &str| {
        if !value.is_empty() {
            let separator = if query.is_empty() { "" } else { "&" };
            let _ = write!(query, "{separator}{key}={}", utf8_percent_encode(value, ESCAPED));
        }
    };
    let list = &request.list;
    let text = |option: &Option<String>| option.clone().unwrap_or_default();
    if request.verb == Verb::Watch {
        push("watch", "true");
    }
    push("labelSelector", &text(&list.label_selector));
    let mut fields = text(&list.field_selector);
    if let Some(name) = request.name.as_ref().filter(|_| by_name) {
        let separator = if fields.is_empty() { "" } else { "," };
        let _ = write!(fields, "{separator}metadata.name={name}");
    }
    push("fieldSelector", &fields);
    push("resourceVersion", &text(&list.resource_version));
    push("resourceVersionMatch", &text(&list.resource_version_match));
    if list.limit > 0 {
        push("limit", &list.limit.to_string());
    }
    push("continue", &text(&list.continue_token));
    push("timeoutSeconds", &list.timeout_seconds.map(|s| s.to_string()).unwrap_or_default());
    if list.allow_watch_bookmarks {
        push("allowWatchBookmarks", "true");
    }
    push("sendInitialEvents", &list.send_initial_events.map(|s| s.to_string()).unwrap_or_default());
    let write = &request.write;
    if write.dry_run {
        push("dryRun", "All");
    }
    push("fieldManager", &text(&write.field_manager));
    push("fieldValidation", &text(&write.field_validation));
    push("force", &write.force.map(|f| f.to_string()).unwrap_or_default());
    query
}

#[cfg(test)]
mod tests {
    use navarch_types::GroupVersionResource;

    use super::*;

    #[test]
    fn paths() {
        let pods = GroupVersionResource::new("", "v1", "pods");
        let mut request = ResourceRequest::new(Verb::Get, pods.clone());
        request.namespace = Some("d".into());
        request.name = Some("a b/c".into());
        request.subresource = Some("status".into());
        assert_eq!(of(&request), "/api/v1/namespaces/d/pods/a%20b%2Fc/status");
        let mut request = ResourceRequest::new(Verb::Watch, GroupVersionResource::new("apps", "v1", "deployments"));
        request.name = Some("web".into());
        request.list.label_selector = Some("a=b,c".into());
        request.list.resource_version = Some("7".into());
        request.list.allow_watch_bookmarks = true;
        assert_eq!(
            of(&request),
            "/apis/apps/v1/deployments?watch=true&labelSelector=a%3Db%2Cc&fieldSelector=metadata.name%3Dweb\
             &resourceVersion=7&allowWatchBookmarks=true"
        );
        let mut request = ResourceRequest::new(Verb::Create, pods);
        request.write.dry_run = true;
        request.write.field_manager = Some("me".into());
        assert_eq!(of(&request), "/api/v1/pods?dryRun=All&fieldManager=me");
        assert_eq!(method(request.verb), Method::POST);
    }
}
