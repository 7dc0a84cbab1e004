//! What is asked of authorization, and what it answers.

use navarch_types::{ApiError, GroupResource, UserInfo};

/// Who wants to do what.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// `get`, `list`, …, `bind`, `impersonate`; the lower-case HTTP method for paths that are no resource.
    pub verb: &'a str,
    /// The resource's API group.
    pub group: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// `status`, `log`, …; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for resources of the cluster and for all namespaces.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// The path, for requests that are for no resource.
    pub path: &'a str,
    /// Whether this is a request for a resource.
    pub is_resource_request: bool,
    /// The field selector of a list, watch or deletecollection, as it stands in the query; empty without one. The node
    /// authorizer lets a node list its own pods by it.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// A request for a resource; set the rest by struct update.
    pub const fn resource(
        user: &'a UserInfo,
        verb: &'a str,
        group: &'a str,
        version: &'a str,
        resource: &'a str,
    ) -> Self {
        Self {
            user,
            verb,
            group,
            version,
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            is_resource_request: true,
            field_selector: "",
        }
    }

    /// A request for a path that is no resource.
    pub const fn path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        let mut attributes = Self::resource(user, verb, "", "", "");
        attributes.path = path;
        attributes.is_resource_request = false;
        attributes
    }

    /// The 403 for a request that was not allowed, as upstream words it.
    pub fn forbidden(&self, reason: &str) -> ApiError {
        let who = format!("User {:?}", self.user.name);
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        if !self.is_resource_request {
            let why = format!("{who} cannot {} path {:?}{reason}", self.verb, self.path);
            return ApiError::new(navarch_types::Reason::Forbidden, format!("forbidden: {why}"))
                .with_details(navarch_types::StatusDetails::default());
        }
        let resource = if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let scope = if self.namespace.is_empty() {
            " at the cluster scope".to_owned()
        } else {
            format!(" in the namespace {:?}", self.namespace)
        };
        let why =
            format!("{who} cannot {} resource {resource:?} in API group {:?}{scope}{reason}", self.verb, self.group);
        let group_resource =
            GroupResource { group: self.group.to_owned().into(), resource: self.resource.to_owned().into() };
        ApiError::forbidden(&group_resource, self.name, &why)
    }
}

/// The answer of one authorizer, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It must not be done, whatever others say; and why.
    Deny(String),
    /// This authorizer does not allow it; and why. From the last one in the chain it means no.
    NoOpinion(String),
}

impl Decision {
    /// Whether it may be done.
    pub const fn allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }

    /// Why not; empty if it may.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow => "",
            Self::Deny(why) | Self::NoOpinion(why) => why,
        }
    }
}
