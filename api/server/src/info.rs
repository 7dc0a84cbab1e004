//! What a path, a method and a query ask for.
//!
//! Pure: knows the shape of Kubernetes' paths and no resource.

use std::borrow::Cow;

use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::{ApiError, GroupVersionKind, GroupVersionResource, ListOptions, WriteOptions};
use percent_encoding::percent_decode_str;

/// A path, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource, or objects of it.
    Resource(ResourceTarget),
    /// Anything else.
    Path(String),
}

/// What a resource path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceTarget {
    /// Which resource.
    pub resource: GroupVersionResource,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The object.
    pub name: Option<String>,
    /// The subresource.
    pub subresource: Option<String>,
    /// What follows the subresource, with a leading slash: the path that a proxy request is for.
    pub rest: String,
    /// Whether the path is one of the old `watch/` ones.
    pub watch: bool,
}

/// Takes a path apart.
pub fn parse_path(path: &str) -> Target {
    resource_target(path).map_or_else(|| Target::Path(path.to_owned()), Target::Resource)
}

fn resource_target(path: &str) -> Option<ResourceTarget> {
    let trimmed = path.strip_prefix('/')?;
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let parts: Vec<String> =
        trimmed.split('/').map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned()).collect();
    let (group, version, mut rest) = match parts.first()?.as_str() {
        "api" if parts.len() > 2 => (String::new(), parts[1].clone(), &parts[2..]),
        "apis" if parts.len() > 3 => (parts[1].clone(), parts[2].clone(), &parts[3..]),
        _ => return None,
    };
    let watch = rest.first().is_some_and(|p| p == "watch") && rest.len() > 1;
    if watch {
        rest = &rest[1..];
    }
    let mut namespace = None;
    // `namespaces/x` and its own subresources are the namespace itself; anything else below it is in the namespace.
    if rest.first().is_some_and(|p| p == "namespaces")
        && rest.len() > 2
        && !(group.is_empty() && matches!(rest[2].as_str(), "status" | "finalize"))
    {
        namespace = Some(rest[1].clone());
        rest = &rest[2..];
    }
    let take = |at: usize| rest.get(at).cloned().filter(|p| !p.is_empty());
    let resource = take(0)?;
    Some(ResourceTarget {
        resource: GroupVersionResource { group: group.into(), version: version.into(), resource: resource.into() },
        namespace,
        name: take(1),
        subresource: take(2),
        rest: if rest.len() > 3 { format!("/{}", rest[3..].join("/")) } else { String::new() },
        watch,
    })
}

/// A query, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From the text behind the question mark.
    pub fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter stands there at all.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A truth value: present and neither `false` nor `0`, as upstream reads them.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(number) => Ok(Some(u64::try_from(number).unwrap_or_default())),
                Err(_) => Err(ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
            },
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|v| !v.is_empty()).map(str::to_owned)
    }

    /// The options of get, list and watch.
    ///
    /// # Errors
    /// 400 for what is no number.
    pub fn list_options(&self) -> Result<ListOptions, ApiError> {
        Ok(ListOptions {
            label_selector: self.text("labelSelector"),
            field_selector: self.text("fieldSelector"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: self.text("resourceVersionMatch"),
            limit: self.number("limit")?.unwrap_or_default(),
            continue_token: self.text("continue"),
            timeout_seconds: self.number("timeoutSeconds")?,
            allow_watch_bookmarks: self.flag("allowWatchBookmarks").unwrap_or_default(),
            send_initial_events: self.flag("sendInitialEvents"),
        })
    }

    /// The options of create, update, patch and delete. `kind` is that of the options, for errors.
    ///
    /// # Errors
    /// 422 for values that do not exist.
    pub fn write_options(&self, kind: &'static str) -> Result<WriteOptions, ApiError> {
        let mut findings = Vec::new();
        let dry_runs: Vec<&str> = self.all("dryRun").filter(|v| !v.is_empty()).collect();
        for value in dry_runs.iter().filter(|v| **v != "All") {
            findings.push(FieldError::not_supported(&Path::root("dryRun"), *value, &["All"]));
        }
        let field_validation = self.text("fieldValidation");
        if let Some(value) = field_validation.as_deref().filter(|v| !matches!(*v, "Ignore" | "Warn" | "Strict")) {
            let path = Path::root("fieldValidation");
            findings.push(FieldError::not_supported(&path, value, &["", "Ignore", "Strict", "Warn"]));
        }
        let field_manager = self.text("fieldManager");
        if field_manager.as_ref().is_some_and(|m| m.len() > 128) {
            findings.push(FieldError::too_long(&Path::root("fieldManager"), 128));
        }
        into_result(&GroupVersionKind::new("meta.k8s.io", "v1", kind), "", findings)?;
        Ok(WriteOptions {
            dry_run: !dry_runs.is_empty(),
            field_manager,
            field_validation,
            force: self.flag("force"),
            fence_term: None,
        })
    }
}

