//! The way of every request for a resource, whoever carries it: authorization, decoding, the operation.
//!
//! Adapters authenticate and translate; nothing reaches the registry but through here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use navarch_auth::{Attributes, Authenticator, Authorizer, VirtualResources};
use navarch_registry::call::Admission;
use navarch_registry::ops::watch::Watch;
use navarch_registry::{Call, Registry, Resource};
use navarch_types::{ApiError, Reason, ResourceRequest, ResourceResponse, UserInfo, Verb};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::info::name_in_field_selector;
use crate::streaming::Kubelets;

mod dispatch;

/// A request that is no watch is over after this time.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// Requests other than watches that are served at once. Beyond them clients are told to come back.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 600;

/// The parts that requests pass.
pub struct Pipeline {
    pub(crate) registry: Registry,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) virtuals: VirtualResources,
    pub(crate) admission: Arc<dyn Admission>,
    kubelets: Option<Kubelets>,
    in_flight: Semaphore,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer itself.
    pub response: ResourceResponse,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl Pipeline {
    /// From its parts.
    pub fn new(
        registry: Registry,
        authenticator: Arc<Authenticator>,
        authorizer: Arc<Authorizer>,
        virtuals: VirtualResources,
        admission: Arc<dyn Admission>,
    ) -> Self {
        let in_flight = Semaphore::new(REQUESTS_IN_FLIGHT_MAX);
        Self { registry, authenticator, authorizer, virtuals, admission, kubelets: None, in_flight }
    }

    /// With a way to kubelets: logs, exec and the like are served.
    #[must_use]
    pub fn with_kubelets(mut self, kubelets: Kubelets) -> Self {
        self.kubelets = Some(kubelets);
        self
    }

    /// With another bound on requests under way at once than [`REQUESTS_IN_FLIGHT_MAX`].
    #[must_use]
    pub fn with_requests_in_flight_max(mut self, requests: usize) -> Self {
        self.in_flight = Semaphore::new(requests.min(Semaphore::MAX_PERMITS));
        self
    }

    /// The way to kubelets.
    pub fn kubelets(&self) -> Option<&Kubelets> {
        self.kubelets.as_ref()
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The authorizer.
    pub fn authorizer(&self) -> &Arc<Authorizer> {
        &self.authorizer
    }

    /// Everything but a watch.
    ///
    /// # Errors
    /// Whatever any stage says.
    pub async fn request(&self, user: &UserInfo, request: ResourceRequest) -> Result<Answer, ApiError> {
        let _permit = self.in_flight.try_acquire().map_err(|_| too_many())?;
        self.authorize(user, &request)?;
        let resource = self.check(&request)?;
        let deadline = Instant::now() + REQUEST_DEADLINE;
        match tokio::time::timeout_at(deadline, self.dispatch(user, &resource, request, deadline)).await {
            Ok(result) => result,
            Err(_) => {
                Err(ApiError::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout"))
            }
        }
    }

    /// Opens a watch.
    ///
    /// # Errors
    /// Whatever any stage says.
    pub async fn watch(&self, user: &UserInfo, request: &ResourceRequest) -> Result<Watch, ApiError> {
        self.authorize(user, request)?;
        let resource = self.check(request)?;
        let deadline = Instant::now() + REQUEST_DEADLINE;
        let call = self.call(user, &resource, request, deadline);
        self.registry.watch(&call, &request.list).await
    }

    /// May this user do this?
    ///
    /// # Errors
    /// 403.
    pub fn authorize(&self, user: &UserInfo, request: &ResourceRequest) -> Result<(), ApiError> {
        let resource = &request.resource;
        let mut attributes =
            Attributes::resource(user, request.verb.as_str(), &resource.group, &resource.version, &resource.resource);
        attributes.subresource = request.subresource.as_deref().unwrap_or_default();
        let name = match &request.name {
            Some(name) => name.as_str().into(),
            None => name_in_field_selector(request.list.field_selector.as_deref()).unwrap_or_default(),
        };
        attributes.name = &name;
        attributes.namespace = match &request.namespace {
            Some(namespace) => namespace,
            // A namespace belongs to itself: a role in it may allow to read it.
            None if resource.group.is_empty() && resource.resource == "namespaces" => &name,
            None => "",
        };
        attributes.field_selector = request.list.field_selector.as_deref().unwrap_or_default();
        let decision = self.authorizer.authorize(&attributes);
        if decision.allowed() { Ok(()) } else { Err(attributes.forbidden(decision.reason())) }
    }

    /// Whether there is such a resource, in this scope, with this verb.
    fn check(&self, request: &ResourceRequest) -> Result<Arc<Resource>, ApiError> {
        let resource = self.registry.resource(&request.resource)?;
        let served = match &request.subresource {
            None => resource.verbs.contains(&request.verb),
            Some(name) => {
                let facts = resource.subresource(name).ok_or_else(navarch_registry::registry::no_such_path)?;
                facts.serves(request.verb)
            }
        };
        // Lists and watches may be over all namespaces; everything else has one, if objects of the resource do.
        let everywhere = matches!(request.verb, Verb::List | Verb::Watch) && request.name.is_none();
        let scoped = match (resource.namespaced, &request.namespace) {
            (true, None) => everywhere,
            (false, Some(_)) => false,
            _ => true,
        };
        let named = match request.verb {
            Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => request.name.is_some(),
            Verb::List | Verb::DeleteCollection => request.name.is_none(),
            Verb::Create => request.name.is_some() == request.subresource.is_some(),
            Verb::Watch => true,
        };
        if !scoped {
            return Err(navarch_registry::registry::no_such_path());
        }
        if !served || !named {
            return Err(ApiError::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
        Ok(Arc::clone(resource))
    }

    pub(crate) fn call<'a>(
        &'a self,
        user: &'a UserInfo,
        resource: &'a Resource,
        request: &'a ResourceRequest,
        deadline: Instant,
    ) -> Call<'a> {
        Call {
            resource,
            user,
            namespace: request.namespace.as_deref().unwrap_or_default(),
            name: request.name.as_deref().unwrap_or_default(),
            subresource: request.subresource.as_deref(),
            write: &request.write,
            now: Timestamp::now(),
            deadline,
            admission: &*self.admission,
            warnings: parking_lot::Mutex::default(),
        }
    }
}

fn too_many() -> ApiError {
    ApiError::new(Reason::TooManyRequests, "Too many requests, please try again later.").with_retry_after(1)
}
