//! Reading collections: at the latest revision, at an old one, in pages.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use navarch_raft_contract::{KeyRange, ReadError};
use navarch_store::key;
use navarch_types::field::{FieldError, Path, into_result};
use navarch_types::{ApiError, GroupResource, GroupVersionKind, ListOptions, Object, ObjectList, Reason};
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::ops::get::parse_revision;
use crate::registry::{self, Registry};
use crate::resource::Resource;
use crate::select::Selection;

/// Keys read at once from the store's history.
const HISTORY_PAGE: usize = 500;

/// Where a list goes on. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ContinueToken {
    v: String,
    /// The revision of the whole list; -1: whatever is the latest.
    rv: i64,
    /// The last key of the page before.
    start: String,
}

/// What revision a list is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Everything acknowledged.
    Latest,
    /// Anything.
    Any,
    /// At least as new.
    NotOlderThan(u64),
    /// Just this.
    Exact(u64),
}

/// A page before it is presented.
#[derive(Default)]
struct Found {
    revision: u64,
    items: Vec<(Arc<str>, Arc<Object>)>,
    /// Keys behind the last item; `None` if only that there are some is known.
    left: Option<usize>,
    more: bool,
}

impl Registry {
    /// Lists a namespace, or all of them if the call's is empty.
    ///
    /// # Errors
    /// 400 for bad selectors and tokens, 410 for a revision that is no longer retained, 504 for one that does not come.
    pub async fn list(&self, call: &Call<'_>, options: &ListOptions) -> Result<ObjectList, ApiError> {
        let resource = call.resource;
        let selection =
            Selection::parse(resource, options.label_selector.as_deref(), options.field_selector.as_deref())?;
        let token =
            options.continue_token.as_deref().filter(|t| !t.is_empty()).map(ContinueToken::parse).transpose()?;
        let at = revision_asked(options, token.as_ref())?;
        let namespace = Some(call.namespace).filter(|n| !n.is_empty());
        match at {
            At::Latest => {
                self.barrier(call.deadline).await?;
            }
            At::Any => {}
            At::NotOlderThan(revision) | At::Exact(revision) => self.wait_for(revision, call.deadline).await?,
        }
        let after = token.as_ref().map(|t| t.start.as_str());
        let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
        let exact = if let At::Exact(revision) = at { Some(revision) } else { None };
        let query = Query { resource, namespace, after, limit, selection: &selection };
        let found = match exact {
            // Below the floor nobody knows what there was, even if nothing is there now that changed since.
            Some(revision)
                if !self.cache(resource).unchanged_since(revision) || revision < self.floor_of(&resource.storage) =>
            {
                self.page_of_history(&query, revision).await.map_err(|error| match error {
                    ReadError::Compacted { .. } if token.is_some() => expired_token(token.as_ref()),
                    ReadError::Compacted { .. } => ApiError::new(
                        Reason::Expired,
                        format!("The resourceVersion for the provided list is too old: {revision}"),
                    ),
                    other => registry::read_error(other),
                })?
            }
            _ => {
                let mut found = self.page_of_cache(&query);
                // Nothing changed since then, so this is the list of that revision too.
                found.revision = exact.unwrap_or(found.revision);
                found
            }
        };
        self.answer(resource, &selection, found)
    }

    fn floor_of(&self, resource: &GroupResource) -> u64 {
        self.store.reader().floor_of(&KeyRange::prefix(key::resource_prefix(resource).as_bytes()))
    }

    fn answer(&self, resource: &Resource, selection: &Selection, found: Found) -> Result<ObjectList, ApiError> {
        let continue_token = match found.items.last() {
            Some((key, _)) if found.more => Some(ContinueToken::new(found.revision, key).text()?),
            _ => None,
        };
        let remaining = if found.more && selection.is_all() { found.left.map(|l| l as u64) } else { None };
        let items = found.items.into_iter().map(|(_, o)| self.present(resource, o)).collect::<Result<Vec<_>, _>>()?;
        Ok(ObjectList { revision: found.revision, continue_token, remaining, items })
    }

