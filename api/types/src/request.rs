//! Requests for resources and what comes back, independent of how they travel.
//!
//! `api/client` makes these, `api/server` answers them. Over HTTP they are paths, queries and bodies; in process they are
//! handed over as they are.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Status;
use crate::name::{GroupVersionResource, Str};
use crate::object::Object;

/// What a request does, by the name that authorization knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read one object or subresource.
    Get,
    /// Read a collection.
    List,
    /// Follow changes of a collection or of one object.
    Watch,
    /// Make a new object, or post to a subresource.
    Create,
    /// Replace an object.
    Update,
    /// Change parts of an object.
    Patch,
    /// Remove an object.
    Delete,
    /// Remove the objects of a collection.
    DeleteCollection,
}

impl Verb {
    /// As RBAC rules have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902, `application/json-patch+json`.
    Json,
    /// RFC 7396, `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`.
    Apply,
}

impl PatchType {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes of a media type, as they came over the wire.
    Bytes {
        /// `application/json`, `application/yaml`, a patch's type.
        media_type: Str,
        /// The content.
        content: Bytes,
    },
    /// A value from inside the process, for every media type that is JSON.
    Value(Value),
}

/// Options of get, list and watch, as they stand in the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `labelSelector`.
    pub label_selector: Option<String>,
    /// `fieldSelector`.
    pub field_selector: Option<String>,
    /// `resourceVersion`: unset reads the latest; `0` any; otherwise see `resource_version_match`.
    pub resource_version: Option<String>,
    /// `resourceVersionMatch`: `Exact` or `NotOlderThan`.
    pub resource_version_match: Option<String>,
    /// `limit`; 0 is none.
    pub limit: u64,
    /// `continue`.
    pub continue_token: Option<String>,
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<u64>,
    /// `allowWatchBookmarks`.
    pub allow_watch_bookmarks: bool,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
}

/// Options of create, update, patch and delete, as they stand in the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`.
    pub field_manager: Option<String>,
    /// `fieldValidation`: `Ignore`, `Warn` or `Strict`.
    pub field_validation: Option<String>,
    /// `force` of an apply patch.
    pub force: Option<bool>,
    /// Refused with [`crate::Reason::Conflict`] unless this Raft term is still the entry's when the write is applied.
    /// Set by controllers in the leader; never from the wire.
    pub fence_term: Option<u64>,
}

/// What becomes of dependents on delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// They keep living, without the owner reference.
    Orphan,
    /// The garbage collector deletes them afterwards.
    Background,
    /// The object stays until they are gone.
    Foreground,
}

/// A request for a resource.
#[derive(Clone, Debug)]
pub struct ResourceRequest {
    /// What to do.
    pub verb: Verb,
    /// With what.
    pub resource: GroupVersionResource,
    /// `None` for cluster-scoped resources and for all namespaces.
    pub namespace: Option<String>,
    /// `None` for collections.
    pub name: Option<String>,
    /// `status`, `scale`, …
    pub subresource: Option<Str>,
    /// For get, list and watch, and the selection of a deletecollection.
    pub list: ListOptions,
    /// For everything that changes.
    pub write: WriteOptions,
    /// For [`Verb::Patch`].
    pub patch: Option<PatchType>,
    /// The object, the patch, or `DeleteOptions`.
    pub body: Body,
}

impl ResourceRequest {
    /// A request without options or body.
    pub fn new(verb: Verb, resource: GroupVersionResource) -> Self {
        Self {
            verb,
            resource,
            namespace: None,
            name: None,
            subresource: None,
            list: ListOptions::default(),
            write: WriteOptions::default(),
            patch: None,
            body: Body::Empty,
        }
    }
}

/// A consistent list.
#[derive(Clone, Debug, Default)]
pub struct ObjectList {
    /// The revision at which the list was read.
    pub revision: u64,
    /// How to go on, if there is more.
    pub continue_token: Option<String>,
    /// How many are left, if that is known.
    pub remaining: Option<u64>,
    /// The objects, in order of key.
    pub items: Vec<Arc<Object>>,
}

/// What a request other than a watch came to.
#[derive(Clone, Debug)]
pub enum ResourceResponse {
    /// An object that was read or written.
    Object(Arc<Object>),
    /// An object that was made (201).
    Created(Arc<Object>),
    /// A collection.
    List(ObjectList),
    /// A success that is no object.
    Status(Box<Status>),
    /// A value that is no stored object, such as a Scale or a review; with the HTTP code.
    Value(u16, Value),
}

/// The kinds of watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEventType {
    /// The object came into the selection.
    Added,
    /// It changed.
    Modified,
    /// It left the selection.
    Deleted,
    /// All changes up to the object's revision were sent.
    Bookmark,
}

impl WatchEventType {
    /// As it stands in `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

/// One event of a watch. Failures end the stream as [`crate::ApiError`].
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// What happened.
    pub event_type: WatchEventType,
    /// To what; for a bookmark an object with nothing but kind and resourceVersion.
    pub object: Arc<Object>,
    /// On a bookmark: all initial events were sent (`k8s.io/initial-events-end`).
    pub initial_events_end: bool,
}