/// The name that a field selector fixes, if it fixes one: authorization sees it.
pub fn name_in_field_selector(selector: Option<&str>) -> Option<Cow<'_, str>> {
    let selector = selector?;
    selector.split(',').find_map(|term| {
        let (field, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (field == "metadata.name" && !value.is_empty()).then_some(Cow::Borrowed(value))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn resource(path: &str) -> String {
        match parse_path(path) {
            Target::Path(path) => format!("path {path}"),
            Target::Resource(t) => format!(
                "{}/{}/{} ns={} name={} sub={} rest={} watch={}",
                t.resource.group,
                t.resource.version,
                t.resource.resource,
                t.namespace.unwrap_or_default(),
                t.name.unwrap_or_default(),
                t.subresource.unwrap_or_default(),
                t.rest,
                t.watch
            ),
        }
    }

    #[test]
    fn paths() {
        for (path, found) in [
            ("/api/v1/pods", "/v1/pods ns= name= sub= rest= watch=false"),
            ("/api/v1/namespaces", "/v1/namespaces ns= name= sub= rest= watch=false"),
            ("/api/v1/namespaces/a", "/v1/namespaces ns= name=a sub= rest= watch=false"),
            ("/api/v1/namespaces/a/status", "/v1/namespaces ns= name=a sub=status rest= watch=false"),
            ("/api/v1/namespaces/a/finalize", "/v1/namespaces ns= name=a sub=finalize rest= watch=false"),
            ("/api/v1/namespaces/a/pods/b", "/v1/pods ns=a name=b sub= rest= watch=false"),
            ("/api/v1/namespaces/a/pods/b/log", "/v1/pods ns=a name=b sub=log rest= watch=false"),
            ("/api/v1/nodes/n/proxy/a/b", "/v1/nodes ns= name=n sub=proxy rest=/a/b watch=false"),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "apps/v1/deployments ns=a name=b sub=scale rest= watch=false",
            ),
            ("/api/v1/watch/namespaces/a/pods", "/v1/pods ns=a name= sub= rest= watch=true"),
            ("/apis/apps/v1", "path /apis/apps/v1"),
            ("/api/v1", "path /api/v1"),
            ("/healthz", "path /healthz"),
            ("/", "path /"),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io/v1/clusterroles ns= name=system:node sub= rest= watch=false",
            ),
        ] {
            assert_eq!(resource(path), found, "{path}");
        }
    }

    #[test]
    fn queries() {
        let query =
            Query::parse("labelSelector=a%3Db%2Cc&limit=5&watch=true&x&allowWatchBookmarks=1&command=a+b&command=c");
        let options = query.list_options().unwrap();
        assert_eq!(options.label_selector.as_deref(), Some("a=b,c"));
        assert_eq!((options.limit, options.allow_watch_bookmarks), (5, true));
        assert_eq!(query.flag("watch"), Some(true));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a b", "c"]);
        assert!(Query::parse("limit=x").list_options().is_err());
        assert!(Query::parse("dryRun=All").write_options("CreateOptions").unwrap().dry_run);
        assert_eq!(Query::parse("dryRun=Some").write_options("CreateOptions").unwrap_err().code(), 422);
        assert_eq!(Query::parse("fieldValidation=x").write_options("CreateOptions").unwrap_err().code(), 422);
    }

    #[test]
    fn names_in_field_selectors() {
        assert_eq!(name_in_field_selector(Some("metadata.name=a")).as_deref(), Some("a"));
        assert_eq!(name_in_field_selector(Some("x=y,metadata.name==a")).as_deref(), Some("a"));
        assert_eq!(name_in_field_selector(Some("metadata.name!=a")), None);
        assert_eq!(name_in_field_selector(None), None);
    }
}