    fn page_of_cache(&self, query: &Query<'_>) -> Found {
        let cache = self.cache(query.resource);
        let all = if query.limit == 0 { usize::MAX } else { query.limit };
        if query.selection.is_all() {
            let page = cache.page(query.namespace, query.after, all);
            let more = page.remaining > 0;
            return Found { revision: page.revision, items: page.items, left: Some(page.remaining), more };
        }
        // A page of the selection: the whole range from one moment, then what matches of it.
        let page = cache.page(query.namespace, query.after, usize::MAX);
        let mut items = Vec::new();
        let mut more = false;
        for (key, object) in page.items {
            if query.selection.matches(&object) {
                if items.len() == all {
                    more = true;
                    break;
                }
                items.push((key, object));
            }
        }
        Found { revision: page.revision, items, left: None, more }
    }

    async fn page_of_history(&self, query: &Query<'_>, revision: u64) -> Result<Found, ReadError> {
        let storage = &query.resource.storage;
        let resource_prefix = key::resource_prefix(storage);
        let prefix = match query.namespace {
            Some(namespace) => key::namespace_prefix(storage, namespace),
            None => resource_prefix.clone(),
        };
        let mut range = KeyRange::prefix(prefix.as_bytes());
        if let Some(after) = query.after {
            range.start = start_after(&resource_prefix, after).max(range.start);
        }
        let all = if query.limit == 0 { usize::MAX } else { query.limit };
        let mut found = Found { revision, ..Found::default() };
        loop {
            let reader = Arc::clone(self.store.reader());
            let asked = range.clone();
            let read = move || reader.range(&asked, Some(revision), HISTORY_PAGE);
            let (page, _) = tokio::task::spawn_blocking(read)
                .await
                .map_err(|e| ReadError::Database(format!("a read was not carried out: {e}")))??;
            for item in page.items {
                let name = String::from_utf8_lossy(item.key.get(resource_prefix.len()..).unwrap_or_default());
                range.start = start_after(&resource_prefix, &name);
                let object = Object::from_stored(item.value, item.mod_revision)
                    .map_err(|e| ReadError::Database(e.to_string()))?;
                if query.selection.matches(&object) {
                    if found.items.len() == all {
                        found.more = true;
                        return Ok(found);
                    }
                    found.items.push((Arc::from(name.as_ref()), Arc::new(object)));
                }
            }
            if !page.more {
                return Ok(found);
            }
        }
    }
}

struct Query<'a> {
    resource: &'a Resource,
    namespace: Option<&'a str>,
    after: Option<&'a str>,
    /// 0: no limit.
    limit: usize,
    selection: &'a Selection,
}

fn start_after(prefix: &str, key: &str) -> Bytes {
    [prefix.as_bytes(), key.as_bytes(), &[0]].concat().into()
}

/// What the options ask for, or why they make no sense together.
fn revision_asked(options: &ListOptions, token: Option<&ContinueToken>) -> Result<At, ApiError> {
    let given = options.resource_version.as_deref().filter(|r| !r.is_empty());
    let rule = options.resource_version_match.as_deref().filter(|m| !m.is_empty());
    check_match(given, rule, token.is_some())?;
    let revision = parse_revision(given)?;
    if let Some(token) = token {
        if revision.is_some_and(|r| r != 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        return Ok(match u64::try_from(token.rv) {
            Ok(0) | Err(_) => At::Latest,
            Ok(revision) => At::Exact(revision),
        });
    }
    Ok(match (revision, rule) {
        (None, _) => At::Latest,
        (Some(0), _) => At::Any,
        (Some(revision), Some("Exact")) => At::Exact(revision),
        (Some(revision), None) if options.limit > 0 => At::Exact(revision),
        (Some(revision), _) => At::NotOlderThan(revision),
    })
}

fn check_match(given: Option<&str>, rule: Option<&str>, continues: bool) -> Result<(), ApiError> {
    let Some(rule) = rule else { return Ok(()) };
    let path = Path::root("resourceVersionMatch");
    let mut findings = Vec::new();
    if continues {
        findings.push(FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
    }
    if given.is_none() {
        let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        findings.push(FieldError::forbidden(&path, detail));
    }
    if !matches!(rule, "Exact" | "NotOlderThan") {
        findings.push(FieldError::not_supported(&path, rule, &["Exact", "NotOlderThan", ""]));
    }
    if rule == "Exact" && given == Some("0") {
        let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        findings.push(FieldError::forbidden(&path, detail));
    }
    into_result(&GroupVersionKind::new("meta.k8s.io", "v1", "ListOptions"), "", findings)
}

impl ContinueToken {
    fn new(revision: u64, key: &str) -> Self {
        Self { v: "meta.k8s.io/v1".to_owned(), rv: i64::try_from(revision).unwrap_or(-1), start: key.to_owned() }
    }

    fn text(&self) -> Result<String, ApiError> {
        serde_json::to_vec(self).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(ApiError::internal)
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let invalid = |why: &str| ApiError::bad_request(format!("continue key is not valid: {why}"));
        let json = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| invalid(&e.to_string()))?;
        let token: Self = serde_json::from_slice(&json).map_err(|e| invalid(&e.to_string()))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(invalid(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        if token.start.is_empty() {
            return Err(invalid("encoded start key empty"));
        }
        Ok(token)
    }
}

/// 410, with a token by which an inconsistent list can go on.
fn expired_token(token: Option<&ContinueToken>) -> ApiError {
    const MESSAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
        new list without the continue parameter, or use the continue token in this response to retrieve the remainder of \
        the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
        modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let error = ApiError::new(Reason::Expired, MESSAGE);
    let Some(Ok(text)) = token.map(|t| ContinueToken { rv: -1, ..t.clone() }.text()) else { return error };
    let mut status = error.status().clone();
    status.metadata.insert("continue".to_owned(), text.into());
    ApiError::from_status(status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn options(version: &str, rule: &str, limit: u64) -> ListOptions {
        ListOptions {
            resource_version: Some(version.to_owned()),
            resource_version_match: Some(rule.to_owned()),
            limit,
            ..ListOptions::default()
        }
    }

    #[test]
    fn what_revision_a_list_shows() {
        for (version, rule, limit, at) in [
            ("", "", 0, At::Latest),
            ("0", "", 0, At::Any),
            ("7", "", 0, At::NotOlderThan(7)),
            ("7", "", 5, At::Exact(7)),
            ("7", "Exact", 0, At::Exact(7)),
            ("7", "NotOlderThan", 5, At::NotOlderThan(7)),
        ] {
            assert_eq!(revision_asked(&options(version, rule, limit), None).unwrap(), at, "{version} {rule} {limit}");
        }
        for (version, rule) in [("", "Exact"), ("0", "Exact"), ("7", "Other"), ("x", "")] {
            assert!(revision_asked(&options(version, rule, 0), None).is_err(), "{version} {rule}");
        }
        let token = ContinueToken::new(9, "a/b");
        assert_eq!(revision_asked(&options("", "", 5), Some(&token)).unwrap(), At::Exact(9));
        assert!(revision_asked(&options("7", "", 5), Some(&token)).is_err());
        assert!(revision_asked(&options("7", "Exact", 5), Some(&token)).is_err());
    }

    #[test]
    fn tokens_survive_the_way_to_the_client_and_back() {
        let token = ContinueToken::new(42, "default/web");
        assert_eq!(ContinueToken::parse(&token.text().unwrap()).unwrap(), token);
        for bad in ["", "!", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6ImEifQ"] {
            assert!(ContinueToken::parse(bad).is_err(), "{bad}");
        }
        let error = expired_token(Some(&token));
        let text = error.status().metadata["continue"].as_str().unwrap().to_owned();
        assert_eq!(ContinueToken::parse(&text).unwrap().rv, -1);
        assert_eq!(error.code(), 410);
    }
}
